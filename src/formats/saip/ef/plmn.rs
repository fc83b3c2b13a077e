//! Network codes: MCC and MNC in three octets (3GPP TS 24.008 §10.5.1.13), and lists of them.

use super::form::{Extent, Form, Wrong, is_digits, padded};
use crate::formats::tlv::{self, Reader, Tag};

/// `usim/ef-fplmn`, `iot/ef-fplmn`: n x 3 octets, the forbidden networks.
pub(super) struct Fplmn;
/// `opt-usim/ef-ehplmn`, `opt-iot/ef-ehplmn`: n x 3 octets, the networks equivalent to the home network.
pub(super) struct Ehplmn;

impl Form for Fplmn {
    const NAME: &'static str = "fplmn";
    const FORM: &'static str = LIST_FORM;
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.16";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        Ok(padded(write_list(value)?, extent.len))
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        read_list(octets)
    }
}

impl Form for Ehplmn {
    const NAME: &'static str = "ehplmn";
    const FORM: &'static str = LIST_FORM;
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.84";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        Ok(padded(write_list(value)?, extent.len))
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        read_list(octets)
    }
}

/// `opt-usim/ef-spdi`: TLV `A3` { TLV `80` n x 3 octets }: networks in which the provider's name is shown as if at home.
pub(super) struct Spdi;

impl Form for Spdi {
    const NAME: &'static str = "spdi";
    const FORM: &'static str = LIST_FORM;
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.66";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        let list = tlv::wrap(Tag(0x80), &[&write_list(value)?]);
        Ok(padded(tlv::wrap(Tag(0xA3), &[&list]), extent.len))
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        let information = Reader::new(octets).expect(Tag(0xA3)).ok()?;
        read_list(information.children().expect(Tag(0x80)).ok()?.value)
    }
}

/// `usim/ef-ad`, `iot/ef-ad`: octet 4 of 4, the digits of the MNC in the IMSI. The octets before it stay the template's.
pub(super) struct MncLen;

impl Form for MncLen {
    const NAME: &'static str = "mnc_len";
    const FORM: &'static str = "2 or 3";
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.18";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        let digits = match value {
            "2" => 2,
            "3" => 3,
            _ => return Err(format!("{value:?} is no length of an MNC").into()),
        };
        let given = |at: usize| extent.given.get(at).copied().flatten().unwrap_or(0);
        Ok(vec![given(0), given(1), given(2), digits])
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        // The high nibble is reserved.
        let digits = octets.get(3)? & 0x0F;
        matches!(digits, 2 | 3).then(|| digits.to_string())
    }
}

const LIST_FORM: &str = "network codes of 5 or 6 digits, such as 26201,310410";

/// MCC and MNC, 5 or 6 digits: `21 M3 NN`, the third digit of the MNC in the high nibble of octet 2 or `F`.
pub(super) fn write_plmn(text: &str) -> Result<[u8; 3], Wrong> {
    if !is_digits(text, 5, 6) {
        return Err(format!("{text:?} is no network code").into());
    }
    Ok(join(text.bytes().map(|digit| digit - b'0')))
}

/// The reverse of [`write_plmn`].
pub(in crate::formats::saip) fn read_plmn(octets: [u8; 3]) -> Option<String> {
    split(octets).map(|nibble| char::from_digit(u32::from(nibble), 10)).collect()
}

/// As [`write_plmn`], with `x` for any digit (nibble `D`, 3GPP TS 31.102 §4.2.59).
pub(super) fn write_wild_plmn(text: &str) -> Result<[u8; 3], Wrong> {
    if !matches!(text.len(), 5 | 6) || !text.bytes().all(|b| b.is_ascii_digit() || b == b'x') {
        return Err(format!("{text:?} is no network code").into());
    }
    Ok(join(text.bytes().map(|digit| if digit == b'x' { WILD } else { digit - b'0' })))
}

/// The reverse of [`write_wild_plmn`].
pub(super) fn read_wild_plmn(octets: [u8; 3]) -> Option<String> {
    let digit = |nibble| if nibble == WILD { Some('x') } else { char::from_digit(u32::from(nibble), 10) };
    split(octets).map(digit).collect()
}

