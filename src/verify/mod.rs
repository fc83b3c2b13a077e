//! The judge: a software eUICC that opens what `bind` closed, and a reader of bundles that compares everything with everything.
//!
//! In: a bundle directory, the order, the one-time secrets of a test fleet, the site's trusted certificates. Out: a [`Report`], PASS or
//! FAIL.
//! Rule: it shares no code with the rooms it judges but `formats::tlv`, the identifiers and the secret types; it re-derives
//! everything from the eUICC's side; it must be able to fail. Source: SGP.22 §2.5, §3.1.3, §5.5; TCA interoperable format.

mod agreement;
mod authentication;
pub mod bundle;
mod chain;
mod digits;
mod euicc;
mod finding;
mod metadata;
mod order;
mod package;
mod saip;
mod segment;
mod text;

#[cfg(test)]
pub(crate) mod builder;
#[cfg(test)]
pub(crate) mod vectors;

pub use self::bundle::{Bundle, Checked, LoadOptions, Report, Sample};
pub use self::chain::DpTrust;
pub use self::euicc::{Euicc, Opened};
pub use self::finding::{Check, Finding, Scope};
pub use self::metadata::ProfileClass;
pub use self::saip::Algorithm;

#[cfg(test)]
mod tests;
