//! Taking in an order of kind `cancel` or `remake`: the order it means, what it asks for, and one transaction for both its acceptance
//! and its effect. A cancellation is carried out by being accepted; of a remake the keys and numbers are claimed, a run makes the
//! profiles.
//!
//! Rule: what `order cancel` and `order remake` refuse is refused here, in their words, as the refusal of an order. All of it or
//! nothing: the first thing that is wrong rejects the order.

use std::any::Any;

use serde_json::{Value, json};

use super::answer::{Answer, RangeAck};
use super::beside;
use super::change::{Change, ChangeOrder, Named, RemakeLine};
use super::columns::Column;
use super::file::{Accept, MAX_QUANTITY, Rows};
use super::intake::{Intake, KEY_FILE_OCTETS, Received};
use super::key_file::KeyFile;
use super::pass::{Book, Tally};
use super::refusals::masked;
use super::rows::RowSource;
use crate::error::{Exit, Fault};
use crate::ids::{Iccid, Imsi};
use crate::store::{ChangeKind, Goal, OrderChange, OrderState, Refusal, StoreError, StoredOrder};

/// What changes need of the site.
pub trait Changes {
    /// Keeps runners out as long as the value lives; `None`: one is at work, and the marks it leaves are to be believed. A fault when
    /// the order's bundle is sealed and the ledger does not say so yet.
    fn keep_runners_out(&self, target: &StoredOrder) -> Result<Option<Box<dyn Any>>, Fault>;
    /// What rows of an exported order get that are made again; nothing is claimed.
    fn goals(&self, target: &StoredOrder, asked: Asked<'_>) -> Result<Vec<Goal>, Fault>;
}

/// What is asked for of one line.
pub struct Asked<'a> {
    /// Its number.
    pub line: u32,
    /// Its rows.
    pub rows: Named,
    /// First of the new numbers; none: the same profiles.
    pub first: Option<(Iccid, Option<Imsi>)>,
    /// The key file.
    pub keys: KeyFile<'a>,
}

/// A change that was accepted, for ledger and answer.
pub(super) struct Accepted {
    pub(super) change: OrderChange,
    /// Member `change` of `ack.json`.
    pub(super) ack: Value,
}

/// Why a change is not accepted: told to its sender with an exit code of its own, or the site's own trouble.
enum No {
    Refused(Vec<Refusal>, Exit),
    Fault(Fault),
}

impl<E: Into<Fault>> From<E> for No {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

impl Intake<'_> {
    /// Validates a change, makes it, answers it.
    pub(super) fn change(&self, order: &ChangeOrder, received: &Received) -> Result<Answer, Fault> {
        let key = &order.key;
        let mut refusals = self.refusals(Some(key), false, received)?;
        let prepared = self.target(order).and_then(|target| {
            let goals = match &order.change {
                Change::Cancel { .. } => Vec::new(),
                Change::Remake { lines } => self.remake_goals(&target, lines, received)?,
            };
            Ok((target, goals))
        });
        let lock = match (&prepared, &order.change) {
            (Ok((target, _)), Change::Cancel { .. }) => self.changes.keep_runners_out(target)?,
            _ => None,
        };
        // A check makes the change, too, to see whether it can be made, and takes it back.
        let mut book = Book::open(self.ledger, true)?;
        if let Some(first) = book.first_answer(Some(key))? {
            drop(book);
            return self.known(&first, received);
        }
        let made = prepared.and_then(|(target, goals)| match &order.change {
            Change::Cancel { lines } => cancelled(&mut book, &target, (lock.is_some(), lines)),
            Change::Remake { lines } => wanted(&mut book, &target, lines, &goals),
        });
        if !received.submit {
            drop(book);
            book = Book::open(self.ledger, false)?;
        }
        let (tally, exit) = match made {
            Ok(tally) => (tally, None),
            Err(No::Refused(wrong, exit)) => {
                refusals.general(wrong)?;
                (Tally::default(), Some(exit))
            }
            Err(No::Fault(fault)) => return Err(fault),
        };
        let answer = self.finish(Some(key), tally, refusals, book, Accept::AllOrNothing, received)?;
        drop(lock);
        Ok(Answer { exit: exit.unwrap_or(answer.exit), ..answer })
    }

