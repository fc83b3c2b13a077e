//! Frame, order, services and templates: D, H, I, O, T.

use super::*;

/// GenericFileManagement with one command of these entries.
pub(super) fn generic(entries: &[&[u8]]) -> Vec<u8> {
    generic_commands(&[&wrap(Tag(0x30), entries)])
}

/// GenericFileManagement with these commands.
pub(super) fn generic_commands(commands: &[&[u8]]) -> Vec<u8> {
    wrap(Tag(0xA1), &[&wrap(Tag(0xA0), &[&[0x80, 0, 0x81, 2, 0x7F, 0]]), &wrap(Tag(0xA1), commands)])
}

/// `createFCP` with these parameters.
pub(super) fn fcp(parameters: &[&[u8]]) -> Vec<u8> {
    wrap(Tag(0x62), parameters)
}

pub(super) const MF_PATH: &[u8] = &[0x80, 0];

/// A preset with an element more, before its end.
pub(super) fn with(name: &str, element: &[u8]) -> Vec<u8> {
    rearranged(name, |elements| elements.insert(elements.len() - 1, element.to_vec()))
}

/// A preset whose MF is made by GenericFileManagement, with EF.ARR and EF.DIR.
fn with_made_mf() -> Vec<u8> {
    let arr = [0x84, 0x01, 0x01, 0x97, 0x00];
    let dir = [&[0x61, 0x12, 0x4F, 0x10][..], &AID_OF_USIM].concat();
    let commands = generic(&[
        MF_PATH,
        &fcp(&[&[0x82, 2, 0x78, 0x21], &[0x83, 2, 0x3F, 0], &[0x8B, 3, 0x2F, 6, 14], &[0xC6, 2, 1, 10]]),
        &fcp(&[&[0x82, 4, 0x42, 0x21, 0, 5], &[0x83, 2, 0x2F, 6], &[0x8B, 3, 0x2F, 6, 10], &[0x80, 1, 70]]),
        &wrap(Tag(0x81), &[&arr.repeat(14)]),
        &fcp(&[&[0x82, 4, 0x42, 0x21, 0, 0x14], &[0x83, 2, 0x2F, 0], &[0x8B, 3, 0x2F, 6, 10], &[0x80, 1, 20]]),
        &wrap(Tag(0x81), &[&dir]),
    ]);
    rearranged("bootstrap", |elements| {
        let mf = place(elements, Kind::Mf);
        elements[mf] = commands;
    })
}

const AID_OF_USIM: [u8; 16] = [0xA0, 0, 0, 0, 0x87, 0x10, 2, 0xFF, 0xFF, 0xFF, 0xFF, 0x89, 3, 2, 0, 0];

