//! Reads a finished package back, every value at every place that repeats it, and compares it with what the record should have.
//!
//! Knows nothing of the compiled template that made the package: it walks elements and files by name, so a place that compiling
//! overlooked shows up here as a value of the template.

mod applets;
mod check;
mod files;
mod found;

pub use check::{Expected, check};
pub use found::{Aka, Cdma, Code, Found, OtaValue, Parameter, Value};

use zeroize::Zeroizing;

use crate::formats::bcd;
use crate::formats::saip::kind::{Kind, constructed, context_number, primitive};
use crate::formats::saip::package::{Element, Package, child, children, unsigned};
use crate::formats::tlv::{Tag, Tlv, TlvError};

/// Why a package is not what it should be. Names place and field, never a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// Not strict DER.
    #[error("{0}")]
    Der(TlvError),
    /// A value is not what its place asks for.
    #[error("{place}: {field}: {what}")]
    Value {
        /// Where.
        place: String,
        /// Which value.
        field: String,
        /// What is wrong, without the value.
        what: &'static str,
    },
}

/// Reads `upp`. A place that does not have the form of its value is told as such; a secret without its place is an error.
pub fn read(upp: &[u8]) -> Result<Found, AuditError> {
    let package = Package::parse(upp).map_err(AuditError::Der)?;
    read_package(&package)
}

fn read_package(package: &Package<'_>) -> Result<Found, AuditError> {
    let mut found = Found::default();
    let mut counts = applets::Counts::default();
    let mut usims: Vec<[u8; 2]> = Vec::new();
    for element in &package.elements {
        usims.extend(files::adf_usim(element));
        match element.kind {
            Kind::Header => header(element, &mut found),
            Kind::AkaParameter => aka(element, &mut found)?,
            Kind::CdmaParameter => {
                let member = |number| Some(Zeroizing::new(element.member(primitive(number))?.value.to_vec()));
                let a_key = member(1).ok_or_else(|| wrong(element, "authenticationKey", MISSING))?;
                found.cdmas.push(Cdma { place: element.label(), a_key, ssd: member(2) });
            }
            Kind::PinCodes => pins(element, &mut found)?,
            Kind::PukCodes => {
                for puk in element.member(constructed(1)).iter().flat_map(children) {
                    found.puks.push(code(element, &puk)?);
                }
            }
            Kind::SecurityDomain => {
                ota_keys(element, &mut found)?;
                counts.domain(element, &mut found);
            }
            Kind::Rfm => counts.rfm(element, &mut found),
            Kind::Application => counts.application(element, &mut found),
            Kind::GenericFileManagement => files::made_there(element, &usims, &mut found),
            kind if kind.is_file_system() => files::of_element(element, &mut found),
            _ => {}
        }
    }
    Ok(found)
}

const MISSING: &str = "is not there";

fn header(element: &Element<'_>, found: &mut Found) {
    let member = |number| element.member(primitive(number)).map(|tlv| tlv.value);
    let place = || element.label();
    let digits = member(3).and_then(|octets| {
        let swapped: Vec<u8> = octets.iter().map(|octet| octet.rotate_left(4)).collect();
        bcd::read_swapped(&swapped)
    });
    found.put("iccid", place(), digits);
    let text =
        |octets: Option<&[u8]>| octets.map_or(Some(String::new()), |octets| String::from_utf8(octets.into()).ok());
    found.put("profile_type", place(), text(member(2)));
    found.put("pol", place(), Some(hex(member(4).unwrap_or_default())));
    found.put("connectivity_parameters", place(), Some(hex(member(7).unwrap_or_default())));
    let services = element.member(constructed(5));
    found.services.extend(services.iter().flat_map(children).filter_map(|service| context_number(service.tag)));
}

