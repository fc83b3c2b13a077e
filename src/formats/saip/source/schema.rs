//! The words of a template source, as `serde` reads them. Unknown keys are refused by name and line.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

/// A whole source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    /// [`super::SCHEMA`].
    pub schema: Spanned<String>,
    /// What the profile is for; not part of the package.
    #[allow(dead_code)]
    pub description: String,
    /// A preset whose elements come before the own ones.
    pub extends: Option<Spanned<String>>,
    pub header: Header,
    /// The elements between header and end, in their order. PE ids are counted from 1; the end element follows by itself.
    #[serde(rename = "element")]
    pub elements: Vec<Spanned<Element>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// SAIP version, "major.minor".
    pub version: Spanned<String>,
    pub profile_type: String,
    /// Placeholder in the form of an ICCID.
    pub iccid: Spanned<String>,
    /// eUICC-Mandatory-services; the algorithm among them is set anew by every order.
    pub services: Vec<Spanned<String>>,
    /// PIX of an IoT Minimal Profile.
    pub iot_pix: Option<Hex>,
}

/// One element, named as the ASN.1 module names it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Element {
    Mf(FileSystem),
    Cd(FileSystem),
    Telecom(FileSystem),
    Usim(FileSystem),
    OptUsim(FileSystem),
    Isim(FileSystem),
    OptIsim(FileSystem),
    Phonebook(FileSystem),
    GsmAccess(FileSystem),
    #[serde(rename = "df-5gs")]
    Df5gs(FileSystem),
    DfSaip(FileSystem),
    DfSnpn(FileSystem),
    #[serde(rename = "df-5gprose")]
    Df5gprose(FileSystem),
    Iot(FileSystem),
    OptIot(FileSystem),
    #[serde(rename = "pinCodes")]
    PinCodes(PinCodes),
    #[serde(rename = "pukCodes")]
    PukCodes(PukCodes),
    #[serde(rename = "akaParameter")]
    AkaParameter(AkaParameter),
    #[serde(rename = "securityDomain")]
    SecurityDomain(SecurityDomain),
    Rfm(Rfm),
    Application(Application),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSystem {
    /// Last arcs of the template OID 2.23.143.1.2.x, such as "4" or "4.2".
    pub template: Spanned<String>,
    /// The files by their ASN.1 names; their order in the package is the module's.
    pub files: BTreeMap<String, Spanned<File>>,
}

/// One file. What is left out is the template's default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub fid: Option<Hex>,
    /// Octets of a transparent EF.
    pub size: Option<u32>,
    /// Octets of one record; with `records` a linear fixed EF.
    pub record: Option<u16>,
    pub records: Option<u16>,
    /// The records form a ring.
    #[serde(default)]
    pub cyclic: bool,
    /// Maximum size of a BER-TLV EF.
    pub ber_tlv_size: Option<u32>,
    /// ADF: its AID.
    pub aid: Option<Hex>,
    /// Access rule: EF.ARR and record, such as `2F06 0A`.
    pub arr: Option<Hex>,
    /// Short file id, 1 to 30; 0: none.
    pub sfi: Option<u8>,
    /// ADF and DF: references of the PINs that protect it.
    pub pins: Option<Hex>,
    /// 40: readable when deactivated; 80: updated often.
    pub special: Option<Hex>,
    /// Fills the file, its last octet repeated.
    pub fill: Option<Hex>,
    /// Fills the file, repeated as a whole.
    pub repeat: Option<Hex>,
    pub content: Option<Hex>,
    pub text: Option<String>,
    /// Records from the first on, each at its place; an empty text leaves one as it is.
    pub rows: Option<Vec<Hex>>,
    #[serde(default)]
    pub do_not_create: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PinCodes {
    pub pins: Vec<Pin>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pin {
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PukCodes {
    pub puks: Vec<Puk>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Puk {
    pub reference: u8,
    /// Placeholder.
    pub value: Hex,
    pub attempts: Option<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AkaParameter {
    /// `algorithmOptions`, one octet.
    pub options: Hex,
    /// Placeholders.
    pub key: Hex,
    pub opc: Hex,
    pub auth_counter_max: Option<Hex>,
    /// Octets of `sqnOptions`, `sqnDelta`, `sqnAgeLimit` when they are not the default.
    pub sqn_options: Option<Hex>,
    pub sqn_delta: Option<Hex>,
    pub sqn_age_limit: Option<Hex>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Instance {
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
    #[serde(default)]
    pub process_data: Vec<Hex>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecurityDomain {
    pub instance: Instance,
    pub keys: Vec<Spanned<Key>>,
    #[serde(default)]
    pub perso: Vec<Hex>,
}

/// One key; its value is zeros, every record gets its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    pub version: u8,
    pub id: u8,
    #[serde(rename = "type")]
    pub key_type: KeyType,
    pub octets: usize,
    pub usage: Hex,
    /// MAC length when it is not 8.
    pub mac: Option<u8>,
    pub counter: Option<Hex>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KeyType {
    Des,
    Aes,
    TlsPsk,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rfm {
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RfmAdf {
    pub aid: Hex,
    pub access: Hex,
    pub admin_access: Hex,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Application {
    pub package_aid: Hex,
    pub security_domain: Option<Hex>,
    pub load_block: Option<Hex>,
    /// A load block of this many octets with made-up content: for measuring, not for cards.
    pub load_block_fill_bytes: Option<usize>,
    #[serde(default)]
    pub instances: Vec<Instance>,
}

/// Octets as hex digits, one text or a list of them; blanks may stand anywhere between octets.
#[derive(Clone, Debug, Default)]
pub(super) struct Hex(pub Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HexVisitor)
    }
}

struct HexVisitor;

impl<'de> serde::de::Visitor<'de> for HexVisitor {
    type Value = Hex;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hex octets, as a text or a list of texts")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Hex, E> {
        let digits: String = text.split_whitespace().collect();
        let octets = data_encoding::HEXUPPER_PERMISSIVE.decode(digits.as_bytes());
        octets.map(Hex).map_err(|e| E::custom(format!("{text:?} is not hex octets: {e}")))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut parts: A) -> Result<Hex, A::Error> {
        let mut octets = Vec::new();
        while let Some(Hex(part)) = parts.next_element()? {
            octets.extend(part);
        }
        Ok(Hex(octets))
    }
}
