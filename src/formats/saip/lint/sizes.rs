//! Sizes that the clause of a file fixes: U12 (3GPP TS 31.102 §4.2, §4.4.11; ETSI TS 102 221 §13).

use super::{Report, Rule, Severity, counted};
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::Kind;
use crate::formats::saip::package::Package;

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

/// U12 E: the sizes that the package gives.
fn sizes(_package: &Package<'_>, report: &mut Report<'_>) {
    let kinds = [Kind::Mf, Kind::Usim, Kind::OptUsim, Kind::Df5gs, Kind::Iot, Kind::OptIot];
    for file in report.made.iter().filter(|file| kinds.contains(&file.element.kind)) {
        let size = SIZES.iter().find(|(name, _)| *name == file.name);
        if let Some(message) = size.and_then(|(_, size)| misfit(*size, &file.view)) {
            report.at(&file.element, file.offset, format!("{} {message}", file.name));
        }
    }
}

/// What is wrong with a file's size or that of its records.
fn misfit(size: Size, view: &FileView<'_>) -> Option<String> {
    let (octets, record) = (view.size(), view.record_len());
    let (is, must, fits): (usize, usize, fn(usize, usize) -> bool) = match size {
        Exactly(must) => (octets?, must, |is, must| is == must),
        AtLeast(must) => (octets?, must, |is, must| is >= must),
        Multiple(entry) => (octets?, entry, |is, entry| is > 0 && is % entry == 0),
        Record(must) => (record?, must, |is, must| is == must),
        RecordAtLeast(must) => (record?, must, |is, must| is >= must),
    };
    if fits(is, must) {
        return None;
    }
    let is = counted(is, "octet");
    Some(match size {
        Exactly(_) => format!("has {is}, not {must}"),
        AtLeast(_) => format!("has {is}, at least {must} belong"),
        Multiple(_) => format!("has {is}, no whole number of entries of {must}"),
        Record(_) => format!("has records of {is}, not {must}"),
        RecordAtLeast(_) => format!("has records of {is}, at least {must} belong"),
    })
}
