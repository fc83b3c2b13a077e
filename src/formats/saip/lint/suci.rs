//! Identity in 5G: U06 to U10 (3GPP TS 31.102 §4.2.2, §4.4.11; TS 33.501 Annex C; SAIP §9.5.11, §9.5.12).
//!
//! Trap: who calculates the SUCI decides which file counts. With service 125 it is the USIM, which reads DF.SAIP; without, it is
//! the terminal, which reads DF.5GS. Only length and prefix of a key are checked: whether a point is on its curve takes arithmetic.

use std::collections::HashSet;

use super::applications::{Application, Content, applications, is_set};
use super::{Report, Rule, Severity};
use crate::formats::saip::kind::{Kind, constructed, context_number};
use crate::formats::saip::package::{Package, children};
use crate::formats::tlv::{Reader, Tag, Tlv, TlvError};

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
        hint: "schemes 0 (null, index 0), 1 and 2, each once; its index counts the keys from 1; X25519 keys have 32 octets, P-256 keys 33 or 65",
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

/// The scheme of the null, A and B profiles (3GPP TS 33.501 Annex C.1).
const NULL: u8 = 0;
const PROFILE_A: u8 = 1;
const PROFILE_B: u8 = 2;

/// U06 E: what services 124 and 125 ask for.
fn identifier_privacy(package: &Package<'_>, report: &mut Report<'_>) {
    let header = package.of(Kind::Header).next().and_then(|header| header.member(constructed(5)));
    let listed: HashSet<u8> = header.iter().flat_map(children).filter_map(|tlv| context_number(tlv.tag)).collect();
    for usim in usims(package) {
        let Some(table) = usim.given("ef-ust") else { continue };
        let services = table.octets();
        if !is_set(&services, 124) {
            continue;
        }
        let mut wrong = |message: String| report.at(table.element, table.offset, message);
        if !usim.exists(ROUTING_INDICATOR.0, ROUTING_INDICATOR.1) {
            wrong("service 124 is set, but there is no EF.Routing_Indicator".to_owned());
        }
        let by_usim = is_set(&services, 125);
        let (name, id) = if by_usim { BY_USIM } else { BY_TERMINAL };
        if !usim.exists(name, id) {
            let services = if by_usim { "services 124 and 125 are" } else { "service 124 is" };
            wrong(format!("{services} set, but there is no {name}"));
        }
        if by_usim && !listed.contains(&GET_IDENTITY) {
            wrong("service 125 is set, but the header does not list get-identity".to_owned());
        }
        let info = usim.given(name).and_then(|file| Some((Info::read(&file)?.ok()?, file)));
        let Some((info, file)) = info else { continue };
        if info.schemes.is_empty() {
            report.at(file.element, file.offset, format!("service 124 is set, but {name} lists no scheme"));
        }
        for (scheme, service, number) in [(PROFILE_A, "profile-a-x25519", 22), (PROFILE_B, "profile-b-p256", 23)] {
            let is_used = info.schemes.iter().any(|(used, _)| *used == scheme);
            if by_usim && is_used && !listed.contains(&number) {
                let message =
                    format!("the USIM calculates with scheme {scheme}, but the header does not list {service}");
                report.at(file.element, file.offset, message);
            }
        }
    }
}

fn usims<'p, 'a>(package: &'p Package<'a>) -> Vec<Application<'p, 'a>> {
    applications(package, &[Kind::Usim, Kind::Iot])
}

/// The files with schemes and keys of a USIM.
fn infos<'p, 'a>(usim: &Application<'p, 'a>) -> impl Iterator<Item = (&'static str, Content<'p, 'a>)> {
    let files = [BY_TERMINAL.0, BY_USIM.0].map(|name| Some((name, usim.given(name)?)));
    files.into_iter().flatten()
}

/// EF.SUCI_Calc_Info (3GPP TS 31.102 §4.4.11.8).
#[derive(Default)]
struct Info {
    /// Scheme and index of its key, by priority.
    schemes: Vec<(u8, u8)>,
    keys: Vec<Vec<u8>>,
    /// Something that belongs to no scheme or key.
    is_damaged: bool,
}

impl Info {
    /// `None` when the package does not give the content.
    fn read(file: &Content<'_, '_>) -> Option<Result<Self, TlvError>> {
        let octets = file.octets();
        (!octets.is_empty()).then(|| Self::parse(&octets))
    }

