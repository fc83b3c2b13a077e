//! Elements without files in a source.

use serde::Deserialize;
use toml::Spanned;

use super::Hex;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct PinCodes {
    #[serde(default)]
    pub pins: Vec<Pin>,
    /// Shares the PINs of this DF instead, as file identifiers; empty: of the MF.
    pub path: Option<Hex>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct Pin {
    pub reference: u8,
    /// Placeholder.
    pub value: Hex,
    /// Reference of the PUK that unblocks it.
    pub puk: Option<u8>,
    /// `pinAttributes`: 7 when left out; 6 starts disabled, 3 cannot be disabled.
    pub attributes: Option<u8>,
    /// Attempts, both nibbles of the octet.
    pub attempts: Option<u8>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct PukCodes {
    pub puks: Vec<Puk>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct Puk {
    pub reference: u8,
    /// Placeholder.
    pub value: Hex,
    pub attempts: Option<u8>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct AkaParameter {
    /// Milenage when left out; every order sets its own.
    #[serde(default)]
    pub algorithm: AkaAlgorithm,
    /// `algorithmOptions`, one octet.
    pub options: Option<Hex>,
    /// Placeholders; zeros of the algorithm's length when left out.
    pub key: Option<Hex>,
    pub opc: Option<Hex>,
    /// Milenage: r1 to r5 and c1 to c5 when they are not those of 3GPP TS 35.206.
    pub rotation: Option<Hex>,
    pub constants: Option<Hex>,
    pub auth_counter_max: Option<Hex>,
    /// TUAK: iterations of Keccak when it is not one.
    pub keccak: Option<u8>,
    /// Octets of `sqnOptions`, `sqnDelta`, `sqnAgeLimit` when they are not the default.
    pub sqn_options: Option<Hex>,
    pub sqn_delta: Option<Hex>,
    pub sqn_age_limit: Option<Hex>,
    /// The 32 counters of `sqnInit`, six octets each, when they are not zero.
    pub sqn_init: Option<Vec<Hex>>,
    /// Shares the parameters of another application instead.
    pub mapping: Option<Mapping>,
}

/// The algorithm of an akaParameter (SAIP §8.4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::formats::saip::source) enum AkaAlgorithm {
    #[default]
    Milenage,
    Tuak,
    UsimTest,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct Mapping {
    pub options: Hex,
    /// AID of an application defined before.
    pub aid: Hex,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct CdmaParameter {
    /// Placeholder of the A-key; zeros when left out.
    pub key: Option<Hex>,
    pub ssd: Option<Hex>,
    pub hrpd: Option<Hex>,
    pub simple_ip: Option<Hex>,
    pub mobile_ip: Option<Hex>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct NonStandard {
    /// OBJECT IDENTIFIER of who defined it, such as "1.3.6.1.4.1.99999".
    pub issuer: Spanned<String>,
    pub content: Hex,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct Instance {
    pub package_aid: Hex,
    pub class_aid: Hex,
    pub instance_aid: Hex,
    pub privileges: Hex,
    /// GlobalPlatform life cycle state; 07 when left out.
    pub life_cycle: Option<Hex>,
    /// C9 install parameters.
    pub parameters: Hex,
    /// EA/80: toolkit parameters (MSL, TAR).
    pub toolkit: Option<Hex>,
    /// EA/81 and EA/82: access to the file system.
    pub access: Option<Hex>,
    pub admin_access: Option<Hex>,
    /// EF system parameters: the TLVs in it.
    pub system: Option<Hex>,
    /// Another security domain that it is extradited to.
    pub extradite_to: Option<Hex>,
    /// B0 control reference template: the application provider (5F20).
    pub provider: Option<Hex>,
    #[serde(default)]
    pub process_data: Vec<Hex>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct SecurityDomain {
    pub instance: Instance,
    #[serde(default)]
    pub keys: Vec<Spanned<Key>>,
    #[serde(default)]
    pub perso: Vec<Hex>,
    pub open_perso: Option<OpenPerso>,
    pub cat_tp: Option<CatTp>,
}

/// One key; its value is zeros, every record gets its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct Key {
    pub version: u8,
    pub id: u8,
    #[serde(rename = "type")]
    pub key_type: KeyType,
    pub octets: usize,
    pub usage: Hex,
    /// Key access when it is not 00.
    pub access: Option<Hex>,
    /// What is no secret: a curve, a public key.
    pub value: Option<Hex>,
    /// MAC length when it is not 8.
    pub mac: Option<u8>,
    pub counter: Option<Hex>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::formats::saip::source) enum KeyType {
    Des,
    Aes,
    TlsPsk,
    Hmac,
    EccPublic,
    EccPrivate,
    EccCurve,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct OpenPerso {
    pub restrict: Option<Hex>,
    pub contactless: Option<Hex>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct CatTp {
    pub max_sdu: u16,
    pub max_pdu: u16,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct Rfm {
    pub aid: Hex,
    pub security_domain: Option<Hex>,
    #[serde(default)]
    pub tars: Vec<Hex>,
    /// Minimum security level: first octet of the SPI.
    pub msl: Hex,
    pub access: Hex,
    pub admin_access: Hex,
    pub adf: Option<RfmAdf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct RfmAdf {
    pub aid: Hex,
    pub access: Hex,
    pub admin_access: Hex,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct Application {
    /// Of the load block.
    pub package_aid: Option<Hex>,
    pub security_domain: Option<Hex>,
    /// Limits of the load block: octets as GlobalPlatform codes them.
    pub code_limit: Option<Hex>,
    pub volatile_limit: Option<Hex>,
    pub data_limit: Option<Hex>,
    pub hash: Option<Hex>,
    pub load_block: Option<Hex>,
    /// A file with the load block (CAP components), relative to the source.
    pub load_block_file: Option<Spanned<String>>,
    /// A load block of this many octets with made-up content: for measuring, not for cards.
    pub load_block_fill_bytes: Option<usize>,
    #[serde(default)]
    pub instances: Vec<Instance>,
}
