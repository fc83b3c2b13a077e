use std::collections::BTreeMap;

use proptest::prelude::*;
use rasn::types::fields::FieldPresence;
use rasn::types::{Class, Constructed};

use super::shape::{Member, Presence};
use super::*;
use crate::formats::saip::source;
use crate::formats::tlv::{Reader, check_strict};

fn presets() -> Vec<(&'static str, Vec<u8>)> {
    source::PRESETS.iter().map(|(name, text)| (*name, source::build(text).unwrap())).collect()
}

fn encoded(elements: &[ProfileElement]) -> Vec<u8> {
    elements.iter().flat_map(|element| element.encode().unwrap()).collect()
}

/// One element as a package of its own.
fn read(der: &[u8]) -> Result<ProfileElement, TypedError> {
    decode(&Package::parse(der).unwrap().elements[0])
}

fn vectors(text: &str) -> Vec<(&str, Vec<u8>)> {
    let mut vectors: Vec<(&str, Vec<u8>)> = Vec::new();
    for line in text.lines() {
        let octets = line.split('#').next().unwrap_or_default();
        if let Some(name) = line.strip_prefix("== ") {
            vectors.push((name.trim(), Vec::new()));
        } else if let Some((_, vector)) = vectors.last_mut() {
            let digits: String = octets.split_whitespace().collect();
            vector.extend(data_encoding::HEXUPPER.decode(digits.as_bytes()).unwrap());
        }
    }
    vectors
}

const ELEMENTS: &str = include_str!("../../../../test-vectors/saip/elements.txt");
const BAD_ELEMENTS: &str = include_str!("../../../../test-vectors/bad/saip/elements.txt");

#[test]
fn every_preset_is_the_same_after_decoding_and_encoding() {
    for (name, der) in presets() {
        let elements = decode_all(&der).unwrap();
        assert_eq!(encoded(&elements), der, "{name}");
        assert!(elements.iter().all(|element| element.unknown.is_empty()), "{name}");
    }
}

#[test]
fn every_written_element_is_the_same_after_decoding_and_encoding() {
    for (name, der) in vectors(ELEMENTS) {
        check_strict(&der).unwrap_or_else(|e| panic!("{name}: {e}"));
        let element = read(&der).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(element.encode().unwrap(), der, "{name}");
        let kind = name.split(' ').next().unwrap();
        assert_eq!(element.kind.name(), kind, "{name}");
        assert_eq!(element.unknown.is_empty(), !name.contains("unknown"), "{name}: {:?}", element.unknown);
    }
}

#[test]
fn presets_and_written_elements_have_every_alternative() {
    let mut kinds: Vec<Kind> = vectors(ELEMENTS).iter().map(|(_, der)| read(der).unwrap().kind).collect();
    kinds.extend(presets().iter().flat_map(|(_, der)| decode_all(der).unwrap()).map(|element| element.kind));
    for number in 0..=127 {
        let kind = Kind::of(constructed(number));
        assert!(kinds.contains(&kind), "no test data for {kind}");
    }
}

/// `PE 1 name, offset n: path: what` of every vector stands in its name.
#[test]
fn every_fault_is_told_with_the_offset_of_the_innermost_member() {
    let vectors = vectors(BAD_ELEMENTS);
    assert!(vectors.len() > 25);
    for (expected, der) in vectors {
        assert_eq!(read(&der).unwrap_err().to_string(), format!("PE 1 {expected}"), "{der:02X?}");
    }
}

#[test]
fn all_faults_of_an_element_are_found_not_only_the_first() {
    // pinCodes: reference 00 01 (surplus), a PIN of 7, attempts 33 (the default).
    let pins = [
        0xA2, 0x1D, 0xA0, 0x03, 0x81, 0x01, 0x02, 0xA1, 0x16, 0xA0, 0x14, 0x30, 0x12, 0x80, 0x02, 0x00, 0x01, 0x81,
        0x07, 0x31, 0x32, 0x33, 0x34, 0xFF, 0xFF, 0xFF, 0x84, 0x01, 0x33, 0x99, 0x00,
    ];
    let package = Package::parse(&pins).unwrap();
    let found = examine(&package.elements[0]);
    let faults: Vec<_> = found.faults.iter().map(|e| (e.offset, e.path.as_str(), e.fault.is_not_canonical())).collect();
    assert_eq!(
        faults,
        [
            (13, "pinCodes/pinconfig[1]/keyReference", true),
            (17, "pinCodes/pinconfig[1]/pinValue", false),
            (26, "pinCodes/pinconfig[1]/maxNumOfAttemps-retryNumLeft", true),
        ]
    );
    let unknown = &found.unknown[0];
    assert_eq!((unknown.path.as_str(), unknown.tag, unknown.offset), ("pinCodes/pinconfig[1]", Tag(0x99), 29));
}

