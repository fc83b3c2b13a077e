//! What a line of an order sets for all its records, and what a template takes.

use std::collections::BTreeMap;

use crate::formats::saip::algorithm::Algorithm;

/// What a line of an order sets for all its records.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Written into every akaParameter and the mandated services.
    pub algorithm: Algorithm,
    /// Variables of the line by their names, as `template vars` lists them.
    pub vars: BTreeMap<String, VarSource>,
}

/// Where the value of a variable comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VarSource {
    /// One text for all records of the line; written when the template is compiled.
    Constant(String),
    /// Another text for each record, in [`super::Identity::vars`].
    PerRecord,
}

impl Settings {
    /// The text of a variable that all records share.
    pub(super) fn constant(&self, name: &str) -> Option<&str> {
        match self.vars.get(name)? {
            VarSource::Constant(text) => Some(text),
            VarSource::PerRecord => None,
        }
    }
}

/// One value that a template takes: a line of `template vars`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its name: `iccid`, `imsi`, `k`, `pin1`, `spn`, ...
    pub name: String,
    /// Who gives it: `order`, `row`, `line vars`, `generated`, `derived`; `template` for what stays as it is unless ordered.
    pub source: &'static str,
    /// A record without it is refused.
    pub required: bool,
    /// Octets of one place; 0 where the value itself decides.
    pub octets: usize,
    /// The elements and files that repeat it.
    pub places: Vec<String>,
    /// What a value looks like.
    pub form: &'static str,
    /// Where its coding is defined.
    pub clause: &'static str,
    /// What the template has now, in the form of the variable; never a secret.
    pub value: Option<String>,
}
