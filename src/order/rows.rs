//! The rows of one order line as a stream of cells: from the CSV, from the order itself, or as many empty rows as ordered.

use std::path::Path;

/// Octets of a CSV at most: a header, and this much for each ordered row.
const HEADER_OCTETS: u64 = 4_096;
const ROW_OCTETS: u64 = 2_048;
/// Octets of one record at most; an opening quote without its end makes one record of the rest of the file.
const MAX_RECORD_OCTETS: usize = 64 * 1024;
/// Columns of a CSV at most, own ones included.
const MAX_COLUMNS: usize = 256;
const BUFFER_OCTETS: usize = 256 * 1024;

use super::beside::{self, Hashed};
use super::columns::{COLUMNS, Column, Meaning, meaning, shown_name};
use super::file::{InlineRow, Line, Rows};
use super::parse::{CLEAR_SECRET_HINT, UNKNOWN_COLUMN_HINT};
use crate::error::{Exit, Fault};
use crate::store::Refusal;

/// One row: its cells, empty ones absent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cells<'r> {
    /// 1-based place in the file.
    pub(super) position: u32,
    cells: [Option<&'r [u8]>; COLUMNS],
    /// Of the own columns that the line's variables name, in the order of [`Line::own_columns`].
    own: &'r [Option<&'r [u8]>],
    /// Fields found and expected, when they differ.
    pub(super) field_count: Option<(usize, usize)>,
}

impl<'r> Cells<'r> {
    pub(super) fn cell(&self, column: Column) -> Option<&'r [u8]> {
        self.cells[column as usize]
    }

    /// The cell of the `at`-th own column that the line's variables name.
    pub(super) fn own(&self, at: usize) -> Option<&'r [u8]> {
        self.own.get(at).copied().flatten()
    }
}

/// Where the rows of a line come from.
pub(super) struct RowSource<'o> {
    origin: Origin<'o>,
    /// Own columns that the line's variables name.
    own: Vec<&'o str>,
    quantity: u32,
}

enum Origin<'o> {
    Csv { reader: Box<csv::Reader<Hashed>>, columns: [Option<usize>; COLUMNS], own: Vec<Option<usize>>, width: usize },
    Inline(&'o [InlineRow]),
    Empty,
}

/// What a whole pass over the rows found.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) rows: u64,
    /// Of a CSV, lower-case hex.
    pub(super) sha256: Option<String>,
    /// The row that has no end within [`MAX_RECORD_OCTETS`]; nothing behind it was read.
    pub(super) overlong: Option<u64>,
}

impl<'o> RowSource<'o> {
    /// Opens the rows and judges the header. `member` is the path of the line (`lines[0]`).
    pub(super) fn open(line: &'o Line, directory: &Path, member: &str) -> Result<Result<Self, Vec<Refusal>>, Fault> {
        let member = format!("{member}.rows");
        Self::of(line.rows.as_ref(), (line.line, line.quantity), line.own_columns(), directory, &member)
    }

    /// The same for rows of a line of this number, so many; `own`: columns of the sender's own to be read; `member`: path of the rows.
    pub(super) fn of(
        rows: Option<&'o Rows>,
        (line, quantity): (u32, u32),
        own: Vec<&'o str>,
        directory: &Path,
        member: &str,
    ) -> Result<Result<Self, Vec<Refusal>>, Fault> {
        let origin = match rows {
            None => Origin::Empty,
            Some(Rows::Inline(rows)) => Origin::Inline(rows),
            Some(Rows::File { file, .. }) => {
                let most_octets = HEADER_OCTETS + u64::from(quantity) * ROW_OCTETS;
                let opened = match beside::open(directory, file, line, member, most_octets) {
                    Ok(opened) => opened,
                    Err(refusal) => return Ok(Err(vec![*refusal])),
                };
                match open_csv(opened, line, &file.file, &own)? {
                    Ok(origin) => origin,
                    Err(refusals) => return Ok(Err(refusals)),
                }
            }
        };
        Ok(Ok(Self { origin, own, quantity }))
    }

    /// Whether any row can have a value there.
    pub(super) fn has(&self, column: Column) -> bool {
        match &self.origin {
            Origin::Csv { columns, .. } => columns[column as usize].is_some(),
            Origin::Inline(rows) => rows.iter().any(|row| row.cells[column as usize].is_some()),
            Origin::Empty => false,
        }
    }

