//! Typed profile elements (`rasn`), hand-derived from the ASN.1 module PEDefinitions 3.4.1: every alternative of ProfileElement.
//!
//! In: an [`Element`] of the TLV layer, which owns the octets. Out: a [`ProfileElement`] that encodes to the same octets.
//! Rule: a member appended by a newer version, an unknown entry of a file and an unknown element are kept octet by octet and
//! named with their place; what DER forbids (an integer that is not minimal, a member that equals its default) is an error with
//! the offset of the innermost member. For templates and rules only: an `OctetString` is shared, printable and cannot be wiped, so
//! a personalised package never enters here; `personalise` works on the TLV layer.
//! Source: TCA eUICC Profile Package, Interoperable Format Technical Specification 3.4.1, module PEDefinitions. Automatic tags,
//! unless a SEQUENCE or CHOICE has one hand-written tag.

mod application;
mod authentication;
mod codes;
mod extras;
mod files;
mod header;
mod other;
mod security_domain;
mod shape;
mod walk;

use rasn::prelude::ObjectIdentifier;
use rasn::{Decode, Encode};

pub use application::*;
pub use authentication::*;
pub use codes::*;
pub use files::*;
pub use header::*;
pub use other::*;
pub use security_domain::*;
pub use walk::Examination;

use super::kind::{Kind, constructed, context_number, primitive};
use super::package::{self, Element, Package, children};
use crate::formats::tlv::{Tag, TlvError, TlvFault, put, single, wrap};

/// One element with its types, and what they do not say.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileElement {
    /// Which alternative.
    pub kind: Kind,
    /// Its members.
    pub content: Content,
    /// What this version does not know: written back at its place by [`ProfileElement::encode`].
    pub unknown: Vec<UnknownMember>,
}

/// The members of an element.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, clippy::large_enum_variant)] // the names are the specification's; a package has some thirty of them
pub enum Content {
    Header(ProfileHeader),
    GenericFileManagement(GenericFileManagement),
    PinCodes(PinCodes),
    PukCodes(PukCodes),
    AkaParameter(AkaParameter),
    CdmaParameter(CdmaParameter),
    SecurityDomain(SecurityDomain),
    Rfm(Rfm),
    Application(Application),
    NonStandard(NonStandard),
    End(End),
    SsimEapTlsParameters(SsimEapTlsParameters),
    FileSystem(FileSystem),
    /// Octets of an element, or of an alternative inside it, that this version does not know.
    Opaque(Vec<u8>),
}

/// A member, an entry of a file or an element that this version does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownMember {
    /// Names from the element down to what holds it; empty for the element itself.
    pub path: String,
    /// Its tag.
    pub tag: Tag,
    /// Octets from the start of the package.
    pub offset: usize,
    /// What holds it, by the numbers of the known children from the element down.
    place: Box<[u32]>,
    /// It stands before the known child of this number.
    before: u32,
    octets: Box<[u8]>,
}

/// What is wrong in an element, and where: `PE 12 usim, offset 2625: ef-imsi/fillFileOffset: ...`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{element}, offset {offset}: {path}{}{fault}", if path.is_empty() { "" } else { ": " })]
pub struct TypedError {
    /// The element, as [`Element::label`] names it.
    pub element: String,
    /// Octets from the start of the package to the innermost member that is wrong.
    pub offset: usize,
    /// Names from the element down to it.
    pub path: String,
    /// What is wrong there.
    pub fault: Fault,
}

