use std::collections::BTreeMap;

use proptest::prelude::*;

use super::credentials::Secret;
use super::*;
use crate::formats::saip::algorithm::Algorithm;
use crate::formats::saip::source;
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
    let found = audit::read(upp.expose()).unwrap();
    assert!(!found.iccids.is_empty() && found.iccids.iter().all(|iccid| iccid == identity.iccid.as_str()));
    let imsi = identity.imsi.unwrap();
    assert!(!found.imsis.is_empty());
    found.imsis.iter().for_each(|found| assert_eq!(found, imsi.as_str()));
    assert!(!found.accs.is_empty());
    found.accs.iter().for_each(|acc| assert_eq!(*acc, identity.acc.unwrap_or(1 << imsi.last_digit())));
    found.msisdns.iter().for_each(|found| assert_eq!(Some(found.as_str()), identity.msisdn));
    assert!(!found.akas.is_empty());
    for aka in &found.akas {
        assert_eq!((aka.algorithm, &aka.k[..], &aka.opc[..]), (algorithm.id(), credentials.k(), credentials.opc()));
        assert_eq!((aka.k.len(), aka.opc.len()), (algorithm.k_len(), algorithm.opc_len()));
    }
    for code in found.pins.iter().chain(&found.puks) {
        let is_puk = found.puks.iter().any(|puk| std::ptr::eq(puk, code));
        let secret = match (code.reference, is_puk) {
            (1..=8, false) => Secret::Pin1,
            (0x81..=0x88, false) => Secret::Pin2,
            (1..=8, true) => Secret::Puk1,
            (0x81..=0x88, true) => Secret::Puk2,
            (reference, _) => Secret::Adm(reference),
        };
        assert_eq!(Some(&code.value[..]), credentials.expose(secret), "{} {}", code.place, code.reference);
    }
    for key in &found.ota_keys {
        let matches = |(secret, value): (Secret, &[u8])| match secret {
            Secret::Ota(ota) => {
                (ota.domain, ota.version, ota.id, ota.component) == (key.domain, key.version, key.id, key.component)
                    && value == &key.value[..]
            }
            _ => false,
        };
        assert!(credentials.each().any(matches), "{:02X}/{:02X}", key.version, key.id);
    }
    let otas = credentials.each().filter(|(secret, _)| matches!(secret, Secret::Ota(_))).count();
    assert_eq!(otas, found.ota_keys.len());
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
        acc in proptest::option::of(1..0x400_u16),
        msisdn in proptest::option::of("[1-9][0-9]{5,14}"),
        seed in any::<u64>(),
        tuak in any::<bool>(),
    ) {
        let algorithm = if tuak { Algorithm::Tuak } else { Algorithm::Milenage };
        for (name, _) in source::PRESETS {
            let template = CompiledTemplate::compile(&preset(name), &settings(algorithm)).unwrap();
            let msisdn = msisdn.as_deref().filter(|_| template.takes_msisdn());
            let identity = Identity { iccid, imsi: Some(imsi), acc, msisdn };
            let credentials = drawn(&template, seed);
            let upp = template.personalise(&identity, &credentials).unwrap();
            prop_assert_eq!(upp.len(), template.upp_len());
            assert_personal(&upp, &identity, &credentials, algorithm);
        }
    }
}
