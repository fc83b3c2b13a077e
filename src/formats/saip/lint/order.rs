//! Which elements there are and in which order: O01 to O06 (SAIP §8.1.3).

use std::collections::{HashMap, HashSet};

use super::tree::Made;
use super::{Report, Rule, Severity};
use crate::formats::saip::kind::{Kind, constructed, primitive};
use crate::formats::saip::package::{Element, Package, child, children};
use crate::formats::tlv::{Tag, Tlv};

const AID: Tag = Tag(0x4F);

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "O01",
        severity: Severity::Error,
        why: "without exactly one MF the eUICC has nowhere to create files and aborts",
        hint: "a full profile makes one MF, an IoT Minimal Profile has iotOptions and one iot element behind the header",
        check: root,
    },
    Rule {
        id: "O02",
        severity: Severity::Error,
        why: "PINs created before their PUKs cannot refer to them: the eUICC answers invalid-parameter",
        hint: "put one pukCodes with all PUKs right behind the element that makes the MF",
        check: puk_codes,
    },
    Rule {
        id: "O03",
        severity: Severity::Error,
        why: "files are created in the ADF selected last; without it they land nowhere and the installation aborts",
        hint: "put it behind the usim element it extends, once for each USIM",
        check: usim_extensions,
    },
    Rule {
        id: "O04",
        severity: Severity::Error,
        why: "files are created in the ADF selected last; without it they land nowhere and the installation aborts",
        hint: "put it behind the isim or csim element it extends, once for each",
        check: other_extensions,
    },
    Rule {
        id: "O05",
        severity: Severity::Error,
        why: "an application without algorithm and key cannot authenticate: the device finds no service",
        hint: "put one akaParameter behind each application that authenticates",
        check: aka_parameters,
    },
    Rule {
        id: "O06",
        severity: Severity::Error,
        why: "the eUICC installs in order: what hangs on a domain or ADF that does not exist yet is refused",
        hint: "the MNO-SD comes first, then what hangs on it; an rfm comes behind the ADF it serves",
        check: security_domains,
    },
];

/// Numbers of the elements that make an MF by GenericFileManagement, ascending.
fn makers_of_mf(report: &Report<'_>) -> Vec<usize> {
    let is_mf = |file: &&Made<'_>| {
        file.element.kind == Kind::GenericFileManagement && file.view.file_id() == Some(&[0x3F, 0x00])
    };
    report.made.iter().filter(is_mf).map(|file| file.element.number).collect()
}

fn is_iot(package: &Package<'_>) -> bool {
    package.of(Kind::Header).any(|header| header.member(constructed(9)).is_some())
}

/// O01 E (SAIP §7.4, §7.5): what makes the root of the file system, and what stands once below it.
fn root(package: &Package<'_>, report: &mut Report<'_>) {
    for kind in [Kind::Cd, Kind::Telecom] {
        package.of(kind).skip(1).for_each(|element| report.on(element, format!("is the second {kind}")));
    }
    let iots: Vec<_> = package.of(Kind::Iot).collect();
    let made = makers_of_mf(report);
    let roots: Vec<_> =
        package.elements.iter().filter(|e| e.kind == Kind::Mf || made.binary_search(&e.number).is_ok()).collect();
    if is_iot(package) {
        roots.iter().for_each(|mf| report.on(mf, "an IoT Minimal Profile has no mf"));
        match package.elements.get(1).map(|element| element.kind) {
            Some(Kind::Iot) => {}
            _ => report.package("iotOptions are set, but no iot element stands behind the header"),
        }
        iots.iter().skip(1).for_each(|iot| report.on(iot, "is the second iot element"));
        return;
    }
    iots.iter().for_each(|iot| report.on(iot, "the header has no iotOptions"));
    if roots.is_empty() && iots.is_empty() {
        report.package("nothing makes the MF");
    }
    roots.iter().skip(1).for_each(|mf| report.on(mf, "the MF is made a second time"));
    let Some(mf) = roots.first() else { return };
    let is_early =
        |e: &&Element<'_>| (e.kind.is_file_system() || e.kind == Kind::GenericFileManagement) && e.number < mf.number;
    for early in package.elements.iter().filter(is_early) {
        report.on(early, "stands before the element that makes the MF");
    }
}

/// O02 E (SAIP §8.5.2): one pukCodes, right behind the MF (or, in an IoT Minimal Profile, behind header or iot).
fn puk_codes(package: &Package<'_>, report: &mut Report<'_>) {
    let makers = makers_of_mf(report);
    let mut seen = 0;
    for (at, element) in package.elements.iter().enumerate().filter(|(_, element)| element.kind == Kind::PukCodes) {
        seen += 1;
        if seen > 1 {
            report.on(element, "is the second pukCodes");
            continue;
        }
        let before = at.checked_sub(1).and_then(|before| package.elements.get(before));
        let fits = before.is_some_and(|before| match before.kind {
            Kind::Mf => true,
            Kind::GenericFileManagement => makers.binary_search(&before.number).is_ok(),
            Kind::Header | Kind::Iot => is_iot(package),
            _ => false,
        });
        if !fits {
            let before = before.map_or("nothing".to_owned(), Element::label);
            report.on(element, format!("stands behind {before}, not behind what makes the MF"));
        }
    }
}

