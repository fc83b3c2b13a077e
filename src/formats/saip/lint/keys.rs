//! Keys of security domains: S01 to S03, S05 (SAIP §8.6; GlobalPlatform Card Specification 2.3 §11.8, ETSI TS 102 226 §8.2).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Report, Rule, Severity};
use crate::formats::saip::kind::{Kind, constructed, primitive};
use crate::formats::saip::package::{Element, Package, child, children};
use crate::formats::saip::toolkit::Toolkit;
use crate::formats::tlv::{Reader, Tag, Tlv};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "S01",
        severity: Severity::Error,
        why: "the eUICC refuses the second key, or replaces the first by it without a word",
        hint: "give each key of a security domain its own version and id",
        check: unique_keys,
    },
    Rule {
        id: "S02",
        severity: Severity::Error,
        why: "the eUICC refuses the key, or the OTA server never gets a secured packet through",
        hint: "DES 16 or 24, AES 16, 24 or 32 octets; SCP80 needs the ids 1, 2 and 3, SCP81 a PSK; ENC and DEK keys encipher, MAC keys check",
        check: key_sets,
    },
    Rule {
        id: "S03",
        severity: Severity::Error,
        why: "the OTA server cannot open a secure channel that the domain does not speak, or for which it has no keys",
        hint: "list tag 81 with SCP and i in the C9 parameters for each key set: 80 for versions 01-0F, 02 for 20-2F, 03 for 30-3F, 81 for 40-4F",
        check: protocols,
    },
    Rule {
        id: "S05",
        severity: Severity::Warning,
        why: "whoever breaks a short DES key, or sends an unsecured packet, writes files and applets of every such card",
        hint: "use AES keys, and a minimum security level with a cryptographic checksum and ciphering, such as 16",
        check: weak_protection,
    },
];

const DES: u8 = 0x80;
const TLS_PSK: u8 = 0x85;
const AES: u8 = 0x88;

struct Key<'a> {
    tlv: Tlv<'a>,
    version: u8,
    id: u8,
    /// Key usage qualifier (GlobalPlatform Card Specification 2.3 §11.1.9).
    usage: u8,
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
        usage: child(&tlv, Tag(0x95)).and_then(|tlv| tlv.value.first().copied()).unwrap_or_default(),
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

/// S02 E: lengths by type, complete key sets, usage by role.
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
            if let Some(role) = role_denied(&key) {
                let Key { version, id, usage, .. } = key;
                report.at(domain, key.tlv.offset, format!("key {version:02X}/{id:02X}: usage {usage:02X} {role}"));
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

/// What the usage of a symmetric key does not allow although its place in the key set asks for it.
fn role_denied(key: &Key<'_>) -> Option<&'static str> {
    const CIPHERS: u8 = 0x08;
    const CHECKS: u8 = 0x04;
    let is_symmetric = key.components.iter().all(|(key_type, _)| matches!(*key_type, DES | AES));
    if !is_symmetric || !matches!(key.version, 0x01..=0x0F | 0x20..=0x3F) {
        return None;
    }
    match key.id {
        1 if key.usage & CIPHERS == 0 => Some("does not let the ENC key encipher"),
        2 if key.usage & CHECKS == 0 => Some("does not let the MAC key make checksums"),
        3 if key.usage & CIPHERS == 0 => Some("does not let the DEK key encipher"),
        _ => None,
    }
}

/// The secure channel protocol that a key version is for.
fn protocol_of(version: u8) -> Option<u8> {
    match version {
        0x01..=0x0F => Some(0x80),
        0x20..=0x2F => Some(0x02),
        0x30..=0x3F => Some(0x03),
        0x40..=0x4F => Some(0x81),
        _ => None,
    }
}

/// Tags 81 of the install parameters: pairs of protocol and i.
fn listed_protocols(instance: &Tlv<'_>) -> Vec<u8> {
    let Some(parameters) = child(instance, Tag(0xC9)) else { return Vec::new() };
    let mut reader = Reader::new(parameters.value);
    let tlvs = std::iter::from_fn(|| reader.next_tlv().ok().flatten());
    tlvs.filter(|tlv| tlv.tag == Tag(0x81)).flat_map(|tlv| tlv.value.chunks(2).map(|pair| pair[0])).collect()
}

/// S03 E: the protocols that the install parameters list are those of the key sets. A domain that is not personalised yet may list
/// more; one that lists nothing takes what the eUICC gives it.
fn protocols(package: &Package<'_>, report: &mut Report<'_>) {
    for domain in package.of(Kind::SecurityDomain) {
        let Some(instance) = domain.member(constructed(1)) else { continue };
        let listed = listed_protocols(&instance);
        if listed.is_empty() {
            continue;
        }
        let offset = child(&instance, Tag(0xC9)).map_or(instance.offset, |parameters| parameters.offset);
        let mut served: BTreeMap<u8, u8> = BTreeMap::new();
        for key in keys(domain) {
            served.extend(protocol_of(key.version).map(|protocol| (protocol, key.version)));
        }
        for (protocol, version) in served.iter().filter(|(protocol, _)| !listed.contains(protocol)) {
            report.at(domain, offset, format!("key set {version:02X} is for SCP{protocol:02X}, which is not listed"));
        }
        let unserved: BTreeSet<u8> = listed.into_iter().filter(|protocol| !served.contains_key(protocol)).collect();
        let with_own_versions = |protocol: &&u8| matches!(protocol, 0x02 | 0x03 | 0x80 | 0x81);
        for protocol in unserved.iter().filter(with_own_versions).filter(|_| is_personalised(&instance)) {
            report.at(domain, offset, format!("SCP{protocol:02X} is listed, but no key set is for it"));
        }
    }
}

/// The life cycle state of the instance is PERSONALIZED (GlobalPlatform Card Specification 2.3 §11.1.1).
pub(super) fn is_personalised(instance: &Tlv<'_>) -> bool {
    child(instance, Tag(0x83)).is_some_and(|state| state.value == [0x0F])
}

/// S05 W: DES keys of 8 or 16 octets; packets that need no security.
fn weak_protection(package: &Package<'_>, report: &mut Report<'_>) {
    for domain in package.of(Kind::SecurityDomain) {
        for key in keys(domain) {
            let Key { version, id, .. } = key;
            if key.components.iter().any(|(key_type, len)| *key_type == DES && *len <= 16) {
                report.at(domain, key.tlv.offset, format!("key {version:02X}/{id:02X} is DES with one or two keys"));
            }
        }
        let Some(instance) = domain.member(constructed(1)) else { continue };
        if let Some((offset, _)) = toolkit(&instance).filter(|(_, toolkit)| toolkit.least_spi() == Some(0)) {
            report.at(domain, offset, "packets for this security domain need no security (minimum level 00)");
        }
    }
    for element in package.of(Kind::Rfm) {
        if let Some(level) = element.member(primitive(1)).filter(|level| level.value.iter().all(|octet| *octet == 0)) {
            report.at(element, level.offset, "packets for these files need no security (minimumSecurityLevel 00)");
        }
    }
}

/// Toolkit parameters of an instance, and where they stand.
pub(super) fn toolkit<'a>(instance: &Tlv<'a>) -> Option<(usize, Toolkit<'a>)> {
    let field = child(&child(instance, Tag(0xEA))?, primitive(0))?;
    Some((field.offset, Toolkit::read(field.value)?))
}
