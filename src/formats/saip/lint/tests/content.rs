//! Rules of contents: what makes each fire, and near misses that must not. That the presets are clean is asked in [`super`].

use super::*;
use crate::formats::saip::kind::{constructed, primitive};
use crate::formats::tlv::{Tag, wrap};

const USIM_AID: [u8; 16] = [0xA0, 0, 0, 0, 0x87, 0x10, 0x02, 0xFF, 0xFF, 0xFF, 0xFF, 0x89, 0x03, 0x02, 0, 0];
const ISIM_AID: [u8; 16] = [0xA0, 0, 0, 0, 0x87, 0x10, 0x04, 0xFF, 0xFF, 0xFF, 0xFF, 0x89, 0x03, 0x02, 0, 0];
const MNO_SD: [u8; 8] = [0xA0, 0, 0, 1, 0x51, 0, 0, 0];
const APPLET: [u8; 8] = [0xD2, 0x76, 0, 1, 0x18, 1, 1, 1];

/// PE header with an identification that no preset has.
fn header(id: u8) -> Vec<u8> {
    wrap(constructed(0), &[&wrap(primitive(0), &[]), &wrap(primitive(1), &[&[id]])])
}

/// A preset with an element before the end.
fn with(name: &str, element: Vec<u8>) -> Vec<u8> {
    rearranged(name, |elements| elements.insert(elements.len() - 1, element))
}

/// The akaParameters of a preset, the first first, become these.
fn with_aka(name: &str, replacements: &[Vec<u8>]) -> Vec<u8> {
    rearranged(name, |elements| {
        let tag = Kind::AkaParameter.tag();
        let akas = elements.iter_mut().filter(|element| crate::formats::tlv::Reader::new(element).peek() == tag);
        akas.zip(replacements).for_each(|(aka, replacement)| aka.clone_from(replacement));
    })
}

fn mapping(id: u8, source: &[u8]) -> Vec<u8> {
    let choice = wrap(constructed(0), &[&wrap(primitive(0), &[&[6]]), &wrap(primitive(1), &[source])]);
    wrap(constructed(4), &[&header(id), &wrap(constructed(1), &[&choice])])
}

/// Milenage with further members of algoParameter and of the akaParameter.
fn milenage(id: u8, of_algorithm: &[u8], of_element: &[u8]) -> Vec<u8> {
    let algo = wrap(
        constructed(1),
        &[&[0x80, 1, 1, 0x81, 1, 1], &wrap(primitive(2), &[&[0; 16]]), &wrap(primitive(3), &[&[0; 16]]), of_algorithm],
    );
    wrap(constructed(4), &[&header(id), &wrap(constructed(1), &[&algo]), of_element])
}

/// The default constants of Milenage (3GPP TS 35.206 §4.1), c`row` with another last octet.
fn constants(row: usize, last: u8) -> Vec<u8> {
    let mut octets = [0; 80];
    for (row, last) in [(1, 1), (2, 2), (3, 4), (4, 8), (row, last)] {
        octets[16 * row + 15] = last;
    }
    wrap(primitive(5), &[&octets])
}

fn sequence_numbers(count: usize, sqn: [u8; 6]) -> Vec<u8> {
    wrap(constructed(5), &[&wrap(Tag(0x04), &[&sqn]).repeat(count)])
}

fn aid(octets: &[u8]) -> Vec<u8> {
    wrap(Tag(0x4F), &[octets])
}

/// A security domain below another one, in a life cycle state; `more` stands behind its instance.
fn domain(own: &[u8], above: Option<&[u8]>, state: u8, more: &[u8]) -> Vec<u8> {
    let above = above.map(aid).unwrap_or_default();
    let aids =
        [aid(&[0xA0, 0, 0, 1, 0x51, 0x53, 0x50]), aid(&[0xA0, 0, 0, 1, 0x51, 0x53, 0x50, 0x41]), aid(own), above];
    let state = [0x82, 3, 0x80, 0, 0, 0x83, 1, state, 0xC9, 0];
    let state = if state[7] == 7 { &[0x82, 3, 0x80, 0, 0, 0xC9, 0][..] } else { &state };
    wrap(constructed(6), &[&header(0x70), &wrap(constructed(1), &[&aids.concat(), state]), more])
}

/// A key list with an ENC key of this version and type.
fn key_of(version: u8, key_type: u8) -> Vec<u8> {
    let component = wrap(Tag(0x30), &[&[0x80, 1, key_type], &wrap(primitive(6), &[&[0x5A; 16]])]);
    let key = wrap(
        Tag(0x30),
        &[&[0x95, 1, 0x18, 0x82, 1, 1], &wrap(primitive(3), &[&[version]]), &wrap(Tag(0x30), &[&component])],
    );
    wrap(constructed(2), &[&key])
}

