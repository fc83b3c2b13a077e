//! The judge against packages of its own maker: what is right passes, and nothing that is wrong does.

use openssl::nid::Nid;
use proptest::prelude::*;

use super::builder::{Maker, Upp, key_pair, key_pair_on};
use super::*;
use crate::formats::tlv::{Tag, wrap};

const PPK: [[u8; 16]; 3] = [[1; 16], [2; 16], [3; 16]];

fn refused(maker: &Maker, check: Check) {
    let findings = maker.euicc().open(&maker.bpp(), &maker.trust(), &[]).err().unwrap();
    assert!(findings.iter().any(|f| f.check == check), "{check}: {findings:?}");
}

#[test]
fn a_package_under_session_keys_and_one_under_random_keys_open() {
    for ppk in [None, Some(PPK)] {
        let maker = Maker { ppk, ..Maker::demo() };
        let opened = maker.euicc().open(&maker.bpp(), &maker.trust(), &[]).unwrap();
        assert_eq!(opened.iccid.as_str(), "89000123456789012341");
        assert_eq!(opened.imsis[0].as_str(), "001010123456063");
        assert_eq!(opened.upp_sha256, openssl::sha::sha256(&maker.upp));
        assert_eq!(opened.metadata_sha256, openssl::sha::sha256(&maker.metadata));
        assert_eq!(opened.transaction_id, [7; 16]);
        assert_eq!(opened.class, ProfileClass::Operational);
        assert_eq!(opened.keys_replaced, ppk.is_some());
        assert_eq!(opened.profile_key.expose() == &PPK[1], ppk.is_some());
    }
}

#[test]
fn profiles_of_many_segments_open_at_every_border() {
    let small = Upp::default().der().len();
    for target in [991, 992, 1_007, 1_008, 2_014, 2_015] {
        let upp = (0..32).map(|less| Upp { ballast: target - small - less, ..Upp::default() }.der());
        let upp = upp.into_iter().find(|upp| upp.len() == target).unwrap();
        let maker = Maker { ppk: Some(PPK), upp, ..Maker::demo() };
        assert!(maker.euicc().open(&maker.bpp(), &maker.trust(), &[]).is_ok(), "{target}");
    }
}

#[test]
fn one_flipped_bit_anywhere_in_a_package_is_refused() {
    for ppk in [None, Some(PPK)] {
        let maker = Maker { ppk, ..Maker::demo() };
        let (euicc, trust, bpp) = (maker.euicc(), maker.trust(), maker.bpp());
        for at in 0..bpp.len() {
            let mut bad = bpp.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(euicc.open(&bad, &trust, &[]).is_err(), "octet {at}");
        }
        for at in 0..bpp.len() {
            assert!(euicc.open(&bpp[..at], &trust, &[]).is_err(), "cut at {at}");
        }
        assert!(euicc.open(&[&bpp[..], &[0]].concat(), &trust, &[]).is_err());
    }
}

#[test]
fn a_package_opens_for_its_own_euicc_only() {
    let dppb = key_pair().0;
    let eid = |body: &str| crate::ids::Eid::from_body(body).unwrap();
    let one = Maker::new(eid("890490321234512345000000000001"), &dppb);
    let other = Maker::new(eid("890490321234512345000000000002"), &dppb);
    let findings = other.euicc().open(&one.bpp(), &one.trust(), &[]).err().unwrap();
    assert_eq!(findings.iter().map(|f| f.check).collect::<Vec<_>>(), [Check::SmdpSign, Check::SegmentMac]);
    let same_key_other_eid = Euicc::new(other.eid, one.otsk_euicc.clone(), one.otpk_euicc).unwrap();
    let findings = same_key_other_eid.open(&one.bpp(), &one.trust(), &[]).err().unwrap();
    assert_eq!(findings[0].check, Check::SegmentMac);
    assert!(Euicc::new(one.eid, one.otsk_euicc.clone(), other.otpk_euicc).is_err());
}

#[test]
fn a_signature_of_another_sm_dp_plus_is_refused() {
    let maker = Maker::demo();
    let findings = maker.euicc().open(&maker.bpp(), &Maker::demo().trust(), &[]).err().unwrap();
    assert_eq!(findings[0].check, Check::SmdpSign);
    assert_eq!(maker.euicc().open(&maker.bpp(), &DpTrust::nobody(), &[]).err().unwrap()[0].check, Check::SmdpSign);
}

