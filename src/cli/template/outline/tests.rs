use super::*;
use crate::formats::saip::source;

#[test]
fn elements_cover_the_package_without_a_gap() {
    for (name, _) in source::PRESETS {
        let der = source::build(source::preset(name).unwrap()).unwrap();
        let package = Package::parse(&der).unwrap();
        let outline = Outline::of(&package);
        let mut offset = 0;
        for part in &outline.elements {
            assert_eq!(part.offset, offset, "{name}");
            offset += part.bytes;
        }
        assert_eq!((offset, outline.bytes), (der.len(), der.len()));
    }
}

/// A source with values nobody may see, wherever a template may hold one; each is a run of its own digits.
fn with_secrets() -> (Vec<u8>, Vec<String>) {
    let text = r#"
schema = "bindery.template/1"
description = "secrets"
[header]
version = "2.3"
profile_type = "secrets"
iccid = "89001000000000000002"
services = ["usim", "csim", "milenage"]
[[element]]
[element.pukCodes]
puks = [{ reference = 1, value = "31 31 31 31 31 31 31 31" }]
[[element]]
[element.pinCodes]
pins = [{ reference = 1, value = "32 32 32 32 FF FF FF FF" }, { reference = 10, value = "A3 A3 A3 A3 A3 A3 A3 A3" }]
[[element]]
[element.usim]
template = "4"
[element.usim.files]
ef-keys = { size = 33, content = "A4 A4 A4 A4 A4 A4 A4 A4" }
ef-epsnsc = { record = 80, records = 1, fill = "A5 A5 A5 A5 A5 A5 A5 A5 FF" }
[[element]]
[element.genericFileManagement]
files = [{ path = "7F F0", fid = "6F 08", size = 8, arr = "6F 06 01", content = "A6 A6 A6 A6 A6 A6 A6 A6" }]
[[element]]
[element.akaParameter]
key = "A7 A7 A7 A7 A7 A7 A7 A7 A7 A7 A7 A7 A7 A7 A7 A7"
opc = "A8 A8 A8 A8 A8 A8 A8 A8 A8 A8 A8 A8 A8 A8 A8 A8"
rotation = "A9 A9 A9 A9 A9"
constants = ["CONSTANTS"]
sqn_init = ["SQN"]
[[element]]
[element.cdmaParameter]
key = "AB AB AB AB AB AB AB AB"
ssd = "AC AC AC AC AC AC AC AC AC AC AC AC AC AC AC AC"
hrpd = "AD AD AD AD"
simple_ip = "AE AE AE AE"
mobile_ip = "AF AF AF AF AF"
[[element]]
[element.securityDomain]
perso = ["00 70 B1 B1 B1 B1"]
keys = [{ version = 1, id = 1, type = "aes", octets = 16, usage = "18" }]
[element.securityDomain.instance]
package_aid = "A0 00 00 01 51 53 50"
class_aid = "A0 00 00 01 51 53 50 41"
instance_aid = "A0 00 00 01 51 00 00 00"
privileges = "82 DC 00"
parameters = "81 02 80 00"
process_data = ["B2 B2 B2 B2"]
[[element]]
[element.nonStandard]
issuer = "1.3.6.1.4.1.99999"
content = "B3 B3 B3 B3"
"#;
    let text = text
        .replace("CONSTANTS", &"AA".repeat(80))
        .replace("[\"SQN\"]", &format!("[{}]", vec!["\"07B0B0B0B0B0\""; 32].join(", ")));
    let mut der = source::build(&text).unwrap();
    // A source has no words for a key: it goes in afterwards.
    let zeros = der.windows(16).rposition(|octets| octets == [0; 16]).unwrap();
    der[zeros..zeros + 16].fill(0xB4);
    let mut secrets: Vec<String> = (0xA3..=0xB4_u8).map(|octet| format!("{octet:02X}").repeat(4)).collect();
    // PIN and PUK as octets, and as the digits they are.
    secrets.extend(["31313131", "32323232", "11111111", "2222"].map(str::to_owned));
    (der, secrets)
}