const WILD: u8 = 0xD;

fn join(digits: impl Iterator<Item = u8>) -> [u8; 3] {
    let mut nibbles = [0xF; 6];
    digits.zip(&mut nibbles).for_each(|(digit, nibble)| *nibble = digit);
    let [mcc1, mcc2, mcc3, mnc1, mnc2, mnc3] = nibbles;
    [mcc2 << 4 | mcc1, mnc3 << 4 | mcc3, mnc2 << 4 | mnc1]
}

/// Five nibbles, or six.
fn split([a, b, c]: [u8; 3]) -> impl Iterator<Item = u8> {
    let third = (b >> 4 != 0xF).then_some(b >> 4);
    [a & 15, a >> 4, b & 15, c & 15, c >> 4].into_iter().chain(third)
}

/// Three octets for each code.
pub(super) fn write_list(value: &str) -> Result<Vec<u8>, Wrong> {
    let codes: Vec<[u8; 3]> = value.split(',').map(|code| write_plmn(code.trim())).collect::<Result<_, _>>()?;
    Ok(codes.concat())
}

/// The codes of a list without its free places; a broken code is told by `None`.
pub(super) fn read_list(octets: &[u8]) -> Option<String> {
    let (codes, _) = octets.as_chunks::<3>();
    let used = codes.iter().filter(|code| **code != [0xFF; 3]);
    let codes = used.map(|code| read_plmn(*code)).collect::<Option<Vec<_>>>()?;
    (!codes.is_empty()).then(|| codes.join(","))
}

#[cfg(test)]
mod tests {
    use super::super::form::Coding;
    use super::*;

    fn extent(len: usize) -> Extent<'static> {
        Extent { len, record_len: None, given: &[] }
    }

    #[test]
    fn codes_of_two_and_three_digit_networks_read_as_ts_24_008_has_them() {
        assert_eq!(write_plmn("26201").unwrap(), [0x62, 0xF2, 0x10]);
        assert_eq!(write_plmn("310410").unwrap(), [0x13, 0x00, 0x14]);
        assert_eq!(write_plmn("00101").unwrap(), [0x00, 0xF1, 0x10]);
        assert_eq!(read_plmn([0x13, 0x00, 0x14]).unwrap(), "310410");
        assert_eq!(read_plmn([0xFF; 3]), None);
        assert_eq!(write_wild_plmn("262xx").unwrap(), [0x62, 0xF2, 0xDD]);
        assert_eq!(read_wild_plmn([0x62, 0xF2, 0xDD]).unwrap(), "262xx");
    }

    #[test]
    fn a_list_leaves_nothing_of_an_older_one() {
        let octets = Fplmn.encode("26202, 26203", extent(12)).unwrap();
        assert_eq!(octets, [0x62, 0xF2, 0x20, 0x62, 0xF2, 0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
        assert_eq!(Fplmn.decode(&[0xFF; 12], None), None);
        assert!(Ehplmn.encode("26201,26202", extent(5)).unwrap_err().what.contains("takes 6 octets"));
        assert_eq!(Ehplmn.decode(&[0xFF, 0xFF, 0xFF, 0x62, 0xF2, 0x10], None).unwrap(), "26201");
    }

    #[test]
    fn display_information_is_a_list_in_two_tlvs() {
        let octets = Spdi.encode("26201", extent(8)).unwrap();
        assert_eq!(octets, [0xA3, 5, 0x80, 3, 0x62, 0xF2, 0x10, 0xFF]);
        assert_eq!(Spdi.decode(&octets, None).unwrap(), "26201");
    }

    #[test]
    fn the_length_of_the_mnc_leaves_the_operation_mode() {
        let given = [Some(0x80), Some(0), None, Some(2)];
        let extent = Extent { len: 4, record_len: None, given: &given };
        assert_eq!(MncLen.encode("3", extent).unwrap(), [0x80, 0, 0, 3]);
        assert_eq!(MncLen.decode(&[0, 0, 0, 0xF2], None).unwrap(), "2");
        assert_eq!(MncLen.decode(&[0, 0, 0, 4], None), None);
        assert!(MncLen.encode("4", extent).is_err());
    }
}