/// The ways in which an element is not what SAIP describes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not strict DER.
    #[error("{0}")]
    Tlv(TlvFault),
    /// An INTEGER with surplus octets.
    #[error("the integer is not minimal")]
    NotMinimal,
    /// A member that DER leaves out because it equals its DEFAULT.
    #[error("equals its default, which DER leaves out")]
    EqualsDefault,
    /// A member that has to be there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A known member behind its place, or a second time.
    #[error("{0} stands behind its place or a second time")]
    Order(&'static str),
    /// An item of a list with another tag.
    #[error("tag {found} where {expected} belongs")]
    Tag {
        /// The tag found.
        found: Tag,
        /// The tag of the list's items.
        expected: Tag,
    },
    /// Octets or characters out of SIZE.
    #[error("has {got} octets, {} belong here", span(*.min, *.max))]
    Size {
        /// How many there are.
        got: usize,
        /// How many it takes at least.
        min: usize,
        /// How many it takes at most.
        max: usize,
    },
    /// Items out of SIZE.
    #[error("has {got} items, {} belong here", span(*.min, *.max))]
    Count {
        /// How many there are.
        got: usize,
        /// How many it takes at least.
        min: usize,
        /// How many it takes at most.
        max: usize,
    },
    /// A number out of range.
    #[error("is not a number from 0 to {max}")]
    Range {
        /// The largest it may be.
        max: u32,
    },
    /// A text that is not UTF-8.
    #[error("is not UTF-8")]
    Text,
    /// Not an object identifier.
    #[error("is not an object identifier")]
    Oid,
    /// A choice that holds nothing, or two things.
    #[error("does not hold exactly one alternative")]
    Choice,
    /// The grammar takes it, `rasn` does not: a bug of this module.
    #[error("{0}")]
    Types(String),
}

impl Fault {
    /// Decodes by BER, but not to these octets again: an eUICC may take it, a checker may not.
    pub fn is_not_canonical(&self) -> bool {
        matches!(self, Self::NotMinimal | Self::EqualsDefault)
    }
}

fn span(min: usize, max: usize) -> String {
    match (min, max) {
        (min, usize::MAX) => format!("{min} or more"),
        (min, max) if min == max => min.to_string(),
        (min, max) => format!("{min} to {max}"),
    }
}

/// Why a changed element cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A value that its type does not allow.
    #[error("{0}")]
    Value(String),
    /// What held an unknown member is gone.
    #[error("{path}: member {tag} has no place any more")]
    Place {
        /// Where it stood.
        path: String,
        /// Its tag.
        tag: Tag,
    },
}

/// Everything that is wrong or unknown in an element.
pub fn examine(element: &Element<'_>) -> Examination {
    walk::examine(element)
}

/// The types of one element, or its first fault.
pub fn decode(element: &Element<'_>) -> Result<ProfileElement, TypedError> {
    let Examination { faults, unknown, is_opaque } = examine(element);
    if let Some(first) = faults.into_iter().next() {
        return Err(first);
    }
    if is_opaque || element.kind == Kind::Unknown {
        let content = Content::Opaque(element.tlv.whole.to_vec());
        return Ok(ProfileElement { kind: element.kind, content, unknown });
    }
    let cut;
    let known = if unknown.is_empty() {
        element.tlv.whole
    } else {
        cut = extras::cut(&element.tlv, &unknown);
        &cut
    };
    let content = content(element.kind, known).map_err(|what| TypedError {
        element: element.label(),
        offset: element.tlv.offset,
        path: String::new(),
        fault: Fault::Types(what),
    })?;
    Ok(ProfileElement { kind: element.kind, content, unknown })
}

/// The types of a whole template, or its first fault.
pub fn decode_all(der: &[u8]) -> Result<Vec<ProfileElement>, TypedError> {
    let package = Package::parse(der).map_err(|TlvError { offset, fault }| TypedError {
        element: package::label_at(der, offset),
        offset,
        path: String::new(),
        fault: Fault::Tlv(fault),
    })?;
    package.elements.iter().map(decode).collect()
}

fn content(kind: Kind, element: &[u8]) -> Result<Content, String> {
    Ok(match kind {
        Kind::Header => Content::Header(sequence(kind, element)?),
        Kind::GenericFileManagement => Content::GenericFileManagement(sequence(kind, element)?),
        Kind::PinCodes => Content::PinCodes(sequence(kind, element)?),
        Kind::PukCodes => Content::PukCodes(sequence(kind, element)?),
        Kind::AkaParameter => Content::AkaParameter(sequence(kind, element)?),
        Kind::CdmaParameter => Content::CdmaParameter(sequence(kind, element)?),
        Kind::SecurityDomain => Content::SecurityDomain(sequence(kind, element)?),
        Kind::Rfm => Content::Rfm(sequence(kind, element)?),
        Kind::Application => Content::Application(sequence(kind, element)?),
        Kind::NonStandard => Content::NonStandard(sequence(kind, element)?),
        Kind::End => Content::End(sequence(kind, element)?),
        Kind::SsimEapTlsParameters => Content::SsimEapTlsParameters(sequence(kind, element)?),
        _ => Content::FileSystem(file_system(kind, element)?),
    })
}

