use super::*;
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::Kind;
use crate::formats::saip::package::{Package, children};
use crate::formats::saip::{ef, types};
use crate::formats::tlv::Tag;

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
fn a_key_with_a_mistake_in_it_is_not_repeated() {
    let key = "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00";
    for (wrong, word) in
        [("\"5A5A5A5A 5A5A5A5\"", "hex"), ("\"5A5A5A5A xx\"", "hex"), ("535453545354", "quotation marks")]
    {
        let text = preset("bootstrap").unwrap().replacen(&format!("key = \"{key}\""), &format!("key = {wrong}"), 1);
        let error = build(&text).unwrap_err();
        assert!(error.what.contains(word) && error.line > 1, "{error}");
        assert!(!error.what.contains("5A5A") && !error.what.contains("5354"), "{error}");
    }
    let source: super::schema::Source =
        toml::from_str(&preset("bootstrap").unwrap().replacen(key, &"5A".repeat(16), 1)).unwrap();
    let shown = format!("{source:?}");
    assert!(shown.contains("Hex(16 octets)") && !shown.contains("90, 90"), "{shown}");
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

/// A source on top of a preset.
fn on(preset: &str, rest: &str) -> String {
    format!(
        "schema = \"{SCHEMA}\"\ndescription = \"x\"\nextends = \"{preset}\"\n[header]\nversion = \"2.3\"\nprofile_type = \"x\"\n\
         iccid = \"89001000000000000002\"\nservices = [\"usim\", \"milenage\"]\n{rest}"
    )
}

fn file_of<'a>(package: &Package<'a>, kind: Kind, name: &str) -> FileView<'a> {
    FileView::single(&package.of(kind).next().unwrap().file(name).unwrap()).unwrap()
}

#[test]
fn a_patch_replaces_the_files_it_names_and_leaves_the_others() {
    let text = on(
        "bootstrap",
        "[[patch]]\n[patch.usim.files]\nef-spn = { size = 17, arr = \"6F 06 0A\", value = \"Acme\" }\nef-fdn = { remove = true }\n",
    );
    let (old, new) = (build(preset("bootstrap").unwrap()).unwrap(), build(&text).unwrap());
    let (old, new) = (Package::parse(&old).unwrap(), Package::parse(&new).unwrap());
    assert_eq!(old.elements.len(), new.elements.len());
    let mut spn = b"\x01Acme".to_vec();
    spn.resize(17, 0xFF);
    assert_eq!(file_of(&new, Kind::Usim, "ef-spn").given(0, 17).unwrap()[1..], spn[1..]);
    assert!(new.of(Kind::Usim).next().unwrap().file("ef-fdn").is_none());
    for name in Kind::Usim.files().iter().filter(|name| !["ef-spn", "ef-fdn"].contains(name)) {
        let whole =
            |package: &Package<'_>| package.of(Kind::Usim).next().unwrap().file(name).map(|tlv| tlv.whole.to_vec());
        assert_eq!(whole(&old), whole(&new), "{name}");
    }
}

#[test]
fn elements_are_taken_out_and_put_behind_others() {
    let text = on(
        "bootstrap",
        "[[patch]]\nremove = \"rfm 2\"\n[[element]]\nafter = \"mf\"\nmandated = false\n[element.cd]\ntemplate = \"2\"\n",
    );
    let der = build(&text).unwrap();
    let package = Package::parse(&der).unwrap();
    let kinds: Vec<_> = package.elements.iter().map(|element| element.kind).collect();
    assert_eq!(kinds[1..4], [Kind::Mf, Kind::Cd, Kind::PukCodes]);
    assert_eq!(package.of(Kind::Rfm).count(), 1);
    assert!(!package.elements[2].mandated && package.elements[1].mandated);
    let ids: Vec<_> = package.elements.iter().filter_map(|element| element.id).collect();
    assert_eq!(ids, (1..=13).collect::<Vec<_>>());
}

