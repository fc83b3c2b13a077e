//! Keys that nobody drew: A06, in a package that goes into the field as it is.
//!
//! Trap: a template legitimately holds zeros and published keys where each card gets its own, so nothing is said without
//! [`Options::production`](super::Options). No finding repeats a value. PINs and PUKs are too few to tell chance from neglect: P06.

use super::aka::TEST;
use super::codes::{is_adm, number, pins};
use super::services::{algo_parameters, algorithm_id};
use super::{Report, Rule, Severity};
use crate::formats::saip::kind::{Kind, constructed, primitive};
use crate::formats::saip::package::{Package, child, children, unsigned};
use crate::formats::tlv::Tag;

pub(super) const RULES: &[Rule] = &[Rule {
    id: "A06",
    severity: Severity::Error,
    why: "anybody guesses such a key: the subscription can be cloned, the card managed by strangers",
    hint: "order the profile: each record gets keys of its own; a package with placeholders never goes into the field",
    check: keys,
}];

/// A06 E: K, OPc, ADMs and the keys of security domains are not one octet over and over, nor octets that count.
fn keys(package: &Package<'_>, report: &mut Report<'_>) {
    if !report.options.production {
        return;
    }
    for (element, algo) in algo_parameters(package) {
        // The test algorithm ignores OPc.
        let opc = (algorithm_id(&algo) != Some(TEST)).then_some((3, "opc"));
        for (member, name) in [Some((2, "key")), opc].into_iter().flatten() {
            if let Some(value) = child(&algo, primitive(member)).filter(|value| is_placeholder(value.value)) {
                report.at(element, value.value_offset(), format!("{name} {PLACEHOLDER}"));
            }
        }
    }
    for element in package.of(Kind::PinCodes) {
        for pin in pins(element) {
            let Some(reference) = number(&pin, 0).filter(|reference| is_adm(*reference)) else { continue };
            if let Some(value) = child(&pin, primitive(1)).filter(|value| is_placeholder(value.value)) {
                report.at(element, value.value_offset(), format!("ADM {reference:02X} {PLACEHOLDER}"));
            }
        }
    }
    for element in package.of(Kind::SecurityDomain) {
        for key in element.member(constructed(2)).iter().flat_map(children) {
            let of = |member| child(&key, primitive(member)).and_then(|tlv| unsigned(tlv.value)).unwrap_or_default();
            for component in child(&key, Tag(0x30)).iter().flat_map(children) {
                let is_reference = child(&component, primitive(0)).is_some_and(|tlv| tlv.value == [CURVE_REFERENCE]);
                let data = child(&component, primitive(6)).filter(|_| !is_reference);
                if let Some(data) = data.filter(|data| is_placeholder(data.value)) {
                    let message = format!("key {:02X}/{:02X} {PLACEHOLDER}", of(3), of(2));
                    report.at(element, data.value_offset(), message);
                }
            }
        }
    }
}

const PLACEHOLDER: &str = "is a placeholder: one octet over and over, or octets that count";

/// Key type of the number of a curve (GlobalPlatform Card Specification Amendment E): no key at all.
const CURVE_REFERENCE: u8 = 0xF0;

/// One octet repeated, or octets that count up by one. A drawn key of 16 octets is neither before the sun burns out.
fn is_placeholder(value: &[u8]) -> bool {
    let is_repeated = value.iter().all(|octet| Some(octet) == value.first());
    let counts = value.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1));
    value.len() > 1 && (is_repeated || counts)
}
