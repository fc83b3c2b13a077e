//! PINs, PUKs and administrative keys of every context (SAIP §8.5.1, §8.5.2).

use super::work::{Rope, Work, place};
use super::{About, Field, Member, member};
use crate::formats::saip::kind::{constructed, primitive};
use crate::formats::saip::package::{Element, unsigned};
use crate::formats::tlv::{Reader, Tag};
use crate::personalise::compile::TemplateError;
use crate::personalise::credentials::Secret;
use crate::personalise::rope::{Node, Part};

const OF_PINS: &str = "SAIP §8.5.1, 3GPP TS 31.101 §9.5.1";
const OF_PUKS: &str = "SAIP §8.5.2, 3GPP TS 31.101 §9.5.1";

/// The value of a PIN, A2/A1/A0/30/81 in every context that has its reference: 8 octets, digits padded with FF.
struct PinValue {
    name: &'static str,
}

/// Whether a PIN is asked for and how often it may be wrong, A2/A1/A0/30/83 and 84: bit 1 of `pinAttributes` (default 7), the nibbles
/// of `maxNumOfAttemps-retryNumLeft` (default 33).
struct PinState {
    name: &'static str,
}

/// PIN of the global references 1 to 8.
static PIN1: PinValue = PinValue { name: "pin1" };
/// PIN of the local references 81 to 88.
static PIN2: PinValue = PinValue { name: "pin2" };
/// State of the PINs of the global references.
static PIN1_STATE: PinState = PinState { name: "pin1_state" };
/// State of the PINs of the local references.
static PIN2_STATE: PinState = PinState { name: "pin2_state" };

const VALUE: Tag = Tag(0x81);
const ATTRIBUTES: Tag = Tag(0x83);
const ATTEMPTS: Tag = Tag(0x84);
/// `pinAttributes` and attempts where they are left out.
const DEFAULTS: (u8, u8) = (7, 0x33);
/// The PIN is asked for.
const ENABLED: u8 = 1;

impl Member for PinValue {
    fn name(&self) -> &'static str {
        self.name
    }

    fn form(&self) -> &'static str {
        "4 to 8 digits"
    }

    fn clause(&self) -> &'static str {
        OF_PINS
    }

    fn tags(&self) -> &[Tag] {
        &[VALUE]
    }

    fn encode(&self, text: &str, _: &[u8]) -> Option<Vec<u8>> {
        let sound = (4..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let mut octets = [0xFF; 8];
        octets.iter_mut().zip(text.bytes()).for_each(|(octet, digit)| *octet = digit);
        sound.then(|| member(VALUE, &octets))
    }

    fn decode(&self, _: &[u8]) -> Option<String> {
        None
    }

    fn is_secret(&self) -> bool {
        true
    }
}

impl Member for PinState {
    fn name(&self) -> &'static str {
        self.name
    }

    fn form(&self) -> &'static str {
        "enabled or disabled, and attempts left/at most, such as: disabled 3/3"
    }

    fn clause(&self) -> &'static str {
        OF_PINS
    }

    fn tags(&self) -> &[Tag] {
        &[ATTRIBUTES, ATTEMPTS]
    }

    fn encode(&self, text: &str, given: &[u8]) -> Option<Vec<u8>> {
        let (attributes, attempts) = state(given)?;
        let (word, counts) = text.split_once(' ').map_or((text, None), |(word, counts)| (word, Some(counts)));
        let attributes = match word {
            "enabled" => attributes | ENABLED,
            "disabled" => attributes & !ENABLED,
            _ => return None,
        };
        let attempts = match counts.map(|counts| counts.split_once('/')) {
            None => attempts,
            Some(counts) => {
                let (left, most) = counts?;
                let (left, most): (u8, u8) = (left.parse().ok()?, most.parse().ok()?);
                (1 <= left && left <= most && most <= 15).then_some(most << 4 | left)?
            }
        };
        let left_out = |octet: u8, default: u8, tag| if octet == default { Vec::new() } else { integer(tag, octet) };
        let members = [
            left_out(attributes, DEFAULTS.0, ATTRIBUTES), //
            left_out(attempts, DEFAULTS.1, ATTEMPTS),
        ];
        Some(members.concat())
    }

    fn decode(&self, given: &[u8]) -> Option<String> {
        let (attributes, attempts) = state(given)?;
        let word = if attributes & ENABLED != 0 { "enabled" } else { "disabled" };
        Some(format!("{word} {}/{}", attempts & 15, attempts >> 4))
    }
}

/// `pinAttributes` and attempts of the members `given`.
fn state(given: &[u8]) -> Option<(u8, u8)> {
    let (mut reader, (mut attributes, mut attempts)) = (Reader::new(given), DEFAULTS);
    while let Some(tlv) = reader.next_tlv().ok()? {
        let octet = unsigned(tlv.value).and_then(|value| u8::try_from(value).ok())?;
        if tlv.tag == ATTRIBUTES {
            attributes = octet;
        } else {
            attempts = octet;
        }
    }
    Some((attributes, attempts))
}

/// INTEGER of 0 to 255 under an implicit tag.
fn integer(tag: Tag, octet: u8) -> Vec<u8> {
    if octet & 0x80 == 0 { member(tag, &[octet]) } else { member(tag, &[0, octet]) }
}

