mod fields;
mod properties;
mod refusals;
mod templates;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::credentials::Secret;
use super::*;
use crate::formats::saip::algorithm::Algorithm;
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::{Kind, constructed};
use crate::formats::saip::lint::Severity;
use crate::formats::saip::package::Package;
use crate::formats::saip::source;
use crate::formats::tlv::{Tag, wrap};
use crate::ids::{Iccid, Imsi};

fn settings(algorithm: Algorithm) -> Settings {
    Settings { algorithm, vars: BTreeMap::new() }
}

fn preset(name: &str) -> Vec<u8> {
    source::build(source::preset(name).unwrap()).unwrap()
}

fn drawn(template: &CompiledTemplate, seed: u64) -> Credentials {
    let mut state = seed | 1;
    let octets: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(template.draw_len())
    .collect();
    template.credentials(&mut Draw::new(&octets), None).unwrap()
}

/// Everything the audit finds equals what was asked for, at every place.
fn assert_personal(upp: &Upp, identity: &Identity<'_>, credentials: &Credentials, algorithm: Algorithm) {
    let settings = settings(algorithm);
    let expected = audit::Expected { identity, settings: &settings, credentials, template: None, op: None };
    assert_eq!(audit::check(upp.expose(), &expected).map(drop), Ok(()));
}

fn any_iccid() -> impl Strategy<Value = Iccid> {
    "89[0-9]{16,17}".prop_map(|body| Iccid::from_body(&body).unwrap())
}

