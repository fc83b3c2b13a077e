//! A package against a eUICC: X.

use super::*;
use crate::formats::rsp::euicc_info2::{EuiccInfo2, Version};

fn version(major: u8, minor: u8) -> Version {
    Version { major, minor, revision: 0 }
}

/// What a eUICC lacks.
type Change = fn(&mut EuiccInfo2);

/// A eUICC that takes every preset.
fn able() -> EuiccInfo2 {
    EuiccInfo2 {
        profile_version: version(3, 3),
        additional_profile_versions: vec![version(2, 3)],
        free_non_volatile_octets: Some(1 << 20),
        uicc_capability: u64::MAX,
        ..EuiccInfo2::default()
    }
}

fn told_for(der: &[u8], target: EuiccInfo2) -> Vec<&'static str> {
    let lint = lint_with(der, &Options { target: Some(target), ..Options::default() });
    lint.findings.into_iter().map(|finding| finding.rule).collect()
}

#[test]
fn a_euicc_that_can_do_everything_takes_every_preset() {
    for (name, text) in source::PRESETS {
        let options = Options { target: Some(able()), ..Options::default() };
        let lint = lint_with(&source::build(text).unwrap(), &options);
        assert_eq!(lint.findings, [], "{name}");
        assert_eq!(lint.rules_run, rules().count() + 1 + super::super::target::RULES.len());
    }
}

#[test]
fn every_target_rule_fires() {
    let bootstrap = elements("bootstrap").concat();
    let iot = elements("iot-minimal").concat();
    let policy = rearranged("bootstrap", |elements| {
        // The iccid, then pol with PPR1.
        let header = &mut elements[0];
        let at = header.windows(2).position(|window| window == [0xA5, 4]).unwrap();
        header.splice(at..at, [0x84, 1, 1]);
        header[1] += 3;
    });
    let cases: [(&str, &[u8], Change); 9] = [
        ("X01", &iot, |target| (target.profile_version, target.additional_profile_versions) = (version(2, 3), vec![])),
        ("X01", &bootstrap, |target| {
            (target.profile_version, target.additional_profile_versions) = (version(2, 1), vec![version(2, 2)]);
        }),
        ("X02", &bootstrap, |target| target.uicc_capability &= !(1 << 4)),
        ("X02", &bootstrap, |target| target.uicc_capability = 0),
        ("X03", &iot, |target| (target.profile_version, target.additional_profile_versions) = (version(3, 2), vec![])),
        ("X04", &bootstrap, |target| target.free_non_volatile_octets = Some(2_000)),
        ("X05", &bootstrap, |target| target.free_non_volatile_octets = Some(5_500)),
        ("X06", &iot, |target| target.uicc_capability &= !(1 << 31)),
        ("X07", &policy, |target| target.forbids_ppr1 = true),
    ];
    for (rule, der, change) in cases {
        let mut target = able();
        change(&mut target);
        assert!(told_for(der, target.clone()).contains(&rule), "{rule}: {:?}", told_for(der, target));
    }
    let tested = cases.map(|(rule, _, _)| rule);
    assert!(super::super::target::RULES.iter().all(|rule| tested.contains(&rule.id)));
    assert_eq!(told_for(&policy, EuiccInfo2 { forbids_ppr2: true, ..able() }), [""; 0]);
}

#[test]
fn a_euicc_takes_packages_of_earlier_major_versions_and_is_warned_of_newer_minors() {
    let bootstrap = elements("bootstrap").concat();
    let iot = elements("iot-minimal").concat();
    let verdict = |der: &[u8], versions: &[Version]| {
        let target =
            EuiccInfo2 { profile_version: versions[0], additional_profile_versions: versions[1..].to_vec(), ..able() };
        let lint = lint_with(der, &Options { target: Some(target), ..Options::default() });
        lint.findings.into_iter().find(|finding| finding.rule == "X01").map(|finding| finding.severity)
    };
    // The bootstrap preset is of 2.3, the IoT preset of 3.3.
    assert_eq!(verdict(&bootstrap, &[version(3, 1)]), None);
    assert_eq!(verdict(&bootstrap, &[version(2, 3)]), None);
    assert_eq!(verdict(&bootstrap, &[version(2, 1)]), Some(Severity::Warning));
    assert_eq!(verdict(&bootstrap, &[version(2, 1), version(3, 0)]), None);
    assert_eq!(verdict(&iot, &[version(2, 9)]), Some(Severity::Error));
    assert_eq!(verdict(&iot, &[version(2, 3), version(3, 1)]), Some(Severity::Warning));
    assert_eq!(verdict(&iot, &[version(2, 3), version(3, 4)]), None);
}

#[test]
fn without_a_target_no_target_rule_runs() {
    assert_eq!(lint(&elements("bootstrap").concat()).rules_run, rules().count() + 1);
}
