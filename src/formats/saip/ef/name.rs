//! Names of the operator and of networks that a terminal shows.

use super::alphabet;
use super::form::{Extent, Form, Wrong, padded};
use super::records;
use crate::formats::tlv::{self, Reader, Tag};

/// `usim/ef-spn`, `opt-iot/ef-spn`: 17 octets, display condition and 16 octets of text. The condition stays the template's.
pub(super) struct Spn;

impl Form for Spn {
    const NAME: &'static str = "spn";
    const FORM: &'static str = "up to 16 characters of the GSM alphabet, or up to 7 others";
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.12";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        // Bits 3 to 8 are reserved: an octet with one of them is a fill pattern, not a condition.
        let condition = extent.given.first().copied().flatten().filter(|octet| *octet < 4).unwrap_or(1);
        let mut octets = vec![condition];
        octets.extend(alphabet::write_alpha(value, SPN_TEXT)?);
        Ok(padded(octets, SPN_TEXT + 1))
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        alphabet::read_alpha(octets.get(1..=SPN_TEXT)?)
    }
}

const SPN_TEXT: usize = 16;

/// `opt-usim/ef-pnn`: records of a TLV `43` full name and a TLV `45` short name, each coded as 3GPP TS 24.008 §10.5.3.5a without its
/// first octet. EF.OPL points at the records by number, so an empty name keeps its place.
pub(super) struct Pnn;

impl Form for Pnn {
    const NAME: &'static str = "pnn";
    const FORM: &'static str = "names such as Bindery Mobile|Bindery;Partner: full and short, a record each";
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.58";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        records::write(value, ';', extent, |item, _| {
            let (full, short) = item.split_once('|').map_or((item, None), |(full, short)| (full, Some(short)));
            let mut record = tlv::wrap(FULL_NAME, &[&write_network_name(full)?]);
            if let Some(short) = short {
                tlv::put(&mut record, SHORT_NAME, &write_network_name(short)?);
            }
            Ok(record)
        })
    }

    fn read(octets: &[u8], record_len: Option<usize>) -> Option<String> {
        records::read(octets, record_len, ';', |record| {
            let mut reader = Reader::new(record);
            let full = read_network_name(reader.expect(FULL_NAME).ok()?.value)?;
            match reader.take_if(SHORT_NAME).ok()? {
                Some(short) => Some(format!("{full}|{}", read_network_name(short.value)?)),
                None => Some(full),
            }
        })
    }
}

const FULL_NAME: Tag = Tag(0x43);
const SHORT_NAME: Tag = Tag(0x45);

/// Bit 8 set; bits 7 to 5 the coding; bits 3 to 1 how many bits of the last octet are spare.
const PACKED: u8 = 0x80;
const UCS2: u8 = 0x90;

fn write_network_name(name: &str) -> Result<Vec<u8>, Wrong> {
    alphabet::check_text(name)?;
    if name.contains(['|', ';']) {
        return Err(format!("{name:?} holds a mark that divides names").into());
    }
    if let Some(codes) = alphabet::write_default(name) {
        let packed = alphabet::pack(&codes);
        let spare = packed.len() * 8 - codes.len() * 7;
        return Ok([vec![PACKED | spare as u8], packed].concat());
    }
    let units = alphabet::write_ucs2(name).ok_or_else(|| format!("{name:?} has characters beyond UCS2"))?;
    Ok([vec![UCS2], units].concat())
}

fn read_network_name(octets: &[u8]) -> Option<String> {
    let (coding, rest) = octets.split_first()?;
    let name = match coding & 0xF0 {
        PACKED => {
            let bits = (rest.len() * 8).checked_sub(usize::from(coding & 7))?;
            alphabet::read_default(&alphabet::unpack(rest, bits))?
        }
        UCS2 => alphabet::read_ucs2(rest)?,
        _ => return None,
    };
    (alphabet::check_text(&name).is_ok() && !name.contains(['|', ';'])).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::form::Coding;
    use super::*;

    fn extent(len: usize, record_len: Option<usize>, given: &[Option<u8>]) -> Extent<'_> {
        Extent { len, record_len, given }
    }

    #[test]
    fn a_provider_name_keeps_the_display_condition_and_nothing_else_of_the_template() {
        let given: Vec<Option<u8>> = b"\x02OLD NAME".iter().map(|octet| Some(*octet)).collect();
        let octets = Spn.encode("Über@", extent(17, None, &given)).unwrap();
        assert_eq!(octets[..7], [0x02, 0x5E, 0x62, 0x65, 0x72, 0x00, 0xFF]);
        assert!(octets[6..].iter().all(|octet| *octet == 0xFF) && octets.len() == 17);
        assert_eq!(Spn.decode(&octets, None).unwrap(), "Über@");
    }

    #[test]
    fn a_fill_pattern_is_no_display_condition() {
        assert_eq!(Spn.encode("A", extent(17, None, &[Some(0xFF)])).unwrap()[0], 1);
        assert_eq!(Spn.encode("A", extent(17, None, &[None])).unwrap()[0], 1);
        assert_eq!(Spn.encode("A", extent(17, None, &[Some(0)])).unwrap()[0], 0);
    }

    #[test]
    fn a_provider_name_of_17_characters_is_refused() {
        let error = Spn.encode("ABCDEFGHIJKLMNOPQ", extent(17, None, &[])).unwrap_err();
        assert!(error.what.contains("takes 17 octets, there are 16"), "{error}");
    }

    #[test]
    fn a_network_name_is_packed_with_its_spare_bits() {
        // "hellohello" packs into 9 octets of which 2 bits are spare: coding octet 82. "Hi" into 2 octets, 2 spare: C8 34.
        let octets = Pnn.encode("hellohello|Hi;;Ж", extent(96, Some(32), &[])).unwrap();
        assert_eq!(octets[..12], [0x43, 10, 0x82, 0xE8, 0x32, 0x9B, 0xFD, 0x46, 0x97, 0xD9, 0xEC, 0x37]);
        assert_eq!(octets[12..18], [0x45, 3, 0x82, 0xC8, 0x34, 0xFF]);
        assert_eq!(octets[32..64], [0xFF; 32]);
        assert_eq!(octets[64..70], [0x43, 3, 0x90, 0x04, 0x16, 0xFF]);
        assert_eq!(Pnn.decode(&octets, Some(32)).unwrap(), "hellohello|Hi;;Ж");
    }

    #[test]
    fn seven_spare_bits_are_no_character() {
        // 8 characters fill 7 octets; 7 characters fill 49 bits of 56, and the 7 left over would read as another @.
        let octets = Pnn.encode("sevench", extent(20, Some(20), &[])).unwrap();
        assert_eq!(octets[2], 0x87);
        assert_eq!(Pnn.decode(&octets, Some(20)).unwrap(), "sevench");
    }

    #[test]
    fn more_names_than_records_are_refused() {
        let error = Pnn.encode("a;b;c", extent(40, Some(20), &[])).unwrap_err();
        assert!(error.what.contains("3 values, the file has 2 records"), "{error}");
    }
}
