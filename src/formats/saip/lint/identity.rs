//! Numbers of the profile and the subscriber: H03 to H05, U01 to U03.

use super::applications::{applications, octets, place};
use super::tree::Made;
use super::{Report, Rule, Severity, counted};
use crate::formats::bcd;
use crate::formats::saip::ef::{self, services::has_service};
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::{Kind, primitive};
use crate::formats::saip::package::{Element, Package, child};
use crate::formats::tlv::{Reader, Tag, Tlv};
use crate::ids::{Iccid, IdError};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "H03",
        severity: Severity::Error,
        why: "the eUICC takes the field from here for an IoT profile, and every system of the operator files the profile under it",
        hint: "write the ICCID as ten octets of straight BCD, F behind the last digit",
        check: header_iccid,
    },
    Rule {
        id: "H04",
        severity: Severity::Error,
        why: "the card tells the terminal another number than the operator's systems know",
        hint: "give header and EF.ICCID the same number; EF.ICCID has swapped nibbles",
        check: same_iccid,
    },
    Rule {
        id: "H05",
        severity: Severity::Error,
        why: "terminals and portals that check the digit refuse the number",
        hint: "use 19 or 20 digits that begin with 89 and end with their Luhn digit",
        check: luhn,
    },
    Rule {
        id: "U01",
        severity: Severity::Error,
        why: "the terminal reads another subscriber, or none: no service",
        hint: "EF.IMSI is: length, then parity nibble 9 (odd) or 1 (even), swapped digits, F as pad",
        check: imsi,
    },
    Rule {
        id: "U02",
        severity: Severity::Error,
        why: "the terminal takes its home network for a foreign one, and roams or stays without service",
        hint: "octet 4 of EF.AD is the number of MNC digits, 02 or 03; write the home network with as many in every list",
        check: mnc_length,
    },
    Rule {
        id: "U03",
        severity: Severity::Warning,
        why: "at peak times networks bar by access class: a card in none, or in all, is barred or never is",
        hint: "set exactly one of the bits 0 to 9, by convention that of the last IMSI digit",
        check: access_class,
    },
];

fn iccid_of_header<'a>(package: &Package<'a>) -> Option<(Element<'a>, Tlv<'a>)> {
    let header = package.of(Kind::Header).next()?;
    Some((*header, header.member(primitive(3))?))
}

fn straight_digits(octets: &[u8]) -> Option<String> {
    let swapped: Vec<u8> = octets.iter().map(|octet| octet.rotate_left(4)).collect();
    bcd::read_swapped(&swapped).filter(|_| octets.len() == 10)
}

/// H03 E (SAIP §8.2.1): ten octets, digits, then F only.
fn header_iccid(package: &Package<'_>, report: &mut Report<'_>) {
    match iccid_of_header(package) {
        Some((header, iccid)) if straight_digits(iccid.value).is_none() => {
            report.at(&header, iccid.offset, "iccid is not ten octets of digits with F behind the last");
        }
        None => {
            if let Some(header) = package.of(Kind::Header).next() {
                report.on(header, "has no iccid");
            }
        }
        Some(_) => {}
    }
}

/// H04 E: header and EF.ICCID name the same profile.
fn same_iccid(package: &Package<'_>, report: &mut Report<'_>) {
    let Some(expected) = iccid_of_header(package).and_then(|(_, iccid)| straight_digits(iccid.value)) else { return };
    for element in package.elements.iter().filter(|element| matches!(element.kind, Kind::Mf | Kind::Iot)) {
        let Some((offset, content)) = content(element, "ef-iccid", 10) else { continue };
        if bcd::read_swapped(&content).is_none_or(|digits| digits != expected) {
            report.at(element, offset, "EF.ICCID is not the header's iccid with swapped nibbles");
        }
    }
}