    /// The order that is meant.
    fn target(&self, order: &ChangeOrder) -> Result<StoredOrder, No> {
        let Some(target) = self.ledger.changed_by(&order.key)? else {
            let told = format!("no order {} with a revision below {} was accepted", order.key.order_id, order.key.rev);
            let hint = "name tenant and order_id of the order that is to be changed, and a rev above its own; `bindery order list` shows \
                        all";
            return Err(refused(0, "order_id", order.key.order_id.as_str(), "unknown-order", told, hint));
        };
        match target.state {
            OrderState::Purged => {
                let told = format!("{} was purged; its keys are gone", target.key);
                Err(refused(0, "order_id", order.key.order_id.as_str(), "purged", told, "order the profiles anew"))
            }
            _ => Ok(target),
        }
    }

    /// What all the lines of a remake get.
    fn remake_goals(&self, target: &StoredOrder, lines: &[RemakeLine], received: &Received) -> Result<Vec<Goal>, No> {
        let mut goals: Vec<Goal> = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let rows = named_rows(line, at, received)?;
            let member = format!("lines[{at}].euicc_data");
            let opened = beside::open(&received.directory, &line.euicc_data, line.line, &member, KEY_FILE_OCTETS);
            let mut file = opened.map_err(|refusal| No::Refused(vec![*refusal], Exit::OrderRejected))?;
            let keys = KeyFile::over(&mut file, &line.euicc_data.file);
            let first = line.iccid.map(|iccid| (iccid, line.imsi));
            let planned = self.changes.goals(target, Asked { line: line.line, rows, first, keys });
            // Another file than was named is the better reason for whatever is wrong with it.
            let sha256 = file.finish().map_err(|e| Fault::file(std::path::Path::new(&line.euicc_data.file), &e))?;
            if let Some(refusal) = beside::compare(&sha256, &line.euicc_data, line.line, &member) {
                return Err(No::Refused(vec![refusal], Exit::OrderRejected));
            }
            goals.extend(planned.map_err(|fault| told(fault, line.line, at))?);
        }
        Ok(goals)
    }
}

/// Cancels, in the transaction that accepts the cancellation. A check looks and changes nothing.
fn cancelled(book: &mut Book<'_>, target: &StoredOrder, (idle, lines): (bool, &[u32])) -> Result<Tally, No> {
    let Book::Submit(acceptance) = book else { return Err(outside()) };
    let change = acceptance.cancel(target.pk, idle, lines).map_err(|e| match e {
        StoreError::Busy => Fault::new(Exit::Locked, format!("{}: its bundle is being sealed", target.key))
            .hint("nothing was changed; send the order again in a moment"),
        other => other.into(),
    })?;
    if change.there == 0 && change.started == 0 {
        let told = format!("{}: every row was started", target.key);
        let hint = "`bindery order revoke` takes back what is not exported";
        return Err(refused(0, "lines", "", "nothing-to-cancel", told, hint));
    }
    let told = json!({"cancelled": change.changed, "started": change.started});
    Ok(tally(ChangeKind::Cancel, target, change.changed, told))
}

/// Claims what a remake takes.
fn wanted(book: &mut Book<'_>, target: &StoredOrder, lines: &[RemakeLine], goals: &[Goal]) -> Result<Tally, No> {
    let Book::Submit(acceptance) = book else { return Err(outside()) };
    acceptance.want(&target.key.tenant, goals).map_err(|e| match e {
        StoreError::Taken { column, value, .. } => {
            let told = format!("{column} {value} was taken by another order meanwhile, or stands in two lines");
            refused(0, "lines", "", "taken", told, "name other numbers, and fresh one-time keys")
        }
        other => No::Fault(other.into()),
    })?;
    let rows = goals.len() as u64;
    let renumbered = goals.iter().any(|goal| goal.numbers.is_some());
    let mut tally = tally(ChangeKind::Remake, target, rows, json!({"renumbered": renumbered}));
    let several = if let [line] = lines { line.line } else { 0 };
    let ends = |of: &dyn Fn(&Goal) -> Option<String>, kind: &'static str| {
        let numbers: Vec<String> = goals.iter().filter_map(of).collect();
        let (first, last) = (numbers.iter().min()?.clone(), numbers.iter().max()?.clone());
        Some(RangeAck { line: several, kind, first, last, count: numbers.len() as u64 })
    };
    tally.ranges.extend(ends(&|goal| Some(goal.numbers?.iccid.to_string()), "iccid"));
    tally.ranges.extend(ends(&|goal| Some(goal.numbers?.imsi?.to_string()), "imsi"));
    Ok(tally)
}

fn outside() -> No {
    No::Fault(Fault::new(Exit::Bug, "a change outside a transaction"))
}