#[test]
fn a_package_opens_on_either_curve_and_only_under_the_dppb_key_of_its_own() {
    let curves = [Nid::X9_62_PRIME256V1, Nid::BRAINPOOL_P256R1];
    for (curve, other) in [(curves[0], curves[1]), (curves[1], curves[0])] {
        let eid = "89049032123451234512345678901235".parse().unwrap();
        let [own_key, other_key] = [curve, other].map(|curve| key_pair_on(curve).0);
        let maker = Maker::new(eid, &own_key).with_euicc_on(curve);
        assert!(maker.euicc().open(&maker.bpp(), &maker.trust(), &[]).is_ok());
        // A right signature by a trusted key, but the eUICC's certificates are all on one curve.
        let crossed = Maker { dppb: other_key, ..Maker::new(eid, &own_key).with_euicc_on(curve) };
        let findings = crossed.euicc().open(&crossed.bpp(), &crossed.trust(), &[]).err().unwrap();
        assert_eq!(findings.iter().map(|f| f.check).collect::<Vec<_>>(), [Check::SmdpSign]);
        assert!(findings[0].message.contains("on the curve of the eUICC"), "{}", findings[0].message);
        // One-time keys of two curves do not meet.
        let stranger = maker.with_euicc_on(other);
        let crossed = Maker::new(eid, &own_key).with_euicc_on(curve).bpp();
        let findings = stranger.euicc().open(&crossed, &stranger.trust(), &[]).err().unwrap();
        assert_eq!(findings.last().unwrap().check, Check::KeyAgreement);
    }
    let (secret, point) = key_pair_on(Nid::SECP256K1);
    assert!(Euicc::new("89049032123451234512345678901235".parse().unwrap(), secret, point).is_err());
}

#[test]
fn each_rule_of_the_package_has_a_case_that_breaks_it() {
    let big = Upp { ballast: 3_000, ..Upp::default() }.der();
    refused(&Maker { transaction_id: vec![], ..Maker::demo() }, Check::BppForm);
    refused(&Maker { transaction_id: vec![1; 17], ..Maker::demo() }, Check::BppForm);
    refused(&Maker { host_id: vec![], ..Maker::demo() }, Check::BppForm);
    refused(&Maker { host_id: vec![1; 17], ..Maker::demo() }, Check::BppForm);
    refused(&Maker { piece_len: 1_008, upp: big.clone(), ..Maker::demo() }, Check::SegmentSize);
    refused(&Maker { piece_len: 1_000, upp: big.clone(), ..Maker::demo() }, Check::SegmentSize);
    refused(&Maker { upp: vec![], ..Maker::demo() }, Check::BppForm);
    refused(&Maker { pad_mark: 0x81, ..Maker::demo() }, Check::SegmentPadding);
    let late = Maker { first_counter: 0, ..Maker::demo() };
    assert!(late.euicc().open(&late.bpp(), &late.trust(), &[]).is_err());
    refused(&Maker { configure: vec![0xBF, 0x24, 1, 0], ..Maker::demo() }, Check::ConfigureIsdp);
    refused(&Maker { metadata_split: Some(20), ..Maker::demo() }, Check::SegmentSize);
    refused(&Maker { metadata: vec![0xBF, 0x25, 0], ..Maker::demo() }, Check::StoreMetadata);
    refused(&Maker { upp: Upp { has_aka: false, ..Upp::default() }.der(), ..Maker::demo() }, Check::UppAka);
    let mut other_iccid = Maker::demo();
    let at = other_iccid.metadata.windows(2).position(|w| w == [0x5A, 10]).unwrap() + 2;
    other_iccid.metadata[at..at + 10].copy_from_slice(&[0x98, 0x00, 0x10, 0x32, 0x54, 0x76, 0x98, 0x10, 0x32, 0x85]);
    refused(&other_iccid, Check::UppIccid);
}

#[test]
fn metadata_with_an_icon_comes_in_two_segments() {
    let icon = wrap(Tag(0x94), &[&[0xA5; 1_024]]);
    let plain = Maker::demo().metadata;
    let metadata = wrap(Tag(0xBF25), &[&plain[3..], &[0x93, 1, 1], &icon]);
    let maker = Maker { metadata_split: Some(1_008), metadata: metadata.clone(), ..Maker::demo() };
    assert!(maker.euicc().open(&maker.bpp(), &maker.trust(), &[]).is_ok());
    refused(&Maker { metadata_split: Some(1_009), metadata: metadata.clone(), ..Maker::demo() }, Check::SegmentSize);
    refused(&Maker { metadata, ..Maker::demo() }, Check::SegmentSize);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_mutation_of_a_package_is_taken_or_makes_the_judge_fall(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let maker = Maker { ppk: Some(PPK), ..Maker::demo() };
        let good = maker.bpp();
        let mut bad = good.clone();
        for (at, octet) in changes {
            bad[at.index(good.len())] = octet;
        }
        if is_cut {
            bad.truncate(cut.index(good.len()));
        }
        prop_assume!(bad != good);
        prop_assert!(maker.euicc().open(&bad, &maker.trust(), &[]).is_err());
    }

    #[test]
    fn hostile_profiles_cost_findings_at_most(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut upp = Upp::default().der();
        for (at, octet) in changes {
            let at = at.index(upp.len());
            upp[at] = octet;
        }
        let _ = saip::read(&upp, &[]);
    }
}
