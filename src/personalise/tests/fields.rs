//! Single fields in whole packages: where the octets stand, what an audit notices.

use super::templates::Change;
use super::{contains, drawn, identity, preset, settings};
use crate::formats::saip::algorithm::Algorithm;
use crate::formats::saip::file::{FILE_TAGS, FileView};
use crate::formats::saip::kind::{Kind, constructed};
use crate::formats::saip::package::{Package, child, children};
use crate::formats::tlv::{Tag, wrap};
use crate::personalise::credentials::Secret;
use crate::personalise::{CompiledTemplate, Identity, PersonaliseError, Settings, VarSource, audit, trial};

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
    let silent = Change::WithoutProtocols.apply(&preset("bootstrap"));
    let upp = made(&silent, &with(Algorithm::Milenage, &vars));
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
fn a_key_set_for_a_protocol_that_the_domain_does_not_offer_is_refused() {
    let refused = |preset_name, name, text| {
        let settings = with(Algorithm::Milenage, &[(name, text)]);
        CompiledTemplate::compile(&preset(preset_name), &settings).err().map(|error| error.to_string())
    };
    for (name, text, protocol) in [("keyset.30", "aes-16", "SCP03"), ("keyset.40", "tls-psk-32", "SCP81")] {
        let told = refused("bootstrap", name, text).unwrap();
        assert!(told.contains(name) && told.contains(protocol) && told.contains("C9"), "{told}");
    }
    assert_eq!(refused("operational", "keyset.41", "tls-psk-32"), None);
    assert_eq!(refused("bootstrap", "keyset.0A", "aes-32"), None);
}

/// A CSIM with IMSI_M of the example in `ef/csim.rs`, blank IMSI_T, class 4 and code 123456, in front of the end.
fn with_csim(class: u8) -> Vec<u8> {
    let file = |name, content: &[u8]| {
        wrap(constructed(Kind::Csim.file_number(name).unwrap()), &[&wrap(FILE_TAGS.content, &[content])])
    };
    let stale = [0, 0xFC, 0x01, 0x7B, 0x04, 0x6F, 0x5A, 0x80, 0xD1, 0x00];
    let csim = wrap(
        Kind::Csim.tag().unwrap(),
        &[
            &wrap(Tag(0xA0), &[&[0x81, 0x01, 0x71]]),
            &wrap(Tag(0x81), &[&[0x67, 0x81, 0x0F, 0x01, 0x02, 0x0A]]),
            &file("ef-imsi-m", &stale),
            &file("ef-imsi-t", &[0; 10]),
            &file("ef-accolc", &[class]),
            &file("ef-spc", &[0x21, 0x43, 0x65]),
        ],
    );
    let der = preset("operational");
    let end = Package::parse(&der).unwrap().elements.last().unwrap().tlv.offset;
    [&der[..end], &csim, &der[end..]].concat()
}

#[test]
fn a_csim_gets_the_identity_of_the_record_and_a_code_of_its_own() {
    let der = with_csim(4);
    let template = trial(&der, &settings(Algorithm::Milenage)).unwrap();
    let owner = Identity { imsi: Some("310016195551235".parse().unwrap()), ..identity() };
    let credentials = drawn(&template, 9);
    let upp = template.personalise(&owner, &credentials).unwrap();
    let package = Package::parse(upp.expose()).unwrap();
    let csim = package.of(Kind::Csim).next().unwrap();
    let content = |name| child(&csim.file(name).unwrap(), FILE_TAGS.content).unwrap().value;
    assert_eq!(content("ef-imsi-m"), [0, 0xFC, 0x01, 0x7C, 0x04, 0x6F, 0x5A, 0x80, 0xD1, 0x00]);
    assert_eq!((content("ef-imsi-t"), content("ef-accolc")), (&[0; 10][..], &[5][..]));
    assert_eq!(Some(content("ef-spc")), credentials.expose(Secret::Spc));
    assert_ne!(content("ef-spc"), [0x21, 0x43, 0x65]);
    assert!(template.inputs().iter().any(|input| input.name == "spc" && input.source == "generated"));
    // A class for tests stays; an IMSI that does not fill the file is refused.
    assert!(contains(&made(&with_csim(12), &settings(Algorithm::Milenage)), &[0x83, 1, 12]));
    let short = Identity { imsi: Some("31041012345".parse().unwrap()), ..identity() };
    assert_eq!(template.personalise(&short, &credentials).unwrap_err(), PersonaliseError::ImsiTooShort);
    // The line may set the identity itself, but never the code.
    let own = with(Algorithm::Milenage, &[("imsi_m", "310016195551239"), ("accolc", "7")]);
    assert!(trial(&der, &own).is_ok());
    for name in ["spc", "csim/ef-spc"] {
        assert!(trial(&der, &with(Algorithm::Milenage, &[(name, "123456")])).is_err(), "{name}");
    }
}