fn tally(kind: ChangeKind, target: &StoredOrder, rows: u64, told: Value) -> Tally {
    let mut ack = json!({"kind": kind.as_str(), "of": target.key.to_string()});
    if let (Some(ack), Value::Object(told)) = (ack.as_object_mut(), told) {
        ack.extend(told);
    }
    let change = Accepted { change: OrderChange { kind, target: target.pk }, ack };
    Tally { rows, accepted: rows, change: Some(change), ..Tally::default() }
}

/// The rows that a line names: by ICCID where the rows have the column, else by number.
fn named_rows(line: &RemakeLine, at: usize, received: &Received) -> Result<Named, No> {
    let member = format!("lines[{at}].rows");
    let (count, file) = match &line.rows {
        Rows::File { file, count } => (*count, Some(file)),
        Rows::Inline(rows) => (u32::try_from(rows.len()).unwrap_or(u32::MAX), None),
    };
    if count == 0 || count > MAX_QUANTITY {
        let told = format!("has {count} rows");
        return Err(refused(line.line, &member, "", "bad-value", told, "name at least one row of the order"));
    }
    let source = RowSource::of(Some(&line.rows), (line.line, count), Vec::new(), &received.directory, &member)?;
    let source = source.map_err(|wrong| No::Refused(wrong, Exit::OrderRejected))?;
    let by_iccid = source.has(Column::Iccid);
    let by = if by_iccid { Column::Iccid } else { Column::Row };
    let other = |column: &Column| !matches!(column, Column::Row | Column::Iccid) && source.has(*column);
    if let Some(column) = Column::ALL.into_iter().find(other) {
        let hint = "rows of a remake have iccid, or row, and no other column but x_*";
        let told = "names no row; which eUICC a row goes to follows from the key file".to_owned();
        return Err(refused(line.line, column.name(), "", "unsupported-column", told, hint));
    }
    let (mut rows, mut iccids, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    let seen = source.for_each(|cells| {
        let text = cells.cell(by).and_then(|cell| std::str::from_utf8(cell).ok()).unwrap_or_default();
        let mut refuse = |message: String, hint: &str| {
            wrong.push(Refusal {
                line: line.line,
                row: cells.position,
                column: by.name().to_owned(),
                value: masked(text),
                code: "bad-value",
                message,
                hint: hint.to_owned(),
            });
        };
        match by_iccid {
            true => match text.parse::<Iccid>() {
                Ok(iccid) => iccids.push(iccid),
                Err(e) => refuse(e.to_string(), "19 or 20 digits, the last the Luhn digit"),
            },
            false => match text.parse::<u32>() {
                Ok(row) if row > 0 => rows.push(row),
                _ => refuse("is no row of the order".to_owned(), "rows count from 1"),
            },
        }
        Ok(())
    })?;
    if let (Some(file), Some(sha256)) = (file, &seen.sha256) {
        wrong.extend(beside::compare(sha256, file, line.line, &member));
    }
    if seen.overlong.is_some() || seen.rows != u64::from(count) {
        let told = format!("{} rows are there, {count} were announced", seen.rows);
        return Err(refused(line.line, &format!("{member}.count"), "", "count-mismatch", told, "correct the count"));
    }
    match wrong.is_empty() {
        true if by_iccid => Ok(Named::Iccids(iccids)),
        true => Ok(Named::Rows(rows)),
        false => Err(No::Refused(wrong.into_iter().take(super::SHOWN).collect(), Exit::OrderRejected)),
    }
}

/// What a command would have told, as the refusal of an order; the site's own trouble stays a fault.
fn told(fault: Fault, line: u32, at: usize) -> No {
    let (code, exit) = match fault.exit {
        Exit::Usage => ("cannot-be-remade", Exit::OrderRejected),
        Exit::OrderRejected => ("number-taken", Exit::OrderRejected),
        Exit::Exhausted => ("exhausted", Exit::Exhausted),
        _ => return No::Fault(fault),
    };
    let Fault { what, hint, .. } = fault;
    let hint = hint.unwrap_or_default();
    let column = format!("lines[{at}]");
    No::Refused(vec![Refusal { line, row: 0, column, value: String::new(), code, message: what, hint }], exit)
}

fn refused(line: u32, column: &str, value: &str, code: &'static str, message: String, hint: &str) -> No {
    let [column, value, hint] = [column, value, hint].map(str::to_owned);
    No::Refused(vec![Refusal { line, row: 0, column, value, code, message, hint }], Exit::OrderRejected)
}
