//! PE-SecurityDomain (SAIP §8.6).
#![allow(missing_docs)] // the names are the specification's

use rasn::prelude::*;

use super::application::{APPLICATION_INSTANCE, ApplicationInstance};
use super::header::{PeHeader, pe_header};
use super::shape::{
    Member, OCTETS, Shape, UINT8, UINT16, automatic, default, exactly, list_of, may, must, octets, octets_item,
    sequence_item,
};

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct SecurityDomain {
    pub header: PeHeader,
    pub instance: ApplicationInstance,
    pub key_list: Option<SequenceOf<KeyObject>>,
    pub sd_perso_data: Option<SequenceOf<OctetString>>,
    pub open_perso_data: Option<OpenPersoData>,
    pub cat_tp_parameters: Option<CatTpParameters>,
}

pub(super) const SECURITY_DOMAIN: &[Member] = &automatic([
    pe_header("sd-Header"),
    must("instance", Shape::Sequence(APPLICATION_INSTANCE)),
    may("keyList", list_of(&sequence_item("KeyObject", KEY_OBJECT))),
    may("sdPersoData", list_of(&octets_item("dgi", OCTETS))),
    may("openPersoData", Shape::Sequence(OPEN_PERSO_DATA)),
    may("catTpParameters", Shape::Sequence(CAT_TP_PARAMETERS)),
]);

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
pub struct KeyObject {
    #[rasn(tag(21), size("1..=2"))]
    pub key_usage_qualifier: OctetString,
    #[rasn(tag(22), size("1"), default = "key_access_any")]
    pub key_access: OctetString,
    #[rasn(tag(2), size("1"))]
    pub key_identifier: OctetString,
    #[rasn(tag(3), size("1"))]
    pub key_version_number: OctetString,
    #[rasn(tag(5))]
    pub key_counter_value: Option<OctetString>,
    /// `keyCompontents`, as the module spells it.
    pub key_components: SequenceOf<KeyComponent>,
}

pub(super) const KEY_OBJECT: &[Member] = &[
    must("keyUsageQualifier", octets(1, 2)).tagged(0x95),
    default("keyAccess", exactly(1), &[0]).tagged(0x96),
    must("keyIdentifier", exactly(1)).tagged(0x82),
    must("keyVersionNumber", exactly(1)).tagged(0x83),
    may("keyCounterValue", OCTETS).tagged(0x85),
    must("keyCompontents", list_of(&sequence_item("component", KEY_COMPONENT))).tagged(0x30),
];

fn key_access_any() -> OctetString {
    OctetString::from_static(&[0x00])
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
pub struct KeyComponent {
    #[rasn(tag(0))]
    pub key_type: OctetString,
    #[rasn(tag(6))]
    pub key_data: OctetString,
    #[rasn(tag(7), default = "eight")]
    pub mac_length: u8,
}

pub(super) const KEY_COMPONENT: &[Member] = &[
    must("keyType", OCTETS).tagged(0x80),
    must("keyData", OCTETS).tagged(0x86),
    default("macLength", UINT8, &[8]).tagged(0x87),
];

fn eight() -> u8 {
    8
}

/// Both members hold what GlobalPlatform calls the same things; the second has no tag of its own and is a universal OCTET STRING.
#[derive(AsnType, Clone, Debug, Default, Decode, Encode, PartialEq)]
pub struct OpenPersoData {
    #[rasn(tag(private, 25), size("1"))]
    pub restrict_parameter: Option<OctetString>,
    pub contactless_protocol_parameters: Option<OctetString>,
}

pub(super) const OPEN_PERSO_DATA: &[Member] =
    &[may("restrictParameter", exactly(1)).tagged(0xD9), may("contactlessProtocolParameters", OCTETS).tagged(0x04)];

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct CatTpParameters {
    pub max_sdu_size: u16,
    pub max_pdu_size: u16,
}

pub(super) const CAT_TP_PARAMETERS: &[Member] =
    &automatic([must("catTpMaxSduSize", UINT16), must("catTpMaxPduSize", UINT16)]);
