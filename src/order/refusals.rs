//! Refusals on their way out: counted, the first ones kept for the terminal, all of them streamed into `rejects.csv`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::durable::Pending;
use crate::error::{ErrorClass, Exit, Fault};
use crate::store::Refusal;
use crate::store::sqlite::KeptRefusal;

/// Refusals a terminal shows.
pub const SHOWN: usize = 10;

/// Refusals of a header at most; rows are many and honest, a header with more is hostile or of another format.
pub(super) const MOST_OF_HEADER: usize = 1_000;

/// Stands for the refusals that are not kept.
pub(super) fn and_more() -> Refusal {
    Refusal {
        line: 0,
        row: 0,
        column: String::new(),
        value: String::new(),
        code: "and-more",
        message: format!("more is wrong than the {MOST_OF_HEADER} refusals told"),
        hint: "correct these, then check the order again".to_owned(),
    }
}

/// Code of a number that its range does not reach.
pub(super) const RANGE_EXHAUSTED: &str = "range-exhausted";

/// Code of a number or key that another order took between look-up and insert.
pub(super) const TAKEN: &str = "taken";

/// Class in `results.csv` of a row that was refused with this code: the codes say which, the classes say whose it is to mend.
pub(super) fn class_of(code: &str) -> ErrorClass {
    let begins = |words: &[&str]| words.iter().any(|word| code.starts_with(word));
    match code {
        RANGE_EXHAUSTED => ErrorClass::Range,
        TAKEN | "one-time-key-used" | "repeated-one-time-key" => ErrorClass::Duplicate,
        _ if begins(&["duplicate-"]) || code.ends_with("-taken") => ErrorClass::Duplicate,
        "value-unfit" | "msisdn-unfit" => ErrorClass::Template,
        "eligibility" | "no-one-time-key" => ErrorClass::Eligibility,
        "eid-mismatch" | "eid-range" | "ci-expired" => ErrorClass::Cert,
        _ if begins(&["euicc-", "eum-", "otpk-"]) => ErrorClass::Cert,
        _ => ErrorClass::Input,
    }
}

/// Name of the file.
pub(super) const FILE: &str = "rejects.csv";
const HEADER: [&str; 7] = ["row", "column", "value", "code", "message", "hint", "line"];

/// All but the first six and the last two characters become `*`, and whatever is no letter or digit: enough to find a
/// value again in the sender's own file, not enough to be one.
pub(super) fn masked(value: &str) -> String {
    const LONGEST: usize = 40;
    let count = value.chars().count();
    let shown = |i: usize| count > 10 && (i < 6 || i + 2 >= count);
    let mask = |(i, c): (usize, char)| if shown(i) && c.is_ascii_alphanumeric() { c } else { '*' };
    if count > LONGEST {
        let head: String = value.chars().enumerate().take(6).map(mask).collect();
        return format!("{head}*** ({count} characters)");
    }
    value.chars().enumerate().map(mask).collect()
}