/// An applet: load block members behind its AID, and instances of packages.
fn applet(block: Option<&[u8]>, instances: &[&[&[u8]]]) -> Vec<u8> {
    let block = block.map(|members| wrap(constructed(1), &[&aid(&APPLET), members])).unwrap_or_default();
    let instances: Vec<u8> = instances
        .iter()
        .flat_map(|aids| {
            let aids: Vec<u8> = aids.iter().flat_map(|octets| aid(octets)).collect();
            wrap(Tag(0x30), &[&aids, &[0x82, 1, 0, 0xC9, 0]])
        })
        .collect();
    let instances = if instances.is_empty() { instances } else { wrap(constructed(2), &[&instances]) };
    wrap(constructed(8), &[&header(0x72), &block, &instances])
}

/// Begins as a CAP file does.
const CAP: [u8; 12] = [1, 0, 9, 0xDE, 0xCA, 0xFF, 0xED, 1, 2, 0, 0, 0];

fn load_block(hash: &[u8], object: &[u8]) -> Vec<u8> {
    let hash = if hash.is_empty() { Vec::new() } else { wrap(Tag(0xC1), &[hash]) };
    [hash, wrap(Tag(0xC4), &[object])].concat()
}

/// A GenericFileManagement that makes one file below `path`.
fn generic(path: &[u8], descriptor: &[u8]) -> Vec<u8> {
    let command = wrap(Tag(0x30), &[&wrap(primitive(0), &[path]), &wrap(Tag(0x62), &[descriptor])]);
    wrap(constructed(1), &[&header(0x71), &wrap(constructed(1), &[&command])])
}

const DIRECTORY_5F40: [u8; 16] = [0x82, 2, 0x78, 0x21, 0x83, 2, 0x5F, 0x40, 0x8B, 3, 0x2F, 6, 14, 0xC6, 1, 0x81];
const GID1_BY_HAND: [u8; 16] = [0x82, 2, 0x41, 0x21, 0x83, 2, 0x6F, 0x3E, 0x8B, 3, 0x6F, 6, 2, 0x80, 1, 8];

const UST: &str = "content = \"02 0A 14 08 01 06 00 00 40 00 10 00 00 00\"";
const UST_5G: &str = "content = \"9E CF 3F 1C E5 F6 5D 00 48 E3 10 84 01 00 00 2E 01\"";

fn bootstrap_services(octets: &str) -> Vec<u8> {
    edited("bootstrap", UST, &format!("content = \"{octets}\""))
}

fn operational_services(octets: &str) -> Vec<u8> {
    edited("operational", UST_5G, &format!("content = \"{octets}\""))
}

/// The schemes of EF.SUCI_Calc_Info of the preset: profile A with key 2, profile B with key 1, null.
fn schemes(octets: [u8; 6]) -> Vec<u8> {
    patched("operational", &[0xA0, 6, 1, 2, 2, 1, 0, 0], &[&[0xA0, 6][..], &octets].concat())
}

pub(super) fn offenders() -> Vec<(&'static str, Vec<u8>)> {
    [codes(), authentication(), networks(), services(), domains(), applets()].concat()
}

fn codes() -> Vec<(&'static str, Vec<u8>)> {
    let puk = "{ reference = 129, value = \"30 30 30 30 30 30 30 30\"";
    vec![
        ("P04", edited("bootstrap", "pins = \"01 0A\" }", "pins = \"01 0B\" }")),
        ("P04", edited("bootstrap", "pins = \"01 81 0A\" }", "pins = \"01 82 0A\" }")),
        ("P04", without("bootstrap", Kind::PinCodes)),
        // A DF of its own below the MF, without PINs; one below an ADF that has none of this reference.
        ("P04", with("bootstrap", generic(&[], &DIRECTORY_5F40))),
        ("P04", with("iot-minimal", generic(&[0x7F, 0xFF], &DIRECTORY_5F40))),
        ("P05", edited("bootstrap", "attempts = 170", "attempts = 10")),
        ("P05", edited("bootstrap", "attempts = 170", "attempts = 160")),
        ("P05", edited("bootstrap", "attempts = 170", "attempts = 52")),
        ("P05", edited("bootstrap", puk, &format!("{puk}, attempts = 0"))),
        (
            "P06",
            edited(
                "bootstrap",
                "[{ reference = 129, value = \"30 30 30 30 FF",
                "[{ reference = 129, value = \"30 30 30 31 FF",
            ),
        ),
        (
            "P06",
            edited(
                "bootstrap",
                "{ reference = 1, value = \"30 30 30 30 FF FF FF FF\"",
                "{ reference = 1, value = \"30 30 30 30 30 30 30 30\"",
            ),
        ),
        (
            "P03",
            edited(
                "operational",
                "{ reference = 129, value = \"30 30 30 30 30",
                "{ reference = 1, value = \"30 30 30 30 30",
            ),
        ),
        ("P07", edited("bootstrap", "{ reference = 10,", "{ reference = 11,")),
    ]
}

