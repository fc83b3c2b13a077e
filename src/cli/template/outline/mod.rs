//! A template as `show` prints it and `diff` compares it: elements, the facts in them, their files.
//!
//! In: a [`Package`]. Out: [`Outline`]. Rule: a key, PIN, PUK or authentication state never becomes text, not even a placeholder's;
//! what this version does not know is listed by tag and size.

mod codes;
mod domain;
mod file;
mod header;
mod network;
mod words;

use serde::Serialize;

use crate::formats::saip::kind::Kind;
use crate::formats::saip::package::{Element, Package, children};
use crate::formats::tlv::{Tag, Tlv};

pub(super) use file::{Content, FileOutline};
pub(super) use words::{counted, octets};

/// A package in the order of its elements.
#[derive(Debug, Serialize)]
pub(super) struct Outline<'a> {
    pub(super) bytes: usize,
    pub(super) segments: usize,
    pub(super) elements: Vec<Part<'a>>,
}

/// One element.
#[derive(Debug, Serialize)]
pub(super) struct Part<'a> {
    /// Place in the package, from 1.
    pub(super) number: usize,
    /// Name of its kind, or its tag.
    pub(super) element: String,
    pub(super) id: Option<u16>,
    pub(super) mandated: bool,
    pub(super) tag: String,
    pub(super) offset: usize,
    pub(super) bytes: usize,
    pub(super) facts: Vec<Fact<'a>>,
    pub(super) files: Vec<FileOutline<'a>>,
    /// Another element of the same kind goes before: this is the second, third, ...
    #[serde(skip)]
    pub(super) nth: usize,
}

/// Something an element says, in words.
#[derive(Debug, Serialize)]
pub(super) struct Fact<'a> {
    pub(super) name: String,
    pub(super) value: String,
    /// What it was read from: two facts with the same words may still differ in what is not shown.
    #[serde(skip)]
    pub(super) raw: Vec<&'a [u8]>,
}

impl<'a> Outline<'a> {
    pub(super) fn of(package: &Package<'a>) -> Self {
        let bytes = package.elements.iter().map(|element| element.tlv.whole.len()).sum();
        let mut seen = std::collections::HashMap::new();
        let elements = package.elements.iter().map(|element| {
            let nth = seen.entry(element.tlv.tag).or_insert(0);
            *nth += 1;
            Part::of(element, *nth)
        });
        Self { bytes, segments: super::segments(bytes), elements: elements.collect() }
    }
}

impl<'a> Part<'a> {
    fn of(element: &Element<'a>, nth: usize) -> Self {
        let kind = element.kind;
        let mut members = Members::of(&element.tlv);
        let mut facts = Facts::default();
        let mut files = Vec::new();
        if kind != Kind::Header && kind != Kind::Unknown {
            members.take(Tag(0xA0));
        }
        match kind {
            Kind::Header => header::facts(&mut members, &mut facts),
            Kind::GenericFileManagement => files = file::made_by_gfm(&mut members),
            Kind::PinCodes => codes::pins(&mut members, &mut facts),
            Kind::PukCodes => codes::puks(&mut members, &mut facts),
            Kind::AkaParameter => network::aka(&mut members, &mut facts),
            Kind::CdmaParameter => network::cdma(&mut members, &mut facts),
            Kind::SecurityDomain => domain::security_domain(&mut members, &mut facts),
            Kind::Rfm => domain::rfm(&mut members, &mut facts),
            Kind::Application => domain::application(&mut members, &mut facts),
            Kind::NonStandard => network::non_standard(&mut members, &mut facts),
            kind if kind.is_file_system() => files = file::of_template(kind, &mut members, &mut facts),
            _ => {}
        }
        facts.unknown("", members);
        let tag = element.tlv.tag.to_string();
        let name = if kind == Kind::Unknown { tag.clone() } else { kind.name().to_owned() };
        Self {
            number: element.number,
            element: name,
            id: element.id,
            mandated: element.mandated,
            tag,
            offset: element.tlv.offset,
            bytes: element.tlv.whole.len(),
            facts: facts.0,
            files,
            nth,
        }
    }
}

/// Members of an element that nobody has read yet.
struct Members<'a>(Vec<Tlv<'a>>);

impl<'a> Members<'a> {
    fn of(parent: &Tlv<'a>) -> Self {
        Self(children(parent).collect())
    }

    /// The first with this tag.
    fn take(&mut self, tag: Tag) -> Option<Tlv<'a>> {
        let at = self.0.iter().position(|tlv| tlv.tag == tag)?;
        Some(self.0.remove(at))
    }
}

/// Facts in their order.
#[derive(Default)]
struct Facts<'a>(Vec<Fact<'a>>);

impl<'a> Facts<'a> {
    fn add(&mut self, name: impl Into<String>, tlv: &Tlv<'a>, value: impl Into<String>) {
        self.of_many(name, vec![tlv.whole], value);
    }

    fn of_many(&mut self, name: impl Into<String>, raw: Vec<&'a [u8]>, value: impl Into<String>) {
        self.0.push(Fact { name: name.into(), value: value.into(), raw });
    }

    /// A value that nobody may see: its size, and whether anything is in it.
    fn secret(&mut self, name: impl Into<String>, tlv: &Tlv<'a>) {
        self.add(name, tlv, words::hidden(tlv.value));
    }

    /// Octets as hex digits.
    fn hex(&mut self, name: impl Into<String>, tlv: &Tlv<'a>) {
        self.add(name, tlv, words::hex(tlv.value));
    }

    /// What is left: by tag and size.
    fn unknown(&mut self, within: &str, members: Members<'a>) {
        for tlv in members.0 {
            let name = format!("{within}[{}]", tlv.tag);
            self.add(name, &tlv, format!("unknown member of {}", words::octets(tlv.whole.len())));
        }
    }
}

#[cfg(test)]
mod tests;
