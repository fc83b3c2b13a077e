//! Names and addresses of the IP multimedia subsystem: a TLV `80` with text, or with an address and its type.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::form::{Extent, Form, Wrong, no, padded};
use super::records;
use crate::formats::tlv::{self, Reader, Tag};

/// `isim/ef-impi`: TLV `80`, a network access identifier (3GPP TS 23.003 §13.3).
pub(super) struct Impi;
/// `isim/ef-impu`: records of a TLV `80`, a SIP or tel URI each (3GPP TS 23.003 §13.4).
pub(super) struct Impu;
/// `isim/ef-domain`: TLV `80`, the home network's domain name (3GPP TS 23.003 §13.2).
pub(super) struct ImsDomain;
/// `opt-isim/ef-pcscf`: records of a TLV `80`, type and address each.
pub(super) struct Pcscf;
/// `opt-usim/ef-epdgid`: TLV `80`, type and address.
pub(super) struct EpdgId;

impl Form for Impi {
    const NAME: &'static str = "impi";
    const FORM: &'static str = "user@realm";
    const CLAUSE: &'static str = "3GPP TS 31.103 §4.2.2";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        check(is_nai(value), value)?;
        Ok(padded(tlv::wrap(TEXT, &[value.as_bytes()]), extent.len))
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        read_text(octets).filter(|text| is_nai(text))
    }
}

impl Form for Impu {
    const NAME: &'static str = "impu";
    const FORM: &'static str = "sip:, sips: or tel: URIs, with commas one for each record";
    const CLAUSE: &'static str = "3GPP TS 31.103 §4.2.4";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        records::write(value, ',', extent, |item, _| {
            let uri = item.trim();
            check(is_uri(uri), uri)?;
            Ok(tlv::wrap(TEXT, &[uri.as_bytes()]))
        })
    }

    fn read(octets: &[u8], record_len: Option<usize>) -> Option<String> {
        records::read(octets, record_len, ',', |record| read_text(record).filter(|text| is_uri(text)))
    }
}

impl Form for ImsDomain {
    const NAME: &'static str = "ims_domain";
    const FORM: &'static str = "a domain name";
    const CLAUSE: &'static str = "3GPP TS 31.103 §4.2.3";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        check(is_name(value), value)?;
        Ok(padded(tlv::wrap(TEXT, &[value.as_bytes()]), extent.len))
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        read_text(octets).filter(|text| is_name(text))
    }
}

impl Form for Pcscf {
    const NAME: &'static str = "pcscf";
    const FORM: &'static str = "domain names, IPv4 or IPv6 addresses, with commas one for each record";
    const CLAUSE: &'static str = "3GPP TS 31.103 §4.2.8";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        records::write(value, ',', extent, |item, _| write_address(item.trim()))
    }

    fn read(octets: &[u8], record_len: Option<usize>) -> Option<String> {
        records::read(octets, record_len, ',', read_address)
    }
}

impl Form for EpdgId {
    const NAME: &'static str = "epdg_id";
    const FORM: &'static str = "a domain name, an IPv4 or an IPv6 address";
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.103";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        Ok(padded(write_address(value)?, extent.len))
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        read_address(octets)
    }
}

const TEXT: Tag = Tag(0x80);

/// User and realm, one `@` between them.
pub(super) fn is_nai(text: &str) -> bool {
    text.split_once('@').is_some_and(|(user, realm)| is_word(user) && is_name(realm))
}

/// A host name: no sign that makes it something else.
fn is_name(text: &str) -> bool {
    is_word(text) && !text.contains(['@', ':', '/', ';'])
}

fn is_uri(text: &str) -> bool {
    let rest = ["sip:", "sips:", "tel:"].iter().find_map(|scheme| text.strip_prefix(scheme));
    rest.is_some_and(is_word)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != ',')
}

fn check(sound: bool, value: &str) -> Result<(), Wrong> {
    if sound { Ok(()) } else { Err(no("name of this kind", value)) }
}

fn read_text(octets: &[u8]) -> Option<String> {
    let text = Reader::new(octets).expect(TEXT).ok()?;
    String::from_utf8(text.value.to_vec()).ok()
}

const NAME: u8 = 0;
const IPV4: u8 = 1;
const IPV6: u8 = 2;

fn write_address(value: &str) -> Result<Vec<u8>, Wrong> {
    let (kind, address) = match value.parse() {
        Ok(IpAddr::V4(address)) => (IPV4, address.octets().to_vec()),
        Ok(IpAddr::V6(address)) => (IPV6, address.octets().to_vec()),
        Err(_) => {
            check(is_name(value), value)?;
            (NAME, value.into())
        }
    };
    Ok(tlv::wrap(TEXT, &[&[kind], &address]))
}

fn read_address(octets: &[u8]) -> Option<String> {
    let (kind, address) = Reader::new(octets).expect(TEXT).ok()?.value.split_first()?;
    match *kind {
        NAME => String::from_utf8(address.to_vec()).ok().filter(|name| is_name(name)),
        IPV4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?).to_string()),
        IPV6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::form::Coding;
    use super::*;

    fn extent(len: usize, record_len: Option<usize>) -> Extent<'static> {
        Extent { len, record_len, given: &[] }
    }

    #[test]
    fn identities_are_text_in_a_tlv() {
        let octets = Impi.encode("1@test.3gpp.com", extent(20, None)).unwrap();
        assert_eq!(&octets[..17], b"\x80\x0F1@test.3gpp.com");
        assert_eq!(octets[17..], [0xFF; 3]);
        assert_eq!(Impi.decode(&octets, None).unwrap(), "1@test.3gpp.com");
        assert!(Impi.encode("test.3gpp.com", extent(20, None)).is_err());
        assert!(ImsDomain.encode("a@b", extent(20, None)).is_err());
        let octets = Impu.encode("sip:1@a.b,tel:+1", extent(24, Some(12))).unwrap();
        assert_eq!(octets[..12], *b"\x80\x09sip:1@a.b\xFF");
        assert_eq!(octets[12..20], *b"\x80\x06tel:+1");
        assert_eq!(Impu.decode(&octets, Some(12)).unwrap(), "sip:1@a.b,tel:+1");
    }

    #[test]
    fn text_of_128_octets_has_a_length_of_two() {
        let name = "a".repeat(128);
        let octets = ImsDomain.encode(&name, extent(131, None)).unwrap();
        assert_eq!(octets[..4], [0x80, 0x81, 0x80, b'a']);
        assert_eq!(ImsDomain.decode(&octets, None).unwrap(), name);
    }

    #[test]
    fn addresses_carry_their_type() {
        let coded = |value: &str| EpdgId.encode(value, extent(24, None)).unwrap();
        assert_eq!(coded("192.168.160.1")[..8], [0x80, 5, 1, 0xC0, 0xA8, 0xA0, 0x01, 0xFF]);
        assert_eq!(coded("2001:db8::23")[..7], [0x80, 17, 2, 0x20, 0x01, 0x0D, 0xB8]);
        assert_eq!(&coded("epdg.example.org")[..19], b"\x80\x11\x00epdg.example.org");
        for address in ["192.168.160.1", "2001:db8::23", "epdg.example.org"] {
            assert_eq!(EpdgId.decode(&coded(address), None).unwrap(), address);
        }
        assert_eq!(Pcscf.decode(&[0x80, 4, 1, 1, 2, 3], Some(6)), None);
    }
}
