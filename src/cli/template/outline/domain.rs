//! Security domains, RFM and applications in words (SAIP §8.6 to §8.8, GlobalPlatform 2.3.1).

use std::collections::BTreeMap;

use super::words::{self, hex, octets};
use super::{Facts, Members};
use crate::formats::saip::kind::{constructed, primitive};
use crate::formats::saip::package::{child, children};
use crate::formats::saip::toolkit::Toolkit;
use crate::formats::tlv::{Reader, Tag, Tlv};

const AID: Tag = Tag(0x4F);
const OCTET_STRING: Tag = Tag(0x04);
const SEQUENCE: Tag = Tag(0x30);

pub(super) fn security_domain<'a>(members: &mut Members<'a>, facts: &mut Facts<'a>) {
    if let Some(tlv) = members.take(constructed(1)) {
        instance("", &tlv, facts);
    }
    if let Some(list) = members.take(constructed(2)) {
        keys(&list, facts);
    }
    if let Some(list) = members.take(constructed(3)) {
        for data in children(&list) {
            let name = match data.value {
                [high, low, ..] => format!("perso DGI {}", hex(&[*high, *low])),
                _ => "perso data".to_owned(),
            };
            facts.add(name, &data, format!("{}, not shown", octets(data.value.len())));
        }
    }
    if let Some(data) = members.take(constructed(4)) {
        for (member, name) in [(primitive(0), "restrict"), (primitive(1), "contactless")] {
            if let Some(tlv) = child(&data, member) {
                facts.add(format!("open perso {name}"), &tlv, words::some_hex(tlv.value, 32));
            }
        }
        if children(&data).next().is_none() {
            facts.add("open perso data", &data, "empty");
        }
    }
    if let Some(parameters) = members.take(constructed(5)) {
        facts.add("CAT-TP", &parameters, words::some_hex(parameters.value, 32));
    }
}

/// One line a key set: `KVN 01 (SCP80)  KIC KID KIK AES-128, placeholders`.
fn keys<'a>(list: &Tlv<'a>, facts: &mut Facts<'a>) {
    let mut sets: BTreeMap<u8, Vec<Tlv<'a>>> = BTreeMap::new();
    for object in children(list) {
        let version = child(&object, primitive(3)).and_then(|tlv| tlv.value.first().copied());
        sets.entry(version.unwrap_or_default()).or_default().push(object);
    }
    for (version, objects) in sets {
        let (purpose, roles) = words::key_set(version);
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        let mut are_placeholders = true;
        for object in &objects {
            let id = child(object, primitive(2)).and_then(|tlv| tlv.value.first().copied()).unwrap_or_default();
            let role = usize::from(id).checked_sub(1).and_then(|at| roles.get(at)).filter(|role| !role.is_empty());
            let role = role.map_or_else(|| format!("key {id:02X}"), |role| (*role).to_owned());
            let components = child(object, SEQUENCE);
            for component in components.iter().flat_map(children) {
                let data = child(&component, primitive(6)).map(|tlv| tlv.value).unwrap_or_default();
                are_placeholders &= data.iter().all(|octet| *octet == 0);
                let key_type = child(&component, primitive(0)).and_then(|tlv| tlv.value.first().copied());
                let form = words::key_type(key_type, data.len());
                match groups.last_mut().filter(|(last, _)| *last == form) {
                    Some((_, names)) => names.push(role.clone()),
                    None => groups.push((form, vec![role.clone()])),
                }
            }
        }
        let groups: Vec<_> = groups.iter().map(|(form, names)| format!("{} {form}", names.join(" "))).collect();
        let state = if are_placeholders { "placeholders (zeros)" } else { "values not shown" };
        let purpose = if purpose.is_empty() { String::new() } else { format!(" {purpose}") };
        let raw = objects.iter().map(|object| object.whole).collect();
        facts.of_many(format!("KVN {version:02X}{purpose}"), raw, format!("{}; {state}", groups.join(", ")));
    }
}

/// An ApplicationInstance; `name` goes before each of its facts.
fn instance<'a>(name: &str, tlv: &Tlv<'a>, facts: &mut Facts<'a>) {
    let mut members = Members::of(tlv);
    // Four members have the tag 4F: their place tells them apart. The one people look for goes first.
    let aids: Vec<_> = (0..4).map_while(|_| members.take(AID)).collect();
    let places = [(2, "AID"), (0, "package AID"), (1, "class AID"), (3, "security domain")];
    for (aid, what) in places.iter().filter_map(|(at, what)| Some((aids.get(*at)?, what))) {
        facts.hex(format!("{name}{what}"), aid);
    }
    if let Some(privileges) = members.take(primitive(2)) {
        facts.add(format!("{name}privileges"), &privileges, words::privileges(privileges.value));
    }
    if let Some(state) = members.take(primitive(3)) {
        let word = match state.value {
            [0x03] => "installed",
            [0x07] => "selectable",
            [0x0F] => "personalized",
            [0x83 | 0x87 | 0x8F] => "locked",
            _ => "application specific",
        };
        facts.add(format!("{name}life cycle"), &state, format!("{} {word}", hex(state.value)));
    }
    if let Some(parameters) = members.take(Tag(0xC9)) {
        facts.add(format!("{name}parameters"), &parameters, install_parameters(parameters.value));
    }
    if let Some(parameters) = members.take(Tag(0xEF)) {
        facts.add(format!("{name}system"), &parameters, words::some_hex(parameters.value, 32));
    }
    if let Some(uicc) = members.take(Tag(0xEA)) {
        uicc_parameters(name, &uicc, facts);
    }
    if let Some(data) = members.take(SEQUENCE) {
        let commands: Vec<_> = children(&data).collect();
        let size = commands.iter().map(|command| command.value.len()).sum();
        let what = format!("{} commands, {}, not shown", commands.len(), octets(size));
        facts.add(format!("{name}process data"), &data, what);
    }
    facts.unknown(name, members);
}

