mod content;
mod files;
mod structure;
mod target;

use super::*;
use crate::formats::saip::kind::Kind;
use crate::formats::saip::source;
use crate::formats::tlv::{Tag, wrap};

fn preset(name: &str) -> &'static str {
    source::preset(name).unwrap()
}

fn elements(name: &str) -> Vec<Vec<u8>> {
    let der = source::build(preset(name)).unwrap();
    Package::parse(&der).unwrap().elements.iter().map(|element| element.tlv.whole.to_vec()).collect()
}

fn place(elements: &[Vec<u8>], kind: Kind) -> usize {
    let tag = kind.tag().unwrap();
    let first = |element: &Vec<u8>| crate::formats::tlv::Reader::new(element).peek() == Some(tag);
    elements.iter().position(first).unwrap()
}

/// A source with one text replaced, built.
fn edited(name: &str, from: &str, to: &str) -> Vec<u8> {
    let text = preset(name);
    assert!(text.contains(from), "{from:?} is not in {name}");
    source::build(&text.replacen(from, to, 1)).unwrap_or_else(|e| panic!("{from:?} -> {to:?}: {e}"))
}

/// A package with its elements rearranged.
fn rearranged(name: &str, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<u8> {
    let mut elements = elements(name);
    change(&mut elements);
    elements.concat()
}

fn moved(name: &str, kind: Kind, to: usize) -> Vec<u8> {
    rearranged(name, |elements| {
        let from = place(elements, kind);
        let element = elements.remove(from);
        elements.insert(to, element);
    })
}

fn without(name: &str, kind: Kind) -> Vec<u8> {
    rearranged(name, |elements| {
        elements.remove(place(elements, kind));
    })
}

fn twice(name: &str, kind: Kind) -> Vec<u8> {
    rearranged(name, |elements| {
        let at = place(elements, kind);
        elements.insert(at, elements[at].clone());
    })
}

/// The bytes `from` of a built preset become `to`, of the same length.
fn patched(name: &str, from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut der = elements(name).concat();
    let at = der.windows(from.len()).position(|window| window == from).unwrap();
    der[at..at + to.len()].copy_from_slice(to);
    der
}

/// What these rules say.
fn told(der: &[u8], rules: &[&str]) -> Vec<String> {
    let findings = lint(der).findings.into_iter().filter(|finding| rules.contains(&finding.rule));
    findings.map(|finding| format!("{} {}: {}", finding.rule, finding.path, finding.message)).collect()
}

/// For each rule, packages in which it must fire.
fn offenders() -> Vec<(&'static str, Vec<u8>)> {
    [general_offenders(), structure::offenders(), files::offenders(), content::offenders()].concat()
}

fn general_offenders() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("D01", b"{\"not\":\"DER\"}".to_vec()),
        ("D01", Vec::new()),
        ("D01", elements("bootstrap").concat()[..100].to_vec()),
        // An integer with a leading zero octet, in the place of a PIN attribute and its attempts.
        (
            "D02",
            rearranged("iot-minimal", |elements| {
                elements.insert(
                    2,
                    vec![
                        0xA3, 0x18, 0xA0, 0x04, 0x81, 0x02, 0x00, 0x09, 0xA1, 0x10, 0x30, 0x0E, 0x80, 0x02, 0x00, 0x01,
                        0x81, 0x08, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30,
                    ],
                )
            }),
        ),
        ("D02", patched("bootstrap", &[0x80, 0x02, 0x01, 0xF4], &[0x80, 0x02, 0x00, 0xF4])),
        ("D03", rearranged("bootstrap", |elements| elements.insert(3, vec![0xBF, 0x7E, 0x02, 0x80, 0x00]))),
        ("D03", patched("bootstrap", &[0xA3, 0x28, 0xA0, 0x05], &[0xA3, 0x28, 0xA9, 0x05])),
        ("H01", without("bootstrap", Kind::Header)),
        ("H01", without("bootstrap", Kind::End)),
        ("H01", moved("bootstrap", Kind::End, 3)),
        ("H01", twice("bootstrap", Kind::Header)),
        ("H03", patched("bootstrap", &[0x89, 0x00, 0x10], &[0x89, 0x0F, 0x10])),
        ("H04", patched("bootstrap", &[0x98, 0x00, 0x01], &[0x98, 0x10, 0x01])),
        ("H05", patched("bootstrap", &[0x89, 0x00, 0x10], &[0x89, 0x00, 0x20])),
        ("H06", edited("bootstrap", "services = [\"usim\", ", "services = [")),
        ("H06", edited("bootstrap", "services = [\"usim\", ", "services = [\"usim\", \"csim\", ")),
        ("H07", edited("bootstrap", "services = [\"usim\", \"milenage\"]", "services = [\"usim\"]")),
        ("H07", edited("bootstrap", "services = [\"usim\"", "services = [\"tuak128\", \"usim\"")),
        ("H09", edited("applet", "\"javacard\", ", "")),
        (
            "H09",
            edited(
                "operational",
                "size = 17\narr = \"6F 06 02\"\nsfi = 4\ncontent = \"",
                "size = 17\narr = \"6F 06 02\"\nsfi = 4\ncontent = \"FF FF FF FF FF FF FF FF FF FF FF FF FF FF FF FF FF\" #",
            ),
        ),
        (
            "H10",
            edited(
                "bootstrap",
                "key = \"00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\"",
                "key = \"00 01 02 03 04 05 06 07 08 09 0A 0B 0C 0D 0E 0F\"",
            ),
        ),
        ("I01", twice("bootstrap", Kind::Rfm)),
        (
            "I01",
            patched(
                "bootstrap",
                &[0xAA, 0x07, 0xA0, 0x05, 0x80, 0x00, 0x81, 0x01],
                &[0xAA, 0x07, 0xA0, 0x05, 0x80, 0x00, 0x82, 0x01],
            ),
        ),
        ("O01", twice("bootstrap", Kind::Mf)),
        ("O01", without("bootstrap", Kind::Mf)),
        ("O01", without("iot-minimal", Kind::Iot)),
        ("O02", twice("bootstrap", Kind::PukCodes)),
        ("O02", moved("bootstrap", Kind::PukCodes, 4)),
        ("O03", twice("operational", Kind::Df5gs)),
        ("O03", moved("operational", Kind::OptUsim, 2)),
        ("O04", twice("operational", Kind::OptIsim)),
        ("O04", moved("operational", Kind::OptIsim, 5)),
        ("O05", without("bootstrap", Kind::AkaParameter)),
        ("O05", moved("bootstrap", Kind::AkaParameter, 2)),
        ("O06", moved("bootstrap", Kind::Rfm, 9)),
        ("O06", without("bootstrap", Kind::SecurityDomain)),
        ("P01", edited("bootstrap", "value = \"30 30 30 30 FF FF FF FF\"", "value = \"30 30 FF FF FF FF FF FF\"")),
        (
            "P01",
            edited(
                "bootstrap",
                "reference = 129, value = \"30 30 30 30 30 30 30 30\"",
                "reference = 129, value = \"30 30 30 30 30 30 30 FF\"",
            ),
        ),
        ("P02", edited("bootstrap", "puk = 129", "puk = 130")),
        ("P03", edited("bootstrap", "{ reference = 10,", "{ reference = 1,")),
        ("P03", edited("bootstrap", "{ reference = 10,", "{ reference = 129,")),
        ("P03", edited("bootstrap", "[{ reference = 129,", "[{ reference = 2,")),
        ("P03", twice("bootstrap", Kind::PinCodes)),
        ("A01", edited("bootstrap", "opc = \"00 ", "opc = \"")),
        ("S01", edited("bootstrap", "{ version = 1, id = 3,", "{ version = 1, id = 2,")),
        ("S02", edited("bootstrap", "{ version = 1, id = 3,", "{ version = 2, id = 3,")),
        ("S02", patched("bootstrap", &[0x80, 0x01, 0x88, 0x86, 0x10], &[0x80, 0x01, 0x80, 0x87, 0x10])),
        ("R01", edited("bootstrap", "tars = [\"B0 00 20\"]", "tars = [\"B0 00 10\"]")),
        ("R01", edited("bootstrap", "tars = [\"B0 00 20\"]", "tars = [\"B0 00\"]")),
        (
            "R01",
            edited(
                "bootstrap",
                "security_domain = \"A0 00 00 01 51 00 00 00\"",
                "security_domain = \"A0 00 00 01 51 00 00 01\"",
            ),
        ),
        ("R01", edited("bootstrap", "adf = { aid = \"A0 00", "adf = { aid = \"A1 00")),
        ("U01", edited("bootstrap", "content = \"08 09 10", "content = \"08 01 10")),
        ("U01", edited("iot-minimal", "content = \"08 09 10", "content = \"07 09 10")),
        ("U02", edited("bootstrap", "content = \"00 00 00 02\"", "content = \"00 00 00 04\"")),
        ("U03", edited("bootstrap", "content = \"00 01\"", "content = \"00 02\"")),
        ("U03", edited("bootstrap", "content = \"00 01\"", "content = \"04 01\"")),
        ("U03", edited("bootstrap", "content = \"00 01\"", "content = \"00 03\"")),
        ("F01", edited("bootstrap", "pins = \"01 0A\" }", "}")),
        ("F01", edited("bootstrap", "ef-imsi = { fid", "ef-imsi = { pins = \"01\", fid")),
        ("F03", patched("bootstrap", &[0x82, 0x04, 0x42, 0x21, 0x00, 0x1A], &[0x82, 0x04, 0x42, 0x21, 0x00, 0x1B])),
        (
            "A07",
            rearranged("bootstrap", |elements| {
                let end = elements.len() - 1;
                // An A-key and three octets of simple IP data.
                let mut cdma = vec![0xA5, 0x14, 0xA0, 0x03, 0x81, 0x01, 0x70, 0x81, 0x08];
                cdma.extend([0x11; 8]);
                cdma.extend([0x84, 0x03, 1, 2, 3]);
                elements.insert(end, cdma);
            }),
        ),
        ("F09", include_bytes!("../../../../../test-vectors/bad/saip/size-of-4-gb.der").to_vec()),
        ("Z01", edited("applet", "load_block_fill_bytes = 92160", "load_block_fill_bytes = 300000")),
    ]
}

