//! Variables of a line: values that all its records share and that live in files of the template.

use super::files::{Content, PlacedWrite};
use crate::formats::bcd;
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::Kind;
use crate::formats::saip::package::Package;
use crate::personalise::compile::{Input, Settings, TemplateError};

/// The variables Bindery knows: name, element, file, what a value looks like.
pub(super) const VARS: &[Variable] = &[
    Variable { name: "profile_type", kind: Kind::Header, file: "", form: "text of 1 to 100 octets" },
    Variable { name: "spn", kind: Kind::Usim, file: "ef-spn", form: "up to 16 characters of ASCII" },
    Variable { name: "smsc", kind: Kind::Usim, file: "ef-smsp", form: "E.164 number of up to 20 digits" },
    Variable { name: "gid1", kind: Kind::OptUsim, file: "ef-gid1", form: "hex, up to the file's size" },
    Variable { name: "gid2", kind: Kind::OptUsim, file: "ef-gid2", form: "hex, up to the file's size" },
    Variable { name: "routing_indicator", kind: Kind::Df5gs, file: "ef-routing-indicator", form: "1 to 4 digits" },
];

/// One variable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variable {
    /// Its name in `vars` of an order line.
    pub name: &'static str,
    /// The element that holds it.
    pub kind: Kind,
    /// The file, empty for a member of the header.
    pub file: &'static str,
    /// What a value looks like.
    pub form: &'static str,
}

/// The file may take a variable.
pub(super) fn is_var_file(kind: Kind, file: &str) -> bool {
    VARS.iter().any(|var| var.kind == kind && var.file == file)
}

/// The write for a file whose variable the line sets.
pub(super) fn write_of(
    file: &str,
    view: &FileView<'_>,
    settings: &Settings,
) -> Result<Vec<PlacedWrite>, TemplateError> {
    let set = VARS.iter().filter(|var| var.file == file).find_map(|var| Some((var, settings.constant(var.name)?)));
    let Some((var, value)) = set else { return Ok(Vec::new()) };
    let octets = match var.name {
        "spn" => spn(value, view),
        "smsc" => smsc(value, view),
        "routing_indicator" => routing_indicator(value),
        _ => group_identifier(value, view),
    };
    let octets = octets.ok_or_else(|| wrong_form(var, value))?;
    let len = octets.len();
    Ok(vec![PlacedWrite { name: var.name.into(), source: "line vars", at: 0, len, content: Content::Made(octets) }])
}

/// `profileType` of the header.
pub(super) fn profile_type(value: &str) -> Result<Vec<u8>, TemplateError> {
    if (1..=100).contains(&value.len()) { Ok(value.into()) } else { Err(wrong_form(&VARS[0], value)) }
}

/// A variable that no place took is refused by its name.
pub(in crate::personalise) fn refuse_left_over(settings: &Settings, taken: &[Input]) -> Result<(), TemplateError> {
    for name in settings.vars.keys() {
        if taken.iter().any(|input| input.source == "line vars" && input.name == *name) {
            continue;
        }
        let what = match VARS.iter().find(|var| var.name == name) {
            Some(var) => format!("the template has no {} in {}", var.file, var.kind),
            None => {
                format!("is not known; there are {}", VARS.iter().map(|var| var.name).collect::<Vec<_>>().join(", "))
            }
        };
        return Err(TemplateError::Variable { name: name.clone(), what });
    }
    Ok(())
}

/// The variables the template could take and the line leaves as they are.
pub(in crate::personalise) fn offered(package: &Package<'_>, settings: &Settings) -> Vec<Input> {
    let mut inputs = Vec::new();
    for var in VARS.iter().filter(|var| !settings.vars.contains_key(var.name)) {
        let holders = package.of(var.kind).filter(|element| var.file.is_empty() || element.file(var.file).is_some());
        let places: Vec<String> = holders
            .map(
                |element| {
                    if var.file.is_empty() { element.label() } else { format!("{}/{}", element.label(), var.file) }
                },
            )
            .collect();
        if !places.is_empty() {
            inputs.push(Input { name: var.name.into(), source: "template", required: false, octets: 0, places });
        }
    }
    inputs
}

fn wrong_form(var: &Variable, value: &str) -> TemplateError {
    TemplateError::Variable { name: var.name.into(), what: format!("{value:?} is not {}, or does not fit", var.form) }
}

/// EF.SPN (3GPP TS 31.102 §4.2.12): display condition as the template has it, then 16 octets of GSM alphabet.
fn spn(value: &str, view: &FileView<'_>) -> Option<Vec<u8>> {
    // Of ASCII, these characters have the same code in the GSM default alphabet.
    let same = |b: u8| matches!(b, b' '..=b'#' | b'%'..=b'?' | b'A'..=b'Z' | b'a'..=b'z');
    if value.is_empty() || value.len() > 16 || !value.bytes().all(same) {
        return None;
    }
    let display = view.given(0, 1).map_or(0x01, |octets| octets[0]);
    let mut octets = vec![0xFF; 17];
    octets[0] = display;
    octets[1..=value.len()].copy_from_slice(value.as_bytes());
    Some(octets)
}

/// First record of EF.SMSP (3GPP TS 31.102 §4.2.27): only the service centre address is present, its parameter indicator is 0.
fn smsc(value: &str, view: &FileView<'_>) -> Option<Vec<u8>> {
    let digits = value.strip_prefix('+').unwrap_or(value);
    let record = view.record_len().unwrap_or(38);
    let alpha = record.checked_sub(28)?;
    if !(1..=20).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut octets = vec![0xFF; record];
    octets[alpha] = 0xFD;
    octets[alpha + 13] = digits.len().div_ceil(2) as u8 + 1;
    octets[alpha + 14] = 0x91;
    octets[alpha + 15..alpha + 25].copy_from_slice(&bcd::swapped::<10>(digits));
    Some(octets)
}

/// EF.Routing_Indicator (3GPP TS 31.102 §4.4.11.11).
fn routing_indicator(value: &str) -> Option<Vec<u8>> {
    let sound = (1..=4).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
    let [first, second] = bcd::swapped::<2>(value);
    sound.then(|| vec![first, second, 0, 0])
}

fn group_identifier(value: &str, view: &FileView<'_>) -> Option<Vec<u8>> {
    let octets = data_encoding::HEXUPPER_PERMISSIVE.decode(value.as_bytes()).ok()?;
    let size = view.size().unwrap_or(8);
    (1..=size).contains(&octets.len()).then(|| {
        let mut padded = octets;
        padded.resize(size, 0xFF);
        padded
    })
}
