//! PE-Application with its load block and instances (SAIP §8.7), and PE-RFM (SAIP §8.8).
#![allow(missing_docs)] // the names are the specification's

use rasn::prelude::*;

use super::header::{PeHeader, pe_header};
use super::shape::{
    AID, Member, OCTETS, Shape, automatic, default, exactly, list_of, may, must, octets, octets_item, sequence_item,
};

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct Application {
    pub header: PeHeader,
    pub load_block: Option<LoadPackage>,
    pub instance_list: Option<SequenceOf<ApplicationInstance>>,
}

pub(super) const APPLICATION: &[Member] = &automatic([
    pe_header("app-Header"),
    may("loadBlock", Shape::Sequence(LOAD_PACKAGE)),
    may("instanceList", list_of(&sequence_item("ApplicationInstance", APPLICATION_INSTANCE))),
]);

/// `ApplicationLoadPackage`.
#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
pub struct LoadPackage {
    #[rasn(tag(application, 15), size("5..=16"))]
    pub load_package_aid: OctetString,
    #[rasn(tag(application, 15), size("5..=16"))]
    pub security_domain_aid: Option<OctetString>,
    #[rasn(tag(private, 6))]
    pub non_volatile_code_limit: Option<OctetString>,
    #[rasn(tag(private, 7))]
    pub volatile_data_limit: Option<OctetString>,
    #[rasn(tag(private, 8))]
    pub non_volatile_data_limit: Option<OctetString>,
    #[rasn(tag(private, 1))]
    pub hash_value: Option<OctetString>,
    #[rasn(tag(private, 4))]
    pub load_block_object: OctetString,
}

pub(super) const LOAD_PACKAGE: &[Member] = &[
    must("loadPackageAID", AID).tagged(0x4F),
    may("securityDomainAID", AID).tagged(0x4F),
    may("nonVolatileCodeLimitC6", OCTETS).tagged(0xC6),
    may("volatileDataLimitC7", OCTETS).tagged(0xC7),
    may("nonVolatileDataLimitC8", OCTETS).tagged(0xC8),
    may("hashValue", OCTETS).tagged(0xC1),
    must("loadBlockObject", OCTETS).tagged(0xC4),
];

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
pub struct ApplicationInstance {
    #[rasn(tag(application, 15), size("5..=16"))]
    pub load_package_aid: OctetString,
    #[rasn(tag(application, 15), size("5..=16"))]
    pub class_aid: OctetString,
    #[rasn(tag(application, 15), size("5..=16"))]
    pub instance_aid: OctetString,
    #[rasn(tag(application, 15), size("5..=16"))]
    pub extradite_security_domain_aid: Option<OctetString>,
    #[rasn(tag(2))]
    pub privileges: OctetString,
    #[rasn(tag(3), size("1"), default = "life_cycle_selectable")]
    pub life_cycle_state: OctetString,
    /// `applicationSpecificParametersC9`.
    #[rasn(tag(private, 9))]
    pub specific_parameters: OctetString,
    /// `systemSpecificParameters`, EF.
    #[rasn(tag(private, 15))]
    pub system_parameters: Option<ApplicationSystemParameters>,
    /// `applicationParameters`, EA.
    #[rasn(tag(private, 10))]
    pub uicc_parameters: Option<UiccApplicationParameters>,
    pub process_data: Option<SequenceOf<OctetString>>,
    #[rasn(tag(16))]
    pub control_reference_template: Option<ControlReferenceTemplate>,
}

pub(super) const APPLICATION_INSTANCE: &[Member] = &[
    must("applicationLoadPackageAID", AID).tagged(0x4F),
    must("classAID", AID).tagged(0x4F),
    must("instanceAID", AID).tagged(0x4F),
    may("extraditeSecurityDomainAID", AID).tagged(0x4F),
    must("applicationPrivileges", OCTETS).tagged(0x82),
    default("lifeCycleState", exactly(1), &[7]).tagged(0x83),
    must("applicationSpecificParametersC9", OCTETS).tagged(0xC9),
    may("systemSpecificParameters", Shape::Sequence(APPLICATION_SYSTEM_PARAMETERS)).tagged(0xEF),
    may("applicationParameters", Shape::Sequence(UICC_APPLICATION_PARAMETERS)).tagged(0xEA),
    may("processData", list_of(&octets_item("command", OCTETS))).tagged(0x30),
    may("controlReferenceTemplate", Shape::Sequence(CONTROL_REFERENCE_TEMPLATE)).tagged(0xB0),
];

fn life_cycle_selectable() -> OctetString {
    OctetString::from_static(&[0x07])
}

