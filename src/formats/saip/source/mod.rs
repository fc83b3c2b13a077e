//! A readable template source (TOML) becomes a SAIP package (DER).
//!
//! In: the text of a source; [`PRESETS`] are built in. Out: strict DER with placeholders where personal values belong.
//! Rule: the source names elements, files and sizes as the standards do; counting lengths, tags and PE ids is done here.

mod emit;
mod patch;
mod schema;

use std::ops::Range;

use toml::Spanned;

use super::algorithm::Algorithm;
use super::services::{ALGORITHM_SERVICES, service_name, service_number};
use crate::formats::tlv::TlvError;

/// Schema word of a template source.
pub const SCHEMA: &str = "bindery.template/1";

/// The built-in sources by name.
pub const PRESETS: &[(&str, &str)] = &[
    ("bootstrap", include_str!("../presets/bootstrap.toml")),
    ("operational", include_str!("../presets/operational.toml")),
    ("iot-minimal", include_str!("../presets/iot-minimal.toml")),
    ("applet", include_str!("../presets/applet.toml")),
];

/// Why a source is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct SourceError {
    /// Line of the text, from 1.
    pub line: usize,
    /// What is wrong there, with the key.
    pub what: String,
}

/// Text of a built-in source.
pub fn preset(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|(preset, _)| *preset == name).map(|(_, text)| *text)
}

/// What a source is built with, besides itself.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Every akaParameter gets this algorithm, with placeholders of its lengths, and the header its service.
    pub algorithm: Option<Algorithm>,
    /// Reads a file that the source names (`load_block_file`).
    pub read: &'a dyn Fn(&str) -> Result<Vec<u8>, String>,
}

/// Reads a source that names no files and builds its package.
pub fn build(text: &str) -> Result<Vec<u8>, SourceError> {
    build_with(text, &Options { algorithm: None, read: &|_| Err("no files are read here".to_owned()) })
}

/// Reads a source and builds its package.
pub fn build_with(text: &str, options: &Options<'_>) -> Result<Vec<u8>, SourceError> {
    build_located(text, options).map_err(|wrong| wrong.located(text))
}

fn build_located(text: &str, options: &Options<'_>) -> Result<Vec<u8>, Wrong> {
    let mut source = layered(text)?;
    if source.description.is_none() {
        return Err(Wrong { at: 0..0, what: "missing field `description`".into() });
    }
    include(&mut source, options.read)?;
    if let Some(algorithm) = options.algorithm {
        set_algorithm(&mut source, algorithm);
    }
    emit::package(&source)
}

/// A source on top of the preset it extends, which may extend another; no preset extends itself.
fn layered(text: &str) -> Result<schema::Source, Wrong> {
    let mut source = read(text)?;
    match source.extends.take() {
        Some(base) => {
            let unknown =
                || Wrong { at: base.span(), what: format!("extends: no preset is called {:?}", base.get_ref()) };
            patch::apply(layered(preset(base.get_ref()).ok_or_else(unknown)?)?, &mut source)?;
        }
        None => patch::refuse(&source)?,
    }
    Ok(source)
}

/// Load blocks that stand in files of their own.
fn include(source: &mut schema::Source, read: &dyn Fn(&str) -> Result<Vec<u8>, String>) -> Result<(), Wrong> {
    for application in source.elements.iter_mut().filter_map(|element| element.get_mut().application.as_mut()) {
        let Some(file) = application.load_block_file.take() else { continue };
        let wrong = |what: String| Wrong { at: file.span(), what: format!("load_block_file: {what}") };
        if application.load_block.is_some() {
            return Err(wrong("excludes load_block".into()));
        }
        application.load_block = Some(schema::Hex(read(file.get_ref()).map_err(wrong)?));
    }
    Ok(())
}

fn set_algorithm(source: &mut schema::Source, algorithm: Algorithm) {
    for aka in source.elements.iter_mut().filter_map(|element| element.get_mut().aka_parameter.as_mut()) {
        if aka.mapping.is_none() {
            aka.algorithm = match algorithm {
                Algorithm::Milenage => schema::AkaAlgorithm::Milenage,
                Algorithm::Tuak => schema::AkaAlgorithm::Tuak,
            };
            (aka.key, aka.opc) = (None, None);
        }
    }
    let header = source.header.as_mut().map(Spanned::get_mut);
    let Some(services) = header.and_then(|header| header.services.as_mut()) else { return };
    let number = |service: &Spanned<String>| service_number(service.get_ref());
    let before = services.len();
    services.retain(|service| number(service).is_none_or(|number| !ALGORITHM_SERVICES.contains(&number)));
    if services.len() < before {
        services.push(Spanned::new(0..0, service_name(algorithm.service()).to_owned()));
    }
}

fn read(text: &str) -> Result<schema::Source, Wrong> {
    let mut source: schema::Source =
        toml::from_str(text).map_err(|e| Wrong { at: e.span().unwrap_or(0..0), what: e.message().to_owned() })?;
    if source.schema.get_ref() != SCHEMA {
        let what = format!("schema {:?} is not {SCHEMA:?}", source.schema.get_ref());
        return Err(Wrong { at: source.schema.span(), what });
    }
    patch::refuse_in_elements(&source)?;
    patch::refuse_removed_files(&mut source)?;
    Ok(source)
}

/// A mistake at a place of the text.
#[derive(Debug)]
struct Wrong {
    at: Range<usize>,
    what: String,
}

impl Wrong {
    fn located(self, text: &str) -> SourceError {
        let before = text.get(..self.at.start).unwrap_or("");
        SourceError { line: before.matches('\n').count() + 1, what: self.what }
    }
}

impl From<TlvError> for Wrong {
    fn from(error: TlvError) -> Self {
        Self { at: 0..0, what: error.to_string() }
    }
}

#[cfg(test)]
mod tests;