fn any_imsi() -> impl Strategy<Value = Imsi> {
    "[0-9]{6,15}".prop_map(|digits| digits.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_audit_finds_every_value_at_every_place(
        iccid in any_iccid(),
        imsi in any_imsi(),
        msisdn in proptest::option::of("[1-9][0-9]{5,14}"),
        seed in any::<u64>(),
        tuak in any::<bool>(),
    ) {
        let algorithm = if tuak { Algorithm::Tuak } else { Algorithm::Milenage };
        for (name, _) in source::PRESETS {
            let template = CompiledTemplate::compile(&preset(name), &settings(algorithm)).unwrap();
            let msisdn = msisdn.as_deref().filter(|_| template.takes_msisdn());
            let identity = Identity { iccid, imsi: Some(imsi), msisdn, vars: &[] };
            let credentials = drawn(&template, seed);
            let upp = template.personalise(&identity, &credentials).unwrap();
            prop_assert_eq!(upp.len(), template.upp_len());
            assert_personal(&upp, &identity, &credentials, algorithm);
        }
    }
}

fn identity<'a>() -> Identity<'a> {
    Identity {
        iccid: "89000123456789012341".parse().unwrap(),
        imsi: Some("001010123456063".parse().unwrap()),
        msisdn: None,
        vars: &[],
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// The codings of the public test profile's numbers (TS.48), at the places where the bootstrap preset has them.
#[test]
fn known_numbers_stand_in_their_codings() {
    let template = CompiledTemplate::compile(&preset("bootstrap"), &settings(Algorithm::Milenage)).unwrap();
    let octets: Vec<u8> = (0..=255).cycle().take(template.draw_len()).collect();
    let credentials = template.credentials(&mut Draw::new(&octets), None).unwrap();
    let upp = template.personalise(&identity(), &credentials).unwrap();
    let upp = upp.expose();
    let package = Package::parse(upp).unwrap();
    let element = |kind| package.of(kind).next().unwrap();
    let header = element(Kind::Header).member(Tag(0x83)).unwrap();
    assert_eq!(header.value, b"\x89\x00\x01\x23\x45\x67\x89\x01\x23\x41");
    let written = |kind, file| FileView::single(&element(kind).file(file).unwrap()).unwrap().writes[0].content;
    assert_eq!(written(Kind::Mf, "ef-iccid"), b"\x98\x00\x10\x32\x54\x76\x98\x10\x32\x14");
    assert_eq!(written(Kind::Usim, "ef-imsi"), b"\x08\x09\x10\x10\x10\x32\x54\x06\x36");
    assert_eq!(written(Kind::Usim, "ef-acc"), b"\x00\x08");
    // K and OPc are the first 32 octets drawn.
    let aka = element(Kind::AkaParameter).tlv.whole;
    assert!(contains(aka, &[&[0x82, 0x10][..], &octets[..16], &[0x83, 0x10], &octets[16..32]].concat()));
    // milenage among the services: 81 00 84 00.
    assert!(contains(element(Kind::Header).tlv.whole, &[0xA5, 0x04, 0x81, 0x00, 0x84, 0x00]));
}

#[test]
fn tuak_changes_algorithm_lengths_and_services() {
    let template = CompiledTemplate::compile(&preset("bootstrap"), &settings(Algorithm::Tuak)).unwrap();
    let milenage = CompiledTemplate::compile(&preset("bootstrap"), &settings(Algorithm::Milenage)).unwrap();
    assert_eq!(template.upp_len(), milenage.upp_len() + 16);
    let upp = template.personalise(&identity(), &drawn(&template, 5)).unwrap();
    assert!(contains(upp.expose(), &[0xA5, 0x04, 0x81, 0x00, 0x85, 0x00]));
    let lint = crate::formats::saip::lint::lint(upp.expose());
    let errors: Vec<_> = lint.findings.iter().filter(|finding| finding.severity != Severity::Warning).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// Elements without personal values, also unknown ones, are the template's octet by octet; the others keep their order.
#[test]
fn what_is_not_personal_is_left_as_it_is() {
    for (name, _) in source::PRESETS {
        let mut der = preset(name);
        let stranger = [0xBF, 0x7E, 0x06, 0x80, 0x01, 0xAA, 0x9F, 0x21, 0x00];
        der.splice(der.len() - 9..der.len() - 9, stranger);
        let template = CompiledTemplate::compile(&der, &settings(Algorithm::Milenage)).unwrap();
        let upp = template.personalise(&identity(), &drawn(&template, 11)).unwrap();
        let (before, after) = (Package::parse(&der).unwrap(), Package::parse(upp.expose()).unwrap());
        assert_eq!(before.elements.len(), after.elements.len());
        for (before, after) in before.elements.iter().zip(&after.elements) {
            assert_eq!(before.tlv.tag, after.tlv.tag);
            if matches!(
                before.kind,
                Kind::Rfm | Kind::Telecom | Kind::Df5gs | Kind::Application | Kind::Unknown | Kind::End
            ) {
                assert_eq!(before.tlv.whole, after.tlv.whole, "{name} {}", before.label());
            }
        }
        assert!(after.of(Kind::Unknown).next().is_some());
    }
}

#[test]
fn one_record_differs_from_the_next_only_in_its_gaps() {
    let template = CompiledTemplate::compile(&preset("operational"), &settings(Algorithm::Milenage)).unwrap();
    let one = template.personalise(&identity(), &drawn(&template, 1)).unwrap();
    let again = template.personalise(&identity(), &drawn(&template, 1)).unwrap();
    assert_eq!((one.expose(), one.sha256()), (again.expose(), again.sha256()));
    let other = template.personalise(&identity(), &drawn(&template, 2)).unwrap();
    let differing = one.expose().iter().zip(other.expose()).filter(|(one, other)| one != other).count();
    let secrets: usize = audit::read(one.expose()).unwrap().akas.iter().map(|aka| aka.k.len() + aka.opc.len()).sum();
    assert!(differing > secrets / 2 && differing < 600, "{differing}");
}

#[test]
fn no_personal_value_of_the_template_survives() {
    // A template whose placeholders can be told apart from everything else.
    let text = source::preset("operational").unwrap();
    let zeros = "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00";
    let marked = text
        .replace(&format!("key = \"{zeros}\""), &format!("key = \"{}\"", "E1".repeat(16)))
        .replace(&format!("opc = \"{zeros}\""), &format!("opc = \"{}\"", "E2".repeat(16)))
        .replace("value = \"30 30 30 30 30 30 30 30\"", "value = \"39 38 37 36 39 38 37 36\"")
        .replace("value = \"30 30 30 30 FF FF FF FF\"", "value = \"39 38 37 36 FF FF FF FF\"");
    assert_ne!(text, marked);
    let der = source::build(&marked).unwrap();
    let template = CompiledTemplate::compile(&der, &settings(Algorithm::Milenage)).unwrap();
    let upp = template.personalise(&identity(), &drawn(&template, 3)).unwrap();
    let imsi = [0x08, 0x09, 0x10, 0x10, 0, 0, 0, 0, 0];
    for needle in [&[0xE1; 16][..], &[0xE2; 16], b"9876", &imsi, b"001010000000000", b"\x89\x00\x10\x00\x00"] {
        assert!(contains(&der, needle));
        assert!(!contains(upp.expose(), needle), "{needle:02X?}");
    }
}

/// A file that has its content from the template's default or a pattern gets an explicit write.
#[test]
fn values_hidden_in_patterns_are_made_explicit() {
    let text = source::preset("bootstrap").unwrap();
    let hidden =
        text.replace("content = \"08 09 10 10 00 00 00 00 00\"", "fill = \"FF\"").replace(", content = \"00 01\"", "");
    let der = source::build(&hidden).unwrap();
    let hidden = |name| audit::read(&der).unwrap().named(name).next().unwrap().text.clone();
    assert_eq!((hidden("imsi"), hidden("acc")), (Some(String::new()), Some(String::new())));
    let template = CompiledTemplate::compile(&der, &settings(Algorithm::Milenage)).unwrap();
    let credentials = drawn(&template, 4);
    let upp = template.personalise(&identity(), &credentials).unwrap();
    assert_personal(&upp, &identity(), &credentials, Algorithm::Milenage);
}

#[test]
fn a_template_that_cannot_carry_the_values_is_refused_with_the_reason() {
    let refused = |name: &str, changes: &[(&str, &str)]| {
        let text = changes.iter().fold(source::preset(name).unwrap().to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        CompiledTemplate::compile(&source::build(&text).unwrap(), &settings(Algorithm::Milenage)).unwrap_err()
    };
    let told = |error: TemplateError| error.to_string();
    // An IMPI of a six-digit IMSI in a file that has no room for fifteen digits.
    let short_impi = [
        ("content = \"80 31 30 30 31 30 31 30 30 30 30 30 30 30 30 30 30 40", "content = \"80 28 30 30 31 30 31 30 40"),
        ("ef-impi = { size = 80", "ef-impi = { size = 50"),
    ];
    assert!(told(refused("operational", &short_impi)).contains("needs up to 51"));
    let short_record = [("ef-msisdn = { record = 30", "ef-msisdn = { record = 13")];
    assert!(told(refused("operational", &short_record)).contains("14 are needed"));
    assert!(told(refused("bootstrap", &[("reference = 10,", "reference = 20,")])).contains("keyReference 20"));
    let der = preset("bootstrap");
    let without = |kind: Kind| -> Vec<u8> {
        let package = Package::parse(&der).unwrap();
        package.elements.iter().filter(|e| e.kind != kind).flat_map(|e| e.tlv.whole.to_vec()).collect()
    };
    for (kind, word) in [(Kind::AkaParameter, "akaParameter"), (Kind::Mf, "EF.ICCID"), (Kind::Header, "ProfileHeader")]
    {
        let error = CompiledTemplate::compile(&without(kind), &settings(Algorithm::Tuak)).unwrap_err();
        assert!(told(error).contains(word));
    }
    let error = CompiledTemplate::compile(&der[..50], &settings(Algorithm::Milenage)).unwrap_err();
    assert!(matches!(error, TemplateError::Der(_)));
}

#[test]
fn hostile_templates_are_refused_at_their_place() {
    let vectors = [
        (&include_bytes!("../../../test-vectors/bad/saip/size-of-4-gb.der")[..], &[0x80, 0x04, 0xFF][..]),
        (include_bytes!("../../../test-vectors/bad/saip/offset-overflows.der"), &[0x82, 0x08, 0x7F]),
        (include_bytes!("../../../test-vectors/bad/saip/created-file-at-8-eb.der"), &[0x02, 0x08, 0x7F]),
    ];
    for (der, fault) in vectors {
        let error = CompiledTemplate::compile(der, &settings(Algorithm::Milenage)).unwrap_err();
        let TemplateError::Place { offset, what, .. } = &error else { panic!("{error}") };
        assert_eq!(&der[*offset..offset + 3], fault, "{error}");
        assert!(what.contains("65535") && !error.hint().is_empty(), "{error}");
        // The audit reads whatever it is given; it must end.
        let _ = audit::read(der);
    }
}

/// Work on a file grows with its size, not with size times records.
#[test]
fn the_longest_file_in_records_of_one_octet_is_read_once() {
    let record_file = [0xA1, 0x0A, 0x82, 0x04, 0x42, 0x21, 0x00, 0x01, 0x80, 0x02, 0xFF, 0xFF];
    let mut der = preset("operational");
    let isim = Package::parse(&der).unwrap().of(Kind::Isim).next().unwrap().tlv;
    let (start, end) = (isim.offset, isim.offset + isim.whole.len());
    let impu = constructed(Kind::Isim.file_number("ef-impu").unwrap());
    let members: Vec<Vec<u8>> = crate::formats::saip::package::children(&isim)
        .map(|tlv| if tlv.tag == impu { wrap(impu, &[&record_file]) } else { tlv.whole.to_vec() })
        .collect();
    let isim = wrap(isim.tag, &members.iter().map(Vec::as_slice).collect::<Vec<_>>());
    der.splice(start..end, isim);
    let started = std::time::Instant::now();
    CompiledTemplate::compile(&der, &settings(Algorithm::Milenage)).unwrap();
    audit::read(&der).unwrap();
    assert!(started.elapsed() < std::time::Duration::from_secs(2), "{:?}", started.elapsed());
}

/// A-key and SSD of the template, marked, in a cdmaParameter before the end.
fn with_cdma() -> Vec<u8> {
    let header = wrap(Tag(0xA0), &[&[0x81, 0x01, 0x70]]);
    let cdma = wrap(
        Tag(0xA5),
        &[&header, &wrap(Tag(0x81), &[&[0xE1; 8]]), &wrap(Tag(0x82), &[&[0xE2; 16]]), &[0x84, 3, 1, 2, 3]],
    );
    let der = preset("operational");
    let package = Package::parse(&der).unwrap();
    let end = package.elements.last().unwrap().tlv.offset;
    [&der[..end], &cdma, &der[end..]].concat()
}

#[test]
fn the_keys_of_cdma_are_made_for_each_record() {
    let template = CompiledTemplate::compile(&with_cdma(), &settings(Algorithm::Milenage)).unwrap();
    let plain = CompiledTemplate::compile(&preset("operational"), &settings(Algorithm::Milenage)).unwrap();
    assert_eq!(template.draw_len(), plain.draw_len() + 24);
    let [one, other] = [1, 2].map(|seed| {
        let credentials = drawn(&template, seed);
        let upp = template.personalise(&identity(), &credentials).unwrap();
        assert!(!contains(upp.expose(), &[0xE1; 8]) && !contains(upp.expose(), &[0xE2; 16]));
        assert!(contains(upp.expose(), &[0x84, 3, 1, 2, 3]));
        let found = audit::read(upp.expose()).unwrap();
        assert_eq!(found.cdmas.len(), 1);
        assert_eq!(credentials.expose(Secret::AKey), Some(&found.cdmas[0].a_key[..]));
        assert_eq!(credentials.expose(Secret::Ssd), found.cdmas[0].ssd.as_ref().map(|ssd| &ssd[..]));
        let mut form = zeroize::Zeroizing::new(Vec::new());
        credentials.seal_form(&mut form);
        assert_eq!(form.len(), credentials.seal_form_len());
        let again = template.personalise(&identity(), &template.opened(&form).unwrap()).unwrap();
        assert_eq!(again.expose(), upp.expose());
        found.cdmas[0].a_key.to_vec()
    });
    assert_ne!(one, other);
    let named = |name: &str| template.inputs().iter().any(|input| input.name == name && input.source == "generated");
    assert!(named("a_key") && named("ssd"));
}

#[test]
fn a_network_identity_that_no_order_carries_is_refused() {
    let with_nai = |content: &[u8]| {
        let mut der = preset("operational");
        let df = Package::parse(&der).unwrap().of(Kind::Df5gs).next().unwrap().tlv;
        let (start, end) = (df.offset, df.offset + df.whole.len());
        let tag = constructed(Kind::Df5gs.file_number("ef-supinai").unwrap());
        let nai = wrap(tag, &[&wrap(Tag(0x83), &[content])]);
        let df = wrap(df.tag, &[df.value, &nai]);
        der.splice(start..end, df);
        CompiledTemplate::compile(&der, &settings(Algorithm::Milenage)).map(drop)
    };
    let error = with_nai(b"\x80\x05a@b.c").unwrap_err();
    assert!(error.to_string().contains("same in every profile"), "{error}");
    assert_eq!(with_nai(&[0xFF; 20]), Ok(()));
}

#[test]
fn a_personal_file_that_stands_twice_is_refused() {
    let mut der = preset("bootstrap");
    let usim = Package::parse(&der).unwrap().of(Kind::Usim).next().unwrap().tlv;
    let (start, end) = (usim.offset, usim.offset + usim.whole.len());
    let imsi = crate::formats::saip::package::child(&usim, constructed(Kind::Usim.file_number("ef-imsi").unwrap()));
    let usim = wrap(usim.tag, &[usim.value, imsi.unwrap().whole]);
    der.splice(start..end, usim);
    let error = CompiledTemplate::compile(&der, &settings(Algorithm::Milenage)).unwrap_err();
    assert!(error.to_string().contains("ef-imsi stands here twice"), "{error}");
}

#[test]
fn a_key_that_cannot_be_drawn_is_refused() {
    // Key type 88 (AES) becomes B1, an ECC private key.
    let mut der = preset("bootstrap");
    let at = der.windows(5).position(|window| window == [0x80, 0x01, 0x88, 0x86, 0x10]).unwrap();
    der[at + 2] = 0xB1;
    let error = CompiledTemplate::compile(&der, &settings(Algorithm::Milenage)).unwrap_err();
    assert!(error.to_string().contains("type B1"), "{error}");
}

#[test]
fn a_record_without_what_the_template_takes_is_refused() {
    let template = CompiledTemplate::compile(&preset("iot-minimal"), &settings(Algorithm::Milenage)).unwrap();
    let credentials = drawn(&template, 6);
    let refused = |identity: Identity<'_>| template.personalise(&identity, &credentials).unwrap_err();
    assert_eq!(refused(Identity { imsi: None, ..identity() }), PersonaliseError::ImsiMissing);
    let with_number = refused(Identity { msisdn: Some("4915112345678"), ..identity() });
    assert_eq!((with_number.class(), with_number), (ErrorClass::Template, PersonaliseError::MsisdnNotCarried));
    let other = CompiledTemplate::compile(&preset("iot-minimal"), &settings(Algorithm::Milenage)).unwrap();
    let foreign = other.personalise(&identity(), &credentials).unwrap_err();
    assert_eq!(foreign, PersonaliseError::ForeignCredentials);
    let operational = CompiledTemplate::compile(&preset("operational"), &settings(Algorithm::Milenage)).unwrap();
    let credentials = drawn(&operational, 6);
    for wrong in ["", "+", "49 151", "123456789012345678901"] {
        let error = operational.personalise(&Identity { msisdn: Some(wrong), ..identity() }, &credentials).unwrap_err();
        assert_eq!(error, PersonaliseError::MsisdnForm, "{wrong:?}");
    }
}

#[test]
fn variables_of_the_line_are_written_and_unknown_ones_refused() {
    let with = |vars: &[(&str, &str)]| {
        let vars =
            vars.iter().map(|(name, value)| ((*name).to_owned(), VarSource::Constant((*value).to_owned()))).collect();
        CompiledTemplate::compile(&preset("operational"), &Settings { algorithm: Algorithm::Milenage, vars })
    };
    let template =
        with(&[("spn", "Fleet 7"), ("smsc", "+491722270333"), ("gid1", "0A0B"), ("routing_indicator", "123")]).unwrap();
    let upp = template.personalise(&identity(), &drawn(&template, 8)).unwrap();
    let package = Package::parse(upp.expose()).unwrap();
    let content = |kind: Kind, file: &str, len| {
        let file = package.of(kind).next().unwrap().file(file).unwrap();
        FileView::single(&file).unwrap().given(0, len).unwrap()
    };
    assert_eq!(content(Kind::Usim, "ef-spn", 17), b"\x01Fleet 7\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF");
    assert_eq!(content(Kind::OptUsim, "ef-gid1", 8), b"\x0A\x0B\xFF\xFF\xFF\xFF\xFF\xFF");
    assert_eq!(content(Kind::Df5gs, "ef-routing-indicator", 4), [0x21, 0xF3, 0, 0]);
    let smsp = content(Kind::Usim, "ef-smsp", 42);
    assert_eq!(smsp[14], 0xFD);
    assert_eq!(smsp[27..35], [7, 0x91, 0x94, 0x71, 0x22, 0x72, 0x30, 0x33]);
    for (name, value) in
        [("apn", "x"), ("spn", ""), ("gid1", "zz"), ("gid2", "000000000000000000"), ("smsc", "call me")]
    {
        assert!(matches!(with(&[(name, value)]), Err(TemplateError::Variable { .. })), "{name}");
    }
    let vars = BTreeMap::from([("gid1".to_owned(), VarSource::Constant("01".to_owned()))]);
    let error = CompiledTemplate::compile(&preset("bootstrap"), &Settings { algorithm: Algorithm::Milenage, vars });
    assert!(error.unwrap_err().to_string().contains("ef-gid1"));
}

#[test]
fn imported_keys_stand_in_the_package() {
    let template = CompiledTemplate::compile(&preset("bootstrap"), &settings(Algorithm::Milenage)).unwrap();
    let octets = vec![0x5A; template.draw_len()];
    let key = |octet| crate::secret::SubscriberKey::copy_of(&[octet; 16]).unwrap();
    let credentials = template.imported(&mut Draw::new(&octets), &key(0xA1), &key(0xA2)).unwrap();
    let upp = template.personalise(&identity(), &credentials).unwrap();
    let found = audit::read(upp.expose()).unwrap();
    assert!(found.akas.iter().all(|aka| aka.k[..] == [0xA1; 16] && aka.opc[..] == [0xA2; 16]));
    let mut form = zeroize::Zeroizing::new(Vec::new());
    credentials.seal_form(&mut form);
    let opened = template.opened(&form).unwrap();
    assert_eq!(template.personalise(&identity(), &opened).unwrap().expose(), upp.expose());
}

/// An MF made by GenericFileManagement has its EF.ICCID there.
#[test]
fn a_card_number_in_generic_file_management_is_found() {
    let der = preset("bootstrap");
    let package = Package::parse(&der).unwrap();
    let gfm = [
        &[0xA1, 0x32, 0xA0, 0x03, 0x81, 0x01, 0x63, 0xA1, 0x2B, 0x30, 0x29][..],
        &[0x80, 0x00, 0x62, 0x0C, 0x82, 0x02, 0x78, 0x21, 0x83, 0x02, 0x3F, 0x00, 0x8B, 0x02, 0x06, 0x01],
        &[0x62, 0x0C, 0x82, 0x02, 0x41, 0x21, 0x83, 0x02, 0x2F, 0xE2, 0x8B, 0x02, 0x06, 0x01],
        &[0x81, 0x09, 0x98, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let elements = package.elements.iter().map(|e| if e.kind == Kind::Mf { &gfm[..] } else { e.tlv.whole });
    let der = elements.collect::<Vec<_>>().concat();
    let template = CompiledTemplate::compile(&der, &settings(Algorithm::Milenage)).unwrap();
    let credentials = drawn(&template, 12);
    let upp = template.personalise(&identity(), &credentials).unwrap();
    assert_eq!(audit::read(upp.expose()).unwrap().named("iccid").count(), 2);
    assert_personal(&upp, &identity(), &credentials, Algorithm::Milenage);
}

proptest! {
    #[test]
    fn a_damaged_template_costs_an_error_at_most(at in 0..3_000_usize, value in any::<u8>()) {
        let mut der = preset("bootstrap");
        let at = at % der.len();
        der[at] = value;
        if let Ok(template) = CompiledTemplate::compile(&der, &settings(Algorithm::Milenage)) {
            let upp = template.personalise(&identity(), &drawn(&template, 2)).unwrap();
            let _ = audit::read(upp.expose());
        }
        let _ = audit::read(&der);
    }
}
