//! How long a file is and what it holds: as its parameters say, else as the template of its element says.

use crate::formats::saip::catalogue::{FileTemplate, Template};
use crate::formats::saip::ef::Extent;
use crate::formats::saip::file::{FileView, MAX_FILE};
use crate::formats::saip::package::Element;

/// The octets of one file of a template.
pub(super) struct Room {
    pub(super) len: usize,
    pub(super) record_len: Option<usize>,
    /// What the file holds now; `None` where nobody says.
    pub(super) given: Vec<Option<u8>>,
}

impl Room {
    /// `None`: neither the parameters nor the template say how long it is.
    pub(super) fn of(element: &Element<'_>, file: &str, view: &FileView<'_>) -> Option<Self> {
        let template = Template::of(element).and_then(|template| template.file(file));
        let record_len = view.record_len().or_else(|| template?.record_len());
        let written = Some(view.written_len()).filter(|len| *len > 0);
        // A record length without a size: at least one record.
        let default_len = template.and_then(FileTemplate::size).map(|len| len.max(record_len.unwrap_or(0)));
        let len = view.size().or(default_len).or(record_len).or(written)?.min(MAX_FILE);
        let mut given = view.content(len);
        if let Some(fill) = template.and_then(|template| template.fill) {
            fill.complete(&mut given, record_len);
        }
        Some(Self { len, record_len, given })
    }

    pub(super) fn extent(&self) -> Extent<'_> {
        Extent { len: self.len, record_len: self.record_len, given: &self.given }
    }

    /// The content as far as it is known, `FF` where it is not.
    pub(super) fn octets(&self) -> Vec<u8> {
        self.given.iter().map(|octet| octet.unwrap_or(0xFF)).collect()
    }
}

/// Made by the template even where the element leaves the file out.
pub(super) fn is_created_by_default(element: &Element<'_>, file: &str) -> bool {
    Template::of(element).is_some_and(|template| template.created_by_default && template.file(file).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::saip::kind::{Kind, constructed};
    use crate::formats::saip::package::Package;
    use crate::formats::tlv::{Tag, wrap};

    /// Length, record length and first octet of a file in an element with this template.
    fn room(kind: Kind, arc: u8, file: &str, entries: &[u8]) -> Option<(usize, Option<usize>, Option<u8>)> {
        let oid = [0x67, 0x81, 0x0F, 0x01, 0x02, arc];
        let member = wrap(constructed(kind.file_number(file).unwrap()), &[entries]);
        let header = wrap(Tag(0xA0), &[&[0x81, 1, 1]]);
        let der = wrap(kind.tag().unwrap(), &[&header, &wrap(Tag(0x81), &[&oid]), &member]);
        let package = Package::parse(&der).unwrap();
        let element = &package.elements[0];
        let view = FileView::single(&element.file(file).unwrap()).unwrap();
        Room::of(element, file, &view).map(|room| (room.len, room.record_len, room.given[0]))
    }

    #[test]
    fn the_parameters_come_before_the_template_and_the_template_before_what_is_written() {
        let sized = [0xA1, 0x09, 0x82, 0x04, 0x42, 0x21, 0x00, 0x1E, 0x80, 0x01, 0x5A];
        assert_eq!(room(Kind::OptUsim, 5, "ef-msisdn", &sized), Some((90, Some(30), Some(0xFF))));
        assert_eq!(room(Kind::OptUsim, 5, "ef-msisdn", &[0xA1, 0]), Some((24, Some(24), Some(0xFF))));
        assert_eq!(room(Kind::OptUsim, 5, "ef-spni", &[0x83, 3, 1, 2, 3]), Some((3, None, Some(1))));
        assert_eq!(room(Kind::OptUsim, 5, "ef-spni", &[]), None);
        assert_eq!(room(Kind::OptUsim, 99, "ef-msisdn", &[]), None);
        // A record longer than the template's default file.
        let record = [0xA1, 0x06, 0x82, 0x04, 0x42, 0x21, 0x00, 0x40];
        assert_eq!(room(Kind::Usim, 4, "ef-smsp", &record), Some((64, Some(64), Some(0xFF))));
    }

    #[test]
    fn what_the_template_fills_in_is_known() {
        assert_eq!(room(Kind::Usim, 4, "ef-ad", &[]), Some((4, None, Some(0))));
        assert_eq!(room(Kind::Usim, 4, "ef-ad", &[0x83, 1, 0x80]), Some((4, None, Some(0x80))));
        assert_eq!(room(Kind::Usim, 4, "ef-spn", &[]), Some((17, None, None)));
    }
}
