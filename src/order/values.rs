//! The values that one row gives the line's variables: taken from its cells or counted, and held to the template's forms.

use super::columns::Column;
use super::file::Line;
use super::header::Takes;
use super::judge::{Row, RowJudge};
use super::refusals::masked;
use super::vars::{FirstNumber, MSISDN, Var};

/// A variable whose value differs from row to row.
pub(super) struct RowVar<'o> {
    name: &'o str,
    source: Source<'o>,
}

enum Source<'o> {
    /// A constant: only the telephone number is kept by row all the same.
    Constant(&'o str),
    /// The column `msisdn`.
    Msisdn,
    /// The `at`-th of [`Line::own_columns`].
    Own {
        at: usize,
        column: &'o str,
    },
    First(&'o FirstNumber),
}

impl RowVar<'_> {
    /// Its values stand in an own column, which nobody has judged yet.
    fn is_own(&self) -> bool {
        matches!(self.source, Source::Own { .. })
    }

    /// Its range begins with a value that does not fit.
    fn begins_unfit(&self, takes: &Takes) -> bool {
        let Source::First(first) = self.source else { return false };
        first.after(0).is_some_and(|value| (takes.check_value)(self.name, &value).is_err())
    }
}

/// The variables of a line whose values stand in its device lines; the telephone number apart from the others.
pub(super) struct RowVars<'o> {
    msisdn: Option<RowVar<'o>>,
    others: Vec<RowVar<'o>>,
}

impl<'o> RowVars<'o> {
    pub(super) fn of(line: &'o Line) -> Self {
        let own = line.own_columns();
        let var = |(name, var): (&'o String, &'o Var)| {
            let source = match var {
                Var::Constant(text) => Source::Constant(text),
                Var::First(first) => Source::First(first),
                Var::Column(column) => match own.iter().position(|name| name == column) {
                    Some(at) => Source::Own { at, column },
                    None => Source::Msisdn,
                },
            };
            RowVar { name, source }
        };
        let (msisdn, others): (Vec<_>, Vec<_>) = line.vars.iter().map(var).partition(|var| var.name == MSISDN);
        let others = others.into_iter().filter(|var| !matches!(var.source, Source::Constant(_))).collect();
        Self { msisdn: msisdn.into_iter().next(), others }
    }
}

impl RowJudge<'_> {
    /// Values by the names of their variables, in the order of the names.
    pub(super) fn values(&mut self, row: &Row<'_>) -> Vec<(String, String)> {
        let (vars, takes) = (self.vars, self.takes);
        let mut values = Vec::with_capacity(vars.others.len());
        for var in &vars.others {
            let Some((column, value)) = self.value(row, var) else { continue };
            match (takes.check_value)(var.name, &value) {
                Ok(()) => values.push((var.name.to_owned(), value)),
                // Refused once, with the header.
                Err(_) if var.begins_unfit(takes) => {}
                Err(unfit) => {
                    let message = format!("as {}: {}", var.name, unfit.message);
                    self.refuse(row, &column, &masked(&value), "value-unfit", &message, &unfit.hint);
                }
            }
        }
        values
    }

    /// The telephone number: the variable's, else that of the column; both must be one where both are there.
    pub(super) fn msisdn(&mut self, row: &Row<'_>) -> Option<String> {
        let given = self.digits(row, Column::Msisdn, 1..=MSISDN_DIGITS);
        let number = match &self.vars.msisdn {
            None => given?.to_owned(),
            // The cell was judged just now; an empty one is missed below.
            Some(RowVar { source: Source::Msisdn, .. }) if row.cells.cell(Column::Msisdn).is_some() => {
                given?.to_owned()
            }
            Some(var) => {
                let (column, value) = self.value(row, var)?;
                let Some(digits) = msisdn_digits(&value) else {
                    if var.is_own() {
                        self.refuse(row, &column, &masked(&value), "digits", NO_MSISDN, MSISDN_HINT);
                    }
                    return None;
                };
                if given.is_some_and(|given| given != digits) {
                    let (message, hint) = ("of the variable differs from the one in the row", "leave one of them out");
                    self.refuse(row, MSISDN, &masked(digits), "number-mismatch", message, hint);
                    return None;
                }
                digits.to_owned()
            }
        };
        // A variable without place is refused once, with the header.
        if !self.takes.msisdn && self.vars.msisdn.is_none() {
            let (message, hint) = ("has no place in the template", "leave the column out, or order another template");
            self.refuse(row, MSISDN, "", "msisdn-unfit", message, hint);
        }
        Some(number)
    }

    /// The value of a variable and the column that it is to be found in; `None`: refused.
    fn value(&mut self, row: &Row<'_>, var: &RowVar<'_>) -> Option<(String, String)> {
        let (column, cell) = match var.source {
            Source::Constant(text) => return Some((member(var.name), text.to_owned())),
            // A range that does not last is refused once, with the header.
            Source::First(first) => return Some((member(var.name), first.after(row.number.saturating_sub(1))?)),
            Source::Msisdn => (MSISDN, row.cells.cell(Column::Msisdn)),
            Source::Own { at, column } => (column, row.cells.own(at)),
        };
        let Some(cell) = cell else {
            let message = format!("is empty: the variable {} takes its values from it", var.name);
            self.refuse(row, column, "", "missing-value", &message, "fill the cell");
            return None;
        };
        let Ok(text) = std::str::from_utf8(cell) else {
            self.refuse(row, column, "(not shown)", "not-utf8", "is not UTF-8", "write the file as UTF-8");
            return None;
        };
        Some((column.to_owned(), text.to_owned()))
    }
}

/// Digits of a telephone number at most: what EF.MSISDN holds without an extension (3GPP TS 31.102 §4.2.26).
pub(super) const MSISDN_DIGITS: usize = 20;
pub(super) const NO_MSISDN: &str = "is not a telephone number of 1 to 20 digits";
pub(super) const MSISDN_HINT: &str = "country code and number as in E.164, digits only";

/// The digits of a telephone number, which may begin with `+`.
pub(super) fn msisdn_digits(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let sound = (1..=MSISDN_DIGITS).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    sound.then_some(digits)
}

fn member(name: &str) -> String {
    format!("vars.{name}")
}