/// One application with one instance, which has no commands yet, in front of the end.
fn with_applet() -> Vec<u8> {
    let instance = wrap(
        Tag(0x30),
        &[&[0x4F, 5, 0xD2, 0x76, 0, 1, 0x18].repeat(3)[..], &[0x82, 1, 0, 0xC9, 0], &[0xB0, 6, 0x5F, 0x20, 3, 1, 2, 3]],
    );
    let header = wrap(Tag(0xA0), &[&[0x81, 0x01, 0x72]]);
    let application = wrap(Kind::Application.tag().unwrap(), &[&header, &wrap(constructed(2), &[&instance])]);
    let der = preset("operational");
    let end = Package::parse(&der).unwrap().elements.last().unwrap().tlv.offset;
    [&der[..end], &application, &der[end..]].concat()
}

#[test]
fn remote_management_and_applets_are_set_by_their_number() {
    let der = with_applet();
    let vars = [
        ("rfm.2.tar", "B20101,B20102"),
        ("rfm.1.msl", "0E"),
        ("sd.1.msl", "12"),
        ("process_data.1", "80E2000002CAFE,80E280000107"),
    ];
    let settings = with(Algorithm::Milenage, &vars);
    trial(&der, &settings).unwrap();
    let upp = made(&der, &settings);
    let package = Package::parse(&upp).unwrap();
    let rfms: Vec<_> = package.of(Kind::Rfm).collect();
    let list = children(&rfms[1].tlv).filter(|member| member.tag == constructed(0)).nth(1).unwrap();
    assert_eq!(list.value, [4, 3, 0xB2, 1, 1, 4, 3, 0xB2, 1, 2]);
    assert_eq!(rfms[0].member(Tag(0x81)).unwrap().value, [0x0E]);
    assert!(crate::formats::saip::types::decode_all(&upp).is_ok(), "the members are in their order");
    assert!(contains(&upp, &[0x30, 17, 4, 7, 0x80, 0xE2, 0, 0, 2, 0xCA, 0xFE, 4, 6, 0x80, 0xE2, 0x80, 0, 1, 7]));
    assert!(contains(&upp, &[2, 1, 0x12, 6, 0xB2, 1, 0]));
    for (name, text, reason) in [
        ("rfm.2.tar", "B201", "hex of 3 octets"),
        ("rfm.99.msl", "16", "from 1 in package order"),
        ("process_data.1", "secret", "APDUs"),
    ] {
        let error = CompiledTemplate::compile(&der, &with(Algorithm::Milenage, &[(name, text)])).unwrap_err();
        let told = error.to_string();
        assert!(told.contains(name) && told.contains(reason) && !told.contains("secret"), "{told}");
    }
}

#[test]
fn the_commands_of_an_applet_differ_in_length_from_record_to_record() {
    let settings =
        Settings { vars: [("process_data.1".into(), VarSource::PerRecord)].into(), ..settings(Algorithm::Milenage) };
    let template = trial(&with_applet(), &settings).unwrap();
    let credentials = drawn(&template, 1);
    let len = |text: &str| {
        let vars = [("process_data.1".to_owned(), text.to_owned())];
        let owner = Identity { vars: &vars, ..identity() };
        let upp = template.personalise(&owner, &credentials).unwrap();
        let expected = audit::Expected {
            identity: &owner,
            settings: &settings,
            credentials: &credentials,
            template: None,
            op: None,
        };
        assert_eq!(audit::check(upp.expose(), &expected).map(drop), Ok(()));
        upp.len()
    };
    assert_eq!(len("80E2800002CAFE"), len("80E28000") + 3);
}

