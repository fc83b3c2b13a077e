//! A grammar of the module PEDefinitions as data: which members a SEQUENCE has, in which order, and what may stand in each.
//!
//! `rasn` gives the types, this gives the places: `rasn` knows no offsets, refuses members appended by a newer version and takes
//! integers and defaults that DER forbids. Each family file holds a type and, beside it, its shape; a test compares both.

use crate::formats::saip::kind::{constructed, primitive};
use crate::formats::tlv::Tag;

/// What may stand in a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// NULL.
    Null,
    /// OCTET STRING with its SIZE.
    Octets { min: usize, max: usize },
    /// INTEGER from 0.
    Integer { max: u32 },
    /// UTF8String with its SIZE in characters.
    Text { min: usize, max: usize },
    /// OBJECT IDENTIFIER.
    Oid,
    /// TLVs of another specification, kept as they are.
    Opaque,
    /// SEQUENCE: the members in their order.
    Sequence(&'static [Member]),
    /// SEQUENCE OF one type.
    ListOf { item: &'static Member, min: usize, max: usize },
    /// SEQUENCE OF CHOICE.
    Entries { of: &'static [Member], min: usize },
    /// CHOICE, whose own tag is always explicit.
    Choice(&'static [Member]),
}

impl Shape {
    const fn is_constructed(&self) -> bool {
        !matches!(self, Self::Null | Self::Octets { .. } | Self::Integer { .. } | Self::Text { .. } | Self::Oid)
    }
}

/// Whether a member has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It has to.
    Must,
    /// OPTIONAL.
    May,
    /// DEFAULT with the octets of its value, which DER leaves out.
    Default(&'static [u8]),
}

/// A member of a SEQUENCE, or an alternative of a CHOICE.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) tag: Tag,
    pub(super) presence: Presence,
    pub(super) shape: Shape,
}

impl Member {
    /// With its hand-written tag.
    pub(super) const fn tagged(mut self, tag: u32) -> Self {
        self.tag = Tag(tag);
        self
    }
}

/// A member that has to be there; also an alternative, or the items of a list.
pub(super) const fn must(name: &'static str, shape: Shape) -> Member {
    Member { name, tag: Tag(0), presence: Presence::Must, shape }
}

/// An OPTIONAL member.
pub(super) const fn may(name: &'static str, shape: Shape) -> Member {
    Member { name, tag: Tag(0), presence: Presence::May, shape }
}

/// A member with a DEFAULT.
pub(super) const fn default(name: &'static str, shape: Shape, value: &'static [u8]) -> Member {
    Member { name, tag: Tag(0), presence: Presence::Default(value), shape }
}

/// Context tags by place, as automatic tagging gives them.
pub(super) const fn automatic<const N: usize>(mut members: [Member; N]) -> [Member; N] {
    let mut at = 0;
    while at < N {
        let number = at as u8;
        members[at].tag = if members[at].shape.is_constructed() { constructed(number) } else { primitive(number) };
        at += 1;
    }
    members
}

pub(super) const NULL: Shape = Shape::Null;
pub(super) const OID: Shape = Shape::Oid;
pub(super) const UINT8: Shape = Shape::Integer { max: 255 };
pub(super) const UINT15: Shape = Shape::Integer { max: 32_767 };
pub(super) const UINT16: Shape = Shape::Integer { max: 65_535 };
/// OCTET STRING of any length.
pub(super) const OCTETS: Shape = octets(0, usize::MAX);
/// ApplicationIdentifier.
pub(super) const AID: Shape = octets(5, 16);

/// OCTET STRING (SIZE (min..max)).
pub(super) const fn octets(min: usize, max: usize) -> Shape {
    Shape::Octets { min, max }
}

/// OCTET STRING (SIZE (len)).
pub(super) const fn exactly(len: usize) -> Shape {
    octets(len, len)
}

/// SEQUENCE (SIZE (1..MAX)) OF.
pub(super) const fn list_of(item: &'static Member) -> Shape {
    Shape::ListOf { item, min: 1, max: usize::MAX }
}

/// A SEQUENCE inside a SEQUENCE OF.
pub(super) const fn sequence_item(name: &'static str, members: &'static [Member]) -> Member {
    must(name, Shape::Sequence(members)).tagged(0x30)
}

/// An OCTET STRING inside a SEQUENCE OF.
pub(super) const fn octets_item(name: &'static str, shape: Shape) -> Member {
    must(name, shape).tagged(0x04)
}
