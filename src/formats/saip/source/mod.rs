//! A readable template source (TOML) becomes a SAIP package (DER).
//!
//! In: the text of a source; [`PRESETS`] are built in. Out: strict DER with placeholders where personal values belong.
//! Rule: the source names elements, files and sizes as the standards do; counting lengths, tags and PE ids is done here.

mod emit;
mod schema;

use std::ops::Range;

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

/// Reads a source and builds its package.
pub fn build(text: &str) -> Result<Vec<u8>, SourceError> {
    let mut source = read(text).map_err(|wrong| wrong.located(text))?;
    if let Some(base) = source.extends.take() {
        let unknown = || Wrong { at: base.span(), what: format!("extends: no preset is called {:?}", base.get_ref()) };
        let base = preset(base.get_ref()).ok_or_else(|| unknown().located(text))?;
        let own = std::mem::take(&mut source.elements);
        source.elements = read(base).map_err(|wrong| wrong.located(base))?.elements;
        source.elements.extend(own);
    }
    emit::package(&source).map_err(|wrong| wrong.located(text))
}

fn read(text: &str) -> Result<schema::Source, Wrong> {
    let source: schema::Source =
        toml::from_str(text).map_err(|e| Wrong { at: e.span().unwrap_or(0..0), what: e.message().to_owned() })?;
    if source.schema.get_ref() != SCHEMA {
        let what = format!("schema {:?} is not {SCHEMA:?}", source.schema.get_ref());
        return Err(Wrong { at: source.schema.span(), what });
    }
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
