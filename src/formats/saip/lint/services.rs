//! The mandated services against what the package holds: H06, H07, H09, H10.

use std::collections::BTreeSet;

use super::structure::element_files;
use super::{Report, Rule, Severity};
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::{Kind, constructed, context_number, primitive};
use crate::formats::saip::package::{Element, Package, child, children, unsigned};
use crate::formats::saip::services::{ALGORITHM_SERVICES, service_name, service_number};
use crate::formats::tlv::{Tag, Tlv};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "H06",
        severity: Severity::Error,
        why: "a listed service the eUICC lacks aborts the download; one that is needed and not listed fails halfway through",
        hint: "list the service of every mandated application, and none that nothing needs",
        check: applications,
    },
    Rule {
        id: "H07",
        severity: Severity::Error,
        why: "a listed algorithm the eUICC lacks aborts the download; one that is used and not listed fails halfway through",
        hint: "list the algorithms that the akaParameters name, and no other",
        check: algorithms,
    },
    Rule {
        id: "H09",
        severity: Severity::Error,
        why: "an eUICC without the feature starts the installation and fails halfway through",
        hint: "list the service, or leave out what needs it",
        check: further_services,
    },
    Rule {
        id: "H10",
        severity: Severity::Error,
        why: "anybody knows this key: the subscription can be cloned",
        hint: "an order writes its own algorithm and keys; never load this package as it is",
        check: test_algorithm,
    },
];

/// The service list of the header: its numbers and its place.
fn listed<'a>(package: &Package<'a>) -> Option<(Element<'a>, BTreeSet<u8>, usize)> {
    let header = package.of(Kind::Header).next()?;
    let list = header.member(constructed(5))?;
    let numbers = children(&list).filter_map(|service| context_number(service.tag)).collect();
    Some((*header, numbers, list.offset))
}

/// Reports what is needed and not listed.
fn missing(report: &mut Report<'_>, package: &Package<'_>, needed: &[(&'static str, bool, &'static str)]) {
    let Some((header, listed, offset)) = listed(package) else { return };
    for (service, is_needed, why) in needed {
        if *is_needed && service_number(service).is_some_and(|number| !listed.contains(&number)) {
            report.at(&header, offset, format!("{service} is not listed, but {why}"));
        }
    }
}

/// H06 E: the services of the applications, both ways.
fn applications(package: &Package<'_>, report: &mut Report<'_>) {
    let Some((header, listed, offset)) = listed(package) else {
        if let Some(header) = package.of(Kind::Header).next() {
            report.on(header, "has no eUICC-Mandatory-services");
        }
        return;
    };
    let pairs: [(&str, &[Kind]); 4] =
        [("usim", &[Kind::Usim, Kind::Iot]), ("isim", &[Kind::Isim]), ("csim", &[Kind::Csim]), ("eap", &[Kind::Eap])];
    for (service, kinds) in pairs {
        let is_listed = service_number(service).is_some_and(|number| listed.contains(&number));
        let holders = || package.elements.iter().filter(|element| kinds.contains(&element.kind));
        if is_listed && holders().next().is_none() {
            report.at(&header, offset, format!("{service} is listed, but no element needs it"));
        }
        if let (false, Some(holder)) = (is_listed, holders().find(|holder| holder.mandated)) {
            report.at(&header, offset, format!("{service} is not listed, but {} is mandated", holder.label()));
        }
    }
}

/// The algoParameters with their elements.
pub(super) fn algo_parameters<'p, 'a>(package: &'p Package<'a>) -> impl Iterator<Item = (&'p Element<'a>, Tlv<'a>)> {
    package.of(Kind::AkaParameter).filter_map(|element| {
        let algo = element.member(constructed(1)).and_then(|choice| child(&choice, constructed(1)))?;
        Some((element, algo))
    })
}

/// `algorithmID` of an algoParameter.
pub(super) fn algorithm_id(algo: &Tlv<'_>) -> Option<u64> {
    child(algo, primitive(0)).and_then(|id| unsigned(id.value))
}

/// H07 E: the algorithm services are those of the akaParameters.
fn algorithms(package: &Package<'_>, report: &mut Report<'_>) {
    let Some((header, listed, offset)) = listed(package) else { return };
    let mut used = BTreeSet::new();
    for (element, algo) in algo_parameters(package) {
        let key_len = child(&algo, primitive(2)).map_or(0, |key| key.value.len());
        match (algorithm_id(&algo), key_len) {
            (Some(1), _) => used.insert(4),
            (Some(2), 32) => used.insert(16),
            (Some(2), _) => used.insert(5),
            (Some(3), _) => used.insert(17),
            (id, _) => {
                report.at(element, algo.offset, format!("algorithmID {} is not known", id.unwrap_or_default()));
                continue;
            }
        };
    }
    let listed: BTreeSet<u8> = listed.into_iter().filter(|number| ALGORITHM_SERVICES.contains(number)).collect();
    for number in used.difference(&listed) {
        report.at(&header, offset, format!("{} is not listed, but an akaParameter uses it", service_name(*number)));
    }
    for number in listed.difference(&used) {
        report.at(&header, offset, format!("{} is listed, but no akaParameter uses it", service_name(*number)));
    }
}

/// H09 E: BER-TLV files, Java Card, several applications of a kind, GET IDENTITY.
fn further_services(package: &Package<'_>, report: &mut Report<'_>) {
    let is_ber_tlv = |file: &FileView<'_>| {
        file.parameter(Tag(0x82)).is_some_and(|descriptor| descriptor.value.first().is_some_and(|b| b & 0x3F == 0x39))
    };
    let ber_tlv = package.elements.iter().any(|element| element_files(element).iter().any(is_ber_tlv));
    let get_identity = package.of(Kind::Usim).any(|usim| has_usim_service(usim, 125));
    let several = |kind| package.of(kind).count() > 1;
    missing(
        report,
        package,
        &[
            ("ber-tlv", ber_tlv, "there is a BER-TLV file"),
            ("javacard", package.of(Kind::Application).next().is_some(), "there is an application"),
            ("multiple-usim", several(Kind::Usim), "there are several USIMs"),
            ("multiple-isim", several(Kind::Isim), "there are several ISIMs"),
            ("multiple-csim", several(Kind::Csim), "there are several CSIMs"),
            ("get-identity", get_identity, "service 125 of EF.UST is set"),
        ],
    );
}

/// A service of EF.UST (3GPP TS 31.102 §4.2.8), as far as the package gives the octet.
fn has_usim_service(usim: &Element<'_>, service: usize) -> bool {
    let view = usim.file("ef-ust").and_then(|file| FileView::single(&file));
    let octet = view.and_then(|view| view.given((service - 1) / 8, 1));
    octet.is_some_and(|octet| octet[0] >> ((service - 1) % 8) & 1 == 1)
}

/// H10 E: the USIM test algorithm, or the key every test profile has.
fn test_algorithm(package: &Package<'_>, report: &mut Report<'_>) {
    let published: Vec<u8> = (0..16).collect();
    for (element, algo) in algo_parameters(package) {
        if algorithm_id(&algo) == Some(3) {
            report.at(element, algo.offset, "uses the USIM test algorithm");
        }
        if child(&algo, primitive(2)).is_some_and(|key| key.value == published) {
            report.at(element, algo.offset, "K is the published test key 00 01 .. 0F");
        }
    }
}
