//! Emergency call codes.

use super::alphabet;
use super::form::{Extent, Form, Wrong, does_not_fit, is_digits};
use super::records;
use crate::formats::bcd;

/// `usim/ef-ecc`, `iot/ef-ecc`: records of X + 4 octets: code 3, alpha identifier X, service category 1.
pub(super) struct Ecc;

impl Form for Ecc {
    const NAME: &'static str = "ecc";
    const FORM: &'static str = "emergency numbers with categories and a name as needed, such as 112,110:police=Polizei";
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.21";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        records::write(value, ',', extent, |item, record_len| {
            let alpha_len = record_len.checked_sub(4).ok_or_else(|| does_not_fit(4, record_len))?;
            let (call, name) = item.split_once('=').map_or((item, None), |(call, name)| (call, Some(name)));
            let (number, categories) = call.split_once(':').unwrap_or((call, ""));
            let number = number.trim();
            if !is_digits(number, 1, 6) {
                return Err(format!("{number:?} is no emergency number of 1 to 6 digits").into());
            }
            let mut record = vec![0xFF; record_len];
            record[..3].copy_from_slice(&bcd::swapped::<3>(number));
            if let Some(name) = name {
                let name = alphabet::write_alpha(name, alpha_len)?;
                record[3..3 + name.len()].copy_from_slice(&name);
            }
            record[record_len - 1] = write_categories(categories)?;
            Ok(record)
        })
    }

    fn read(octets: &[u8], record_len: Option<usize>) -> Option<String> {
        records::read(octets, record_len, ',', |record| {
            let (code, rest) = record.split_first_chunk::<3>()?;
            let (category, alpha) = rest.split_last()?;
            let mut item = bcd::read_swapped(code)?;
            if item.is_empty() {
                return Some(item);
            }
            if *category & 0x80 != 0 {
                return None;
            }
            let set = CATEGORIES.iter().enumerate().filter(|(bit, _)| category >> bit & 1 == 1);
            let categories: Vec<&str> = set.map(|(_, name)| *name).collect();
            if !categories.is_empty() {
                item = format!("{item}:{}", categories.join("+"));
            }
            if alpha.iter().any(|octet| *octet != 0xFF) {
                let name = alphabet::read_alpha(alpha).filter(|name| !name.contains(','))?;
                item = format!("{item}={name}");
            }
            Some(item)
        })
    }
}

/// Bits 1 to 7 of the service category (3GPP TS 24.008 §10.5.4.33).
const CATEGORIES: [&str; 7] =
    ["police", "ambulance", "fire-brigade", "marine-guard", "mountain-rescue", "manual-ecall", "automatic-ecall"];

fn write_categories(text: &str) -> Result<u8, Wrong> {
    let names = text.split('+').map(str::trim).filter(|name| !name.is_empty());
    names.into_iter().try_fold(0, |bits, name| {
        let bit = CATEGORIES.iter().position(|category| *category == name);
        let bit = bit.ok_or_else(|| format!("{name:?} is no category; there are {}", CATEGORIES.join(", ")))?;
        Ok(bits | 1 << bit)
    })
}

#[cfg(test)]
mod tests {
    use super::super::form::Coding;
    use super::*;

    #[test]
    fn a_record_holds_number_name_and_category() {
        let extent = Extent { len: 28, record_len: Some(14), given: &[] };
        let octets = Ecc.encode("112, 911:police+fire-brigade=Help", extent).unwrap();
        assert_eq!(octets[..4], [0x11, 0xF2, 0xFF, 0xFF]);
        assert_eq!(octets[13], 0);
        assert_eq!(octets[14..22], [0x19, 0xF1, 0xFF, b'H', b'e', b'l', b'p', 0xFF]);
        assert_eq!(octets[27], 0x05);
        assert_eq!(Ecc.decode(&octets, Some(14)).unwrap(), "112,911:police+fire-brigade=Help");
        assert!(Ecc.encode("1234567", extent).is_err());
        assert!(Ecc.encode("112:taxi", extent).unwrap_err().what.contains("police"));
    }
}
