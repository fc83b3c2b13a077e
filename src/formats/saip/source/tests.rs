use super::*;
use crate::formats::saip::kind::Kind;
use crate::formats::saip::package::Package;

const SEGMENT: usize = 1_007;

/// The smallest source, to be broken in the tests.
const SMALL: &str = r#"schema = "bindery.template/1"
description = "small"

[header]
version = "2.3"
profile_type = "small"
iccid = "89001000000000000002"
services = ["usim"]

[[element]]
[element.mf]
template = "1"
[element.mf.files]
mf = { arr = "2F 06 0E", pins = "01 0A" }
ef-iccid = { content = "98 00 01 00 00 00 00 00 00 20" }
"#;

fn size_of(name: &str) -> usize {
    build(preset(name).unwrap()).unwrap().len()
}

/// Sizes are part of the workloads' definition: octets, and segments of a bound package.
#[test]
fn presets_have_the_sizes_of_their_workloads() {
    for (name, octets, segments) in [
        ("bootstrap", 2_880..=3_520, 4),
        ("operational", 12_085..=13_091, 13),
        ("iot-minimal", 480..=620, 1),
        ("applet", 103_722..=104_728, 104),
    ] {
        let size = size_of(name);
        assert!(octets.contains(&size), "{name} has {size} octets");
        // TUAK makes OPc 16 octets longer in each of at most two akaParameters.
        assert_eq!(size.div_ceil(SEGMENT), segments, "{name}");
        assert_eq!((size + 40).div_ceil(SEGMENT), segments, "{name} with TUAK");
    }
}

#[test]
fn a_small_source_gives_these_octets() {
    let header =
        "A0 27 80 01 02 81 01 03 82 05 736D616C6C 83 0A 89001000000000000002 A5 02 81 00 A6 08 06 06 67810F010201";
    let mf = "B0 2A A0 05 80 00 81 01 01 81 06 67810F010201 A2 0B A1 09 8B 03 2F060E C6 02 010A \
        A4 0C 83 0A 98000100000000000020";
    let end = "AA 07 A0 05 80 00 81 01 02";
    let hex: String = [header, mf, end].concat().split_whitespace().collect();
    let built = data_encoding::HEXUPPER.encode(&build(SMALL).unwrap());
    assert_eq!(built, hex);
}

#[test]
fn elements_stand_in_the_order_of_the_source() {
    let der = build(preset("bootstrap").unwrap()).unwrap();
    let kinds: Vec<_> = Package::parse(&der).unwrap().elements.iter().map(|element| element.kind).collect();
    let expected = [
        Kind::Header,
        Kind::Mf,
        Kind::PukCodes,
        Kind::PinCodes,
        Kind::Telecom,
        Kind::PinCodes,
        Kind::Usim,
        Kind::OptUsim,
        Kind::PinCodes,
        Kind::AkaParameter,
        Kind::SecurityDomain,
        Kind::Rfm,
        Kind::Rfm,
        Kind::End,
    ];
    assert_eq!(kinds, expected);
}

/// Every mistake is told with its line and its key.
#[test]
fn mistakes_are_told_with_line_and_key() {
    for (from, to, line, word) in [
        ("version = \"2.3\"", "version = \"2\"", 5, "version"),
        ("version = \"2.3\"", "versoin = \"2.3\"", 5, "versoin"),
        ("bindery.template/1", "bindery.template/9", 1, "bindery.template/9"),
        ("\"usim\"", "\"usmi\"", 8, "usmi"),
        ("ef-iccid =", "ef-icicd =", 15, "ef-icicd"),
        ("template = \"1\"", "template = \"one\"", 12, "one"),
        ("content = \"98", "content = \"9G", 15, "hex"),
        ("ef-iccid = { ", "ef-iccid = { size = 9, ", 15, "10 octets are written"),
        ("ef-iccid = { ", "ef-iccid = { text = \"x\", ", 15, "exclude"),
        ("ef-iccid = { ", "ef-iccid = { colour = 1, ", 15, "colour"),
        ("[element.mf", "[element.fm", 11, "fm"),
        ("89001000000000000002", "8900100000000000000X", 7, "digits"),
        ("[header]", "extends = \"nothing\"\n[header]", 4, "nothing"),
        ("arr = \"2F 06 0E\"", "arr = \"2F 06 0E 0E\"", 14, "constraint"),
    ] {
        assert!(SMALL.contains(from), "{from}");
        let error = build(&SMALL.replace(from, to)).unwrap_err();
        assert_eq!(error.line, line, "{to}: {error}");
        assert!(error.what.to_lowercase().contains(&word.to_lowercase()), "{to}: {error}");
    }
}

#[test]
fn rows_stand_at_their_records() {
    let source = SMALL.replace(
        "ef-iccid =",
        "ef-dir = { record = 4, records = 3, rows = [\"01 02\", \"\", \"03 04 05\"] }\nef-iccid =",
    );
    let der = build(&source).unwrap();
    let package = Package::parse(&der).unwrap();
    let file = package.of(Kind::Mf).next().unwrap().file("ef-dir").unwrap();
    let view = crate::formats::saip::file::FileView::single(&file).unwrap();
    let writes: Vec<_> = view.writes.iter().map(|write| (write.at, write.content)).collect();
    assert_eq!(writes, [(0, &[1, 2][..]), (8, &[3, 4, 5])]);
    assert_eq!((view.size(), view.record_len()), (Some(12), Some(4)));
    let too_long = source.replace("03 04 05", "03 04 05 06 07");
    assert!(build(&too_long).unwrap_err().what.contains("row 3 has 5 octets"));
}

#[test]
fn a_made_up_load_block_is_the_same_every_time() {
    assert_eq!(build(preset("applet").unwrap()), build(preset("applet").unwrap()));
}
