//! Files of a profile: what a `File` member leaves in the card, and the two files whose value follows the order.

use super::{Check, Finding, Imsi, Tlv, member, members};
use crate::verify::digits;

/// Content beyond which a file that holds an identity is not believed.
const CONTENT_MAX: usize = 1_024;

/// Plays the list of offsets (`82`, relative to where the last write ended) and contents (`83`) of a `File`.
pub(super) fn content(file: &Tlv<'_>) -> Result<Vec<u8>, &'static str> {
    let mut content = Vec::new();
    for step in members(file) {
        match step.tag.0 {
            0x80 => return Err("is not created"),
            0x82 => {
                let skipped = small_integer(step.value).ok_or("an offset is not a small INTEGER")?;
                content.resize((content.len() + skipped as usize).min(CONTENT_MAX + 1), 0xFF);
            }
            0x83 => content.extend_from_slice(step.value),
            _ => {}
        }
        if content.len() > CONTENT_MAX {
            return Err("is longer than such a file can be");
        }
    }
    if content.is_empty() { Err("has no content of its own") } else { Ok(content) }
}

/// EF.IMSI of a USIM or IoT element.
pub(super) fn imsi(element: &Tlv<'_>, tag: u32) -> Result<Imsi, Finding> {
    let wrong =
        |what: String| Finding::new(Check::UppImsi, format!("profile octet {}: EF.IMSI {what}", element.offset));
    let file = member(element, tag).ok_or_else(|| wrong("is missing".into()))?;
    let content = content(&file).map_err(|what| wrong(what.into()))?;
    let digits = digits::imsi(&content).ok_or_else(|| wrong("is not length, parity, digits and F".into()))?;
    digits.parse().map_err(|e| wrong(format!("{e}")))
}

/// EF.ACC: the bit of the last IMSI digit (3GPP TS 22.011 §4.2), unless the order gave another. Bit 10 never.
pub(super) fn check_acc(element: &Tlv<'_>, tag: u32, imsi: &Imsi, ordered: &[u16]) -> Result<(), Finding> {
    let wrong = |what: String| Finding::new(Check::UppAcc, format!("profile octet {}: EF.ACC {what}", element.offset));
    let file = member(element, tag).ok_or_else(|| wrong("is missing".into()))?;
    let content = content(&file).map_err(|what| wrong(what.into()))?;
    let value = <[u8; 2]>::try_from(content.as_slice()).map_err(|_| wrong("is not 2 octets".into()))?;
    let found = u16::from_be_bytes(value);
    let expected = 1_u16 << imsi.last_digit();
    if (found == expected || ordered.contains(&found)) && found & 0x0400 == 0 {
        return Ok(());
    }
    Err(wrong(format!("is {found:04X}, the last IMSI digit gives {expected:04X}")))
}

/// A non-negative DER INTEGER of at most three octets.
pub(super) fn small_integer(value: &[u8]) -> Option<u32> {
    match value {
        [first, ..] if value.len() <= 3 && first & 0x80 == 0 => {
            let minimal = value.len() == 1 || *first != 0 || value[1] & 0x80 != 0;
            minimal.then(|| value.iter().fold(0, |sum, octet| sum << 8 | u32::from(*octet)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tlv::{Tag, single};

    fn played(steps: &[u8]) -> Result<Vec<u8>, &'static str> {
        let file = crate::formats::tlv::wrap(Tag(0xA4), &[steps]);
        content(&single(&file, Tag(0xA4)).unwrap())
    }

    #[test]
    fn offsets_count_from_the_end_of_the_last_write() {
        assert_eq!(played(&[0x83, 1, 7, 0x82, 1, 2, 0x83, 1, 8]).unwrap(), [7, 0xFF, 0xFF, 8]);
        assert!(played(&[0x80, 0]).is_err());
        assert!(played(&[]).is_err());
        assert!(played(&[0x82, 3, 0x7F, 0xFF, 0xFF]).is_err());
        assert!(played(&[0x82, 2, 0, 1]).is_err());
    }

    #[test]
    fn integers_are_minimal_and_not_negative() {
        assert_eq!(small_integer(&[0, 0x81]), Some(0x81));
        assert_eq!(small_integer(&[0x81]), None);
        assert_eq!(small_integer(&[0, 1]), None);
        assert_eq!(small_integer(&[]), None);
    }
}
