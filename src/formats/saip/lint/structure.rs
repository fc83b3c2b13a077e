//! Bytes and frame: D01 to D03, H01, I01, Z01.

use std::collections::HashSet;

use rasn::{Decode, Encode};

use super::{Finding, Lint, Report, Rule, Severity};
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::{Kind, context_number};
use crate::formats::saip::package::{Element, Package, child, children};
use crate::formats::saip::types;
use crate::formats::tlv::{Tag, Tlv, wrap};

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
        id: "H01",
        severity: Severity::Error,
        why: "an eUICC starts with the header and finishes with the end; without either nothing is installed",
        hint: "put one header first and one end last",
        check: header_and_end,
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

/// How an element fares in the typed layer.
enum Typed {
    /// Decodes, and encodes to the same octets.
    Same,
    /// Decodes, but encodes differently.
    Differs,
    /// Not understood.
    Unknown(String),
}

fn typed<T: Decode + Encode>(tlv: &Tlv<'_>) -> Typed {
    let sequence = wrap(Tag(0x30), &[tlv.value]);
    match rasn::der::decode::<T>(&sequence) {
        Ok(value) => match rasn::der::encode(&value) {
            Ok(again) if again == sequence => Typed::Same,
            _ => Typed::Differs,
        },
        Err(error) => Typed::Unknown(error.to_string()),
    }
}

fn typed_parts<'a>(element: &Element<'a>) -> Vec<(Tlv<'a>, Typed)> {
    let whole = |typed| vec![(element.tlv, typed)];
    match element.kind {
        Kind::PinCodes => whole(typed::<types::PinCodes>(&element.tlv)),
        Kind::PukCodes => whole(typed::<types::PukCodes>(&element.tlv)),
        Kind::AkaParameter => whole(typed::<types::AkaParameter>(&element.tlv)),
        Kind::SecurityDomain => whole(typed::<types::SecurityDomain>(&element.tlv)),
        Kind::Rfm => whole(typed::<types::Rfm>(&element.tlv)),
        Kind::Application => whole(typed::<types::Application>(&element.tlv)),
        Kind::End => whole(typed::<types::End>(&element.tlv)),
        kind if kind.is_file_system() => {
            let known = children(&element.tlv).filter(|tlv| kind.file_name(tlv.tag).is_some());
            known.map(|tlv| (tlv, typed::<Vec<types::FileEntry>>(&tlv))).collect()
        }
        _ => Vec::new(),
    }
}

/// D02 E: INTEGERs minimal, DEFAULT members absent, sizes without leading zero octets.
fn canonical(package: &Package<'_>, report: &mut Report<'_>) {
    for element in &package.elements {
        for (tlv, typed) in typed_parts(element) {
            if let Typed::Differs = typed {
                let what = element.kind.file_name(tlv.tag).unwrap_or("it");
                let message =
                    format!("{what} holds an integer that is not minimal, or a member that equals its default");
                report.at(element, tlv.offset, message);
            }
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
    for element in &package.elements {
        if element.kind == Kind::Unknown {
            report.on(element, format!("tag {} is no element of SAIP 3.4.1", element.tlv.tag));
        }
        if element.kind.is_file_system() {
            let unknown = children(&element.tlv).filter(|tlv| {
                context_number(tlv.tag).is_none_or(|number| number > 1) && element.kind.file_name(tlv.tag).is_none()
            });
            unknown.for_each(|tlv| report.at(element, tlv.offset, format!("member {} is not known", tlv.tag)));
        }
        for (tlv, typed) in typed_parts(element) {
            if let Typed::Unknown(error) = typed {
                report.at(element, tlv.offset, format!("is not as SAIP 3.3.1 describes it: {error}"));
            }
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
        report.package(format!("{octets} octets make {} segments", octets.div_ceil(1_007)));
    }
}
