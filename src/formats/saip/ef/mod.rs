//! Codings of elementary files: what an operator writes in words, and the octets a UICC holds.
//!
//! In: a value and the [`Extent`] of the file, or the octets of a file. Out: octets, or the value's canonical text. One file for each
//! family of codings; every coding is a unit struct with its path, length and clause. What `decode` reads, `encode` writes again.
//! Pure: no template, no record. Contents come from foreign templates, so nothing here trusts a length it reads.

mod access;
mod alphabet;
mod csim;
mod describe;
mod emergency;
mod five_g;
mod form;
mod identity;
mod ims;
mod name;
mod number;
mod opl;
mod plmn;
mod records;
mod selector;
pub mod services;
mod suci;

#[cfg(test)]
mod tests;

pub use describe::describe;
pub use form::{Coding, Extent, FormError};
pub(super) use plmn::read_plmn;
pub use suci::SuciCalcInfo;

use super::kind::Kind;
use super::kind::Kind::{Csim, Df5gs, DfSaip, Iot, Isim, Mf, OptCsim, OptIot, OptIsim, OptUsim, Usim};

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

struct Row {
    coding: &'static dyn Coding,
    places: &'static [Place],
}

const fn row(coding: &'static dyn Coding, places: &'static [Place]) -> Row {
    Row { coding, places }
}

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
    row(&selector::PlmnWact, &[(OptUsim, "ef-plmnwact")]),
    row(&selector::OplmnWact, &[(OptUsim, "ef-oplmnwact"), (OptIot, "ef-oplmnwact")]),
    row(&selector::HplmnWact, &[(OptUsim, "ef-hplmnwact"), (OptIot, "ef-hplmnwact")]),
    row(&name::Pnn, &[(OptUsim, "ef-pnn")]),
    row(&opl::Opl, &[(OptUsim, "ef-opl")]),
    row(&opl::Opl5g, &[(Df5gs, "ef-opl5g"), (OptIot, "ef-opl5g")]),
    row(&plmn::Spdi, &[(OptUsim, "ef-spdi")]),
    row(&plmn::MncLen, &[(Usim, "ef-ad"), (Iot, "ef-ad")]),
    row(&emergency::Ecc, &[(Usim, "ef-ecc"), (Iot, "ef-ecc")]),
    row(&ims::EpdgId, &[(OptUsim, "ef-epdgid")]),
    row(&five_g::RoutingIndicator, &[(Df5gs, "ef-routing-indicator"), (OptIot, "ef-routing-indicator")]),
    row(&suci::SuciCalc, &[
        (Df5gs, "ef-suci-calc-info"), (DfSaip, "ef-suci-calc-info-usim"),
        (OptIot, "ef-suci-calc-info"), (OptIot, "ef-suci-calc-info-usim"),
    ]),
    row(&five_g::UacAic, &[(Df5gs, "ef-uac-aic"), (OptIot, "ef-uac-aic")]),
    row(&five_g::SupiNai, &[(Df5gs, "ef-supinai"), (OptIot, "ef-supi-nai")]),
    row(&five_g::Ursp, &[(Df5gs, "ef-ursp"), (OptIot, "ef-ursp")]),
    row(&ims::Impi, &[(Isim, "ef-impi")]),
    row(&ims::Impu, &[(Isim, "ef-impu")]),
    row(&ims::ImsDomain, &[(Isim, "ef-domain")]),
    row(&ims::Pcscf, &[(OptIsim, "ef-pcscf")]),
    row(&csim::ImsiM, &[(Csim, "ef-imsi-m")]),
    row(&csim::ImsiT, &[(Csim, "ef-imsi-t")]),
    row(&csim::Accolc, &[(Csim, "ef-accolc")]),
    row(&csim::Ruimid, &[(Csim, "ef-ruimid")]),
    row(&csim::Spc, &[(Csim, "ef-spc")]),
    row(&csim::Mdn, &[(OptCsim, "ef-mdn")]),
];