pub(super) fn offenders() -> Vec<(&'static str, Vec<u8>)> {
    let service = |name, list: &str| edited(name, "services = [", &format!("services = [{list}, "));
    vec![
        // A nonStandard element without its issuer, and a PUK of seven octets.
        ("D04", with("bootstrap", &[0xA9, 8, 0xA0, 4, 0x81, 2, 1, 0, 0x82, 0])),
        ("D04", patched("bootstrap", &[0x81, 8, 0x30, 0x30], &[0x82, 8, 0x30, 0x30])),
        ("H02", edited("bootstrap", "version = \"2.3\"", "version = \"4.0\"")),
        ("H02", edited("bootstrap", "version = \"2.3\"", "version = \"2.4\"")),
        ("H02", edited("operational", "version = \"2.3\"", "version = \"2.2\"")),
        ("H02", edited("iot-minimal", "version = \"3.3\"", "version = \"3.2\"")),
        ("H06", service("bootstrap", "\"multiple-usim\"")),
        ("H06", service("bootstrap", "\"gba-isim\"")),
        ("H06", service("bootstrap", "\"eap\"")),
        ("H06", service("bootstrap", "\"cat-tp\"")),
        ("H07", service("bootstrap", "\"cave\"")),
        ("H08", patched("bootstrap", &[0x06, 6, 0x67, 0x81, 0x0F, 1, 2, 3], &[0x06, 6, 0x67, 0x81, 0x0F, 1, 2, 9])),
        ("H09", with("bootstrap", &generic(&[MF_PATH, &link(&[0x78, 0x21], 0x5F7A, &[0x7F, 0x10])]))),
        ("H09", with("bootstrap", &generic(&[MF_PATH, &ber_tlv(&[])]))),
        ("H09", twice("bootstrap", Kind::Usim)),
        ("O01", twice("bootstrap", Kind::Telecom)),
        ("O01", with("bootstrap", &generic(&[MF_PATH, &fcp(&[&[0x83, 2, 0x3F, 0]])]))),
        ("O01", moved("bootstrap", Kind::Mf, 5)),
        // GenericFileManagement that makes no MF stands between the MF and its PUKs.
        ("O02", rearranged("bootstrap", |elements| elements.insert(2, generic(&[MF_PATH])))),
        ("O04", rearranged("bootstrap", |elements| elements.insert(2, vec![0xBB, 6, 0xA0, 4, 0x81, 2, 1, 0]))),
        ("O05", moved("bootstrap", Kind::AkaParameter, 10)),
        ("O05", {
            let aka = elements("bootstrap")[place(&elements("bootstrap"), Kind::AkaParameter)].clone();
            with("bootstrap", &aka)
        }),
        (
            "O06",
            edited("applet", "security_domain = \"A0 00 00 01 51 00 00 00\"", "security_domain = \"A0 00 00 01 52\""),
        ),
        (
            "O06",
            rearranged("operational", |elements| {
                let isim = elements.remove(place(elements, Kind::Isim));
                elements.insert(elements.len() - 1, isim);
            }),
        ),
        ("T01", patched("bootstrap", &template_of(4), &template_of(20))),
        ("T01", patched("bootstrap", &template_of(4), &template_of(8))),
        ("T01", patched("bootstrap", &template_of(4), &[0x81, 6, 0x67, 0x81, 0x0F, 1, 3, 4])),
        ("T01", edited("bootstrap", "template = \"4\"", "template = \"4.2\"")),
        ("T02", edited("operational", "ef-impi = { size = 80, ", "ef-impi = { ")),
        ("T02", edited("operational", "ef-psismsc = { record = 48, records = 1, ", "ef-psismsc = { ")),
        ("T02", edited("bootstrap", "ef-acc = { arr = \"6F 06 02\", sfi = 6, content = \"00 01\" }", "")),
        ("T02", edited("bootstrap", "sfi = 6, content = \"00 01\" }", "sfi = 6 }")),
        ("T02", edited("bootstrap", "df-telecom = {", "# df-telecom = {")),
        ("T02", edited("operational", "ef-gbabp = { size = 64, ", "ef-gbabp = { ")),
        ("T02", edited("operational", "ef-mmsup = { record = 60, records = 2, ", "ef-mmsup = { ")),
        ("T02", edited("bootstrap", "adf-usim = {", "# adf-usim = {")),
        ("T02", edited("operational", "adf-isim = {", "# adf-isim = {")),
        ("T02", edited("bootstrap", "mf = { arr", "# mf = { arr")),
        (
            "T03",
            edited(
                "bootstrap",
                "ef-li = { size = 6, arr = \"6F 06 01\", sfi = 2, text = \"enfr\", fill = \"FF\" }",
                "ef-li = { do_not_create = true }",
            ),
        ),
        (
            "T03",
            edited(
                "bootstrap",
                "ef-umpc = { fid = \"2F 08\", size = 5, arr = \"2F 06 0A\", sfi = 8, content = \"3C 3C 00 00 00\" }",
                "ef-umpc = { do_not_create = true }",
            ),
        ),
        ("T03", patched("bootstrap", &[0x83, 2, 0, 1], &[0x80, 0, 0x80, 0])),
    ]
}

