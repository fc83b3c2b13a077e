//! Reads a finished package back: every value, at every place that repeats it.
//!
//! Knows nothing of the compiled template that made the package: it walks elements and files by name, so a place that compiling
//! overlooked shows up here as a value of the template.

use std::fmt;

use zeroize::Zeroizing;

use crate::formats::bcd;
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::{Kind, constructed, primitive};
use crate::formats::saip::package::{Element, Package, child, children, unsigned};
use crate::formats::tlv::{Tag, Tlv, TlvError};

/// The authentication parameters of one akaParameter.
pub struct Aka {
    /// Label of the element.
    pub place: String,
    /// `algorithmID`: 1 Milenage, 2 TUAK, 3 the USIM test algorithm.
    pub algorithm: u8,
    /// K.
    pub k: Zeroizing<Vec<u8>>,
    /// OPc or TOPc.
    pub opc: Zeroizing<Vec<u8>>,
}

/// A PIN, PUK or ADM with its reference.
pub struct Code {
    /// Label of the element.
    pub place: String,
    /// Key reference: 1 PIN1, 81 PIN2, 0A ADM1, ...
    pub reference: u8,
    /// The octets as they stand there.
    pub value: Zeroizing<Vec<u8>>,
}

/// A key of a security domain.
pub struct OtaValue {
    /// The security domain, from 0 in package order.
    pub domain: u8,
    /// Key version number.
    pub version: u8,
    /// Key identifier.
    pub id: u8,
    /// Key type.
    pub key_type: u8,
    /// Component of the key object, from 0.
    pub component: u8,
    /// The key.
    pub value: Zeroizing<Vec<u8>>,
}

/// The secrets of one cdmaParameter.
pub struct Cdma {
    /// Label of the element.
    pub place: String,
    /// `authenticationKey`.
    pub a_key: Zeroizing<Vec<u8>>,
    /// `ssd`, where there is one.
    pub ssd: Option<Zeroizing<Vec<u8>>>,
}

/// Everything personal in a package.
#[derive(Default)]
pub struct Found {
    /// ICCIDs as digits: header, EF.ICCID.
    pub iccids: Vec<String>,
    /// IMSIs as digits: EF.IMSI of every USIM, user parts of IMPI and IMPU.
    pub imsis: Vec<String>,
    /// EF.ACC of every USIM.
    pub accs: Vec<u16>,
    /// EF.MSISDN, records that hold a number; numbers in IMPUs.
    pub msisdns: Vec<String>,
    /// Every akaParameter with an algoParameter.
    pub akas: Vec<Aka>,
    /// Every cdmaParameter.
    pub cdmas: Vec<Cdma>,
    /// PINs and ADMs of every context.
    pub pins: Vec<Code>,
    /// PUKs.
    pub puks: Vec<Code>,
    /// Secret keys of every security domain.
    pub ota_keys: Vec<OtaValue>,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Found(redacted)")
    }
}

/// Why a package could not be read back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// Not strict DER.
    #[error("{0}")]
    Der(TlvError),
    /// A value is not what its place asks for.
    #[error("{place}: {what}")]
    Value {
        /// Where.
        place: String,
        /// What is wrong, without the value.
        what: &'static str,
    },
}

/// Reads `upp`.
pub fn read(upp: &[u8]) -> Result<Found, AuditError> {
    let package = Package::parse(upp).map_err(AuditError::Der)?;
    let mut found = Found::default();
    let mut domain = 0_u8;
    for element in &package.elements {
        match element.kind {
            Kind::Header => {
                let octets = element.member(primitive(3)).map(|iccid| iccid.value).unwrap_or_default();
                let swapped: Vec<u8> = octets.iter().map(|octet| octet.rotate_left(4)).collect();
                found.iccids.push(digits(&swapped, element, "the header's iccid is not digits")?);
            }
            Kind::AkaParameter => found.akas.extend(aka(element)?),
            Kind::CdmaParameter => {
                let member = |number| Some(Zeroizing::new(element.member(primitive(number))?.value.to_vec()));
                let a_key = member(1).ok_or_else(|| wrong(element, "has no authenticationKey"))?;
                found.cdmas.push(Cdma { place: element.label(), a_key, ssd: member(2) });
            }
            Kind::PinCodes => found.pins.extend(codes(element, true)?),
            Kind::PukCodes => found.puks.extend(codes(element, false)?),
            Kind::SecurityDomain => {
                found.ota_keys.extend(ota_keys(element, domain)?);
                domain = domain.saturating_add(1);
            }
            Kind::GenericFileManagement => {
                for file in FileView::of_gfm(&element.tlv) {
                    if let (Some([0x2F, 0xE2]), Some(octets)) = (file.file_id(), file.given(0, 10)) {
                        found.iccids.push(digits(&octets, element, "EF.ICCID is not digits")?);
                    }
                }
            }
            Kind::Mf | Kind::Usim | Kind::Iot | Kind::OptUsim | Kind::Isim => files(element, &mut found)?,
            _ => {}
        }
    }
    Ok(found)
}

