//! The rows of one order line as a stream of cells: from the CSV, from the order itself, or as many empty rows as ordered.

use std::path::Path;

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
    /// Fields found and expected, when they differ.
    pub(super) field_count: Option<(usize, usize)>,
}

impl<'r> Cells<'r> {
    pub(super) fn cell(&self, column: Column) -> Option<&'r [u8]> {
        self.cells[column as usize]
    }
}

/// Where the rows of a line come from.
pub(super) struct RowSource<'o> {
    origin: Origin<'o>,
    quantity: u32,
}

enum Origin<'o> {
    Csv { reader: Box<csv::Reader<Hashed>>, columns: [Option<usize>; COLUMNS], width: usize },
    Inline(&'o [InlineRow]),
    Empty,
}

/// What a whole pass over the rows found.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) rows: u64,
    /// Of a CSV, lower-case hex.
    pub(super) sha256: Option<String>,
}

impl<'o> RowSource<'o> {
    /// Opens the rows and judges the header. `member` is the path of the line (`lines[0]`).
    pub(super) fn open(line: &'o Line, directory: &Path, member: &str) -> Result<Result<Self, Vec<Refusal>>, Fault> {
        let origin = match &line.rows {
            None => Origin::Empty,
            Some(Rows::Inline(rows)) => Origin::Inline(rows),
            Some(Rows::File { file, .. }) => {
                let opened = match beside::open(directory, file, line.line, &format!("{member}.rows")) {
                    Ok(opened) => opened,
                    Err(refusal) => return Ok(Err(vec![*refusal])),
                };
                match open_csv(opened, line.line, &file.file)? {
                    Ok(origin) => origin,
                    Err(refusals) => return Ok(Err(refusals)),
                }
            }
        };
        Ok(Ok(Self { origin, quantity: line.quantity }))
    }

    /// Whether any row can have a value there.
    pub(super) fn has(&self, column: Column) -> bool {
        match &self.origin {
            Origin::Csv { columns, .. } => columns[column as usize].is_some(),
            Origin::Inline(rows) => rows.iter().any(|row| row[column as usize].is_some()),
            Origin::Empty => false,
        }
    }

    /// Calls `each` with every row, those beyond the ordered quantity included.
    pub(super) fn for_each(self, mut each: impl FnMut(Cells<'_>) -> Result<(), Fault>) -> Result<Seen, Fault> {
        match self.origin {
            Origin::Csv { mut reader, columns, width } => {
                let mut record = csv::ByteRecord::new();
                let mut rows = 0_u64;
                while reader.read_byte_record(&mut record).map_err(unreadable)? {
                    rows += 1;
                    let cell = |at: Option<usize>| at.and_then(|at| record.get(at)).filter(|cell| !cell.is_empty());
                    let field_count = (record.len() != width).then_some((record.len(), width));
                    let position = u32::try_from(rows).unwrap_or(u32::MAX);
                    each(Cells { position, cells: columns.map(cell), field_count })?;
                }
                let sha256 = reader.into_inner().finish().map_err(|e| unreadable(e.into()))?;
                Ok(Seen { rows, sha256: Some(sha256) })
            }
            Origin::Inline(rows) => {
                for (position, row) in (1..).zip(rows) {
                    let cells = std::array::from_fn(|i| row[i].as_deref().map(str::as_bytes));
                    each(Cells { position, cells, field_count: None })?;
                }
                Ok(Seen { rows: rows.len() as u64, sha256: None })
            }
            Origin::Empty => {
                for position in 1..=self.quantity {
                    each(Cells { position, cells: [None; COLUMNS], field_count: None })?;
                }
                Ok(Seen { rows: u64::from(self.quantity), sha256: None })
            }
        }
    }
}

fn open_csv<'o>(file: Hashed, line: u32, name: &str) -> Result<Result<Origin<'o>, Vec<Refusal>>, Fault> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).buffer_capacity(256 * 1024).from_reader(file);
    let header = reader.byte_headers().map_err(unreadable)?.clone();
    let mut columns = [None; COLUMNS];
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
            Meaning::Known(_) | Meaning::Foreign => {}
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
    let origin = Origin::Csv { reader: Box::new(reader), columns, width: header.len() };
    Ok(if refusals.is_empty() { Ok(origin) } else { Err(refusals) })
}

/// The device or network behind the file failed; content never does, the reader is flexible.
fn unreadable(error: csv::Error) -> Fault {
    Fault::new(Exit::Config, format!("rows: {error}")).hint("check the disk the order lies on")
}
