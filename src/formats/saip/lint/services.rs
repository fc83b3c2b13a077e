//! The mandated services against what the package holds: H06 to H10.

use std::collections::BTreeSet;

use super::tree::{Made, Shape};
use super::{Report, Rule, Severity};
use crate::formats::saip::catalogue;
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::{Kind, constructed, context_number, primitive};
use crate::formats::saip::package::{Element, Package, child, children, unsigned};
use crate::formats::saip::services::{ALGORITHM_SERVICES, service_name, service_number};
use crate::formats::tlv::{Reader, Tag, Tlv};

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
        id: "H08",
        severity: Severity::Warning,
        why: "a listed template the eUICC lacks aborts the download; one not listed fails halfway through",
        hint: "list the templateIDs of the mandated elements in eUICC-Mandatory-GFSTEList, and no other",
        check: templates,
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
    let is_listed = |service: &str| service_number(service).is_some_and(|number| listed.contains(&number));
    let pairs: [(&str, &[Kind]); 4] =
        [("usim", &[Kind::Usim, Kind::Iot]), ("isim", &[Kind::Isim]), ("csim", &[Kind::Csim]), ("eap", &[Kind::Eap])];
    for (service, kinds) in pairs {
        let holders = || package.elements.iter().filter(|element| kinds.contains(&element.kind));
        if is_listed(service) && holders().next().is_none() {
            report.at(&header, offset, format!("{service} is listed, but no element needs it"));
        }
        if let (false, Some(holder)) = (is_listed(service), holders().find(|holder| holder.mandated)) {
            report.at(&header, offset, format!("{service} is not listed, but {} is mandated", holder.label()));
        }
    }
    let count = |kinds: &[Kind]| package.elements.iter().filter(|element| kinds.contains(&element.kind)).count();
    let usims = count(&[Kind::Usim, Kind::Iot]);
    // Services that say something of an application: without it, they only keep eUICCs away.
    let needs = [
        ("gba-usim", usims >= 1),
        ("gba-isim", count(&[Kind::Isim]) >= 1),
        ("mbms", usims >= 1),
        ("get-identity", usims >= 1),
        ("profile-a-x25519", usims >= 1),
        ("profile-b-p256", usims >= 1),
        ("suciCalculatorApi", usims >= 1),
        ("multiple-usim", usims > 1),
        ("multiple-isim", count(&[Kind::Isim]) > 1),
        ("multiple-csim", count(&[Kind::Csim]) > 1),
        ("cat-tp", package.of(Kind::SecurityDomain).any(|domain| domain.member(constructed(5)).is_some())),
        ("ssim-Eap-Tls", count(&[Kind::SsimEapTlsParameters]) >= 1),
    ];
    for (service, is_needed) in needs {
        if is_listed(service) && !is_needed {
            report.at(&header, offset, format!("{service} is listed, but no element needs it"));
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
    let cave = service_number("cave").is_some_and(|cave| listed.contains(&cave));
    if cave && package.of(Kind::CdmaParameter).next().is_none() {
        report.at(&header, offset, "cave is listed, but there is no cdmaParameter");
    }
    let listed: BTreeSet<u8> = listed.into_iter().filter(|number| ALGORITHM_SERVICES.contains(number)).collect();
    for number in used.difference(&listed) {
        report.at(&header, offset, format!("{} is not listed, but an akaParameter uses it", service_name(*number)));
    }
    for number in listed.difference(&used) {
        report.at(&header, offset, format!("{} is listed, but no akaParameter uses it", service_name(*number)));
    }
}

/// H08 W: the mandated templates are those that mandated elements use.
fn templates(package: &Package<'_>, report: &mut Report<'_>) {
    let Some(header) = package.of(Kind::Header).next() else { return };
    let list = header.member(constructed(6));
    let offset = list.map_or(header.tlv.offset, |list| list.offset);
    let listed: BTreeSet<&[u8]> = list.iter().flat_map(children).map(|oid| oid.value).collect();
    let file_systems = || package.elements.iter().filter(|element| element.kind.is_file_system());
    let id = |element: &Element<'_>| element.member(primitive(1)).map(|oid| oid.value.to_vec());
    let used: BTreeSet<Vec<u8>> = file_systems().filter_map(id).collect();
    let mandated: BTreeSet<Vec<u8>> = file_systems().filter(|element| element.mandated).filter_map(id).collect();
    for oid in listed.iter().filter(|oid| !used.contains(**oid)) {
        report.at(header, offset, format!("template {} is listed, but no element uses it", shown(oid)));
    }
    for oid in mandated.iter().filter(|oid| !listed.contains(&oid[..])) {
        report.at(header, offset, format!("template {} is not listed, but a mandated element uses it", shown(oid)));
    }
}

fn shown(oid: &[u8]) -> String {
    match catalogue::oid_tail(oid).and_then(catalogue::template) {
        Some(template) => template.oid(),
        None => data_encoding::HEXUPPER.encode(oid),
    }
}

/// H09 E: BER-TLV files, links of directories, applets, several applications of a kind, GET IDENTITY, CAT_TP.
fn further_services(package: &Package<'_>, report: &mut Report<'_>) {
    let ber_tlv = report.made.iter().any(|file| file.named && file.shape() == Some(Shape::BerTlv));
    let df_link = report.made.iter().any(|file| file.is_directory() && file.link().is_some());
    let get_identity = package.of(Kind::Usim).any(|usim| has_usim_service(usim, 125));
    let several = |kind| package.of(kind).count() > 1;
    let cat_tp = package.of(Kind::SecurityDomain).any(|domain| domain.member(constructed(5)).is_some());
    let is_multos =
        listed(package).zip(service_number("multos")).is_some_and(|((_, listed, _), n)| listed.contains(&n));
    let schemes = schemes_of_the_card(report.made);
    missing(
        report,
        package,
        &[
            ("ber-tlv", ber_tlv, "there is a BER-TLV file"),
            ("dfLink", df_link, "there is a link to a directory"),
            ("javacard", package.of(Kind::Application).next().is_some() && !is_multos, "there is an application"),
            ("multiple-usim", several(Kind::Usim), "there are several USIMs"),
            ("multiple-isim", several(Kind::Isim), "there are several ISIMs"),
            ("multiple-csim", several(Kind::Csim), "there are several CSIMs"),
            ("get-identity", get_identity, "service 125 of EF.UST is set"),
            ("cat-tp", cat_tp, "the security domain has catTpParameters"),
            ("profile-a-x25519", schemes.contains(&1), "the card computes the SUCI with profile A"),
            ("profile-b-p256", schemes.contains(&2), "the card computes the SUCI with profile B"),
        ],
    );
}

/// Protection schemes in the list of EF.SUCI_Calc_Info for the card (3GPP TS 31.102 §4.4.11.8): `A0 { scheme, key index }*`.
fn schemes_of_the_card(made: &[Made<'_>]) -> BTreeSet<u8> {
    let files = made.iter().filter(|file| file.name == "ef-suci-calc-info-usim");
    let lists = files.filter_map(|file| {
        let content: Vec<u8> = file.view.content(file.size()?).into_iter().map_while(|octet| octet).collect();
        let list = Reader::new(&content).take_if(Tag(0xA0)).ok()??;
        Some(list.value.chunks_exact(2).map(|pair| pair[0]).collect::<Vec<_>>())
    });
    lists.flatten().collect()
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