fn aka(element: &Element<'_>, found: &mut Found) -> Result<(), AuditError> {
    let Some(algo) = element.member(constructed(1)).and_then(|choice| child(&choice, constructed(1))) else {
        return Ok(());
    };
    let member = |number| child(&algo, primitive(number)).map(|tlv| tlv.value);
    let secret = |number, field| {
        member(number).map(|octets| Zeroizing::new(octets.to_vec())).ok_or_else(|| wrong(element, field, MISSING))
    };
    let id = member(0).and_then(unsigned).and_then(|id| u8::try_from(id).ok());
    let place = || element.label();
    // Defaults as in the ASN.1 module.
    let xoring: Vec<u8> = [0, 1, 2, 4, 8].iter().flat_map(|last| [vec![0; 15], vec![*last]].concat()).collect();
    let (rotation, xoring) = (member(4).unwrap_or(&[0x40, 0, 0x20, 0x40, 0x60]), member(5).unwrap_or(&xoring));
    found.akas.push(Aka {
        place: place(),
        algorithm: id.ok_or_else(|| wrong(element, "algorithmID", MISSING))?,
        k: secret(2, "key")?,
        opc: secret(3, "opc")?,
        constants: [rotation, xoring].concat(),
    });
    found.put("rotation_constants", place(), Some(hex(rotation)));
    found.put("xoring_constants", place(), Some(hex(xoring)));
    found.put("auth_counter_max", place(), Some(hex(member(6).unwrap_or_default())));
    for (number, name) in [(3, "sqn_delta"), (4, "sqn_age_limit")] {
        let octets = element.member(primitive(number));
        found.put(name, place(), Some(octets.map_or("000010000000".into(), |tlv| hex(tlv.value))));
    }
    let values: Vec<String> = match element.member(constructed(5)) {
        Some(list) => children(&list).map(|value| hex(value.value)).collect(),
        None => vec!["000000000000".to_owned(); 32],
    };
    found.put("sqn", place(), (values.len() == 32).then(|| values.join(",")));
    Ok(())
}

fn pins(element: &Element<'_>, found: &mut Found) -> Result<(), AuditError> {
    let list = element.member(constructed(1)).and_then(|choice| child(&choice, constructed(0)));
    for pin in list.iter().flat_map(children) {
        let code = code(element, &pin)?;
        let name = match code.reference {
            1..=8 => Some("pin1_state"),
            0x81..=0x88 => Some("pin2_state"),
            _ => None,
        };
        let octet = |number, default| child(&pin, primitive(number)).map_or(Some(default), |tlv| unsigned(tlv.value));
        if let Some(name) = name {
            let state = || {
                let (attributes, attempts) = (octet(3, 7)?, octet(4, 0x33)?);
                let word = if attributes & 1 == 1 { "enabled" } else { "disabled" };
                Some(format!("{word} {}/{}", attempts & 15, attempts >> 4))
            };
            found.put(name, format!("{} reference {:02X}", element.label(), code.reference), state());
        }
        found.pins.push(code);
    }
    Ok(())
}

fn code(element: &Element<'_>, code: &Tlv<'_>) -> Result<Code, AuditError> {
    let reference = child(code, primitive(0)).and_then(|octets| unsigned(octets.value));
    let reference = reference.and_then(|reference| u8::try_from(reference).ok());
    let reference = reference.ok_or_else(|| wrong(element, "keyReference", MISSING))?;
    let value = child(code, primitive(1)).ok_or_else(|| wrong(element, "the value of a code", MISSING))?;
    Ok(Code { place: element.label(), reference, value: Zeroizing::new(value.value.to_vec()) })
}

fn ota_keys(element: &Element<'_>, found: &mut Found) -> Result<(), AuditError> {
    let domain = found.domains;
    found.domains = domain.saturating_add(1);
    for key in element.member(constructed(2)).iter().flat_map(children) {
        let octet = |tlv: &Tlv<'_>, number| child(tlv, primitive(number)).and_then(|tlv| tlv.value.first().copied());
        let (Some(id), Some(version)) = (octet(&key, 2), octet(&key, 3)) else {
            return Err(wrong(element, "the id or version of a key", MISSING));
        };
        for (at, part) in child(&key, Tag(0x30)).iter().flat_map(children).enumerate() {
            let key_type = octet(&part, 0).unwrap_or_default();
            if let (true, Some(data)) = (is_secret(key_type), child(&part, primitive(6))) {
                let value = Zeroizing::new(data.value.to_vec());
                found.ota_keys.push(OtaValue { domain, version, id, key_type, component: at as u8, value });
            }
        }
    }
    Ok(())
}

/// Symmetric keys: DES, TLS-PSK, AES, HMAC (GlobalPlatform Card Specification §11.1.8).
fn is_secret(key_type: u8) -> bool {
    matches!(key_type, 0x80..=0x88 | 0x90..=0x92)
}

fn hex(octets: &[u8]) -> String {
    data_encoding::HEXUPPER.encode(octets)
}

fn wrong(element: &Element<'_>, field: &str, what: &'static str) -> AuditError {
    AuditError::Value { place: element.label(), field: field.to_owned(), what }
}
