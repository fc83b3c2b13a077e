//! The content of a file in a template: a pattern fill, then a list of writes (SAIP §8.3.3).
//!
//! Trap: `fillFileOffset` skips octets from the current position, it is not an absolute offset. Trap: in GenericFileManagement
//! the same list has other tags, the offset being a universal INTEGER, because one hand-written tag turns automatic tagging off.

use super::kind::Kind;
use super::package::{Element, child, children, unsigned};
use crate::formats::tlv::{Tag, Tlv};

/// Tags of one flavour of file entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryTags {
    /// The file control parameters.
    pub descriptor: Tag,
    /// Octets to skip.
    pub offset: Tag,
    /// Octets to write.
    pub content: Tag,
}

/// Entries of a file in an element made from a template.
pub const FILE_TAGS: EntryTags = EntryTags { descriptor: Tag(0xA1), offset: Tag(0x82), content: Tag(0x83) };
/// Entries of a command list in GenericFileManagement.
pub const GFM_TAGS: EntryTags = EntryTags { descriptor: Tag(0x62), offset: Tag(0x02), content: Tag(0x81) };
/// `filePath` in GenericFileManagement.
pub const GFM_PATH: Tag = Tag(0x80);

/// Octets of a file at most. The record count and record length of an EF are one octet each and the offset of READ BINARY has
/// 15 bits (ETSI TS 102 221 §11.1), so nothing a UICC holds is longer; a length above it is an attack on memory or a damaged file.
pub const MAX_FILE: usize = 0xFFFF;

/// A size, an offset or a write that reaches past [`MAX_FILE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Octets of a file it asks for.
    pub octets: usize,
    /// Where in the package it stands.
    pub offset: usize,
}

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "asks for a file of {} octets, a UICC has none above {MAX_FILE}", self.octets)
    }
}

/// One `fillFileContent` with the position in the file it writes to.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Octets from the start of the file.
    pub at: usize,
    /// What is written.
    pub content: &'a [u8],
    /// Offset of `content` in the package.
    pub offset: usize,
}

/// One file: its control parameters if given, and its writes.
#[derive(Clone, Debug, Default)]
pub struct FileView<'a> {
    /// `doNotCreate` is set.
    pub do_not_create: bool,
    /// The file control parameters (Fcp).
    pub descriptor: Option<Tlv<'a>>,
    /// What is written over the pattern, in order.
    pub writes: Vec<Write<'a>>,
    /// Where in the package the first `fillFileOffset` stands.
    pub skip: Option<usize>,
    /// The first offset or write beyond [`MAX_FILE`].
    beyond: Option<TooLong>,
}

impl<'a> FileView<'a> {
    /// The file of a template element; `None` when it exists several times (ADN1, ADN2, ...), see [`FileView::all`].
    pub fn single(file: &Tlv<'a>) -> Option<Self> {
        let mut all = Self::all(file);
        (all.len() == 1).then(|| all.remove(0))
    }

    /// All files of one member of a template element.
    pub fn all(file: &Tlv<'a>) -> Vec<Self> {
        Self::from_entries(children(file), FILE_TAGS)
    }

    /// The files that a GenericFileManagement element creates, in order; writes to files made elsewhere are not among them.
    pub fn of_gfm(element: &Tlv<'a>) -> Vec<Self> {
        Self::touched_by_gfm(element).filter(|file| file.descriptor.is_some()).collect()
    }

