//! The heart of the room: whatever the template and the values, the audit finds the values, and nothing else has changed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::templates::any_template;
use super::{any_iccid, any_imsi, drawn};
use crate::formats::saip::algorithm::Algorithm;
use crate::formats::saip::ef;
use crate::formats::saip::file::FILE_TAGS;
use crate::formats::saip::kind::{Kind, constructed, primitive};
use crate::formats::saip::package::{Element, Package, child, children};
use crate::formats::tlv::{Tag, Tlv};
use crate::personalise::{
    CompiledTemplate, Draw, Identity, Input, PersonaliseError, Settings, TemplateError, VarSource, audit,
};
use crate::secret::SubscriberKey;

/// Values of variables, in canonical text. They fit the files of the presets.
const VALUES: &[(&str, &str)] = &[
    ("profile_type", "[A-Za-z][A-Za-z0-9 ü]{0,90}"),
    ("pol", "[0-9A-F]{2}"),
    ("connectivity_parameters", "([0-9A-F]{2}){1,200}"),
    ("rotation_constants", "4000204060|([0-7][0-9A-F]){5}"),
    ("xoring_constants", "0[0-9A-F]{31}1[0-9A-F]{31}2[0-9A-F]{31}3[0-9A-F]{31}4[0-9A-F]{31}"),
    ("auth_counter_max", "[0-9A-F]{6}"),
    ("sqn", "000000000000|0[0-7][0-9A-F]{10}|0[0-7][0-9A-F]{10}(,0[0-7][0-9A-F]{10}){31}"),
    ("sqn_delta", "000010000000|0[0-7][0-9A-F]{10}"),
    ("sqn_age_limit", "000010000000|0[0-7][0-9A-F]{10}"),
    ("pin1", "[0-9]{4,8}"),
    ("pin2", "[0-9]{4,8}"),
    ("pin1_state", "(enabled|disabled) ([1-3]/3|10/10)"),
    ("pin2_state", "(enabled|disabled) ([1-3]/3|1/15)"),
    ("acc", "[0-9]|0,[3-9],1[1-5]"),
    ("smsc", "\\+[0-9]{1,20}"),
    ("spn", "[A-Za-z0-9@£üÜ§-][A-Za-z0-9@£üÜ§ -]{0,15}|[Ж-я]{1,13}"),
    ("gid1", "([0-9A-F]{2}){0,4}[0-9A]F"),
    ("gid2", "([0-9A-F]{2}){0,4}[0-9A]F"),
    ("fplmn", "[0-9]{5,6}(,[0-9]{5,6}){0,3}"),
    ("ehplmn", "[0-9]{5,6}(,[0-9]{5,6}){0,3}"),
    ("hplmnwact", "[0-9]{5,6}:GSM-without-EC"),
    ("mnc_len", "[23]"),
    ("routing_indicator", "[0-9]{1,4}"),
    ("uac_aic", "none|mps|mcs|mps\\+mcs"),
    ("impi", "[0-9]{6,15}@[a-z.]{1,30}"),
    ("impu", "sip:[0-9]{15}@[a-z.]{1,20}|tel:\\+[0-9]{8}"),
    ("ims_domain", "[a-z]{1,30}\\.[a-z]{1,9}"),
    ("keyset.01", "aes-16|aes-32|3des-24"),
    ("keyset.0E", "aes-24|3des-16"),
    ("keyset.20", "3des-16|3des-24"),
    ("keyset.30", "aes-16|aes-32"),
    ("keyset.40", "tls-psk-16|tls-psk-32"),
    ("rfm.1.tar", "B[0-9A-F]{5}(,B[0-9A-F]{5}){0,2}"),
    ("rfm.2.msl", "[0-9A-F]{2}"),
    ("sd.1.msl", "[0-9A-F]{2}"),
    ("process_data.1", "80E2[0-9A-F]{4}02[0-9A-F]{4}(,80E2[0-9A-F]{6}){0,70}"),
    ("usim/ef-hpplmn", "[0-9A-F]{2}"),
    ("iot/ef-hpplmn", "[0-9A-F]{2}"),
    ("mf/ef-pl", "([0-9A-F]{2}){1,2}"),
];

