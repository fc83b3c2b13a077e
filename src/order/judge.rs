//! One row of an order: its values, its numbers, its one-time key. A row becomes a device line, accepted or rejected.

use std::str::FromStr;

use super::columns::Column;
use super::file::{Line, Mode, Numbers, Order};
use super::header::{Takes, iccid_ranges, imsi_ranges};
use super::keys::{KeyRefusal, KeyTable};
use super::ranges::{Bits, Number, Range, is_within};
use super::refusals::{TAKEN, class_of, masked};
use super::rows::{Cells, RowSource};
use super::twice::{Kind, Twice};
use super::values::RowVars;
use crate::error::Fault;
use crate::ids::{Eid, Iccid, IdError, Imsi, MatchingId, Tenant};
use crate::store::sqlite::Claimed;
use crate::store::{NewDevice, Refusal, StoreError};

/// What the rows of an order have taken so far.
pub(super) struct OrderNumbers {
    iccids: Vec<Range<Iccid>>,
    imsis: Vec<Range<Imsi>>,
    pub(super) twice: Twice,
}

impl OrderNumbers {
    pub(super) fn new(order: &Order, twice: Twice) -> Self {
        Self { iccids: iccid_ranges(order), imsis: imsi_ranges(order), twice }
    }
}

/// Judges the rows of one line.
pub(super) struct RowJudge<'o> {
    pub(super) line: &'o Line,
    pub(super) takes: &'o Takes,
    pub(super) vars: &'o RowVars<'o>,
    tenant: &'o Tenant,
    /// None in mode order, and when the key file could not be read at all.
    keys: Option<KeyTable>,
    rows: Bits,
    iccid: Source<Iccid>,
    imsi: Option<Source<Imsi>>,
    has_rows: bool,
    has_row_column: bool,
    /// What is wrong with the row judged last.
    pub(super) refusals: Vec<Refusal>,
}

/// Where a number comes from: a range, of which some may be taken already, or the row.
enum Source<T> {
    Range { first: T, taken: Bits },
    Rows,
}

impl<'o> RowJudge<'o> {
    pub(super) fn new(
        (line, takes, vars): (&'o Line, &'o Takes, &'o RowVars<'o>),
        tenant: &'o Tenant,
        source: &RowSource<'_>,
        keys: Option<KeyTable>,
        claimed: Claimed<'_>,
    ) -> Result<Self, StoreError> {
        let iccid = match &line.iccid {
            Numbers::Rows => Source::Rows,
            Numbers::First(first) => {
                taken_range(line, *first, |range, found| claimed.iccids_between(&range.first, &range.last, found))?
            }
        };
        let imsi = match &line.imsi {
            Some(Numbers::First(first)) => Some(taken_range(line, *first, |range, found| {
                claimed.imsis_between(tenant, &range.first, &range.last, found)
            })?),
            Some(Numbers::Rows) => Some(Source::Rows),
            None => source.has(Column::Imsi).then_some(Source::Rows),
        };
        Ok(Self {
            line,
            takes,
            vars,
            tenant,
            keys,
            rows: Bits::new(line.quantity + 1),
            iccid,
            imsi,
            has_rows: line.rows.is_some(),
            has_row_column: source.has(Column::Row),
            refusals: Vec::new(),
        })
    }

    /// The device line of a row; rejected if [`Self::refusals`] is not empty afterwards.
    pub(super) fn judge(
        &mut self,
        cells: &Cells<'_>,
        order: &mut OrderNumbers,
        claimed: Claimed<'_>,
    ) -> Result<NewDevice, Fault> {
        self.refusals.clear();
        let row = Row { cells, number: self.row_number(cells) };
        let mut device = NewDevice {
            line: self.line.line,
            row: row.number,
            eid: None,
            iccid: None,
            imsi: None,
            msisdn: None,
            matching_id: None,
            euicc_otpk: None,
            vars: Vec::new(),
            wrapped: None,
            rejected: None,
        };
        if let Some((found, expected)) = cells.field_count {
            let message = format!("has {found} fields, the header names {expected}");
            self.refuse(&row, "row", "", "field-count", &message, "quote fields that hold a comma");
        } else {
            (device.eid, device.euicc_otpk) = self.euicc(&row, order)?;
            device.iccid = self.iccid(&row, order, claimed)?;
            device.imsi = self.imsi(&row, order, claimed)?;
            device.matching_id = self.matching_id(&row, order, claimed)?;
            device.msisdn = self.msisdn(&row);
            device.vars = self.values(&row);
            self.digits(&row, Column::Imei, 14..=16);
            device.wrapped = self.wrapped(&row, order);
        }
        device.rejected = self.refusals.first().map(|refusal| class_of(refusal.code));
        Ok(device)
    }

