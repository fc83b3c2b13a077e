//! What is wrong with an order's files and refuses nothing: lines of a key file that cannot be read.
//!
//! In: what was wrong with each. Out: `warnings` of `ack.json`, and the lines on stderr. Rule: such a line is told whether or not a row
//! is refused for it, so that nothing of a key file is passed over in silence; a maker's file may be for many orders, and a line that
//! none of this one's rows needs is no reason to refuse it.

use serde::Serialize;

use super::json::excerpt;
use super::keys::KeyRefusal;
use crate::store::Refusal;

/// Unreadable lines that are told one by one.
const TOLD_LINES: usize = 100;

/// Lines that are no key. Each is told, also where another line gives its eUICC a key, or no row asks for it.
#[derive(Default)]
pub(super) struct Unreadable {
    lines: u64,
    first: Vec<KeyRefusal>,
}

impl Unreadable {
    pub(super) fn note(&mut self, refusal: &KeyRefusal) {
        self.lines += 1;
        if self.first.len() < TOLD_LINES {
            self.first.push(refusal.clone());
        }
    }
}

/// What was wrong and refused nothing.
#[derive(Debug, Serialize)]
pub(super) struct WarningAck {
    line: u32,
    column: String,
    value: String,
    code: &'static str,
    message: String,
    hint: String,
}

impl From<&Refusal> for WarningAck {
    fn from(warning: &Refusal) -> Self {
        let Refusal { line, row: _, column, value, code, message, hint } = warning.clone();
        Self { line, column, value, code, message, hint }
    }
}

/// A warning for each line of a key file that could not be read, then one for those that are not kept.
pub(super) fn unreadable_lines((line, member, file): (u32, &str, &str), unreadable: &Unreadable) -> Vec<Refusal> {
    let warning = |code, message: String, hint: &str| {
        let [column, value, hint] = [member, &excerpt(file), hint].map(str::to_owned);
        Refusal { line, row: 0, column, value, code, message, hint }
    };
    let told = unreadable.first.len() as u64;
    let more = (unreadable.lines > told).then(|| {
        let message = format!("{} more lines of the key file cannot be read", unreadable.lines - told);
        warning("and-more", message, "ask the eUICC's maker for the file again")
    });
    let first = unreadable.first.iter().map(|refusal| warning(refusal.code, refusal.message.clone(), &refusal.hint));
    first.chain(more).collect()
}
