//! Sizes that the clause of a file fixes: U12 (3GPP TS 31.102 §4.2, §4.4.11; ETSI TS 102 221 §13).

use super::{Report, Rule, Severity};
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::Kind;
use crate::formats::saip::package::{Package, children};

pub(super) const RULES: &[Rule] = &[Rule {
    id: "U12",
    severity: Severity::Error,
    why: "a terminal that reads another number of octets than the standard says drops the file, or the whole card",
    hint: "give the file the size that its clause asks for",
    check: sizes,
}];

/// What a clause asks of a file.
#[derive(Clone, Copy)]
enum Size {
    /// Octets of the file.
    Exactly(usize),
    AtLeast(usize),
    /// Entries of so many octets each.
    Multiple(usize),
    /// Octets of a record.
    Record(usize),
    RecordAtLeast(usize),
}

use Size::{AtLeast, Exactly, Multiple, Record, RecordAtLeast};

const SIZES: &[(&str, Size)] = &[
    ("ef-iccid", Exactly(10)),
    ("ef-imsi", Exactly(9)),
    ("ef-keys", Exactly(33)),
    ("ef-keysPS", Exactly(33)),
    ("ef-hpplmn", Exactly(1)),
    ("ef-spn", Exactly(17)),
    ("ef-start-hfn", Exactly(6)),
    ("ef-threshold", Exactly(3)),
    ("ef-psloci", Exactly(14)),
    ("ef-acc", Exactly(2)),
    ("ef-loci", Exactly(11)),
    ("ef-epsloci", Exactly(18)),
    ("ef-5gs3gpploci", Exactly(20)),
    ("ef-5gsn3gpploci", Exactly(20)),
    ("ef-routing-indicator", Exactly(4)),
    ("ef-uac-aic", Exactly(4)),
    ("ef-ad", AtLeast(4)),
    ("ef-smss", AtLeast(2)),
    ("ef-fplmn", Multiple(3)),
    ("ef-ehplmn", Multiple(3)),
    ("ef-plmnwact", Multiple(5)),
    ("ef-oplmnwact", Multiple(5)),
    ("ef-hplmnwact", Multiple(5)),
    ("ef-sms", Record(176)),
    ("ef-opl", Record(8)),
    ("ef-opl5g", Record(10)),
    ("ef-smsp", RecordAtLeast(28)),
    ("ef-msisdn", RecordAtLeast(14)),
    ("ef-ecc", RecordAtLeast(4)),
];

/// U12 E: sizes in descriptors, and contents longer than the file can be.
fn sizes(package: &Package<'_>, report: &mut Report<'_>) {
    let kinds = [Kind::Mf, Kind::Usim, Kind::OptUsim, Kind::Df5gs, Kind::Iot, Kind::OptIot];
    for element in package.elements.iter().filter(|element| kinds.contains(&element.kind)) {
        for tlv in children(&element.tlv) {
            let Some(name) = element.kind.file_name(tlv.tag) else { continue };
            let Some((_, size)) = SIZES.iter().find(|(file, _)| *file == name) else { continue };
            for view in FileView::all(&tlv) {
                if let Some(message) = misfit(*size, &view) {
                    let offset = view.descriptor.map_or(tlv.offset, |descriptor| descriptor.offset);
                    report.at(element, offset, format!("{name} {message}"));
                }
            }
        }
    }
}

fn misfit(size: Size, view: &FileView<'_>) -> Option<String> {
    let (octets, record) = (view.size(), view.record_len());
    match size {
        Exactly(must) => match octets {
            Some(octets) if octets != must => Some(format!("has {octets} octets, not {must}")),
            None if view.written_len() > must => Some(format!("is written {} octets, not {must}", view.written_len())),
            _ => None,
        },
        AtLeast(must) => {
            octets.filter(|octets| *octets < must).map(|octets| format!("has {octets} octets, at least {must} belong"))
        }
        Multiple(entry) => octets
            .filter(|octets| *octets == 0 || octets % entry != 0)
            .map(|octets| format!("has {octets} octets, no whole number of entries of {entry}")),
        Record(must) => {
            record.filter(|record| *record != must).map(|record| format!("has records of {record} octets, not {must}"))
        }
        RecordAtLeast(must) => record
            .filter(|record| *record < must)
            .map(|record| format!("has records of {record} octets, at least {must} belong")),
    }
}