    /// A claim that was made between look-up and insert: cannot happen inside one transaction, is refused all the same.
    pub(super) fn refuse_taken(&mut self, device: &mut NewDevice, column: &'static str, value: String) {
        device.rejected = Some(class_of(TAKEN));
        self.refusals.push(Refusal {
            line: device.line,
            row: device.row,
            column: column.to_owned(),
            value,
            code: TAKEN,
            message: "was taken by another order at this moment".to_owned(),
            hint: "give the row another number or key".to_owned(),
        });
    }

    fn row_number(&mut self, cells: &Cells<'_>) -> u32 {
        let position = cells.position;
        if !self.has_row_column {
            self.rows.set(position);
            return position;
        }
        let text = cells.cell(Column::Row).and_then(|cell| std::str::from_utf8(cell).ok()).unwrap_or_default();
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = if plain { text.parse().unwrap_or(0) } else { 0 };
        let named = Row { cells, number: if number == 0 { position } else { number } };
        if !(1..=self.line.quantity).contains(&number) {
            let message = format!("is not a number from 1 to {}", self.line.quantity);
            self.refuse(
                &named,
                "row",
                &masked_number(text),
                "row-number",
                &message,
                "number the rows, or leave the column out",
            );
        } else if !self.rows.set(number) {
            let hint = "number the rows, or leave the column out";
            self.refuse(&named, "row", text, "duplicate-row", "stands twice: the first one counts", hint);
        }
        named.number
    }

    fn euicc(
        &mut self,
        row: &Row<'_>,
        order: &mut OrderNumbers,
    ) -> Result<(Option<Eid>, Option<[u8; 65]>), StoreError> {
        let prebound = self.line.mode == Mode::Prebound;
        if prebound && !self.has_rows {
            let Some(keys) = &self.keys else { return Ok((None, None)) };
            let (eid, key) = keys.of_row(row.number)?;
            return Ok((eid, self.key(row, eid, key)));
        }
        let Some(eid) = self.parsed::<Eid>(row, Column::Eid) else {
            if prebound && row.cells.cell(Column::Eid).is_none() {
                self.missing(row, Column::Eid, "mode prebound binds each row to its eUICC");
            }
            return Ok((None, None));
        };
        if !self.is_first(row, Column::Eid, order) {
            let hint = "one profile a line and eUICC: take the row out";
            self.refuse(
                row,
                "eid",
                &eid.masked(),
                "duplicate-eid",
                "stands twice in the rows: the first one counts",
                hint,
            );
            return Ok((Some(eid), None));
        }
        let Some(keys) = self.keys.as_ref().filter(|_| prebound) else { return Ok((Some(eid), None)) };
        let key = keys.key_of(&eid)?;
        Ok((Some(eid), self.key(row, Some(eid), key)))
    }

    /// Whether the value of a cell did not stand before where it may stand once.
    fn is_first(&self, row: &Row<'_>, column: Column, order: &mut OrderNumbers) -> bool {
        let kind = match column {
            Column::Eid => Kind::Eid(self.line.line),
            Column::Iccid => Kind::Iccid,
            Column::Imsi => Kind::Imsi,
            _ => Kind::MatchingId,
        };
        row.cells.cell(column).is_none_or(|cell| order.twice.is_first(kind, cell))
    }

    fn key(&mut self, row: &Row<'_>, eid: Option<Eid>, key: Result<[u8; 65], KeyRefusal>) -> Option<[u8; 65]> {
        let KeyRefusal { code, message, hint } = match key {
            Ok(point) => return Some(point),
            Err(refusal) => refusal,
        };
        self.refuse(row, "euicc_otpk", &eid.map(|eid| eid.masked()).unwrap_or_default(), code, &message, &hint);
        None
    }

    fn iccid(
        &mut self,
        row: &Row<'_>,
        order: &mut OrderNumbers,
        claimed: Claimed<'_>,
    ) -> Result<Option<Iccid>, StoreError> {
        let given = self.parsed::<Iccid>(row, Column::Iccid);
        if let Source::Range { first, taken } = &self.iccid {
            let number = from_range(*first, taken, row.number);
            return Ok(self.ranged(row, Column::Iccid, given, number));
        }
        let Some(iccid) = given else {
            if row.cells.cell(Column::Iccid).is_none() {
                self.missing(row, Column::Iccid, "iccid says rows");
            }
            return Ok(None);
        };
        if !self.has_usual_length(row, Column::Iccid, &iccid, order) {
            return Ok(None);
        }
        let new = !is_within(&order.iccids, &iccid) && self.is_first(row, Column::Iccid, order);
        let free = !claimed.iccid(&iccid)?;
        Ok(self.single(row, Column::Iccid, iccid, new, free))
    }

