//! Service tables against files: U04, U05, U11 (3GPP TS 31.102 §4.2.8, §4.2.47, TS 31.103 §4.2.7).

use std::collections::{BTreeSet, HashMap, HashSet};

use super::applications::{Application, applications, octet_of, octets, place};
use super::tree::Made;
use super::{Report, Rule, Severity};
use crate::formats::saip::ef::services::has_service;
use crate::formats::saip::kind::Kind;
use crate::formats::saip::package::Package;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "U04",
        severity: Severity::Error,
        why: "a terminal that sees the service reads the file, fails, and may take the card for damaged",
        hint: "create the file, or clear the service in EF.UST",
        check: services_have_files,
    },
    Rule {
        id: "U05",
        severity: Severity::Info,
        why: "no terminal reads the file: it costs memory and does nothing",
        hint: "set the service in EF.UST, or leave the file out",
        check: files_have_services,
    },
    Rule {
        id: "U11",
        severity: Severity::Warning,
        why: "a terminal refuses calls when an enabled service is missing, or reads a file that is not there",
        hint: "set services in EF.EST only when EF.UST has them, and in EF.IST only when their files exist",
        check: other_tables,
    },
];

/// The files of a service of EF.UST with their identifiers. Left out are services without a file of their own and those whose
/// file depends on more than the service.
#[rustfmt::skip]
const USIM_SERVICES: &[(u16, &[(&str, u16)])] = &[
    (2, &[("ef-fdn", 0x6F3B)]),
    (3, &[("ef-ext2", 0x6F4B)]),
    (4, &[("ef-sdn", 0x6F49)]),
    (5, &[("ef-ext3", 0x6F4C)]),
    (6, &[("ef-bdn", 0x6F4D), ("ef-cmi", 0x6F58)]),
    (7, &[("ef-ext4", 0x6F55)]),
    (8, &[("ef-oci", 0x6F81), ("ef-oct", 0x6F83)]),
    (9, &[("ef-ici", 0x6F80), ("ef-ict", 0x6F82)]),
    (10, &[("ef-sms", 0x6F3C)]),
    (11, &[("ef-smsr", 0x6F47)]),
    (12, &[("ef-smsp", 0x6F42)]),
    (13, &[("ef-acm", 0x6F39), ("ef-acmax", 0x6F37), ("ef-puct", 0x6F41)]),
    (14, &[("ef-ccp2", 0x6F4F)]),
    (15, &[("ef-cbmi", 0x6F45)]),
    (16, &[("ef-cbmir", 0x6F50)]),
    (17, &[("ef-gid1", 0x6F3E)]),
    (18, &[("ef-gid2", 0x6F3F)]),
    (19, &[("ef-spn", 0x6F46)]),
    (20, &[("ef-plmnwact", 0x6F60)]),
    (21, &[("ef-msisdn", 0x6F40)]),
    (24, &[("ef-emlpp", 0x6FB5)]),
    (25, &[("ef-aaem", 0x6FB6)]),
    (27, &[("ef-kc", 0x4F20)]),
    (29, &[("ef-cbmid", 0x6F48)]),
    (34, &[("ef-est", 0x6F56)]),
    (35, &[("ef-acl", 0x6F57)]),
    (36, &[("ef-dck", 0x6F2C)]),
    (37, &[("ef-cnl", 0x6F32)]),
    (38, &[("ef-kcgprs", 0x4F52)]),
    (39, &[("ef-cpbcch", 0x4F63)]),
    (40, &[("ef-invscan", 0x4F64)]),
    (42, &[("ef-oplmnwact", 0x6F61)]),
    (43, &[("ef-hplmnwact", 0x6F62)]),
    (44, &[("ef-ext5", 0x6F4E)]),
    (45, &[("ef-pnn", 0x6FC5)]),
    (46, &[("ef-opl", 0x6FC6)]),
    (47, &[("ef-mbdn", 0x6FC7), ("ef-mbi", 0x6FC9)]),
    (48, &[("ef-mwis", 0x6FCA)]),
    (49, &[("ef-cfis", 0x6FCB)]),
    (51, &[("ef-spdi", 0x6FCD)]),
    (52, &[("ef-mmsn", 0x6FCE), ("ef-mmsicp", 0x6FD0), ("ef-mmsup", 0x6FD1)]),
    (53, &[("ef-ext8", 0x6FCF)]),
    (55, &[("ef-mmsucp", 0x6FD2)]),
    (56, &[("ef-nia", 0x6FD3)]),
    (57, &[("ef-vgcs", 0x6FB1), ("ef-vgcss", 0x6FB2)]),
    (58, &[("ef-vbs", 0x6FB3), ("ef-vbss", 0x6FB4)]),
    (64, &[("ef-vgcsca", 0x6FD4)]),
    (65, &[("ef-vbsca", 0x6FD5)]),
    (68, &[("ef-gbabp", 0x6FD6), ("ef-gbanl", 0x6FDA)]),
    (69, &[("ef-msk", 0x6FD7), ("ef-muk", 0x6FD8)]),
    (71, &[("ef-ehplmn", 0x6FD9)]),
    (73, &[("ef-ehplmnpi", 0x6FDB)]),
    (74, &[("ef-lrplmnsi", 0x6FDC)]),
    (76, &[("ef-nafkca", 0x6FDD)]),
    (78, &[("ef-spni", 0x6FDE)]),
    (79, &[("ef-pnni", 0x6FDF)]),
    (80, &[("ef-ncp-ip", 0x6FE2)]),
    (85, &[("ef-epsloci", 0x6FE3), ("ef-epsnsc", 0x6FE4)]),
    (95, &[("ef-uicciari", 0x6FE7)]),
    (96, &[("ef-nasconfig", 0x6FE8)]),
    (97, &[("ef-pws", 0x6FEC)]),
    (114, &[("ef-frompreferred", 0x6FF7)]),
    (115, &[("ef-imsconfigdata", 0x6FF8)]),
    (117, &[("ef-3gpppsdataoff", 0x6FF9)]),
    (118, &[("ef-3gpppsdataoffservicelist", 0x6FFA)]),
    (120, &[("ef-xcapconfigdata", 0x6FFC)]),
    (121, &[("ef-earfcnlist", 0x6FFD)]),
    (122, &[("ef-5gs3gpploci", 0x4F01), ("ef-5gsn3gpploci", 0x4F02), ("ef-5gs3gppnsc", 0x4F03), ("ef-5gsn3gppnsc", 0x4F04)]),
    (123, &[("ef-5gauthkeys", 0x4F05)]),
    (126, &[("ef-uac-aic", 0x4F06)]),
    (129, &[("ef-opl5g", 0x4F08)]),
    (132, &[("ef-ursp", 0x4F0B)]),
    (134, &[("ef-mudmidconfigdata", 0x6FFE)]),
    (135, &[("ef-tn3gppsnn", 0x4F0C)]),
    (137, &[("ef-cag", 0x4F0D)]),
    (138, &[("ef-sor-cmci", 0x4F0E)]),
    (140, &[("ef-dri", 0x4F0F)]),
    (141, &[("ef-5gsedrx", 0x4F10)]),
    (142, &[("ef-5gnswo-conf", 0x4F11)]),
    (144, &[("ef-mchpplmn", 0x4F15)]),
    (145, &[("ef-kausf-derivation", 0x4F16)]),
];

