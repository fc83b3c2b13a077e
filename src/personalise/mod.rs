//! A compiled template and a record's values become a UPP (Unprotected Profile Package).
//!
//! In: a template from the [`shelf`], the line's settings, an [`Identity`] and [`Credentials`]. Out: [`Upp`]. Next: `protect`.
//! Rule: every place that repeats a value is written, no personal value of the template survives, nothing else changes;
//! [`audit`] reads a finished package back without knowing how it was made. Source: TCA SAIP 2.1 to 3.4.1, SGP.22 §2.5.3.

pub mod audit;
pub mod auth;
pub mod compile;
pub mod credentials;
pub mod draw;
mod fields;
mod rope;
mod settings;
pub mod shelf;
mod trial;
mod upp;

pub use auth::milenage;
pub use compile::{CompiledTemplate, TemplateError};
pub use credentials::Credentials;
pub use draw::Draw;
pub use settings::{Input, Settings, VarSource};
pub use trial::trial;
pub use upp::{Identity, Upp};

use crate::error::ErrorClass;

/// Why one record cannot be personalised. Names no value: it may be printed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PersonaliseError {
    /// The drawn octets do not suffice: the caller drew less than `draw_len`.
    #[error("{asked} random octets asked for, {left} left in the draw")]
    DrawTooShort {
        /// Octets asked for.
        asked: usize,
        /// Octets that were left.
        left: usize,
    },
    /// The template has EF.IMSI, the record has no IMSI.
    #[error("the template takes an IMSI, the record gives none")]
    ImsiMissing,
    /// The template has a CSIM, whose identity has fifteen digits.
    #[error("the template has a CSIM, the IMSI of the record has not 15 digits")]
    ImsiTooShort,
    /// The record has an MSISDN, the template no EF.MSISDN.
    #[error("the record gives an MSISDN, the template has no EF.MSISDN")]
    MsisdnNotCarried,
    /// Not an MSISDN.
    #[error("the MSISDN is not 1 to 20 digits after an optional '+'")]
    MsisdnForm,
    /// A variable of the record: not one the template was compiled for, missing, or in a form it does not take.
    #[error("variable {name:?}: {what}")]
    Variable {
        /// Its name.
        name: String,
        /// What is wrong, without the value.
        what: String,
    },
    /// Credentials made for another template.
    #[error("the credentials belong to another template")]
    ForeignCredentials,
    /// Imported K or OPc of a wrong length.
    #[error("{what} has {got} octets, {algorithm} takes {expected}")]
    KeyLength {
        /// K, OPc or OP.
        what: &'static str,
        /// Octets given.
        got: usize,
        /// Octets asked for.
        expected: usize,
        /// The line's algorithm.
        algorithm: &'static str,
    },
    /// OpenSSL refused to work.
    #[error("AES: {0}")]
    Aes(String),
}

impl PersonaliseError {
    /// The class in `results.csv`.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::ImsiMissing
            | Self::ImsiTooShort
            | Self::MsisdnForm
            | Self::Variable { .. }
            | Self::KeyLength { .. } => ErrorClass::Input,
            Self::MsisdnNotCarried => ErrorClass::Template,
            Self::DrawTooShort { .. } | Self::ForeignCredentials | Self::Aes(_) => ErrorClass::Internal,
        }
    }

    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::ImsiMissing => "give imsi.first in the line, or an imsi column in the rows",
            Self::ImsiTooShort => "give IMSIs of 15 digits, or order a template without CSIM",
            Self::MsisdnNotCarried => {
                "leave the msisdn column out, or order a template with EF.MSISDN (`template vars NAME`)"
            }
            Self::MsisdnForm => "write it as in E.164: country code and number, digits only",
            Self::Variable { .. } => "run `bindery template vars NAME` to see what the template takes",
            Self::KeyLength { .. } => "check the algorithm of the line and the wrapped keys of the row",
            Self::DrawTooShort { .. } | Self::ForeignCredentials | Self::Aes(_) => {
                "this is a bug; the record was not issued"
            }
        }
    }
}

#[cfg(test)]
mod tests;
