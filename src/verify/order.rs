//! The order as it was submitted, read by the judge's own hand: what each row asks for.
//!
//! In: an order file and the files it names beside it. Out: one [`Asked`] a row. Rule: no code is shared with `order`, so that a
//! number miscounted there is not miscounted here the same way. Nothing is validated but what is compared: whether the order
//! was acceptable was decided when it was submitted.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::ids::Eid;

/// A line of a key file longer than this is no key.
const KEY_LINE_MAX: u64 = 64 * 1024;

/// Header of an order.
pub(super) struct Order {
    pub(super) tenant: String,
    pub(super) order_id: String,
    pub(super) rev: u64,
    pub(super) lines: Vec<OrderLine>,
}

/// One line of it.
pub(super) struct OrderLine {
    pub(super) number: u32,
    pub(super) mode: String,
    pub(super) quantity: u32,
    pub(super) class: String,
    pub(super) algorithm: String,
    pub(super) cc_required: bool,
    iccid: Numbers,
    /// Without it the rows may still have an IMSI each.
    imsi: Numbers,
    vars: Vec<(Arc<str>, Given)>,
    rows: Rows,
    keys: Option<Beside>,
}

/// Where numbers come from.
enum Numbers {
    First(String),
    Rows,
}

/// Where a variable's value comes from.
enum Given {
    Constant(Arc<str>),
    Column(String),
    First(String),
}

enum Rows {
    None,
    Inline(Vec<Value>),
    File(Beside),
}

/// A file named by path and hash.
pub(super) struct Beside {
    /// As the order names it.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) sha256: String,
}

/// What a row asks for; a member that is `None` is not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) row: u32,
    pub(super) eid: Option<String>,
    pub(super) iccid: Option<String>,
    pub(super) imsi: Option<String>,
    pub(super) matching_id: Option<String>,
    /// Values of variables by name; those that are the same for every row are shared.
    pub(super) values: Vec<(Arc<str>, Arc<str>)>,
}

impl Order {
    /// `directory`: where the order file lies.
    pub(super) fn read(octets: &[u8], directory: &Path) -> Result<Self, String> {
        let root: Value = serde_json::from_slice(octets).map_err(|e| format!("is no JSON (line {})", e.line()))?;
        let lines = root["lines"].as_array().ok_or("lines is no list")?;
        Ok(Self {
            tenant: text(&root, "tenant")?,
            order_id: text(&root, "order_id")?,
            rev: root.get("rev").map_or(Some(1), Value::as_u64).ok_or("rev is no number")?,
            lines: lines.iter().map(|line| OrderLine::read(line, directory)).collect::<Result<_, _>>()?,
        })
    }

    /// Rows of all lines, refused ones included.
    pub(super) fn quantity(&self) -> u64 {
        self.lines.iter().map(|line| u64::from(line.quantity)).sum()
    }
}

