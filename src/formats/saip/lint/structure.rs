//! Bytes and frame: D01 to D04, H01, H02, I01, Z01.

use std::collections::HashSet;

use super::templates::version;
use super::{Finding, Lint, Report, Rule, Severity, counted};
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::{Kind, primitive};
use crate::formats::saip::package::{Element, Package, child, children};
use crate::formats::saip::types;
use crate::formats::tlv::{Tag, Tlv};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "D02",
        severity: Severity::Error,
        why: "an eUICC that checks DER refuses the element; one that re-encodes it computes another hash",
        hint: "encode it as DER: minimal integers and sizes, no member that equals its default",
        check: canonical,
    },
    Rule {
        id: "D03",
        severity: Severity::Warning,
        why: "an older eUICC answers pe-not-supported, or skips what it does not know",
        hint: "the octets are kept as they are; check that the target eUICCs know this version",
        check: newer_than_known,
    },
    Rule {
        id: "D04",
        severity: Severity::Error,
        why: "the eUICC cannot read the element, and every tool that writes the package again changes it",
        hint: "give the element the members, order and sizes that the ASN.1 module PEDefinitions describes",
        check: same_again,
    },
    Rule {
        id: "H01",
        severity: Severity::Error,
        why: "an eUICC starts with the header and finishes with the end; without either nothing is installed",
        hint: "put one header first and one end last",
        check: header_and_end,
    },
    Rule {
        id: "H02",
        severity: Severity::Error,
        why: "the eUICC answers unsupported-profile-version, or meets an element its version does not have",
        hint: "state the SAIP version that has every element of the package: 2.1 to 2.3 or 3.1 to 3.4",
        check: versions,
    },
    Rule {
        id: "I01",
        severity: Severity::Error,
        why: "the eUICC reports failures by identification: without a unique one nobody knows which element failed",
        hint: "give every element but the header its own identification, 0 to 32767",
        check: identifications,
    },
    Rule {
        id: "Z01",
        severity: Severity::Warning,
        why: "every segment costs radio time and free memory; an eUICC that runs out of either rolls back",
        hint: "check the free memory of the target eUICCs before ordering this",
        check: size,
    },
];

/// Largest package that is taken without asking, in octets: 256 segments of 1,007.
const LARGE: usize = 256 * 1_007;

/// D01 E: every TLV has a definite, minimal length and closes exactly. No other rule runs on what is not DER.
pub(super) fn not_der(offset: usize, message: &str) -> Lint {
    let finding = Finding {
        rule: "D01",
        severity: Severity::Error,
        element: "package".into(),
        offset,
        path: super::PACKAGE.into(),
        message: message.to_owned(),
        why: "an eUICC reads a profile as DER from the first octet on: it stops here and installs nothing",
        hint: "this is not a DER profile package; export it again, without text armour or outer wrapping",
    };
    Lint { rules_run: 1, findings: vec![finding] }
}

/// D02 E: INTEGERs minimal, DEFAULT members absent, sizes without leading zero octets.
fn canonical(package: &Package<'_>, report: &mut Report<'_>) {
    for (element, examined) in package.elements.iter().zip(report.examined) {
        for fault in examined.faults.iter().filter(|fault| fault.fault.is_not_canonical()) {
            report.at(element, fault.offset, fault.fault.to_string());
        }
        for file in element_files(element) {
            for (tag, name) in [(Tag(0x80), "efFileSize"), (Tag(0x86), "maximumFileSize")] {
                let holder = if tag == Tag(0x80) { file.descriptor } else { file.parameter(Tag(0xA5)) };
                if let Some(size) = holder.and_then(|holder| child(&holder, tag)).filter(|size| has_leading_zero(size))
                {
                    report.at(element, size.offset, format!("{name} has a leading zero octet"));
                }
            }
        }
    }
}

fn has_leading_zero(size: &Tlv<'_>) -> bool {
    matches!(size.value, [0, _, ..])
}

/// Every file an element describes.
pub(super) fn element_files<'a>(element: &Element<'a>) -> Vec<FileView<'a>> {
    match element.kind {
        Kind::GenericFileManagement => FileView::of_gfm(&element.tlv),
        kind => children(&element.tlv)
            .filter(|tlv| kind.file_name(tlv.tag).is_some())
            .flat_map(|file| FileView::all(&file))
            .collect(),
    }
}

