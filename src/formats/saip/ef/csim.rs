//! Identities of a CDMA subscription. Digits are packed in the three-digit code of 3GPP2 C.S0005 §2.3.1, not in BCD.

use super::form::{Extent, Form, Wrong, is_digits, no};
use crate::formats::bcd;

/// `csim/ef-imsi-m`: 10 octets, the IMSI that is derived from the MIN.
pub(super) struct ImsiM;
/// `csim/ef-imsi-t`: 10 octets, the true IMSI.
pub(super) struct ImsiT;
/// `csim/ef-accolc`: 1 octet, the access overload class.
pub(super) struct Accolc;
/// `csim/ef-ruimid`: 8 octets, how many octets the identifier has and the identifier, lowest octet first.
pub(super) struct Ruimid;
/// `csim/ef-spc`: 3 octets, the service programming code; who has it changes the subscription over the air.
pub(super) struct Spc;
/// `opt-csim/ef-mdn`: 11 octets, the mobile directory number: digits, their code (`A` is 0), type and plan, indicators.
pub(super) struct Mdn;

impl Form for ImsiM {
    const NAME: &'static str = "imsi_m";
    const FORM: &'static str = "15 digits";
    const CLAUSE: &'static str = "3GPP2 C.S0065 §5.2.2";

    fn write(value: &str, _: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        write_imsi(value)
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        read_imsi(octets)
    }
}

impl Form for ImsiT {
    const NAME: &'static str = "imsi_t";
    const FORM: &'static str = "15 digits";
    const CLAUSE: &'static str = "3GPP2 C.S0065 §5.2.3";

    fn write(value: &str, _: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        write_imsi(value)
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        read_imsi(octets)
    }
}

impl Form for Accolc {
    const NAME: &'static str = "accolc";
    const FORM: &'static str = "0 to 15";
    const CLAUSE: &'static str = "3GPP2 C.S0065 §5.2.12";

    fn write(value: &str, _: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        let class = Some(value).filter(|value| is_digits(value, 1, 2)).and_then(|value| value.parse().ok());
        let class = class.filter(|class: &u8| *class < 16);
        Ok(vec![class.ok_or_else(|| format!("{value:?} is no access overload class"))?])
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        octets.first().filter(|class| **class < 16).map(u8::to_string)
    }
}

impl Form for Ruimid {
    const NAME: &'static str = "ruimid";
    const FORM: &'static str = "8 or 14 hex digits, the highest first";
    const CLAUSE: &'static str = "3GPP2 C.S0065 §5.2.17";

    fn write(value: &str, _: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        let id =
            data_encoding::HEXUPPER_PERMISSIVE.decode(value.as_bytes()).ok().filter(|id| matches!(id.len(), 4 | 7));
        let id = id.ok_or_else(|| no("identifier of 4 or 7 octets", value))?;
        let mut octets = vec![0xFF; 8];
        octets[0] = id.len() as u8;
        octets[1..].iter_mut().zip(id.iter().rev()).for_each(|(slot, octet)| *slot = *octet);
        Ok(octets)
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        let (len, id) = octets.first_chunk::<8>()?.split_first()?;
        let id = id.get(..usize::from(*len)).filter(|id| matches!(id.len(), 4 | 7))?;
        let id: Vec<u8> = id.iter().rev().copied().collect();
        Some(data_encoding::HEXUPPER.encode(&id))
    }
}

impl Form for Spc {
    const NAME: &'static str = "spc";
    const FORM: &'static str = "6 digits";
    const CLAUSE: &'static str = "3GPP2 C.S0065 §5.2.19";
    const SECRET: bool = true;

    fn write(value: &str, _: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        if !is_digits(value, 6, 6) {
            return Err("the value is not 6 digits".into());
        }
        Ok(bcd::swapped::<3>(value).to_vec())
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        bcd::read_swapped(octets.first_chunk::<3>()?).filter(|code| is_digits(code, 6, 6))
    }
}