impl OrderLine {
    fn read(line: &Value, directory: &Path) -> Result<Self, String> {
        let number = |name: &str| {
            line[name]
                .as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| format!("{name} of a line is missing"))
        };
        let rows = match line.get("rows") {
            None | Some(Value::Null) => Rows::None,
            Some(Value::Array(rows)) => Rows::Inline(rows.clone()),
            Some(rows) => match rows.get("inline") {
                Some(inline) => Rows::Inline(inline.as_array().ok_or("rows.inline is no list")?.clone()),
                None => Rows::File(Beside::read(rows, directory)?),
            },
        };
        let keys = line.get("euicc_data").filter(|keys| !keys.is_null());
        Ok(Self {
            number: number("line")?,
            mode: text(line, "mode")?,
            quantity: number("quantity")?,
            class: text(&line["metadata"], "class")?,
            algorithm: line["algorithm"].as_str().unwrap_or("milenage").to_owned(),
            cc_required: line.get("confirmation_code").is_some_and(|code| !code.is_null()),
            iccid: Numbers::read(&line["iccid"]),
            imsi: Numbers::read(&line["imsi"]),
            vars: read_vars(&line["vars"]),
            rows,
            keys: keys.map(|keys| Beside::read(keys, directory)).transpose()?,
        })
    }

    /// The files this line names.
    pub(super) fn files(&self) -> impl Iterator<Item = &Beside> {
        let rows = match &self.rows {
            Rows::File(file) => Some(file),
            _ => None,
        };
        rows.into_iter().chain(&self.keys)
    }

    /// Calls `each` with what every row asks for. Of two rows with one number the first counts, as for whoever took the order; a
    /// row whose number is none was refused and asks for nothing.
    pub(super) fn each_row(&self, mut each: impl FnMut(Asked)) -> Result<(), String> {
        let mut seen = HashSet::new();
        let mut ask = |position: u32, cell: &dyn Fn(&str) -> Option<String>| {
            let row = match cell("row") {
                Some(text) => text.parse().unwrap_or(0),
                None => position,
            };
            if (1..=self.quantity).contains(&row) && seen.insert(row) {
                let number = |numbers: &Numbers, name, count: fn(&str, u32) -> Option<String>| match numbers {
                    Numbers::First(first) => count(first, row - 1),
                    Numbers::Rows => cell(name),
                };
                each(Asked {
                    row,
                    eid: cell("eid"),
                    iccid: number(&self.iccid, "iccid", iccid_after),
                    imsi: number(&self.imsi, "imsi", imsi_after),
                    matching_id: cell("matching_id"),
                    values: self
                        .vars
                        .iter()
                        .filter_map(|(name, given)| Some((name.clone(), given.of(row, cell)?)))
                        .collect(),
                });
            }
        };
        match (&self.rows, &self.keys) {
            (Rows::File(file), _) => each_csv_row(&file.path, &mut ask).map_err(|e| format!("{}: {e}", file.name)),
            (Rows::Inline(rows), _) => {
                for (position, row) in (1..).zip(rows) {
                    ask(position, &|name| cell_of(row, name));
                }
                Ok(())
            }
            (Rows::None, Some(keys)) if self.mode == "prebound" => {
                let eids = distinct_eids(&keys.path, self.quantity).map_err(|e| format!("{}: {e}", keys.name))?;
                for (position, eid) in (1..).zip(eids) {
                    ask(position, &|name| eid.filter(|_| name == "eid").map(|eid| eid.to_string()));
                }
                Ok(())
            }
            (Rows::None, _) => {
                (1..=self.quantity).for_each(|position| ask(position, &|_| None));
                Ok(())
            }
        }
    }
}

impl Numbers {
    /// `{"first": digits}`; everything else means the rows.
    fn read(value: &Value) -> Self {
        value["first"].as_str().map_or(Self::Rows, |first| Self::First(first.to_owned()))
    }
}

impl Given {
    /// The value of a row; `None` where it has none.
    fn of(&self, row: u32, cell: &dyn Fn(&str) -> Option<String>) -> Option<Arc<str>> {
        match self {
            Self::Constant(text) => Some(text.clone()),
            Self::Column(name) => cell(name).map(Arc::from),
            Self::First(first) => imsi_after(first, row - 1).map(Arc::from),
        }
    }
}

/// A text, `{"column": name}` or `{"first": digits}`. The rows' own column `msisdn` gives the variable of this name too.
fn read_vars(vars: &Value) -> Vec<(Arc<str>, Given)> {
    let read = |value: &Value| match (value.as_str(), value["column"].as_str(), value["first"].as_str()) {
        (Some(text), ..) => Some(Given::Constant(text.into())),
        (_, Some(column), _) => Some(Given::Column(column.to_owned())),
        (_, _, Some(first)) => Some(Given::First(first.to_owned())),
        _ => None,
    };
    let given = vars.as_object().into_iter().flatten();
    let mut vars: Vec<_> = given.filter_map(|(name, value)| Some((name.as_str().into(), read(value)?))).collect();
    if !vars.iter().any(|(name, _): &(Arc<str>, _)| **name == *"msisdn") {
        vars.push(("msisdn".into(), Given::Column("msisdn".to_owned())));
    }
    vars
}

