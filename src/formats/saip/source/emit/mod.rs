//! From the words of a source to elements. Tags and lengths come from the typed layer; these files map, they do not count.

mod elements;
mod files;

use std::collections::BTreeSet;
use std::ops::Range;

use rasn::prelude::OctetString;
use toml::Spanned;

use super::Wrong;
use super::schema::{self, Body, Element, Hex, Source};
use crate::formats::bcd;
use crate::formats::saip::kind::{Kind, constructed, primitive};
use crate::formats::saip::services::service_number;
use crate::formats::saip::types::{self, PeHeader};
use crate::formats::tlv::{self, Tag};

/// DER of 2.23.143.1.2, the arc of all templates.
const TEMPLATE_ARC: [u8; 5] = [0x67, 0x81, 0x0F, 0x01, 0x02];

/// The whole package: header, elements, end.
pub(super) fn package(source: &Source) -> Result<Vec<u8>, Wrong> {
    let mut templates = BTreeSet::new();
    let mut body = Vec::new();
    // The identifications that are counted go around those that are given.
    let given: BTreeSet<u16> = source.elements.iter().filter_map(|element| element.get_ref().id).collect();
    let mut counted = (1..=u16::MAX >> 1).filter(|id| !given.contains(id));
    for spanned in &source.elements {
        let element = spanned.get_ref();
        let wrong = |what: &str| Wrong { at: spanned.span(), what: what.to_owned() };
        let id = match element.id {
            Some(id) => id,
            None => counted.next().ok_or_else(|| wrong("is one element too many"))?,
        };
        let mandated = element.mandated.unwrap_or(true).then_some(());
        let context = Context { header: PeHeader { mandated, identification: id }, span: spanned.span() };
        body.extend(context.element(element, &mut templates)?);
    }
    let id = counted.next().unwrap_or(u16::MAX >> 1);
    let end = Context { header: PeHeader { mandated: Some(()), identification: id }, span: 0..0 };
    let end = end.tagged(Kind::End, &types::End { header: end.header.clone() })?;
    let missing = || Wrong { at: 0..0, what: "missing field `header`".into() };
    let mut package = header(source.header.as_ref().ok_or_else(missing)?, &templates)?;
    package.extend(body);
    package.extend(end);
    Ok(package)
}

fn header(spanned: &Spanned<schema::Header>, used: &BTreeSet<Vec<u8>>) -> Result<Vec<u8>, Wrong> {
    let header = spanned.get_ref();
    let missing = |key: &str| Wrong { at: spanned.span(), what: format!("missing field `{key}` of the header") };
    let version = header.version.as_ref().ok_or_else(|| missing("version"))?;
    let numbers = version.get_ref().split_once('.').map(|(major, minor)| (major.parse::<u8>(), minor.parse::<u8>()));
    let Some((Ok(major), Ok(minor))) = numbers else {
        return Err(Wrong { at: version.span(), what: "version is not MAJOR.MINOR, such as 2.3".into() });
    };
    let spanned_iccid = header.iccid.as_ref().ok_or_else(|| missing("iccid"))?;
    let iccid = spanned_iccid.get_ref();
    if !matches!(iccid.len(), 18..=20) || !iccid.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(Wrong { at: spanned_iccid.span(), what: "iccid is not 18 to 20 digits".into() });
    }
    let mut numbers = BTreeSet::new();
    for service in header.services.as_ref().ok_or_else(|| missing("services"))? {
        let unknown = || Wrong { at: service.span(), what: format!("no service is called {:?}", service.get_ref()) };
        numbers.insert(service_number(service.get_ref()).ok_or_else(unknown)?);
    }
    let services: Vec<u8> = numbers.iter().flat_map(|number| tlv::wrap(primitive(*number), &[])).collect();
    let named: Option<Result<Vec<_>, Wrong>> =
        header.templates.as_ref().map(|templates| templates.iter().map(template_oid).collect());
    let oids = named.unwrap_or_else(|| Ok(used.iter().cloned().collect()))?;
    let oids: Vec<u8> = oids.iter().flat_map(|oid| tlv::wrap(Tag(0x06), &[oid])).collect();
    let aid = |aid: &schema::MandatoryAid| {
        tlv::wrap(Tag(0x30), &[&tlv::wrap(primitive(0), &[&aid.aid.0]), &tlv::wrap(primitive(1), &[&aid.version.0])])
    };
    let aids: Vec<u8> = header.aids.iter().flatten().flat_map(aid).collect();
    let optional = |number, value: &Option<Hex>| value.as_ref().map(|hex| tlv::wrap(primitive(number), &[&hex.0]));
    let iot = header.iot_pix.as_ref().map(|pix| tlv::wrap(constructed(9), &[&tlv::wrap(primitive(0), &[&pix.0])]));
    let major = tlv::wrap(primitive(0), &[&integer(major)]);
    let minor = tlv::wrap(primitive(1), &[&integer(minor)]);
    let members = [
        major,
        minor,
        header.profile_type.as_ref().map(|name| tlv::wrap(primitive(2), &[name.as_bytes()])).unwrap_or_default(),
        tlv::wrap(primitive(3), &[&bcd::straight::<10>(iccid)]),
        optional(4, &header.pol).unwrap_or_default(),
        tlv::wrap(constructed(5), &[&services]),
        tlv::wrap(constructed(6), &[&oids]),
        optional(7, &header.connectivity).unwrap_or_default(),
        if aids.is_empty() { Vec::new() } else { tlv::wrap(constructed(8), &[&aids]) },
        iot.unwrap_or_default(),
    ];
    Ok(tlv::wrap(constructed(0), &members.each_ref().map(Vec::as_slice)))
}

