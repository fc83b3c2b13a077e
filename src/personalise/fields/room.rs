//! How long a file is: as its parameters say, else as its template says (SAIP §9.2 to §9.8).

use crate::formats::saip::ef::Extent;
use crate::formats::saip::file::{FileView, MAX_FILE};
use crate::formats::saip::kind::Kind;

/// The octets of one file of a template.
pub(super) struct Room {
    pub(super) len: usize,
    pub(super) record_len: Option<usize>,
    /// What the template has there now; `None` where it is silent and the default holds.
    pub(super) given: Vec<Option<u8>>,
}

impl Room {
    /// `None`: neither the parameters nor the template say how long it is.
    pub(super) fn of(kind: Kind, file: &str, view: &FileView<'_>) -> Option<Self> {
        let default = default_size(kind, file);
        let record_len = view.record_len().or_else(|| default.and_then(|(_, record_len)| record_len));
        let written = Some(view.written_len()).filter(|len| *len > 0);
        // A record length without a size: at least one record.
        let default_len = default.map(|(len, _)| len).map(|len| record_len.map_or(len, |record| len.max(record)));
        let len = view.size().or(default_len).or(record_len).or(written)?.min(MAX_FILE);
        let mut given = view.content(len);
        // EF.AD of the templates is 00 00 00 02: its length of the MNC is read where the template is silent.
        if file == "ef-ad" {
            given.iter_mut().zip([0, 0, 0, 2]).for_each(|(octet, default)| *octet = octet.or(Some(default)));
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
pub(super) fn is_created_by_default(kind: Kind) -> bool {
    matches!(kind, Kind::Mf | Kind::Usim | Kind::Isim | Kind::Csim | Kind::Iot)
}

/// Size and record length by the template, for files that need no `efFileSize` and that a variable can be about.
fn default_size(kind: Kind, file: &str) -> Option<(usize, Option<usize>)> {
    let transparent = |len| Some((len, None));
    let records = |number, len| Some((number * len, Some(len)));
    match (kind, file) {
        (Kind::Mf | Kind::Iot, "ef-iccid") => transparent(10),
        (Kind::Mf | Kind::Iot, "ef-pl") => transparent(2),
        (Kind::Usim | Kind::Iot, "ef-imsi") => transparent(9),
        (Kind::Usim | Kind::Iot, "ef-acc") => transparent(2),
        (Kind::Usim | Kind::Iot | Kind::Isim, "ef-ad") => transparent(4),
        (Kind::Usim | Kind::Iot, "ef-hpplmn") => transparent(1),
        (Kind::Usim | Kind::Iot, "ef-fplmn") => transparent(12),
        (Kind::Usim | Kind::Iot, "ef-loci") => transparent(11),
        (Kind::Usim | Kind::Iot, "ef-psloci") => transparent(14),
        (Kind::Usim | Kind::OptIot, "ef-epsloci") => transparent(18),
        (Kind::Usim | Kind::Iot, "ef-ecc") => records(1, 4),
        (Kind::Usim | Kind::OptIot, "ef-spn") => transparent(17),
        (Kind::Usim | Kind::OptIot | Kind::OptIsim, "ef-smsp") => records(1, 38),
        (Kind::OptUsim, "ef-li") => transparent(6),
        (Kind::OptUsim, "ef-gid1" | "ef-gid2") => transparent(8),
        (Kind::OptUsim, "ef-msisdn") => records(1, 24),
        (Kind::OptUsim, "ef-plmnwact") => transparent(40),
        (Kind::OptUsim | Kind::OptIot, "ef-oplmnwact") => transparent(40),
        (Kind::OptUsim | Kind::OptIot, "ef-hplmnwact") => transparent(5),
        (Kind::OptUsim | Kind::OptIot, "ef-ehplmn") => transparent(15),
        (Kind::OptUsim, "ef-ehplmnpi" | "ef-lrplmnsi") => transparent(1),
        (Kind::OptUsim, "ef-pnn") => records(10, 16),
        (Kind::OptUsim, "ef-opl") => records(5, 8),
        (Kind::OptUsim, "ef-spdi") => transparent(17),
        (Kind::OptUsim, "ef-mbdn") => records(3, 24),
        (Kind::OptUsim, "ef-mbi") => records(10, 5),
        (Kind::OptUsim, "ef-nasconfig") => transparent(18),
        (Kind::Df5gs | Kind::OptIot, "ef-routing-indicator") => transparent(4),
        (Kind::Df5gs | Kind::OptIot, "ef-uac-aic") => transparent(4),
        (Kind::Df5gs | Kind::OptIot, "ef-5gs3gpploci" | "ef-5gsn3gpploci") => transparent(20),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tlv::{Tag, single, wrap};

    fn room(kind: Kind, file: &str, entries: &[u8]) -> Option<(usize, Option<usize>)> {
        let member = wrap(Tag(0xA9), &[entries]);
        let view = FileView::single(&single(&member, Tag(0xA9)).unwrap()).unwrap();
        Room::of(kind, file, &view).map(|room| (room.len, room.record_len))
    }

    #[test]
    fn the_parameters_come_before_the_template_and_the_template_before_what_is_written() {
        let sized = [0xA1, 0x09, 0x82, 0x04, 0x42, 0x21, 0x00, 0x1E, 0x80, 0x01, 0x5A];
        assert_eq!(room(Kind::OptUsim, "ef-msisdn", &sized), Some((90, Some(30))));
        assert_eq!(room(Kind::OptUsim, "ef-msisdn", &[0xA1, 0]), Some((24, Some(24))));
        assert_eq!(room(Kind::OptUsim, "ef-msisdn", &sized[..0]), Some((24, Some(24))));
        assert_eq!(room(Kind::OptUsim, "ef-spni", &[0x83, 3, 1, 2, 3]), Some((3, None)));
        assert_eq!(room(Kind::OptUsim, "ef-spni", &[]), None);
        // A record longer than the template's default file.
        let record = [0xA1, 0x06, 0x82, 0x04, 0x42, 0x21, 0x00, 0x40];
        assert_eq!(room(Kind::Usim, "ef-smsp", &record), Some((64, Some(64))));
    }
}