#[test]
fn nothing_secret_becomes_text_whatever_is_asked_for() {
    let (der, secrets) = with_secrets();
    let package = Package::parse(&der).unwrap();
    let hex = data_encoding::HEXUPPER.encode(&der);
    for secret in secrets.iter().filter(|secret| !matches!(secret.as_str(), "11111111" | "2222")) {
        assert!(hex.contains(secret.as_str()), "{secret} is not in the template: this test proves nothing");
    }
    let mut outline = Outline::of(&package);
    outline.elements.iter_mut().flat_map(|part| &mut part.files).for_each(FileOutline::with_writes);
    let json = serde_json::to_string(&outline).unwrap();
    let facts =
        outline.elements.iter().flat_map(|part| &part.facts).map(|fact| format!("{} {}", fact.name, fact.value));
    for text in facts.chain([json]) {
        for secret in &secrets {
            assert!(!text.to_uppercase().contains(secret.as_str()), "{secret} in {text}");
        }
    }
}

#[test]
fn key_sets_are_told_by_version_roles_and_type() {
    let der = source::build(source::preset("operational").unwrap()).unwrap();
    let outline = Outline::of(&Package::parse(&der).unwrap());
    let domain = outline.elements.iter().find(|part| part.element == "securityDomain").unwrap();
    let said: Vec<_> = domain.facts.iter().map(|fact| (fact.name.as_str(), fact.value.as_str())).collect();
    for fact in [
        ("KVN 01 SCP80", "KIC KID KIK AES-128; placeholders (zeros)"),
        ("KVN 02 SCP80", "KIC KID KIK AES-256; placeholders (zeros)"),
        ("KVN 40 SCP81", "PSK TLS-PSK-256, DEK AES-128; placeholders (zeros)"),
        ("parameters", "SCP80 i=00, SCP81 i=F0"),
        ("toolkit", "TAR B20100 000000, MSL 16 cryptographic checksum, ciphered, counter higher"),
        (
            "privileges",
            "82DC00 security domain, CVM management, trusted path, authorized management, global delete, global lock, \
             global registry",
        ),
    ] {
        assert!(said.contains(&fact), "{fact:?} in {said:?}");
    }
}

#[test]
fn files_of_generic_file_management_are_told_with_their_path() {
    let (der, _) = with_secrets();
    let outline = Outline::of(&Package::parse(&der).unwrap());
    let gfm = outline.elements.iter().find(|part| part.element == "genericFileManagement").unwrap();
    let [file] = &gfm.files[..] else { panic!("{} files", gfm.files.len()) };
    assert_eq!((file.path.as_deref(), file.fid.as_deref()), (Some("7FF0"), Some("6F08")));
    assert_eq!(file.form_words(), "transparent 8 B");
}

#[test]
fn keys_in_files_of_generic_file_management_are_not_shown_whichever_application_has_them() {
    let with = |fid: &str| {
        let file = format!(
            "files = [{{ path = \"7F F0\", fid = \"{fid}\", size = 4, arr = \"6F 06 01\", content = \"A6 A6 A6 A6\" }}]"
        );
        let header = source::preset("bootstrap").unwrap();
        let header = &header[..header.find("[[element]]").unwrap()];
        let der = source::build(&format!("{header}[[element]]\n[element.genericFileManagement]\n{file}\n")).unwrap();
        let mut outline = Outline::of(&Package::parse(&der).unwrap());
        outline.elements.iter_mut().flat_map(|part| &mut part.files).for_each(FileOutline::with_writes);
        serde_json::to_string(&outline).unwrap()
    };
    // KeysPS, Kc, 5GAUTHKEYS, MUK, NAFKCA; the same octets in EF.GID1 are nobody's secret.
    for fid in ["6F 09", "4F 20", "4F 05", "6F D8", "6F DD"] {
        assert!(!with(fid).contains("A6A6"), "{fid}");
    }
    assert!(with("6F 3E").contains("A6A6"));
}