fn authentication() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("A01", with_aka("bootstrap", &[mapping(0x70, &[0xA0, 0, 0])])),
        ("A02", with_aka("bootstrap", &[mapping(0x70, &USIM_AID)])),
        ("A02", with_aka("operational", &[milenage(0x70, &[], &[]), mapping(0x71, &ISIM_AID)])),
        ("A02", with_aka("operational", &[milenage(0x70, &[], &[]), mapping(0x71, &APPLET)])),
        ("A02", with_aka("operational", &[mapping(0x70, &APPLET), mapping(0x71, &USIM_AID)])),
        ("A03", with_aka("operational", &[milenage(0x70, &[0x84, 5, 0, 0, 32, 64, 96], &[])])),
        ("A03", with_aka("operational", &[milenage(0x70, &[], &[]), milenage(0x71, &constants(4, 16), &[])])),
        ("A05", with_aka("bootstrap", &[milenage(0x70, &[0x84, 5, 64, 0, 32, 128, 96], &[])])),
        ("A05", with_aka("bootstrap", &[milenage(0x70, &constants(3, 2), &[])])),
        ("A05", with_aka("bootstrap", &[milenage(0x70, &[0x87, 1, 0], &[])])),
        ("A05", with_aka("bootstrap", &[milenage(0x70, &[], &[0x83, 6, 8, 0, 0, 0, 0, 0])])),
        ("A05", with_aka("bootstrap", &[milenage(0x70, &[], &[0x84, 6, 255, 0, 0, 0, 0, 0])])),
        ("A05", with_aka("bootstrap", &[milenage(0x70, &[], &sequence_numbers(32, [8, 0, 0, 0, 0, 0]))])),
        ("A05", with_aka("bootstrap", &[milenage(0x70, &[], &sequence_numbers(31, [7, 0, 0, 0, 0, 0]))])),
    ]
}

fn networks() -> Vec<(&'static str, Vec<u8>)> {
    let of_bootstrap = |from, to| edited("bootstrap", from, to);
    vec![
        ("U01", of_bootstrap("ef-imsi = {", "ef-imsi = { do_not_create = true } #")),
        ("U02", of_bootstrap("content = \"00 00 00 02\"", "content = \"00 00 00 03\"")),
        // 001-010, 001-001 and 001-011, where the home network is 001-01.
        ("U02", of_bootstrap("content = \"00 F1 10\"", "content = \"00 01 10\"")),
        ("U02", of_bootstrap("content = \"00 F1 10\"", "content = \"00 11 00\"")),
        ("U02", of_bootstrap("content = \"00 F1 10 C0 00\"", "content = \"00 11 10 C0 00\"")),
        ("U02", of_bootstrap("content = \"FF FF FF FF 00 F1 10", "content = \"FF FF FF FF 00 01 10")),
        ("U02", edited("operational", "A3 08 80 06  00 F1 10", "A3 08 80 06  00 01 10")),
        ("U12", of_bootstrap("ef-spn = { size = 17", "ef-spn = { size = 18")),
        ("U12", of_bootstrap("ef-sms = { record = 176", "ef-sms = { record = 175")),
        ("U12", of_bootstrap("ef-fplmn = { size = 12", "ef-fplmn = { size = 13")),
        ("U12", of_bootstrap("ef-hplmnwact = { size = 5", "ef-hplmnwact = { size = 6")),
        ("U12", of_bootstrap("ef-msisdn = { record = 28", "ef-msisdn = { record = 13")),
        ("U12", of_bootstrap("ef-imsi = { fid = \"6F 07\", size = 9", "ef-imsi = { fid = \"6F 07\", size = 10")),
        // IMPI of another subscriber; realm of another network, in EF.DOMAIN too.
        ("U13", patched("operational", b"\x80\x31001010000000000@", b"\x80\x31001010000000007@")),
        ("U13", patched("operational", b"001010000000000@ims.mnc001", b"001010000000000@ims.mnc002")),
        ("U13", patched("operational", b"\x80\x21ims.mnc001.mcc001", b"\x80\x21ims.mnc001.mcc002")),
    ]
}

