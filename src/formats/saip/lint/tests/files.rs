//! File parameters, links, access rules and EF.DIR: F.

use super::structure::{MF_PATH, ber_tlv, fcp, generic, generic_commands, link, with};
use super::*;

const TRANSPARENT: &[u8] = &[0x82, 2, 0x41, 0x21];
const RULE: &[u8] = &[0x8B, 3, 0x2F, 6, 10];

/// A transparent file of eight octets at the MF.
fn transparent(fid: u16) -> Vec<u8> {
    fcp(&[TRANSPARENT, &wrap(Tag(0x83), &[&fid.to_be_bytes()]), RULE, &[0x80, 1, 8], &[0x88, 0]])
}

fn with_file(parameters: &[&[u8]]) -> Vec<u8> {
    with("bootstrap", &generic(&[MF_PATH, &fcp(parameters)]))
}

fn descriptor(octets: &[u8]) -> Vec<u8> {
    with_file(&[&wrap(Tag(0x82), &[octets]), &[0x83, 2, 0x6F, 0x7A], RULE, &[0x80, 1, 8], &[0x88, 0]])
}

/// A file made in a directory.
fn in_directory(path: &[u8]) -> Vec<u8> {
    with("bootstrap", &generic(&[&wrap(Tag(0x80), &[path]), &transparent(0x6F7A)]))
}

const FPLMN: &str = "ef-fplmn = { size = 12, arr = \"6F 06 05\", sfi = 13, fill = \"FF\" }";