#[derive(Clone, Debug)]
struct Ordered {
    name: &'static str,
    text: String,
    per_record: bool,
}

fn any_order() -> impl Strategy<Value = Vec<Ordered>> {
    let one = (0..VALUES.len(), any::<bool>()).prop_flat_map(|(row, per_record)| {
        let (name, form) = VALUES[row];
        let texts = proptest::string::string_regex(form).unwrap();
        texts.prop_map(move |text| Ordered { name, text, per_record: per_record && !name.starts_with("keyset") })
    });
    proptest::collection::btree_map(0..VALUES.len(), one, 0..10).prop_map(|ordered| {
        let by_name: BTreeMap<&str, Ordered> = ordered.into_values().map(|one| (one.name, one)).collect();
        by_name.into_values().collect()
    })
}

/// What the template takes of it.
fn taken(inputs: &[Input], package: &Package<'_>, algorithm: Algorithm, ordered: Vec<Ordered>) -> Vec<Ordered> {
    let has_domain = package.of(Kind::SecurityDomain).next().is_some();
    let first = package.of(Kind::SecurityDomain).next().and_then(|domain| domain.member(constructed(1)));
    let c9 = first.and_then(|instance| child(&instance, Tag(0xC9))).map_or(&[][..], |parameters| parameters.value);
    let lists = |protocol| c9.is_empty() || c9.windows(3).any(|listed| listed == [0x81, 2, protocol]);
    let is_taken = |one: &Ordered| match one.name {
        "keyset.30" => has_domain && lists(0x03),
        "keyset.40" => has_domain && lists(0x81),
        name if name.starts_with("keyset") => has_domain,
        name if name.contains('/') => {
            package.of(Kind::named(name.split('/').next().unwrap()).unwrap()).next().is_some()
        }
        "rotation_constants" | "xoring_constants" => algorithm == Algorithm::Milenage,
        name => inputs.iter().any(|input| input.name == name),
    };
    ordered.into_iter().filter(is_taken).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn the_audit_finds_what_was_ordered_in_any_template_and_the_rest_is_unchanged(
        der in any_template(),
        ordered in any_order(),
        iccid in any_iccid(),
        imsi in any_imsi(),
        msisdn in proptest::option::of("\\+?[1-9][0-9]{5,14}"),
        seed in any::<u64>(),
        tuak in any::<bool>(),
        with_op in any::<bool>(),
    ) {
        let algorithm = if tuak { Algorithm::Tuak } else { Algorithm::Milenage };
        let plain = Settings { algorithm, ..Settings::default() };
        let offered = CompiledTemplate::compile(&der, &plain);
        let offered = offered.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let package = Package::parse(&der).unwrap();
        let ordered = taken(offered.inputs(), &package, algorithm, ordered);
        let source = |one: &Ordered| match one.per_record {
            true => VarSource::PerRecord,
            false => VarSource::Constant(one.text.clone()),
        };
        let settings =
            Settings { algorithm, vars: ordered.iter().map(|one| (one.name.to_owned(), source(one))).collect() };
        let template = CompiledTemplate::compile(&der, &settings);
        let template = template.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let of_record = ordered.iter().filter(|one| one.per_record);
        let vars: Vec<(String, String)> = of_record.map(|one| (one.name.to_owned(), one.text.clone())).collect();
        for (name, text) in &vars {
            prop_assert_eq!(template.check_value(name, text), Ok(()));
            prop_assert!(template.check_value(name, "\u{7}").is_err(), "{}", name);
        }

        let msisdn = msisdn.as_deref().filter(|_| template.takes_msisdn());
        let identity = Identity { iccid, imsi: Some(imsi), msisdn, vars: &vars };
        let op = SubscriberKey::copy_of(&[0x4F; 32][..settings.algorithm.opc_len()]).unwrap();
        let op = with_op.then_some(&op);
        let credentials = drawn_with(&template, seed, op);
        let upp = template.personalise(&identity, &credentials).unwrap();

        let before = audit::read(&der).unwrap();
        let expected = audit::Expected { identity: &identity, settings: &settings, credentials: &credentials, template: Some(&before), op };
        audit::check(upp.expose(), &expected).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let found = audit::read(upp.expose()).unwrap();
        for one in ordered.iter().filter(|one| ef::named(one.name).is_some()) {
            let texts: Vec<_> = found.named(one.name).filter_map(|value| value.text.as_deref()).collect();
            prop_assert!(texts.contains(&one.text.as_str()), "{} {:?}", one.name, texts);
        }
        unchanged(&package, &Package::parse(upp.expose()).unwrap(), template.inputs())?;

        // A value that one place has not is told.
        if let Some(one) = ordered.iter().find(|one| !one.per_record && ef::named(one.name).is_some()) {
            let mut other = settings.clone();
            other.vars.insert(one.name.to_owned(), VarSource::Constant(if one.text == "2" { "3" } else { "2" }.to_owned()));
            let expected = audit::Expected { settings: &other, ..expected };
            let error = audit::check(upp.expose(), &expected).unwrap_err().to_string();
            prop_assert!(error.contains(one.name), "{}", error);
        }
    }
}