    fn imsi(
        &mut self,
        row: &Row<'_>,
        order: &mut OrderNumbers,
        claimed: Claimed<'_>,
    ) -> Result<Option<Imsi>, StoreError> {
        let given = self.parsed::<Imsi>(row, Column::Imsi);
        match &self.imsi {
            None => {
                if self.takes.imsi {
                    let (message, hint) = ("is missing: the template needs one", "give imsi.first, or an imsi column");
                    self.refuse(row, Column::Imsi.name(), "", "missing-value", message, hint);
                }
                return Ok(None);
            }
            Some(Source::Range { first, taken }) => {
                let number = from_range(*first, taken, row.number);
                return Ok(self.ranged(row, Column::Imsi, given, number));
            }
            Some(Source::Rows) => {}
        }
        let Some(imsi) = given else {
            if row.cells.cell(Column::Imsi).is_none() {
                self.missing(row, Column::Imsi, "other rows have one");
            }
            return Ok(None);
        };
        if !self.has_usual_length(row, Column::Imsi, &imsi, order) {
            return Ok(None);
        }
        let new = !is_within(&order.imsis, &imsi) && self.is_first(row, Column::Imsi, order);
        let free = !claimed.imsi(self.tenant, &imsi)?;
        Ok(self.single(row, Column::Imsi, imsi, new, free))
    }

    /// Numbers of one line have one length: what lost its leading zeros in a spreadsheet may be another subscriber's number.
    fn has_usual_length<T: Number>(&mut self, row: &Row<'_>, column: Column, number: &T, order: &OrderNumbers) -> bool {
        let length = number.digits().len();
        let Some(usual) = order.twice.usual_length(self.line.line, column).filter(|usual| *usual != length) else {
            return true;
        };
        let message = format!("has {length} digits, others of the line have {usual}");
        let hint = "a spreadsheet may have dropped leading zeros: treat the column as text; numbers of another length \
                    need a line of their own";
        self.refuse(row, column.name(), &number.masked(), "mixed-length", &message, hint);
        false
    }

    /// A number of the line's range.
    fn ranged<T: Number>(
        &mut self,
        row: &Row<'_>,
        column: Column,
        given: Option<T>,
        number: RangeNumber<T>,
    ) -> Option<T> {
        let (code, value, message, hint) = match number {
            RangeNumber::Exhausted => (
                super::refusals::RANGE_EXHAUSTED,
                String::new(),
                "the range has no number left for this row: it ends where the digits of its operator would change",
                "begin the range earlier, or order fewer rows",
            ),
            RangeNumber::Taken(number) => (
                taken_code(column),
                number.masked(),
                "of the range is another profile's",
                "begin the range after the numbers that are taken",
            ),
            RangeNumber::Free(number) if given.is_some_and(|given| given != number) => (
                "number-mismatch",
                number.masked(),
                "of the range differs from the one in the row",
                "order with rows, or leave the column out",
            ),
            RangeNumber::Free(number) => return Some(number),
        };
        self.refuse(row, column.name(), &value, code, message, hint);
        None
    }

    /// A number given by the row.
    fn single<T: Number>(&mut self, row: &Row<'_>, column: Column, number: T, new: bool, free: bool) -> Option<T> {
        let (code, message) = match (new, free) {
            (true, true) => return Some(number),
            (false, _) => (duplicate_code(column), "stands twice in the order: the first one counts"),
            (true, false) => (taken_code(column), "is another profile's"),
        };
        self.refuse(row, column.name(), &number.masked(), code, message, "give the row another number");
        None
    }

    fn matching_id(
        &mut self,
        row: &Row<'_>,
        order: &mut OrderNumbers,
        claimed: Claimed<'_>,
    ) -> Result<Option<MatchingId>, StoreError> {
        let Some(id) = self.parsed::<MatchingId>(row, Column::MatchingId) else { return Ok(None) };
        let (code, message) = if !self.is_first(row, Column::MatchingId, order) {
            (duplicate_code(Column::MatchingId), "stands twice in the order: the first one counts")
        } else if claimed.matching_id(&id)? {
            (taken_code(Column::MatchingId), "was given out before")
        } else {
            return Ok(Some(id));
        };
        self.refuse(row, "matching_id", &id.masked(), code, message, "leave the cell empty: a random one is made");
        Ok(None)
    }

