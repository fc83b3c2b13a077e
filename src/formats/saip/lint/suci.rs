//! Identity in 5G: U06 to U10 (3GPP TS 31.102 §4.2.2, §4.4.11; TS 33.501 Annex C; SAIP §9.5.11, §9.5.12).
//!
//! Trap: who calculates the SUCI decides which file counts. With service 125 it is the USIM, which reads DF.SAIP; without, it is
//! the terminal, which reads DF.5GS. A key of profile B that is no point of its curve opens nothing: OpenSSL does that arithmetic.

use std::collections::HashSet;

use openssl::bn::BigNumContext;
use openssl::ec::{EcGroup, EcPoint};
use openssl::nid::Nid;

use super::applications::{Application, applications, octet_of, octets, place};
use super::tree::Made;
use super::{Report, Rule, Severity, counted};
use crate::formats::saip::ef::SuciCalcInfo;
use crate::formats::saip::ef::services::has_service;
use crate::formats::saip::kind::{Kind, constructed, context_number};
use crate::formats::saip::package::{Package, children};
use crate::formats::tlv::{Reader, Tag, Tlv};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "U06",
        severity: Severity::Error,
        why: "a terminal that finds no way to hide the identity sends it in the clear, or does not register in 5G",
        hint: "with service 124: EF.Routing_Indicator and SUCI_Calc_Info with a scheme, in DF.SAIP with get-identity and the profiles when 125 is set",
        check: identifier_privacy,
    },
    Rule {
        id: "U07",
        severity: Severity::Error,
        why: "a SUCI made from a wrong key cannot be opened by the home network: no registration in 5G",
        hint: "schemes 0 (null, index 0), 1 and 2, each once; its index counts the keys from 1; X25519 keys have 32 octets, P-256 keys are points of 33 or 65",
        check: calculation_info,
    },
    Rule {
        id: "U08",
        severity: Severity::Warning,
        why: "with the null scheme first, the permanent identity goes over the air in the clear",
        hint: "put profile A or B with the key of the home network first, the null scheme last",
        check: null_scheme,
    },
    Rule {
        id: "U09",
        severity: Severity::Error,
        why: "a subscription has an IMSI or a network specific identifier; with both or none a terminal cannot register",
        hint: "with service 130 create EF.SUPI_NAI and suppress EF.IMSI by doNotCreate; else clear the service",
        check: network_specific_identifier,
    },
    Rule {
        id: "U10",
        severity: Severity::Error,
        why: "a terminal stores the security context of each registration in a record of its own",
        hint: "two records in the 5GS NSC files with service 136, one without",
        check: security_contexts,
    },
];

const ROUTING_INDICATOR: (&str, u16) = ("ef-routing-indicator", 0x4F0A);
const BY_TERMINAL: (&str, u16) = ("ef-suci-calc-info", 0x4F07);
const BY_USIM: (&str, u16) = ("ef-suci-calc-info-usim", 0x4F01);
const GET_IDENTITY: u8 = 21;

/// `home network public key` in the list of keys (3GPP TS 31.102 §4.4.11.8).
const KEY: Tag = Tag(0x81);

/// The scheme of the null, A and B profiles (3GPP TS 33.501 Annex C.1).
const NULL: u8 = 0;
const PROFILE_A: u8 = 1;
const PROFILE_B: u8 = 2;