    fn parse(octets: &[u8]) -> Result<Self, TlvError> {
        let mut info = Self::default();
        let mut reader = Reader::new(octets);
        // Unused octets behind the two lists are FF.
        while reader.rest().first().is_some_and(|octet| *octet != 0xFF) {
            match reader.next_tlv()? {
                Some(list) if list.tag == Tag(0xA0) => {
                    info.is_damaged |= list.value.len() % 2 == 1;
                    info.schemes.extend(list.value.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                }
                Some(list) if list.tag == Tag(0xA1) => info.read_keys(&list)?,
                _ => info.is_damaged = true,
            }
        }
        Ok(info)
    }

    fn read_keys(&mut self, list: &Tlv<'_>) -> Result<(), TlvError> {
        let mut reader = list.children();
        let mut identifiers = 0;
        while let Some(tlv) = reader.next_tlv()? {
            match tlv.tag {
                Tag(0x80) => identifiers += 1,
                Tag(0x81) => self.keys.push(tlv.value.to_vec()),
                _ => self.is_damaged = true,
            }
        }
        self.is_damaged |= identifiers != self.keys.len();
        Ok(())
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut seen = HashSet::new();
        for (scheme, index) in &self.schemes {
            let key = usize::from(*index).checked_sub(1).and_then(|at| self.keys.get(at));
            if *scheme > PROFILE_B {
                faults.push(format!("scheme {scheme} is not known"));
            } else if !seen.insert(*scheme) {
                faults.push(format!("scheme {scheme} is listed twice"));
            } else if *scheme == NULL && *index != 0 {
                faults.push(format!("the null scheme has key index {index}"));
            } else if *scheme != NULL && key.is_none() {
                faults.push(format!("scheme {scheme} has key index {index}, of {} keys", self.keys.len()));
            } else if key.is_some_and(|key| !is_key_of(*scheme, key)) {
                let octets = key.map_or(0, Vec::len);
                faults.push(format!("key {index} of {octets} octets is no public key for scheme {scheme}"));
            }
        }
        if self.is_damaged {
            faults.push("it holds something that is neither a scheme nor a key with its identifier".to_owned());
        }
        faults
    }
}

/// Length, and for P-256 the form of the point (SEC 1 §2.3.3).
fn is_key_of(scheme: u8, key: &[u8]) -> bool {
    match scheme {
        PROFILE_A => key.len() == 32,
        PROFILE_B => matches!((key.len(), key.first()), (33, Some(2 | 3)) | (65, Some(4))),
        _ => true,
    }
}

/// U07 E: schemes and keys fit each other.
fn calculation_info(package: &Package<'_>, report: &mut Report<'_>) {
    for usim in usims(package) {
        for (name, file) in infos(&usim) {
            match Info::read(&file) {
                Some(Ok(info)) => {
                    for fault in info.faults() {
                        report.at(file.element, file.offset, format!("{name}: {fault}"));
                    }
                }
                Some(Err(error)) => report.at(file.element, file.offset, format!("{name}: {}", error.fault)),
                None => {}
            }
        }
    }
}

/// U08 W: the null scheme before another one is a mistake anywhere; as the only one, in production. A template may wait for keys.
fn null_scheme(package: &Package<'_>, report: &mut Report<'_>) {
    for usim in usims(package) {
        if !usim.has_service("ef-ust", 124) {
            continue;
        }
        let counts = if usim.has_service("ef-ust", 125) { BY_USIM.0 } else { BY_TERMINAL.0 };
        let Some(file) = usim.given(counts) else { continue };
        let Some(Ok(info)) = Info::read(&file) else { continue };
        let is_first = info.schemes.first().is_some_and(|(scheme, _)| *scheme == NULL);
        let message = match info.schemes.len() {
            2.. if is_first => "the null scheme is listed before others",
            1 if is_first && report.options.production => "the null scheme is the only one",
            _ => continue,
        };
        report.at(file.element, file.offset, format!("{counts}: {message}"));
    }
}

/// U09 E: with service 130 there is an EF.SUPI_NAI and no EF.IMSI. The file without the service is idle: U05.
fn network_specific_identifier(package: &Package<'_>, report: &mut Report<'_>) {
    for usim in usims(package) {
        let Some(table) = usim.given("ef-ust").filter(|table| is_set(&table.octets(), 130)) else { continue };
        if !["ef-supinai", "ef-supi-nai"].iter().any(|name| usim.exists(name, 0x4F09)) {
            report.at(table.element, table.offset, "service 130 is set, but there is no EF.SUPI_NAI");
        }
        if usim.exists("ef-imsi", 0x6F07) {
            let (element, offset) =
                usim.given("ef-imsi").map_or((usim.base, usim.base.tlv.offset), |imsi| (imsi.element, imsi.offset));
            report.at(element, offset, "EF.IMSI is created although service 130 is set");
        }
    }
}

/// U10 E (SAIP §9.5.11): records of EF.5GS3GPPNSC and EF.5GSN3GPPNSC.
fn security_contexts(package: &Package<'_>, report: &mut Report<'_>) {
    for usim in usims(package) {
        let Some(services) = usim.given("ef-ust").map(|table| table.octets()).filter(|table| !table.is_empty()) else {
            continue;
        };
        let must = if is_set(&services, 136) { 2 } else { 1 };
        for name in ["ef-5gs3gppnsc", "ef-5gsn3gppnsc"] {
            let Some(file) = usim.given(name) else { continue };
            let (Some(size), Some(record)) = (file.view.size(), file.view.record_len()) else { continue };
            let records = size.checked_div(record).unwrap_or_default();
            if records != must {
                let state = if must == 2 { "set" } else { "clear" };
                let message = format!("{name} has {records} records although service 136 is {state}");
                report.at(file.element, file.offset, message);
            }
        }
    }
}
