//! The ProfileHeader in words (SAIP §8.2).

use super::words::{self, hex};
use super::{Facts, Members};
use crate::formats::saip::kind::{constructed, context_number, primitive};
use crate::formats::saip::package::children;
use crate::formats::saip::services::service_name;
use crate::formats::tlv::Tlv;

pub(super) fn facts<'a>(members: &mut Members<'a>, facts: &mut Facts<'a>) {
    if let (Some(major), Some(minor)) = (members.take(primitive(0)), members.take(primitive(1))) {
        let number = |tlv: &Tlv<'_>| crate::formats::saip::package::unsigned(tlv.value).unwrap_or_default();
        let version = format!("{}.{}", number(&major), number(&minor));
        facts.of_many("SAIP version", vec![major.whole, minor.whole], version);
    }
    if let Some(name) = members.take(primitive(2)) {
        facts.add("profile type", &name, format!("{:?}", String::from_utf8_lossy(name.value)));
    }
    if let Some(iccid) = members.take(primitive(3)) {
        facts.add("ICCID", &iccid, hex(iccid.value).trim_end_matches('F').to_owned());
    }
    if let Some(policy) = members.take(primitive(4)) {
        facts.hex("policy rules", &policy);
    }
    if let Some(services) = members.take(constructed(5)) {
        let names = children(&services).map(|tlv| match context_number(tlv.tag) {
            Some(number) if service_name(number) != "unknown service" => service_name(number).to_owned(),
            _ => format!("[{}]", tlv.tag),
        });
        facts.add("services", &services, names.collect::<Vec<_>>().join(", "));
    }
    if let Some(templates) = members.take(constructed(6)) {
        let names: Vec<_> = children(&templates).map(|tlv| template_name(tlv.value)).collect();
        facts.add("templates", &templates, names.join(", "));
    }
    if let Some(parameters) = members.take(primitive(7)) {
        facts.add("connectivity", &parameters, words::some_hex(parameters.value, 32));
    }
    if let Some(aids) = members.take(constructed(8)) {
        let names: Vec<_> = children(&aids).map(|aid| words::some_hex(aid.value, 32)).collect();
        facts.add("mandatory AIDs", &aids, names.join(", "));
    }
    if let Some(options) = members.take(constructed(9)) {
        let pix = children(&options).find(|tlv| tlv.tag == primitive(0));
        facts.add("IoT options", &options, pix.map_or("none".to_owned(), |pix| format!("PIX {}", hex(pix.value))));
    }
}

/// `ADF.USIM (4)`: what a template OID stands for and its last arcs; the whole OID when it is none of Annex B.
pub(super) fn template_name(oid: &[u8]) -> String {
    let dotted = words::oid(oid);
    let Some(tail) = dotted.strip_prefix("2.23.143.1.2.") else { return dotted };
    let name = match tail.split('.').next().unwrap_or_default() {
        "1" => "MF",
        "2" => "DF.CD",
        "3" => "DF.TELECOM",
        "4" => "ADF.USIM",
        "5" => "USIM optional",
        "6" => "DF.PHONEBOOK",
        "7" => "DF.GSM-ACCESS",
        "8" => "ADF.ISIM",
        "9" => "ISIM optional",
        "10" => "ADF.CSIM",
        "11" => "CSIM optional",
        "12" => "DF.EAP",
        "13" => "DF.5GS",
        "14" => "DF.SAIP",
        "15" => "DF.SNPN",
        "16" => "DF.5GPROSE",
        "17" => "IoT",
        "18" => "IoT optional",
        "19" => "SSIM",
        _ => return dotted,
    };
    format!("{name} ({tail})")
}
