//! The CSV files of a bundle against its records: results, rejects, activation codes, core file.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use csv::StringRecord;
use data_encoding::HEXLOWER;

use super::core_file::{COLUMNS, CoreFile, CoreRow};
use super::lookup::Lookup;
use super::manifest::Counts;
use super::record::Record;
use super::unique::Salt;
use crate::ids::Iccid;
use crate::verify::finding::{Check, Finding, Findings};

/// The records as tables find them: by ICCID, read back one at a time.
pub(super) struct Known<'a> {
    pub(super) records: usize,
    pub(super) by_iccid: &'a Lookup,
    pub(super) salt: &'a Salt,
    pub(super) read: &'a dyn Fn(u32) -> Option<Record>,
}

impl Known<'_> {
    fn find(&self, iccid: &str) -> Option<(u32, Record)> {
        let iccid: Iccid = iccid.parse().ok()?;
        let index = self.by_iccid.find(self.salt.print(&[iccid.as_str().as_bytes()]))?;
        (self.read)(index).filter(|record| record.iccid == iccid).map(|record| (index, record))
    }
}

/// `results.csv`: one line per ordered row. Tells the order's row of each record.
pub(super) fn results(dir: &Path, known: &Known<'_>, counts: Option<Counts>, findings: &mut Findings) -> Results {
    let rows = vec![OrderRow::default(); known.records];
    let mut out = Results { rows, refused: BTreeSet::new(), failed: BTreeSet::new() };
    let mut told = vec![false; known.records];
    let mut found = Counts::default();
    let columns = [
        "row",
        "eid",
        "iccid",
        "imsi",
        "state",
        "error_class",
        "object",
        "offset",
        "length",
        "sha256",
        "matching_id",
        "line?",
    ];
    each_row(dir, "results.csv", Check::Results, &columns, findings, |field, _, wrong| {
        found.rows += 1;
        let Ok(row) = field[0].parse::<u32>() else { return wrong("row is not a number".into()) };
        let line = match field[11] {
            "" => None,
            text => match text.parse() {
                Ok(line) => Some(line),
                Err(_) => return wrong("line is not a number".into()),
            },
        };
        match field[4] {
            state @ ("rejected" | "refused" | "failed") => {
                found.refused += 1;
                if field[5].is_empty() {
                    wrong(format!("row {row} is {state} without an error class"));
                }
                if state == "failed" {
                    out.failed.insert(row)
                } else {
                    out.refused.insert(row)
                };
            }
            "held" => found.held += 1,
            "cancelled" | "revoked" => found.cancelled += 1,
            _ => {
                found.issued += 1;
                match known.find(field[2]) {
                    None => wrong(format!("row {row} is issued, but its ICCID has no record in orders.jsonl")),
                    Some((index, _)) if std::mem::replace(&mut told[index as usize], true) => {
                        wrong(format!("row {row} names an ICCID that stands in this file before"));
                    }
                    Some((index, record)) => {
                        out.rows[index as usize] = OrderRow { line, row };
                        if let Some(column) = result_difference(field, &record) {
                            wrong(format!("row {row} differs from orders.jsonl in {column}"));
                        }
                    }
                }
            }
        }
    });
    let silent = told.iter().filter(|told| !**told).count();
    if silent > 0 {
        findings.add(Finding::new(Check::Results, format!("{silent} records have no line")).in_file("results.csv"));
    }
    if counts.is_some_and(|counts| counts != found) {
        let what = format!(
            "its lines give rows {}, issued {}, refused {}, held {}, cancelled {}; the manifest says otherwise",
            found.rows, found.issued, found.refused, found.held, found.cancelled
        );
        findings.add(Finding::new(Check::Counts, what).in_file("results.csv"));
    }
    out
}

/// What `results.csv` tells the other checks.
pub(super) struct Results {
    /// Row of the order, by record.
    pub(super) rows: Vec<OrderRow>,
    /// Rows refused at acceptance: each must stand in `rejects.csv`.
    pub(super) refused: BTreeSet<u32>,
    /// Rows that failed later: they may.
    pub(super) failed: BTreeSet<u32>,
}

/// Where a record stands in the order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OrderRow {
    /// Told only where the order has several lines.
    pub(super) line: Option<u32>,
    /// 1-based; 0: no line of `results.csv` tells it.
    pub(super) row: u32,
}

/// First column in which a line of `results.csv` says something else than the record.
fn result_difference(field: &[&str], record: &Record) -> Option<&'static str> {
    let package = record.package.as_ref();
    let number = |value: Option<u64>| value.map(|n| n.to_string()).unwrap_or_default();
    let pairs = [
        ("eid", field[1], record.eid.map(|eid| eid.to_string()).unwrap_or_default()),
        ("imsi", field[3], record.imsi.map(|imsi| imsi.to_string()).unwrap_or_default()),
        ("state", field[4], record.state.clone()),
        ("error_class", field[5], String::new()),
        ("object", field[6], package.map(|p| p.object.clone()).unwrap_or_default()),
        ("offset", field[7], number(package.map(|p| p.offset))),
        ("length", field[8], number(package.map(|p| p.length))),
        ("sha256", field[9], package.map(|p| HEXLOWER.encode(&p.sha256)).unwrap_or_default()),
        ("matching_id", field[10], record.matching_id.as_str().to_owned()),
    ];
    pairs.into_iter().find(|(_, found, expected)| found != expected).map(|(column, _, _)| column)
}

