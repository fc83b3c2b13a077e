//! Authentication: A01 to A03, A05, A07 (SAIP §8.4). Keys that nobody drew, A06: [`super::placeholders`].
//!
//! K and OPc of a template are placeholders; here only lengths, references and parameters count, and no finding repeats a key.

use std::collections::HashMap;

use super::services::{algo_parameters, algorithm_id};
use super::{Report, Rule, Severity, counted};
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::{Kind, constructed, primitive};
use crate::formats::saip::package::{Element, Package, child, children, unsigned};
use crate::formats::tlv::{Tag, Tlv};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "A01",
        severity: Severity::Error,
        why: "the eUICC refuses the element, or authenticates with another key than the network: no service",
        hint: "Milenage: K 16, OPc 16 octets; TUAK: K 16 or 32, TOPc 32; mapping: one octet of options and an AID",
        check: subscriber_keys,
    },
    Rule {
        id: "A02",
        severity: Severity::Error,
        why: "an application that takes its keys from one that has none cannot authenticate",
        hint: "name the AID of an earlier ADF whose akaParameter holds the keys itself",
        check: mappings,
    },
    Rule {
        id: "A03",
        severity: Severity::Error,
        why: "the network knows one key for a subscriber: with another one in the ISIM, IMS registration fails",
        hint: "give the ISIM the parameters of its USIM, best by mappingParameter",
        check: same_for_isim,
    },
    Rule {
        id: "A05",
        severity: Severity::Warning,
        why: "authentication fails in the field once the constants or sequence numbers of card and network differ",
        hint: "sequence numbers up to 07FFFFFFFFFF, rotations below 128, five different constants c1 to c5; or leave them out",
        check: constants,
    },
    Rule {
        id: "A07",
        severity: Severity::Warning,
        why: "what identifies one subscriber would be the same on every card made from this template",
        hint: "no order sets this value: leave it out, unless it is meant to be the same on every card",
        check: same_in_every_profile,
    },
];

const MILENAGE: u64 = 1;
const TUAK: u64 = 2;
/// The USIM test algorithm (3GPP TS 34.108 §8.1.2).
pub(super) const TEST: u64 = 3;

/// A01 E (SAIP §8.4.2): lengths by algorithm; the test algorithm ignores OPc.
fn subscriber_keys(package: &Package<'_>, report: &mut Report<'_>) {
    for (element, algo) in algo_parameters(package) {
        let len = |member| child(&algo, primitive(member)).map_or(0, |tlv| tlv.value.len());
        let (key, opc) = (len(2), len(3));
        let fits = match algorithm_id(&algo) {
            Some(MILENAGE) => key == 16 && opc == 16,
            Some(TUAK) => matches!(key, 16 | 32) && opc == 32,
            Some(TEST) => key == 16,
            _ => true,
        };
        if !fits {
            report.at(
                element,
                algo.offset,
                format!("key has {} and opc {}", counted(key, "octet"), counted(opc, "octet")),
            );
        }
    }
    for (element, mapping) in mapping_parameters(package) {
        let len = |member| child(&mapping, primitive(member)).map_or(0, |tlv| tlv.value.len());
        if len(0) != 1 || !(5..=16).contains(&len(1)) {
            let message =
                format!("mappingOptions has {}, mappingSource {}", counted(len(0), "octet"), counted(len(1), "octet"));
            report.at(element, mapping.offset, message);
        }
    }
}

fn mapping_parameters<'p, 'a>(package: &'p Package<'a>) -> impl Iterator<Item = (&'p Element<'a>, Tlv<'a>)> {
    package.of(Kind::AkaParameter).filter_map(|element| Some((element, mapping(element)?)))
}

fn mapping<'a>(aka: &Element<'a>) -> Option<Tlv<'a>> {
    aka.member(constructed(1)).and_then(|choice| child(&choice, constructed(0)))
}

