//! Writes certificates of the SGP.22 profiles: the parts of RFC 5280 that they use, nothing more.
//! Strict DER through `formats::tlv`; one certificate takes the time of its signature and little else.

use jiff::Timestamp;
use openssl::ec::EcKey;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::pkey::Private;
use openssl::rand::rand_bytes;
use openssl::sha::{sha1, sha256};

use super::oid;
use super::point;
use crate::formats::curve::Curve;
use crate::formats::tlv::{self, Tag};

const SEQUENCE: Tag = Tag(0x30);
const SET: Tag = Tag(0x31);
const OID: Tag = Tag(0x06);
const INTEGER: Tag = Tag(0x02);
const OCTET_STRING: Tag = Tag(0x04);
const BIT_STRING: Tag = Tag(0x03);
const BOOLEAN: Tag = Tag(0x01);
const UTF8_STRING: Tag = Tag(0x0C);
const PRINTABLE_STRING: Tag = Tag(0x13);

/// What a certificate says besides its key.
pub(crate) struct Wording<'a> {
    pub(crate) subject: Vec<u8>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) policy: Option<&'a str>,
    pub(crate) usage: Usage,
    pub(crate) more: Vec<Vec<u8>>,
}

/// basicConstraints and keyUsage of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// CA, with the intermediate certificates that may follow.
    Authority { path_length: Option<u8> },
    /// digitalSignature.
    Signer,
}

/// Who signs: name and key identifier go into what it issues.
pub(crate) struct Issuer<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) key: &'a EcKey<Private>,
}

/// A signed certificate over `point`, DER; an error when the point is on no curve of ours.
pub(crate) fn certificate(issuer: &Issuer<'_>, point: &[u8; 65], wording: &Wording<'_>) -> Result<Vec<u8>, ErrorStack> {
    let algorithm = tlv::wrap(SEQUENCE, &[&object("1.2.840.10045.4.3.2")]);
    let validity = tlv::wrap(SEQUENCE, &[&time(wording.not_before), &time(wording.not_after)]);
    let curve = Curve::of_point(point).ok_or_else(ErrorStack::get)?;
    let curve = tlv::wrap(SEQUENCE, &[&object("1.2.840.10045.2.1"), curve.params_der()]);
    let spki = tlv::wrap(SEQUENCE, &[&curve, &tlv::wrap(BIT_STRING, &[&[0], point])]);
    let mut extensions = vec![
        extension("2.5.29.14", false, &tlv::wrap(OCTET_STRING, &[&sha1(point)])),
        extension(
            "2.5.29.35",
            false,
            &tlv::wrap(SEQUENCE, &[&tlv::wrap(Tag(0x80), &[&sha1(&point::point_of(issuer.key)?)])]),
        ),
    ];
    if let Some(policy) = wording.policy {
        let one = tlv::wrap(SEQUENCE, &[&object(policy)]);
        extensions.push(extension("2.5.29.32", true, &tlv::wrap(SEQUENCE, &[&one])));
    }
    match wording.usage {
        Usage::Authority { path_length } => {
            let limit = path_length.map_or(Vec::new(), |n| tlv::wrap(INTEGER, &[&[n]]));
            extensions.push(extension("2.5.29.15", true, &[0x03, 0x02, 0x01, 0x06])); // keyCertSign, cRLSign
            let basic = tlv::wrap(SEQUENCE, &[&tlv::wrap(BOOLEAN, &[&[0xFF]]), &limit]);
            extensions.push(extension("2.5.29.19", true, &basic));
        }
        Usage::Signer => extensions.push(extension("2.5.29.15", true, &[0x03, 0x02, 0x07, 0x80])), // digitalSignature
    }
    extensions.extend(wording.more.iter().cloned());
    let tbs = tlv::wrap(
        SEQUENCE,
        &[
            &[0xA0, 0x03, 0x02, 0x01, 0x02], // version 3
            &tlv::wrap(INTEGER, &[&serial()?]),
            &algorithm,
            issuer.name,
            &validity,
            &wording.subject,
            &spki,
            &tlv::wrap(Tag(0xA3), &[&tlv::wrap(SEQUENCE, &[&extensions.concat()])]),
        ],
    );
    let signature = EcdsaSig::sign(&sha256(&tbs), issuer.key)?.to_der()?;
    Ok(tlv::wrap(SEQUENCE, &[&tbs, &algorithm, &tlv::wrap(BIT_STRING, &[&[0], &signature])]))
}

