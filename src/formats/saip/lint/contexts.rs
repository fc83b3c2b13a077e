//! Who may open what: P04 (PIN references of directories) and P07 (ADM1 of the access rules).
//!
//! Rule: a global reference (01 to 0E) is defined once, in the context of the MF; a local one (81 to 8E) in the context of the
//! directory, of the one above it, or of what follows it. Source: SAIP §8.1.3, §8.5.1; ETSI TS 102 221 §9.5.

use std::collections::{HashMap, HashSet};

use super::codes::{number, pins, shares_pins};
use super::tree::{self, Made};
use super::{Report, Rule, Severity};
use crate::formats::saip::file::{FileView, GFM_PATH};
use crate::formats::saip::kind::{Kind, constructed};
use crate::formats::saip::package::{Element, Package, children};
use crate::formats::tlv::Tag;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "P04",
        severity: Severity::Error,
        why: "the eUICC stops the installation with pin-code-missing when a directory names a PIN that nobody defines",
        hint: "define the reference in a pinCodes of that context, or take it out of pinStatusTemplateDO",
        check: pin_status_templates,
    },
    Rule {
        id: "P07",
        severity: Severity::Error,
        why: "files that only ADM1 may write can never be written again when the profile has no ADM1",
        hint: "add reference 0A to the pinCodes of the MF, or change the access rules",
        check: administrative_code,
    },
];

const PIN_STATUS: Tag = Tag(0xC6);
const ADM1: u64 = 0x0A;

/// What a PIN context belongs to: all directories of an application share the local PINs of its ADF, those below a DF of the MF the
/// PINs of that DF. Its identifier; `None` for the MF.
type Root = Option<u16>;

/// The root that the pinCodes behind an element belong to; `None` when the element says nothing about it.
fn context(element: &Element<'_>, files: &[&Made<'_>]) -> Option<Root> {
    // The first directory an element makes is its context; the ADF of an IoT Minimal Profile stands behind the MF.
    let mut directories = files.iter().filter(|file| file.is_directory());
    let directory = if element.kind == Kind::Iot { directories.next_back() } else { directories.next() };
    if let Some(path) = directory.or(files.first()).and_then(|file| file.path.as_ref()) {
        return Some(path.first().copied());
    }
    // A GenericFileManagement may do no more than select a directory.
    let commands = element.member(constructed(1)).filter(|_| element.kind == Kind::GenericFileManagement)?;
    let path =
        children(&commands).flat_map(|command| children(&command)).filter(|entry| entry.tag == GFM_PATH).last()?;
    Some(tree::path(path.value)?.first().copied())
}

/// P04 E (SAIP §8.1.3): every reference in a pinStatusTemplateDO is defined.
fn pin_status_templates(package: &Package<'_>, report: &mut Report<'_>) {
    let mut of_element: HashMap<usize, Vec<&Made<'_>>> = HashMap::new();
    for file in report.made {
        of_element.entry(file.element.number).or_default().push(file);
    }
    let mut root: Root = None;
    let (mut globals, mut locals, mut sharing) = (HashSet::new(), HashSet::new(), HashSet::new());
    for element in &package.elements {
        if element.kind != Kind::PinCodes {
            let files = of_element.get(&element.number).map(Vec::as_slice).unwrap_or_default();
            root = context(element, files).unwrap_or(root);
            continue;
        }
        if shares_pins(element) {
            sharing.insert(root);
        }
        for reference in pins(element).iter().filter_map(|pin| number(pin, 0)) {
            if reference < 0x80 {
                globals.insert(reference);
            } else {
                locals.insert((root, reference));
            }
        }
    }
    let anywhere: HashSet<u64> = locals.iter().map(|(_, reference)| *reference).collect();
    for file in report.made.iter().filter(|file| file.is_directory()) {
        let Some(template) = file.view.parameter(PIN_STATUS) else { continue };
        let root = file.path.as_ref().map(|path| path.first().copied());
        // Shared PINs are those of another context; which one, only the file system of the card tells.
        let is_open = root.is_none_or(|root| sharing.contains(&root));
        for reference in template.value.iter().map(|octet| u64::from(*octet)) {
            let (is_defined, whose) = match (reference, root) {
                (0..=0x7F, _) => (globals.contains(&reference), "any pinCodes"),
                (_, Some(root)) if !is_open => (locals.contains(&(root, reference)), "a pinCodes of its context"),
                _ => (anywhere.contains(&reference), "any pinCodes"),
            };
            if !is_defined {
                let message = format!("pinStatusTemplateDO names reference {reference:02X}, which is not in {whose}");
                report.at(&file.element, template.offset, message);
            }
        }
    }
}

/// P07 E: an access rule asks for ADM1, so there is one.
fn administrative_code(package: &Package<'_>, report: &mut Report<'_>) {
    let has_adm1 =
        package.of(Kind::PinCodes).any(|element| pins(element).iter().any(|pin| number(pin, 0) == Some(ADM1)));
    if has_adm1 {
        return;
    }
    for element in &package.elements {
        for file in ["ef-arr", "ef-arr-usim"].iter().filter_map(|name| element.file(name)) {
            let writes = FileView::all(&file).into_iter().flat_map(|view| view.writes);
            if let Some(write) = writes.into_iter().find(|write| asks_for_adm1(write.content)) {
                report.at(element, write.offset, "an access rule asks for reference 0A, which is in no pinCodes");
            }
        }
    }
}

/// A control reference template (tag A4) begins with the key reference (ETSI TS 102 221 §9.2.4).
fn asks_for_adm1(rules: &[u8]) -> bool {
    rules.windows(5).any(|octets| matches!(octets, [0xA4, _, 0x83, 0x01, 0x0A]))
}