/// A templateID of one arc, as an element has it.
fn template_of(arc: u8) -> [u8; 8] {
    [0x81, 6, 0x67, 0x81, 0x0F, 1, 2, arc]
}

/// A link to an earlier file.
pub(super) fn link(descriptor: &[u8], fid: u16, to: &[u8]) -> Vec<u8> {
    let fid = fid.to_be_bytes();
    let common = [wrap(Tag(0x82), &[descriptor]), wrap(Tag(0x83), &[&fid]), vec![0x8B, 3, 0x2F, 6, 10], vec![0x88, 0]];
    let pins: &[u8] = if descriptor[0] == 0x78 { &[0xC6, 2, 1, 10] } else { &[] };
    let short = if descriptor[0] == 0x78 { common[..3].concat() } else { common.concat() };
    fcp(&[&short, pins, &wrap(Tag(0xC7), &[to])])
}

/// A BER-TLV file of the MF, with a list of proprietaryEFInfo.
pub(super) fn ber_tlv(info: &[u8]) -> Vec<u8> {
    let info = if info.is_empty() { Vec::new() } else { wrap(Tag(0xA5), &[info]) };
    let common: [&[u8]; 4] = [&[0x82, 2, 0x79, 0x21], &[0x83, 2, 0x6F, 0x7A], &[0x8B, 3, 0x2F, 6, 10], &[0x80, 1, 64]];
    fcp(&[&common.concat(), &[0x88, 0], &info])
}

#[test]
fn an_mf_made_by_hand_is_an_mf() {
    assert_eq!(told(&with_made_mf(), &["O01", "O02", "F01", "F02", "F03", "F05", "F06", "F08"]), [""; 0]);
}

#[test]
fn what_needs_a_service_and_lists_it_is_fine() {
    let listed = edited("bootstrap", "services = [\"usim\", ", "services = [\"usim\", \"ber-tlv\", \"dfLink\", ");
    let elements =
        [generic(&[MF_PATH, &ber_tlv(&[])]), generic(&[MF_PATH, &link(&[0x78, 0x21], 0x5F7A, &[0x7F, 0x10])])];
    let package = Package::parse(&listed).unwrap();
    let end = package.elements.last().unwrap().tlv.offset;
    let der = [&listed[..end], &elements.concat(), &listed[end..]].concat();
    assert_eq!(told(&der, &["H06", "H09", "F01", "F02", "F04", "F07"]), [""; 0]);
}

#[test]
fn do_not_create_has_a_place_in_templates_that_are_made_unasked() {
    let der = edited(
        "bootstrap",
        "ef-hpplmn = { arr = \"6F 06 02\", sfi = 18, content = \"0A\" }",
        "ef-hpplmn = { do_not_create = true }",
    );
    assert_eq!(lint(&der).findings, []);
}

#[test]
fn a_size_may_be_left_to_a_template_that_has_one() {
    // EF.GID1 has 8 octets, EF.FDN 20 records of 26 (SAIP §9.5.1, §9.5.2).
    let der = edited("operational", "ef-gid1 = { size = 8, ", "ef-gid1 = { ");
    assert_eq!(told(&der, &["T02"]), [""; 0]);
    let der = edited("operational", "ef-fdn = { record = 26, records = 20, ", "ef-fdn = { ");
    assert_eq!(told(&der, &["T02"]), [""; 0]);
}

#[test]
fn a_newer_version_keeps_the_older_templates() {
    let der = edited("bootstrap", "version = \"2.3\"", "version = \"3.4\"");
    assert_eq!(lint(&der).findings, []);
}

#[test]
fn an_extension_may_stand_anywhere_behind_its_base() {
    let der = rearranged("operational", |elements| {
        let df = elements.remove(place(elements, Kind::Df5gs));
        elements.insert(elements.len() - 1, df);
    });
    assert_eq!(told(&der, &["O03", "O04", "O05", "O06"]), [""; 0]);
}
