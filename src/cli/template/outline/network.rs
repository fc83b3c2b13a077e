//! Parameters of authentication, and elements of other standards, in words (SAIP §8.4, §8.9).

use super::words::{self, hex, octets};
use super::{Facts, Members};
use crate::formats::saip::kind::{constructed, primitive};
use crate::formats::saip::package::unsigned;
use crate::formats::tlv::Tlv;

pub(super) fn aka<'a>(members: &mut Members<'a>, facts: &mut Facts<'a>) {
    if let Some(choice) = members.take(constructed(1)) {
        let mut alternatives = Members::of(&choice);
        if let Some(mapping) = alternatives.take(constructed(0)) {
            mapping_parameter(&mapping, facts);
        }
        if let Some(algorithm) = alternatives.take(constructed(1)) {
            algorithm_parameter(&algorithm, facts);
        }
        facts.unknown("algoConfiguration ", alternatives);
    }
    for (number, name, default) in
        [(2, "SQN options", "02"), (3, "SQN delta", "000010000000"), (4, "SQN age limit", "000010000000")]
    {
        match members.take(primitive(number)) {
            Some(tlv) => facts.hex(name, &tlv),
            None => facts.of_many(name, Vec::new(), format!("{default} (default)")),
        }
    }
    match members.take(constructed(5)) {
        Some(list) => {
            let initial = Members::of(&list).0;
            let set = initial.iter().filter(|sqn| sqn.value.iter().any(|octet| *octet != 0)).count();
            facts.add("SQN init", &list, format!("{} of {} counters are not zero", set, initial.len()));
        }
        None => facts.of_many("SQN init", Vec::new(), "zeros (default)"),
    }
}

fn mapping_parameter<'a>(mapping: &Tlv<'a>, facts: &mut Facts<'a>) {
    let mut members = Members::of(mapping);
    if let Some(source) = members.take(primitive(1)) {
        facts.add("algorithm", &source, format!("shared with the application {}", hex(source.value)));
    }
    if let Some(options) = members.take(primitive(0)) {
        facts.hex("mapping options", &options);
    }
    facts.unknown("mappingParameter ", members);
}

fn algorithm_parameter<'a>(algorithm: &Tlv<'a>, facts: &mut Facts<'a>) {
    let mut members = Members::of(algorithm);
    let id = members.take(primitive(0));
    let number = id.and_then(|id| unsigned(id.value));
    if let Some(id) = id {
        let name = match number {
            Some(1) => "Milenage",
            Some(2) => "TUAK",
            Some(3) => "USIM test algorithm",
            _ => "unknown algorithm",
        };
        facts.add("algorithm", &id, format!("{name} ({})", number.unwrap_or_default()));
    }
    if let Some(options) = members.take(primitive(1)) {
        facts.hex("options", &options);
    }
    let opc = if number == Some(2) { "TOPc" } else { "OPc" };
    for (member, name) in [(2, "K"), (3, opc)] {
        if let Some(secret) = members.take(primitive(member)) {
            facts.secret(name, &secret);
        }
    }
    // An operator's own constants are its secret as much as OP is.
    let own = |tlv: &Tlv<'_>| format!("the operator's own, {}, not shown", octets(tlv.value.len()));
    for (member, name) in [(4, "rotation r1-r5"), (5, "constants c1-c5")] {
        match members.take(primitive(member)) {
            Some(tlv) => facts.add(name, &tlv, own(&tlv)),
            None if number == Some(1) => facts.of_many(name, Vec::new(), "3GPP TS 35.206 (default)"),
            None => {}
        }
    }
    if let Some(max) = members.take(primitive(6)) {
        facts.hex("counter max", &max);
    }
    match members.take(primitive(7)) {
        Some(rounds) => facts.add("Keccak rounds", &rounds, unsigned(rounds.value).unwrap_or_default().to_string()),
        None if number == Some(2) => facts.of_many("Keccak rounds", Vec::new(), "1 (default)"),
        None => {}
    }
    facts.unknown("algoParameter ", members);
}

/// A-key and SSD, and the authentication data of HRPD, SIP and MIP, all of them secret.
pub(super) fn cdma<'a>(members: &mut Members<'a>, facts: &mut Facts<'a>) {
    let names = [(1, "A-key"), (2, "SSD"), (3, "HRPD access"), (4, "simple IP"), (5, "mobile IP")];
    for (member, name) in names {
        let found = members.take(primitive(member)).or_else(|| members.take(constructed(member)));
        if let Some(secret) = found {
            facts.secret(name, &secret);
        }
    }
}

pub(super) fn non_standard<'a>(members: &mut Members<'a>, facts: &mut Facts<'a>) {
    if let Some(issuer) = members.take(primitive(1)) {
        facts.add("issuer", &issuer, words::oid(issuer.value));
    }
    if let Some(content) = members.take(primitive(2)) {
        // Nobody but the issuer knows whether there are keys in it.
        facts.add("content", &content, format!("{}, not shown", octets(content.value.len())));
    }
}