/// H05 E: the Luhn digit of the ICCID; W: its first digits, which say telecommunication (ITU-T E.118 §4.1).
fn luhn(package: &Package<'_>, report: &mut Report<'_>) {
    let Some((header, iccid)) = iccid_of_header(package) else { return };
    let Some(digits) = straight_digits(iccid.value) else { return };
    match digits.parse::<Iccid>() {
        Err(IdError::CheckDigit { expected }) => {
            report.at(&header, iccid.offset, format!("the last digit of the iccid is not {expected}, its Luhn digit"));
        }
        Err(error) => report.at(&header, iccid.offset, format!("iccid {error}")),
        Ok(_) if !digits.starts_with("89") => {
            let message = "the iccid does not begin with 89".to_owned();
            report.mild(Severity::Warning, &header, iccid.offset, message);
        }
        Ok(_) => {}
    }
}

fn subscriber_elements<'p, 'a>(package: &'p Package<'a>) -> impl Iterator<Item = &'p Element<'a>> {
    package.elements.iter().filter(|element| matches!(element.kind, Kind::Usim | Kind::Iot))
}

/// The first octets of a file, and where in the package they stand.
fn content(element: &Element<'_>, file: &str, len: usize) -> Option<(usize, Vec<u8>)> {
    let view = FileView::single(&element.file(file)?)?;
    let octets = view.given(0, len)?;
    Some((
        view.writes.iter().find(|write| write.at == 0).map_or(element.file(file)?.offset, |write| write.offset),
        octets,
    ))
}

/// The digits of EF.IMSI, when it is sound.
pub(super) fn imsi_digits(octets: &[u8]) -> Option<String> {
    ef::coding(Kind::Usim, "ef-imsi")?.decode(octets, None)
}

/// U01 E (3GPP TS 31.102 §4.2.2): length octet, parity nibble, digits, pad; there unless service 130 names the subscriber
/// otherwise (U09).
fn imsi(package: &Package<'_>, report: &mut Report<'_>) {
    for element in subscriber_elements(package) {
        if let Some((offset, octets)) =
            content(element, "ef-imsi", 9).filter(|(_, octets)| imsi_digits(octets).is_none())
        {
            let message = format!(
                "EF.IMSI starts {:02X} {:02X}, which is not 6 to 15 digits in its coding",
                octets[0], octets[1]
            );
            report.at(element, offset, message);
        }
    }
    for usim in applications(report.made, &[Kind::Usim, Kind::Iot]) {
        let by_identifier = has_service(&usim.services("ef-ust"), 130);
        if !by_identifier && !usim.has("ef-imsi", 0x6F07) {
            let at = usim.base.file("ef-imsi").map_or(usim.base.tlv.offset, |file| file.offset);
            report.at(&usim.base, at, "there is no EF.IMSI, and service 130 of EF.UST is clear");
        }
    }
}

/// U02 E (3GPP TS 31.102 §4.2.18): length of the MNC, the same wherever the home network stands.
fn mnc_length(_package: &Package<'_>, report: &mut Report<'_>) {
    for usim in applications(report.made, &[Kind::Usim, Kind::Iot]) {
        let Some(data) = usim.file("ef-ad") else { continue };
        let Some(len) = mnc_len(data) else { continue };
        if !matches!(len, 2 | 3) {
            report.at(&data.element, place(data, MNC_LEN), format!("EF.AD says an MNC has {}", counted(len, "digit")));
            continue;
        }
        let imsi = usim.file("ef-imsi").and_then(|file| imsi_digits(&octets(file)));
        let Some((mcc, mnc)) = imsi.as_deref().and_then(|imsi| home_network(imsi, len)) else { continue };
        for (name, is_own, networks) in NETWORKS {
            let Some(file) = usim.file(name) else { continue };
            for (at, network) in networks(&octets(file)) {
                let (other_mcc, other) = network.split_at(3);
                // Another network of the country may have an MNC of another length; the operator's own cannot.
                let is_home = imsi.as_deref().is_some_and(|imsi| imsi.starts_with(&network))
                    || other.parse::<u16>() == mnc.parse();
                if other_mcc == mcc && other.len() != len && (*is_own || is_home) {
                    let message = format!("{name} has {mcc}-{other}, but EF.AD says an MNC has {len} digits");
                    report.at(&file.element, place(file, at), message);
                }
            }
        }
    }
}

