//! Single fields in whole packages: where the octets stand, what an audit notices.

use super::templates::Change;
use super::{contains, drawn, identity, preset, settings};
use crate::formats::saip::algorithm::Algorithm;
use crate::formats::saip::file::FILE_TAGS;
use crate::formats::saip::kind::{Kind, constructed};
use crate::formats::saip::package::{Package, child, children};
use crate::formats::tlv::Tag;
use crate::personalise::{CompiledTemplate, Identity, Settings, VarSource, audit};

fn with(algorithm: Algorithm, vars: &[(&str, &str)]) -> Settings {
    let constant = |(name, text): &(&str, &str)| ((*name).to_owned(), VarSource::Constant((*text).to_owned()));
    Settings { algorithm, vars: vars.iter().map(constant).collect() }
}

fn made(der: &[u8], settings: &Settings) -> Vec<u8> {
    let template = CompiledTemplate::compile(der, settings).unwrap();
    template.personalise(&identity(), &drawn(&template, 7)).unwrap().expose().to_vec()
}

#[test]
fn tuak_with_a_key_of_256_bits_is_another_service() {
    let long = Change::LongKey.apply(&preset("bootstrap"));
    let template = CompiledTemplate::compile(&long, &settings(Algorithm::Tuak)).unwrap();
    let credentials = drawn(&template, 3);
    let upp = template.personalise(&identity(), &credentials).unwrap();
    assert_eq!((credentials.k().len(), credentials.opc().len()), (32, 32));
    // usim 81, tuak256 90.
    assert!(contains(upp.expose(), &[0xA5, 0x04, 0x81, 0x00, 0x90, 0x00]));
    // Milenage has no such key.
    let milenage = CompiledTemplate::compile(&long, &settings(Algorithm::Milenage)).unwrap();
    assert_eq!(drawn(&milenage, 3).k().len(), 16);
}

#[test]
fn a_file_that_the_template_makes_gets_a_member_in_the_order_of_the_tags() {
    let bare = Change::LeaveToDefault(Kind::Usim, "ef-spn").apply(&preset("bootstrap"));
    let upp = made(&bare, &with(Algorithm::Milenage, &[("spn", "Fleet")]));
    let package = Package::parse(&upp).unwrap();
    let usim = package.of(Kind::Usim).next().unwrap();
    let tags: Vec<Tag> = children(&usim.tlv).map(|member| member.tag).skip(2).collect();
    assert!(tags.is_sorted() && tags.contains(&constructed(Kind::Usim.file_number("ef-spn").unwrap())), "{tags:?}");
    let spn = usim.file("ef-spn").unwrap();
    assert_eq!(children(&spn).count(), 1, "nothing but content");
    assert!(child(&spn, FILE_TAGS.content).unwrap().value.starts_with(b"\x01Fleet\xFF"));
}

#[test]
fn sequence_numbers_take_260_octets_and_none_when_they_are_zero() {
    let len = |text| made(&preset("bootstrap"), &with(Algorithm::Milenage, &[("sqn", text)])).len();
    let none = len("000000000000");
    assert_eq!(none, made(&preset("bootstrap"), &settings(Algorithm::Milenage)).len());
    // 260 octets of their own, and the element's length in three octets instead of one.
    assert_eq!(len("000000000001"), none + 262);
}

#[test]
fn a_key_set_is_inserted_or_resized() {
    let vars = [("keyset.01", "aes-32"), ("keyset.40", "tls-psk-32")];
    let upp = made(&preset("bootstrap"), &with(Algorithm::Milenage, &vars));
    let found = audit::read(&upp).unwrap();
    let keys = |version| -> Vec<_> {
        let of = found.ota_keys.iter().filter(|key| key.version == version);
        of.map(|key| (key.id, key.key_type, key.value.len())).collect()
    };
    assert_eq!(keys(1), [(1, 0x88, 32), (2, 0x88, 32), (3, 0x88, 32)]);
    assert_eq!(keys(0x40), [(1, 0x85, 32), (2, 0x88, 16)]);
    // KeyObject 95 usage, 82 id, 83 version, 30 { 30 { 80 type, 86 data } }.
    assert!(contains(
        &upp,
        &[0x95, 1, 0x3C, 0x82, 1, 1, 0x83, 1, 0x40, 0x30, 0x27, 0x30, 0x25, 0x80, 1, 0x85, 0x86, 32]
    ));
}