/// Refusals as `rejects.csv` has them, for an answer that lies elsewhere.
pub(super) fn as_csv(refusals: &[Refusal]) -> Result<String, Fault> {
    let bug = |e: &dyn std::fmt::Display| Fault::new(Exit::Bug, format!("{FILE}: {e}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&HEADER[..6]).map_err(|e| bug(&e))?;
    for Refusal { row, column, value, code, message, hint, .. } in refusals {
        let row = row.to_string();
        let fields = [row.as_str(), column, value, code, message, hint].map(inert);
        writer.write_record(fields.iter().map(|field| field.as_bytes())).map_err(|e| bug(&e))?;
    }
    String::from_utf8(writer.into_inner().map_err(|e| bug(e.error()))?).map_err(|e| bug(&e))
}

/// People open the file with a spreadsheet, and members, columns and file names are the sender's words: none begins a formula.
fn inert(field: &str) -> Cow<'_, str> {
    if field.starts_with(['=', '+', '-', '@']) { Cow::Owned(format!("'{field}")) } else { Cow::Borrowed(field) }
}

/// Counts refusals and writes them where they are wanted.
pub(super) struct Refusals {
    file: Option<RejectsFile>,
    pub(super) first: Vec<Refusal>,
    pub(super) total: u64,
    /// Refusals of the order or a file as a whole.
    pub(super) general: u64,
    /// Rows with at least one refusal.
    pub(super) rows: u64,
    /// Refusals of rows that a range of ICCIDs or IMSIs does not reach.
    exhausted: u64,
    /// What is told and refuses nothing.
    pub(super) warnings: Vec<Refusal>,
}

impl Refusals {
    /// With a file, or only counted.
    pub(super) fn new(file: Option<RejectsFile>) -> Self {
        Self { file, first: Vec::new(), total: 0, general: 0, rows: 0, exhausted: 0, warnings: Vec::new() }
    }

    /// The order, a line or a file as a whole.
    pub(super) fn general(&mut self, refusals: impl IntoIterator<Item = Refusal>) -> Result<(), Fault> {
        for refusal in refusals {
            self.general += 1;
            self.add(&refusal)?;
        }
        Ok(())
    }

    /// One row; empty: nothing is wrong with it.
    pub(super) fn row(&mut self, refusals: &[Refusal]) -> Result<(), Fault> {
        self.rows += u64::from(!refusals.is_empty());
        refusals.iter().try_for_each(|refusal| self.add(refusal))
    }

    /// Nothing is wrong but that numbers are used up.
    pub(super) fn only_exhausted(&self) -> bool {
        self.total > 0 && self.exhausted == self.total
    }

    /// Makes the file durable under its temporary name.
    pub(super) fn finish_file(&mut self) -> Result<Option<FinishedRejects>, Fault> {
        self.file.take().map(RejectsFile::finish).transpose()
    }

    fn add(&mut self, refusal: &Refusal) -> Result<(), Fault> {
        self.total += 1;
        // In the header it is a variable's range, written too narrow: no number of anybody's is used up.
        self.exhausted += u64::from(refusal.code == RANGE_EXHAUSTED && refusal.row != 0);
        if self.first.len() < SHOWN {
            self.first.push(refusal.clone());
        }
        let Refusal { line, row, column, value, code, message, hint } = refusal;
        match &mut self.file {
            Some(file) => file.write(*line, *row, [column, value, code, message, hint]),
            None => Ok(()),
        }
    }
}

/// `rejects.csv` being written under a temporary name; dropped unfinished, nothing of it stays.
pub(super) struct RejectsFile {
    writer: csv::Writer<Pending>,
    path: PathBuf,
    with_line: bool,
}

impl RejectsFile {
    /// In an answer directory. With several order lines a last column says which.
    pub(super) fn create(directory: &Path, with_line: bool) -> Result<Self, Fault> {
        let path = directory.join(FILE);
        let pending = Pending::create(&path, 0o644).map_err(|e| Fault::file(&path, &e))?;
        let mut file = Self { writer: csv::Writer::from_writer(pending), path, with_line };
        file.record(HEADER.into_iter())?;
        Ok(file)
    }

    /// A line that the ledger kept.
    pub(super) fn write_kept(&mut self, kept: &KeptRefusal) -> Result<(), Fault> {
        self.write(kept.line, kept.row, std::array::from_fn(|i| kept.texts[i].as_str()))
    }

    fn write(&mut self, line: u32, row: u32, [column, value, code, message, hint]: [&str; 5]) -> Result<(), Fault> {
        let (row, line) = (row.to_string(), line.to_string());
        self.record([row.as_str(), column, value, code, message, hint, line.as_str()].into_iter())
    }

    fn record<'a>(&mut self, fields: impl Iterator<Item = &'a str>) -> Result<(), Fault> {
        let fields = fields.take(if self.with_line { 7 } else { 6 }).map(inert);
        self.writer
            .write_record(fields.map(|field| field.into_owned().into_bytes()))
            .map_err(|e| Fault::file(&self.path, &e.into()))
    }

    pub(super) fn finish(self) -> Result<FinishedRejects, Fault> {
        let Self { writer, path, .. } = self;
        let pending = writer.into_inner().map_err(|e| Fault::file(&path, e.error()))?;
        let mut finished = FinishedRejects { pending, path };
        finished.pending.sync().map_err(|e| Fault::file(&finished.path, &e))?;
        Ok(finished)
    }
}

/// A whole `rejects.csv`, durable, not visible yet.
pub(super) struct FinishedRejects {
    pending: Pending,
    path: PathBuf,
}

impl FinishedRejects {
    pub(super) fn publish(self) -> Result<(), Fault> {
        self.pending.publish().map_err(|e| Fault::file(&self.path, &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_of_the_sender_begins_a_formula() {
        let [column, value, message, hint] = ["=cmd|'/c calc'!A1", "+1", "@SUM(A1)", "-1"].map(str::to_owned);
        let refusal = Refusal { line: 1, row: 3, column, value, code: "unknown-member", message, hint };
        let told = "3,'=cmd|'/c calc'!A1,'+1,unknown-member,'@SUM(A1),'-1";
        assert_eq!(as_csv(std::slice::from_ref(&refusal)).unwrap().lines().nth(1), Some(told));
        let dir = tempfile::tempdir().unwrap();
        let mut refusals = Refusals::new(Some(RejectsFile::create(dir.path(), false).unwrap()));
        refusals.row(&[refusal]).unwrap();
        refusals.finish_file().unwrap().unwrap().publish().unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).unwrap().lines().nth(1), Some(told));
    }

    #[test]
    fn a_masked_value_shows_six_and_two_characters_at_most() {
        assert_eq!(masked("89049032123451234512345678901236"), "890490************************36");
        assert_eq!(masked("short"), "*****");
        assert_eq!(masked("=cmd|'/c calc'!A1"), "*cmd***********A1");
        assert_eq!(masked(&"7".repeat(5_000)), "777777*** (5000 characters)");
    }
}