/// `rejects.csv`: every refused row, and no other.
pub(super) fn rejects(dir: &Path, there: &BTreeSet<String>, results: &Results, findings: &mut Findings) {
    let name = "rejects.csv";
    let refused = &results.refused;
    if !there.contains(name) {
        if !refused.is_empty() {
            let what = format!("{} rows were refused, but the file is missing", refused.len());
            findings.add(Finding::new(Check::Rejects, what).in_file(name));
        }
        return;
    }
    let mut named = BTreeSet::new();
    let columns = ["row", "column", "value", "code", "message", "hint"];
    each_row(dir, name, Check::Rejects, &columns, findings, |field, _, wrong| match field[0].parse::<u32>() {
        Ok(row) => drop(named.insert(row)),
        Err(_) => wrong("row is not a number".into()),
    });
    if let Some(row) = refused.difference(&named).next() {
        findings.add(Finding::new(Check::Rejects, format!("refused row {row} is not named")).in_file(name));
    }
    if let Some(row) = named.iter().find(|row| !refused.contains(row) && !results.failed.contains(row)) {
        findings.add(Finding::new(Check::Rejects, format!("row {row} is named, but was not refused")).in_file(name));
    }
}

/// `activation-codes.csv`: the code and EID of every record, once.
pub(super) fn activation_codes(dir: &Path, known: &Known<'_>, findings: &mut Findings) {
    let name = "activation-codes.csv";
    let mut told = vec![false; known.records];
    each_row(dir, name, Check::ActivationCodes, &["ICCID", "ACTIVATION CODE", "EID"], findings, |field, _, wrong| {
        let Some((index, record)) = known.find(field[0]) else { return wrong("ICCID has no record".into()) };
        let eid = record.eid.map(|eid| eid.to_string()).unwrap_or_default();
        if std::mem::replace(&mut told[index as usize], true) {
            wrong(format!("{} stands twice", record.masked()));
        } else if field[1] != record.activation_code || field[2] != eid {
            wrong(format!("{} has another code or EID than its record", record.masked()));
        }
    });
    let silent = told.iter().filter(|told| !**told).count();
    if silent > 0 {
        findings.add(Finding::new(Check::ActivationCodes, format!("{silent} records have no line")).in_file(name));
    }
}

/// `core.csv`: the issued ICCIDs, each once, with their IMSI and well-formed ciphertexts.
pub(super) fn core(dir: &Path, known: &Known<'_>, findings: &mut Findings) -> CoreFile {
    let name = "core.csv";
    let mut file = CoreFile::open(&dir.join(name), known.records);
    each_row(dir, name, Check::CoreFile, &COLUMNS, findings, |field, offset, wrong| {
        let Some((index, record)) = known.find(field[0]) else { return wrong("ICCID was not issued".into()) };
        if file.has(index as usize) {
            return wrong(format!("{} stands twice", record.masked()));
        }
        if field[1] != record.imsi.map(|imsi| imsi.to_string()).unwrap_or_default() {
            wrong(format!("{} has another IMSI than its record", record.masked()));
        }
        if field[5].is_empty() {
            wrong(format!("{} names no transport key", record.masked()));
        }
        match CoreRow::read(field) {
            Ok(_) => file.place(index as usize, offset),
            Err(what) => wrong(format!("{}: {what}", record.masked())),
        }
    });
    let silent = file.silent();
    if silent > 0 {
        let what = format!("{silent} issued ICCIDs have no sound line");
        findings.add(Finding::new(Check::CoreFile, what).in_file(name));
    }
    file
}

/// Reads a CSV file row by row; `each` gets the named columns in their order, the row's offset and a way to tell what is wrong with it. A column
/// with `?` behind its name may be missing: its fields are empty then.
fn each_row(
    dir: &Path,
    name: &str,
    check: Check,
    columns: &[&str],
    findings: &mut Findings,
    mut each: impl FnMut(&[&str], u64, &mut dyn FnMut(String)),
) {
    let mut read = || -> Result<(), String> {
        let file = File::open(dir.join(name)).map_err(|e| e.to_string())?;
        let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(file);
        let header = reader.headers().map_err(|e| e.to_string())?.clone();
        let places = columns.iter().map(|column| {
            let place = header.iter().position(|name| name == column.trim_end_matches('?'));
            match place {
                None if !column.ends_with('?') => Err(format!("column {column} is missing")),
                place => Ok(place),
            }
        });
        let places = places.collect::<Result<Vec<_>, _>>()?;
        let mut row = StringRecord::new();
        let mut line = 1_u64;
        while reader.read_record(&mut row).map_err(|e| e.to_string())? {
            line += 1;
            let fields: Vec<_> =
                places.iter().map(|place| place.and_then(|at| row.get(at)).unwrap_or_default()).collect();
            each(&fields, row.position().map_or(0, csv::Position::byte), &mut |what| {
                findings.add(Finding::new(check, format!("line {line}: {what}")).in_file(name));
            });
        }
        Ok(())
    };
    if let Err(what) = read() {
        findings.add(Finding::new(check, what).in_file(name));
    }
}