/// MCC and MNC of an IMSI.
pub(super) fn home_network(imsi: &str, mnc_len: usize) -> Option<(&str, &str)> {
    Some((imsi.get(..3)?, imsi.get(3..3 + mnc_len)?))
}

/// Octets of EF.AD before the number of MNC digits.
const MNC_LEN: usize = 3;

/// Octet 4 of EF.AD.
pub(super) fn mnc_len(data: &Made<'_>) -> Option<usize> {
    octets(data).get(MNC_LEN).map(|octet| usize::from(octet & 0x0F))
}

/// The networks in a file, MCC and MNC in one, each with its place in the file; unused places are none.
type Networks = fn(&[u8]) -> Vec<(usize, String)>;

/// Files that name the home network; whether all of their networks are the operator's own.
const NETWORKS: &[(&str, bool, Networks)] = &[
    ("ef-ehplmn", true, |octets| list(octets, 0, 3)),
    ("ef-hplmnwact", true, |octets| list(octets, 0, 5)),
    ("ef-spdi", false, displayed),
    ("ef-loci", false, |octets| one(octets, 4)),
    ("ef-psloci", false, |octets| one(octets, 7)),
    ("ef-epsloci", false, |octets| one(octets, 12)),
    ("ef-5gs3gpploci", false, |octets| one(octets, 13)),
];

fn network(octets: &[u8]) -> Option<String> {
    ef::read_plmn(*octets.first_chunk()?).filter(|digits| matches!(digits.len(), 5 | 6))
}

/// A network at the start of each entry; the list stands at `from` in its file.
fn list(octets: &[u8], from: usize, entry: usize) -> Vec<(usize, String)> {
    let entries = octets.chunks(entry).enumerate();
    entries.filter_map(|(number, octets)| Some((from + number * entry, network(octets)?))).collect()
}

fn one(octets: &[u8], at: usize) -> Vec<(usize, String)> {
    octets.get(at..).and_then(network).map(|network| (at, network)).into_iter().collect()
}

/// EF.SPDI: a list `80` of networks in the object `A3` (3GPP TS 31.102 §4.2.66).
fn displayed(octets: &[u8]) -> Vec<(usize, String)> {
    let object = Reader::new(octets).take_if(Tag(0xA3)).ok().flatten();
    let networks = object.and_then(|object| child(&object, Tag(0x80)));
    networks.map(|networks| list(networks.value, networks.value_offset(), 3)).unwrap_or_default()
}

/// U03 W (3GPP TS 22.011 §4.2): one of the ordinary access classes, that of the last IMSI digit.
fn access_class(package: &Package<'_>, report: &mut Report<'_>) {
    for element in subscriber_elements(package) {
        let Some((offset, acc)) = content(element, "ef-acc", 2) else { continue };
        let mask = u16::from_be_bytes([acc[0], acc[1]]);
        let digits = content(element, "ef-imsi", 9).and_then(|(_, octets)| imsi_digits(&octets));
        let last = digits.and_then(|digits| digits.bytes().last()).map(|digit| 1_u16 << (digit - b'0'));
        if mask & 1 << 10 != 0 {
            report.at(element, offset, "EF.ACC sets class 10, which does not exist");
        } else if (mask & 0x3FF).count_ones() != 1 {
            report.at(
                element,
                offset,
                format!("EF.ACC {mask:04X} sets {} of the ordinary classes, not one", (mask & 0x3FF).count_ones()),
            );
        } else if last.is_some_and(|last| mask & 0x3FF != last) {
            report.at(element, offset, format!("EF.ACC {mask:04X} is not the class of the last IMSI digit"));
        }
    }
}
