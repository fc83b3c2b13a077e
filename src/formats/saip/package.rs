//! A profile package as its elements: strict DER, nothing interpreted beyond the outer names, unknown elements kept as they are.

use super::kind::Kind;
use crate::formats::tlv::{self, Reader, Tag, Tlv, TlvError};

/// A profile package (template or UPP), cut into its elements. Borrows the bytes it was read from.
#[derive(Debug)]
pub struct Package<'a> {
    /// The elements in their order.
    pub elements: Vec<Element<'a>>,
}

/// One profile element and its place.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a> {
    /// Its place in the package, from 1: `PE 12`.
    pub number: usize,
    /// Which alternative.
    pub kind: Kind,
    /// Its bytes and offset.
    pub tlv: Tlv<'a>,
    /// `identification` of its PE header; a ProfileHeader has none.
    pub id: Option<u16>,
    /// The PE header's `mandated` flag.
    pub mandated: bool,
}

impl<'a> Package<'a> {
    /// Reads a package; every TLV on every level must be strict DER.
    pub fn parse(der: &'a [u8]) -> Result<Self, TlvError> {
        tlv::check_strict(der)?;
        let mut reader = Reader::new(der);
        let mut elements = Vec::new();
        while let Some(tlv) = reader.next_tlv()? {
            elements.push(Element::read(elements.len() + 1, tlv));
        }
        Ok(Self { elements })
    }

    /// The elements of one kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Element<'a>> {
        self.elements.iter().filter(move |element| element.kind == kind)
    }
}

impl<'a> Element<'a> {
    fn read(number: usize, tlv: Tlv<'a>) -> Self {
        let kind = Kind::of(tlv.tag);
        let header = child(&tlv, Tag(0xA0)).filter(|_| !matches!(kind, Kind::Header | Kind::Unknown));
        let id = header.and_then(|header| child(&header, Tag(0x81))).and_then(|id| unsigned(id.value));
        let mandated = header.is_some_and(|header| child(&header, Tag(0x80)).is_some());
        Self { number, kind, tlv, id: id.and_then(|id| u16::try_from(id).ok()), mandated }
    }

    /// How messages name it: `PE 8 usim`.
    pub fn label(&self) -> String {
        match self.kind {
            Kind::Unknown => format!("PE {} {}", self.number, self.tlv.tag),
            kind => format!("PE {} {kind}", self.number),
        }
    }

    /// The first member with this tag.
    pub fn member(&self, tag: Tag) -> Option<Tlv<'a>> {
        child(&self.tlv, tag)
    }

    /// The file of this name, as the ASN.1 module spells it.
    pub fn file(&self, name: &str) -> Option<Tlv<'a>> {
        self.member(super::kind::constructed(self.kind.file_number(name)?))
    }
}

/// How messages name the element at an offset of octets that are not a package: `PE 8 usim`, or `package` outside of any.
pub fn label_at(der: &[u8], offset: usize) -> String {
    let mut reader = Reader::new(der);
    let mut number = 1;
    while reader.offset() <= offset {
        let (from, tag) = (reader.offset(), reader.peek());
        match (reader.next_tlv(), tag) {
            (Ok(Some(_)), _) if reader.offset() <= offset => number += 1,
            (Ok(None), _) | (_, None) => break,
            (_, Some(tag)) => {
                let tlv = Tlv { tag, whole: &[], value: &[], offset: from };
                return Element { number, kind: Kind::of(tag), tlv, id: None, mandated: false }.label();
            }
        }
    }
    "package".to_owned()
}

/// The first TLV with this tag directly inside `parent`.
pub fn child<'a>(parent: &Tlv<'a>, tag: Tag) -> Option<Tlv<'a>> {
    children(parent).find(|tlv| tlv.tag == tag)
}

/// The TLVs directly inside `parent`, up to the first that is malformed (none is in a [`Package`]).
pub fn children<'a>(parent: &Tlv<'a>) -> impl Iterator<Item = Tlv<'a>> + use<'a> {
    let mut reader = parent.children();
    std::iter::from_fn(move || reader.next_tlv().ok().flatten())
}

/// A non-negative INTEGER or size of up to 8 octets.
pub fn unsigned(octets: &[u8]) -> Option<u64> {
    let significant = octets.iter().position(|octet| *octet != 0).map_or(&[][..], |at| &octets[at..]);
    (!octets.is_empty() && significant.len() <= 8)
        .then(|| significant.iter().fold(0, |sum, octet| sum << 8 | u64::from(*octet)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_named_and_unknown_ones_kept() {
        let der = [0xA0, 0x00, 0xBF, 0x7E, 0x02, 0x80, 0x00, 0xAA, 0x07, 0xA0, 0x05, 0x80, 0x00, 0x81, 0x01, 0x1F];
        let package = Package::parse(&der).unwrap();
        let kinds: Vec<_> = package.elements.iter().map(|element| element.kind).collect();
        assert_eq!(kinds, [Kind::Header, Kind::Unknown, Kind::End]);
        let end = &package.elements[2];
        assert_eq!((end.id, end.mandated, end.tlv.offset), (Some(31), true, 7));
        assert_eq!(package.elements[1].label(), "PE 2 BF7E");
    }

    #[test]
    fn a_package_that_is_not_strict_der_is_refused_with_its_offset() {
        assert_eq!(Package::parse(&[0xA0, 0x03, 0x80, 0x81, 0x00]).unwrap_err().offset, 2);
    }

    #[test]
    fn an_offset_belongs_to_an_element_even_when_that_is_damaged() {
        let damaged = [0xA0, 0x00, 0xB3, 0x02, 0x80, 0x00, 0xB2, 0x09, 0x80];
        let labels = [0, 1, 2, 5, 6, 8, 900].map(|offset| label_at(&damaged, offset));
        assert_eq!(
            labels,
            ["PE 1 header", "PE 1 header", "PE 2 usim", "PE 2 usim", "PE 3 telecom", "PE 3 telecom", "PE 3 telecom"]
        );
        assert_eq!(label_at(&[0xA0, 0x00, 0xBF], 2), "package");
        assert_eq!(label_at(&[], 0), "package");
    }

    #[test]
    fn integers_of_more_than_eight_octets_are_not_read() {
        assert_eq!(unsigned(&[0, 0x81]), Some(0x81));
        assert_eq!(unsigned(&[1; 9]), None);
        assert_eq!(unsigned(&[]), None);
    }
}
