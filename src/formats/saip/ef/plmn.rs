//! Network codes: MCC and MNC in three octets (3GPP TS 24.008 §10.5.1.13), and lists of them.

use super::form::{Extent, Form, Wrong, is_digits, padded};

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
    let mut nibbles = [0xF; 6];
    text.bytes().zip(&mut nibbles).for_each(|(digit, nibble)| *nibble = digit - b'0');
    let [mcc1, mcc2, mcc3, mnc1, mnc2, mnc3] = nibbles;
    Ok([mcc2 << 4 | mcc1, mnc3 << 4 | mcc3, mnc2 << 4 | mnc1])
}

/// The reverse of [`write_plmn`].
pub(super) fn read_plmn(octets: [u8; 3]) -> Option<String> {
    let [a, b, c] = octets;
    let mut nibbles = vec![a & 15, a >> 4, b & 15, c & 15, c >> 4];
    if b >> 4 != 0xF {
        nibbles.push(b >> 4);
    }
    nibbles.iter().map(|nibble| char::from_digit(u32::from(*nibble), 10)).collect()
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