impl Work<'_> {
    pub(super) fn pins<'t>(&mut self, element: &Element<'t>, node: &mut Rope<'t>) -> Result<(), TemplateError> {
        let wrong = |what: String| place(element, element.tlv.offset, &what);
        // Shared with another DF by its path: nothing to write here.
        let Some(list) = node.descend(&[constructed(1), constructed(0)]).and_then(Node::children) else {
            return Ok(());
        };
        for pin in list {
            let reference = reference(pin).ok_or_else(|| wrong("a PIN has no keyReference".into()))?;
            let (secret, value, state) = match reference {
                1..=8 => (Secret::Pin1, &PIN1, &PIN1_STATE),
                0x81..=0x88 => (Secret::Pin2, &PIN2, &PIN2_STATE),
                10..=14 | 0x8A..=0x8E => {
                    self.code(element, pin, Secret::Adm(reference))?;
                    continue;
                }
                other => return Err(wrong(format!("keyReference {other} is none of SAIP"))),
            };
            if self.settings.vars.contains_key(value.name) {
                self.member(&element.label(), pin, value)?;
            } else {
                self.code(element, pin, secret)?;
            }
            self.member(&element.label(), pin, state)?;
        }
        Ok(())
    }

    pub(super) fn puks<'t>(&mut self, element: &Element<'t>, node: &mut Rope<'t>) -> Result<(), TemplateError> {
        let wrong = |what: String| place(element, element.tlv.offset, &what);
        let list = node.child(constructed(1)).and_then(Node::children).ok_or_else(|| wrong("has no list".into()))?;
        for puk in list {
            let secret = match reference(puk).ok_or_else(|| wrong("a PUK has no keyReference".into()))? {
                1..=8 => Secret::Puk1,
                0x81..=0x88 => Secret::Puk2,
                other => return Err(wrong(format!("keyReference {other} is none of SAIP"))),
            };
            self.code(element, puk, secret)?;
        }
        Ok(())
    }

    /// A drawn code.
    fn code<'t>(&mut self, element: &Element<'t>, code: &mut Rope<'t>, secret: Secret) -> Result<(), TemplateError> {
        let slot = self.layout.slot(secret, 8);
        let value =
            code.child(primitive(1)).ok_or_else(|| place(element, element.tlv.offset, "a code has no value"))?;
        value.set(Part::Gap(8, Field::Secret(slot)));
        let (name, form, clause) = match secret {
            Secret::Pin1 => ("pin1".to_owned(), "4 digits, or those of the line", OF_PINS),
            Secret::Pin2 => ("pin2".to_owned(), "4 digits, or those of the line", OF_PINS),
            Secret::Puk1 => ("puk1".to_owned(), "8 digits", OF_PUKS),
            Secret::Puk2 => ("puk2".to_owned(), "8 digits", OF_PUKS),
            Secret::Adm(reference) if reference < 0x80 => (format!("adm{}", reference - 9), "8 digits", OF_PINS),
            Secret::Adm(reference) => (format!("adm{}", reference - 0x84), "8 digits", OF_PINS),
            Secret::K | Secret::Opc | Secret::Ota(_) | Secret::AKey | Secret::Ssd | Secret::Spc => return Ok(()),
        };
        let about = About { name: &name, source: "generated", form, clause };
        self.found(&about, 8, &element.label(), None);
        Ok(())
    }
}

fn reference(code: &mut Node<'_, Field>) -> Option<u8> {
    let value = code.child(primitive(0))?.octets()?;
    unsigned(value).and_then(|reference| u8::try_from(reference).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_digits_padded_with_ff() {
        assert_eq!(PIN1.encode("0042", &[]).unwrap(), *b"\x81\x080042\xFF\xFF\xFF\xFF");
        assert_eq!(PIN2.encode("12345678", &[]).unwrap(), *b"\x81\x0812345678");
        for wrong in ["123", "123456789", "12a4", ""] {
            assert_eq!(PIN1.encode(wrong, &[]), None);
        }
    }

    #[test]
    fn the_state_of_a_pin_leaves_defaults_out_and_keeps_the_other_attributes() {
        let encoded = |text: &str, given: &[u8]| PIN1_STATE.encode(text, given);
        assert_eq!(encoded("enabled 3/3", &[]), Some(Vec::new()));
        assert_eq!(encoded("disabled", &[]).unwrap(), [0x83, 1, 6]);
        assert_eq!(encoded("disabled 10/10", &[]).unwrap(), [0x83, 1, 6, 0x84, 2, 0, 0xAA]);
        assert_eq!(encoded("enabled 1/3", &[0x83, 1, 2, 0x84, 1, 0x55]).unwrap(), [0x83, 1, 3, 0x84, 1, 0x31]);
        assert_eq!(encoded("enabled", &[0x83, 1, 6, 0x84, 2, 0, 0xAA]).unwrap(), [0x84, 2, 0, 0xAA]);
        assert_eq!(PIN1_STATE.decode(&[0x83, 1, 6, 0x84, 2, 0, 0xA9]).as_deref(), Some("disabled 9/10"));
        assert_eq!(PIN1_STATE.decode(&[]).as_deref(), Some("enabled 3/3"));
        for wrong in ["on", "enabled 3", "enabled 4/3", "enabled 0/3", "enabled 3/16", "disabled x/3", ""] {
            assert_eq!(encoded(wrong, &[]), None, "{wrong}");
        }
    }
}