/// AID of the ADF that an element creates; that of an IoT Minimal Profile is the USIM's RID and application code with the PIX of
/// the header (SAIP §8.2.1).
fn aid(package: &Package<'_>, element: &Element<'_>) -> Option<Vec<u8>> {
    if element.kind == Kind::Iot {
        let options = package.elements.first().filter(|first| first.kind == Kind::Header)?.member(constructed(9))?;
        return Some([&USIM_AID[..], child(&options, primitive(0))?.value].concat());
    }
    let adf = ["adf-usim", "adf-isim", "adf-csim"].iter().find_map(|name| element.file(name))?;
    Some(FileView::single(&adf)?.parameter(Tag(0x84))?.value.to_vec())
}

const USIM_AID: [u8; 7] = [0xA0, 0x00, 0x00, 0x00, 0x87, 0x10, 0x02];

/// Where an application has its keys from.
enum Keys {
    Own,
    Mapped,
}

/// A02 E (SAIP §8.4.1): a mapping names an earlier application that has keys itself.
fn mappings(package: &Package<'_>, report: &mut Report<'_>) {
    let mut known: HashMap<Vec<u8>, Option<Keys>> = HashMap::new();
    let mut current: Option<Vec<u8>> = None;
    for element in &package.elements {
        if element.kind.is_naa() {
            current = aid(package, element);
            known.extend(current.clone().map(|aid| (aid, None)));
        } else if element.kind == Kind::AkaParameter {
            let source = mapping(element).and_then(|mapping| child(&mapping, primitive(1)));
            if let Some(source) = source {
                let wrong = match known.get(source.value) {
                    None => Some("mappingSource is the AID of no application before it"),
                    Some(_) if current.as_deref() == Some(source.value) => Some("mappingSource is its own application"),
                    Some(None) => Some("mappingSource is an application without akaParameter"),
                    Some(Some(Keys::Mapped)) => {
                        Some("mappingSource is an application whose keys are mapped themselves")
                    }
                    Some(Some(Keys::Own)) => None,
                };
                wrong.into_iter().for_each(|wrong| report.at(element, source.offset, wrong));
            }
            let keys = if mapping(element).is_some() { Keys::Mapped } else { Keys::Own };
            if let Some(aid) = &current {
                known.insert(aid.clone(), Some(keys));
            }
        }
    }
}

/// A03 E: algorithm, keys and constants of an ISIM are those of the USIM before it, else of the first one.
fn same_for_isim(package: &Package<'_>, report: &mut Report<'_>) {
    let mut application = None;
    let (mut usims, mut isims) = (Vec::new(), Vec::new());
    for element in &package.elements {
        if element.kind.is_naa() {
            application = Some(element.kind);
        }
        let algo = element.member(constructed(1)).and_then(|choice| child(&choice, constructed(1)));
        let Some(algo) = algo.filter(|_| element.kind == Kind::AkaParameter) else { continue };
        match application {
            Some(Kind::Usim | Kind::Iot) => usims.push((element, algo)),
            Some(Kind::Isim) => isims.push((element, algo, usims.len())),
            _ => {}
        }
    }
    for (element, algo, before) in isims {
        let Some((usim, theirs)) = usims.get(before.saturating_sub(1)) else { return };
        for (number, name) in ALGO_MEMBERS {
            let of = |algo: &Tlv<'_>| child(algo, primitive(*number)).map(|tlv| tlv.value.to_vec());
            if of(&algo) != of(theirs) {
                let offset = child(&algo, primitive(*number)).map_or(algo.offset, |tlv| tlv.offset);
                report.at(element, offset, format!("{name} is not that of {}", usim.label()));
            }
        }
    }
}

/// Members of algoParameter on which card and network must agree.
const ALGO_MEMBERS: &[(u8, &str)] = &[
    (0, "algorithmID"),
    (2, "key"),
    (3, "opc"),
    (4, "rotationConstants"),
    (5, "xoringConstants"),
    (7, "numberOfKeccak"),
];