/// A file whose service has a rule of its own (U09); the two elements that may hold it spell it differently.
const NETWORK_IDENTIFIER: (u16, &[(&str, u16)]) = (130, &[("ef-supinai", 0x4F09), ("ef-supi-nai", 0x4F09)]);

/// The files of a service of EF.IST.
#[rustfmt::skip]
const ISIM_SERVICES: &[(u16, &[(&str, u16)])] = &[
    (1, &[("ef-pcscf", 0x6F09)]),
    (2, &[("ef-gbabp", 0x6FD5), ("ef-gbanl", 0x6FD7)]),
    (4, &[("ef-nafkca", 0x6FDD)]),
    (6, &[("ef-sms", 0x6F3C), ("ef-smss", 0x6F43)]),
    (7, &[("ef-smsr", 0x6F47)]),
    (10, &[("ef-uicciari", 0x6FE7)]),
    (17, &[("ef-frompreferred", 0x6FF7)]),
    (18, &[("ef-imsconfigdata", 0x6FF8)]),
    (19, &[("ef-xcapconfigdata", 0x6FFC)]),
    (20, &[("ef-webrtcuri", 0x6FFA)]),
    (21, &[("ef-mudmidconfigdata", 0x6FFE)]),
];

/// The first file of each service that is set and whose file is not there.
fn missing<'t>(
    application: &Application<'_, '_>,
    table: &[u8],
    services: &'t [(u16, &'t [(&'t str, u16)])],
) -> Vec<(u16, &'t str)> {
    // Once for a hundred questions.
    let names: HashSet<&str> = application.files().map(|file| file.name).collect();
    let set = services.iter().filter(|(service, _)| has_service(table, *service));
    let files = set.flat_map(|(service, files)| files.iter().map(move |(file, id)| (*service, *file, *id)));
    files
        .filter(|(_, file, fid)| !names.contains(file) && !application.makes(*fid))
        .map(|(service, file, _)| (service, file))
        .collect()
}

/// U04 E: a service that is set has its files.
fn services_have_files(_package: &Package<'_>, report: &mut Report<'_>) {
    for usim in applications(report.made, &[Kind::Usim, Kind::Iot]) {
        let Some(table) = usim.file("ef-ust") else { continue };
        for (service, file) in missing(&usim, &octets(table), USIM_SERVICES) {
            let offset = place(table, octet_of(service));
            report.at(&table.element, offset, format!("service {service} is set, but there is no {file}"));
        }
    }
}

/// U05 I: a file that an element adds to its USIM has its service. Files that the USIM's own template creates are there anyway:
/// those count when the package writes something into them.
fn files_have_services(_package: &Package<'_>, report: &mut Report<'_>) {
    let mut services: HashMap<&str, BTreeSet<u16>> = HashMap::new();
    for (service, files) in USIM_SERVICES.iter().chain([&NETWORK_IDENTIFIER]) {
        for (file, _) in *files {
            services.entry(file).or_default().insert(*service);
        }
    }
    for usim in applications(report.made, &[Kind::Usim, Kind::Iot]) {
        let table = usim.services("ef-ust");
        let is_meant = |file: &&Made<'_>| file.element.kind != usim.base.kind || says_something(file);
        let added = usim.files().filter(|file| is_meant(file) && !table.is_empty());
        for file in added {
            if let Some(services) =
                services.get(file.name).filter(|services| services.iter().all(|service| !has_service(&table, *service)))
            {
                let numbers: Vec<String> = services.iter().map(u16::to_string).collect();
                let message =
                    format!("{} is there, but service {} of EF.UST is clear", file.name, numbers.join(" or "));
                report.at(&file.element, file.offset, message);
            }
        }
    }
}

/// More is written into it than the values of an empty file.
fn says_something(file: &Made<'_>) -> bool {
    let mut octets = file.view.writes.iter().flat_map(|write| write.content);
    octets.any(|octet| !matches!(octet, 0x00 | 0xFF))
}

/// Services of EF.EST, each with the one of EF.UST that it enables (3GPP TS 31.102 §4.2.47).
const ENABLED: [(u16, u16, &str); 3] = [(1, 2, "FDN"), (2, 6, "BDN"), (3, 35, "ACL")];

/// U11 W: EF.EST enables only what EF.UST has; the files of EF.IST are there.
fn other_tables(_package: &Package<'_>, report: &mut Report<'_>) {
    for usim in applications(report.made, &[Kind::Usim, Kind::Iot]) {
        let Some(enabled) = usim.file("ef-est") else { continue };
        let (table, bits) = (usim.services("ef-ust"), octets(enabled));
        for (bit, service, name) in ENABLED {
            if has_service(&bits, bit) && !table.is_empty() && !has_service(&table, service) {
                let message = format!("EF.EST enables {name}, but service {service} of EF.UST is clear");
                report.at(&enabled.element, place(enabled, octet_of(bit)), message);
            }
        }
    }
    for isim in applications(report.made, &[Kind::Isim]) {
        let Some(table) = isim.file("ef-ist") else { continue };
        for (service, file) in missing(&isim, &octets(table), ISIM_SERVICES) {
            let message = format!("service {service} of EF.IST is set, but there is no {file}");
            report.at(&table.element, place(table, octet_of(service)), message);
        }
    }
}
