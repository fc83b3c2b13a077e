//! Where a network name is shown: areas of networks, and the record of EF.PNN with the name.

use super::form::{Extent, Form, Wrong, is_digits};
use super::plmn;
use super::records;

/// `opt-usim/ef-opl`: records of 8 octets: network code, first and last location or tracking area code of 2, record of EF.PNN.
pub(super) struct Opl;
/// `df-5gs/ef-opl5g`, `opt-iot/ef-opl5g`: records of 10 octets: as EF.OPL with tracking area codes of 3 octets.
pub(super) struct Opl5g;

impl Form for Opl {
    const NAME: &'static str = "opl";
    const FORM: &'static str =
        "network, areas and record of EF.PNN, such as 26201:0000-FFFE:1 or, for all areas, 262xx:1";
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.59";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        records::write(value, ',', extent, |item, _| write_area(item.trim(), 2))
    }

    fn read(octets: &[u8], record_len: Option<usize>) -> Option<String> {
        records::read(octets, record_len, ',', |record| read_area(record, 2))
    }
}

impl Form for Opl5g {
    const NAME: &'static str = "opl5g";
    const FORM: &'static str =
        "network, areas and record of EF.PNN, such as 26201:000000-FFFFFE:1 or, for all areas, 262xx:1";
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.4.11.9";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        records::write(value, ',', extent, |item, _| write_area(item.trim(), 3))
    }

    fn read(octets: &[u8], record_len: Option<usize>) -> Option<String> {
        records::read(octets, record_len, ',', |record| read_area(record, 3))
    }
}

/// `code_len`: octets of an area code.
fn write_area(item: &str, code_len: usize) -> Result<Vec<u8>, Wrong> {
    let wrong = || Wrong::from(format!("{item:?} is no area of a network"));
    let all = last_code(code_len);
    let (network, range, name) = match item.split(':').collect::<Vec<_>>()[..] {
        [network, name] => (network, (0, all), name),
        [network, range, name] => {
            let (first, last) = range.split_once('-').ok_or_else(wrong)?;
            let code = |text: &str| {
                let sound = text.len() == 2 * code_len && text.bytes().all(|b| b.is_ascii_hexdigit());
                sound
                    .then(|| u32::from_str_radix(text, 16).ok())
                    .flatten()
                    .filter(|code| *code <= all)
                    .ok_or_else(wrong)
            };
            (network, (code(first)?, code(last)?), name)
        }
        _ => return Err(wrong()),
    };
    if range.0 > range.1 {
        return Err(format!("{item:?} ends before it begins").into());
    }
    let name: u8 =
        Some(name).filter(|name| is_digits(name, 1, 3)).and_then(|name| name.parse().ok()).ok_or_else(wrong)?;
    let mut record = plmn::write_wild_plmn(network)?.to_vec();
    record.extend_from_slice(&range.0.to_be_bytes()[4 - code_len..]);
    record.extend_from_slice(&range.1.to_be_bytes()[4 - code_len..]);
    record.push(name);
    Ok(record)
}

fn read_area(record: &[u8], code_len: usize) -> Option<String> {
    let (network, rest) = record.split_first_chunk::<3>()?;
    let code =
        |at: usize| Some(rest.get(at..at + code_len)?.iter().fold(0_u32, |code, octet| code << 8 | u32::from(*octet)));
    let (first, last, name) = (code(0)?, code(code_len)?, rest.get(2 * code_len)?);
    let all = last_code(code_len);
    if first > last || last > all {
        return None;
    }
    let network = plmn::read_wild_plmn(*network)?;
    let width = 2 * code_len;
    Some(match (first, last) {
        (0, last) if last == all => format!("{network}:{name}"),
        _ => format!("{network}:{first:0width$X}-{last:0width$X}:{name}"),
    })
}

/// `FF..FE`: the one behind it is not an area.
fn last_code(code_len: usize) -> u32 {
    (1 << (8 * code_len)) - 2
}

#[cfg(test)]
mod tests {
    use super::super::form::Coding;
    use super::*;

    #[test]
    fn areas_are_coded_as_in_ts_31_102() {
        let extent = Extent { len: 24, record_len: Some(8), given: &[] };
        let octets = Opl.encode("26201:0001-00FF:2,262xx:1", extent).unwrap();
        assert_eq!(octets[..8], [0x62, 0xF2, 0x10, 0x00, 0x01, 0x00, 0xFF, 2]);
        assert_eq!(octets[8..16], [0x62, 0xF2, 0xDD, 0x00, 0x00, 0xFF, 0xFE, 1]);
        assert_eq!(octets[16..], [0xFF; 8]);
        assert_eq!(Opl.decode(&octets, Some(8)).unwrap(), "26201:0001-00FF:2,262xx:1");
        let extent = Extent { len: 10, record_len: Some(10), given: &[] };
        let octets = Opl5g.encode("26201:1", extent).unwrap();
        assert_eq!(octets, [0x62, 0xF2, 0x10, 0, 0, 0, 0xFF, 0xFF, 0xFE, 1]);
        for wrong in ["26201", "26201:0-1:1", "26201:0002-0001:1", "26201:000000-FFFFFF:1", "26201:256", "2620:1"] {
            assert!(Opl5g.encode(wrong, extent).is_err(), "{wrong}");
        }
    }
}
