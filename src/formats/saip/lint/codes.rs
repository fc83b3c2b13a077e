//! PINs and PUKs: P01 to P03.

use std::collections::HashSet;

use super::{Report, Rule, Severity};
use crate::formats::saip::kind::{Kind, constructed, primitive};
use crate::formats::saip::package::{Element, Package, child, children, unsigned};
use crate::formats::tlv::Tlv;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "P01",
        severity: Severity::Error,
        why: "",
        hint: "eight octets of ASCII digits: a PIN four to eight padded with FF, a PUK exactly eight",
        check: values,
    },
    Rule {
        id: "P02",
        severity: Severity::Error,
        why: "",
        hint: "add the PUK to pukCodes, or correct unblockingPINReference",
        check: unblocking_references,
    },
    Rule {
        id: "P03",
        severity: Severity::Error,
        why: "",
        hint: "one pinCodes a context, each reference once: 1-8 and ADM in the MF, 81-88 in a DF or ADF",
        check: references,
    },
];

fn pins<'a>(element: &Element<'a>) -> Vec<Tlv<'a>> {
    let list = element.member(constructed(1)).and_then(|choice| child(&choice, constructed(0)));
    list.iter().flat_map(children).collect()
}

fn puks<'a>(package: &Package<'a>) -> Vec<(Element<'a>, Tlv<'a>)> {
    let of = |element: &Element<'a>| element.member(constructed(1)).iter().flat_map(children).collect::<Vec<_>>();
    package.of(Kind::PukCodes).flat_map(|element| of(element).into_iter().map(|puk| (*element, puk))).collect()
}

fn number(code: &Tlv<'_>, member: u8) -> Option<u64> {
    child(code, primitive(member)).and_then(|tlv| unsigned(tlv.value))
}

fn is_adm(reference: u64) -> bool {
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

/// P03 E: references unique in an element and fit for its context, one element a context.
fn references(package: &Package<'_>, report: &mut Report<'_>) {
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