    fn touched_by_gfm(element: &Tlv<'a>) -> impl Iterator<Item = Self> + use<'a> {
        let commands = child(element, Tag(0xA1)).into_iter().flat_map(|list| children(&list));
        commands.flat_map(|command| Self::from_entries(children(&command), GFM_TAGS))
    }

    /// Everything in an element that asks for a file above [`MAX_FILE`].
    pub fn too_long(element: &Element<'a>) -> Vec<TooLong> {
        let files: Vec<Self> = match element.kind {
            Kind::GenericFileManagement => Self::touched_by_gfm(&element.tlv).collect(),
            kind => {
                let files = children(&element.tlv).filter(|tlv| kind.file_name(tlv.tag).is_some());
                files.flat_map(|file| Self::all(&file)).collect()
            }
        };
        files.iter().flat_map(|file| [file.size_too_long(), file.beyond]).flatten().collect()
    }

    fn size_too_long(&self) -> Option<TooLong> {
        let size = self.parameter(Tag(0x80)).filter(|size| !size.value.is_empty())?;
        let octets = octets_of(size.value);
        (octets > MAX_FILE).then_some(TooLong { octets, offset: size.offset })
    }

    /// The file that one `createFCP` and the writes behind it make.
    pub fn of_gfm_section(entries: &[Tlv<'a>]) -> Option<Self> {
        Self::from_entries(entries.iter().copied(), GFM_TAGS).into_iter().find(|file| file.descriptor.is_some())
    }

    fn from_entries(entries: impl Iterator<Item = Tlv<'a>>, tags: EntryTags) -> Vec<Self> {
        let mut files = vec![Self::default()];
        let mut at = 0_usize;
        for entry in entries {
            if entry.tag == tags.descriptor || (tags == GFM_TAGS && entry.tag == GFM_PATH) {
                let fresh = files.last().is_some_and(|file| file.descriptor.is_none() && file.writes.is_empty());
                if !fresh {
                    files.push(Self::default());
                }
                at = 0;
            }
            let Some(file) = files.last_mut() else { break };
            if entry.tag == tags.descriptor {
                file.descriptor = Some(entry);
            } else if entry.tag == tags.offset {
                at = at.saturating_add(octets_of(entry.value));
                file.skip.get_or_insert(entry.offset);
            } else if entry.tag == tags.content {
                file.writes.push(Write { at, content: entry.value, offset: entry.value_offset() });
                at = at.saturating_add(entry.value.len());
            } else if tags == FILE_TAGS && entry.tag == Tag(0x80) {
                file.do_not_create = true;
            }
            if at > MAX_FILE && file.beyond.is_none() {
                file.beyond = Some(TooLong { octets: at, offset: entry.offset });
            }
        }
        files
    }

    /// A member of the file control parameters.
    pub fn parameter(&self, tag: Tag) -> Option<Tlv<'a>> {
        child(&self.descriptor?, tag)
    }

    /// `fileID`.
    pub fn file_id(&self) -> Option<&'a [u8]> {
        self.parameter(Tag(0x83)).map(|id| id.value)
    }

    /// `efFileSize`, whatever it claims: allocate by [`FileView::content`] only.
    pub fn size(&self) -> Option<usize> {
        self.parameter(Tag(0x80)).filter(|size| !size.value.is_empty()).map(|size| octets_of(size.value))
    }

    /// Record length of a linear or cyclic file, from the four-octet file descriptor.
    pub fn record_len(&self) -> Option<usize> {
        match self.parameter(Tag(0x82))?.value {
            [_, _, high, low] => Some(usize::from(*high) << 8 | usize::from(*low)),
            _ => None,
        }
    }

    /// The pattern of `proprietaryEFInfo`; the flag says whether it repeats as a whole (else its last octet does).
    pub fn pattern(&self) -> Option<(&'a [u8], bool)> {
        let info = self.parameter(Tag(0xA5))?;
        let fill = child(&info, Tag(0xC1)).map(|pattern| (pattern.value, false));
        fill.or_else(|| child(&info, Tag(0xC2)).map(|pattern| (pattern.value, true)))
    }

    /// The first `len` octets of the file as the package itself gives them: pattern, then writes. `None` where it is silent,
    /// that is, where the template's default holds. At most [`MAX_FILE`] octets, whatever is asked for.
    pub fn content(&self, len: usize) -> Vec<Option<u8>> {
        let mut octets = vec![None; len.min(MAX_FILE)];
        if let Some((pattern, repeats)) = self.pattern().filter(|(pattern, _)| !pattern.is_empty()) {
            for (at, octet) in octets.iter_mut().enumerate() {
                let from = if repeats { at % pattern.len() } else { at.min(pattern.len() - 1) };
                *octet = Some(pattern[from]);
            }
        }
        for write in &self.writes {
            for (octet, value) in octets.iter_mut().skip(write.at).zip(write.content) {
                *octet = Some(*value);
            }
        }
        octets
    }

    /// As [`FileView::content`] from `at` on, when every octet is given.
    pub fn given(&self, at: usize, len: usize) -> Option<Vec<u8>> {
        let octets: Vec<u8> = self.content(at.saturating_add(len)).into_iter().skip(at).collect::<Option<_>>()?;
        (octets.len() == len).then_some(octets)
    }

    /// Octets up to the end of the last write.
    pub fn written_len(&self) -> usize {
        self.writes.iter().map(|write| write.at.saturating_add(write.content.len())).max().unwrap_or(0)
    }
}

