//! The trait of a coding, and how one is written: a [`Form`] says what is special, the rest is the same for all of them.

use std::borrow::Cow;

use crate::formats::saip::file::MAX_FILE;

/// Where a value goes.
#[derive(Clone, Copy, Debug)]
pub struct Extent<'a> {
    /// Octets of the whole file.
    pub len: usize,
    /// Octets of a record, for linear and cyclic files.
    pub record_len: Option<usize>,
    /// What the template has there now, from the start of the file; `None` where it is silent.
    pub given: &'a [Option<u8>],
}

/// One coding: what an operator writes, and the octets a UICC holds.
pub trait Coding: Sync {
    /// The variable's name: `spn`.
    fn name(&self) -> &'static str;
    /// What a value looks like, for messages: "up to 16 characters".
    fn form(&self) -> &'static str;
    /// "3GPP TS 31.102 §4.2.12".
    fn clause(&self) -> &'static str;
    /// The octets from the start of the file, at most `extent.len`, padded so that nothing of the template's old value survives.
    fn encode(&self, value: &str, extent: Extent<'_>) -> Result<Vec<u8>, FormError>;
    /// The value in canonical text: `decode(encode(x))` is the canonical `x`. `None` when empty, unset or not of this form.
    /// `octets` is the whole file; `record_len` as in [`Extent`].
    fn decode(&self, octets: &[u8], record_len: Option<usize>) -> Option<String>;
    /// The value is a secret: no message and no description shows it.
    fn is_secret(&self) -> bool {
        false
    }
}

/// A value that is not of the form, or does not fit into the file. Never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {name} takes {form} ({clause})")]
pub struct FormError {
    /// The variable.
    pub name: &'static str,
    /// What is wrong.
    pub what: String,
    /// What a value looks like.
    pub form: &'static str,
    /// Where the coding is defined.
    pub clause: &'static str,
}

/// What is wrong with a value, before the coding's name and form are added.
pub(super) type Wrong = Cow<'static, str>;

/// What is special about one coding.
pub(super) trait Form {
    const NAME: &'static str;
    const FORM: &'static str;
    const CLAUSE: &'static str;
    const SECRET: bool = false;

    /// The octets; that they fit into the file is checked by the caller.
    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong>;
    fn read(octets: &[u8], record_len: Option<usize>) -> Option<String>;
}

impl<T: Form + Sync> Coding for T {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn form(&self) -> &'static str {
        T::FORM
    }

    fn clause(&self) -> &'static str {
        T::CLAUSE
    }

    fn encode(&self, value: &str, extent: Extent<'_>) -> Result<Vec<u8>, FormError> {
        // A size above the limit is refused when the package is read; here it must only not cost memory.
        let extent = Extent { len: extent.len.min(MAX_FILE), ..extent };
        let what = match T::write(value, &extent) {
            Ok(octets) if octets.len() <= extent.len => return Ok(octets),
            Ok(octets) => does_not_fit(octets.len(), extent.len),
            Err(_) if T::SECRET => "the value has another form".into(),
            Err(what) => what,
        };
        Err(FormError { name: T::NAME, what: what.into_owned(), form: T::FORM, clause: T::CLAUSE })
    }

    fn decode(&self, octets: &[u8], record_len: Option<usize>) -> Option<String> {
        T::read(octets, record_len)
    }

    fn is_secret(&self) -> bool {
        T::SECRET
    }
}

/// The value is not what it should be, told without showing it: numbers of a subscriber are personal data.
pub(super) fn no(what: &str, value: &str) -> Wrong {
    format!("the value, {} characters, is no {what}", value.chars().count()).into()
}

/// The value takes more octets than there are.
pub(super) fn does_not_fit(takes: usize, there_are: usize) -> Wrong {
    format!("the value takes {takes} octets, there are {there_are}").into()
}

/// `octets` and `FF` behind them up to `len`; a value longer than that is left as it is, for the caller to refuse.
pub(super) fn padded(mut octets: Vec<u8>, len: usize) -> Vec<u8> {
    octets.resize(len.max(octets.len()), 0xFF);
    octets
}

/// `octets` without the `FF` at their end.
pub(super) fn unpadded(octets: &[u8]) -> &[u8] {
    let end = octets.iter().rposition(|octet| *octet != 0xFF).map_or(0, |at| at + 1);
    &octets[..end]
}

/// Decimal digits and nothing else, `min` to `max` of them.
pub(super) fn is_digits(text: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}