fn services() -> Vec<(&'static str, Vec<u8>)> {
    let of_operational = |from, to| edited("operational", from, to);
    let est = "ef-est = { arr = \"6F 06 08\", sfi = 5, content = \"00\"";
    vec![
        // GID1; EF.SPN suppressed.
        ("U04", bootstrap_services("02 0A 15 08 01 06 00 00 40 00 10 00 00 00")),
        ("U04", edited("bootstrap", "ef-spn = {", "ef-spn = { do_not_create = true } #")),
        // EF.SPN is written by the USIM's own element.
        ("U05", bootstrap_services("02 0A 10 08 01 06 00 00 40 00 10 00 00 00")),
        ("U05", bootstrap_services("02 0A 14 08 01 02 00 00 40 00 10 00 00 00")),
        ("U06", of_operational("ef-routing-indicator = {", "#")),
        ("U06", operational_services("9E CF 3F 1C E5 F6 5D 00 48 E3 10 84 01 00 00 3E 01")),
        (
            "U06",
            patched(
                "operational",
                &[0xA0, 6, 1, 2, 2, 1, 0, 0, 0xA1, 0x4B],
                &[0xA0, 0, 0xA1, 6, 0x80, 1, 1, 0x81, 1, 1],
            ),
        ),
        ("U07", schemes([1, 2, 2, 3, 0, 0])),
        ("U07", schemes([1, 1, 2, 2, 0, 0])),
        ("U07", schemes([1, 2, 3, 1, 0, 0])),
        ("U07", schemes([1, 2, 1, 2, 0, 0])),
        ("U07", schemes([1, 2, 2, 1, 0, 1])),
        // No point of the curve has this x.
        (
            "U07",
            patched(
                "operational",
                &[0x81, 0x21, 0x02, 0x72, 0xDA, 0x71, 0x97],
                &[0x81, 0x21, 0x02, 0x72, 0xDA, 0x71, 0x98],
            ),
        ),
        // A P-256 point that is neither compressed nor uncompressed; a list cut off.
        ("U07", patched("operational", &[0x81, 0x21, 0x02, 0x72], &[0x81, 0x21, 0x05, 0x72])),
        ("U07", patched("operational", &[0xA0, 6, 1, 2, 2, 1], &[0xA0, 5, 1, 2, 2, 1])),
        ("U08", schemes([0, 0, 1, 2, 2, 1])),
        ("U09", operational_services("9E CF 3F 1C E5 F6 5D 00 48 E3 10 84 01 00 00 2E 03")),
        (
            "U10",
            of_operational("ef-5gs3gppnsc = { record = 62, records = 1", "ef-5gs3gppnsc = { record = 62, records = 2"),
        ),
        ("U10", operational_services("9E CF 3F 1C E5 F6 5D 00 48 E3 10 84 01 00 00 2E 81")),
        ("U11", edited("bootstrap", est, &est.replace("content = \"00\"", "content = \"02\""))),
        ("U11", of_operational("content = \"E3 00 00 00", "content = \"EB 00 00 00")),
    ]
}

fn domains() -> Vec<(&'static str, Vec<u8>)> {
    let list = "parameters = \"81 02 80 00\"";
    let below = |above, state, more: &[u8]| with("bootstrap", domain(&APPLET, above, state, more));
    vec![
        ("S02", edited("bootstrap", "usage = \"14\" }, # KID", "usage = \"18\" }, # KID")),
        ("S02", edited("bootstrap", "usage = \"18\" }, # KIC", "usage = \"14\" }, # KIC")),
        ("S03", edited("bootstrap", list, "parameters = \"81 02 03 70\"")),
        ("S03", edited("bootstrap", list, "parameters = \"81 04 80 00 81 F0\"")),
        ("S03", edited("operational", "81 02 81 F0", "82 02 81 F0")),
        ("S04", below(None, 0x0F, &wrap(constructed(5), &[]))),
        ("S04", below(Some(&APPLET), 0x0F, &[])),
        // The MNO-SD is not PERSONALIZED, or is extradited itself.
        ("S04", {
            let not_ready = edited("bootstrap", "life_cycle = \"0F\"", "life_cycle = \"0E\"");
            let end = not_ready.len() - 9;
            [&not_ready[..end], &domain(&APPLET, Some(&MNO_SD), 0x0F, &[]), &not_ready[end..]].concat()
        }),
        (
            "S04",
            rearranged("bootstrap", |elements| {
                let at = place(elements, Kind::SecurityDomain);
                elements.insert(at, domain(&APPLET, Some(&MNO_SD), 0x0F, &[]));
            }),
        ),
        ("S05", edited("bootstrap", "id = 1, type = \"aes\"", "id = 1, type = \"des\"")),
        ("S05", edited("bootstrap", "msl = \"16\"", "msl = \"00\"")),
        ("S05", edited("bootstrap", "02 01 16 06 B2", "02 01 00 06 B2")),
        // SCP03 with DES; the AID of another RFM, of the MNO-SD, of another applet.
        ("S02", below(Some(&MNO_SD), 7, &key_of(0x30, 0x80))),
        ("R01", edited("bootstrap", "aid = \"A0 00 00 05 59 10 10 00 02\"", "aid = \"A0 00 00 05 59 10 10 00 01\"")),
        ("R01", edited("bootstrap", "aid = \"A0 00 00 05 59 10 10 00 02\"", "aid = \"A0 00 00 01 51 00 00 00\"")),
        ("R01", with("operational", applet(None, &[&[&APPLET, &APPLET, &APPLET], &[&APPLET, &APPLET, &APPLET]]))),
        // The TAR of the MNO-SD.
        ("R01", edited("bootstrap", "tars = [\"B0 00 20\"]", "tars = [\"B2 01 00\"]")),
        ("R02", edited("bootstrap", "tars = [\"B0 00 20\"]", "tars = []")),
    ]
}