fn drawn_with(template: &CompiledTemplate, seed: u64, op: Option<&SubscriberKey>) -> crate::personalise::Credentials {
    match op {
        None => drawn(template, seed),
        Some(_) => {
            let octets: Vec<u8> = (0..template.draw_len()).map(|i| (seed >> (i % 57)) as u8 ^ (i as u8) | 1).collect();
            template.credentials(&mut Draw::new(&octets), op).unwrap()
        }
    }
}

/// Elements in their order; in each, what no input that was set is about.
fn unchanged(before: &Package<'_>, after: &Package<'_>, inputs: &[Input]) -> Result<(), TestCaseError> {
    prop_assert_eq!(before.elements.len(), after.elements.len());
    let set = |place: &str| {
        inputs.iter().any(|input| input.source != "template" && input.places.iter().any(|known| known == place))
    };
    for (before, after) in before.elements.iter().zip(&after.elements) {
        let (before, after) = (residue(before, &set), residue(after, &set));
        prop_assert_eq!(before, after);
    }
    Ok(())
}

/// The TLVs of an element that nothing personal may touch.
fn residue(element: &Element<'_>, set: &dyn Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let without = |tlv: &Tlv<'_>, numbers: &[u8]| -> Vec<Vec<u8>> {
        let is_kept =
            |member: &Tlv<'_>| !numbers.iter().any(|n| member.tag == primitive(*n) || member.tag == constructed(*n));
        children(tlv).filter(is_kept).map(|member| member.whole.to_vec()).collect()
    };
    match element.kind {
        Kind::Header => {
            let services = element.member(constructed(5)).unwrap();
            [without(&element.tlv, &[2, 3, 4, 5, 7]), without(&services, &[4, 5, 16, 17])].concat()
        }
        Kind::AkaParameter => {
            let choice = element.member(constructed(1)).unwrap();
            let algo = child(&choice, constructed(1))
                .map_or(vec![choice.whole.to_vec()], |algo| without(&algo, &[0, 2, 3, 4, 5, 6, 7]));
            [without(&element.tlv, &[1, 3, 4, 5]), algo].concat()
        }
        Kind::CdmaParameter => without(&element.tlv, &[1, 2]),
        Kind::PinCodes => {
            let list = element.member(constructed(1)).and_then(|choice| child(&choice, constructed(0)));
            list.iter().flat_map(children).flat_map(|pin| without(&pin, &[1, 3, 4])).collect()
        }
        Kind::PukCodes => {
            element.member(constructed(1)).iter().flat_map(children).flat_map(|puk| without(&puk, &[1])).collect()
        }
        Kind::SecurityDomain => without(&element.tlv, &[1, 2]),
        Kind::Rfm => {
            let is_kept = |member: &Tlv<'_>| matches!(member.tag.0, 0x4F | 0x04 | 0x30);
            children(&element.tlv).filter(is_kept).map(|member| member.whole.to_vec()).collect()
        }
        Kind::Application => without(&element.tlv, &[2]),
        kind if kind.is_file_system() => {
            let members = children(&element.tlv).map(|member| match kind.file_name(member.tag) {
                Some(name) if set(&format!("{}/{name}", element.label())) => {
                    child(&member, FILE_TAGS.descriptor).map(|fcp| fcp.whole.to_vec()).unwrap_or_default()
                }
                _ => member.whole.to_vec(),
            });
            members.filter(|member| !member.is_empty()).collect()
        }
        _ => vec![element.tlv.whole.to_vec()],
    }
}