/// A distinguished name: organisation, common name, serial number, those that are given.
pub(crate) fn name(organization: Option<&str>, common_name: Option<&str>, serial_number: Option<&str>) -> Vec<u8> {
    let part = |dotted: &str, tag: Tag, text: Option<&str>| {
        text.map_or(Vec::new(), |text| {
            let value = tlv::wrap(SEQUENCE, &[&object(dotted), &tlv::wrap(tag, &[text.as_bytes()])]);
            tlv::wrap(SET, &[&value])
        })
    };
    tlv::wrap(
        SEQUENCE,
        &[
            &part("2.5.4.10", UTF8_STRING, organization),
            &part("2.5.4.3", UTF8_STRING, common_name),
            &part("2.5.4.5", PRINTABLE_STRING, serial_number),
        ],
    )
}

/// One extension; `value` is the DER inside its OCTET STRING.
pub(crate) fn extension(dotted: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let flag = if critical { tlv::wrap(BOOLEAN, &[&[0xFF]]) } else { Vec::new() };
    tlv::wrap(SEQUENCE, &[&object(dotted), &flag, &tlv::wrap(OCTET_STRING, &[value])])
}

/// subjectAltName with one RegisteredID: the SM-DP+'s OID.
pub(crate) fn registered_id(dotted: &str) -> Vec<u8> {
    let id = tlv::wrap(Tag(0x88), &[&oid::encode(dotted).unwrap_or_default()]);
    extension("2.5.29.17", false, &tlv::wrap(SEQUENCE, &[&id]))
}

/// EUM limit of v2: critical nameConstraints with one directory name {O, serialNumber = EIN}.
pub(crate) fn name_constraints(organization: &str, ein: &str) -> Vec<u8> {
    let base = tlv::wrap(Tag(0xA4), &[&name(Some(organization), None, Some(ein))]);
    let permitted = tlv::wrap(Tag(0xA0), &[&tlv::wrap(SEQUENCE, &[&base])]);
    extension("2.5.29.30", true, &tlv::wrap(SEQUENCE, &[&permitted]))
}

/// EUM limit of v3: permittedEins.
pub(crate) fn permitted_eins(eins: &[&str]) -> Vec<u8> {
    let all: Vec<u8> = eins.iter().flat_map(|ein| tlv::wrap(PRINTABLE_STRING, &[ein.as_bytes()])).collect();
    extension(super::certificate::PERMITTED_EINS, true, &tlv::wrap(SEQUENCE, &[&all]))
}

/// An object identifier.
pub(crate) fn object(dotted: &str) -> Vec<u8> {
    tlv::wrap(OID, &[&oid::encode(dotted).unwrap_or_default()])
}

/// 9 random octets, positive and without a leading zero: longer than 64 bits, as real ones are.
fn serial() -> Result<[u8; 9], ErrorStack> {
    let mut serial = [0; 9];
    rand_bytes(&mut serial)?;
    serial[0] = serial[0] & 0x3F | 0x40;
    Ok(serial)
}

/// UTCTime until 2049, GeneralizedTime from 2050 on (RFC 5280 §4.1.2.5).
fn time(at: Timestamp) -> Vec<u8> {
    let utc = at.to_zoned(jiff::tz::TimeZone::UTC);
    if utc.year() < 2050 {
        tlv::wrap(Tag(0x17), &[utc.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()])
    } else {
        tlv::wrap(Tag(0x18), &[utc.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes()])
    }
}