pub(super) fn offenders() -> Vec<(&'static str, Vec<u8>)> {
    let telecom_link = |to: &[u8]| with("bootstrap", &generic(&[MF_PATH, &link(&[0x41, 0x21], 0x6F7A, to)]));
    vec![
        ("F01", with_file(&[TRANSPARENT, &[0x83, 2, 0x6F, 0x7A], &[0x80, 1, 8]])),
        ("F01", with_file(&[TRANSPARENT, &[0x83, 2, 0x6F, 0x7A], RULE])),
        ("F01", with_file(&[TRANSPARENT, RULE, &[0x80, 1, 8]])),
        ("F01", with_file(&[&[0x82, 2, 0x78, 0x21], &[0x83, 2, 0x5F, 0x7A], RULE])),
        ("F01", with_file(&[&[0x82, 2, 0x78, 0x21], &[0x83, 2, 0x5F, 0x7A], RULE, &[0xC6, 1, 1], &[0x88, 0]])),
        ("F01", with_file(&[TRANSPARENT, &[0x83, 2, 0x6F, 0x7A], RULE, &[0x80, 1, 8], &[0xC7, 2, 0x2F, 0xE2]])),
        ("F02", descriptor(&[0x41, 0x20])),
        ("F02", descriptor(&[0x43, 0x21])),
        ("F02", descriptor(&[0xC1, 0x21])),
        ("F02", descriptor(&[0x41, 0x21, 0, 8])),
        ("F02", descriptor(&[0x42, 0x21])),
        ("F02", descriptor(&[0x42, 0x21, 0, 0])),
        ("F02", descriptor(&[0x42, 0x21, 8])),
        ("F03", edited("bootstrap", "sfi = 18, content = \"0A\" }", "sfi = 18, content = \"0A 0B\" }")),
        ("F03", edited("bootstrap", "record = 26, records = 5,", "record = 26, records = 255,")),
        ("F04", edited("bootstrap", FPLMN, &FPLMN.replace("fill =", "repeat = \"FF\", fill ="))),
        ("F04", with("bootstrap", &generic(&[MF_PATH, &ber_tlv(&[0xC1, 1, 0xFF])]))),
        ("F04", with("bootstrap", &generic(&[MF_PATH, &ber_tlv(&[]), &[0x02, 1, 5], &[0x81, 1, 7]]))),
        (
            "F05",
            edited(
                "bootstrap",
                "ef-hpplmn = { arr = \"6F 06 02\", sfi = 18",
                "ef-hpplmn = { arr = \"6F 06 02\", sfi = 7",
            ),
        ),
        ("F05", edited("bootstrap", "ef-fdn = { record", "ef-fdn = { fid = \"6F 07\", record")),
        ("F05", edited("operational", "adf-isim = { fid = \"7F B0\"", "adf-isim = { fid = \"7F F0\"")),
        ("F05", patched("bootstrap", &[0x88, 1, 0x38], &[0x88, 1, 0x39])),
        ("F05", with("bootstrap", &generic(&[MF_PATH, &transparent(0x2F05)]))),
        // The SFI that follows from 6F02 is that of EF.ICCID.
        ("F05", with_file(&[TRANSPARENT, &[0x83, 2, 0x6F, 2], RULE, &[0x80, 1, 8]])),
        ("F06", edited("bootstrap", "ef-hpplmn = { arr = \"6F 06 02\"", "ef-hpplmn = { arr = \"6F 06 0F\"")),
        ("F06", edited("bootstrap", "ef-hpplmn = { arr = \"6F 06 02\"", "ef-hpplmn = { arr = \"6F 77 02\"")),
        ("F06", edited("bootstrap", "\"80 01 5E A4 06 83 01 0A 95 01 08\", # 14", "# 14")),
        // EF.FDN with a descriptor for records in the place of EF.HPPLMN, whose template has none.
        (
            "F02",
            edited(
                "bootstrap",
                "ef-hpplmn = { arr = \"6F 06 02\"",
                "ef-hpplmn = { descriptor = \"42 21\", arr = \"6F 06 02\"",
            ),
        ),
        // EF.IMSI, EF.KeysPS and EF.PL are there, and no EF.ARR.
        ("F06", edited("bootstrap", "ef-hpplmn = { arr = \"6F 06 02\"", "ef-hpplmn = { arr = \"6F 07 02\"")),
        ("F06", edited("bootstrap", "ef-hpplmn = { arr = \"6F 06 02\"", "ef-hpplmn = { arr = \"6F 09 02\"")),
        ("F06", edited("bootstrap", "ef-hpplmn = { arr = \"6F 06 02\"", "ef-hpplmn = { arr = \"2F 05 01\"")),
        // EF.FDN has records, but is none either.
        ("F06", edited("bootstrap", "ef-hpplmn = { arr = \"6F 06 02\"", "ef-hpplmn = { arr = \"6F 3B 01\"")),
        ("F07", in_directory(&[0x7F, 0x66])),
        ("F07", in_directory(&[0x7F, 0xF0, 0x5F])),
        (
            "F07",
            rearranged("bootstrap", |elements| {
                let end = elements.len() - 1;
                let at = place(elements, Kind::Usim);
                elements.insert(at, generic(&[&[0x80, 2, 0x7F, 0xF0], &transparent(0x6F7A)]));
                assert!(at < end);
            }),
        ),
        ("F07", telecom_link(&[0x7F, 0x10, 0x6F, 0x99])),
        ("F07", telecom_link(&[0x7F, 0x10, 0x6F])),
        // Itself, and a file of records.
        ("F07", telecom_link(&[0x6F, 0x7A])),
        ("F07", telecom_link(&[0x7F, 0xF0, 0x6F, 0x3B])),
        ("F08", edited("bootstrap", "\"61 18 4F 10 A0 00 00 00 87 10 02", "\"61 18 4F 10 A0 00 00 00 87 10 03")),
        (
            "F08",
            edited("operational", "\"61 18 4F 10 A0 00 00 00 87 10 04", "\"\", \"61 18 4F 10 A0 00 00 00 87 10 02"),
        ),
    ]
}

#[test]
fn files_made_by_hand_are_fine_when_they_are_whole() {
    let files = [transparent(0x6F7A), transparent(0x6F7B)].concat();
    let der = with("bootstrap", &generic(&[MF_PATH, &files, &[0x02, 1, 4], &[0x81, 4, 1, 2, 3, 4]]));
    assert_eq!(lint(&der).findings, []);
}