fn applets() -> Vec<(&'static str, Vec<u8>)> {
    let sha1 = openssl::sha::sha1(&CAP);
    vec![
        ("J01", with("operational", applet(None, &[]))),
        ("J01", with("operational", applet(Some(&[]), &[]))),
        ("J01", with("operational", applet(Some(&load_block(&[], b"PK\x03\x04 a JAR file")), &[]))),
        ("J01", with("operational", applet(Some(&load_block(&[], &CAP[3..])), &[]))),
        ("J01", with("operational", applet(Some(&load_block(&[0; 20], &CAP)), &[]))),
        ("J01", with("operational", applet(Some(&load_block(&sha1[..19], &CAP)), &[]))),
        ("J01", with("operational", applet(Some(&load_block(&[], &CAP)), &[&[&MNO_SD, &APPLET, &APPLET]]))),
        ("J01", with("operational", applet(Some(&load_block(&[], &CAP)), &[&[&APPLET, &APPLET[..4], &APPLET]]))),
    ]
}

fn findings(rule: &str, der: &[u8], options: &Options) -> Vec<Finding> {
    lint_with(der, options).findings.into_iter().filter(|finding| finding.rule == rule).collect()
}

#[test]
fn near_misses_are_no_findings() {
    let hashes: [&[u8]; 4] = [
        &openssl::sha::sha1(&CAP),
        &openssl::sha::sha256(&CAP),
        &openssl::sha::sha384(&CAP),
        &openssl::sha::sha512(&CAP),
    ];
    let mut near: Vec<(&str, Vec<u8>)> = vec![
        // A DF below ADF.USIM has the local PINs of the ADF.
        ("P04", with("bootstrap", generic(&[0x7F, 0xF0], &DIRECTORY_5F40))),
        ("P05", edited("bootstrap", "attempts = 170", "attempts = 161")),
        ("A01", with_aka("operational", &[milenage(0x70, &[], &[]), mapping(0x71, &USIM_AID)])),
        ("A02", with_aka("operational", &[milenage(0x70, &[], &[]), mapping(0x71, &USIM_AID)])),
        ("A03", with_aka("operational", &[milenage(0x70, &[], &[]), mapping(0x71, &USIM_AID)])),
        // Sequence numbers are counted for each application by itself.
        ("A03", with_aka("operational", &[milenage(0x70, &[], &[0x83, 6, 0, 0, 32, 0, 0, 0])])),
        (
            "A05",
            with_aka("bootstrap", &[milenage(0x70, &constants(3, 16), &sequence_numbers(32, [7, 255, 0, 0, 0, 0]))]),
        ),
        ("A05", with_aka("bootstrap", &[milenage(0x70, &[0x84, 5, 0, 127, 0, 0, 0], &[])])),
        // Other networks of the country and of others, with a longer MNC.
        ("U02", edited("operational", "09 F1 07", "00 21 10")),
        ("U02", edited("bootstrap", "content = \"00 F1 10\"", "content = \"13 00 14\"")),
        // EF.GID1 that no element names is made by GenericFileManagement; EF.FDN is made by the template unasked.
        (
            "U04",
            rearranged("bootstrap", |elements| {
                for element in elements.iter_mut() {
                    let ust = [0x02, 0x0A, 0x14, 0x08, 0x01, 0x06];
                    if let Some(at) = element.windows(6).position(|window| window == ust) {
                        element[at + 2] = 0x15;
                    }
                }
                elements.insert(elements.len() - 1, generic(&[0x7F, 0xF0], &GID1_BY_HAND));
            }),
        ),
        ("U04", edited("bootstrap", "ef-fdn = {", "#")),
        ("U07", schemes([2, 1, 1, 2, 0, 0])),
        // The other point with the same x.
        ("U07", patched("operational", &[0x81, 0x21, 0x02, 0x72], &[0x81, 0x21, 0x03, 0x72])),
        ("U08", schemes([2, 1, 1, 2, 0, 0])),
        ("U10", edited("operational", "ef-5gs3gppnsc = { record = 62", "ef-5gs3gppnsc = { record = 57")),
        // FDN is enabled and there.
        (
            "U11",
            edited(
                "bootstrap",
                "ef-est = { arr = \"6F 06 08\", sfi = 5, content = \"00\"",
                "ef-est = { arr = \"6F 06 08\", sfi = 5, content = \"01\"",
            ),
        ),
        // A realm and users of the operator's own.
        ("U13", patched("operational", b"001010000000000@ims.mnc001.mcc001", b"subscriber.0077@operator.example0")),
        // A domain that waits for its keys may list what it will speak.
        ("S03", with("bootstrap", domain(&APPLET, Some(&MNO_SD), 7, &[]))),
        ("S04", with("bootstrap", domain(&APPLET, Some(&MNO_SD), 7, &[]))),
        ("S02", edited("bootstrap", "usage = \"18\" }, # KIC", "usage = \"38\" }, # KIC")),
        // SCP03 with AES, SCP02 with DES.
        ("S02", with("bootstrap", domain(&APPLET, Some(&MNO_SD), 7, &key_of(0x30, 0x88)))),
        ("S02", with("bootstrap", domain(&APPLET, Some(&MNO_SD), 7, &key_of(0x20, 0x80)))),
        // Another AID of one package.
        ("R01", with("operational", applet(None, &[&[&APPLET, &APPLET, &APPLET], &[&APPLET, &APPLET, &MNO_SD[..7]]]))),
        (
            "P03",
            edited(
                "operational",
                "{ reference = 129, value = \"30 30 30 30 30",
                "{ reference = 130, value = \"30 30 30 30 30",
            ),
        ),
        // The subscriber has another identity than an IMSI.
        ("U01", operational_services("9E CF 3F 1C E5 F6 5D 00 48 E3 10 84 01 00 00 2E 03")),
        ("S05", edited("bootstrap", "id = 1, type = \"aes\", octets = 16", "id = 1, type = \"des\", octets = 24")),
        (
            "R02",
            edited(
                "bootstrap",
                "aid = \"A0 00 00 05 59 10 10 00 02\"",
                "aid = \"A0 00 00 05 59 10 10 00 02 00 00 00 B0 00 20\"",
            ),
        ),
        ("J01", with("operational", applet(Some(&load_block(&[], &CAP)), &[&[&APPLET, &APPLET, &APPLET]]))),
        // Another instance of the package of security domains.
        ("J01", with("operational", applet(None, &[&[&[0xA0, 0, 0, 1, 0x51, 0x53, 0x50], &APPLET, &APPLET]]))),
    ];
    near.extend(hashes.map(|hash| ("J01", with("operational", applet(Some(&load_block(hash, &CAP)), &[])))));
    for (at, (rule, der)) in near.into_iter().enumerate() {
        assert_eq!(findings(rule, &der, &Options::default()), [], "near miss {at}");
    }
}

