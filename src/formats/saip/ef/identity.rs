//! Numbers of the subscription and its groups.

use super::form::{Extent, Form, Wrong, is_digits, no, padded, unpadded};
use crate::formats::bcd;

/// `mf/ef-iccid`, `iot/ef-iccid`: 10 octets, swapped nibbles.
pub(super) struct Iccid;

impl Form for Iccid {
    const NAME: &'static str = "iccid";
    const FORM: &'static str = "18 to 20 digits";
    const CLAUSE: &'static str = "ETSI TS 102 221 §13.2";

    fn write(value: &str, _: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        if !is_digits(value, 18, 20) {
            return Err(no("ICCID", value));
        }
        Ok(bcd::swapped::<10>(value).to_vec())
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        bcd::read_swapped(octets.first_chunk::<10>()?).filter(|digits| is_digits(digits, 18, 20))
    }
}

/// `usim/ef-imsi`, `iot/ef-imsi`: 9 octets.
pub(super) struct Imsi;

impl Form for Imsi {
    const NAME: &'static str = "imsi";
    const FORM: &'static str = "6 to 15 digits";
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.2";

    fn write(value: &str, _: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        if !is_digits(value, 6, 15) {
            return Err(no("IMSI", value));
        }
        Ok(bcd::ef_imsi(value).to_vec())
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        let file = octets.first_chunk::<9>()?;
        let digits = bcd::read_swapped(&file[1..])?;
        let digits = digits.get(1..).filter(|digits| is_digits(digits, 6, 15))?;
        // Length octet and parity nibble follow from the digits; when they disagree a terminal reads another number.
        (bcd::ef_imsi(digits) == *file).then(|| digits.to_owned())
    }
}

/// `usim/ef-acc`, `iot/ef-acc`: 2 octets, a bit for each access control class; class 10 is no subscriber's (3GPP TS 22.011 §4.4).
pub(super) struct Acc;

impl Form for Acc {
    const NAME: &'static str = "acc";
    const FORM: &'static str = "access classes 0 to 9 and 11 to 15, such as 3 or 3,15";
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.15";

    fn write(value: &str, _: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        let mut mask = 0_u16;
        for class in value.split(',').map(str::trim) {
            let number = class.parse().ok().filter(|number: &u8| *number < 16 && *number != 10);
            let number = number.filter(|_| is_digits(class, 1, 2));
            mask |= 1 << number.ok_or_else(|| format!("{class:?} is no access class"))?;
        }
        Ok(mask.to_be_bytes().to_vec())
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        let mask = u16::from_be_bytes(*octets.first_chunk()?);
        let classes: Vec<String> =
            (0..16).filter(|class| mask >> class & 1 == 1).map(|class| class.to_string()).collect();
        (mask != 0 && mask >> 10 & 1 == 0).then(|| classes.join(","))
    }
}

/// `opt-usim/ef-gid1`: n octets.
pub(super) struct Gid1;
/// `opt-usim/ef-gid2`: n octets.
pub(super) struct Gid2;

impl Form for Gid1 {
    const NAME: &'static str = "gid1";
    const FORM: &'static str = HEX_FORM;
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.10";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        write_hex(value, extent)
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        read_hex(octets)
    }
}

impl Form for Gid2 {
    const NAME: &'static str = "gid2";
    const FORM: &'static str = HEX_FORM;
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.11";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        write_hex(value, extent)
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        read_hex(octets)
    }
}

pub(super) const HEX_FORM: &str = "hex octets, up to the file's size";

/// Hex octets at the start of a file, `FF` behind them. `FF` at the end of a value is padding as well.
pub(super) fn write_hex(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
    let octets = data_encoding::HEXUPPER_PERMISSIVE.decode(value.as_bytes());
    let octets = octets.map_err(|_| format!("{value:?} is not hex, two digits an octet"))?;
    if unpadded(&octets).is_empty() {
        return Err("a value of nothing but FF is an empty file".into());
    }
    Ok(padded(octets, extent.len))
}

pub(super) fn read_hex(octets: &[u8]) -> Option<String> {
    let octets = unpadded(octets);
    (!octets.is_empty()).then(|| data_encoding::HEXUPPER.encode(octets))
}