    /// The own columns that variables name and no row can have a value in.
    pub(super) fn lacking_own(&self) -> Vec<&'o str> {
        let has = |(at, name): &(usize, &'o str)| match &self.origin {
            Origin::Csv { own, .. } => own.get(*at).is_some_and(Option::is_some),
            Origin::Inline(rows) => rows.iter().any(|row| row.own.contains_key(*name)),
            Origin::Empty => false,
        };
        self.own.iter().copied().enumerate().filter(|named| !has(named)).map(|(_, name)| name).collect()
    }

    /// Calls `each` with every row, those beyond the ordered quantity included.
    pub(super) fn for_each(self, mut each: impl FnMut(Cells<'_>) -> Result<(), Fault>) -> Result<Seen, Fault> {
        match self.origin {
            Origin::Csv { mut reader, columns, own, width } => {
                let mut record = csv::ByteRecord::new();
                let mut rows = 0_u64;
                loop {
                    reader.get_mut().begin_record();
                    let read = reader.read_byte_record(&mut record);
                    if reader.get_ref().is_overlong() || record.as_slice().len() > MAX_RECORD_OCTETS {
                        return Ok(Seen { rows, sha256: None, overlong: Some(rows + 1) });
                    }
                    if !read.map_err(unreadable)? {
                        break;
                    }
                    rows += 1;
                    let cell = |at: Option<usize>| at.and_then(|at| record.get(at)).filter(|cell| !cell.is_empty());
                    let field_count = (record.len() != width).then_some((record.len(), width));
                    let position = u32::try_from(rows).unwrap_or(u32::MAX);
                    let own: Vec<_> = own.iter().map(|at| cell(*at)).collect();
                    each(Cells { position, cells: columns.map(cell), own: &own, field_count })?;
                }
                let sha256 = reader.into_inner().finish().map_err(|e| unreadable(e.into()))?;
                Ok(Seen { rows, sha256: Some(sha256), overlong: None })
            }
            Origin::Inline(rows) => {
                for (position, row) in (1..).zip(rows) {
                    let cells = std::array::from_fn(|i| row.cells[i].as_deref().map(str::as_bytes));
                    let own: Vec<_> =
                        self.own.iter().map(|name| row.own.get(*name).map(|cell| cell.as_bytes())).collect();
                    each(Cells { position, cells, own: &own, field_count: None })?;
                }
                Ok(Seen { rows: rows.len() as u64, sha256: None, overlong: None })
            }
            Origin::Empty => {
                for position in 1..=self.quantity {
                    each(Cells { position, cells: [None; COLUMNS], own: &[], field_count: None })?;
                }
                Ok(Seen { rows: u64::from(self.quantity), sha256: None, overlong: None })
            }
        }
    }
}

/// Row 0 is the line of column names.
pub(super) fn overlong(line: u32, row: u64) -> Refusal {
    Refusal {
        line,
        row: u32::try_from(row).unwrap_or(u32::MAX),
        column: String::new(),
        value: String::new(),
        code: "row-too-long",
        message: format!("does not end within {MAX_RECORD_OCTETS} octets; the rows behind it were not read"),
        hint: "look for a quotation mark that is not closed".to_owned(),
    }
}

fn open_csv<'o>(
    mut file: Hashed,
    line: u32,
    name: &str,
    wanted: &[&str],
) -> Result<Result<Origin<'o>, Vec<Refusal>>, Fault> {
    // A buffer may be full of other records when this one begins.
    file.limit_records((BUFFER_OCTETS + MAX_RECORD_OCTETS) as u64);
    let mut reader = csv::ReaderBuilder::new().flexible(true).buffer_capacity(BUFFER_OCTETS).from_reader(file);
    let header = reader.byte_headers().cloned();
    if reader.get_ref().is_overlong() || header.as_ref().is_ok_and(|header| header.as_slice().len() > MAX_RECORD_OCTETS)
    {
        return Ok(Err(vec![overlong(line, 0)]));
    }
    let header = header.map_err(unreadable)?;
    if header.len() > MAX_COLUMNS {
        let message = format!("{name} has {} columns, at most {MAX_COLUMNS}", header.len());
        let (column, hint) = ("rows".to_owned(), UNKNOWN_COLUMN_HINT.to_owned());
        let refusal = Refusal { line, row: 0, column, value: String::new(), code: "too-many-columns", message, hint };
        return Ok(Err(vec![refusal]));
    }
    let mut columns = [None; COLUMNS];
    let mut own = vec![None; wanted.len()];
    let mut refusals = Vec::new();
    for (at, field) in header.iter().enumerate() {
        let field = String::from_utf8_lossy(field);
        let shown = shown_name(&field);
        let mut refuse = |code, message: String, hint: &str| {
            let (column, hint) = (shown.clone(), hint.to_owned());
            refusals.push(Refusal { line, row: 0, column, value: String::new(), code, message, hint });
        };
        match meaning(&field) {
            Meaning::Known(column) if columns[column as usize].replace(at).is_some() => {
                refuse("duplicate-column", format!("{name} has this column twice"), "keep one of them");
            }
            Meaning::Foreign => match wanted.iter().position(|name| *name == field) {
                Some(slot) if own[slot].replace(at).is_some() => {
                    refuse("duplicate-column", format!("{name} has this column twice"), "keep one of them");
                }
                _ => {}
            },
            Meaning::Known(_) => {}
            Meaning::ClearSecret => {
                refuse("clear-secret", format!("{name}: the column names a key in the clear"), CLEAR_SECRET_HINT);
            }
            Meaning::Unknown => {
                refuse("unknown-column", format!("{name}: column {} is unknown", at + 1), UNKNOWN_COLUMN_HINT)
            }
        }
    }
    if header.is_empty() {
        let (column, hint) = ("rows".to_owned(), "the first line names the columns".to_owned());
        let message = format!("{name} is empty");
        refusals.push(Refusal { line, row: 0, column, value: String::new(), code: "no-header", message, hint });
    }
    let origin = Origin::Csv { reader: Box::new(reader), columns, own, width: header.len() };
    Ok(if refusals.is_empty() { Ok(origin) } else { Err(refusals) })
}

/// The device or network behind the file failed; content never does, the reader is flexible.
fn unreadable(error: csv::Error) -> Fault {
    Fault::new(Exit::Config, format!("rows: {error}")).hint("check the disk the order lies on")
}