#[test]
fn pins_of_the_line_stand_in_every_context() {
    let vars = [("pin1", "4711"), ("pin2", "12345678"), ("pin1_state", "enabled 3/3"), ("pin2_state", "disabled 5/5")];
    let upp = made(&preset("operational"), &with(Algorithm::Milenage, &vars));
    let found = audit::read(&upp).unwrap();
    let of = |local: bool| {
        let pins = found.pins.iter().filter(move |pin| (0x81..=0x88).contains(&pin.reference) == local);
        pins.filter(|pin| !matches!(pin.reference, 0x0A..=0x0E | 0x8A..=0x8E))
    };
    assert!(of(true).count() > 1 && of(true).all(|pin| pin.value[..] == *b"12345678"));
    assert!(of(false).count() == 1 && of(false).all(|pin| pin.value[..] == *b"4711\xFF\xFF\xFF\xFF"));
    assert!(found.named("pin2_state").all(|state| state.text.as_deref() == Some("disabled 5/5")));
}

#[test]
fn an_audit_notices_every_changed_octet_of_every_place() {
    let settings = settings(Algorithm::Milenage);
    let template = CompiledTemplate::compile(&preset("operational"), &settings).unwrap();
    let (one, other) = (drawn(&template, 1), drawn(&template, 2));
    let identity = Identity { msisdn: Some("4915112345678"), ..identity() };
    let stranger = Identity {
        iccid: "89000123456789012358".parse().unwrap(),
        imsi: Some("310410999999991".parse().unwrap()),
        msisdn: Some("1212555666777"),
        vars: &[],
    };
    let upp = template.personalise(&identity, &one).unwrap().expose().to_vec();
    let other = template.personalise(&stranger, &other).unwrap();
    let expected =
        audit::Expected { identity: &identity, settings: &settings, credentials: &one, template: None, op: None };
    assert_eq!(audit::check(&upp, &expected), Ok(()));
    let personal = (0..upp.len()).filter(|at| upp[*at] != other.expose()[*at]);
    let mut tried = 0;
    for at in personal.step_by(3) {
        let mut damaged = upp.clone();
        damaged[at] ^= 0x01;
        let error = audit::check(&damaged, &expected);
        assert!(error.is_err(), "octet {at} can be changed");
        let told = error.unwrap_err().to_string();
        assert!(!["001010", "49151", "890001"].iter().any(|value| told.contains(value)), "{told}");
        tried += 1;
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn an_audit_notices_what_a_whole_record_lacks() {
    let settings = with(Algorithm::Milenage, &[("spn", "Fleet")]);
    let der = preset("operational");
    let template = CompiledTemplate::compile(&der, &settings).unwrap();
    let credentials = drawn(&template, 1);
    let owner = identity();
    let upp = template.personalise(&owner, &credentials).unwrap();
    let expected =
        audit::Expected { identity: &owner, settings: &settings, credentials: &credentials, template: None, op: None };
    let told = |upp: &[u8], expected: &audit::Expected<'_>| audit::check(upp, expected).unwrap_err().to_string();
    // The template itself: nothing in it is the record's.
    assert!(told(&der, &expected).contains("iccid: is not what the record should have"));
    // A package that is compared with itself still has the keys of its own.
    let itself = audit::read(upp.expose()).unwrap();
    let left = audit::Expected { template: Some(&itself), ..expected };
    assert!(told(upp.expose(), &left).contains("key: is the template's"));
    // Keys of nothing but zeros.
    let zeros = vec![0; template.draw_len()];
    let zeros = template.credentials(&mut crate::personalise::Draw::new(&zeros), None).unwrap();
    let weak = template.personalise(&owner, &zeros).unwrap();
    assert!(told(weak.expose(), &audit::Expected { credentials: &zeros, ..expected }).contains("key: is zero"));
    let op = crate::secret::SubscriberKey::copy_of(&[0x11; 16]).unwrap();
    let wrong_op = audit::Expected { op: Some(&op), ..expected };
    assert!(told(upp.expose(), &wrong_op).contains("opc: does not follow from K and OP"));
    let tuak = Settings { algorithm: Algorithm::Tuak, ..settings.clone() };
    assert!(told(upp.expose(), &audit::Expected { settings: &tuak, ..expected }).contains("algorithmID"));
    let name = with(Algorithm::Milenage, &[("spn", "Fleets")]);
    assert!(told(upp.expose(), &audit::Expected { settings: &name, ..expected }).contains("usim/ef-spn: spn:"));
}