/// Packages that only production refuses.
pub(super) fn offenders_in_production() -> Vec<(&'static str, Vec<u8>)> {
    // Key, OPc, ADM and OTA key of the preset are zeros or one digit.
    let key = "key = \"00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\"";
    vec![
        ("A06", elements("bootstrap").concat()),
        ("A06", edited("bootstrap", key, &key.replace("00 00", "FF FF"))),
        ("P06", elements("bootstrap").concat()),
        (
            "U08",
            patched(
                "operational",
                &[0xA0, 6, 1, 2, 2, 1, 0, 0, 0xA1, 0x4B],
                &[0xA0, 2, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
            ),
        ),
    ]
}

/// A preset whose akaParameter, ADM and OTA keys are drawn, but for what a change puts back.
fn drawn(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut der = elements("bootstrap").concat();
    let mut octet = 0_u8;
    for (tag, len) in [([0x82, 16], 16), ([0x83, 16], 16), ([0x86, 16], 16)] {
        while let Some(at) = der.windows(18).position(|window| window[..2] == tag && window[2..] == [0; 16]) {
            der[at + 2..at + 2 + len].iter_mut().for_each(|place| {
                octet = octet.wrapping_mul(29).wrapping_add(71);
                *place = octet;
            });
        }
    }
    while let Some(at) = der.windows(13).position(|window| window == b"\x80\x01\x0A\x81\x0800000000") {
        der[at + 5..at + 13].copy_from_slice(b"40917263");
    }
    change(&mut der);
    der
}

#[test]
fn keys_that_nobody_drew_are_errors_in_production_wherever_they_stand() {
    let production = Options { production: true, ..Options::default() };
    let told =
        |der: &[u8]| findings("A06", der, &production).into_iter().map(|finding| finding.path).collect::<Vec<_>>();
    assert_eq!(told(&drawn(|_| {})), [""; 0]);
    let placeholders = findings("A06", &elements("bootstrap").concat(), &production);
    assert!(placeholders.iter().all(|finding| finding.severity == Severity::Error));
    let paths: Vec<_> = placeholders.iter().map(|finding| finding.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "akaParameter/algoConfiguration/algoParameter/key",
            "akaParameter/algoConfiguration/algoParameter/opc",
            "pinCodes/pinCodes/pinconfig[2]/pinValue",
            "securityDomain/keyList[1]/keyComponents[1]/keyData",
            "securityDomain/keyList[2]/keyComponents[1]/keyData",
            "securityDomain/keyList[3]/keyComponents[1]/keyData",
        ]
    );
    // The published test key, and one octet beside it.
    let counting: [u8; 16] = std::array::from_fn(|at| at as u8);
    let with_key = |key: [u8; 16]| {
        drawn(move |der| {
            let at = der.windows(5).position(|window| window == [0x80, 1, 1, 0x81, 1]).unwrap();
            let key_at = at + der[at..].windows(2).position(|window| window == [0x82, 16]).unwrap() + 2;
            der[key_at..key_at + 16].copy_from_slice(&key);
        })
    };
    assert_eq!(told(&with_key(counting)), ["akaParameter/algoConfiguration/algoParameter/key"]);
    let mut beside = counting;
    beside[15] = 0;
    assert_eq!(told(&with_key(beside)), [""; 0]);
}

