//! Variables of a line: where their values come from, and how the header says so.
//!
//! In: the member `vars` of a line, `NAME: "text"`, `NAME: {"column": "x_brand"}` or `NAME: {"first": "4915112340000"}`.
//! Out: a [`Var`] by name. Rule: what names a secret is refused by its name, wherever its value would come from.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::columns::{Column, Meaning, meaning, names_secret_variable, shown_name};
use super::file::MAX_VARS;
use super::json::{Limit, Value};
use super::refusals::masked;

/// Name of the variable that the ledger keeps as the record's telephone number, like the column of this name.
pub const MSISDN: &str = "msisdn";

/// Where the values of a variable come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Var {
    /// The header: the same for every record.
    Constant(String),
    /// This column of the rows: `msisdn`, or an own one (`x_*`).
    Column(String),
    /// A range: row r gets the number r - 1 after this one.
    First(FirstNumber),
}

/// The first number of a range: digits that count up and never get more of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstNumber {
    number: u128,
    width: usize,
}

impl FirstNumber {
    /// The number `steps` after the first, as wide as it; `None` past the last of this width.
    pub fn after(&self, steps: u32) -> Option<String> {
        let number = self.number + u128::from(steps);
        let text = format!("{number:0width$}", width = self.width);
        (text.len() == self.width).then_some(text)
    }
}

/// Why a text is no first number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not 1 to {MAX_DIGITS} digits")]
pub struct NoNumber;

/// Longer than any number of a profile; 128 bits hold it.
const MAX_DIGITS: usize = 36;

impl FromStr for FirstNumber {
    type Err = NoNumber;

    fn from_str(text: &str) -> Result<Self, NoNumber> {
        let sound = (1..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|_| sound).ok_or(NoNumber)?;
        Ok(Self { number, width: text.len() })
    }
}

const VARS: Limit =
    Limit { most: MAX_VARS, code: "too-many-vars", what: "variables", hint: "`bindery template vars NAME` shows them" };
const SECRET_HINT: &str = "keys, PUKs and ADM codes are made in the HSM; no order carries them in the clear";
/// One PIN for a whole line (0000) is no secret; one for each profile is, and rows would lie in the ledger as they came.
const PER_PROFILE_CODES: [&str; 2] = ["pin1", "pin2"];
const PIN_HINT: &str = "leave it out: every profile gets its own, made in the HSM; or give one text for the whole line";
const COLUMN_HINT: &str = "msisdn, or a column of your own: its name begins with x_";

/// The variables of a line by name.
pub(super) fn read_vars(value: Value<'_>) -> Option<BTreeMap<String, Var>> {
    let entries = value.entries(VARS, |name, v| {
        if names_secret_variable(name) {
            return v.place().refuse("(not shown)", "clear-secret", "names a secret in the clear", SECRET_HINT);
        }
        let place = v.place();
        let var = read_var(v)?;
        if PER_PROFILE_CODES.contains(&name) && !matches!(var, Var::Constant(_)) {
            return place.refuse("(not shown)", "clear-secret", "names a PIN for each profile in the clear", PIN_HINT);
        }
        Some((name.to_owned(), var))
    })?;
    Some(entries.into_iter().collect())
}

fn read_var(value: Value<'_>) -> Option<Var> {
    if !value.is_object() {
        return value.text().map(|text| Var::Constant(text.to_owned()));
    }
    value.object(|members| {
        let column = members.optional("column", read_column);
        let first = members.optional("first", |v| v.parse(masked, "digits only; row r gets the number r - 1 after it"));
        match (column?, first?) {
            (Some(column), None) => Some(Var::Column(column)),
            (None, Some(first)) => Some(Var::First(first)),
            _ => value.place().refuse(
                "",
                "bad-value",
                "needs either column or first",
                "{\"column\":\"x_...\"} or {\"first\":\"digits\"}; a text is the same for every row",
            ),
        }
    })
}

fn read_column(value: Value<'_>) -> Option<String> {
    let name = value.text()?;
    match meaning(name) {
        _ if names_secret_variable(name) => {
            value.place().refuse("(not shown)", "clear-secret", "names a secret in the clear", SECRET_HINT)
        }
        Meaning::Known(Column::Msisdn) | Meaning::Foreign => Some(name.to_owned()),
        _ => value.place().refuse(&shown_name(name), "bad-column", "gives no values of variables", COLUMN_HINT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &str) -> FirstNumber {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_counts_up_in_its_width_and_ends_with_it() {
        assert_eq!(first("4915112340000").after(0).unwrap(), "4915112340000");
        assert_eq!(first("4915112349999").after(1).unwrap(), "4915112350000");
        assert_eq!(first("0007").after(5).unwrap(), "0012");
        assert_eq!(first("98").after(1).unwrap(), "99");
        assert_eq!(first("98").after(2), None);
        assert_eq!(first(&"9".repeat(MAX_DIGITS)).after(u32::MAX), None);
    }

    #[test]
    fn only_digits_begin_a_range() {
        for text in ["", "+49", "4 9", "4x", "\u{0664}", &"1".repeat(MAX_DIGITS + 1)] {
            assert_eq!(text.parse::<FirstNumber>(), Err(NoNumber), "{text}");
        }
    }
}
