//! A package against the eUICC it is meant for; these rules run only when a target is given.
//!
//! | id | severity | rule |
//! |---|---|---|
//! | X01 | E | the eUICC takes the major version of the header: its own or an earlier one; W: a minor above its own |
//! | X02 | E | every mandated service is a capability of the eUICC |
//! | X03 | E | every template is one of the eUICC's SAIP version |
//! | X04 | E | the package fits into the free non-volatile memory |
//! | X05 | W | little of it is left: less than half the package again, for what files and objects cost beside their octets |
//! | X06 | E | an IoT Minimal Profile is asked of an eUICC that takes them |
//! | X07 | E | the header's policy asks for no rule that the eUICC forbids |
//!
//! Source: SGP.22 §4.3, §5.7.8; SAIP §8.2.

use super::templates::version;
use super::{Report, Rule, Severity};
use crate::formats::rsp::euicc_info2::Capability;
use crate::formats::saip::catalogue::Template;
use crate::formats::saip::kind::{Kind, constructed, context_number, primitive};
use crate::formats::saip::package::{Package, children};
use crate::formats::saip::services::service_name;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "X01",
        severity: Severity::Error,
        why: "the eUICC answers unsupported-profile-version to the header",
        hint: "order a package of a version in the eUICC's EUICCInfo2, or another eUICC",
        check: versions,
    },
    Rule {
        id: "X02",
        severity: Severity::Error,
        why: "a mandated service the eUICC lacks aborts the download",
        hint: "take the service and what needs it out of the package, or choose another eUICC",
        check: services,
    },
    Rule {
        id: "X03",
        severity: Severity::Error,
        why: "the eUICC answers template-not-supported and rolls the profile back",
        hint: "use the template's earlier version, or make the files with genericFileManagement",
        check: templates,
    },
    Rule {
        id: "X04",
        severity: Severity::Error,
        why: "the eUICC answers not-enough-memory after the whole download",
        hint: "delete a profile on the eUICC, or order a smaller package",
        check: memory,
    },
    Rule {
        id: "X05",
        severity: Severity::Warning,
        why: "files and objects cost more than their octets: the installation may still run out of memory",
        hint: "try the package on a card of this type, or leave more room",
        check: little_memory,
    },
    Rule {
        id: "X06",
        severity: Severity::Error,
        why: "the eUICC knows no iot element: it answers pe-not-supported, or refuses the header",
        hint: "order a full profile for this eUICC",
        check: iot_minimal,
    },
    Rule {
        id: "X07",
        severity: Severity::Error,
        why: "the eUICC refuses the profile's metadata with a policy rule it forbids",
        hint: "order the profile without this policy rule",
        check: policy,
    },
];

/// A eUICC of a major version installs packages of the earlier ones too; the minor is for information (SAIP §8.2.1), what counts of
/// it is in services and templates.
fn versions(package: &Package<'_>, report: &mut Report<'_>) {
    let (Some(target), Some(header)) = (&report.options.target, package.of(Kind::Header).next()) else { return };
    let Some((major, minor)) = version(package) else { return };
    let all: Vec<String> = target.profile_versions().map(|version| version.to_string()).collect();
    let message = format!("is of SAIP {major}.{minor}, the eUICC takes up to {}", all.join(", "));
    match target.profile_versions().map(|version| (version.major, version.minor)).max() {
        Some((highest, _)) if major > highest => report.on(header, message),
        Some(newest) if (major, minor) > newest => {
            report.mild(Severity::Warning, header, header.tlv.offset, message);
        }
        _ => {}
    }
}

fn services(package: &Package<'_>, report: &mut Report<'_>) {
    let (Some(target), Some(header)) = (&report.options.target, package.of(Kind::Header).next()) else { return };
    for service in header.member(constructed(5)).iter().flat_map(children) {
        let Some(number) = context_number(service.tag) else { continue };
        if !target.can(Capability::of_service(number)) {
            report.at(header, service.offset, format!("the eUICC does not have {}", service_name(number)));
        }
    }
}

fn templates(package: &Package<'_>, report: &mut Report<'_>) {
    let Some(target) = &report.options.target else { return };
    let newest = target.profile_versions().map(|version| (version.major, version.minor)).max();
    for element in package.elements.iter().filter(|element| element.kind.is_file_system()) {
        let Some(template) = Template::of(element) else { continue };
        if newest.is_some_and(|newest| template.since > newest) {
            let (major, minor) = template.since;
            let message = format!("template {} is there since SAIP {major}.{minor}", template.oid());
            report.at(element, element.member(primitive(1)).map_or(element.tlv.offset, |oid| oid.offset), message);
        }
    }
}

/// Octets that files and load blocks take at least: what they hold, or the package itself where that is more.
fn octets(package: &Package<'_>, report: &Report<'_>) -> u64 {
    let package: usize = package.elements.iter().map(|element| element.tlv.whole.len()).sum();
    let is_own = |file: &&super::tree::Made<'_>| file.link().is_none() && !file.is_directory();
    let files: usize = report.made.iter().filter(is_own).filter_map(|file| file.size()).fold(0, usize::saturating_add);
    files.max(package) as u64
}

fn memory(package: &Package<'_>, report: &mut Report<'_>) {
    let Some(free) = report.options.target.as_ref().and_then(|target| target.free_non_volatile_octets) else { return };
    let octets = octets(package, report);
    if octets > free {
        report.package(format!("needs {octets} octets, the eUICC has {free} free"));
    }
}

fn little_memory(package: &Package<'_>, report: &mut Report<'_>) {
    let Some(free) = report.options.target.as_ref().and_then(|target| target.free_non_volatile_octets) else { return };
    let octets = octets(package, report);
    if octets <= free && octets.saturating_add(octets / 2) > free {
        report.package(format!("needs {octets} octets of the {free} that the eUICC has free"));
    }
}

fn iot_minimal(package: &Package<'_>, report: &mut Report<'_>) {
    let Some(target) = &report.options.target else { return };
    if let Some(iot) = package.of(Kind::Iot).next().filter(|_| !target.can(Some(Capability::IOT_MINIMAL))) {
        report.on(iot, "the eUICC takes no IoT Minimal Profile");
    }
}

/// `pol` of the header is a BIT STRING as the PprIds of SGP.22 are, in an OCTET STRING: bit 1 disable, bit 2 delete not allowed.
fn policy(package: &Package<'_>, report: &mut Report<'_>) {
    let (Some(target), Some(header)) = (&report.options.target, package.of(Kind::Header).next()) else { return };
    let Some(pol) = header.member(primitive(4)) else { return };
    for (bit, name) in [(0x01, "PPR1"), (0x02, "PPR2")] {
        let asked = pol.value.last().is_some_and(|octet| octet & bit != 0);
        let forbidden = if bit == 1 { target.forbids_ppr1 } else { target.forbids_ppr2 };
        if asked && forbidden {
            report.at(header, pol.offset, format!("pol asks for {name}, which the eUICC forbids"));
        }
    }
}
