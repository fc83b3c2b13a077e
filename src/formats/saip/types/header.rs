//! ProfileHeader (SAIP §8.2), and the PE header that every other element has.
#![allow(missing_docs)] // the names are the specification's

use rasn::prelude::*;

use super::shape::{self, AID, Member, NULL, OCTETS, OID, Shape, UINT8, UINT15, automatic, exactly, may, must};
use crate::formats::saip::kind::primitive;
use crate::formats::saip::services::SERVICES;

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct PeHeader {
    pub mandated: Option<()>,
    #[rasn(value("0..=32767"))]
    pub identification: u16,
}

pub(super) const PE_HEADER: &[Member] = &automatic([may("mandated", NULL), must("identification", UINT15)]);

/// The first member of nearly every element.
pub(super) const fn pe_header(name: &'static str) -> Member {
    must(name, Shape::Sequence(PE_HEADER))
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct ProfileHeader {
    pub major_version: u8,
    pub minor_version: u8,
    pub profile_type: Option<Utf8String>,
    #[rasn(size("10"))]
    pub iccid: OctetString,
    pub pol: Option<OctetString>,
    pub mandatory_services: ServicesList,
    pub mandatory_gfste_list: SequenceOf<ObjectIdentifier>,
    pub connectivity_parameters: Option<OctetString>,
    pub mandatory_aids: Option<SequenceOf<MandatoryAid>>,
    pub iot_options: Option<IotOptions>,
}

pub(super) const PROFILE_HEADER: &[Member] = &automatic([
    must("major-version", UINT8),
    must("minor-version", UINT8),
    may("profileType", Shape::Text { min: 1, max: 100 }),
    must("iccid", exactly(10)),
    may("pol", OCTETS),
    must("eUICC-Mandatory-services", Shape::Sequence(SERVICES_LIST)),
    must(
        "eUICC-Mandatory-GFSTEList",
        Shape::ListOf { item: &must("templateID", OID).tagged(0x06), min: 0, max: usize::MAX },
    ),
    may("connectivityParameters", OCTETS),
    may(
        "eUICC-Mandatory-AIDs",
        Shape::ListOf { item: &shape::sequence_item("aid", MANDATORY_AID), min: 0, max: usize::MAX },
    ),
    may("iotOptions", Shape::Sequence(IOT_OPTIONS)),
]);

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct MandatoryAid {
    #[rasn(size("5..=16"))]
    pub aid: OctetString,
    #[rasn(size("2"))]
    pub version: OctetString,
}

pub(super) const MANDATORY_AID: &[Member] = &automatic([must("aid", AID), must("version", exactly(2))]);

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct IotOptions {
    #[rasn(size("7..=11"))]
    pub pix: OctetString,
}

pub(super) const IOT_OPTIONS: &[Member] = &automatic([must("pix", shape::octets(7, 11))]);

/// `eUICC-Mandatory-services`: a flag for each service, the names are those of [`SERVICES`].
#[derive(AsnType, Clone, Debug, Decode, Default, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct ServicesList {
    pub contactless: Option<()>,
    pub usim: Option<()>,
    pub isim: Option<()>,
    pub csim: Option<()>,
    pub milenage: Option<()>,
    pub tuak128: Option<()>,
    pub cave: Option<()>,
    pub gba_usim: Option<()>,
    pub gba_isim: Option<()>,
    pub mbms: Option<()>,
    pub eap: Option<()>,
    pub javacard: Option<()>,
    pub multos: Option<()>,
    pub multiple_usim: Option<()>,
    pub multiple_isim: Option<()>,
    pub multiple_csim: Option<()>,
    pub tuak256: Option<()>,
    pub usim_test_algorithm: Option<()>,
    pub ber_tlv: Option<()>,
    pub df_link: Option<()>,
    pub cat_tp: Option<()>,
    pub get_identity: Option<()>,
    pub profile_a_x25519: Option<()>,
    pub profile_b_p256: Option<()>,
    pub suci_calculator_api: Option<()>,
    pub dns_resolution: Option<()>,
    pub scp11ac: Option<()>,
    pub scp11c_authorization_mechanism: Option<()>,
    pub s16mode: Option<()>,
    pub eaka: Option<()>,
    pub suci_nswo: Option<()>,
    pub network_id: Option<()>,
    pub coap: Option<()>,
    pub gbau_api: Option<()>,
    pub uir_5g_prose: Option<()>,
    pub ssim_eap_tls: Option<()>,
    pub ssim_eap_aka_prime: Option<()>,
    pub usat_app_pairing: Option<()>,
}

pub(super) const SERVICES_LIST: &[Member] = &{
    let mut members = [may("", NULL); SERVICES.len()];
    let mut at = 0;
    while at < SERVICES.len() {
        members[at] = may(SERVICES[at], NULL).tagged(primitive(at as u8).0);
        at += 1;
    }
    members
};