/// Reports extensions without their base before them, and the second of a kind for one base.
fn extensions(package: &Package<'_>, report: &mut Report<'_>, base: Kind, extensions: &[Kind]) {
    let mut since_base: Option<Vec<Kind>> = None;
    for element in &package.elements {
        if element.kind == base {
            since_base = Some(Vec::new());
        }
        if !extensions.contains(&element.kind) {
            continue;
        }
        match &mut since_base {
            None => report.on(element, format!("there is no {base} before it")),
            Some(seen) if seen.contains(&element.kind) => report.on(element, format!("is the second for one {base}")),
            Some(seen) => seen.push(element.kind),
        }
    }
}

/// O03 E: what extends a USIM.
fn usim_extensions(package: &Package<'_>, report: &mut Report<'_>) {
    let kinds =
        [Kind::OptUsim, Kind::GsmAccess, Kind::Phonebook, Kind::Df5gs, Kind::DfSaip, Kind::DfSnpn, Kind::Df5gprose];
    extensions(package, report, Kind::Usim, &kinds);
}

/// O04 E: what extends an ISIM, a CSIM, an IoT profile, or any application.
fn other_extensions(package: &Package<'_>, report: &mut Report<'_>) {
    extensions(package, report, Kind::Isim, &[Kind::OptIsim]);
    extensions(package, report, Kind::Csim, &[Kind::OptCsim, Kind::CdmaParameter]);
    extensions(package, report, Kind::Iot, &[Kind::OptIot]);
    extensions(package, report, Kind::Ssim, &[Kind::SsimEapTlsParameters]);
    let mut has_application = false;
    for element in &package.elements {
        has_application |= element.kind.is_naa();
        if element.kind == Kind::Eap && !has_application {
            report.on(element, "there is no application before it");
        }
    }
}

/// O05 E (SAIP §8.4.1): an akaParameter in the context of an application, and one for each.
fn aka_parameters(package: &Package<'_>, report: &mut Report<'_>) {
    // The application whose context is open, and one that still waits for its parameters.
    let mut context: Option<&Element<'_>> = None;
    let mut waiting: Option<&Element<'_>> = None;
    for element in &package.elements {
        match element.kind {
            kind if kind.is_naa() => {
                context = Some(element);
                if let Some(application) = waiting.replace(element) {
                    report.on(application, "has no akaParameter");
                }
            }
            Kind::AkaParameter => {
                if context.is_none() {
                    report.on(element, "stands in the context of no application");
                }
                waiting = None;
            }
            // A CSIM authenticates with CAVE or EAP; public test profiles have a cdmaParameter alone.
            Kind::CdmaParameter | Kind::Eap | Kind::SsimEapTlsParameters => waiting = None,
            // The context is the MF's, or none.
            Kind::Mf | Kind::Cd | Kind::Telecom | Kind::SecurityDomain | Kind::Rfm | Kind::Application => {
                context = None;
            }
            _ => {}
        }
    }
    if let Some(application) = waiting {
        report.on(application, "has no akaParameter");
    }
}

/// O06 E (SAIP §8.6.2, §8.7, §8.8): the first security domain before what hangs on it, an rfm behind the ADF it serves, an
/// application behind the domain it names.
fn security_domains(package: &Package<'_>, report: &mut Report<'_>) {
    let made = report.made;
    let adf_name = |file: &Made<'_>| file.view.parameter(Tag(0x84)).map(|name| name.value.to_vec());
    let adfs: HashMap<Vec<u8>, usize> =
        made.iter().rev().filter_map(|f| Some((adf_name(f)?, f.element.number))).collect();
    let mut domains: HashSet<&[u8]> = HashSet::new();
    let (mut domain, mut application) = (false, false);
    for element in &package.elements {
        match element.kind {
            Kind::SecurityDomain => {
                domain = true;
                let instance = element.member(constructed(1));
                let aid = instance.and_then(|tlv| children(&tlv).filter(|tlv| tlv.tag == AID).nth(2));
                domains.extend(aid.map(|aid| aid.value));
            }
            kind if kind.is_naa() => application = true,
            Kind::Rfm | Kind::Application if !domain => report.on(element, "stands before the first securityDomain"),
            Kind::Rfm if !application => report.on(element, "stands before every ADF"),
            Kind::Rfm => {
                let adf = element.member(Tag(0x30)).and_then(|access| child(&access, primitive(0)));
                let later = |adf: &Tlv<'_>| adfs.get(adf.value).is_some_and(|number| *number > element.number);
                if let Some(adf) = adf.filter(later) {
                    report.at(element, adf.offset, "stands before the ADF it serves");
                }
            }
            Kind::Application => {
                let block = element.member(constructed(1));
                let aid = block.and_then(|tlv| children(&tlv).filter(|tlv| tlv.tag == AID).nth(1));
                if let Some(aid) = aid.filter(|aid| !domains.contains(aid.value)) {
                    report.at(element, aid.offset, "no securityDomain before it has the AID it is loaded into");
                }
            }
            _ => {}
        }
    }
}