    /// A cell of digits that has no type of its own.
    pub(super) fn digits<'r>(
        &mut self,
        row: &Row<'r>,
        column: Column,
        length: std::ops::RangeInclusive<usize>,
    ) -> Option<&'r str> {
        let text = self.text(row, column)?;
        let error = match text.bytes().position(|b| !b.is_ascii_digit()) {
            Some(at) => IdError::NotADigit { at },
            None if !length.contains(&text.len()) => {
                let expected = if column == Column::Imei { "14 to 16 digits" } else { "at most 20 digits" };
                IdError::Length { got: text.len(), expected }
            }
            None => return Some(text),
        };
        self.refuse_id(row, column, text, error);
        None
    }

    fn parsed<T: FromStr<Err = IdError>>(&mut self, row: &Row<'_>, column: Column) -> Option<T> {
        let text = self.text(row, column)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse_id(row, column, text, error);
                None
            }
        }
    }

    pub(super) fn text<'r>(&mut self, row: &Row<'r>, column: Column) -> Option<&'r str> {
        let cell = row.cells.cell(column)?;
        let text = std::str::from_utf8(cell).ok();
        if text.is_none() {
            self.refuse(row, column.name(), "(not shown)", "not-utf8", "is not UTF-8", "write the file as UTF-8");
        }
        text
    }

    fn refuse_id(&mut self, row: &Row<'_>, column: Column, text: &str, error: IdError) {
        let (code, hint) = match error {
            IdError::NotADigit { .. } => {
                ("digits", "write digits only: no spaces, no separators, no exponent of a spreadsheet")
            }
            IdError::Length { .. } => {
                ("length", "a spreadsheet may have dropped leading zeros or rounded: treat the column as text")
            }
            IdError::CheckDigit { .. } | IdError::CheckDigits { .. } => {
                ("check-digit", "some digit was mistyped: take the number from its source again")
            }
            IdError::Character { .. } => {
                ("alphabet", "A-Z, 0-9 and - are allowed; an empty cell gets a random matching id")
            }
        };
        self.refuse(row, column.name(), &masked(text), code, &error.to_string(), hint);
    }

    pub(super) fn missing(&mut self, row: &Row<'_>, column: Column, why: &str) {
        self.refuse(row, column.name(), "", "missing-value", &format!("is empty: {why}"), "fill the cell");
    }

    pub(super) fn refuse(
        &mut self,
        row: &Row<'_>,
        column: &str,
        value: &str,
        code: &'static str,
        message: &str,
        hint: &str,
    ) {
        let [column, value, message, hint] = [column, value, message, hint].map(str::to_owned);
        self.refusals.push(Refusal { line: self.line.line, row: row.number, column, value, code, message, hint });
    }
}

/// A row and the number it goes by.
pub(super) struct Row<'r> {
    pub(super) cells: &'r Cells<'r>,
    pub(super) number: u32,
}

enum RangeNumber<T> {
    Free(T),
    Taken(T),
    Exhausted,
}

fn from_range<T: Number>(first: T, taken: &Bits, row: u32) -> RangeNumber<T> {
    let step = row.saturating_sub(1);
    match first.plus(u64::from(step)) {
        Some(number) if taken.has(step) => RangeNumber::Taken(number),
        Some(number) => RangeNumber::Free(number),
        None => RangeNumber::Exhausted,
    }
}

fn taken_range<T: Number>(
    line: &Line,
    first: T,
    look_up: impl FnOnce(&Range<T>, &mut dyn FnMut(T)) -> Result<(), StoreError>,
) -> Result<Source<T>, StoreError> {
    let mut taken = Bits::new(line.quantity);
    let range = Range::new(line.line, first, line.quantity);
    look_up(&range, &mut |number| {
        let step = number.counting() - first.counting();
        taken.set(u32::try_from(step).unwrap_or(u32::MAX));
    })?;
    Ok(Source::Range { first, taken })
}

fn duplicate_code(column: Column) -> &'static str {
    match column {
        Column::Iccid => "duplicate-iccid",
        Column::Imsi => "duplicate-imsi",
        _ => "duplicate-matching-id",
    }
}

fn taken_code(column: Column) -> &'static str {
    match column {
        Column::Iccid => "iccid-taken",
        Column::Imsi => "imsi-taken",
        _ => "matching-id-taken",
    }
}

/// A row number is no secret, but something else may stand in its column.
fn masked_number(text: &str) -> String {
    if text.len() <= 10 { super::json::excerpt(text) } else { masked(text) }
}
