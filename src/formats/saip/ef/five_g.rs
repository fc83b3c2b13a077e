//! Small files of DF.5GS.

use super::form::{Extent, Form, Wrong, is_digits, no, padded};
use super::identity;
use super::ims::is_nai;
use crate::formats::bcd;
use crate::formats::tlv::{self, Reader, Tag};

/// `df-5gs/ef-routing-indicator`, `opt-iot/ef-routing-indicator`: 4 octets, 1 to 4 digits swapped and two octets reserved.
pub(super) struct RoutingIndicator;
/// `df-5gs/ef-uac-aic`, `opt-iot/ef-uac-aic`: 4 octets, bit 1 multimedia priority, bit 2 mission critical services.
pub(super) struct UacAic;
/// `df-5gs/ef-supinai`, `opt-iot/ef-supi-nai`: TLV `80` network specific, `81` global line or `82` global cable identifier.
pub(super) struct SupiNai;
/// `df-5gs/ef-ursp`, `opt-iot/ef-ursp`: the route selection policy rules of 3GPP TS 24.526 as they are.
pub(super) struct Ursp;

impl Form for RoutingIndicator {
    const NAME: &'static str = "routing_indicator";
    const FORM: &'static str = "1 to 4 digits";
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.4.11.11";

    fn write(value: &str, _: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        if !is_digits(value, 1, 4) {
            return Err(format!("{value:?} is no routing indicator").into());
        }
        let [first, second] = bcd::swapped::<2>(value);
        Ok(vec![first, second, 0, 0])
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        let digits = octets.first_chunk::<4>()?;
        bcd::read_swapped(&digits[..2]).filter(|digits| !digits.is_empty())
    }
}

impl Form for UacAic {
    const NAME: &'static str = "uac_aic";
    const FORM: &'static str = "mps, mcs, mps+mcs or none";
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.4.11.7";

    fn write(value: &str, _: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        let bits = ACCESS_IDENTITIES.iter().position(|name| *name == value);
        let bits = bits.ok_or_else(|| format!("{value:?} is no list of access identities"))?;
        Ok(vec![bits as u8, 0, 0, 0])
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        let [bits, ..] = octets.first_chunk::<4>()?;
        ACCESS_IDENTITIES.get(usize::from(*bits)).map(|name| (*name).to_owned())
    }
}

/// By the value of bits 1 and 2.
const ACCESS_IDENTITIES: [&str; 4] = ["none", "mps", "mcs", "mps+mcs"];

impl Form for SupiNai {
    const NAME: &'static str = "supi_nai";
    const FORM: &'static str = "user@realm; gli:user@realm or gci:user@realm for a global line or cable identifier";
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.4.11.10";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        let (tag, nai) = IDENTIFIERS
            .iter()
            .find_map(|(tag, prefix)| Some((*tag, value.strip_prefix(prefix)?)))
            .ok_or_else(|| no("identifier", value))?;
        if !is_nai(nai) {
            return Err(no("identifier", value));
        }
        Ok(padded(tlv::wrap(tag, &[nai.as_bytes()]), extent.len))
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        let nai = Reader::new(octets).next_tlv().ok()??;
        let (_, prefix) = IDENTIFIERS.iter().find(|(tag, _)| *tag == nai.tag)?;
        let text = std::str::from_utf8(nai.value).ok().filter(|text| is_nai(text))?;
        Some(format!("{prefix}{text}"))
    }
}

/// The one without a prefix comes last.
const IDENTIFIERS: [(Tag, &str); 3] = [(Tag(0x81), "gli:"), (Tag(0x82), "gci:"), (Tag(0x80), "")];

impl Form for Ursp {
    const NAME: &'static str = "ursp";
    const FORM: &'static str = identity::HEX_FORM;
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.4.11.12";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        identity::write_hex(value, extent)
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        identity::read_hex(octets)
    }
}

#[cfg(test)]
mod tests {
    use super::super::form::Coding;
    use super::*;

    fn extent(len: usize) -> Extent<'static> {
        Extent { len, record_len: None, given: &[] }
    }

    #[test]
    fn a_routing_indicator_is_filled_with_f() {
        assert_eq!(RoutingIndicator.encode("17", extent(4)).unwrap(), [0x71, 0xFF, 0, 0]);
        assert_eq!(RoutingIndicator.encode("1234", extent(4)).unwrap(), [0x21, 0x43, 0, 0]);
        assert_eq!(RoutingIndicator.decode(&[0xF0, 0xFF, 0, 0], None).unwrap(), "0");
        assert_eq!(RoutingIndicator.decode(&[0xFF; 4], None), None);
        assert!(RoutingIndicator.encode("12345", extent(4)).is_err());
    }

    #[test]
    fn access_identities_are_the_two_low_bits() {
        assert_eq!(UacAic.encode("mps+mcs", extent(4)).unwrap(), [3, 0, 0, 0]);
        assert_eq!(UacAic.decode(&[1, 0, 0, 0], None).unwrap(), "mps");
        assert_eq!(UacAic.decode(&[0xFF; 4], None), None);
    }

    #[test]
    fn an_identifier_carries_its_kind_in_the_tag() {
        assert_eq!(SupiNai.encode("u@r.x", extent(8)).unwrap(), *b"\x80\x05u@r.x\xFF");
        assert_eq!(SupiNai.encode("gci:u@r", extent(5)).unwrap(), *b"\x82\x03u@r");
        assert_eq!(SupiNai.decode(b"\x81\x03u@r", None).unwrap(), "gli:u@r");
        assert!(SupiNai.encode("nobody", extent(20)).is_err());
    }
}
