//! File control parameters and contents: F01, F03, F09.

use super::structure::element_files;
use super::{Report, Rule, Severity};
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::Kind;
use crate::formats::saip::package::{Element, Package, children};
use crate::formats::tlv::Tag;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "F01",
        severity: Severity::Error,
        why: "the eUICC answers invalid-parameter and rolls the whole profile back",
        hint: "see SAIP §8.3.3 for what an ADF, a DF and an EF must and must not have",
        check: parameters,
    },
    Rule {
        id: "F03",
        severity: Severity::Error,
        why: "the eUICC refuses a size that does not fit the records, or cuts what is written beyond it",
        hint: "make efFileSize a multiple of the record length and at least as large as what is written",
        check: sizes,
    },
    Rule {
        id: "F09",
        severity: Severity::Error,
        why: "no eUICC can create the file, and a reader that believes the number runs out of memory",
        hint: "correct efFileSize or fillFileOffset: no file of a UICC is longer than 65535 octets",
        check: too_long,
    },
];

const FILE_SIZE: Tag = Tag(0x80);
const DESCRIPTOR: Tag = Tag(0x82);
const FILE_ID: Tag = Tag(0x83);
const DF_NAME: Tag = Tag(0x84);
const PROPRIETARY: Tag = Tag(0xA5);
const SHORT_ID: Tag = Tag(0x88);
const SECURITY: Tag = Tag(0x8B);
const PIN_STATUS: Tag = Tag(0xC6);

fn parameter_name(tag: Tag) -> &'static str {
    match tag {
        FILE_SIZE => "efFileSize",
        DESCRIPTOR => "fileDescriptor",
        FILE_ID => "fileID",
        DF_NAME => "dfName",
        PROPRIETARY => "proprietaryEFInfo",
        SHORT_ID => "shortEFID",
        SECURITY => "securityAttributesReferenced",
        _ => "pinStatusTemplateDO",
    }
}

/// F01 E (SAIP §8.3.3): which parameters an ADF, a DF and an EF must and must not have.
fn parameters(package: &Package<'_>, report: &mut Report<'_>) {
    for element in &package.elements {
        if element.kind == Kind::GenericFileManagement {
            for file in element_files(element) {
                check(element, "a created file", &file, &[DESCRIPTOR, FILE_ID, SECURITY], &[], report);
            }
            continue;
        }
        // The files of an IoT Minimal Profile take everything from the template.
        if matches!(element.kind, Kind::Iot | Kind::OptIot) {
            continue;
        }
        for tlv in children(&element.tlv) {
            let Some(name) = element.kind.file_name(tlv.tag) else { continue };
            for file in FileView::all(&tlv).iter().filter(|file| !file.do_not_create) {
                let (must, must_not): (&[Tag], &[Tag]) = match name {
                    name if name.starts_with("adf-") => {
                        (&[FILE_ID, DF_NAME, PIN_STATUS], &[FILE_SIZE, SHORT_ID, PROPRIETARY])
                    }
                    name if name == "mf" || name.starts_with("df-") => {
                        (&[PIN_STATUS], &[DF_NAME, FILE_SIZE, SHORT_ID, PROPRIETARY])
                    }
                    _ => (&[], &[DF_NAME, PIN_STATUS]),
                };
                check(element, name, file, must, must_not, report);
            }
        }
    }
}

fn check(
    element: &Element<'_>,
    name: &str,
    file: &FileView<'_>,
    must: &[Tag],
    must_not: &[Tag],
    report: &mut Report<'_>,
) {
    let offset = file.descriptor.map_or(element.tlv.offset, |fcp| fcp.offset);
    for tag in must.iter().filter(|tag| file.parameter(**tag).is_none()) {
        report.at(element, offset, format!("{name} has no {}", parameter_name(*tag)));
    }
    for tag in must_not.iter().filter(|tag| file.parameter(**tag).is_some()) {
        report.at(element, offset, format!("{name} must not have {}", parameter_name(*tag)));
    }
}

/// F03 E: efFileSize is a multiple of the record length, and nothing is written beyond it.
fn sizes(package: &Package<'_>, report: &mut Report<'_>) {
    for element in &package.elements {
        for file in element_files(element) {
            let Some(size) = file.size() else { continue };
            let offset = file.descriptor.map_or(element.tlv.offset, |fcp| fcp.offset);
            if let Some(record) = file.record_len().filter(|record| *record == 0 || size % record != 0) {
                report.at(element, offset, format!("a file of {size} octets has records of {record}"));
            }
            if file.written_len() > size {
                report.at(element, offset, format!("{} octets are written into a file of {size}", file.written_len()));
            }
        }
    }
}

/// F09 E: a size, an offset or a write that reaches past the longest file of a UICC.
fn too_long(package: &Package<'_>, report: &mut Report<'_>) {
    for element in &package.elements {
        for long in FileView::too_long(element) {
            report.at(element, long.offset, long.to_string());
        }
    }
}
