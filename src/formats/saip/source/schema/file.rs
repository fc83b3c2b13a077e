//! Files in a source: those of a file-system template, and those that GenericFileManagement makes.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::Hex;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct FileSystem {
    /// Last arcs of the template OID 2.23.143.1.2.x, such as "4" or "4.2". A patch may leave it out.
    pub template: Option<Spanned<String>>,
    /// The files by their ASN.1 names; their order in the package is the module's. A file that exists several times is written
    /// `"ef-adn"`, `"ef-adn#2"`, ...
    #[serde(default)]
    pub files: BTreeMap<String, Spanned<File>>,
}

/// PE-GenericFileManagement: files that no template has.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct FileManagement {
    /// In their order: a created DF is the current one for what follows.
    pub files: Vec<Spanned<File>>,
}

/// One file. What is left out is the template's default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct File {
    pub fid: Option<Hex>,
    /// Octets of a transparent EF.
    pub size: Option<u32>,
    /// Octets of one record; with `records` a linear fixed EF.
    pub record: Option<u16>,
    pub records: Option<u16>,
    /// The records form a ring.
    #[serde(default)]
    pub cyclic: bool,
    /// Octets of a BER-TLV EF at most.
    pub ber_tlv_size: Option<u32>,
    /// Octets of the file descriptor when they are none of the usual ones.
    pub descriptor: Option<Hex>,
    /// A DF or ADF: only needed where no template says so.
    #[serde(default)]
    pub directory: bool,
    /// ADF: its AID.
    pub aid: Option<Hex>,
    /// Access rule: EF.ARR and record, such as `2F06 0A`.
    pub arr: Option<Hex>,
    /// Short file id, 1 to 30; 0: none.
    pub sfi: Option<u8>,
    /// ADF and DF: references of the PINs that protect it.
    pub pins: Option<Hex>,
    /// Life cycle state when it is not 05, operational and activated.
    pub life_cycle: Option<Hex>,
    /// Path of the file it is another name of; empty: not linked although the template says so.
    pub link: Option<Hex>,
    /// 40: readable when deactivated; 80: updated often.
    pub special: Option<Hex>,
    /// File details when they are not 01 (DER).
    pub details: Option<Hex>,
    /// Fills the file, its last octet repeated.
    pub fill: Option<Hex>,
    /// Fills the file, repeated as a whole.
    pub repeat: Option<Hex>,
    pub content: Option<Hex>,
    pub text: Option<String>,
    /// Records from the first on, each at its place; an empty text leaves one as it is.
    pub rows: Option<Vec<Hex>>,
    /// In words, as `template show` prints it behind the name of a coding; a list is one value a record.
    pub value: Option<Words>,
    /// Octets from a place on, for what the others cannot say.
    pub writes: Option<Vec<Write>>,
    #[serde(default)]
    pub do_not_create: bool,
    /// A patch takes the file out.
    #[serde(default)]
    pub remove: bool,
    /// GenericFileManagement: the DF or EF that is selected before, as file identifiers; empty: the MF.
    pub path: Option<Hex>,
    /// GenericFileManagement: begins another list of commands.
    #[serde(default)]
    pub separate: bool,
}

/// Skips octets from where the last write ended, then writes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::formats::saip::source) struct Write {
    pub skip: Option<u16>,
    pub content: Option<Hex>,
}

/// A value in words: for the whole file, or one a record.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(in crate::formats::saip::source) enum Words {
    File(String),
    Records(Vec<String>),
}