impl Beside {
    fn read(value: &Value, directory: &Path) -> Result<Self, String> {
        let name = text(value, "file")?;
        let is_below =
            Path::new(&name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !is_below {
            return Err("names a file outside its directory".into());
        }
        let sha256 = text(value, "sha256")?.to_ascii_lowercase();
        Ok(Self { path: directory.join(&name), name, sha256 })
    }
}

/// The ICCID `steps` after `first`: the digits before the last count up, the last is the Luhn digit (ITU-T E.118, ISO/IEC 7812-1).
fn iccid_after(first: &str, steps: u32) -> Option<String> {
    let body = imsi_after(first.get(..first.len().checked_sub(1)?)?, steps)?;
    // Every second digit from the right is doubled; two digits of a double are added.
    const DOUBLED: [u32; 10] = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9];
    let mut sum = 0;
    for (i, digit) in body.chars().rev().enumerate() {
        let digit = digit.to_digit(10)?;
        sum += if i % 2 == 0 { DOUBLED[digit as usize] } else { digit };
    }
    Some(format!("{body}{}", (10 - sum % 10) % 10))
}

/// The digits `steps` after `first`, as many of them; `None` past the last.
fn imsi_after(first: &str, steps: u32) -> Option<String> {
    let mut digits: Vec<u8> = first.bytes().map(|b| b.wrapping_sub(b'0')).collect();
    let mut carry = u64::from(steps);
    for digit in digits.iter_mut().rev() {
        let sum = u64::from(*digit) + carry;
        (*digit, carry) = ((sum % 10) as u8, sum / 10);
    }
    let is_number = first.bytes().all(|b| b.is_ascii_digit());
    (is_number && carry == 0).then(|| digits.iter().map(|digit| char::from(b'0' + digit)).collect())
}

fn text(value: &Value, name: &str) -> Result<String, String> {
    value[name].as_str().map(str::to_owned).ok_or_else(|| format!("{name} is missing"))
}

