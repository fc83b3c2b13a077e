//! Codings of elementary files: what an operator writes in words, and the octets a UICC holds.
//!
//! In: a value and the [`Extent`] of the file, or the octets of a file. Out: octets, or the value's canonical text. One file for each
//! family of codings; every coding is a unit struct with its path, length and clause. What `decode` reads, `encode` writes again.
//! Pure: no template, no record. Contents come from foreign templates, so nothing here trusts a length it reads.

mod alphabet;
mod form;
mod identity;
mod name;
mod number;
mod plmn;
mod records;

#[cfg(test)]
mod tests;

pub use form::{Coding, Extent, FormError};

use super::kind::Kind;

/// An element and a file in it.
pub type Place = (Kind, &'static str);

/// The coding of a file.
pub fn coding(kind: Kind, file: &str) -> Option<&'static dyn Coding> {
    TABLE.iter().find(|row| row.places.contains(&(kind, file))).map(|row| row.coding)
}

/// The coding of a variable and every place where its file may be.
pub fn named(name: &str) -> Option<(&'static [Place], &'static dyn Coding)> {
    all().find(|(_, coding)| coding.name() == name)
}

/// Every coding with its places.
pub fn all() -> impl Iterator<Item = (&'static [Place], &'static dyn Coding)> {
    TABLE.iter().map(|row| (row.places, row.coding))
}

/// The content of a common file in words, for people; `None` where this version reads nothing into it.
/// `content` is the whole file; a single record of a linear file is taken as a file of one record.
pub fn describe(kind: Kind, file: &str, content: &[u8], record_len: Option<usize>) -> Option<String> {
    let coding = coding(kind, file)?;
    let text = coding.decode(content, record_len)?;
    Some(if coding.is_secret() { "set, not shown".to_owned() } else { text })
}

struct Row {
    coding: &'static dyn Coding,
    places: &'static [Place],
}

const fn row(coding: &'static dyn Coding, places: &'static [Place]) -> Row {
    Row { coding, places }
}

use Kind::{Iot, Mf, OptIot, OptIsim, OptUsim, Usim};

#[rustfmt::skip]
const TABLE: &[Row] = &[
    row(&identity::Iccid, &[(Mf, "ef-iccid"), (Iot, "ef-iccid")]),
    row(&identity::Imsi, &[(Usim, "ef-imsi"), (Iot, "ef-imsi")]),
    row(&identity::Acc, &[(Usim, "ef-acc"), (Iot, "ef-acc")]),
    row(&number::Msisdn, &[(OptUsim, "ef-msisdn")]),
    row(&number::Smsc, &[(Usim, "ef-smsp"), (OptIot, "ef-smsp"), (OptIsim, "ef-smsp")]),
    row(&name::Spn, &[(Usim, "ef-spn"), (OptIot, "ef-spn")]),
    row(&identity::Gid1, &[(OptUsim, "ef-gid1")]),
    row(&identity::Gid2, &[(OptUsim, "ef-gid2")]),
    row(&plmn::Fplmn, &[(Usim, "ef-fplmn"), (Iot, "ef-fplmn")]),
    row(&plmn::Ehplmn, &[(OptUsim, "ef-ehplmn"), (OptIot, "ef-ehplmn")]),
    row(&plmn::MncLen, &[(Usim, "ef-ad"), (Iot, "ef-ad")]),
];
