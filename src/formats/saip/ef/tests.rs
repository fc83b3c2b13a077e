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
    assert_eq!(
        error.to_string(),
        "the value, 6 characters, is no IMSI; imsi takes 6 to 15 digits (3GPP TS 31.102 §4.2.2)"
    );
    let error = named("imsi").unwrap().1.encode("001010123456063", extent(8, None)).unwrap_err();
    assert!(error.what.contains("takes 9 octets, there are 8"), "{error}");
}

/// Canonical values of a variable, the file they go into and the length of its records.
#[rustfmt::skip]
const VALUES: &[(&str, &str, usize, Option<usize>)] = &[
    ("iccid", "89[0-9]{16,18}", 10, None),
    ("imsi", "[0-9]{6,15}", 9, None),
    ("acc", "[0-9]|0,[3-9],1[1-5]", 2, None),
    ("msisdn", "\\+[0-9]{1,20}(,\\+[0-9]{5}){0,2}", 78, Some(26)),
    ("smsc", "\\+[0-9]{1,20}(,,\\+[0-9]{5})?", 120, Some(40)),
    ("spn", "[A-Za-z0-9@£üÜ§-][A-Za-z0-9@£üÜ§ -]{0,15}|[Ж-я]{1,13}|[一-龠]{1,7}", 17, None),
    ("gid1", "([0-9A-F]{2}){0,4}[0-9A]F", 5, None),
    ("gid2", "([0-9A-F]{2}){0,4}[0-9A]F", 8, None),
    ("fplmn", "[0-9]{5,6}(,[0-9]{5,6}){0,3}", 12, None),
    ("ehplmn", "[0-9]{5,6}(,[0-9]{5,6}){0,3}", 13, None),
    ("plmnwact", "[0-9]{5,6}:(UTRAN\\+E-UTRAN\\+GSM|NG-RAN|0003)(,[0-9]{5,6}){0,3}", 40, None),
    ("oplmnwact", "[0-9]{5,6}:(E-UTRAN-NB|E-UTRAN-WB\\+NG-RAN)(,[0-9]{5,6}){0,3}", 40, None),
    ("hplmnwact", "[0-9]{5,6}:(GSM-without-EC|EC-GSM-IoT\\+HRPD)", 5, None),
    ("pnn", "[A-Za-z0-9@€][A-Za-z0-9@€ ]{0,9}(\\|[Ж-я]{1,7})?(;;[A-Z]{7,8})?", 120, Some(40)),
    ("opl", "[0-9x]{5,6}(:0[0-9A-F]{3}-F00[0-9A-F])?:[1-9](,[0-9]{5}:1[0-9]{2})?", 24, Some(8)),
    ("opl5g", "[0-9x]{5,6}(:0[0-9A-F]{5}-F00[0-9A-F]{3})?:[1-9](,[0-9]{5}:1[0-9]{2})?", 20, Some(10)),
    ("spdi", "[0-9]{5,6}(,[0-9]{5,6}){0,3}", 20, None),
    ("mnc_len", "[23]", 4, None),
    ("ecc", "[0-9]{1,6}(:police\\+marine-guard)?(=[A-Za-z]{1,8})?(,,[0-9]{3}:automatic-ecall)?", 42, Some(14)),
    ("epdg_id", "[a-z]{1,9}\\.example\\.org|192\\.0\\.2\\.[1-9]|2001:db8::[1-9]", 40, None),
    ("routing_indicator", "[0-9]{1,4}", 4, None),
    ("suci_calc_info", "null|(null,)?profile-a:1;2?[0-9]=[0-9A-F]{64}|profile-b:2,profile-a:1;1=[0-9A-F]{64},2=0[23][0-9A-F]{64}", 120, None),
    ("uac_aic", "none|mps|mcs|mps\\+mcs", 4, None),
    ("supi_nai", "(gli:|gci:)?[a-z0-9]{1,15}@[a-z.]{1,20}", 50, None),
    ("ursp", "([0-9A-F]{2}){0,40}[0-9A]F", 50, None),
    ("impi", "[0-9]{6,15}@[a-z.]{1,90}", 140, None),
    ("impu", "(sip:[0-9]{15}@[a-z.]{1,20}|tel:\\+[0-9]{8})(,,sip:a@b)?", 150, Some(50)),
    ("ims_domain", "[a-z]{1,63}\\.[a-z]{1,63}", 140, None),
    ("pcscf", "([a-z]{1,9}\\.example\\.org|192\\.0\\.2\\.[1-9])(,2001:db8::[1-9])?", 80, Some(40)),
    ("imsi_m", "[0-9]{15}", 10, None),
    ("imsi_t", "[0-9]{15}", 10, None),
    ("accolc", "[0-9]|1[0-5]", 1, None),
    ("ruimid", "[0-9A-F]{8}|[0-9A-F]{14}", 8, None),
    ("spc", "[0-9]{6}", 3, None),
    ("mdn", "\\+?[0-9]{1,15}", 11, None),
];

#[test]
fn every_coding_has_values_to_try() {
    let tried: std::collections::BTreeSet<&str> = VALUES.iter().map(|(name, ..)| *name).collect();
    assert_eq!(tried, all().map(|(_, coding)| coding.name()).collect());
}

/// A row of [`VALUES`] and a value of it.
fn any_value() -> impl Strategy<Value = (usize, String)> {
    (0..VALUES.len()).prop_flat_map(|row| {
        let values = proptest::string::string_regex(VALUES[row].1).unwrap();
        values.prop_map(move |value| (row, value))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn a_value_is_read_back_as_it_was_written_over_any_template((row, value) in any_value(), before in proptest::collection::vec(proptest::option::of(any::<u8>()), 0..20)) {
        let (name, _, len, record_len) = VALUES[row];
        let coding = named(name).unwrap().1;
        let octets = coding.encode(&value, Extent { len, record_len, given: &before });
        let octets = octets.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(coding.decode(&octets, record_len), Some(value), "{}", name);
    }

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
