//! One pass over the rows of an order line: judged, entered into the transaction, counted; hash and count at the file's end.

use std::collections::BTreeMap;
use std::path::Path;

use super::answer::RangeAck;
use super::beside;
use super::changing::Accepted;
use super::columns::Column;
use super::file::{Accept, CredentialsFrom, Line, Mode, Numbers, Order, Rows};
use super::header::Takes;
use super::judge::{OrderNumbers, RowJudge};
use super::keys::KeyTable;
use super::ranges::Number;
use super::refusals::Refusals;
use super::rows::{RowSource, Seen, overlong};
use super::values::RowVars;
use super::vars::{MSISDN, Var};
use crate::error::Fault;
use crate::ids::OrderKey;
use crate::store::sqlite::{Acceptance, Claimed, ClaimedGuard, Ledger};
use crate::store::{NewDevice, Refusal, StoreError, StoredOrder};

/// Where accepted rows go: into the transaction, or nowhere.
pub(super) enum Book<'l> {
    Check(ClaimedGuard<'l>),
    Submit(Box<Acceptance<'l>>),
}

impl<'l> Book<'l> {
    pub(super) fn open(ledger: &'l Ledger, submit: bool) -> Result<Self, Fault> {
        if submit { Ok(Self::Submit(Box::new(ledger.acceptance()?))) } else { Ok(Self::Check(ledger.claimed())) }
    }

    pub(super) fn claimed(&self) -> Claimed<'_> {
        match self {
            Self::Check(guard) => guard.view(),
            Self::Submit(acceptance) => acceptance.claimed(),
        }
    }

    /// Another process may have been quicker since the first look.
    pub(super) fn first_answer(&self, key: Option<&OrderKey>) -> Result<Option<StoredOrder>, Fault> {
        match (self, key) {
            (Self::Submit(acceptance), Some(key)) => Ok(acceptance.find_order(key)?),
            _ => Ok(None),
        }
    }
}

/// What the rows came to.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) rows: u64,
    pub(super) accepted: u64,
    pub(super) ranges: Vec<RangeAck>,
    /// SHA-256 (hex) of each line's template.
    pub(super) templates: BTreeMap<u32, String>,
    /// What it does to another order.
    pub(super) change: Option<Accepted>,
}

/// One pass over the rows of one line.
pub(super) struct LinePass<'o> {
    pub(super) order: &'o Order,
    pub(super) at: usize,
    pub(super) line: &'o Line,
    /// What its template takes of a row.
    pub(super) takes: &'o Takes,
    /// The order file's.
    pub(super) directory: &'o Path,
    /// SHA-256 of the rows when they were looked at first, lower-case hex.
    pub(super) first_sha256: Option<&'o str>,
}

impl LinePass<'_> {
    pub(super) fn run(
        &self,
        keys: Option<KeyTable>,
        numbers: &mut OrderNumbers,
        book: &mut Book<'_>,
        refusals: &mut Refusals,
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        let line = self.line;
        let by_column = line.vars.values().any(|var| matches!(var, Var::Column(_)));
        let imports = line.credentials == CredentialsFrom::Import;
        let needs_rows = line.iccid == Numbers::Rows || line.imsi == Some(Numbers::Rows) || by_column || imports;
        if line.rows.is_none() && needs_rows {
            return Ok(()); // refused once by the header check, not once a row
        }
        let member = format!("lines[{}]", self.at);
        let source = match RowSource::open(line, self.directory, &member)? {
            Ok(source) => source,
            Err(refused) => return refusals.general(refused),
        };
        let missing = missing_columns(line, self.takes, &source, &member);
        if !missing.is_empty() {
            return refusals.general(missing);
        }
        let vars = RowVars::of(line);
        let mut judge =
            RowJudge::new((line, self.takes, &vars), &self.order.key.tenant, &source, keys, book.claimed())?;
        let mut ranges = Reserved::new(line);
        let seen = source.for_each(|cells| {
            if cells.position > line.quantity {
                return Ok(()); // counted, and refused as a wrong count
            }
            let mut device = judge.judge(&cells, numbers, book.claimed())?;
            if let Book::Submit(acceptance) = book
                && !self.doomed(refusals)
            {
                self.enter(acceptance, &mut device, &mut judge)?;
            }
            refusals.row(&judge.refusals)?;
            if device.rejected.is_none() {
                tally.accepted += 1;
                ranges.note(&device);
            }
            Ok(())
        })?;
        tally.ranges.extend(ranges.into_acks());
        refusals.general(self.whole_file(&seen, &member))
    }

    /// Nothing more is entered when the order cannot be accepted any more; rows are still judged, for the answer.
    fn doomed(&self, refusals: &Refusals) -> bool {
        refusals.general > 0 || (self.order.accept == Accept::AllOrNothing && refusals.total > 0)
    }

    fn enter(
        &self,
        acceptance: &mut Acceptance<'_>,
        device: &mut NewDevice,
        judge: &mut RowJudge<'_>,
    ) -> Result<(), Fault> {
        let tenant = &self.order.key.tenant;
        match acceptance.add_device(tenant, device) {
            Err(StoreError::Taken { column, value, .. }) => {
                judge.refuse_taken(device, column, value);
                acceptance.add_device(tenant, device)?;
            }
            other => other?,
        }
        Ok(judge.refusals.iter().try_for_each(|refusal| acceptance.keep_refusal(refusal))?)
    }

    /// Hash and count of the file are known at its end.
    fn whole_file(&self, seen: &Seen, member: &str) -> Vec<Refusal> {
        let Some(Rows::File { file, count }) = &self.line.rows else { return Vec::new() };
        if let Some(row) = seen.overlong {
            return vec![overlong(self.line.line, row)];
        }
        let mut refused = Vec::new();
        // Both readings were of the ordered octets, or what the first one told does not hold for what the second one judged.
        let mut read = seen.sha256.as_deref().into_iter().chain(self.first_sha256);
        refused
            .extend(read.find_map(|sha256| beside::compare(sha256, file, self.line.line, &format!("{member}.rows"))));
        if seen.rows != u64::from(*count) {
            refused.push(Refusal {
                line: self.line.line,
                row: 0,
                column: format!("{member}.rows.count"),
                value: count.to_string(),
                code: "count-mismatch",
                message: format!("{} has {} rows", super::json::excerpt(&file.file), seen.rows),
                hint: "rows are missing or too many: send the file again, or correct the count".to_owned(),
            });
        }
        refused
    }
}