#[test]
fn every_coding_that_orders_use_often_is_tried() {
    for (name, _) in VALUES.iter().filter(|(name, _)| !name.contains(['/', '.'])) {
        let is_member = ["profile_type", "pol", "connectivity_parameters"].contains(name)
            || ["rotation", "xoring", "auth_", "sqn", "pin"].iter().any(|word| name.starts_with(word));
        assert!(is_member || ef::named(name).is_some(), "{name} is no variable any more");
    }
    assert!(VALUES.iter().filter(|(name, _)| ef::named(name).is_some()).count() >= 12);
}

#[test]
fn a_record_that_lacks_a_variable_or_brings_another_is_refused() {
    let settings =
        Settings { vars: [("spn".to_owned(), VarSource::PerRecord)].into_iter().collect(), ..Settings::default() };
    let template = CompiledTemplate::compile(&super::preset("operational"), &settings).unwrap();
    let credentials = drawn(&template, 1);
    let made = |vars: &[(&str, &str)]| {
        let vars: Vec<_> = vars.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let identity = Identity { vars: &vars, ..super::identity() };
        template.personalise(&identity, &credentials).map(drop)
    };
    assert_eq!(made(&[("spn", "Fleet")]), Ok(()));
    for (vars, reason) in [
        (&[][..], "the record gives none"),
        (&[("spn", "A name that is far too long")], "does not fit"),
        (&[("spn", "Fleet"), ("gid1", "01")], "does not differ per record"),
    ] {
        let error = made(vars).unwrap_err();
        assert!(matches!(error, PersonaliseError::Variable { .. }) && error.to_string().contains(reason), "{error}");
        assert!(!error.to_string().contains("far too long"));
    }
    let error = template.check_value("spn", "A name that is far too long").unwrap_err();
    assert!(!error.to_string().contains("far too long"), "{error}");
    assert!(template.check_value("gid1", "01").is_err());
}

#[test]
fn variables_that_have_no_place_or_no_right_are_refused_by_their_name() {
    let refused = |preset: &str, name: &str, source: VarSource| {
        let settings = Settings { vars: [(name.to_owned(), source)].into_iter().collect(), ..Settings::default() };
        match CompiledTemplate::compile(&super::preset(preset), &settings) {
            Err(TemplateError::Variable { name: told, what }) if told == name => what,
            other => panic!("{name}: {other:?}"),
        }
    };
    let constant = |text: &str| VarSource::Constant(text.to_owned());
    for (preset, name, text, reason) in [
        ("operational", "k", "00", "clear secrets"),
        ("operational", "puk1", "12345678", "clear secrets"),
        ("operational", "adm1", "12345678", "clear secrets"),
        ("operational", "imsi", "001010123456789", "column"),
        ("operational", "usim/ef-imsi", "0809", "each record's own"),
        ("operational", "usim/ef-apn", "01", "no file of this name"),
        ("operational", "usim/adf-usim", "01", "directory"),
        ("operational", "usim/ef-hpplmn", "0102", "hex of 1 to 1 octets"),
        ("operational", "pin1", "12", "4 to 8 digits"),
        ("operational", "keyset.50", "aes-16", "not for this version"),
        ("bootstrap", "gid1", "01", "has none of opt-usim/ef-gid1"),
        ("iot-minimal", "pin1", "1234", "no place"),
    ] {
        let what = refused(preset, name, constant(text));
        assert!(what.contains(reason), "{name}: {what}");
    }
    assert!(!refused("operational", "pin1", constant("12")).contains("\"12\""));
    assert!(refused("operational", "keyset.01", VarSource::PerRecord).contains("drawn for each record"));
    let both = [("spn".to_owned(), constant("a")), ("usim/ef-spn".to_owned(), constant("01"))];
    let settings = Settings { vars: both.into_iter().collect(), ..Settings::default() };
    let error = CompiledTemplate::compile(&super::preset("operational"), &settings).unwrap_err();
    assert!(error.to_string().contains("sets spn as well"), "{error}");
}
