//! Telephone numbers: an address of type, plan and swapped digits (3GPP TS 24.008 §10.5.4.7, TS 23.040 §9.1.2.5).

use super::form::{Extent, Form, Wrong, does_not_fit, is_digits};
use super::records;
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

/// The digits of an E.164 number, with or without its plus.
fn e164(number: &str) -> Result<&str, Wrong> {
    let number = number.trim();
    let digits = number.strip_prefix('+').unwrap_or(number);
    if is_digits(digits, 1, MAX_DIGITS) { Ok(digits) } else { Err(format!("{number:?} is no E.164 number").into()) }
}

/// Length, type and plan, digits. Only international numbers: others would be written back as something else.
fn read_address(octets: &[u8]) -> Option<String> {
    let (len, rest) = octets.split_first()?;
    let (kind, digits) = rest.get(..usize::from(*len))?.split_first()?;
    let digits = bcd::read_swapped(digits).filter(|digits| !digits.is_empty() && *kind == INTERNATIONAL)?;
    Some(format!("+{digits}"))
}
