//! Files: their control parameters and contents, in elements made from templates (SAIP §8.3) and in PE-GenericFileManagement.
//!
//! Trap: `File` and `FileManagement` are the same list under different tags, see [`file`](crate::formats::saip::file).
#![allow(missing_docs)] // the names are the specification's

use std::sync::LazyLock;

use rasn::prelude::*;

use super::header::{PeHeader, pe_header};
use super::shape::{AID, Member, NULL, OCTETS, OID, Shape, UINT16, automatic, default, exactly, may, must, octets};
use crate::formats::saip::kind::{Kind, constructed};

#[derive(AsnType, Clone, Debug, Default, Decode, Encode, PartialEq)]
pub struct Fcp {
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

pub(super) const FCP: &[Member] = &[
    may("fileDescriptor", octets(2, 4)).tagged(0x82),
    may("fileID", exactly(2)).tagged(0x83),
    may("dfName", AID).tagged(0x84),
    default("lcsi", exactly(1), &[5]).tagged(0x8A),
    may("securityAttributesReferenced", octets(1, 3)).tagged(0x8B),
    may("efFileSize", OCTETS).tagged(0x80),
    may("pinStatusTemplateDO", OCTETS).tagged(0xC6),
    may("shortEFID", octets(0, 1)).tagged(0x88),
    may("proprietaryEFInfo", Shape::Sequence(PROPRIETARY_INFO)).tagged(0xA5),
    may("linkPath", octets(0, 8)).tagged(0xC7),
];

fn operational_activated() -> OctetString {
    OctetString::from_static(&[0x05])
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
pub struct ProprietaryInfo {
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

pub(super) const PROPRIETARY_INFO: &[Member] = &[
    default("specialFileInformation", exactly(1), &[0]).tagged(0xC0),
    may("fillPattern", octets(1, 200)).tagged(0xC1),
    may("repeatPattern", octets(1, 200)).tagged(0xC2),
    may("maximumFileSize", OCTETS).tagged(0x86),
    default("fileDetails", exactly(1), &[1]).tagged(0x84),
];

fn no_special_information() -> OctetString {
    OctetString::from_static(&[0x00])
}
fn file_details_der() -> OctetString {
    OctetString::from_static(&[0x01])
}

/// One entry of `File`.
#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(choice, automatic_tags)]
#[allow(clippy::large_enum_variant)] // short-lived, a few hundred at a time
pub enum FileEntry {
    DoNotCreate(()),
    FileDescriptor(Fcp),
    FillFileOffset(u16),
    FillFileContent(OctetString),
}

/// `File`: what one member of a file-system element holds.
pub type File = SequenceOf<FileEntry>;

pub(super) const FILE_ENTRY: &[Member] = &automatic([
    must("doNotCreate", NULL),
    must("fileDescriptor", Shape::Sequence(FCP)),
    must("fillFileOffset", UINT16),
    must("fillFileContent", OCTETS),
]);

const FILE: Shape = Shape::Entries { of: FILE_ENTRY, min: 0 };

/// An element made from a file-system template: PE-MF to PE-SSIM are all built alike.
///
/// Which files the template demands is not looked at here: that is a question to the catalogue of templates.
#[derive(Clone, Debug, PartialEq)]
pub struct FileSystem {
    pub header: PeHeader,
    pub template_id: ObjectIdentifier,
    /// Context tag number and file, in their order; [`Kind::files`] names them.
    pub files: Vec<(u8, File)>,
}

/// The members of every kind of file-system element.
pub(super) static FILE_SYSTEMS: LazyLock<Vec<(Kind, Vec<Member>)>> = LazyLock::new(|| {
    let numbers = (0..=u8::MAX >> 1).map(|number| Kind::of(constructed(number)));
    let kinds = numbers.filter(|kind| kind.is_file_system());
    kinds.map(|kind| (kind, members_of(kind))).collect()
});

fn members_of(kind: Kind) -> Vec<Member> {
    let files = kind.files().iter().zip(2..).map(|(name, number)| may(name, FILE).tagged(constructed(number).0));
    automatic([pe_header("header"), must("templateID", OID)]).into_iter().chain(files).collect()
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct GenericFileManagement {
    pub header: PeHeader,
    pub commands: SequenceOf<FileManagement>,
}

pub(super) const GENERIC_FILE_MANAGEMENT: &[Member] = &automatic([
    pe_header("gfm-header"),
    must("fileManagementCMD", super::shape::list_of(&must("FileManagement", COMMANDS).tagged(0x30))),
]);

/// One run of commands; the current file is carried from command to command.
pub type FileManagement = SequenceOf<FileCommand>;

const COMMANDS: Shape = Shape::Entries { of: FILE_COMMAND, min: 1 };

/// One entry of `FileManagement`. The offset has no tag of its own: a hand-written tag turns automatic tagging off.
#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(choice)]
#[allow(clippy::large_enum_variant)] // short-lived, a few hundred at a time
pub enum FileCommand {
    #[rasn(tag(0), size("0..=8"))]
    FilePath(OctetString),
    #[rasn(tag(application, 2))]
    CreateFcp(Fcp),
    FillFileOffset(u16),
    #[rasn(tag(1))]
    FillFileContent(OctetString),
}

pub(super) const FILE_COMMAND: &[Member] = &[
    must("filePath", octets(0, 8)).tagged(0x80),
    must("createFCP", Shape::Sequence(FCP)).tagged(0x62),
    must("fillFileOffset", UINT16).tagged(0x02),
    must("fillFileContent", OCTETS).tagged(0x81),
];