#[test]
fn a_file_path_may_lead_to_any_directory_that_is_made_before() {
    for path in [&[][..], &[0x3F, 0], &[0x7F, 0xF0], &[0x7F, 0xFF], &[0x7F, 0x10]] {
        assert_eq!(told(&in_directory(path), &["F07"]), [""; 0], "{path:02X?}");
    }
    let df = fcp(&[&[0x82, 2, 0x78, 0x21], &[0x83, 2, 0x5F, 0x7A], RULE, &[0xC6, 2, 1, 10]]);
    let entries: [&[u8]; 4] = [MF_PATH, &df, &[0x80, 2, 0x5F, 0x7A], &transparent(0x6F07)];
    assert_eq!(told(&with("bootstrap", &generic(&entries)), &["F07"]), [""; 0]);
    let backwards: [&[u8]; 4] = [&[0x80, 2, 0x5F, 0x7A], &transparent(0x6F07), MF_PATH, &df];
    assert_eq!(told(&with("bootstrap", &generic(&backwards)), &["F07"]).len(), 1);
}

#[test]
fn an_access_rule_may_stand_in_a_file_of_records_made_by_hand() {
    let rules = fcp(&[&[0x82, 4, 0x42, 0x21, 0, 5], &[0x83, 2, 0x6F, 0x7B], RULE, &[0x80, 1, 5], &[0x88, 0]]);
    let file = fcp(&[TRANSPARENT, &[0x83, 2, 0x6F, 0x7A], &[0x8B, 3, 0x6F, 0x7B, 1], &[0x80, 1, 8], &[0x88, 0]]);
    let der = with("bootstrap", &generic(&[MF_PATH, &rules, &[0x81, 5, 0x84, 1, 1, 0x97, 0], &file]));
    assert_eq!(told(&der, &["F06"]), [""; 0]);
}

#[test]
fn a_record_length_may_be_left_to_a_template_that_has_one() {
    let fdn = "ef-fdn = { record = 26,";
    assert!(preset("bootstrap").contains(fdn));
    let der = rearranged("bootstrap", |elements| {
        for element in elements.iter_mut() {
            *element = without_record_length(element, &[0x82, 4, 0x42, 0x21, 0, 26]);
        }
    });
    assert_ne!(der.len(), elements("bootstrap").concat().len());
    assert_eq!(told(&der, &["F02", "T02"]), [""; 0]);
}

/// An element whose first such file descriptor is cut to two octets.
fn without_record_length(element: &[u8], descriptor: &[u8]) -> Vec<u8> {
    fn cut(tlv: &crate::formats::tlv::Tlv<'_>, descriptor: &[u8]) -> Vec<u8> {
        if tlv.whole == descriptor {
            return wrap(tlv.tag, &[&tlv.value[..2]]);
        }
        if !tlv.tag.is_constructed() {
            return tlv.whole.to_vec();
        }
        let children = crate::formats::saip::package::children(tlv).map(|child| cut(&child, descriptor));
        wrap(tlv.tag, &[&children.collect::<Vec<_>>().concat()])
    }
    cut(&crate::formats::tlv::Reader::new(element).next_tlv().unwrap().unwrap(), descriptor)
}

#[test]
fn a_link_to_an_earlier_file_of_its_type_is_fine() {
    let to_iccid = link(&[0x41, 0x21], 0x6F7A, &[0x2F, 0xE2]);
    let to_fdn = link(&[0x42, 0x21, 0, 26], 0x6F7B, &[0x7F, 0xF0, 0x6F, 0x3B]);
    // EF.NETPAR is named; EF.UMPC and its like would be there unasked.
    let to_netpar = link(&[0x41, 0x21], 0x6F7C, &[0x7F, 0xF0, 0x6F, 0xC4]);
    let der = with("bootstrap", &generic(&[MF_PATH, &to_iccid, &to_fdn, &to_netpar]));
    assert_eq!(lint(&der).findings, []);
}

