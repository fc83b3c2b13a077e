//! Typed profile elements, hand-derived from the ASN.1 module PEDefinitions 3.3.1 (automatic tags unless a type has hand-written
//! ones). For building templates and checking them; placeholders only, never live keys.

use rasn::prelude::*;

fn eight() -> u8 {
    8
}
fn life_cycle_selectable() -> OctetString {
    OctetString::from_static(&[0x07])
}
fn no_special_information() -> OctetString {
    OctetString::from_static(&[0x00])
}
fn file_details_der() -> OctetString {
    OctetString::from_static(&[0x01])
}
fn operational_activated() -> OctetString {
    OctetString::from_static(&[0x05])
}
fn key_access_any() -> OctetString {
    OctetString::from_static(&[0x00])
}
fn pin_attributes() -> u8 {
    7
}
fn three_of_three() -> u8 {
    0x33
}
fn ten_of_ten() -> u8 {
    0xAA
}
pub(super) fn rotation_constants() -> OctetString {
    OctetString::from_static(&[0x40, 0x00, 0x20, 0x40, 0x60])
}
pub(super) fn xoring_constants() -> OctetString {
    let mut constants = [0; 80];
    for (row, constant) in [(1, 1), (2, 2), (3, 4), (4, 8)] {
        constants[16 * row + 15] = constant;
    }
    OctetString::from_slice(&constants)
}
fn one() -> u8 {
    1
}
fn sqn_options() -> OctetString {
    OctetString::from_static(&[0x02])
}
fn sqn_delta() -> OctetString {
    OctetString::from_static(&[0x00, 0x00, 0x10, 0x00, 0x00, 0x00])
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub(super) struct PeHeader {
    pub mandated: Option<()>,
    #[rasn(value("0..=32767"))]
    pub identification: u16,
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub(super) struct End {
    pub header: PeHeader,
}

#[derive(AsnType, Clone, Debug, Default, Decode, Encode, PartialEq)]
pub(super) struct Fcp {
    #[rasn(tag(2), size("2..=4"))]
    pub file_descriptor: Option<OctetString>,
    #[rasn(tag(3), size("2"))]
    pub file_id: Option<OctetString>,
    #[rasn(tag(4), size("5..=16"))]
    pub df_name: Option<OctetString>,
    #[rasn(tag(10), size("1"), default = "operational_activated")]
    pub lcsi: OctetString,
    #[rasn(tag(11), size("1..=3"))]
    pub security_attributes_referenced: Option<OctetString>,
    #[rasn(tag(0))]
    pub ef_file_size: Option<OctetString>,
    #[rasn(tag(private, 6))]
    pub pin_status_template: Option<OctetString>,
    #[rasn(tag(8), size("0..=1"))]
    pub short_efid: Option<OctetString>,
    #[rasn(tag(5))]
    pub proprietary_ef_info: Option<ProprietaryInfo>,
    #[rasn(tag(private, 7), size("0..=8"))]
    pub link_path: Option<OctetString>,
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct ProprietaryInfo {
    #[rasn(tag(private, 0), size("1"), default = "no_special_information")]
    pub special_file_information: OctetString,
    #[rasn(tag(private, 1), size("1..=200"))]
    pub fill_pattern: Option<OctetString>,
    #[rasn(tag(private, 2), size("1..=200"))]
    pub repeat_pattern: Option<OctetString>,
    #[rasn(tag(6))]
    pub maximum_file_size: Option<OctetString>,
    #[rasn(tag(4), size("1"), default = "file_details_der")]
    pub file_details: OctetString,
}

/// One entry of `File`.
#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(choice, automatic_tags)]
#[allow(clippy::large_enum_variant)] // short-lived, a few hundred at a time
pub(super) enum FileEntry {
    DoNotCreate(()),
    FileDescriptor(Fcp),
    FillFileOffset(u16),
    FillFileContent(OctetString),
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub(super) struct PinConfiguration {
    pub key_reference: u8,
    #[rasn(size("8"))]
    pub pin_value: OctetString,
    pub unblocking_pin_reference: Option<u8>,
    #[rasn(default = "pin_attributes")]
    pub pin_attributes: u8,
    #[rasn(default = "three_of_three")]
    pub attempts: u8,
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(choice, automatic_tags)]
pub(super) enum PinCodesChoice {
    PinConfig(SequenceOf<PinConfiguration>),
    #[rasn(size("0..=8"))]
    FilePath(OctetString),
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub(super) struct PinCodes {
    pub header: PeHeader,
    pub pin_codes: PinCodesChoice,
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub(super) struct PukConfiguration {
    pub key_reference: u8,
    #[rasn(size("8"))]
    pub puk_value: OctetString,
    #[rasn(default = "ten_of_ten")]
    pub attempts: u8,
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub(super) struct PukCodes {
    pub header: PeHeader,
    pub puk_codes: SequenceOf<PukConfiguration>,
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub(super) struct AlgoParameter {
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

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub(super) struct MappingParameter {
    #[rasn(size("1"))]
    pub mapping_options: OctetString,
    #[rasn(size("5..=16"))]
    pub mapping_source: OctetString,
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(choice, automatic_tags)]
pub(super) enum AlgoConfiguration {
    Mapping(MappingParameter),
    Algorithm(AlgoParameter),
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub(super) struct AkaParameter {
    pub header: PeHeader,
    pub algo_configuration: AlgoConfiguration,
    #[rasn(size("1"), default = "sqn_options")]
    pub sqn_options: OctetString,
    #[rasn(size("6"), default = "sqn_delta")]
    pub sqn_delta: OctetString,
    #[rasn(size("6"), default = "sqn_delta")]
    pub sqn_age_limit: OctetString,
    // DEFAULT is 32 times zero; an absent list and an OPTIONAL one look alike on the wire.
    pub sqn_init: Option<SequenceOf<OctetString>>,
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct KeyComponent {
    #[rasn(tag(0))]
    pub key_type: OctetString,
    #[rasn(tag(6))]
    pub key_data: OctetString,
    #[rasn(tag(7), default = "eight")]
    pub mac_length: u8,
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct KeyObject {
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
    pub key_components: SequenceOf<KeyComponent>,
}

#[derive(AsnType, Clone, Debug, Default, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub(super) struct UiccApplicationParameters {
    pub toolkit: Option<OctetString>,
    pub access: Option<OctetString>,
    pub administrative_access: Option<OctetString>,
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct ApplicationInstance {
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
    #[rasn(tag(private, 9))]
    pub specific_parameters: OctetString,
    #[rasn(tag(private, 10))]
    pub uicc_parameters: Option<UiccApplicationParameters>,
    pub process_data: Option<SequenceOf<OctetString>>,
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub(super) struct SecurityDomain {
    pub header: PeHeader,
    pub instance: ApplicationInstance,
    pub key_list: Option<SequenceOf<KeyObject>>,
    pub sd_perso_data: Option<SequenceOf<OctetString>>,
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub(super) struct AdfRfmAccess {
    #[rasn(size("5..=16"))]
    pub adf_aid: OctetString,
    pub access_domain: OctetString,
    pub admin_access_domain: OctetString,
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct Rfm {
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

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct LoadPackage {
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

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub(super) struct Application {
    pub header: PeHeader,
    pub load_block: Option<LoadPackage>,
    pub instance_list: Option<SequenceOf<ApplicationInstance>>,
}
