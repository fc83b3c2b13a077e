//! A package under the knife: untouched elements stay shared slices, a touched element becomes a tree whose lengths are made anew.
//!
//! Where every place of a record's value has a fixed size, an element is laid out once, while the template is compiled: an image
//! with zeros in the gaps, and the list of gaps. Personalising is then a copy and the filling of gaps; no length is computed. Only
//! an element with a splice, whose length differs from record to record, stays a tree and is laid out for each of them.

use std::borrow::Cow;

use crate::formats::saip::file::EntryTags;
use crate::formats::tlv::{self, Reader, Tag, Tlv};

/// One TLV of the rope.
#[derive(Debug)]
pub(super) enum Node<'t, F> {
    /// Whole TLVs as they are: one of the template, or those made while compiling, which may be none.
    Whole(Cow<'t, [u8]>),
    /// A primitive TLV in parts.
    Value(Tag, Vec<Part<'t, F>>),
    /// A constructed TLV.
    Group(Tag, Vec<Node<'t, F>>),
    /// Whole TLVs made for each record, none or more.
    Splice(F),
}

/// A piece of a primitive value.
#[derive(Debug)]
pub(super) enum Part<'t, F> {
    /// Octets of the template, or made while compiling: the same for every record.
    Octets(Cow<'t, [u8]>),
    /// A gap of this size for a record's value.
    Gap(usize, F),
}

/// What goes into the gaps and splices of a rope.
pub(super) trait Filling<F> {
    /// Octets of a splice.
    fn splice_len(&self, what: &F) -> usize;
    /// Appends a splice.
    fn splice(&mut self, what: &F, out: &mut Vec<u8>);
    /// Appends the `len` octets of a gap.
    fn gap(&mut self, what: &F, len: usize, out: &mut Vec<u8>);
}

impl<'t, F> Part<'t, F> {
    /// Octets made while compiling.
    pub(super) fn made(octets: Vec<u8>) -> Self {
        Self::Octets(Cow::Owned(octets))
    }

    fn len(&self) -> usize {
        match self {
            Self::Octets(octets) => octets.len(),
            Self::Gap(len, _) => *len,
        }
    }

    /// Cut at `at`; a gap cannot be cut, it goes where it begins.
    fn split(self, at: usize) -> (Option<Self>, Option<Self>) {
        match self {
            part if at == 0 => (None, Some(part)),
            part if at >= part.len() => (Some(part), None),
            Self::Octets(Cow::Borrowed(octets)) => {
                let (head, tail) = octets.split_at(at);
                (Some(Self::Octets(Cow::Borrowed(head))), Some(Self::Octets(Cow::Borrowed(tail))))
            }
            Self::Octets(Cow::Owned(mut octets)) => {
                let tail = octets.split_off(at);
                (Some(Self::made(octets)), Some(Self::made(tail)))
            }
            gap @ Self::Gap(..) => (Some(gap), None),
        }
    }
}

impl<'t, F> Node<'t, F> {
    /// Opens a TLV on all levels. The input was walked by `check_strict` before.
    pub(super) fn open(tlv: &Tlv<'t>) -> Self {
        if tlv.tag.is_constructed() {
            let mut reader: Reader<'t> = tlv.children();
            let mut children = Vec::new();
            while let Ok(Some(child)) = reader.next_tlv() {
                children.push(Self::open(&child));
            }
            Self::Group(tlv.tag, children)
        } else {
            Self::Value(tlv.tag, vec![Part::Octets(Cow::Borrowed(tlv.value))])
        }
    }

    /// Whole TLVs made while compiling.
    pub(super) fn made(octets: Vec<u8>) -> Self {
        Self::Whole(Cow::Owned(octets))
    }

    /// Its tag; `None` for whole TLVs and splices.
    pub(super) fn tag(&self) -> Option<Tag> {
        match self {
            Self::Whole(_) | Self::Splice(_) => None,
            Self::Value(tag, _) | Self::Group(tag, _) => Some(*tag),
        }
    }

    /// What it holds, empty for anything but a group.
    pub(super) fn children(&mut self) -> Option<&mut Vec<Self>> {
        if let Self::Group(_, children) = self { Some(children) } else { None }
    }

    /// The first child with this tag.
    pub(super) fn child(&mut self, tag: Tag) -> Option<&mut Self> {
        self.children()?.iter_mut().find(|child| child.tag() == Some(tag))
    }

    /// Down a path of tags.
    pub(super) fn descend(&mut self, path: &[Tag]) -> Option<&mut Self> {
        path.iter().try_fold(self, |node, tag| node.child(*tag))
    }

    /// The octets of a primitive value without gaps, the template's or made.
    pub(super) fn octets(&self) -> Option<&[u8]> {
        match self {
            Self::Value(_, parts) => match &parts[..] {
                [Part::Octets(octets)] => Some(octets),
                _ => None,
            },
            _ => None,
        }
    }

    /// Its length differs from record to record.
    pub(super) fn has_splice(&self) -> bool {
        match self {
            Self::Splice(_) => true,
            Self::Group(_, children) => children.iter().any(Self::has_splice),
            Self::Whole(_) | Self::Value(..) => false,
        }
    }

    /// Free of the template it was opened from.
    pub(super) fn into_owned(self) -> Node<'static, F> {
        let owned = |part| match part {
            Part::Octets(octets) => Part::made(octets.into_owned()),
            Part::Gap(len, what) => Part::Gap(len, what),
        };
        match self {
            Self::Whole(octets) => Node::made(octets.into_owned()),
            Self::Value(tag, parts) => Node::Value(tag, parts.into_iter().map(owned).collect()),
            Self::Group(tag, children) => Node::Group(tag, children.into_iter().map(Self::into_owned).collect()),
            Self::Splice(what) => Node::Splice(what),
        }
    }

    /// Replaces the value of a primitive.
    pub(super) fn set(&mut self, part: Part<'t, F>) {
        if let Self::Value(_, parts) = self {
            *parts = vec![part];
        }
    }

    fn value_len(&self, filling: &impl Filling<F>) -> usize {
        match self {
            Self::Whole(octets) => octets.len(),
            Self::Value(_, parts) => parts.iter().map(Part::len).sum(),
            Self::Group(_, children) => children.iter().map(|child| child.len(filling)).sum(),
            Self::Splice(what) => filling.splice_len(what),
        }
    }

    /// Octets of the TLV.
    pub(super) fn len(&self, filling: &impl Filling<F>) -> usize {
        match self {
            Self::Whole(_) | Self::Splice(_) => self.value_len(filling),
            Self::Value(tag, _) | Self::Group(tag, _) => tlv::tlv_len(tag.len(), self.value_len(filling)),
        }
    }

    /// Appends the TLV to `out`.
    pub(super) fn lay_out(&self, out: &mut Vec<u8>, filling: &mut impl Filling<F>) {
        match self {
            Self::Whole(octets) => out.extend_from_slice(octets),
            Self::Splice(what) => filling.splice(what, out),
            Self::Value(tag, parts) => {
                tlv::put_head(out, *tag, self.value_len(filling));
                for part in parts {
                    match part {
                        Part::Octets(octets) => out.extend_from_slice(octets),
                        Part::Gap(len, what) => filling.gap(what, *len, out),
                    }
                }
            }
            Self::Group(tag, children) => {
                tlv::put_head(out, *tag, self.value_len(filling));
                children.iter().for_each(|child| child.lay_out(out, filling));
            }
        }
    }
}

/// Makes the entries of one file (see `formats::saip::file`) write `parts` at `at`, whatever wrote there before; the rest of the
/// file keeps its content. A file that has its content from a pattern gets an explicit write.
pub(super) fn write_file<'t, F>(entries: &mut Vec<Node<'t, F>>, tags: EntryTags, at: usize, parts: Vec<Part<'t, F>>) {
    let end = at.saturating_add(parts_len(&parts));
    let mut writes: Vec<(usize, Vec<Part<'t, F>>)> = Vec::new();
    let mut kept = Vec::new();
    let mut position = 0_usize;
    for entry in entries.drain(..) {
        match entry {
            Node::Value(tag, skip) if tag == tags.offset => {
                position = position.saturating_add(skip_of(&skip));
            }
            Node::Value(tag, content) if tag == tags.content => {
                let start = position;
                position = position.saturating_add(parts_len(&content));
                writes.push((start, content));
            }
            other => kept.push(other),
        }
    }
    let (mut start, mut value) = (at, parts);
    let mut apart = Vec::new();
    for (from, content) in writes {
        let to = from.saturating_add(parts_len(&content));
        if to <= at || from >= end {
            apart.push((from, content));
            continue;
        }
        let (before, rest) = split_parts(content, at.saturating_sub(from));
        let (_, after) = split_parts(rest, end.saturating_sub(from.max(at)));
        if from < start {
            start = from;
            value.splice(0..0, before);
        }
        value.extend(after);
    }
    apart.push((start, value));
    apart.sort_by_key(|(from, _)| *from);
    *entries = kept;
    let mut position = 0;
    for (from, content) in apart {
        if from > position {
            entries.push(Node::Value(tags.offset, vec![Part::made(integer(from - position))]));
        }
        position = from.saturating_add(parts_len(&content));
        entries.push(Node::Value(tags.content, content));
    }
}

type Parts<'t, F> = Vec<Part<'t, F>>;

fn parts_len<F>(parts: &[Part<'_, F>]) -> usize {
    parts.iter().map(Part::len).sum()
}

fn split_parts<F>(parts: Parts<'_, F>, at: usize) -> (Parts<'_, F>, Parts<'_, F>) {
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    let mut left = at;
    for part in parts {
        let len = part.len();
        let (before, after) = part.split(left);
        head.extend(before);
        tail.extend(after);
        left = left.saturating_sub(len);
    }
    (head, tail)
}

fn skip_of<F>(parts: &[Part<'_, F>]) -> usize {
    let [Part::Octets(octets)] = parts else { return 0 };
    octets.iter().fold(0, |sum: usize, octet| sum.saturating_mul(256).saturating_add(usize::from(*octet)))
}

/// DER INTEGER, non-negative.
fn integer(value: usize) -> Vec<u8> {
    let octets = value.to_be_bytes();
    let from = octets.iter().position(|octet| *octet != 0).unwrap_or(octets.len() - 1);
    let sign = if octets[from] & 0x80 != 0 { &[0][..] } else { &[] };
    [sign, &octets[from..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::saip::file::{FILE_TAGS, FileView};
    use crate::formats::tlv::{single, wrap};
    use proptest::prelude::*;

    fn edited(file: &[u8], at: usize, len: usize) -> (Vec<u8>, usize) {
        let mut node: Node<'_, ()> = Node::open(&single(file, Tag(0xA3)).unwrap());
        write_file(node.children().unwrap(), FILE_TAGS, at, vec![Part::Gap(len, ())]);
        let (mut image, mut place) = (Vec::new(), Place(0));
        assert!(!node.has_splice());
        node.lay_out(&mut image, &mut place);
        assert_eq!(image.len(), node.len(&place));
        (image, place.0)
    }

    /// Zeros in the gap, whose place is noted; three octets in a splice.
    struct Place(usize);

    impl Filling<()> for Place {
        fn splice_len(&self, (): &()) -> usize {
            3
        }

        fn splice(&mut self, (): &(), out: &mut Vec<u8>) {
            out.extend([0x9E, 1, 7]);
        }

        fn gap(&mut self, (): &(), len: usize, out: &mut Vec<u8>) {
            self.0 = out.len();
            out.resize(out.len() + len, 0);
        }
    }

    #[test]
    fn a_splice_makes_the_lengths_around_it_anew() {
        let group = wrap(Tag(0xA1), &[&wrap(Tag(0xA3), &[&wrap(Tag(0x83), &[&[7; 120]])])]);
        let mut node: Node<'_, ()> = Node::open(&single(&group, Tag(0xA1)).unwrap());
        node.child(Tag(0xA3)).and_then(Node::children).unwrap().push(Node::Splice(()));
        assert!(node.has_splice());
        let (node, mut image) = (node.into_owned(), Vec::new());
        node.lay_out(&mut image, &mut Place(0));
        let inside = wrap(Tag(0xA3), &[&wrap(Tag(0x83), &[&[7; 120]]), &[0x9E, 1, 7]]);
        assert_eq!(image, wrap(Tag(0xA1), &[&inside]));
        assert_eq!(image.len(), node.len(&Place(0)));
    }

    #[test]
    fn a_write_of_the_same_extent_is_replaced_in_place() {
        let file = wrap(Tag(0xA3), &[&wrap(Tag(0xA1), &[]), &wrap(Tag(0x83), &[&[7; 9]])]);
        let (image, place) = edited(&file, 0, 9);
        assert_eq!(image.len(), file.len());
        assert_eq!(place, 6);
        assert_eq!(image[6..], [0; 9]);
    }

    #[test]
    fn a_file_without_content_gets_an_explicit_write() {
        let file = wrap(Tag(0xA3), &[&wrap(Tag(0xA1), &[])]);
        let (image, place) = edited(&file, 0, 9);
        assert_eq!(image, wrap(Tag(0xA3), &[&wrap(Tag(0xA1), &[]), &wrap(Tag(0x83), &[&[0; 9]])]));
        assert_eq!(place, 6);
    }

    #[test]
    fn lengths_that_cross_a_border_are_made_anew() {
        let file = wrap(Tag(0xA3), &[&wrap(Tag(0x83), &[&[7; 100]])]);
        let (image, _) = edited(&file, 100, 100);
        assert!(crate::formats::tlv::check_strict(&image).is_ok());
        assert_eq!(image.len(), 3 + 2 + 100 + 2 + 100);
    }

    #[test]
    fn skips_are_der_integers() {
        assert_eq!(integer(0), [0]);
        assert_eq!(integer(127), [127]);
        assert_eq!(integer(128), [0, 128]);
        assert_eq!(integer(256), [1, 0]);
    }

    #[test]
    fn offsets_that_overflow_do_not_stop_the_edit() {
        let huge = wrap(Tag(0x82), &[&[0xFF; 8]]);
        let file = wrap(Tag(0xA3), &[&huge, &wrap(Tag(0x83), &[&[7; 4]]), &huge, &wrap(Tag(0x83), &[&[7; 4]])]);
        let (image, place) = edited(&file, 0, 9);
        assert_eq!(image[place..place + 9], [0; 9]);
    }

    proptest! {
        /// Any list of writes: after the edit the gap reads as zeros, everything else as before.
        #[test]
        fn an_edit_changes_its_own_range_only(
            writes in proptest::collection::vec((0..40_usize, proptest::collection::vec(1..=255_u8, 1..30)), 0..6),
            at in 0..120_usize,
            len in 1..60_usize,
        ) {
            let entries: Vec<u8> = writes
                .iter()
                .flat_map(|(skip, content)| [wrap(Tag(0x82), &[&integer(*skip)]), wrap(Tag(0x83), &[content])].concat())
                .collect();
            let file = wrap(Tag(0xA3), &[&entries]);
            let before = FileView::single(&single(&file, Tag(0xA3)).unwrap()).unwrap().content(600);
            let (image, _) = edited(&file, at, len);
            let after = FileView::single(&single(&image, Tag(0xA3)).unwrap()).unwrap().content(600);
            for position in 0..600 {
                let expected = if (at..at + len).contains(&position) { Some(0) } else { before[position] };
                prop_assert_eq!(after[position], expected, "position {}", position);
            }
        }
    }
}