/// D03 W: an element or member that this version does not know.
fn newer_than_known(package: &Package<'_>, report: &mut Report<'_>) {
    for (element, examined) in package.elements.iter().zip(report.examined) {
        if element.kind == Kind::Unknown {
            report.on(element, format!("tag {} is no element of SAIP 3.4.1", element.tlv.tag));
            continue;
        }
        for unknown in &examined.unknown {
            report.at(element, unknown.offset, format!("member {} is not one of SAIP 3.4.1", unknown.tag));
        }
    }
}

/// D04 E: an element decodes, and encodes to the octets it was read from.
fn same_again(package: &Package<'_>, report: &mut Report<'_>) {
    for (element, examined) in package.elements.iter().zip(report.examined) {
        // What is not canonical alone is D02's.
        for fault in examined.faults.iter().filter(|fault| !fault.fault.is_not_canonical()) {
            report.at(element, fault.offset, fault.fault.to_string());
        }
        if !examined.faults.is_empty() {
            continue;
        }
        match types::decode(element).map(|typed| typed.encode()) {
            Ok(Ok(octets)) if octets == element.tlv.whole => {}
            Ok(Ok(_)) => report.on(element, "encodes to other octets than it was read from"),
            Ok(Err(error)) => report.on(element, format!("does not encode again: {error}")),
            Err(error) => report.at(element, error.offset, error.fault.to_string()),
        }
    }
}

/// H01 E (SAIP §8.2.1, §8.10): exactly one header and it is first; one end and it is last.
fn header_and_end(package: &Package<'_>, report: &mut Report<'_>) {
    let last = package.elements.len().saturating_sub(1);
    for (kind, name, at) in [(Kind::Header, "header", 0), (Kind::End, "end", last)] {
        if package.of(kind).next().is_none() {
            report.package(format!("there is no {name}"));
        }
        for (index, element) in package.elements.iter().enumerate() {
            if element.kind == kind && index != at {
                report.on(element, format!("{name} stands at place {} of {}", index + 1, last + 1));
            }
        }
    }
}

/// H02 E (SAIP §8.2.1): a version that exists, and elements that it has.
fn versions(package: &Package<'_>, report: &mut Report<'_>) {
    let Some(header) = package.of(Kind::Header).next() else { return };
    let Some(version) = version(package) else {
        report.on(header, "has no version");
        return;
    };
    let (major, minor) = version;
    if !matches!(version, (2, 0..=3) | (3, 0..=4)) {
        let offset = header.member(primitive(0)).map_or(header.tlv.offset, |tlv| tlv.offset);
        report.at(header, offset, format!("{major}.{minor} is no version of SAIP that this version knows"));
        return;
    }
    for element in &package.elements {
        let since = match element.kind {
            Kind::Eap => (2, 2),
            Kind::Df5gs | Kind::DfSaip => (2, 3),
            Kind::DfSnpn | Kind::Df5gprose | Kind::Iot | Kind::OptIot => (3, 3),
            Kind::Ssim | Kind::SsimEapTlsParameters => (3, 4),
            _ => continue,
        };
        if version < since {
            let message = format!("is there since SAIP {}.{}, the header says {major}.{minor}", since.0, since.1);
            report.on(element, message);
        }
    }
}

/// I01 E (SAIP §7.1, §8.1.3): identification present in all but the header, unique, 0 to 32767.
fn identifications(package: &Package<'_>, report: &mut Report<'_>) {
    let mut seen = HashSet::new();
    for element in package.elements.iter().filter(|element| !matches!(element.kind, Kind::Header | Kind::Unknown)) {
        match element.id {
            None => report.on(element, "has no identification, or one above 32767"),
            Some(id) if id > 32_767 => report.on(element, format!("identification {id} is above 32767")),
            Some(id) if !seen.insert(id) => {
                report.on(element, format!("identification {id} is taken by an earlier element"))
            }
            Some(_) => {}
        }
    }
}

/// Z01 W: size and number of segments.
fn size(package: &Package<'_>, report: &mut Report<'_>) {
    let octets: usize = package.elements.iter().map(|element| element.tlv.whole.len()).sum();
    if octets > LARGE {
        report.package(format!("{octets} octets make {}", counted(octets.div_ceil(1_007), "segment")));
    }
}