#[test]
fn every_rule_fires_where_it_must() {
    let mut silent = Vec::new();
    for (at, (rule, der)) in offenders().into_iter().enumerate() {
        let lint = lint(&der);
        if !lint.findings.iter().any(|finding| finding.rule == rule) {
            silent.push((at, rule, lint.findings));
        } else {
            assert!(lint.findings.iter().all(|finding| finding.offset <= der.len()));
            assert!(lint.findings.iter().all(|finding| !finding.path.is_empty() && !finding.why.is_empty()));
        }
    }
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn hostile_templates_are_errors() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("test-vectors/bad/saip");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "der")).collect();
    assert_eq!(files.len(), 3);
    for path in files {
        let lint = lint(&std::fs::read(&path).unwrap());
        assert!(lint.has_errors(), "{}", path.display());
        assert!(lint.findings.iter().any(|finding| finding.rule == "F09"), "{}: {:?}", path.display(), lint.findings);
    }
}

#[test]
fn every_rule_has_an_offender() {
    let all = [offenders(), content::offenders_in_production()].concat();
    let tested: Vec<_> = all.into_iter().map(|(rule, _)| rule).collect();
    for rule in rules() {
        assert!(tested.contains(&rule.id), "no test makes {} fire", rule.id);
    }
}

#[test]
fn the_presets_are_clean() {
    for (name, text) in source::PRESETS {
        let lint = lint(&source::build(text).unwrap());
        assert_eq!(lint.findings, [], "{name}");
        assert_eq!(lint.rules_run, rules().count() + 1);
    }
}

#[test]
fn severities_are_words_in_json() {
    let lint = lint(b"junk");
    let json = serde_json::to_value(&lint).unwrap();
    assert_eq!(json["rules_run"], 1);
    assert_eq!(json["findings"][0]["rule"], "D01");
    assert_eq!(json["findings"][0]["severity"], "error");
    assert_eq!(json["findings"][0]["offset"], 0);
}

proptest::proptest! {
    #[test]
    fn a_damaged_template_costs_findings_at_most(at in 0..3_000_usize, value in proptest::prelude::any::<u8>()) {
        let mut der = elements("bootstrap").concat();
        let at = at % der.len();
        der[at] = value;
        let _ = lint(&der);
    }
}