#[test]
fn octets_that_are_not_der_are_refused_with_their_element() {
    let (_, mut der) = presets().remove(0);
    let usim = Package::parse(&der).unwrap().of(Kind::Usim).next().unwrap().tlv.value_offset();
    der[usim + 1] = 0x80;
    let error = decode_all(&der).unwrap_err();
    assert_eq!((error.offset, &error.fault), (usim, &Fault::Tlv(TlvFault::Indefinite)));
    assert!(error.element.ends_with(" usim"), "{error}");
}

#[test]
fn an_unknown_member_follows_its_neighbours_when_the_types_change() {
    // usim: header, template, adf-usim {}, member [70], ef-imsi { unknown entry 85 }.
    let der = [
        0xB3, 0x17, 0xA0, 0x03, 0x81, 0x01, 0x07, 0x81, 0x06, 0x67, 0x81, 0x0F, 0x01, 0x02, 0x04, 0xA2, 0x00, 0xBF,
        0x46, 0x00, 0xA3, 0x03, 0x85, 0x01, 0x5A,
    ];
    let mut element = read(&der).unwrap();
    assert_eq!(element.unknown.len(), 2);
    assert_eq!((element.unknown[0].path.as_str(), element.unknown[0].tag), ("", Tag(0xBF46)));
    assert_eq!((element.unknown[1].path.as_str(), element.unknown[1].offset), ("ef-imsi", 22));
    let Content::FileSystem(files) = &mut element.content else { panic!("{element:?}") };
    files.files[1].1.push(FileEntry::FillFileContent(vec![9].into()));
    let again = element.encode().unwrap();
    assert_eq!(again[20..], [0xA3, 0x06, 0x85, 0x01, 0x5A, 0x83, 0x01, 0x09]);
    // Nothing is dropped in silence.
    let Content::FileSystem(files) = &mut element.content else { panic!("{element:?}") };
    files.files.clear();
    assert!(matches!(element.encode(), Err(EncodeError::Place { .. })));
}

#[test]
fn the_grammar_and_the_types_describe_the_same_members() {
    fn compare<const N: usize, T: Constructed<N, 0>>(members: &[Member]) {
        let ours: Vec<_> = members.iter().map(|member| (class_and_number(member.tag), member.presence)).collect();
        let fields = T::FIELDS;
        let theirs: Vec<_> = fields
            .iter()
            .map(|field| {
                let tag = field.tag_tree.smallest_tag();
                let class = [Class::Universal, Class::Application, Class::Context, Class::Private];
                (class.iter().position(|class| *class == tag.class).unwrap() as u32, tag.value)
            })
            .zip(fields.iter().map(|field| field.presence))
            .collect();
        let name = std::any::type_name::<T>();
        assert_eq!(ours.len(), theirs.len(), "{name}");
        for ((tag, presence), (their_tag, their_presence)) in ours.into_iter().zip(theirs) {
            assert_eq!(tag, their_tag, "{name}");
            let same = match presence {
                Presence::Must => their_presence == FieldPresence::Required,
                Presence::May => their_presence == FieldPresence::Optional,
                // sqnInit has an OPTIONAL type, see there.
                Presence::Default(_) => their_presence != FieldPresence::Required,
            };
            assert!(same, "{name} {tag:?}");
        }
    }
    compare::<2, PeHeader>(header::PE_HEADER);
    compare::<10, ProfileHeader>(header::PROFILE_HEADER);
    compare::<2, MandatoryAid>(header::MANDATORY_AID);
    compare::<1, IotOptions>(header::IOT_OPTIONS);
    compare::<38, ServicesList>(header::SERVICES_LIST);
    compare::<10, Fcp>(files::FCP);
    compare::<5, ProprietaryInfo>(files::PROPRIETARY_INFO);
    compare::<2, GenericFileManagement>(files::GENERIC_FILE_MANAGEMENT);
    compare::<2, PinCodes>(codes::PIN_CODES);
    compare::<5, PinConfiguration>(codes::PIN_CONFIGURATION);
    compare::<2, PukCodes>(codes::PUK_CODES);
    compare::<3, PukConfiguration>(codes::PUK_CONFIGURATION);
    compare::<7, AkaParameter>(authentication::AKA_PARAMETER);
    compare::<2, MappingParameter>(authentication::MAPPING_PARAMETER);
    compare::<8, AlgoParameter>(authentication::ALGO_PARAMETER);
    compare::<2, SsimParameters>(authentication::SSIM_PARAMETERS);
    compare::<6, CdmaParameter>(authentication::CDMA_PARAMETER);
    compare::<5, SsimEapTlsParameters>(authentication::SSIM_EAP_TLS_PARAMETERS);
    compare::<6, SecurityDomain>(security_domain::SECURITY_DOMAIN);
    compare::<6, KeyObject>(security_domain::KEY_OBJECT);
    compare::<3, KeyComponent>(security_domain::KEY_COMPONENT);
    compare::<2, OpenPersoData>(security_domain::OPEN_PERSO_DATA);
    compare::<2, CatTpParameters>(security_domain::CAT_TP_PARAMETERS);
    compare::<3, Application>(application::APPLICATION);
    compare::<7, LoadPackage>(application::LOAD_PACKAGE);
    compare::<11, ApplicationInstance>(application::APPLICATION_INSTANCE);
    compare::<12, ApplicationSystemParameters>(application::APPLICATION_SYSTEM_PARAMETERS);
    compare::<1, AdditionalContactlessParameters>(application::ADDITIONAL_CONTACTLESS_PARAMETERS);
    compare::<3, UiccApplicationParameters>(application::UICC_APPLICATION_PARAMETERS);
    compare::<1, ControlReferenceTemplate>(application::CONTROL_REFERENCE_TEMPLATE);
    compare::<8, Rfm>(application::RFM);
    compare::<3, AdfRfmAccess>(application::ADF_RFM_ACCESS);
    compare::<3, NonStandard>(other::NON_STANDARD);
    compare::<1, End>(other::END);
}

