//! What holds for every coding.

use super::*;
use proptest::prelude::*;

fn extent(len: usize, record_len: Option<usize>) -> Extent<'static> {
    Extent { len, record_len, given: &[] }
}

fn written(name: &str, value: &str, len: usize, record_len: Option<usize>) -> Vec<u8> {
    named(name).unwrap().1.encode(value, extent(len, record_len)).unwrap()
}

#[test]
fn every_place_is_a_file_of_its_element_and_has_one_coding() {
    let mut seen = std::collections::HashSet::new();
    for (places, coding) in all() {
        assert!(!places.is_empty(), "{}", coding.name());
        for (kind, file) in places {
            assert!(kind.file_number(file).is_some(), "{kind} has no {file}");
            assert!(seen.insert((*kind, *file)), "{kind} {file} stands twice");
            assert_eq!(super::coding(*kind, file).unwrap().name(), coding.name());
        }
        assert_eq!(named(coding.name()).unwrap().0, places, "{} stands twice", coding.name());
    }
}

#[test]
fn the_published_test_profile_reads_as_published() {
    assert_eq!(written("iccid", "89000123456789012341", 10, None)[..3], [0x98, 0x00, 0x10]);
    assert_eq!(written("imsi", "001010123456063", 9, None), [8, 0x09, 0x10, 0x10, 0x10, 0x32, 0x54, 0x06, 0x36]);
    let imsi = [8, 0x09, 0x10, 0x10, 0x10, 0x32, 0x54, 0x06, 0x36];
    assert_eq!(describe(Kind::Usim, "ef-imsi", &imsi, None).unwrap(), "001010123456063");
}

#[test]
fn an_error_names_the_variable_what_is_wrong_and_the_form() {
    let error = named("imsi").unwrap().1.encode("26201x", extent(9, None)).unwrap_err();
    assert_eq!(error.to_string(), "\"26201x\" is no IMSI; imsi takes 6 to 15 digits (3GPP TS 31.102 §4.2.2)");
    let error = named("imsi").unwrap().1.encode("001010123456063", extent(8, None)).unwrap_err();
    assert!(error.what.contains("takes 9 octets, there are 8"), "{error}");
}

proptest! {
    #[test]
    fn what_a_coding_reads_it_writes_again(octets in octets(), record_len in proptest::option::of(0..40_usize)) {
        for (_, coding) in all() {
            let Some(text) = coding.decode(&octets, record_len) else { continue };
            let given: Vec<Option<u8>> = octets.iter().copied().map(Some).collect();
            let extent = Extent { len: octets.len(), record_len, given: &given };
            let again = coding.encode(&text, extent);
            let again = again.map_err(|error| TestCaseError::fail(format!("{} {text:?}: {error}", coding.name())))?;
            prop_assert!(again.len() <= octets.len());
            prop_assert_eq!(coding.decode(&again, record_len), Some(text), "{}", coding.name());
        }
    }

    #[test]
    fn any_text_costs_an_error_at_most(value in ".{0,40}", len in 0..80_usize, record_len in proptest::option::of(0..90_usize)) {
        for (_, coding) in all() {
            if let Ok(octets) = coding.encode(&value, extent(len, record_len)) {
                prop_assert!(octets.len() <= len);
            }
        }
    }

    #[test]
    fn any_content_of_any_file_costs_silence_at_most(octets in octets(), record_len in proptest::option::of(0..40_usize)) {
        for kind in [Kind::Mf, Kind::Telecom, Kind::Usim, Kind::OptUsim, Kind::Isim, Kind::OptIsim, Kind::Csim, Kind::OptCsim,
            Kind::Df5gs, Kind::DfSaip, Kind::Iot, Kind::OptIot] {
            for file in kind.files() {
                let _ = describe(kind, file, &octets, record_len);
            }
        }
    }
}

/// Octets that look like something now and then: random, digits, TLVs, text, padding.
fn octets() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..12),
        proptest::collection::vec(prop_oneof![Just(0x21_u8), Just(0x09), Just(0xF1), Just(0x10), 0..10_u8], 0..12),
        proptest::collection::vec(0x20..0x7F_u8, 0..16),
        (
            prop_oneof![Just(0x80_u8), Just(0xA0), Just(0xA1), Just(0xA3), Just(0x43)],
            proptest::collection::vec(0..0x7F_u8, 0..20)
        )
            .prop_map(|(tag, value)| [vec![tag, value.len() as u8], value].concat()),
        (0..12_usize).prop_map(|len| vec![0xFF; len]),
    ];
    proptest::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}