/// A size or offset; more than the machine can count is the most it can count, never none.
fn octets_of(value: &[u8]) -> usize {
    if value.is_empty() {
        return 0;
    }
    unsigned(value).and_then(|octets| usize::try_from(octets).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tlv::{single, wrap};

    #[test]
    fn an_offset_skips_from_where_the_last_write_ended() {
        // fillPattern FF, write 01 02, skip 2, write 03.
        let file =
            [0xB4, 0x11, 0xA1, 0x05, 0xA5, 0x03, 0xC1, 0x01, 0xFF, 0x83, 0x02, 1, 2, 0x82, 0x01, 2, 0x83, 0x01, 3];
        let view = FileView::single(&single(&file, Tag(0xB4)).unwrap()).unwrap();
        assert_eq!(view.given(0, 6).unwrap(), [1, 2, 0xFF, 0xFF, 3, 0xFF]);
        assert_eq!(view.written_len(), 5);
    }

    #[test]
    fn without_a_pattern_the_unwritten_is_unknown() {
        let file = [0xB4, 0x06, 0x82, 0x01, 0x01, 0x83, 0x01, 0x07];
        let view = FileView::single(&single(&file, Tag(0xB4)).unwrap()).unwrap();
        assert_eq!(view.content(3), [None, Some(7), None]);
        assert_eq!(view.given(1, 1).unwrap(), [7]);
        assert!(view.given(0, 2).is_none());
    }

    #[test]
    fn generic_file_management_has_its_own_tags() {
        // A1 { A1 { 30 { 80 path '', 62 { 83 2FE2 }, 02 skip 1, 81 content } } }
        let gfm = [
            0xA1, 0x14, 0xA1, 0x12, 0x30, 0x10, 0x80, 0x00, 0x62, 0x04, 0x83, 0x02, 0x2F, 0xE2, 0x02, 0x01, 0x01, 0x81,
            0x01, 0x09, 0x80, 0x00,
        ];
        let files = FileView::of_gfm(&single(&gfm, Tag(0xA1)).unwrap());
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].file_id().unwrap(), [0x2F, 0xE2]);
        assert_eq!((files[0].writes[0].at, files[0].writes[0].content), (1, &[9][..]));
    }

    /// A file of `A1 { 80 size }` and entries, in a usim element.
    fn in_usim(file: &[u8]) -> Vec<TooLong> {
        let file = wrap(Tag(0xA3), &[file]);
        let element = wrap(Tag(0xB3), &[&wrap(Tag(0xA0), &[&[0x81, 1, 1]]), &file]);
        let package = crate::formats::saip::package::Package::parse(&element).unwrap();
        FileView::too_long(&package.elements[0])
    }

    #[test]
    fn the_longest_file_is_read_and_one_octet_more_is_too_long() {
        let sized = |size: &[u8]| wrap(Tag(0xA1), &[&wrap(Tag(0x80), &[size])]);
        assert_eq!(in_usim(&sized(&[0xFF, 0xFF])), []);
        assert_eq!(in_usim(&sized(&[1, 0, 0])), [TooLong { octets: 0x1_0000, offset: 11 }]);
        assert_eq!(in_usim(&sized(&[0xFF; 8]))[0].octets, usize::MAX);
        assert_eq!(in_usim(&sized(&[0xFF; 9]))[0].octets, usize::MAX);
        let written = |skip: &[u8]| [wrap(Tag(0x82), &[skip]), wrap(Tag(0x83), &[&[7]])].concat();
        assert_eq!(in_usim(&written(&[0xFF, 0xFE])), []);
        assert_eq!(in_usim(&written(&[0xFF, 0xFF]))[0].octets, 0x1_0000);
        assert_eq!(in_usim(&wrap(Tag(0x82), &[&[0xFF; 8]]))[0].octets, usize::MAX);
    }

    #[test]
    fn offsets_that_overflow_and_sizes_beyond_memory_cost_nothing() {
        let huge = wrap(Tag(0x82), &[&[0xFF; 8]]);
        let written = wrap(Tag(0x83), &[&[7; 4]]);
        let sized = wrap(Tag(0xA1), &[&wrap(Tag(0x80), &[&[0xFF; 8]])]);
        let file = wrap(Tag(0xB4), &[&sized, &huge, &written, &huge, &written]);
        let view = FileView::single(&single(&file, Tag(0xB4)).unwrap()).unwrap();
        assert_eq!(view.written_len(), usize::MAX);
        assert_eq!(view.content(view.size().unwrap()).len(), MAX_FILE);
        assert!(view.given(usize::MAX, 4).is_none());
        assert!(view.given(MAX_FILE, 1).is_none());
    }
}
