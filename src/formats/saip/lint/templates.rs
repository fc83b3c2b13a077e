//! Elements against the templates they name: T01 to T03.

use super::files::named;
use super::tree::{Made, Shape};
use super::{Report, Rule, Severity};
use crate::formats::saip::catalogue::{self, Form, Template};
use crate::formats::saip::file::FILE_TAGS;
use crate::formats::saip::kind::{Kind, primitive};
use crate::formats::saip::package::{Element, Package, child, children, unsigned};
use crate::formats::tlv::Tag;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "T01",
        severity: Severity::Error,
        why: "the eUICC answers template-not-supported and rolls the profile back",
        hint: "name a template of SAIP Annex B that fits the element and the version in the header",
        check: identifiers,
    },
    Rule {
        id: "T02",
        severity: Severity::Error,
        why: "the template has no default for it: the eUICC answers bad-values, or makes a file the device cannot use",
        hint: "give size, number of records and content where SAIP §9 asks for them",
        check: parameters,
    },
    Rule {
        id: "T03",
        severity: Severity::Error,
        why: "the eUICC answers invalid-parameter, or makes the file all the same",
        hint: "let doNotCreate stand alone, and only in templates that are created by default, outside the MF",
        check: do_not_create,
    },
];

/// SAIP version of the header.
pub(super) fn version(package: &Package<'_>) -> Option<(u8, u8)> {
    let header = package.of(Kind::Header).next()?;
    let number = |member| header.member(primitive(member)).and_then(|tlv| unsigned(tlv.value));
    Some((u8::try_from(number(0)?).ok()?, u8::try_from(number(1)?).ok()?))
}

fn file_systems<'p, 'a>(package: &'p Package<'a>) -> impl Iterator<Item = &'p Element<'a>> {
    package.elements.iter().filter(|element| element.kind.is_file_system() || element.kind == Kind::Ssim)
}

/// T01 E (SAIP Annex B): the templateID is known, fits the element and is not newer than the header.
fn identifiers(package: &Package<'_>, report: &mut Report<'_>) {
    let version = version(package);
    for element in file_systems(package) {
        let Some(oid) = element.member(primitive(1)) else {
            report.on(element, "has no templateID");
            continue;
        };
        let known = catalogue::oid_tail(oid.value).and_then(catalogue::template);
        match known {
            None => report.at(element, oid.offset, "the templateID is none of SAIP Annex B"),
            Some(template) if template.kind != element.kind => {
                let message =
                    format!("template {} belongs to {}, not to {}", template.oid(), template.kind, element.kind);
                report.at(element, oid.offset, message);
            }
            Some(template) if version.is_some_and(|version| version < template.since) => {
                let (major, minor) = template.since;
                let message = format!("template {} is there since SAIP {major}.{minor}", template.oid());
                report.at(element, oid.offset, message);
            }
            Some(_) => {}
        }
    }
}

/// T02 E (SAIP §9.1): what the template asks the package to give.
fn parameters(package: &Package<'_>, report: &mut Report<'_>) {
    for element in file_systems(package) {
        // The ADF of an IoT Minimal Profile follows from the header (SAIP §8.2.1).
        let root = element.kind.files().first().copied().filter(|_| element.kind != Kind::Iot);
        let is_made = |root: &&str| element.file(root).is_some_and(|root| child(&root, FILE_TAGS.descriptor).is_some());
        match root.filter(|root| !is_made(root)) {
            Some(root) if root.starts_with("adf-") => {
                report.on(
                    element,
                    format!("{root} must be given: its AID and temporary file identifier have no default"),
                );
            }
            Some(root) if root.starts_with("df-") || root == "mf" => {
                report.on(element, format!("{root} must be given"));
            }
            _ => {}
        }
    }
    for file in report.made.iter().filter(|file| !file.is_directory() && file.link().is_none()) {
        let Some(template) = file.template else { continue };
        if !file.named {
            if asks(file) {
                report.on(&file.element, format!("{} must be given", file.name));
            }
            continue;
        }
        let name = named(file);
        if sizes_are_known(file.element.kind) {
            let (record, size) = match template.form {
                Form::Transparent { size } => (false, size.is_none()),
                Form::LinearFixed { records, record } | Form::Cyclic { records, record } => {
                    (record.is_none(), records.is_none())
                }
                Form::BerTlv => (false, true),
                _ => (false, false),
            };
            if record && file.view.record_len().is_none() {
                report.at(&file.element, file.offset, format!("the record length of {name} must be given"));
            }
            if size && file.view.size().is_none() && !has_maximum_size(file) {
                report.at(&file.element, file.offset, format!("the size of {name} must be given"));
            }
        }
        if template.content_required && !has_content(file) {
            report.at(&file.element, file.offset, format!("the content of {name} must be given"));
        }
    }
}

/// The package must name this file of a template that is created by default.
fn asks(file: &Made<'_>) -> bool {
    file.template.is_some_and(|template| template.content_required)
}

/// Of CSIM and the IoT Minimal Profile this version does not know which sizes have defaults.
pub(super) fn sizes_are_known(kind: Kind) -> bool {
    !matches!(kind, Kind::Csim | Kind::OptCsim | Kind::Iot | Kind::OptIot)
}

fn has_maximum_size(file: &Made<'_>) -> bool {
    let info = file.view.parameter(Tag(0xA5));
    file.shape() == Some(Shape::BerTlv) && info.is_some_and(|info| child(&info, Tag(0x86)).is_some())
}

fn has_content(file: &Made<'_>) -> bool {
    !file.view.writes.is_empty() || file.view.pattern().is_some()
}

/// T03 E (SAIP §8.3.3): doNotCreate stands alone, and only where a file would be made unasked.
fn do_not_create(package: &Package<'_>, report: &mut Report<'_>) {
    for element in file_systems(package) {
        let by_default = Template::of(element).is_none_or(|template| template.created_by_default);
        for member in children(&element.tlv) {
            let Some(name) = element.kind.file_name(member.tag) else { continue };
            let Some(flag) = child(&member, Tag(0x80)) else { continue };
            if children(&member).count() > 1 {
                report.at(element, flag.offset, format!("doNotCreate of {name} does not stand alone"));
            }
            if element.kind == Kind::Mf {
                report.at(element, flag.offset, format!("doNotCreate has no effect on {name} of the MF"));
            } else if !by_default {
                report.at(
                    element,
                    flag.offset,
                    format!("{name} is not made unless named: doNotCreate has no place here"),
                );
            }
        }
    }
}
