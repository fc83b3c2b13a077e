//! The content of a file in a template: a pattern fill, then a list of writes (SAIP §8.3.3).
//!
//! Trap: `fillFileOffset` skips octets from the current position, it is not an absolute offset. Trap: in GenericFileManagement
//! the same list has other tags, the offset being a universal INTEGER, because one hand-written tag turns automatic tagging off.

use super::package::{child, children, unsigned};
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
        let commands = child(element, Tag(0xA1)).into_iter().flat_map(|list| children(&list));
        commands
            .flat_map(|command| Self::from_entries(children(&command), GFM_TAGS))
            .filter(|file| file.descriptor.is_some())
            .collect()
    }

    /// The file that one `createFCP` and the writes behind it make.
    pub fn of_gfm_section(entries: &[Tlv<'a>]) -> Option<Self> {
        Self::from_entries(entries.iter().copied(), GFM_TAGS).into_iter().find(|file| file.descriptor.is_some())
    }

    fn from_entries(entries: impl Iterator<Item = Tlv<'a>>, tags: EntryTags) -> Vec<Self> {
        let mut files = vec![Self::default()];
        let mut at = 0;
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
                at += unsigned(entry.value).and_then(|skip| usize::try_from(skip).ok()).unwrap_or(0);
            } else if entry.tag == tags.content {
                file.writes.push(Write { at, content: entry.value, offset: entry.value_offset() });
                at += entry.value.len();
            } else if tags == FILE_TAGS && entry.tag == Tag(0x80) {
                file.do_not_create = true;
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

    /// `efFileSize`.
    pub fn size(&self) -> Option<usize> {
        self.parameter(Tag(0x80)).and_then(|size| unsigned(size.value)).and_then(|size| usize::try_from(size).ok())
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
    /// that is, where the template's default holds.
    pub fn content(&self, len: usize) -> Vec<Option<u8>> {
        let mut octets = vec![None; len];
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
        self.content(at + len).into_iter().skip(at).collect()
    }

    /// Octets up to the end of the last write.
    pub fn written_len(&self) -> usize {
        self.writes.iter().map(|write| write.at + write.content.len()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tlv::single;

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
}