/// A05 W (3GPP TS 35.206 §4.1, TS 33.102 §C.3.2): constants of Milenage, limits of the sequence numbers.
fn constants(package: &Package<'_>, report: &mut Report<'_>) {
    for (element, algo) in algo_parameters(package) {
        let wrong = [
            child(&algo, primitive(4)).and_then(|tlv| Some((tlv.offset, wrong_rotations(tlv.value)?))),
            child(&algo, primitive(5)).and_then(|tlv| Some((tlv.offset, wrong_constants(tlv.value)?))),
            child(&algo, primitive(7)).and_then(|tlv| Some((tlv.offset, wrong_keccak(tlv.value)?))),
        ];
        wrong.into_iter().flatten().for_each(|(offset, message)| report.at(element, offset, message));
    }
    for element in package.of(Kind::AkaParameter) {
        for (number, name) in [(3, "sqnDelta"), (4, "sqnAgeLimit")] {
            if let Some(limit) = element.member(primitive(number)).filter(|limit| !is_sequence_number(limit.value)) {
                report.at(element, limit.offset, format!("{name} is not six octets up to 07FFFFFFFFFF"));
            }
        }
        let Some(list) = element.member(constructed(5)) else { continue };
        let count = children(&list).count();
        if count != SQN_ENTRIES {
            report.at(element, list.offset, format!("sqnInit has {}, not {SQN_ENTRIES}", counted(count, "entry")));
        }
        if let Some((at, sqn)) = children(&list).enumerate().find(|(_, sqn)| !is_sequence_number(sqn.value)) {
            report.at(element, sqn.offset, format!("sqnInit[{}] is not six octets up to 07FFFFFFFFFF", at + 1));
        }
    }
}

/// Places of the sequence number array: IND has five bits (SAIP §8.4.2).
const SQN_ENTRIES: usize = 32;

/// SQN without IND: 43 bits.
fn is_sequence_number(octets: &[u8]) -> bool {
    octets.len() == 6 && octets[0] <= 0x07
}

fn wrong_rotations(octets: &[u8]) -> Option<String> {
    if octets.len() != 5 {
        return Some(format!("rotationConstants has {}, not 5", counted(octets.len(), "octet")));
    }
    let at = octets.iter().position(|rotation| *rotation > 127)?;
    Some(format!("rotation constant r{} is {}, a block has 128 bits", at + 1, octets[at]))
}

fn wrong_constants(octets: &[u8]) -> Option<String> {
    if octets.len() != 80 {
        return Some(format!("xoringConstants has {}, not 80", counted(octets.len(), "octet")));
    }
    let blocks: Vec<&[u8]> = octets.chunks(16).collect();
    let pairs = (0..blocks.len()).flat_map(|one| (one + 1..blocks.len()).map(move |other| (one, other)));
    let (one, other) = pairs.into_iter().find(|(one, other)| blocks[*one] == blocks[*other])?;
    Some(format!("the constants c{} and c{} are the same", one + 1, other + 1))
}

fn wrong_keccak(octets: &[u8]) -> Option<String> {
    (unsigned(octets) == Some(0)).then(|| "numberOfKeccak is 0: TUAK would not mix at all".to_owned())
}

/// A07 W: values of one subscriber that personalisation leaves as they are, all of them CDMA's.
fn same_in_every_profile(package: &Package<'_>, report: &mut Report<'_>) {
    for element in package.of(Kind::CdmaParameter) {
        let names =
            [(3, "hrpdAccessAuthenticationData"), (4, "simpleIPAuthenticationData"), (5, "mobileIPAuthenticationData")];
        for (number, name) in names {
            if let Some(data) = element.member(primitive(number)) {
                report.at(element, data.offset, format!("{name} is the same in every profile"));
            }
        }
    }
    for element in package.of(Kind::Csim) {
        for name in ["ef-imsi-m", "ef-imsi-t"] {
            let Some(file) = element.file(name) else { continue };
            if FileView::all(&file).iter().any(|view| !view.do_not_create && !view.writes.is_empty()) {
                report.at(element, file.offset, format!("{name} is the same in every profile"));
            }
        }
    }
}
