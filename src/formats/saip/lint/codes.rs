//! PINs and PUKs themselves: P01 to P03, P05, P06. Where they are used: [`super::contexts`].
//!
//! Trap: a template holds placeholders, all of which an order replaces. Whether a value is trivial is asked of packages that go
//! into the field as they are, and no value is ever repeated in a finding.

use std::collections::{HashMap, HashSet};

use super::{Report, Rule, Severity};
use crate::formats::saip::kind::{Kind, constructed, primitive};
use crate::formats::saip::package::{Element, Package, child, children, unsigned};
use crate::formats::tlv::Tlv;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "P01",
        severity: Severity::Error,
        why: "a terminal cannot enter a code in another coding, so the holder is locked out",
        hint: "eight octets of ASCII digits: a PIN four to eight padded with FF, a PUK exactly eight",
        check: values,
    },
    Rule {
        id: "P02",
        severity: Severity::Error,
        why: "the eUICC stops the installation: nothing could ever unblock that PIN",
        hint: "add the PUK to pukCodes, or correct unblockingPINReference",
        check: unblocking_references,
    },
    Rule {
        id: "P03",
        severity: Severity::Error,
        why: "the eUICC stops the installation when a reference does not fit the directory it is defined for",
        hint: "one pinCodes a context, each reference once, PUKs too: 1-8 and ADM in the MF, 81-88 in a DF or ADF",
        check: references,
    },
    Rule {
        id: "P05",
        severity: Severity::Warning,
        why: "a code without attempts is blocked from the first day, one with more left than the maximum may be refused",
        hint: "high nibble: attempts at most, low nibble: attempts left; 33 for a PIN, AA for a PUK",
        check: attempts,
    },
    Rule {
        id: "P06",
        severity: Severity::Warning,
        why: "the holder cannot know that one PIN has two values, and a code that is easily guessed protects nothing",
        hint: "give PIN2 one value in all contexts, and a PIN, its PUK and every card values of their own",
        check: choice_of_values,
    },
];

pub(super) fn pins<'a>(element: &Element<'a>) -> Vec<Tlv<'a>> {
    let list = element.member(constructed(1)).and_then(|choice| child(&choice, constructed(0)));
    list.iter().flat_map(children).collect()
}

/// The element takes the PINs of another directory (`filePath`).
pub(super) fn shares_pins(element: &Element<'_>) -> bool {
    element.member(constructed(1)).is_some_and(|choice| child(&choice, primitive(1)).is_some())
}

fn puks<'a>(package: &Package<'a>) -> Vec<(Element<'a>, Tlv<'a>)> {
    let of = |element: &Element<'a>| element.member(constructed(1)).iter().flat_map(children).collect::<Vec<_>>();
    package.of(Kind::PukCodes).flat_map(|element| of(element).into_iter().map(|puk| (*element, puk))).collect()
}

/// A member that is a number, such as keyReference `[0]`.
pub(super) fn number(code: &Tlv<'_>, member: u8) -> Option<u64> {
    child(code, primitive(member)).and_then(|tlv| unsigned(tlv.value))
}

pub(super) fn is_adm(reference: u64) -> bool {
    matches!(reference, 10..=14 | 0x8A..=0x8E)
}

/// Digits, then FF only; how many digits.
fn digits(value: &[u8]) -> Option<usize> {
    let end = value.iter().position(|octet| *octet == 0xFF).unwrap_or(value.len());
    let (digits, pad) = value.split_at(end);
    let sound = value.len() == 8 && digits.iter().all(u8::is_ascii_digit) && pad.iter().all(|octet| *octet == 0xFF);
    sound.then_some(end)
}

/// P01 E (3GPP TS 31.101 §9.5.1): coding of the values. An ADM may be any eight octets.
fn values(package: &Package<'_>, report: &mut Report<'_>) {
    for element in package.of(Kind::PinCodes) {
        for pin in pins(element) {
            let reference = number(&pin, 0).unwrap_or_default();
            let value = child(&pin, primitive(1)).map(|tlv| tlv.value).unwrap_or_default();
            let sound = if is_adm(reference) { value.len() == 8 } else { matches!(digits(value), Some(4..=8)) };
            if !sound {
                report.at(
                    element,
                    pin.offset,
                    format!("the value of reference {reference:02X} is not a PIN of 4 to 8 digits"),
                );
            }
        }
    }
    for (element, puk) in puks(package) {
        if child(&puk, primitive(1)).and_then(|tlv| digits(tlv.value)) != Some(8) {
            let reference = number(&puk, 0).unwrap_or_default();
            report.at(&element, puk.offset, format!("the value of reference {reference:02X} is not a PUK of 8 digits"));
        }
    }
}

/// P02 E (SAIP §8.5.1): every unblockingPINReference exists in pukCodes.
fn unblocking_references(package: &Package<'_>, report: &mut Report<'_>) {
    let known: HashSet<u64> = puks(package).iter().filter_map(|(_, puk)| number(puk, 0)).collect();
    for element in package.of(Kind::PinCodes) {
        for pin in pins(element) {
            if let Some(puk) = number(&pin, 2).filter(|puk| !known.contains(puk)) {
                let reference = number(&pin, 0).unwrap_or_default();
                report.at(
                    element,
                    pin.offset,
                    format!("PIN {reference:02X} is unblocked by PUK {puk:02X}, which does not exist"),
                );
            }
        }
    }
}