fn files(element: &Element<'_>, found: &mut Found) -> Result<(), AuditError> {
    let view = |name| element.file(name).and_then(|file| FileView::single(&file));
    if let Some(octets) = view("ef-iccid").and_then(|file| file.given(0, 10)) {
        found.iccids.push(digits(&octets, element, "EF.ICCID is not digits")?);
    }
    if let Some(octets) = view("ef-imsi").and_then(|file| file.given(0, 9)) {
        let text = digits(&octets[1..], element, "EF.IMSI is not digits")?;
        // The first digit is the parity, 9 or 1.
        let imsi = text.get(1..).unwrap_or_default().to_owned();
        if bcd::ef_imsi(&imsi)[..] != octets {
            return Err(wrong(element, "EF.IMSI does not follow its own length and parity"));
        }
        found.imsis.push(imsi);
    }
    if let Some([high, low]) = view("ef-acc").and_then(|file| file.given(0, 2)).as_deref() {
        found.accs.push(u16::from_be_bytes([*high, *low]));
    }
    if let Some(file) = view("ef-msisdn") {
        let record = file.record_len().unwrap_or(24);
        if let Some(octets) = file.given(0, record).filter(|octets| octets.len() >= 14 && octets[record - 14] != 0xFF) {
            found.msisdns.push(digits(&octets[record - 12..record - 2], element, "EF.MSISDN is not digits")?);
        }
    }
    for name in ["ef-impi", "ef-impu"] {
        let Some(file) = view(name).filter(|_| element.kind == Kind::Isim) else { continue };
        let size = file.size().unwrap_or(file.written_len());
        let record = file.record_len().unwrap_or(size).max(1);
        for octets in file.content(size).chunks(record) {
            let octets: Vec<u8> = octets.iter().map_while(|octet| *octet).collect();
            if let Some(text) = identity(&octets) {
                let user = text.trim_start_matches("sip:").split('@').next().unwrap_or_default();
                if let Some(number) = user.trim_start_matches("tel:").strip_prefix('+') {
                    found.msisdns.push(number.to_owned());
                } else if user.bytes().all(|b| b.is_ascii_digit()) {
                    found.imsis.push(user.to_owned());
                }
            }
        }
    }
    Ok(())
}

/// Text of a TLV `80`.
fn identity(octets: &[u8]) -> Option<&str> {
    let [0x80, len, text @ ..] = octets else { return None };
    text.get(..usize::from(*len)).and_then(|text| std::str::from_utf8(text).ok())
}

fn aka(element: &Element<'_>) -> Result<Option<Aka>, AuditError> {
    let Some(algo) = element.member(constructed(1)).and_then(|choice| child(&choice, constructed(1))) else {
        return Ok(None);
    };
    let member = |number| child(&algo, primitive(number)).map(|tlv| Zeroizing::new(tlv.value.to_vec()));
    let id = child(&algo, primitive(0)).and_then(|id| unsigned(id.value)).and_then(|id| u8::try_from(id).ok());
    match (id, member(2), member(3)) {
        (Some(algorithm), Some(k), Some(opc)) => Ok(Some(Aka { place: element.label(), algorithm, k, opc })),
        _ => Err(wrong(element, "algoParameter has no algorithmID, key or opc")),
    }
}

fn codes(element: &Element<'_>, explicit: bool) -> Result<Vec<Code>, AuditError> {
    let list = element.member(constructed(1));
    let list = if explicit { list.and_then(|choice| child(&choice, constructed(0))) } else { list };
    let read = |code: Tlv<'_>| {
        let reference = child(&code, primitive(0)).and_then(|octets| unsigned(octets.value));
        let value = child(&code, primitive(1)).ok_or_else(|| wrong(element, "a code has no value"))?;
        let reference = reference.and_then(|reference| u8::try_from(reference).ok());
        let reference = reference.ok_or_else(|| wrong(element, "a code has no reference"))?;
        Ok(Code { place: element.label(), reference, value: Zeroizing::new(value.value.to_vec()) })
    };
    list.iter().flat_map(children).map(read).collect()
}

fn ota_keys(element: &Element<'_>, domain: u8) -> Result<Vec<OtaValue>, AuditError> {
    let mut found = Vec::new();
    for key in element.member(constructed(2)).iter().flat_map(children) {
        let octet = |tlv: &Tlv<'_>, number| child(tlv, primitive(number)).and_then(|tlv| tlv.value.first().copied());
        let (Some(id), Some(version)) = (octet(&key, 2), octet(&key, 3)) else {
            return Err(wrong(element, "a key has no id or version"));
        };
        for (at, part) in child(&key, Tag(0x30)).iter().flat_map(children).enumerate() {
            let key_type = octet(&part, 0).unwrap_or_default();
            if let (true, Some(data)) = (is_secret(key_type), child(&part, primitive(6))) {
                let value = Zeroizing::new(data.value.to_vec());
                found.push(OtaValue { domain, version, id, key_type, component: at as u8, value });
            }
        }
    }
    Ok(found)
}

/// Symmetric keys: DES, TLS-PSK, AES, HMAC (GlobalPlatform Card Specification §11.1.8).
fn is_secret(key_type: u8) -> bool {
    matches!(key_type, 0x80..=0x88 | 0x90..=0x92)
}

fn digits(octets: &[u8], element: &Element<'_>, what: &'static str) -> Result<String, AuditError> {
    bcd::read_swapped(octets).ok_or_else(|| wrong(element, what))
}

fn wrong(element: &Element<'_>, what: &'static str) -> AuditError {
    AuditError::Value { place: element.label(), what }
}