/// Class 0 to 3 and number of a tag on the wire.
fn class_and_number(tag: Tag) -> (u32, u32) {
    let first = tag.0 >> (8 * (tag.len() - 1));
    (first >> 6, if tag.len() == 1 { first & 0x1F } else { tag.0 & 0x7F })
}

/// `reader`'s TLVs on all levels with members added; gaps are numbered as they are met, one before each TLV and one at each end.
fn with_added(mut reader: Reader<'_>, gap: &mut usize, added: &BTreeMap<usize, Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        out.extend(added.get(gap).into_iter().flatten());
        *gap += 1;
        match reader.next_tlv().unwrap() {
            None => return out,
            Some(tlv) if tlv.tag.is_constructed() => {
                out.extend(wrap(tlv.tag, &[&with_added(tlv.children(), gap, added)]));
            }
            Some(tlv) => out.extend(tlv.whole),
        }
    }
}

/// A member of a later version: context tags that no SEQUENCE uses yet.
fn any_unknown() -> impl Strategy<Value = Vec<u8>> {
    let value = proptest::collection::vec(any::<u8>(), 0..200);
    (101..128_u8, value, any::<bool>()).prop_map(|(number, value, is_constructed)| match is_constructed {
        false => wrap(primitive(number), &[&value]),
        true => wrap(constructed(number), &[&wrap(Tag(0x04), &[&value])]),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn an_unknown_member_or_element_is_kept_and_told_or_refused_at_its_place(
        preset in 0..source::PRESETS.len(),
        added in proptest::collection::vec((any::<prop::sample::Index>(), any_unknown()), 1..4),
    ) {
        let (_, der) = presets().remove(preset);
        let mut gaps = 0;
        with_added(Reader::new(&der), &mut gaps, &BTreeMap::new());
        let added: BTreeMap<usize, Vec<u8>> = added.into_iter().map(|(gap, octets)| (gap.index(gaps), octets)).collect();
        let der = with_added(Reader::new(&der), &mut 0, &added);
        let package = Package::parse(&der).unwrap();
        let mut told = 0;
        for element in &package.elements {
            let found = examine(element);
            for unknown in &found.unknown {
                let octets = &der[unknown.offset..][..unknown.octets.len()];
                prop_assert!(added.values().any(|added| added == octets));
            }
            told += found.unknown.len();
            // Only a SEQUENCE OF one type and a CHOICE have no room for anything else.
            let refused = found.faults.iter().filter(|e| matches!(e.fault, Fault::Tag { .. } | Fault::Choice));
            prop_assert_eq!(refused.clone().count(), found.faults.len());
            told += refused.map(|e| if e.fault == Fault::Choice { 0 } else { 1 }).sum::<usize>();
            match decode(element) {
                Ok(typed) => prop_assert_eq!(typed.encode().unwrap(), element.tlv.whole),
                Err(error) => prop_assert_eq!(Some(&error), found.faults.first()),
            }
        }
        let choices = package.elements.iter().flat_map(|e| examine(e).faults).filter(|e| e.fault == Fault::Choice).count();
        prop_assert!(told + 3 * choices >= added.len());
        prop_assert!(choices > 0 || told == added.len());
    }

    #[test]
    fn damaged_octets_are_an_error_or_the_same_again(
        preset in 0..source::PRESETS.len(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (_, mut der) = presets().remove(preset);
        for (at, octet) in damage {
            let at = at.index(der.len());
            der[at] = octet;
        }
        match decode_all(&der) {
            Ok(elements) => prop_assert_eq!(encoded(&elements), der),
            Err(error) => {
                prop_assert!(!matches!(error.fault, Fault::Types(_)), "{}", error);
                prop_assert!(error.offset <= der.len());
            }
        }
    }
}
