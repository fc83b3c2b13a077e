//! What the network access applications authenticate with: PE-AKAParameter, PE-CDMAParameter, PE-SSIM-EAPTLSParameters (SAIP §8.4).
#![allow(missing_docs)] // the names are the specification's

use rasn::prelude::*;

use super::header::{PeHeader, pe_header};
use super::shape::{AID, Member, OCTETS, Shape, UINT8, automatic, default, exactly, may, must, octets, octets_item};

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct AkaParameter {
    pub header: PeHeader,
    pub algo_configuration: AlgoConfiguration,
    #[rasn(size("1"), default = "sqn_options")]
    pub sqn_options: OctetString,
    #[rasn(size("6"), default = "sqn_delta")]
    pub sqn_delta: OctetString,
    #[rasn(size("6"), default = "sqn_delta")]
    pub sqn_age_limit: OctetString,
    /// DEFAULT is 32 times zero; an absent list and an OPTIONAL one look alike on the wire.
    pub sqn_init: Option<SequenceOf<OctetString>>,
    pub ssim_parameters: Option<SsimParameters>,
}

pub(super) const AKA_PARAMETER: &[Member] = &automatic([
    pe_header("aka-header"),
    must("algoConfiguration", Shape::Choice(ALGO_CONFIGURATION)),
    default("sqnOptions", exactly(1), &[2]),
    default("sqnDelta", exactly(6), &SQN_DELTA),
    default("sqnAgeLimit", exactly(6), &SQN_DELTA),
    default("sqnInit", Shape::ListOf { item: &octets_item("sqn", exactly(6)), min: 32, max: 32 }, &SQN_INIT),
    may("ssimParameters", Shape::Sequence(SSIM_PARAMETERS)),
]);

const SQN_DELTA: [u8; 6] = [0x00, 0x00, 0x10, 0x00, 0x00, 0x00];
/// 32 OCTET STRINGs of six zeros.
const SQN_INIT: [u8; 256] = {
    let mut list = [0; 256];
    let mut at = 0;
    while at < list.len() {
        list[at] = 0x04;
        list[at + 1] = 6;
        at += 8;
    }
    list
};

fn sqn_options() -> OctetString {
    OctetString::from_static(&[0x02])
}
fn sqn_delta() -> OctetString {
    OctetString::from_static(&SQN_DELTA)
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(choice, automatic_tags)]
pub enum AlgoConfiguration {
    Mapping(MappingParameter),
    Algorithm(AlgoParameter),
}

pub(super) const ALGO_CONFIGURATION: &[Member] = &automatic([
    must("mappingParameter", Shape::Sequence(MAPPING_PARAMETER)),
    must("algoParameter", Shape::Sequence(ALGO_PARAMETER)),
]);

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct MappingParameter {
    #[rasn(size("1"))]
    pub mapping_options: OctetString,
    #[rasn(size("5..=16"))]
    pub mapping_source: OctetString,
}

pub(super) const MAPPING_PARAMETER: &[Member] =
    &automatic([must("mappingOptions", exactly(1)), must("mappingSource", AID)]);

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct AlgoParameter {
    pub algorithm_id: u8,
    #[rasn(size("1"))]
    pub algorithm_options: OctetString,
    pub key: OctetString,
    pub opc: OctetString,
    #[rasn(size("5"), default = "rotation_constants")]
    pub rotation_constants: OctetString,
    #[rasn(size("80"), default = "xoring_constants")]
    pub xoring_constants: OctetString,
    #[rasn(size("3"))]
    pub auth_counter_max: Option<OctetString>,
    #[rasn(default = "one")]
    pub number_of_keccak: u8,
}

pub(super) const ALGO_PARAMETER: &[Member] = &automatic([
    must("algorithmID", UINT8),
    must("algorithmOptions", exactly(1)),
    must("key", OCTETS),
    must("opc", OCTETS),
    default("rotationConstants", exactly(5), &ROTATION_CONSTANTS),
    default("xoringConstants", exactly(80), &XORING_CONSTANTS),
    may("authCounterMax", exactly(3)),
    default("numberOfKeccak", UINT8, &[1]),
]);

const ROTATION_CONSTANTS: [u8; 5] = [0x40, 0x00, 0x20, 0x40, 0x60];
const XORING_CONSTANTS: [u8; 80] = {
    let mut constants = [0; 80];
    constants[31] = 1;
    constants[47] = 2;
    constants[63] = 4;
    constants[79] = 8;
    constants
};

/// r1 to r5 of Milenage, the standard's own (3GPP TS 35.206 §4.1).
pub fn rotation_constants() -> OctetString {
    OctetString::from_static(&ROTATION_CONSTANTS)
}
/// c1 to c5 of Milenage, the standard's own.
pub fn xoring_constants() -> OctetString {
    OctetString::from_static(&XORING_CONSTANTS)
}
fn one() -> u8 {
    1
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct SsimParameters {
    pub network_name: Option<Utf8String>,
    #[rasn(default = "aka_prime_with_sha_256")]
    pub key_derivation_functions: SequenceOf<OctetString>,
}

pub(super) const SSIM_PARAMETERS: &[Member] = &automatic([
    may("networkName", Shape::Text { min: 0, max: usize::MAX }),
    default(
        "keyDerivationFunctions",
        Shape::ListOf { item: &octets_item("kdf", exactly(1)), min: 0, max: usize::MAX },
        &[0x04, 0x01, 0x01],
    ),
]);

/// AT_KDF 1 (RFC 9048 §3.3).
fn aka_prime_with_sha_256() -> SequenceOf<OctetString> {
    vec![OctetString::from_static(&[0x01])]
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct CdmaParameter {
    pub header: PeHeader,
    #[rasn(size("8"))]
    pub authentication_key: OctetString,
    #[rasn(size("16"))]
    pub ssd: Option<OctetString>,
    #[rasn(size("2..=32"))]
    pub hrpd_access_authentication_data: Option<OctetString>,
    #[rasn(size("3..=483"))]
    pub simple_ip_authentication_data: Option<OctetString>,
    #[rasn(size("5..=957"))]
    pub mobile_ip_authentication_data: Option<OctetString>,
}

pub(super) const CDMA_PARAMETER: &[Member] = &automatic([
    pe_header("cdma-header"),
    must("authenticationKey", exactly(8)),
    may("ssd", exactly(16)),
    may("hrpdAccessAuthenticationData", octets(2, 32)),
    may("simpleIPAuthenticationData", octets(3, 483)),
    may("mobileIPAuthenticationData", octets(5, 957)),
]);

/// A certificate (RFC 5280) as the TLVs of its SEQUENCE: X.509 is not this module's business.
pub type Certificate = SequenceOf<Any>;

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct SsimEapTlsParameters {
    pub header: PeHeader,
    pub certificate: Certificate,
    pub certificate_chain: Option<SequenceOf<Certificate>>,
    pub ca_certificate: Certificate,
    pub private_key: OctetString,
}

pub(super) const SSIM_EAP_TLS_PARAMETERS: &[Member] = &automatic([
    pe_header("ssim-eaptls-header"),
    must("eapSSIMCertificate", Shape::Opaque),
    may(
        "eapSSIMCertificateChain",
        Shape::ListOf { item: &must("Certificate", Shape::Opaque).tagged(0x30), min: 0, max: usize::MAX },
    ),
    must("eapCACertificate", Shape::Opaque),
    must("privateKey", OCTETS),
]);