#[test]
fn a_patch_that_fits_nothing_is_told_with_its_line() {
    for (rest, line, word) in [
        ("[[patch]]\nremove = \"isim\"\n", 10, "isim"),
        (
            "[[patch]]\nnth = 3\n[patch.rfm]\naid = \"A0 00 00 05 59\"\nmsl = \"16\"\naccess = \"00\"\nadmin_access = \"00\"\n",
            9,
            "rfm 3",
        ),
        ("[[patch]]\n[patch.usim.files]\nef-spn = { remove = true }\nef-gid1 = { remove = true }\n", 12, "ef-gid1"),
        ("[[patch]]\nafter = \"usim\"\n", 9, "after"),
        ("[[element]]\nafter = \"isim\"\n[element.cd]\ntemplate = \"2\"\n", 10, "isim"),
        ("[[element]]\nnth = 2\n[element.cd]\ntemplate = \"2\"\n", 9, "nth"),
        ("[[element]]\n[element.cd]\ntemplate = \"2\"\n[element.eap]\ntemplate = \"12\"\n", 9, "no second"),
        ("[[element]]\n[element.usim.files.ef-spn]\nsize = 17\n", 9, "template"),
    ] {
        let error = build(&on("bootstrap", rest)).unwrap_err();
        assert_eq!(error.line, line, "{rest}: {error}");
        assert!(error.what.contains(word), "{rest}: {error}");
    }
    let error = build(&SMALL.replace("[[element]]", "[[patch]]\nremove = \"mf\"\n[[element]]")).unwrap_err();
    assert!(error.what.contains("without extends"), "{error}");
}

/// Every preset can be asked for with either algorithm, and both are what an order makes of it.
#[test]
fn presets_have_a_milenage_and_a_tuak_form() {
    let with = |name: &str, algorithm| {
        let read = |_: &str| Err("nothing".to_owned());
        build_with(preset(name).unwrap(), &Options { algorithm: Some(algorithm), read: &read }).unwrap()
    };
    for (name, text) in PRESETS {
        assert_eq!(with(name, Algorithm::Milenage), build(text).unwrap(), "{name}");
        let tuak = with(name, Algorithm::Tuak);
        let lint = crate::formats::saip::lint::lint(&tuak);
        assert!(!lint.has_errors(), "{name}: {:?}", lint.findings);
        let typed = types::decode_all(&tuak).unwrap();
        for element in &typed {
            let types::Content::AkaParameter(aka) = &element.content else { continue };
            let types::AlgoConfiguration::Algorithm(algorithm) = &aka.algo_configuration else { panic!("{name}") };
            assert_eq!((algorithm.algorithm_id, algorithm.key.len(), algorithm.opc.len()), (2, 16, 32), "{name}");
        }
    }
}