/// Secure channel protocols of a security domain, else octets.
fn install_parameters(octets: &[u8]) -> String {
    let mut reader = Reader::new(octets);
    let mut protocols = Vec::new();
    while let Ok(Some(tlv)) = reader.next_tlv() {
        match (tlv.tag, tlv.value) {
            (Tag(0x81 | 0x82), [protocol, option]) => protocols.push(format!("SCP{protocol:02X} i={option:02X}")),
            _ => return words::some_hex(octets, 32),
        }
    }
    if protocols.is_empty() { words::some_hex(octets, 32) } else { protocols.join(", ") }
}

fn uicc_parameters<'a>(name: &str, uicc: &Tlv<'a>, facts: &mut Facts<'a>) {
    let mut members = Members::of(uicc);
    if let Some(toolkit) = members.take(primitive(0)) {
        let what = toolkit_parameters(toolkit.value).unwrap_or_else(|| words::some_hex(toolkit.value, 32));
        facts.add(format!("{name}toolkit"), &toolkit, what);
    }
    for (member, what) in [(1, "access"), (2, "admin access")] {
        if let Some(tlv) = members.take(primitive(member)) {
            facts.hex(format!("{name}{what}"), &tlv);
        }
    }
    facts.unknown(name, members);
}

/// TARs and minimum security level.
fn toolkit_parameters(octets: &[u8]) -> Option<String> {
    let toolkit = Toolkit::read(octets)?;
    let tars: Vec<_> = toolkit.references.chunks(3).map(hex).collect();
    let level = match (toolkit.least_spi(), toolkit.security_level) {
        (Some(spi), _) => format!("MSL {}", words::security_level(spi)),
        (None, []) => "no MSL".to_owned(),
        (None, other) => format!("MSL {}", hex(other)),
    };
    Some(format!("TAR {}, {level}", tars.join(" ")))
}

pub(super) fn rfm<'a>(members: &mut Members<'a>, facts: &mut Facts<'a>) {
    // The PE header, which has the tag of the TAR list, was taken before.
    let aids = [members.take(AID), members.take(AID)];
    for (aid, name) in aids.iter().zip(["AID", "security domain"]) {
        if let Some(aid) = aid {
            facts.hex(name, aid);
        }
    }
    match (members.take(constructed(0)), &aids[0]) {
        (Some(list), _) => {
            let tars: Vec<_> = children(&list).map(|tar| hex(tar.value)).collect();
            facts.add("TAR", &list, tars.join(" "));
        }
        (None, Some(aid)) if aid.value.len() >= 15 => {
            facts.of_many("TAR", Vec::new(), format!("{} (from the AID)", hex(&aid.value[12..15])));
        }
        _ => facts.of_many("TAR", Vec::new(), "none"),
    }
    if let Some(level) = members.take(primitive(1)) {
        let what = level.value.first().map(|octet| words::security_level(*octet)).unwrap_or_default();
        facts.add("MSL", &level, what);
    }
    for name in ["access domain", "admin domain"] {
        if let Some(domain) = members.take(OCTET_STRING) {
            facts.hex(name, &domain);
        }
    }
    if let Some(access) = members.take(SEQUENCE) {
        let parts = children(&access).map(|tlv| hex(tlv.value)).zip(["", "access ", "admin "]);
        facts.add("ADF", &access, parts.map(|(value, word)| format!("{word}{value}")).collect::<Vec<_>>().join(", "));
    }
}

pub(super) fn application<'a>(members: &mut Members<'a>, facts: &mut Facts<'a>) {
    if let Some(block) = members.take(constructed(1)) {
        let mut inside = Members::of(&block);
        for name in ["package AID", "security domain"] {
            if let Some(aid) = inside.take(AID) {
                facts.hex(name, &aid);
            }
        }
        for (tag, name) in [(0xC6, "code limit"), (0xC7, "volatile limit"), (0xC8, "data limit")] {
            if let Some(limit) = inside.take(Tag(tag)) {
                facts.hex(name, &limit);
            }
        }
        if let Some(hash) = inside.take(Tag(0xC1)) {
            facts.hex("hash", &hash);
        }
        if let Some(object) = inside.take(Tag(0xC4)) {
            facts.add("load block", &object, octets(object.value.len()));
        }
        facts.unknown("load block ", inside);
    }
    if let Some(list) = members.take(constructed(2)) {
        for (at, tlv) in children(&list).enumerate() {
            instance(&format!("instance {} ", at + 1), &tlv, facts);
        }
    }
}
