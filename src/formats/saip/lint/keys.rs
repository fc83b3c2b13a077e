//! Keys and who may use them: A01, A07, S01, S02, R01.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::services::{algo_parameters, algorithm_id};
use super::structure::element_files;
use super::{Report, Rule, Severity};
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::{Kind, constructed, primitive};
use crate::formats::saip::package::{Element, Package, child, children};
use crate::formats::tlv::{Tag, Tlv};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "A01",
        severity: Severity::Error,
        why: "",
        hint: "Milenage: K 16, OPc 16 octets; TUAK: K 16 or 32, TOPc 32",
        check: subscriber_keys,
    },
    Rule {
        id: "A07",
        severity: Severity::Warning,
        why: "",
        hint: "no order sets this value: leave it out, unless it is meant to be the same on every card",
        check: same_in_every_profile,
    },
    Rule {
        id: "S01",
        severity: Severity::Error,
        why: "",
        hint: "give each key of a security domain its own version and id",
        check: unique_keys,
    },
    Rule {
        id: "S02",
        severity: Severity::Error,
        why: "",
        hint: "DES 16 or 24, AES 16, 24 or 32 octets; SCP80 needs the ids 1, 2 and 3, SCP81 a PSK",
        check: key_sets,
    },
    Rule {
        id: "R01",
        severity: Severity::Error,
        why: "",
        hint: "give each RFM its own TARs of three octets, an ADF of this package and a defined security domain",
        check: remote_file_management,
    },
];

const DES: u8 = 0x80;
const TLS_PSK: u8 = 0x85;
const AES: u8 = 0x88;

/// A01 E (SAIP §8.4.2): lengths by algorithm; the test algorithm ignores OPc.
fn subscriber_keys(package: &Package<'_>, report: &mut Report<'_>) {
    for (element, algo) in algo_parameters(package) {
        let len = |member| child(&algo, primitive(member)).map_or(0, |tlv| tlv.value.len());
        let (key, opc) = (len(2), len(3));
        let fits = match algorithm_id(&algo) {
            Some(1) => key == 16 && opc == 16,
            Some(2) => matches!(key, 16 | 32) && opc == 32,
            Some(3) => key == 16,
            _ => true,
        };
        if !fits {
            report.at(element, algo.offset, format!("key has {key} and opc {opc} octets"));
        }
    }
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

struct Key<'a> {
    tlv: Tlv<'a>,
    version: u8,
    id: u8,
    /// Type and length of each component.
    components: Vec<(u8, usize)>,
}

fn keys<'a>(domain: &Element<'a>) -> Vec<Key<'a>> {
    let octet = |tlv: &Tlv<'_>, member| child(tlv, primitive(member)).and_then(|tlv| tlv.value.first().copied());
    let component = |tlv: Tlv<'_>| {
        (octet(&tlv, 0).unwrap_or_default(), child(&tlv, primitive(6)).map_or(0, |data| data.value.len()))
    };
    let key = |tlv: Tlv<'a>| Key {
        tlv,
        version: octet(&tlv, 3).unwrap_or_default(),
        id: octet(&tlv, 2).unwrap_or_default(),
        components: child(&tlv, Tag(0x30)).iter().flat_map(children).map(component).collect(),
    };
    domain.member(constructed(2)).iter().flat_map(children).map(key).collect()
}

/// S01 E (SAIP §8.6.3): (version, id) unique in a domain, a component type once in a key.
fn unique_keys(package: &Package<'_>, report: &mut Report<'_>) {
    for domain in package.of(Kind::SecurityDomain) {
        let mut seen = HashSet::new();
        for key in keys(domain) {
            let Key { version, id, .. } = key;
            if !seen.insert((version, id)) {
                report.at(domain, key.tlv.offset, format!("key {version:02X}/{id:02X} is there twice"));
            }
            let types: HashSet<u8> = key.components.iter().map(|(key_type, _)| *key_type).collect();
            if types.len() != key.components.len() {
                report.at(domain, key.tlv.offset, format!("key {version:02X}/{id:02X} has two components of one type"));
            }
        }
    }
}

/// S02 E: lengths by type, complete key sets.
fn key_sets(package: &Package<'_>, report: &mut Report<'_>) {
    for domain in package.of(Kind::SecurityDomain) {
        let mut sets: BTreeMap<u8, BTreeSet<u8>> = BTreeMap::new();
        let mut with_psk = HashSet::new();
        for key in keys(domain) {
            sets.entry(key.version).or_default().insert(key.id);
            for (key_type, len) in &key.components {
                let fits = match *key_type {
                    DES => matches!(len, 16 | 24),
                    AES => matches!(len, 16 | 24 | 32),
                    TLS_PSK => *len >= 16,
                    _ => true,
                };
                if *key_type == TLS_PSK {
                    with_psk.insert(key.version);
                }
                if !fits {
                    let message =
                        format!("key {:02X}/{:02X} of type {key_type:02X} has {len} octets", key.version, key.id);
                    report.at(domain, key.tlv.offset, message);
                }
            }
        }
        for (version, ids) in &sets {
            if (0x01..=0x0F).contains(version) && ![1, 2, 3].iter().all(|id| ids.contains(id)) {
                report.on(domain, format!("SCP80 key set {version:02X} lacks one of the ids 1, 2 and 3"));
            }
            if (0x40..=0x4F).contains(version) && !with_psk.contains(version) {
                report.on(domain, format!("SCP81 key set {version:02X} has no PSK"));
            }
        }
    }
}

/// R01 E (SAIP §8.8): TARs, ADF and security domain of each RFM instance.
fn remote_file_management(package: &Package<'_>, report: &mut Report<'_>) {
    let adfs: HashSet<&[u8]> = package
        .elements
        .iter()
        .flat_map(element_files)
        .filter_map(|file| file.parameter(Tag(0x84)).map(|name| name.value))
        .collect();
    let domains: HashSet<&[u8]> = package
        .of(Kind::SecurityDomain)
        .filter_map(|domain| domain.member(constructed(1)))
        .filter_map(|instance| children(&instance).filter(|tlv| tlv.tag == Tag(0x4F)).nth(2))
        .map(|aid| aid.value)
        .collect();
    let mut tars = HashSet::new();
    for element in package.of(Kind::Rfm) {
        // Two A0 and two 4F: the first A0 is the PE header, the second the list of TARs.
        let lists = children(&element.tlv).filter(|tlv| tlv.tag == Tag(0xA0)).skip(1);
        for tar in lists.flat_map(|list| children(&list)) {
            if tar.value.len() != 3 {
                report.at(element, tar.offset, format!("a TAR has {} octets", tar.value.len()));
            } else if !tars.insert(tar.value) {
                report.at(element, tar.offset, "the TAR is taken by an earlier RFM");
            }
        }
        let aids: Vec<_> = children(&element.tlv).filter(|tlv| tlv.tag == Tag(0x4F)).collect();
        if let Some(domain) = aids.get(1).filter(|aid| !domains.contains(aid.value)) {
            report.at(element, domain.offset, "its security domain is not defined in this package");
        }
        let access = child(&element.tlv, Tag(0x30)).and_then(|access| child(&access, primitive(0)));
        if let Some(adf) = access.filter(|adf| !adfs.contains(adf.value)) {
            report.at(element, adf.offset, "its ADF is not in this package");
        }
    }
}