/// The value of an INTEGER of one octet: above 127 a zero goes before it.
fn integer(number: u8) -> Vec<u8> {
    if number < 0x80 { vec![number] } else { vec![0, number] }
}

/// What an element needs from its place.
struct Context {
    header: PeHeader,
    span: Range<usize>,
}

impl Context {
    fn element(&self, element: &Element, templates: &mut BTreeSet<Vec<u8>>) -> Result<Vec<u8>, Wrong> {
        let header = self.header.clone();
        let Some(body) = element.body() else {
            return Err(self.wrong("an [[element]] names one element, such as [element.usim], and no second"));
        };
        match body {
            Body::FileSystem(kind, files) => self.file_system(kind, files, templates),
            Body::GenericFileManagement(files) => {
                self.tagged(Kind::GenericFileManagement, &self.file_management(header, files)?)
            }
            Body::PinCodes(pins) => self.tagged(Kind::PinCodes, &elements::pin_codes(header, pins)),
            Body::PukCodes(puks) => self.tagged(Kind::PukCodes, &elements::puk_codes(header, puks)),
            Body::AkaParameter(aka) => self.tagged(Kind::AkaParameter, &elements::aka_parameter(header, aka)),
            Body::CdmaParameter(cdma) => self.tagged(Kind::CdmaParameter, &elements::cdma_parameter(header, cdma)),
            Body::SecurityDomain(domain) => self.tagged(Kind::SecurityDomain, &self.security_domain(header, domain)?),
            Body::Rfm(instance) => self.tagged(Kind::Rfm, &elements::rfm(header, instance)),
            Body::Application(application) => self.tagged(Kind::Application, &self.application(header, application)?),
            Body::NonStandard(it) => self.tagged(Kind::NonStandard, &elements::non_standard(header, it)?),
            Body::Raw(hex) => {
                tlv::check_strict(&hex.0).map_err(|e| self.wrong(&format!("raw: {e}")))?;
                Ok(hex.0.clone())
            }
        }
    }

    /// The element's alternative is an IMPLICIT tag over the SEQUENCE.
    fn tagged<T: rasn::Encode>(&self, kind: Kind, sequence: &T) -> Result<Vec<u8>, Wrong> {
        retag(kind.tag().unwrap_or(Tag(0x30)), &self.encoded(sequence)?)
    }

    fn encoded<T: rasn::Encode>(&self, value: &T) -> Result<Vec<u8>, Wrong> {
        rasn::der::encode(value).map_err(|e| self.wrong(&e.to_string()))
    }

    fn wrong(&self, what: &str) -> Wrong {
        Wrong { at: self.span.clone(), what: what.to_owned() }
    }
}

fn template_oid(tail: &Spanned<String>) -> Result<Vec<u8>, Wrong> {
    let arcs: Option<Vec<u8>> =
        tail.get_ref().split('.').map(|arc| arc.parse::<u8>().ok().filter(|arc| *arc < 0x80)).collect();
    let what = || format!("template {:?} is not the last arcs of 2.23.143.1.2.x", tail.get_ref());
    let arcs = arcs.ok_or_else(|| Wrong { at: tail.span(), what: what() })?;
    Ok([&TEMPLATE_ARC[..], &arcs].concat())
}

fn octets(hex: &Hex) -> OctetString {
    OctetString::from_slice(&hex.0)
}

fn retag(tag: Tag, sequence: &[u8]) -> Result<Vec<u8>, Wrong> {
    Ok(tlv::wrap(tag, &[tlv::single(sequence, Tag(0x30))?.value]))
}