/// P03 E: references unique in an element and fit for its context, one element a context; PUKs unique in the package.
fn references(package: &Package<'_>, report: &mut Report<'_>) {
    let mut unblocking = HashSet::new();
    for (element, puk) in puks(package) {
        let reference = number(&puk, 0).unwrap_or_default();
        if !unblocking.insert(reference) {
            report.at(&element, puk.offset, format!("PUK reference {reference:02X} is there twice"));
        }
    }
    let mut context: Option<Kind> = None;
    let mut filled = false;
    for element in &package.elements {
        match element.kind {
            // opt-usim and its like add files to the ADF before them, they open no context.
            Kind::OptUsim | Kind::OptIsim | Kind::OptCsim | Kind::OptIot => {}
            kind if kind.is_file_system() || kind == Kind::GenericFileManagement => {
                (context, filled) = (Some(kind), false);
            }
            Kind::PinCodes => {
                if filled {
                    report.on(element, "is the second pinCodes of one context");
                }
                filled = true;
                check_references(element, context, report);
            }
            _ => {}
        }
    }
}

fn check_references(element: &Element<'_>, context: Option<Kind>, report: &mut Report<'_>) {
    let mut seen = HashSet::new();
    for pin in pins(element) {
        let reference = number(&pin, 0).unwrap_or_default();
        if !seen.insert(reference) {
            report.at(element, pin.offset, format!("reference {reference:02X} is there twice"));
        }
        let is_local = reference >= 0x80;
        match context {
            Some(Kind::Mf) if is_local => {
                report.at(element, pin.offset, format!("local reference {reference:02X} in the context of the MF"));
            }
            // What a GenericFileManagement or iot element selects first may be the MF or a DF.
            None | Some(Kind::Mf | Kind::GenericFileManagement | Kind::Iot) => {}
            Some(_) if !is_local => {
                report.at(
                    element,
                    pin.offset,
                    format!("global reference {reference:02X} in the context of a DF or ADF"),
                );
            }
            Some(_) => {}
        }
    }
}

/// P05 W (SAIP §8.5.1): attempts at most and attempts left are above zero, and left is not above the most.
fn attempts(package: &Package<'_>, report: &mut Report<'_>) {
    let pins =
        package.of(Kind::PinCodes).flat_map(|element| pins(element).into_iter().map(move |pin| (*element, pin, 4)));
    let codes = pins.chain(puks(package).into_iter().map(|(element, puk)| (element, puk, 2)));
    for (element, code, member) in codes {
        let Some(attempts) = child(&code, primitive(member)) else { continue };
        let fits = unsigned(attempts.value).is_some_and(|both| {
            let (most, left) = (both >> 4, both & 0x0F);
            both <= 0xFF && most > 0 && left > 0 && left <= most
        });
        if !fits {
            let reference = number(&code, 0).unwrap_or_default();
            let both = unsigned(attempts.value).unwrap_or_default();
            let message = format!("reference {reference:02X} has {} of {} attempts left", both & 0x0F, both >> 4);
            report.at(&element, attempts.offset, message);
        }
    }
}

/// P06 W: one value for a local PIN in all contexts, another one for its PUK; in production, none that is easily guessed.
fn choice_of_values(package: &Package<'_>, report: &mut Report<'_>) {
    let puks = puks(package);
    let puk_values: HashMap<u64, &[u8]> =
        puks.iter().filter_map(|(_, puk)| Some((number(puk, 0)?, value(puk)?.value))).collect();
    let mut first: HashMap<u64, &[u8]> = HashMap::new();
    for element in package.of(Kind::PinCodes) {
        for pin in pins(element) {
            let (Some(reference), Some(value)) = (number(&pin, 0), value(&pin)) else { continue };
            if is_adm(reference) {
                continue;
            }
            if reference >= 0x80 && *first.entry(reference).or_insert(value.value) != value.value {
                let message = format!("PIN {reference:02X} has another value here than in an earlier context");
                report.at(element, value.offset, message);
            }
            if number(&pin, 2).and_then(|puk| puk_values.get(&puk)).is_some_and(|puk| *puk == value.value) {
                report.at(element, value.offset, format!("PIN {reference:02X} has the value of its PUK"));
            }
            if report.options.production && is_trivial(value.value) {
                report.at(element, value.offset, format!("PIN {reference:02X} is easily guessed"));
            }
        }
    }
    for (element, puk) in puks.iter().filter(|_| report.options.production) {
        if let Some(value) = value(puk).filter(|value| is_trivial(value.value)) {
            let reference = number(puk, 0).unwrap_or_default();
            report.at(element, value.offset, format!("PUK {reference:02X} is easily guessed"));
        }
    }
}

/// `pinValue` or `pukValue`.
fn value<'a>(code: &Tlv<'a>) -> Option<Tlv<'a>> {
    child(code, primitive(1))
}

/// One digit repeated, or digits that count up or down.
fn is_trivial(value: &[u8]) -> bool {
    let Some(len) = digits(value).filter(|len| *len > 1) else { return false };
    let steps: HashSet<i16> = value[..len].windows(2).map(|pair| i16::from(pair[1]) - i16::from(pair[0])).collect();
    steps.len() == 1 && steps.iter().all(|step| step.abs() <= 1)
}