#[test]
fn what_a_template_may_hold_and_a_card_may_not_is_asked_in_production() {
    let production = Options { production: true, ..Options::default() };
    for (rule, der) in offenders_in_production() {
        assert_eq!(findings(rule, &der, &Options::default()), [], "{rule}");
        assert_ne!(findings(rule, &der, &production), [], "{rule}");
        // A rule that is not asked has run all the same: it says so by finding nothing.
        assert_eq!(lint(&der).rules_run, lint_with(&der, &production).rules_run);
    }
    // The IMSI of the record is there, the identities are still the template's.
    let imsi = patched("operational", &[8, 9, 0x10, 0x10, 0, 0, 0, 0, 0], &[8, 9, 0x10, 0x10, 0, 0, 0, 0, 0x10]);
    for (options, severity) in [(&Options::default(), Severity::Warning), (&production, Severity::Error)] {
        let told = findings("U13", &imsi, options);
        assert!(!told.is_empty() && told.iter().all(|finding| finding.severity == severity), "{told:?}");
    }
    // Codes that nobody guesses.
    let mut drawn = elements("bootstrap").concat();
    for (from, to) in [(&b"0000\xFF\xFF\xFF\xFF"[..], &b"7305\xFF\xFF\xFF\xFF"[..]), (b"00000000", b"40917263")] {
        while let Some(at) = drawn.windows(8).position(|window| window == from) {
            drawn[at..at + 8].copy_from_slice(to);
        }
    }
    assert_eq!(findings("P06", &drawn, &production), []);
}

#[test]
fn findings_say_where_and_repeat_no_secret() {
    let attempts = findings("P05", &edited("bootstrap", "attempts = 170", "attempts = 52"), &Options::default());
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].element, "PE 4 pinCodes");
    assert_eq!(attempts[0].path, "pinCodes/pinCodes/pinconfig[2]/maxNumOfAttemps-retryNumLeft");
    assert_eq!(attempts[0].message, "reference 0A has 4 of 3 attempts left");

    let secret = with_aka(
        "operational",
        &[{
            let mut aka = milenage(0x70, &[], &[]);
            let at = aka.windows(18).position(|window| window == [&[0x82, 16][..], &[0; 16]].concat()).unwrap();
            aka[at + 2..at + 18].fill(0x5A);
            aka
        }],
    );
    let differs = findings("A03", &secret, &Options::default());
    assert_eq!(differs.len(), 1);
    assert_eq!(differs[0].path, "akaParameter/algoConfiguration/algoParameter/key");
    assert!(!serde_json::to_string(&lint(&secret)).unwrap().to_uppercase().contains("5A5A"));
}