/// Lowest and highest number that the accepted rows of a line took from its ranges.
struct Reserved {
    line: u32,
    iccid: Option<Span<crate::ids::Iccid>>,
    imsi: Option<Span<crate::ids::Imsi>>,
}

struct Span<T> {
    ends: Option<(T, T)>,
    count: u64,
}

impl Reserved {
    fn new(line: &Line) -> Self {
        let iccid = matches!(line.iccid, Numbers::First(_)).then_some(Span { ends: None, count: 0 });
        let imsi = matches!(line.imsi, Some(Numbers::First(_))).then_some(Span { ends: None, count: 0 });
        Self { line: line.line, iccid, imsi }
    }

    fn note(&mut self, device: &NewDevice) {
        if let (Some(span), Some(iccid)) = (&mut self.iccid, device.iccid) {
            span.note(iccid);
        }
        if let (Some(span), Some(imsi)) = (&mut self.imsi, device.imsi) {
            span.note(imsi);
        }
    }

    fn into_acks(self) -> impl Iterator<Item = RangeAck> {
        let iccid = self.iccid.and_then(|span| span.ack(self.line, "iccid"));
        let imsi = self.imsi.and_then(|span| span.ack(self.line, "imsi"));
        iccid.into_iter().chain(imsi)
    }
}

impl<T: Number> Span<T> {
    fn note(&mut self, number: T) {
        let (first, last) = self.ends.unwrap_or((number, number));
        self.ends = Some((first.min(number), last.max(number)));
        self.count += 1;
    }

    fn ack(self, line: u32, kind: &'static str) -> Option<RangeAck> {
        let (first, last) = self.ends?;
        let [first, last] = [first, last].map(|number| number.digits().to_owned());
        Some(RangeAck { line, kind, first, last, count: self.count })
    }
}

/// Columns that the header of the rows must name because nothing else gives their values.
fn missing_columns(line: &Line, takes: &Takes, source: &RowSource<'_>, member: &str) -> Vec<Refusal> {
    if line.rows.is_none() {
        return Vec::new();
    }
    let msisdn = line.vars.values().any(|var| *var == Var::Column(MSISDN.to_owned()));
    let imports = line.credentials == CredentialsFrom::Import;
    let needs_opc = takes.wrapped.is_some_and(|form| !form.derives_opc);
    let needed = [
        (Column::Eid, line.mode == Mode::Prebound, "mode prebound binds each row to its eUICC"),
        (Column::Iccid, line.iccid == Numbers::Rows, "iccid says rows"),
        (Column::Imsi, line.imsi == Some(Numbers::Rows), "imsi says rows"),
        (Column::Msisdn, msisdn, "a variable takes its values from it"),
        (Column::KiWrapped, imports, "credentials says import"),
        (Column::OpcWrapped, imports && needs_opc, "credentials says import, and the site has no OP to derive it from"),
    ];
    let missing = needed.into_iter().filter(|(column, needed, _)| *needed && !source.has(*column));
    let own = source.lacking_own().into_iter().map(|name| (name, "a variable takes its values from it"));
    let refuse = |(column, why): (&str, &str)| Refusal {
        line: line.line,
        row: 0,
        column: column.to_owned(),
        value: String::new(),
        code: "missing-column",
        message: format!("{member}.rows has no such column: {why}"),
        hint: "add the column".to_owned(),
    };
    missing.map(|(column, _, why)| (column.name(), why)).chain(own).map(refuse).collect()
}
