//! File control parameters: F01, F02, F04, F05, F09. What is written into files is checked in [`contents`](super::contents).

use std::collections::HashMap;

use super::templates::sizes_are_known;
use super::tree::{Made, Shape};
use super::{Report, Rule, Severity, counted};
use crate::formats::saip::catalogue::FileTemplate;
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::Kind;
use crate::formats::saip::package::{Package, child};
use crate::formats::tlv::{Tag, Tlv};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "F01",
        severity: Severity::Error,
        why: "the eUICC answers invalid-parameter and rolls the whole profile back",
        hint: "see SAIP §8.3.3 for what an ADF, a DF, an EF and a link must and must not have",
        check: parameters,
    },
    Rule {
        id: "F02",
        severity: Severity::Error,
        why: "the eUICC cannot tell what kind of file to make and refuses it",
        hint: "type octet, 21, and for records their length in two octets: 41 21, 42 21 00 1A, 46 21 00 03, 78 21, 79 21",
        check: descriptors,
    },
    Rule {
        id: "F04",
        severity: Severity::Error,
        why: "the eUICC answers invalid-parameter: one pattern fills a file, and a BER-TLV file holds objects, not places",
        hint: "give one of fillPattern and repeatPattern, and neither these nor fillFileOffset for a BER-TLV file",
        check: patterns,
    },
    Rule {
        id: "F05",
        severity: Severity::Error,
        why: "the second of two files with one identifier cannot be created, or is never found",
        hint: "give every file of a directory its own FID and SFI (shortEFID is SFI times 8; empty for none)",
        check: identifiers,
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
const LINK_PATH: Tag = Tag(0xC7);

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

/// F01 E (SAIP §8.3.3): which parameters an ADF, a DF, an EF and a link must and must not have.
fn parameters(_package: &Package<'_>, report: &mut Report<'_>) {
    for file in report.made.iter().filter(|file| file.named) {
        // The files of an IoT Minimal Profile take everything from the template.
        if matches!(file.element.kind, Kind::Iot | Kind::OptIot) {
            continue;
        }
        let is_generic = file.element.kind == Kind::GenericFileManagement;
        let is_directory = file.is_directory() || file.name.starts_with("adf-") || file.name.starts_with("df-");
        let is_adf = file.name.starts_with("adf-") || (is_generic && file.view.parameter(DF_NAME).is_some());
        let is_link = file.view.parameter(LINK_PATH).is_some();
        let (must, must_not): (&[Tag], &[Tag]) = match (is_directory, is_adf, is_link) {
            (true, true, _) => (&[FILE_ID, DF_NAME, PIN_STATUS], &[FILE_SIZE, SHORT_ID, PROPRIETARY]),
            (true, false, _) => (&[PIN_STATUS], &[DF_NAME, FILE_SIZE, SHORT_ID, PROPRIETARY]),
            (false, _, true) if file.link().is_some() => (&[], &[DF_NAME, PIN_STATUS, FILE_SIZE]),
            _ if is_generic => (&[FILE_SIZE], &[DF_NAME, PIN_STATUS]),
            _ => (&[], &[DF_NAME, PIN_STATUS]),
        };
        let made_by_hand: &[Tag] = if is_generic { &[DESCRIPTOR, FILE_ID, SECURITY] } else { &[] };
        // A BER-TLV file may give its maximum size alone; T02 asks for one of the two.
        let may_lack = |tag: Tag| tag == FILE_SIZE && file.shape() == Some(Shape::BerTlv);
        let name = named(file);
        for tag in made_by_hand.iter().chain(must) {
            if file.view.parameter(*tag).is_none() && !may_lack(*tag) {
                report.at(&file.element, file.offset, format!("{name} has no {}", parameter_name(*tag)));
            }
        }
        for tag in must_not {
            if let Some(parameter) = file.view.parameter(*tag) {
                report.at(&file.element, parameter.offset, format!("{name} must not have {}", parameter_name(*tag)));
            }
        }
        if let Some(security) = file.view.parameter(SECURITY).filter(|tlv| !matches!(tlv.value.len(), 1 | 3)) {
            let message =
                format!("{name} has an access rule of {}, not 1 or 3", counted(security.value.len(), "octet"));
            report.at(&file.element, security.offset, message);
        }
        if file.link().is_some() && !file.view.writes.is_empty() {
            report.at(&file.element, file.offset, format!("{name} is a link and must not have content"));
        }
    }
}

/// How messages name a file.
pub(super) fn named(file: &Made<'_>) -> String {
    match (file.name, file.fid()) {
        ("file", Some(fid)) => format!("file {fid:04X}"),
        (name, _) => name.to_owned(),
    }
}

/// F02 E (ETSI TS 102 222 §6.3.2.2.2): the file descriptor.
fn descriptors(_package: &Package<'_>, report: &mut Report<'_>) {
    for file in report.made.iter() {
        let Some(descriptor) = file.view.parameter(DESCRIPTOR) else { continue };
        let mut wrong = |what: String| {
            report.at(&file.element, descriptor.offset, format!("the fileDescriptor of {} {what}", named(file)));
        };
        let [first, coding, record @ ..] = descriptor.value else {
            wrong(format!("has {}", counted(descriptor.value.len(), "octet")));
            continue;
        };
        let Some(shape) = Shape::of(*first) else {
            wrong(format!("begins with {first:02X}, which no kind of file has"));
            continue;
        };
        if *coding != 0x21 {
            wrong(format!("has {coding:02X} where 21 belongs"));
        }
        match record {
            [] if shape.has_records() && !has_default_record(file) => wrong("gives no record length".into()),
            [] => {}
            [_, _] if !shape.has_records() => wrong("gives a record length to a file without records".into()),
            [0, 0] => wrong("gives a record length of zero".into()),
            [high, _] if *high > 0 => wrong("gives a record length above 255".into()),
            [_, _] => {}
            _ => wrong(format!("has {}", counted(descriptor.value.len(), "octet"))),
        }
    }
}

/// The template has a record length of its own, or is one whose sizes this version does not know.
fn has_default_record(file: &Made<'_>) -> bool {
    let is_known = file.template.is_none_or(|_| sizes_are_known(file.element.kind));
    !is_known || file.template.and_then(FileTemplate::record_len).is_some()
}

/// F04 E (SAIP §8.3.3): one pattern at most, and neither patterns nor offsets in a BER-TLV file.
fn patterns(_package: &Package<'_>, report: &mut Report<'_>) {
    for file in report.made.iter() {
        let info = file.view.parameter(PROPRIETARY);
        let pattern = |tag| info.and_then(|info| child(&info, tag));
        let (fill, repeat): (Option<Tlv<'_>>, Option<Tlv<'_>>) = (pattern(Tag(0xC1)), pattern(Tag(0xC2)));
        let name = named(file);
        if let (Some(_), Some(repeat)) = (fill, repeat) {
            report.at(&file.element, repeat.offset, format!("{name} has both fillPattern and repeatPattern"));
        }
        if file.shape() != Some(Shape::BerTlv) {
            continue;
        }
        if let Some(pattern) = fill.or(repeat) {
            report.at(&file.element, pattern.offset, format!("{name} is a BER-TLV file with a fill pattern"));
        }
        if let Some(offset) = file.view.skip {
            report.at(&file.element, offset, format!("{name} is a BER-TLV file with a fillFileOffset"));
        }
    }
}

/// F05 E (ETSI TS 102 221 §8.2.1.1, §13; SAIP §8.3.3): identifiers unique in their directory, temporary ones in the package.
fn identifiers(_package: &Package<'_>, report: &mut Report<'_>) {
    let mut paths: HashMap<&[u16], &Made<'_>> = HashMap::new();
    let mut short_ids: HashMap<(&[u16], u8), &Made<'_>> = HashMap::new();
    for file in report.made.iter() {
        if let Some(given) = file.view.parameter(SHORT_ID).filter(|given| given.value.iter().any(|o| o & 7 != 0)) {
            let message = format!("shortEFID {:02X} of {} is not an SFI times 8", given.value[0], named(file));
            report.at(&file.element, given.offset, message);
        }
        let Some(path) = file.path.as_deref() else { continue };
        if let Some(other) = paths.insert(path, file) {
            let message = format!("{} has the file identifier of {}", named(file), named(other));
            report.at(&file.element, file.offset, message);
        }
        let (Some((_, directory)), Some(sfi)) = (path.split_last(), file.short_id()) else { continue };
        if file.is_directory() || sfi == 0 {
            continue;
        }
        if let Some(other) = short_ids.insert((directory, sfi), file) {
            let message = format!("{} has the short file identifier {sfi} of {}", named(file), named(other));
            report.at(&file.element, file.offset, message);
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