/// One of each element and of each word; what is written is read by the types, and encodes to the same octets.
#[test]
fn every_element_has_words() {
    let text = r#"
[[element]]
[element.csim]
template = "10"
files.adf-csim = { fid = "7F C0", aid = "A0 00 00 03 43 10 02", pins = "01 81 0A", arr = "2F 06 0E" }
files.ef-call-count = { record = 2, records = 1, cyclic = true, writes = [{ skip = 1, content = "07" }] }
[[element]]
[element.opt-csim]
template = "11"
[[element]]
[element.eap]
template = "12"
[[element]]
[element.phonebook]
template = "6"
files.ef-adn = { fid = "4F 3A", record = 28, records = 10 }
files."ef-adn#2" = { fid = "4F 3B", record = 28, records = 20, rows = ["", "41 42"] }
[[element]]
[element.genericFileManagement]
files = [
  { path = "7F 10", fid = "5F 70", directory = true, arr = "2F 06 0E", pins = "01", life_cycle = "04" },
  { fid = "4F 01", size = 4, arr = "6F 06 01", sfi = 0, content = "01 02" },
  { path = "", fid = "2F 77", ber_tlv_size = 64, arr = "2F 06 01", details = "02", separate = true },
  { fid = "2F 78", size = 2, link = "7F 10 6F 3A", arr = "2F 06 01" },
]
[[element]]
[element.pinCodes]
path = "7F 10"
[[element]]
[element.akaParameter]
mapping = { options = "06", aid = "A0 00 00 00 87 10 02" }
[[element]]
[element.akaParameter]
algorithm = "tuak"
key = "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
keccak = 2
sqn_init = [SQN]
[[element]]
[element.akaParameter]
algorithm = "usim-test"
[[element]]
[element.cdmaParameter]
ssd = "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
[[element]]
[element.securityDomain]
keys = [
  { version = 3, id = 1, type = "ecc-public", octets = 65, usage = "02", access = "01", value = "PUBLIC" },
  { version = 3, id = 2, type = "ecc-curve", octets = 1, usage = "02", value = "00" },
  { version = 4, id = 1, type = "hmac", octets = 32, usage = "14", counter = "01" },
]
open_perso = { restrict = "01", contactless = "AA" }
cat_tp = { max_sdu = 1024, max_pdu = 512 }
[element.securityDomain.instance]
package_aid = "A0 00 00 01 51 53 50"
class_aid = "A0 00 00 01 51 53 50 41"
instance_aid = "A0 00 00 01 51 00 00 00"
extradite_to = "A0 00 00 01 51 00 00 01"
privileges = "82 DC 00"
parameters = "81 02 80 00"
system = "C7 02 01 00 C8 02 02 00"
access = "00"
admin_access = "00"
provider = "01 02 03"
[[element]]
[element.application]
package_aid = "D2 76 00 01 18 01 01"
code_limit = "00 01 00 00"
hash = "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
load_block_file = "applet.ijc"
[[element]]
mandated = false
id = 900
[element.nonStandard]
issuer = "1.3.6.1.4.1.99999"
content = "01 02"
[[element]]
raw = "AB 07 A0 05 80 00 81 01 7F"
"#;
    let text = text.replace("SQN", &vec!["\"00 00 00 00 00 01\""; 32].join(", ")).replace("PUBLIC", &"04".repeat(65));
    let text = SMALL.to_owned() + &text;
    let read = |name: &str| if name == "applet.ijc" { Ok(vec![1, 2, 3]) } else { Err("no".to_owned()) };
    let der = build_with(&text, &Options { algorithm: None, read: &read }).unwrap();
    let package = Package::parse(&der).unwrap();
    for element in package.elements.iter().filter(|element| element.tlv.tag != Tag(0xAB)) {
        let typed = types::decode(element).unwrap_or_else(|e| panic!("{e}"));
        assert!(typed.unknown.is_empty(), "{:?}", typed.unknown);
        assert_eq!(typed.encode().unwrap(), element.tlv.whole, "{}", element.label());
    }
    let adn = FileView::all(&package.of(Kind::Phonebook).next().unwrap().file("ef-adn").unwrap());
    let adn: Vec<_> =
        adn.iter().map(|view| (view.file_id().unwrap(), view.size().unwrap(), view.written_len())).collect();
    assert_eq!(adn, [(&[0x4F, 0x3A][..], 280, 0), (&[0x4F, 0x3B], 560, 30)]);
    let lists = children(&package.of(Kind::GenericFileManagement).next().unwrap().member(Tag(0xA1)).unwrap()).count();
    assert_eq!(lists, 2);
    assert!(package.elements.iter().any(|element| element.id == Some(900) && !element.mandated));
    assert!(der.windows(9).any(|octets| octets == [0xAB, 0x07, 0xA0, 0x05, 0x80, 0x00, 0x81, 0x01, 0x7F]));
    assert!(package.of(Kind::Application).next().unwrap().tlv.whole.ends_with(&[0xC4, 3, 1, 2, 3]));
    assert!(build(&text).unwrap_err().what.contains("load_block_file: no files are read here"));
}

#[test]
fn values_in_words_are_encoded_by_the_coding_of_their_file() {
    let with = |files: &str| {
        let text = on("bootstrap", &format!("[[patch]]\n[patch.usim.files]\n{files}\n"));
        build(&text).map(|der| {
            let package = Package::parse(&der).unwrap();
            let view = file_of(&package, Kind::Usim, "ef-smsp");
            let octets: Vec<u8> = view.content(84).into_iter().map(|octet| octet.unwrap_or(0xFF)).collect();
            ef::coding(Kind::Usim, "ef-smsp").unwrap().decode(&octets, Some(42)).unwrap()
        })
    };
    let two = "ef-smsp = { record = 42, records = 2, value = [\"+491710760000\", \"+33609001390\"] }";
    assert_eq!(with(two).unwrap(), "+491710760000,+33609001390");
    let error = with("ef-smsp = { record = 42, records = 2, value = \"call me\" }").unwrap_err();
    assert!(error.line == 11 && error.what.contains("TS 31.102"), "{error}");
    let error = with("ef-keys = { size = 33, value = \"x\" }").unwrap_err();
    assert!(error.what.contains("no coding is known"), "{error}");
}
