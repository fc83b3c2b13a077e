//! PINs and PUKs in words: references and attributes, never a value (SAIP §8.5).

use super::words::{hex, hidden_code, key_reference};
use super::{Facts, Members};
use crate::formats::saip::kind::{constructed, primitive};
use crate::formats::saip::package::{child, children, unsigned};
use crate::formats::tlv::Tlv;

pub(super) fn pins<'a>(members: &mut Members<'a>, facts: &mut Facts<'a>) {
    let Some(choice) = members.take(constructed(1)) else { return };
    for alternative in children(&choice) {
        if alternative.tag == primitive(1) {
            let path = hex(alternative.value);
            let of = if path.is_empty() { "the MF".to_owned() } else { path };
            facts.add("shares", &alternative, format!("the PINs of {of}"));
            continue;
        }
        for pin in children(&alternative) {
            let mut words = Vec::new();
            if let Some(puk) = number(&pin, 2) {
                words.push(format!("unblocked by PUK {puk:02X}"));
            }
            let attributes = number(&pin, 3).unwrap_or(7);
            if attributes & 1 == 0 {
                words.push("starts disabled".to_owned());
            }
            if attributes & 4 == 0 {
                words.push("cannot be disabled".to_owned());
            }
            words.push(format!("attributes {attributes:02X}"));
            words.push(attempts(number(&pin, 4).unwrap_or(0x33)));
            code(&pin, words, facts);
        }
    }
}

pub(super) fn puks<'a>(members: &mut Members<'a>, facts: &mut Facts<'a>) {
    let Some(list) = members.take(constructed(1)) else { return };
    for puk in children(&list) {
        code(&puk, vec![attempts(number(&puk, 2).unwrap_or(0xAA))], facts);
    }
}

fn code<'a>(code: &Tlv<'a>, mut words: Vec<String>, facts: &mut Facts<'a>) {
    let value = child(code, primitive(1)).map(|tlv| tlv.value).unwrap_or_default();
    words.push(hidden_code(value).to_owned());
    facts.add(key_reference(number(code, 0).unwrap_or_default()), code, words.join(", "));
}

/// High nibble: attempts at all; low nibble: attempts left.
fn attempts(octet: u64) -> String {
    format!("{} of {} attempts", octet & 0x0F, octet >> 4)
}

fn number(code: &Tlv<'_>, member: u8) -> Option<u64> {
    child(code, primitive(member)).and_then(|tlv| unsigned(tlv.value))
}