/// The element's alternative is an IMPLICIT tag over a SEQUENCE.
fn sequence<T: Decode>(kind: Kind, element: &[u8]) -> Result<T, String> {
    let tlv = single(element, kind.tag().unwrap_or(Tag(0x30))).map_err(|e| e.to_string())?;
    retyped(Tag(0x30), tlv.value)
}

fn retyped<T: Decode>(tag: Tag, value: &[u8]) -> Result<T, String> {
    rasn::der::decode(&wrap(tag, &[value])).map_err(|e| e.to_string())
}

fn file_system(kind: Kind, element: &[u8]) -> Result<FileSystem, String> {
    let tlv = single(element, kind.tag().unwrap_or(Tag(0x30))).map_err(|e| e.to_string())?;
    let mut members = children(&tlv);
    let mut next = || members.next().ok_or("ends early");
    let header = retyped(Tag(0x30), next()?.value)?;
    let template_id = retyped(Tag(0x06), next()?.value)?;
    let file = |tlv: crate::formats::tlv::Tlv<'_>| {
        Ok((context_number(tlv.tag).ok_or("not a context tag")?, retyped(Tag(0x30), tlv.value)?))
    };
    Ok(FileSystem { header, template_id, files: members.map(file).collect::<Result<_, String>>()? })
}

impl ProfileElement {
    /// Its octets; those it was read from, when nothing was changed.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let known = match &self.content {
            Content::Header(it) => self.tagged(it),
            Content::GenericFileManagement(it) => self.tagged(it),
            Content::PinCodes(it) => self.tagged(it),
            Content::PukCodes(it) => self.tagged(it),
            Content::AkaParameter(it) => self.tagged(it),
            Content::CdmaParameter(it) => self.tagged(it),
            Content::SecurityDomain(it) => self.tagged(it),
            Content::Rfm(it) => self.tagged(it),
            Content::Application(it) => self.tagged(it),
            Content::NonStandard(it) => self.tagged(it),
            Content::End(it) => self.tagged(it),
            Content::SsimEapTlsParameters(it) => self.tagged(it),
            Content::FileSystem(it) => self.file_system(it),
            Content::Opaque(octets) => return Ok(octets.clone()),
        }?;
        if self.unknown.is_empty() {
            return Ok(known);
        }
        let tlv = single(&known, self.tag()).map_err(|e| EncodeError::Value(e.to_string()))?;
        let (mut out, mut rest) = (Vec::with_capacity(known.len()), &self.unknown[..]);
        extras::put_back(&mut out, &tlv, &mut Vec::new(), &mut rest);
        match rest.first() {
            None => Ok(out),
            Some(left) => Err(EncodeError::Place { path: left.path.clone(), tag: left.tag }),
        }
    }

    fn tag(&self) -> Tag {
        self.kind.tag().unwrap_or(Tag(0x30))
    }

    fn tagged<T: Encode>(&self, members: &T) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        put_retagged(&mut out, Tag(0x30), self.tag(), members)?;
        Ok(out)
    }

    fn file_system(&self, it: &FileSystem) -> Result<Vec<u8>, EncodeError> {
        let mut value = Vec::new();
        put_retagged(&mut value, Tag(0x30), constructed(0), &it.header)?;
        put_retagged::<ObjectIdentifier>(&mut value, Tag(0x06), primitive(1), &it.template_id)?;
        for (number, file) in &it.files {
            put_retagged(&mut value, Tag(0x30), constructed(*number), file)?;
        }
        Ok(wrap(self.tag(), &[&value]))
    }
}

fn put_retagged<T: Encode>(out: &mut Vec<u8>, from: Tag, to: Tag, value: &T) -> Result<(), EncodeError> {
    let encoded = rasn::der::encode(value).map_err(|e| EncodeError::Value(e.to_string()))?;
    let tlv = single(&encoded, from).map_err(|e| EncodeError::Value(e.to_string()))?;
    put(out, to, tlv.value);
    Ok(())
}

#[cfg(test)]
mod tests;
