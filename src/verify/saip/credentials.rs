//! Credentials of a profile: AKA parameters, PINs and PUKs, keys of security domains. Values never stand in a finding.

use std::collections::BTreeSet;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::super::authentication::Constants;
use super::file::small_integer;
use super::{Check, Finding, SubscriberKey, Tlv, member, members};

/// algorithmID of an AKA element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// 1: 3GPP TS 35.206.
    Milenage,
    /// 2: 3GPP TS 35.231.
    Tuak,
    /// 3: the USIM test algorithm.
    UsimTest,
}

impl Algorithm {
    /// The word in orders and in `core.csv`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Milenage => "milenage",
            Self::Tuak => "tuak",
            Self::UsimTest => "usim-test",
        }
    }
}

/// What every AKA element of the profile says.
pub(super) struct Aka {
    pub(super) algorithm: Algorithm,
    pub(super) k: SubscriberKey,
    pub(super) opc: SubscriberKey,
    /// Those of every element, each once.
    pub(super) constants: Vec<Constants>,
}

/// All algoParameter (A4 / A1 / A1) of the profile, which must be equal; mappings (A4 / A1 / A0) point at one of them.
pub(super) fn aka(elements: &[Tlv<'_>]) -> Result<Aka, Finding> {
    let mut first: Option<Aka> = None;
    for element in elements.iter().filter(|e| e.tag.0 == 0xA4) {
        let wrong = |what: &str| Finding::new(Check::UppAka, format!("profile octet {}: {what}", element.offset));
        let choice = member(element, 0xA1).ok_or_else(|| wrong("AKA element without configuration"))?;
        let Some(parameter) = member(&choice, 0xA1) else {
            member(&choice, 0xA0).ok_or_else(|| wrong("AKA element is neither algorithm nor mapping"))?;
            continue;
        };
        let field = |tag| member(&parameter, tag).map(|tlv| tlv.value);
        let (algorithm, key_lens, opc_len): (_, &[usize], _) = match field(0x80) {
            Some([1]) => (Algorithm::Milenage, &[16], 16),
            Some([2]) => (Algorithm::Tuak, &[16, 32], 32),
            Some([3]) => (Algorithm::UsimTest, &[16], 16),
            _ => return Err(wrong("algorithmID is not 1, 2 or 3")),
        };
        let (Some(k), Some(opc)) = (field(0x82), field(0x83)) else { return Err(wrong("K or OPc is missing")) };
        if !key_lens.contains(&k.len()) || opc.len() != opc_len {
            return Err(wrong("K or OPc has not the length of its algorithm"));
        }
        if is_zero(k) || is_zero(opc) {
            return Err(wrong("K or OPc is all zero"));
        }
        let constants = Constants::read(field(0x84), field(0x85)).ok_or_else(|| wrong("constants without form"))?;
        match &mut first {
            Some(aka) if aka.algorithm != algorithm || !aka.k.same_as(k) || !aka.opc.same_as(opc) => {
                return Err(wrong("AKA elements differ in algorithm, K or OPc"));
            }
            Some(aka) if aka.constants.contains(&constants) => {}
            Some(aka) => aka.constants.push(constants),
            None => {
                let copy = |value| SubscriberKey::copy_of(value).ok_or_else(|| wrong("K or OPc is too long"));
                first = Some(Aka { algorithm, k: copy(k)?, opc: copy(opc)?, constants: vec![constants] });
            }
        }
    }
    first.ok_or_else(|| Finding::new(Check::UppAka, "the profile has no AKA algorithm"))
}

/// Everything that is wrong with PINs (A2) and PUKs (A3).
pub(super) fn pins(elements: &[Tlv<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut wrong = |at: &Tlv<'_>, what: &str| {
        findings.push(Finding::new(Check::UppPin, format!("profile octet {}: {what}", at.offset)));
    };
    let mut puks = BTreeSet::new();
    for puk in of_kind(elements, 0xA3)
        .flat_map(|element| member(element, 0xA1))
        .flat_map(|list| members(&list).collect::<Vec<_>>())
    {
        let Some(reference) = reference(&puk, 0x80) else {
            wrong(&puk, "PUK without reference");
            continue;
        };
        if !puks.insert(reference) {
            wrong(&puk, "PUK reference stands twice");
        }
        if !member(&puk, 0x81).is_some_and(|value| value.value.len() == 8 && value.value.iter().all(u8::is_ascii_digit))
        {
            wrong(&puk, "PUK is not 8 digits");
        }
    }
    let lists =
        of_kind(elements, 0xA2).flat_map(|element| member(element, 0xA1)).flat_map(|choice| member(&choice, 0xA0));
    for pin in lists.flat_map(|list| members(&list).collect::<Vec<_>>()) {
        let value = member(&pin, 0x81).map(|value| value.value);
        match reference(&pin, 0x80) {
            Some(1..=8 | 129..=136) if !value.is_some_and(is_pin) => {
                wrong(&pin, "PIN is not 4 to 8 digits padded with FF")
            }
            Some(10..=14 | 138..=142) if !value.is_some_and(is_adm) => wrong(&pin, "ADM is not 8 octets, or blank"),
            Some(1..=8 | 10..=14 | 129..=136 | 138..=142) => {}
            _ => wrong(&pin, "PIN reference is none of the standard"),
        }
        if let Some(unblocking) = member(&pin, 0x82)
            && !small_integer(unblocking.value).is_some_and(|reference| puks.contains(&reference))
        {
            wrong(&pin, "PIN points at a PUK that the profile does not have");
        }
    }
    findings
}

/// Secret keys of all security domains (A6 / A2 / 30 / 30 / 30 / 86): not zero, no two alike.
pub(super) fn ota_keys(elements: &[Tlv<'_>]) -> Result<Vec<Zeroizing<Vec<u8>>>, Finding> {
    let mut keys: Vec<Zeroizing<Vec<u8>>> = Vec::new();
    let lists = of_kind(elements, 0xA6).flat_map(|element| member(element, 0xA2));
    for object in lists.flat_map(|list| members(&list).collect::<Vec<_>>()) {
        let components = member(&object, 0x30).into_iter().flat_map(|list| members(&list).collect::<Vec<_>>());
        for component in components {
            let wrong = |what: &str| Finding::new(Check::UppOta, format!("profile octet {}: {what}", component.offset));
            let kind = member(&component, 0x80).ok_or_else(|| wrong("key without type"))?;
            let data = member(&component, 0x86).ok_or_else(|| wrong("key without data"))?;
            // B0, B1 and F0 are parts of ECC keys: a curve's number may well be zero, and a CA's public key stands in every profile.
            if matches!(kind.value, [0xB0 | 0xB1 | 0xF0]) {
                continue;
            }
            if is_zero(data.value) {
                return Err(wrong("key is all zero"));
            }
            if keys.iter().any(|other| other.len() == data.value.len() && bool::from(other.ct_eq(data.value))) {
                return Err(wrong("key is the same as another of this profile"));
            }
            keys.push(Zeroizing::new(data.value.to_vec()));
        }
    }
    Ok(keys)
}

fn of_kind<'e, 'a>(elements: &'e [Tlv<'a>], tag: u32) -> impl Iterator<Item = &'e Tlv<'a>> {
    elements.iter().filter(move |element| element.tag.0 == tag)
}

fn reference(entry: &Tlv<'_>, tag: u32) -> Option<u32> {
    member(entry, tag).and_then(|tlv| small_integer(tlv.value))
}

fn is_pin(value: &[u8]) -> bool {
    let digits = value.iter().take_while(|octet| octet.is_ascii_digit()).count();
    value.len() == 8 && digits >= 4 && value[digits..].iter().all(|octet| *octet == 0xFF)
}

/// ADM values may be binary, but a blank one is a value somebody forgot.
fn is_adm(value: &[u8]) -> bool {
    value.len() == 8 && !is_zero(value) && value.iter().any(|octet| *octet != 0xFF)
}

fn is_zero(value: &[u8]) -> bool {
    value.iter().fold(0, |any, octet| any | octet) == 0
}
