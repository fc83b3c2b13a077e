//! Access rules: the records of EF.ARR (ETSI TS 102 221 §9.2.7, §13.4; ISO/IEC 7816-4 expanded format).

use super::form::unpadded;
use crate::formats::tlv::{Reader, Tag, Tlv};

/// The rules of a record in words: `read always; update PIN1; deactivate+activate ADM1`. `None` when it is empty or no rule.
pub(super) fn describe(record: &[u8]) -> Option<String> {
    let mut reader = Reader::new(unpadded(record));
    let mut rules = Vec::new();
    while let Some(mode) = reader.next_tlv().ok()? {
        let condition = reader.next_tlv().ok()??;
        rules.push(format!("{} {}", operation(&mode)?, required(&condition)?));
    }
    (!rules.is_empty()).then(|| rules.join("; "))
}

/// Bits of the access mode octet for an elementary file, from the lowest.
const OPERATIONS: [&str; 7] = ["read", "update", "append", "deactivate", "activate", "terminate", "delete"];

fn operation(mode: &Tlv<'_>) -> Option<String> {
    match (mode.tag, mode.value) {
        (Tag(0x80), [bits]) if *bits & 0x80 == 0 && *bits != 0 => {
            let set = OPERATIONS.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
            Some(set.map(|(_, name)| *name).collect::<Vec<_>>().join("+"))
        }
        // The command's INS is given instead; D4 is RESIZE FILE, 32 INCREASE.
        (Tag(0x84), [0xD4]) => Some("resize".to_owned()),
        (Tag(0x84), [0x32]) => Some("increase".to_owned()),
        (Tag(0x84), [ins]) => Some(format!("command {ins:02X}")),
        _ => None,
    }
}

fn required(condition: &Tlv<'_>) -> Option<String> {
    match condition.tag {
        Tag(0x90) => Some("always".to_owned()),
        Tag(0x97) => Some("never".to_owned()),
        Tag(0xA4) => {
            let reference = condition.children().expect(Tag(0x83)).ok()?;
            let [reference] = reference.value else { return None };
            Some(key(*reference))
        }
        Tag(0xA0) => list(condition, " or "),
        Tag(0xAF) => list(condition, " and "),
        _ => None,
    }
}

/// One level only: the standard nests no deeper, and a hostile record may not make us.
fn list(conditions: &Tlv<'_>, word: &str) -> Option<String> {
    let mut reader = conditions.children();
    let mut all = Vec::new();
    while let Some(condition) = reader.next_tlv().ok()? {
        let simple = !matches!(condition.tag, Tag(0xA0 | 0xAF));
        all.push(required(&condition).filter(|_| simple)?);
    }
    (!all.is_empty()).then(|| all.join(word))
}

/// ETSI TS 102 221 §9.5.1: key references.
fn key(reference: u8) -> String {
    match reference {
        0x01..=0x08 => format!("PIN1 (application {reference})"),
        0x81..=0x88 => format!("PIN2 (application {})", reference - 0x80),
        0x0A..=0x0E => format!("ADM{}", reference - 0x09),
        0x8A..=0x8E => format!("ADM{}", reference - 0x84),
        0x11 => "universal PIN".to_owned(),
        other => format!("key {other:02X}"),
    }
    .replace(" (application 1)", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_told_in_words() {
        // Read and, separately, update under PIN1; update also under ADM1; resize under ADM1.
        let pin1 = [0xA4, 6, 0x83, 1, 0x01, 0x95, 1, 0x08];
        let adm1 = [0xA4, 6, 0x83, 1, 0x0A, 0x95, 1, 0x08];
        let either = [&[0xA0, 16][..], &pin1, &adm1].concat();
        let record = [&[0x80, 1, 0x01, 0x90, 0][..], &[0x80, 1, 0x02], &either, &[0x80, 1, 0x18], &adm1].concat();
        let record = [&record[..], &[0x84, 1, 0xD4, 0x97, 0, 0xFF, 0xFF]].concat();
        assert_eq!(
            describe(&record).unwrap(),
            "read always; update PIN1 or ADM1; deactivate+activate ADM1; resize never"
        );
    }

    #[test]
    fn what_is_no_rule_is_not_described() {
        assert_eq!(describe(&[0xFF; 10]), None);
        assert_eq!(describe(&[0x80, 1, 0x01]), None);
        assert_eq!(describe(&[0x80, 1, 0x01, 0xA0, 4, 0xA0, 2, 0x90, 0]), None);
        assert_eq!(key(0x81), "PIN2");
        assert_eq!(key(0x02), "PIN1 (application 2)");
        assert_eq!(key(0x8A), "ADM6");
    }
}
