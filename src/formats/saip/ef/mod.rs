//! Codings of elementary files: what an operator writes in words, and the octets a UICC holds.
//!
//! One file for each family of codings; every coding has an encoder, a decoder and its clause. Pure: no template, no record.

use super::kind::Kind;

/// The content of a common file in words, for people; `None` where this version reads nothing into it.
/// `content` is the whole file or one record of it.
pub fn describe(_kind: Kind, _file: &str, _content: &[u8]) -> Option<String> {
    None
}