impl Form for Mdn {
    const NAME: &'static str = "mdn";
    const FORM: &'static str = "up to 15 digits, with a plus when international";
    const CLAUSE: &'static str = "3GPP2 C.S0065 §5.2, EFMDN";

    fn write(value: &str, _: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        let (kind, digits) = value.strip_prefix('+').map_or((NATIONAL, value), |digits| (INTERNATIONAL, digits));
        if !is_digits(digits, 1, 15) {
            return Err(no("directory number", value));
        }
        let mut octets = vec![0xFF; 11];
        octets[0] = digits.len() as u8;
        // Zero is ten, so a nibble 0 never stands for a digit.
        let codes = bcd::swapped::<8>(digits).map(|octet| zero_to_ten(octet & 15) | zero_to_ten(octet >> 4) << 4);
        octets[1..9].copy_from_slice(&codes);
        octets[9] = kind;
        octets[10] = 0;
        Ok(octets)
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        let file = octets.first_chunk::<11>()?;
        let nibbles = file[1..9].iter().flat_map(|octet| [octet & 15, octet >> 4]);
        let digit = |code| match code {
            10 => Some('0'),
            1..=9 => char::from_digit(u32::from(code), 10),
            _ => None,
        };
        let digits: String = nibbles.take(usize::from(file[0])).map(digit).collect::<Option<_>>()?;
        let sound = is_digits(&digits, 1, 15) && digits.len() == usize::from(file[0]);
        sound.then(|| if file[9] == INTERNATIONAL { format!("+{digits}") } else { digits })
    }
}

/// Bits 1 to 3 the type of number (1 international, 2 national), bits 4 to 7 the plan (1 telephony).
const INTERNATIONAL: u8 = 0x09;
const NATIONAL: u8 = 0x0A;

fn zero_to_ten(nibble: u8) -> u8 {
    if nibble == 0 { 10 } else { nibble }
}

/// Class (0: 15 digits), IMSI_S2 (digits 1 to 3 of the last ten), IMSI_S1 (4 to 10), IMSI_11_12 (the two before them), programmed
/// and address length, MCC; numbers of several octets lowest first.
fn write_imsi(value: &str) -> Result<Vec<u8>, Wrong> {
    if !is_digits(value, 15, 15) {
        return Err(no("IMSI of 15 digits", value));
    }
    let digits: Vec<u32> = value.bytes().map(|digit| u32::from(zero_to_ten(digit - b'0'))).collect();
    let three = |at: usize| 100 * digits[at] + 10 * digits[at + 1] + digits[at + 2] - 111;
    let [mcc, s2] = [three(0), three(5)].map(u32::to_le_bytes);
    let s1 = (three(8) << 14 | digits[11] << 10 | three(12)).to_le_bytes();
    let two = 10 * digits[3] + digits[4] - 11;
    Ok(vec![0, s2[0], s2[1], s1[0], s1[1], s1[2], two as u8, PROGRAMMED, mcc[0], mcc[1]])
}

fn read_imsi(octets: &[u8]) -> Option<String> {
    let [class, s2a, s2b, s1a, s1b, s1c, two, programmed, mcca, mccb] = *octets.first_chunk::<10>()?;
    if class != 0 || programmed != PROGRAMMED {
        return None;
    }
    let three = |code: u32| {
        let code = (code < 1000).then_some(code + 111)?;
        let (last, rest) = digit(code);
        let (middle, first) = digit(rest);
        Some(format!("{}{}{}", first % 10, middle % 10, last % 10))
    };
    let s1 = u32::from_le_bytes([s1a, s1b, s1c, 0]);
    let thousands = s1 >> 10 & 15;
    let (last, first) = digit(u32::from(two) + 11);
    if !(1..=10).contains(&thousands) || two > 99 {
        return None;
    }
    let mcc = three(u32::from_le_bytes([mcca, mccb, 0, 0]))?;
    let s2 = three(u32::from_le_bytes([s2a, s2b, 0, 0]))?;
    let s1 = format!("{}{}{}", three(s1 >> 14)?, thousands % 10, three(s1 & 0x3FF)?);
    Some(format!("{mcc}{}{}{s2}{s1}", first % 10, last % 10))
}