#[derive(AsnType, Clone, Debug, Default, Decode, Encode, PartialEq)]
pub struct ApplicationSystemParameters {
    #[rasn(tag(private, 7), size("2..=4"))]
    pub volatile_memory_quota: Option<OctetString>,
    #[rasn(tag(private, 8), size("2..=4"))]
    pub non_volatile_memory_quota: Option<OctetString>,
    #[rasn(tag(private, 11))]
    pub global_service_parameters: Option<OctetString>,
    #[rasn(tag(private, 15))]
    pub implicit_selection_parameter: Option<OctetString>,
    #[rasn(tag(private, 23), size("2..=4"))]
    pub volatile_reserved_memory: Option<OctetString>,
    #[rasn(tag(private, 24), size("2..=4"))]
    pub non_volatile_reserved_memory: Option<OctetString>,
    #[rasn(tag(private, 10))]
    pub sim_file_access_toolkit_parameter: Option<OctetString>,
    #[rasn(tag(0))]
    pub additional_contactless_parameters: Option<AdditionalContactlessParameters>,
    #[rasn(tag(private, 25))]
    pub contactless_protocol_parameters: Option<OctetString>,
    #[rasn(tag(private, 26))]
    pub user_interaction_contactless_parameters: Option<OctetString>,
    #[rasn(tag(2), size("2..=4"))]
    pub cumulative_granted_volatile_memory: Option<OctetString>,
    #[rasn(tag(3), size("2..=4"))]
    pub cumulative_granted_non_volatile_memory: Option<OctetString>,
}

pub(super) const APPLICATION_SYSTEM_PARAMETERS: &[Member] = &[
    may("volatileMemoryQuotaC7", octets(2, 4)).tagged(0xC7),
    may("nonVolatileMemoryQuotaC8", octets(2, 4)).tagged(0xC8),
    may("globalServiceParameters", OCTETS).tagged(0xCB),
    may("implicitSelectionParameter", OCTETS).tagged(0xCF),
    may("volatileReservedMemory", octets(2, 4)).tagged(0xD7),
    may("nonVolatileReservedMemory", octets(2, 4)).tagged(0xD8),
    may("ts102226SIMFileAccessToolkitParameter", OCTETS).tagged(0xCA),
    may("ts102226AdditionalContactlessParameters", Shape::Sequence(ADDITIONAL_CONTACTLESS_PARAMETERS)).tagged(0xA0),
    may("contactlessProtocolParameters", OCTETS).tagged(0xD9),
    may("userInteractionContactlessParameters", OCTETS).tagged(0xDA),
    may("cumulativeGrantedVolatileMemory", octets(2, 4)).tagged(0x82),
    may("cumulativeGrantedNonVolatileMemory", octets(2, 4)).tagged(0x83),
];

/// `TS102226AdditionalContactlessParameters`.
#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct AdditionalContactlessParameters {
    pub protocol_parameter_data: OctetString,
}

pub(super) const ADDITIONAL_CONTACTLESS_PARAMETERS: &[Member] = &automatic([must("protocolParameterData", OCTETS)]);

#[derive(AsnType, Clone, Debug, Default, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct UiccApplicationParameters {
    pub toolkit: Option<OctetString>,
    pub access: Option<OctetString>,
    pub administrative_access: Option<OctetString>,
}

pub(super) const UICC_APPLICATION_PARAMETERS: &[Member] = &automatic([
    may("uiccToolkitApplicationSpecificParametersField", OCTETS),
    may("uiccAccessApplicationSpecificParametersField", OCTETS),
    may("uiccAdministrativeAccessApplicationSpecificParametersField", OCTETS),
]);

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
pub struct ControlReferenceTemplate {
    #[rasn(tag(application, 32))]
    pub application_provider_identifier: OctetString,
}

pub(super) const CONTROL_REFERENCE_TEMPLATE: &[Member] =
    &[must("applicationProviderIdentifier", OCTETS).tagged(0x5F20)];

/// Trap: two members have tag A0 and two 4F; only their places tell them apart.
#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
pub struct Rfm {
    #[rasn(tag(0))]
    pub header: PeHeader,
    #[rasn(tag(application, 15), size("5..=16"))]
    pub instance_aid: OctetString,
    #[rasn(tag(application, 15), size("5..=16"))]
    pub security_domain_aid: Option<OctetString>,
    #[rasn(tag(0))]
    pub tar_list: Option<SequenceOf<OctetString>>,
    #[rasn(tag(1), size("1"))]
    pub minimum_security_level: OctetString,
    pub uicc_access_domain: OctetString,
    pub uicc_admin_access_domain: OctetString,
    pub adf_rfm_access: Option<AdfRfmAccess>,
}

pub(super) const RFM: &[Member] = &[
    pe_header("rfm-header").tagged(0xA0),
    must("instanceAID", AID).tagged(0x4F),
    may("securityDomainAID", AID).tagged(0x4F),
    may("tarList", list_of(&octets_item("tar", exactly(3)))).tagged(0xA0),
    must("minimumSecurityLevel", exactly(1)).tagged(0x81),
    must("uiccAccessDomain", OCTETS).tagged(0x04),
    must("uiccAdminAccessDomain", OCTETS).tagged(0x04),
    may("adfRFMAccess", Shape::Sequence(ADF_RFM_ACCESS)).tagged(0x30),
];

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct AdfRfmAccess {
    #[rasn(size("5..=16"))]
    pub adf_aid: OctetString,
    pub access_domain: OctetString,
    pub admin_access_domain: OctetString,
}

pub(super) const ADF_RFM_ACCESS: &[Member] =
    &automatic([must("adfAID", AID), must("adfAccessDomain", OCTETS), must("adfAdminAccessDomain", OCTETS)]);