/// A member of an inline row; an empty one is none.
fn cell_of(row: &Value, name: &str) -> Option<String> {
    match &row[name] {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// By position and a look-up of cells by column.
type Ask<'a> = dyn FnMut(u32, &dyn Fn(&str) -> Option<String>) + 'a;

fn each_csv_row(path: &Path, ask: &mut Ask<'_>) -> Result<(), String> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_path(path).map_err(|e| e.to_string())?;
    let header = reader.headers().map_err(|e| e.to_string())?.clone();
    let mut record = csv::StringRecord::new();
    let mut position = 0;
    while reader.read_record(&mut record).map_err(|e| e.to_string())? {
        position += 1;
        let cell = |name: &str| {
            let at = header.iter().position(|column| column == name)?;
            record.get(at).filter(|cell| !cell.is_empty()).map(str::to_owned)
        };
        ask(position, &cell);
    }
    Ok(())
}

/// EIDs of a key file in their order, each once, at most `most`. A line without a readable EID keeps its place, so that no other
/// row moves up.
fn distinct_eids(path: &Path, most: u32) -> Result<Vec<Option<Eid>>, String> {
    let mut reader = BufReader::new(File::open(path).map_err(|e| e.to_string())?);
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut line = Vec::new();
    while found.len() < most as usize {
        line.clear();
        if reader.by_ref().take(KEY_LINE_MAX).read_until(b'\n', &mut line).map_err(|e| e.to_string())? == 0 {
            break;
        }
        if line.len() as u64 == KEY_LINE_MAX && line.last() != Some(&b'\n') {
            reader.skip_until(b'\n').map_err(|e| e.to_string())?;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let parsed = serde_json::from_slice::<Value>(&line).ok();
        let eid: Option<Eid> = parsed.and_then(|value| value["eid"].as_str()?.parse().ok());
        if eid.is_none_or(|eid| seen.insert(eid)) {
            found.push(eid);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line() -> Value {
        json!({
            "line": 1, "mode": "prebound", "quantity": 3, "iccid": {"first": "8949000000000000000"},
            "imsi": {"first": "001010000000099"}, "metadata": {"class": "operational"},
        })
    }

    fn asked(line: Value, directory: &Path) -> Result<Vec<Asked>, String> {
        let order = json!({"tenant": "acme", "order_id": "PO-1", "lines": [line]});
        let order = Order::read(order.to_string().as_bytes(), directory)?;
        let mut rows = Vec::new();
        order.lines[0].each_row(|asked| rows.push(asked))?;
        Ok(rows)
    }

    #[test]
    fn numbers_count_up_and_the_luhn_digit_is_made_anew() {
        // 89000123456789012341 is the ICCID of the GSMA's TS.48 profile.
        assert_eq!(iccid_after("89000123456789012341", 0).unwrap(), "89000123456789012341");
        assert_eq!(iccid_after("89000123456789012341", 1).unwrap(), "89000123456789012358");
        assert_eq!(iccid_after("8900012345678901999X", 1).unwrap(), "89000123456789020005");
        assert_eq!(imsi_after("001010000000099", 2).unwrap(), "001010000000101");
        assert_eq!(imsi_after("999999", 1), None);
        assert_eq!(imsi_after("99x999", 1), None);
        assert_eq!(iccid_after("", 0), None);
    }

    #[test]
    fn rows_come_from_a_csv_by_its_row_column() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("rows.csv"), "eid,row,x_note\nE2,2,a\nE1,1,b\nE9,1,c\nE8,9,d\nE7,x,e\n")
            .unwrap();
        let mut line = line();
        line["rows"] = json!({"file": "rows.csv", "sha256": "00", "count": 3});
        let rows = asked(line, dir.path()).unwrap();
        let found: Vec<_> = rows.iter().map(|asked| (asked.row, asked.eid.as_deref().unwrap())).collect();
        assert_eq!(found, [(2, "E2"), (1, "E1")]);
        assert_eq!(rows[0].imsi.as_deref(), Some("001010000000100"));
    }

    #[test]
    fn inline_rows_bring_their_own_numbers() {
        let mut line = line();
        line["iccid"] = json!("rows");
        line["imsi"] = json!({"rows": true});
        line["rows"] = json!([{"iccid": "89000123456789012341", "imsi": ""}, {"row": 1}, {"row": "3", "eid": "E"}]);
        let rows = asked(line, Path::new(".")).unwrap();
        let iccid = Some("89000123456789012341".to_owned());
        assert_eq!(rows[0], Asked { row: 1, iccid, ..Asked::default() });
        assert_eq!(rows[1], Asked { row: 3, eid: Some("E".into()), ..Asked::default() });
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn without_rows_the_key_file_names_the_eids_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let eid = |body: &str| Eid::from_body(body).unwrap().to_string();
        let (one, two) = (eid("890490321234512345000000000001"), eid("890490321234512345000000000002"));
        let key = |eid: &str| format!("{}\n", json!({"eid": eid}));
        let text = [key(&one), key(&one), "\n".into(), "no key\n".into(), key(&two), key(&one)].concat();
        std::fs::write(dir.path().join("keys.jsonl"), text).unwrap();
        let mut line = line();
        line["euicc_data"] = json!({"file": "keys.jsonl", "sha256": "00"});
        let rows = asked(line.clone(), dir.path()).unwrap();
        assert_eq!(rows.iter().map(|asked| asked.eid.clone()).collect::<Vec<_>>(), [Some(one), None, Some(two)]);
        line["euicc_data"]["file"] = json!("../keys.jsonl");
        assert!(asked(line, dir.path()).is_err());
    }

    #[test]
    fn what_is_no_order_is_told_and_not_guessed() {
        for octets in [&b""[..], b"{}", b"[]", br#"{"lines":[{}],"tenant":"a","order_id":"b"}"#] {
            assert!(Order::read(octets, Path::new(".")).is_err());
        }
    }
}