/// U06 E: what services 124 and 125 ask for.
fn identifier_privacy(package: &Package<'_>, report: &mut Report<'_>) {
    let header = package.of(Kind::Header).next().and_then(|header| header.member(constructed(5)));
    let listed: HashSet<u8> = header.iter().flat_map(children).filter_map(|tlv| context_number(tlv.tag)).collect();
    for usim in usims(report.made) {
        let Some(table) = usim.file("ef-ust") else { continue };
        let services = octets(table);
        if !has_service(&services, 124) {
            continue;
        }
        let mut wrong = |service, message: String| report.at(&table.element, place(table, octet_of(service)), message);
        if !usim.has(ROUTING_INDICATOR.0, ROUTING_INDICATOR.1) {
            wrong(124, "service 124 is set, but there is no EF.Routing_Indicator".to_owned());
        }
        let by_usim = has_service(&services, 125);
        let (name, id) = if by_usim { BY_USIM } else { BY_TERMINAL };
        if !usim.has(name, id) {
            let services = if by_usim { "services 124 and 125 are" } else { "service 124 is" };
            wrong(if by_usim { 125 } else { 124 }, format!("{services} set, but there is no {name}"));
        }
        if by_usim && !listed.contains(&GET_IDENTITY) {
            wrong(125, "service 125 is set, but the header does not list get-identity".to_owned());
        }
        // A file without content waits for that of an order.
        let info = usim.file(name).and_then(|file| Some((info(file)?.ok()?, file)));
        let Some((info, file)) = info else { continue };
        if info.schemes.is_empty() {
            report.at(&file.element, place(file, 0), format!("service 124 is set, but {name} lists no scheme"));
        }
        for (scheme, service, number) in [(PROFILE_A, "profile-a-x25519", 22), (PROFILE_B, "profile-b-p256", 23)] {
            let is_used = info.schemes.iter().any(|[used, _]| *used == scheme);
            if by_usim && is_used && !listed.contains(&number) {
                let message =
                    format!("the USIM calculates with scheme {scheme}, but the header does not list {service}");
                report.at(&file.element, place(file, 0), message);
            }
        }
    }
}

fn usims<'p, 'a>(made: &'p [Made<'a>]) -> Vec<Application<'p, 'a>> {
    applications(made, &[Kind::Usim, Kind::Iot])
}

/// The schemes and keys of a file; `None` for one that is not written yet, an error for one that is no such list.
fn info(file: &Made<'_>) -> Option<Result<SuciCalcInfo, &'static str>> {
    let octets = octets(file);
    let is_written = octets.first().is_some_and(|octet| *octet != 0xFF);
    is_written.then(|| SuciCalcInfo::read(&octets).ok_or("it is no list of schemes (A0) and keys (A1)"))
}

/// U07 E: schemes and keys fit each other.
fn calculation_info(_package: &Package<'_>, report: &mut Report<'_>) {
    for usim in usims(report.made) {
        for file in [BY_TERMINAL.0, BY_USIM.0].iter().filter_map(|name| usim.file(name)) {
            let fault = match info(file) {
                Some(Ok(info)) if !info.schemes.is_empty() => fault_of(&info, &octets(file)),
                Some(Err(fault)) => Some((0, fault.to_owned())),
                _ => None,
            };
            if let Some((at, fault)) = fault {
                report.at(&file.element, place(file, at), format!("{}: {fault}", file.name));
            }
        }
    }
}

/// The first fault of a list, and where in the file it stands.
fn fault_of(info: &SuciCalcInfo, octets: &[u8]) -> Option<(usize, String)> {
    let mut reader = Reader::new(octets);
    let schemes = reader.next_tlv().ok()??.value_offset();
    let list = reader.next_tlv().ok().flatten();
    let keys: Vec<Tlv<'_>> = list.iter().flat_map(children).filter(|tlv| tlv.tag == KEY).collect();
    let place_of_key = |index: u8| keys.get(usize::from(index).checked_sub(1)?).map(Tlv::value_offset);
    if let Err(fault) = info.check() {
        // The first scheme with which the list is wrong; with none the identifiers of the keys are.
        let at = (0..info.schemes.len()).find(|last| !fits(&info.schemes[..=*last], &info.keys));
        let Some(at) = at else { return Some((list.map_or(0, |list| list.offset), fault)) };
        let [scheme, index] = info.schemes[at];
        let key = usize::from(index).checked_sub(1).and_then(|index| info.keys.get(index));
        let is_of_key = scheme != NULL && key.is_some_and(|key| !fits(&[[scheme, 1]], std::slice::from_ref(key)));
        let place = place_of_key(index).filter(|_| is_of_key);
        return Some((place.unwrap_or(schemes + 2 * at), fault));
    }
    let of_curve = info.schemes.iter().filter(|[scheme, _]| *scheme == PROFILE_B);
    of_curve.into_iter().find_map(|[_, index]| {
        let (_, key) = info.keys.get(usize::from(*index).checked_sub(1)?)?;
        let fault = || format!("key {index} of profile-b is no point of the curve P-256");
        (!is_point(key)).then(|| Some((place_of_key(*index)?, fault())))?
    })
}

/// These schemes are known, stand once and lead to keys that they can use.
fn fits(schemes: &[[u8; 2]], keys: &[(u8, Vec<u8>)]) -> bool {
    // What the keys are called is not asked here.
    let keys = keys.iter().enumerate().map(|(number, (_, key))| (number as u8, key.clone()));
    SuciCalcInfo { schemes: schemes.to_vec(), keys: keys.collect() }.check().is_ok()
}

/// A point of P-256, compressed or not (SEC 1 §2.3.4).
fn is_point(octets: &[u8]) -> bool {
    let point = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)
        .and_then(|curve| EcPoint::from_bytes(&curve, octets, &mut *BigNumContext::new()?));
    point.is_ok()
}

