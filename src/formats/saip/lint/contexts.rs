//! Who may open what: P04 (PIN references of directories) and P07 (ADM1 of the access rules).
//!
//! Rule: a global reference (01 to 0E) is defined once, in the context of the MF; a local one (81 to 8E) in the context of the
//! directory, of the one above it, or of what follows it. Source: SAIP §8.1.3, §8.5.1; ETSI TS 102 221 §9.5.

use std::collections::{HashMap, HashSet};

use super::applications::{Made, adf, base_of, file_id};
use super::codes::{number, pins, shares_pins};
use super::{Report, Rule, Severity};
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::Kind;
use crate::formats::saip::package::{Element, Package, child, children};
use crate::formats::tlv::{Tag, Tlv};

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
const TELECOM: u16 = 0x7F10;
const CD: u16 = 0x7F11;
const ADM1: u64 = 0x0A;

/// What a PIN context belongs to: the directories of one application share their local PINs with its ADF.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Root {
    Mf,
    /// A DF below the MF, by its identifier.
    Directory(u16),
    /// An application, by its place among the elements.
    Application(usize),
}

/// Which roots the elements open, in the order of the package.
#[derive(Default)]
struct Roots {
    latest: HashMap<Kind, usize>,
    /// Temporary identifiers of the ADFs.
    adfs: HashMap<u16, usize>,
}

impl Roots {
    /// The root of what an element makes; `None` when it makes no file.
    fn of(&mut self, element: &Element<'_>) -> Option<Root> {
        match element.kind {
            Kind::Mf => Some(Root::Mf),
            Kind::Telecom => Some(Root::Directory(TELECOM)),
            Kind::Cd => Some(Root::Directory(CD)),
            Kind::GenericFileManagement => Some(self.below_mf(Made::walk(element).1)),
            kind => {
                let base = base_of(kind).or((kind == Kind::Eap).then_some(Kind::Usim))?;
                if base == kind {
                    self.latest.insert(base, element.number);
                    self.adfs.extend(adf(element).and_then(|adf| file_id(&adf)).map(|id| (id, element.number)));
                }
                self.latest.get(&base).map(|application| Root::Application(*application))
            }
        }
    }

    fn below_mf(&self, id: Option<u16>) -> Root {
        match id {
            None => Root::Mf,
            Some(id) => self.adfs.get(&id).map_or(Root::Directory(id), |application| Root::Application(*application)),
        }
    }

    /// The pinStatusTemplateDOs of an element, each with its root.
    fn templates<'a>(&self, element: &Element<'a>, root: Root) -> Vec<(Root, Tlv<'a>)> {
        if element.kind == Kind::GenericFileManagement {
            let made = Made::by(element).into_iter();
            return made
                .filter_map(|file| Some((self.below_mf(file.root), child(&file.descriptor, PIN_STATUS)?)))
                .collect();
        }
        let files = children(&element.tlv).filter(|tlv| element.kind.file_name(tlv.tag).is_some_and(is_directory));
        let views = files.flat_map(|file| FileView::all(&file));
        views.filter_map(|view| Some((root, view.parameter(PIN_STATUS)?))).collect()
    }
}

fn is_directory(file: &str) -> bool {
    file == "mf" || file.starts_with("df-") || file.starts_with("adf-")
}

/// P04 E (SAIP §8.1.3): every reference in a pinStatusTemplateDO is defined.
fn pin_status_templates(package: &Package<'_>, report: &mut Report<'_>) {
    let mut roots = Roots::default();
    let mut context = Root::Mf;
    let (mut globals, mut locals) = (HashSet::new(), HashSet::new());
    let mut sharing = HashSet::new();
    let mut asked = Vec::new();
    for element in &package.elements {
        if element.kind == Kind::PinCodes {
            if shares_pins(element) {
                sharing.insert(context);
            }
            for reference in pins(element).iter().filter_map(|pin| number(pin, 0)) {
                if reference < 0x80 {
                    globals.insert(reference);
                } else {
                    locals.insert((context, reference));
                }
            }
        } else if let Some(root) = roots.of(element) {
            context = root;
            asked.extend(roots.templates(element, root).into_iter().map(|(root, template)| (element, root, template)));
        }
    }
    let anywhere: HashSet<u64> = locals.iter().map(|(_, reference)| *reference).collect();
    for (element, root, template) in asked {
        for reference in template.value.iter().map(|octet| u64::from(*octet)) {
            let (is_defined, whose) = match reference {
                0..=0x7F => (globals.contains(&reference), "any pinCodes"),
                // Shared PINs are those of another context; which one, only the file system of the card tells.
                _ if sharing.contains(&root) => (anywhere.contains(&reference), "any pinCodes"),
                _ => (locals.contains(&(root, reference)), "a pinCodes of its context"),
            };
            if !is_defined {
                let message = format!("pinStatusTemplateDO names reference {reference:02X}, which is not in {whose}");
                report.at(element, template.offset, message);
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
