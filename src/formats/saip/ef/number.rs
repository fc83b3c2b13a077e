//! Telephone numbers: an address of type, plan and swapped digits (3GPP TS 24.008 §10.5.4.7, TS 23.040 §9.1.2.5).

use super::form::{Extent, Form, Wrong, does_not_fit, is_digits, no, unpadded};
use super::{alphabet, records};
use crate::formats::bcd;

/// Type of number international, numbering plan E.164.
const INTERNATIONAL: u8 = 0x91;
/// Digits of an address of 12 octets: length, type and plan, 10 octets of digits. Longer ones need an extension record.
const MAX_DIGITS: usize = 20;

/// `opt-usim/ef-msisdn`: records of X + 14 octets: alpha identifier X, length, type and plan, 10 octets of digits, capability and
/// extension identifiers. The alpha identifier is left empty.
pub(super) struct Msisdn;

impl Form for Msisdn {
    const NAME: &'static str = "msisdn";
    const FORM: &'static str =
        "an E.164 number of up to 20 digits, such as +491511234567, with commas one for each record";
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.26";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        records::write(value, ',', extent, |number, record_len| {
            let alpha = record_len.checked_sub(14).ok_or_else(|| does_not_fit(14, record_len))?;
            let digits = e164(number)?;
            let mut record = vec![0xFF; record_len];
            // The length counts octets, and the type octet among them.
            record[alpha] = digits.len().div_ceil(2) as u8 + 1;
            record[alpha + 1] = INTERNATIONAL;
            record[alpha + 2..alpha + 12].copy_from_slice(&bcd::swapped::<10>(digits));
            Ok(record)
        })
    }

    fn read(octets: &[u8], record_len: Option<usize>) -> Option<String> {
        records::read(octets, record_len, ',', |record| {
            let alpha = record.len().checked_sub(14)?;
            read_address(record.get(alpha..alpha + 12)?)
        })
    }
}

/// `usim/ef-smsp`, `opt-iot/ef-smsp`, `opt-isim/ef-smsp`: records of Y + 28 octets: alpha identifier Y, parameter indicators,
/// destination address 12, service centre address 12, protocol, coding, validity. Only the service centre address is present.
pub(super) struct Smsc;

impl Form for Smsc {
    const NAME: &'static str = "smsc";
    const FORM: &'static str =
        "an E.164 number of up to 20 digits, such as +491710760000, with commas one for each record";
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.27";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        records::write(value, ',', extent, |number, record_len| {
            let alpha = record_len.checked_sub(28).ok_or_else(|| does_not_fit(28, record_len))?;
            let digits = e164(number)?;
            let mut record = vec![0xFF; record_len];
            // A clear bit means present; bit 2 is the service centre address.
            record[alpha] = 0xFD;
            record[alpha + 13] = digits.len().div_ceil(2) as u8 + 1;
            record[alpha + 14] = INTERNATIONAL;
            record[alpha + 15..alpha + 25].copy_from_slice(&bcd::swapped::<10>(digits));
            Ok(record)
        })
    }

    fn read(octets: &[u8], record_len: Option<usize>) -> Option<String> {
        records::read(octets, record_len, ',', |record| {
            let alpha = record.len().checked_sub(28)?;
            let present = record.get(alpha)? & 0x02 == 0;
            read_address(record.get(alpha + 13..alpha + 25)?).filter(|_| present)
        })
    }
}

/// An entry of a file of dialling numbers in words, whatever its type of number: `Mailbox +491511234567`.
pub(super) fn describe(record: &[u8]) -> Option<String> {
    let (alpha, rest) = record.split_at_checked(record.len().checked_sub(14)?)?;
    let (len, rest) = rest.split_first()?;
    let (kind, digits) = rest.get(..11)?.get(..usize::from(*len))?.split_first()?;
    let number: String = digits.iter().flat_map(|octet| [octet & 15, octet >> 4]).map_while(dialled).collect();
    let plus = if kind & 0x70 == 0x10 { "+" } else { "" };
    match (number.is_empty(), alphabet::read_alpha(unpadded(alpha))) {
        (true, _) => None,
        (false, None) => Some(format!("{plus}{number}")),
        (false, Some(name)) => Some(format!("{name} {plus}{number}")),
    }
}

/// Extended BCD of 3GPP TS 31.102 §4.4.2.3: pause, wild value and expansion after star and hash.
fn dialled(nibble: u8) -> Option<char> {
    b"0123456789*#p?e".get(usize::from(nibble)).map(|sign| char::from(*sign))
}

/// The digits of an E.164 number, with or without its plus.
fn e164(number: &str) -> Result<&str, Wrong> {
    let number = number.trim();
    let digits = number.strip_prefix('+').unwrap_or(number);
    if is_digits(digits, 1, MAX_DIGITS) { Ok(digits) } else { Err(no("E.164 number", number)) }
}

/// Length, type and plan, digits. Only international numbers: others would be written back as something else.
fn read_address(octets: &[u8]) -> Option<String> {
    let (len, rest) = octets.split_first()?;
    let (kind, digits) = rest.get(..usize::from(*len))?.split_first()?;
    let digits = bcd::read_swapped(digits).filter(|digits| !digits.is_empty() && *kind == INTERNATIONAL)?;
    Some(format!("+{digits}"))
}

#[cfg(test)]
mod tests {
    use super::super::form::Coding;
    use super::*;

    fn extent(len: usize, record_len: Option<usize>) -> Extent<'static> {
        Extent { len, record_len, given: &[] }
    }

    #[test]
    fn a_number_is_coded_behind_an_empty_name() {
        let octets = Msisdn.encode("+4915112345678", extent(32, Some(16))).unwrap();
        assert_eq!(octets[..10], [0xFF, 0xFF, 8, 0x91, 0x94, 0x51, 0x11, 0x32, 0x54, 0x76]);
        assert_eq!(octets[10..], [&[0xF8][..], &[0xFF; 21]].concat());
        assert_eq!(Msisdn.decode(&octets, Some(16)).unwrap(), "+4915112345678");
        assert_eq!(Msisdn.encode("4915112345678", extent(32, Some(16))).unwrap(), octets);
        assert!(Msisdn.encode("+49x", extent(32, Some(16))).unwrap_err().what.contains("4 characters"));
        assert!(Msisdn.encode("+49", extent(13, None)).is_err());
    }

    #[test]
    fn of_the_short_message_parameters_only_the_service_centre_is_present() {
        let octets = Smsc.encode("+491710760000", extent(80, Some(40))).unwrap();
        assert_eq!(octets[12], 0xFD);
        assert_eq!(octets[25..33], [7, 0x91, 0x94, 0x71, 0x01, 0x67, 0x00, 0x00]);
        assert!(octets[33..].iter().all(|octet| *octet == 0xFF));
        assert_eq!(Smsc.decode(&octets, Some(40)).unwrap(), "+491710760000");
        let mut absent = octets;
        absent[12] = 0xFF;
        assert_eq!(Smsc.decode(&absent, Some(40)), None);
    }

    #[test]
    fn a_national_number_is_described_but_not_taken_for_an_international_one() {
        let record = [&b"Mail"[..], &[4, 0x81, 0x10, 0xA2, 0x3B], &[0xFF; 9]].concat();
        assert_eq!(describe(&record).unwrap(), "Mail 012*#3");
        assert_eq!(Msisdn.decode(&record, Some(18)), None);
        assert_eq!(describe(&[0xFF; 18]), None);
        assert_eq!(describe(&[0xFF; 3]), None);
    }
}