/// The last digit of a code, 1 to 10, and the code of the digits before it.
fn digit(code: u32) -> (u32, u32) {
    let last = (code + 9) % 10 + 1;
    (last, (code - last) / 10)
}

const PROGRAMMED: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::super::form::Coding;
    use super::*;
    use proptest::prelude::*;

    fn extent(len: usize) -> Extent<'static> {
        Extent { len, record_len: None, given: &[] }
    }

    #[test]
    fn an_imsi_is_packed_as_c_s0005_says() {
        // 310 01 619 5551234 with zeros as tens. MCC 310: 300 + 10 + 10 - 111 = 209 = D1. 11_12 of 01: 100 + 1 - 11 = 90 = 5A.
        // S2 619: 619 - 111 = 508 = 1FC. S1: 555 - 111 = 444 = 1BC, thousands 1, 234 - 111 = 123 = 7B:
        // 444 << 14 | 1 << 10 | 123 = 6F047B.
        let octets = ImsiM.encode("310016195551234", extent(10)).unwrap();
        assert_eq!(octets, [0, 0xFC, 0x01, 0x7B, 0x04, 0x6F, 0x5A, 0x80, 0xD1, 0x00]);
        assert_eq!(ImsiM.decode(&octets, None).unwrap(), "310016195551234");
        assert!(ImsiT.encode("31001619555123", extent(10)).is_err());
    }

    #[test]
    fn codes_that_no_digits_have_are_refused() {
        let sound = ImsiT.encode("310016195551234", extent(10)).unwrap();
        for (at, octet) in [(0, 1), (2, 4), (6, 100), (7, 0), (9, 4)] {
            let mut octets = sound.clone();
            octets[at] = octet;
            assert_eq!(ImsiT.decode(&octets, None), None, "octet {at}");
        }
    }

    #[test]
    fn a_directory_number_writes_zero_as_ten() {
        let octets = Mdn.encode("1234567890", extent(11)).unwrap();
        assert_eq!(octets, [10, 0x21, 0x43, 0x65, 0x87, 0xA9, 0xFF, 0xFF, 0xFF, 0x0A, 0x00]);
        assert_eq!(Mdn.decode(&octets, None).unwrap(), "1234567890");
        assert_eq!(Mdn.encode("+12", extent(11)).unwrap()[9], 0x09);
    }

    #[test]
    fn an_identifier_of_the_module_stands_lowest_octet_first() {
        let octets = Ruimid.encode("80ABCDEF", extent(8)).unwrap();
        assert_eq!(octets, [4, 0xEF, 0xCD, 0xAB, 0x80, 0xFF, 0xFF, 0xFF]);
        assert_eq!(Ruimid.decode(&octets, None).unwrap(), "80ABCDEF");
        assert_eq!(Accolc.encode("9", extent(1)).unwrap(), [9]);
        assert!(Accolc.encode("16", extent(1)).is_err());
    }

    #[test]
    fn a_wrong_programming_code_is_not_shown() {
        let error = Spc.encode("12345x", extent(3)).unwrap_err().to_string();
        assert!(Spc.is_secret() && !error.contains("12345"), "{error}");
        assert_eq!(Spc.encode("123456", extent(3)).unwrap(), [0x21, 0x43, 0x65]);
    }

    proptest! {
        #[test]
        fn every_imsi_is_read_back(imsi in "[0-9]{15}") {
            let octets = ImsiT.encode(&imsi, extent(10)).unwrap();
            prop_assert_eq!(ImsiT.decode(&octets, None), Some(imsi));
        }
    }
}