#[test]
fn a_file_below_a_directory_made_by_hand_has_its_own_names() {
    let df = fcp(&[&[0x82, 2, 0x78, 0x21], &[0x83, 2, 0x5F, 0x7A], RULE, &[0xC6, 2, 1, 10]]);
    let der = with("bootstrap", &generic(&[MF_PATH, &df, &transparent(0x2F05), &transparent(0x6F07)]));
    assert_eq!(lint(&der).findings, []);
}

#[test]
fn an_empty_file_with_a_rule_yet_to_be_written_is_a_warning() {
    let cut = edited("bootstrap", "\"80 01 5E A4 06 83 01 0A 95 01 08\", # 14", "# 14");
    let rules: Vec<_> = lint(&cut).findings.into_iter().filter(|finding| finding.rule == "F06").collect();
    assert!(rules.iter().all(|finding| finding.severity == Severity::Error));
    let file =
        |rule: u8| fcp(&[TRANSPARENT, &[0x83, 2, 0x6F, 0x7A], &[0x8B, 3, 0x2F, 6, rule], &[0x80, 1, 8], &[0x88, 0]]);
    let package = Package::parse(&cut).unwrap();
    let end = package.elements.last().unwrap().tlv.offset;
    let at = |rule: u8| {
        let der = [&cut[..end], &generic(&[MF_PATH, &file(rule)]), &cut[end..]].concat();
        let lint = lint(&der);
        lint.findings.into_iter().find(|f| f.rule == "F06" && f.offset >= end).map(|finding| finding.severity)
    };
    assert_eq!(at(13), None);
    assert_eq!(at(14), Some(Severity::Warning));
    assert_eq!(at(15), Some(Severity::Error));
}

/// 100 KB of the smallest files, directories one in the other, links and access rules.
fn hostile(entry: impl Fn(u16) -> Vec<u8>) -> Vec<u8> {
    let mut commands = Vec::new();
    for fid in 0..u16::MAX {
        commands.extend(entry(fid));
        if commands.len() > 100_000 {
            break;
        }
    }
    generic_commands(&[&wrap(Tag(0x30), &[&commands])])
}

#[test]
fn a_hostile_package_costs_no_more_than_its_length() {
    let fid = |fid: u16| wrap(Tag(0x83), &[&fid.to_be_bytes()]);
    let usim = [0xB3, 12, 0xA0, 2, 0x80, 0, 0x81, 6, 0x67, 0x81, 0x0F, 1, 2, 4];
    let hostile: [Vec<u8>; 8] = [
        hostile(|_| vec![0x62, 0]),
        hostile(|at| fcp(&[&fid(at)])),
        hostile(|at| fcp(&[&[0x82, 2, 0x78, 0x21], &fid(at)])),
        hostile(|at| fcp(&[&fid(at), RULE, &[0xC7, 2, 0x2F, 0]])),
        hostile(|at| {
            [fcp(&[&[0x82, 4, 0x42, 0x21, 0, 1], &fid(at), RULE, &[0x80, 2, 0xFF, 0xFF]]), vec![0x81, 1, 0]].concat()
        }),
        std::iter::repeat_n([0xA7, 2, 0xA0, 0], 30_000).flatten().collect(),
        std::iter::repeat_n(usim, 8_000).flatten().collect(),
        wrap(Tag(0xB3), &[&usim[2..], &[0xA3, 0].repeat(40_000)]),
    ];
    for (at, element) in hostile.into_iter().enumerate() {
        let der = with("bootstrap", &element);
        let begun = std::time::Instant::now();
        let lint = lint(&der);
        // One second is the aim on an idle machine; a square would take minutes.
        assert!(begun.elapsed().as_secs() < 10, "package {at} took {:?}", begun.elapsed());
        assert!(lint.findings.len() < 60 * (MOST_FINDINGS + 1), "package {at}: {}", lint.findings.len());
        assert!(lint.findings.iter().any(|finding| finding.message.starts_with("and ")), "package {at}");
    }
}