/// Packages of as many elements, PINs, keys, directories and applications as the reader takes.
fn crowds() -> Vec<(&'static str, Vec<u8>)> {
    let pin = [0x30, 13, 0x80, 1, 1, 0x81, 8, 0x30, 0x30, 0x30, 0x30, 0xFF, 0xFF, 0xFF, 0xFF];
    let pins =
        |list: &[u8]| wrap(constructed(2), &[&header(1), &wrap(constructed(1), &[&wrap(constructed(0), &[list])])]);
    let key = [0x30, 18, 0x95, 1, 0x18, 0x82, 1, 1, 0x83, 1, 1, 0x30, 7, 0x30, 5, 0x80, 1, 0x80, 0x86, 0];
    let keys = |list: &[u8]| wrap(constructed(6), &[&header(1), &wrap(constructed(2), &[list])]);
    let usim = wrap(
        constructed(19),
        &[&[0x81, 6, 0x67, 0x81, 0x0F, 1, 2, 4], &wrap(constructed(8), &[&wrap(primitive(3), &[&[0xFF; 17]])])],
    );
    let crowd = |element: Vec<u8>, count| with("bootstrap", element.repeat(count));
    vec![
        ("PINs", crowd(pins(&pin.repeat(15_000)), 1)),
        ("pinCodes", crowd(pins(&pin), 6_000)),
        ("keys", crowd(keys(&key.repeat(6_500)), 1)),
        ("domains", crowd(domain(&APPLET, Some(&MNO_SD), 0x0F, &[]), 4_000)),
        ("directories", crowd(generic(&[0x7F, 0xF0], &DIRECTORY_5F40), 4_500)),
        ("mappings", crowd(mapping(0x70, &USIM_AID), 7_000)),
        ("applets", crowd(applet(Some(&load_block(&[0; 32], &CAP)), &[&[&APPLET, &APPLET, &APPLET]]), 4_000)),
        ("USIMs", crowd(usim, 6_000)),
        (
            "access rules",
            crowd(wrap(constructed(16), &[&wrap(constructed(6), &[&wrap(primitive(3), &[&[0xA4; 64]])])]), 20_000),
        ),
    ]
}

#[test]
fn a_crowd_of_anything_costs_time_by_the_piece() {
    for (what, der) in crowds() {
        let start = std::time::Instant::now();
        let lint = lint(&der);
        assert!(lint.rules_run > 1, "{what}: {:?}", lint.findings);
        // Seconds at most on a slow machine; minutes where a rule compares each with each.
        assert!(start.elapsed().as_secs() < 20, "{:?} for {what}", start.elapsed());
        for rule in rules() {
            let told = lint.findings.iter().filter(|finding| finding.rule == rule.id).count();
            assert!(told <= MOST_FINDINGS + 1, "{} says {told} things about {what}", rule.id);
        }
    }
}

#[test]
fn an_iccid_of_another_industry_is_a_warning() {
    let der = rearranged("bootstrap", |elements| {
        // 79001000000000000004: telecommunication is 89 (ITU-T E.118).
        let at = elements[0].windows(3).position(|window| window == [0x89, 0x00, 0x10]).unwrap();
        elements[0][at] = 0x79;
        elements[0][at + 9] = 0x04;
    });
    let found = findings("H05", &der, &Options::default());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].severity, found[0].path.as_str()), (Severity::Warning, "header/iccid"));
}

proptest::proptest! {
    #[test]
    fn damaged_contents_cost_findings_at_most(
        preset in proptest::sample::select(vec!["iot-minimal", "operational", "bootstrap"]),
        damage in proptest::collection::vec(proptest::prelude::any::<(proptest::sample::Index, u8)>(), 1..24),
    ) {
        let mut der = elements(preset).concat();
        for (at, octet) in damage {
            let at = at.index(der.len());
            der[at] = octet;
        }
        let lint = lint_with(&der, &Options { production: true, ..Options::default() });
        proptest::prop_assert!(lint.findings.iter().all(|finding| finding.offset <= der.len()));
    }

    #[test]
    fn values_exchanged_for_others_cost_findings_at_most(
        preset in proptest::sample::select(vec!["iot-minimal", "operational"]),
        at in proptest::prelude::any::<proptest::sample::Index>(),
        which in 0..200_usize,
        value in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
    ) {
        // A sound TLV with another value of another length, so that the package stays DER and the rules see it.
        let der = rearranged(preset, |elements| {
            let at = at.index(elements.len());
            let element = crate::formats::tlv::Reader::new(&elements[at]).next_tlv().unwrap().unwrap();
            let element = exchanged(&element, &value, &mut { which });
            elements[at] = element;
        });
        proptest::prop_assert!(Package::parse(&der).is_ok());
        let lint = lint_with(&der, &Options { production: true, ..Options::default() });
        proptest::prop_assert!(lint.rules_run > 60);
    }
}

/// A TLV with the value of its `countdown`th primitive exchanged.
fn exchanged(tlv: &crate::formats::tlv::Tlv<'_>, value: &[u8], countdown: &mut usize) -> Vec<u8> {
    if tlv.tag.is_constructed() {
        let children = crate::formats::saip::package::children(tlv).map(|child| exchanged(&child, value, countdown));
        return wrap(tlv.tag, &[&children.collect::<Vec<_>>().concat()]);
    }
    let is_it = *countdown == 0;
    *countdown = countdown.wrapping_sub(1);
    if is_it { wrap(tlv.tag, &[value]) } else { tlv.whole.to_vec() }
}