/// U08 W: the null scheme before another one is a mistake anywhere; as the only one, in production. A template may wait for keys.
fn null_scheme(_package: &Package<'_>, report: &mut Report<'_>) {
    for usim in usims(report.made) {
        let services = usim.services("ef-ust");
        if !has_service(&services, 124) {
            continue;
        }
        let counts = if has_service(&services, 125) { BY_USIM.0 } else { BY_TERMINAL.0 };
        let Some(file) = usim.file(counts) else { continue };
        let Some(Ok(info)) = info(file) else { continue };
        let is_first = info.schemes.first().is_some_and(|[scheme, _]| *scheme == NULL);
        let message = match info.schemes.len() {
            2.. if is_first => "the null scheme is listed before others",
            1 if is_first && report.options.production => "the null scheme is the only one",
            _ => continue,
        };
        report.at(&file.element, file.offset, format!("{counts}: {message}"));
    }
}

/// U09 E: with service 130 there is an EF.SUPI_NAI and no EF.IMSI. The file without the service is idle: U05.
fn network_specific_identifier(_package: &Package<'_>, report: &mut Report<'_>) {
    for usim in usims(report.made) {
        let Some(table) = usim.file("ef-ust").filter(|table| has_service(&octets(table), 130)) else { continue };
        if !["ef-supinai", "ef-supi-nai"].iter().any(|name| usim.has(name, 0x4F09)) {
            report.at(&table.element, place(table, octet_of(130)), "service 130 is set, but there is no EF.SUPI_NAI");
        }
        if let Some(imsi) = usim.file("ef-imsi") {
            report.at(&imsi.element, imsi.offset, "EF.IMSI is created although service 130 is set");
        }
    }
}

/// U10 E (SAIP §9.5.11): records of EF.5GS3GPPNSC and EF.5GSN3GPPNSC.
fn security_contexts(_package: &Package<'_>, report: &mut Report<'_>) {
    for usim in usims(report.made) {
        let services = usim.services("ef-ust");
        let must = if has_service(&services, 136) { 2 } else { 1 };
        for name in ["ef-5gs3gppnsc", "ef-5gsn3gppnsc"] {
            let Some(file) = usim.file(name).filter(|_| !services.is_empty()) else { continue };
            let (Some(size), Some(record)) = (file.size(), file.record_len()) else { continue };
            let records = size.checked_div(record).unwrap_or_default();
            if records != must {
                let state = if must == 2 { "set" } else { "clear" };
                let message = format!("{name} has {} although service 136 is {state}", counted(records, "record"));
                report.at(&file.element, file.offset, message);
            }
        }
    }
}