/// GID1 and a stale number, made by GenericFileManagement below the ADF.USIM, and a GID1 elsewhere.
fn with_generic_files() -> Vec<u8> {
    let der = preset("bootstrap");
    let package = Package::parse(&der).unwrap();
    let usim = package.of(Kind::Usim).next().unwrap();
    let adf = FileView::single(&usim.file("adf-usim").unwrap()).unwrap().file_id().unwrap();
    let made = |fid: u16, descriptor: &[u8], content: &[u8]| {
        let size = [content.len() as u8];
        let parameters =
            [(0x82, descriptor), (0x83, &fid.to_be_bytes()[..]), (0x8B, &[0x6F, 0x06, 1]), (0x80, &size[..])];
        let members: Vec<Vec<u8>> = parameters.iter().map(|(tag, value)| wrap(Tag(*tag), &[value])).collect();
        let fcp = wrap(Tag(0x62), &members.iter().map(Vec::as_slice).collect::<Vec<_>>());
        [fcp, wrap(Tag(0x81), &[content])].concat()
    };
    let mut number = [0xFF; 24];
    number[10..18].copy_from_slice(&[7, 0x91, 0x21, 0x43, 0x65, 0x87, 0x09, 0x21]);
    let commands = [
        wrap(Tag(0x80), &[adf]),
        made(0x6F3E, &[0x41, 0x21], &[0xE7; 4]),
        made(0x6F40, &[0x42, 0x21, 0, 24], &number),
        wrap(Tag(0x80), &[&[0x7F, 0x77]]),
        made(0x6F3E, &[0x41, 0x21], &[0xE8; 4]),
    ];
    let list = wrap(Tag(0x30), &commands.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let generic = wrap(Tag(0xA1), &[&wrap(Tag(0xA0), &[&[0x81, 1, 0x73]]), &wrap(Tag(0xA1), &[&list])]);
    let end = package.elements.last().unwrap().tlv.offset;
    [&der[..end], &generic, &der[end..]].concat()
}

#[test]
fn a_standard_file_of_generic_file_management_takes_its_variable() {
    let der = with_generic_files();
    let settings = with(Algorithm::Milenage, &[("gid1", "0A0B")]);
    let template = trial(&der, &settings).unwrap();
    assert!(template.takes_msisdn());
    let upp = made(&der, &settings);
    assert!(contains(&upp, &[0x81, 4, 0x0A, 0x0B, 0xFF, 0xFF]), "written below the ADF.USIM");
    assert!(contains(&upp, &[0x81, 4, 0xE8, 0xE8, 0xE8, 0xE8]), "left as it is elsewhere");
    assert!(!contains(&upp, &[7, 0x91, 0x21, 0x43]), "the number of the template");
    // Unordered it stays, and is offered with its value; by its path its octets are set.
    let plain = trial(&der, &super::settings(Algorithm::Milenage)).unwrap();
    let gid1 = plain.inputs().iter().find(|input| input.name == "gid1").unwrap();
    assert!(gid1.places[0].ends_with("genericFileManagement/ef-gid1") && gid1.value.as_deref() == Some("E7E7E7E7"));
    let hex = with(Algorithm::Milenage, &[("opt-usim/ef-gid1", "C0FFEE")]);
    assert!(trial(&der, &hex).is_ok() && contains(&made(&der, &hex), &[0x81, 3, 0xC0, 0xFF, 0xEE]));
    // An audit sees a number that was left there.
    let credentials = drawn(&template, 7);
    let expected = audit::Expected {
        identity: &identity(),
        settings: &settings,
        credentials: &credentials,
        template: None,
        op: None,
    };
    let at = upp.windows(4).position(|octets| octets == [0x81, 24, 0xFF, 0xFF]).unwrap();
    let mut stale = upp.clone();
    stale[at + 12..at + 20].copy_from_slice(&[7, 0x91, 0x21, 0x43, 0x65, 0x87, 0x09, 0x21]);
    assert_eq!(audit::check(&upp, &expected).map(drop), Ok(()));
    assert!(audit::check(&stale, &expected).unwrap_err().to_string().contains("ef-msisdn: msisdn"));
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
    assert_eq!(audit::check(&upp, &expected).map(drop), Ok(()));
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
