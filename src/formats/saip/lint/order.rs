//! Which elements there are and in which order: O01 to O06 (SAIP §8.1.3).

use super::structure::element_files;
use super::{Report, Rule, Severity};
use crate::formats::saip::kind::{Kind, constructed};
use crate::formats::saip::package::{Element, Package};

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

/// The package makes its MF with GenericFileManagement.
fn makes_mf(element: &Element<'_>) -> bool {
    element.kind == Kind::GenericFileManagement
        && element_files(element).iter().any(|file| file.file_id() == Some(&[0x3F, 0x00]))
}

fn is_iot(package: &Package<'_>) -> bool {
    package.of(Kind::Header).any(|header| header.member(constructed(9)).is_some())
}

/// O01 E (SAIP §7.4, §7.5): what makes the root of the file system.
fn root(package: &Package<'_>, report: &mut Report<'_>) {
    let roots: Vec<_> = package.elements.iter().filter(|e| e.kind == Kind::Mf || makes_mf(e)).collect();
    let iots: Vec<_> = package.of(Kind::Iot).collect();
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
    let first = package.elements.iter().find(|e| e.kind.is_file_system());
    if let Some(first) = first.filter(|first| roots.first().is_some_and(|mf| first.tlv.offset < mf.tlv.offset)) {
        report.on(first, "stands before the element that makes the MF");
    }
}

/// O02 E (SAIP §8.5.2): one pukCodes, right behind the MF (or, in an IoT Minimal Profile, behind header or iot).
fn puk_codes(package: &Package<'_>, report: &mut Report<'_>) {
    let mut seen = 0;
    for (at, element) in package.elements.iter().enumerate().filter(|(_, element)| element.kind == Kind::PukCodes) {
        seen += 1;
        if seen > 1 {
            report.on(element, "is the second pukCodes");
            continue;
        }
        let before = at.checked_sub(1).and_then(|before| package.elements.get(before)).map(|before| before.kind);
        let fits = match before {
            Some(Kind::Mf | Kind::GenericFileManagement) => true,
            Some(Kind::Header | Kind::Iot) => is_iot(package),
            _ => false,
        };
        if !fits {
            report.on(element, format!("stands behind {}", before.unwrap_or(Kind::Unknown)));
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

/// O04 E: what extends an ISIM, a CSIM, an IoT profile.
fn other_extensions(package: &Package<'_>, report: &mut Report<'_>) {
    extensions(package, report, Kind::Isim, &[Kind::OptIsim]);
    extensions(package, report, Kind::Csim, &[Kind::OptCsim, Kind::CdmaParameter]);
    extensions(package, report, Kind::Iot, &[Kind::OptIot]);
}

/// O05 E (SAIP §8.4.1): an akaParameter in the context of an application, and none without.
fn aka_parameters(package: &Package<'_>, report: &mut Report<'_>) {
    let mut open: Option<&Element<'_>> = None;
    let unserved = |application: &Element<'_>, report: &mut Report<'_>| {
        report.on(application, "has no akaParameter");
    };
    for element in &package.elements {
        match element.kind {
            kind if kind.is_naa() => {
                if let Some(application) = open.replace(element) {
                    unserved(application, report);
                }
            }
            // A CSIM authenticates with CAVE or EAP; TS.48 profiles have a cdmaParameter alone.
            Kind::AkaParameter | Kind::CdmaParameter | Kind::Eap => {
                let late = open.is_none();
                let has_application =
                    package.elements.iter().any(|other| other.kind.is_naa() && other.tlv.offset < element.tlv.offset);
                if late && !has_application && element.kind == Kind::AkaParameter {
                    report.on(element, "no application stands before it");
                }
                open = None;
            }
            _ => {}
        }
    }
    if let Some(application) = open {
        unserved(application, report);
    }
}

/// O06 E (SAIP §8.6.2, §8.7, §8.8): the first security domain before what hangs on it, an rfm behind an ADF.
fn security_domains(package: &Package<'_>, report: &mut Report<'_>) {
    let (mut domain, mut application) = (false, false);
    for element in &package.elements {
        match element.kind {
            Kind::SecurityDomain => domain = true,
            kind if kind.is_naa() => application = true,
            Kind::Rfm | Kind::Application if !domain => report.on(element, "stands before the first securityDomain"),
            Kind::Rfm if !application => report.on(element, "stands before every ADF"),
            _ => {}
        }
    }
}
