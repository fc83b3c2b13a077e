//! `bindery order check|submit|watch|list|show|hold|cancel|remake|revoke|purge|recover`: wiring, words and tables. `intake` opens the site
//! and hands in what an order needs of it.

use std::io::Write;
use std::path::PathBuf;

use comfy_table::Table;
use serde_json::json;

use super::Voice;
use super::cancel::Cancel;
use super::hold::Hold;
use super::order_watch::OrderWatch;
use super::purge::Purge;
use super::recover::Recover;
use super::remake::RemakeOrder;
use super::revoke::Revoke;
use super::screen::table;
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::order::{Answer, Intake, SHOWN, Verdict};
use crate::pipeline::{check_clock_now, outbox};
use crate::store::sqlite::{Ledger, OrderSummary};
use crate::store::{Refusal, Remake, Store};
use crate::telemetry::ProgressMode;

/// Rejected and failed rows that `show` names.
const SHOWN_ROWS: u32 = 20;

/// Check, submit, watch for, list, show, hold, cancel, remake, revoke, purge and recover orders
#[derive(Debug, clap::Subcommand)]
pub enum OrderCommand {
    /// Validate an order file as `submit` would; store and write nothing
    Check {
        /// Order file (bindery.order/1, JSON)
        file: PathBuf,
    },
    /// Validate an order file, claim its numbers and keys, answer it in the outbox
    Submit {
        /// Order file (bindery.order/1, JSON)
        file: PathBuf,
    },
    /// Take the order files (NAME.json) that others put into a directory, each once it is finished
    ///
    /// Each is answered as by `order submit`, then filed away. A file is finished when it stayed the same for --settle seconds, or
    /// has a marker NAME.json.ready, and the files that it names have the SHA-256 that it gives. Taken orders go to
    /// DIR/done/YYYY-MM-DD, others to DIR/rejected.
    Watch(OrderWatch),
    /// List accepted orders
    List,
    /// Show one order: counts by state, rows in trouble
    Show {
        /// ORDER_ID, TENANT/ORDER_ID or TENANT/ORDER_ID@REV
        id: String,
    },
    /// Set aside what of an order is not started, or put it back
    Hold(Hold),
    /// Give up what of an order is not started; its numbers stay claimed
    Cancel(Cancel),
    /// Make exported profiles again for other one-time keys: the device was swapped, or its key was spent
    Remake(RemakeOrder),
    /// Take back what of an order is not exported: erase its packages and their secrets
    Revoke(Revoke),
    /// Erase an order's keys and stored profiles for good; its numbers stay claimed, its bundle stays
    Purge(Purge),
    /// Bring an older ledger up to what audit log and outbox say, when there is no newer one
    Recover(Recover),
}

/// What the commands work on.
pub struct Context<'a> {
    /// The ledger.
    pub ledger: &'a Ledger,
    /// The site.
    pub site: &'a Site,
    /// Where orders come in.
    pub intake: &'a Intake<'a>,
    /// `--json`.
    pub json: bool,
}

impl OrderCommand {
    /// Runs the command; result on stdout, everything else on stderr.
    pub fn run(self, context: &Context<'_>) -> Result<Exit, Fault> {
        match self {
            Self::Check { file } => report(&context.intake.check(&file)?, context.json),
            Self::Submit { file } => check_clock_now(context.site)
                .and_then(|()| outbox::agrees(context.site, context.ledger))
                .and_then(|()| context.intake.submit(&file))
                .and_then(|answer| report(&answer, context.json)),
            // It opens the site anew for every order.
            Self::Watch(watch) => {
                watch.run(context.site.root(), Voice { json: context.json, progress: ProgressMode::Off })
            }
            Self::List => list(context),
            Self::Show { id } => show(context, &id),
            Self::Hold(hold) => hold.run(context),
            Self::Cancel(cancel) => cancel.run(context),
            Self::Remake(remake) => remake.run(context),
            Self::Revoke(revoke) => revoke.run(context),
            Self::Purge(purge) => purge.run(context),
            Self::Recover(recover) => recover.run(context),
        }
    }
}

fn report(answer: &Answer, json: bool) -> Result<Exit, Fault> {
    if json {
        print(&String::from_utf8_lossy(&answer.ack))?;
    } else {
        print(&format!("{}\n", answer_table(answer)))?;
        answer.outbox.iter().try_for_each(|directory| print(&format!("{}\n", directory.display())).map(drop))?;
    }
    let mut stderr = String::new();
    for refusal in &answer.first_refusals {
        stderr += &refusal_text(refusal);
    }
    for warning in answer.warnings.iter().take(SHOWN) {
        stderr += &format!("warning: {}", refusal_text(warning));
    }
    if answer.warnings.len() > SHOWN {
        stderr += &format!("... and {} more warnings in ack.json\n", answer.warnings.len() - SHOWN);
    }
    let shown = answer.first_refusals.len() as u64;
    if answer.refusals_total > shown {
        stderr += &format!("... and {} more", answer.refusals_total - shown);
        stderr += match &answer.outbox {
            Some(_) => " in rejects.csv\n",
            None => "; `order submit` writes all of them to rejects.csv\n",
        };
    }
    if let Some(directory) = answer.outbox.as_ref().filter(|_| answer.refusals_total > 0) {
        stderr += &format!("all refusals: {}\n", directory.join("rejects.csv").display());
    }
    if answer.verdict == Verdict::Duplicate {
        stderr += "this order key was accepted with another body (the hash is over the file's octets: white space counts); nothing was changed\n";
        stderr += "  hint: send the file that was accepted, or give the changed order a new `rev`\n";
    }
    // Nobody listens: the answer stands in the outbox and in the exit code.
    let _ = std::io::stderr().write_all(stderr.as_bytes());
    Ok(answer.exit)
}

fn answer_table(answer: &Answer) -> Table {
    let mut table = table(&["order", "verdict", "rows", "accepted", "refused"]);
    let key = answer.key.as_ref().map_or("(unreadable)".to_owned(), ToString::to_string);
    let verdict = if answer.repeated {
        format!("{} (before)", answer.verdict.as_str())
    } else {
        answer.verdict.as_str().to_owned()
    };
    let counts = [answer.counts.rows, answer.counts.accepted, answer.counts.refused].map(|n| n.to_string());
    let [rows, accepted, refused] = counts;
    table.add_row([key, verdict, rows, accepted, refused]);
    table
}

/// One refusal in two lines: where and what, then the remedy.
pub(super) fn refusal_text(refusal: &Refusal) -> String {
    let Refusal { line, row, column, value, message, hint, .. } = refusal;
    let place = match (*line, *row) {
        (0, 0) => "order".to_owned(),
        (line, 0) => format!("line {line}"),
        (line, row) => format!("line {line}, row {row}"),
    };
    let column = if column.is_empty() { String::new() } else { format!(", {column}") };
    let value = if value.is_empty() { String::new() } else { format!(" {value}") };
    format!("{place}{column}:{value} {message}\n  hint: {hint}\n")
}

fn list(context: &Context<'_>) -> Result<Exit, Fault> {
    let orders = context.ledger.orders()?;
    if context.json {
        let orders: Vec<_> = orders.iter().map(summary_json).collect();
        return print_json(&json!({ "orders": orders }));
    }
    let mut table = table(&["order", "state", "rows", "refused", "accepted at"]);
    for order in &orders {
        table.add_row([
            order.key.to_string(),
            state_told(order),
            order.rows.to_string(),
            order.refused.to_string(),
            whole_seconds(&order.accepted_at),
        ]);
    }
    print(&format!("{table}\n")).map(|()| Exit::Done)
}

/// The ledger keeps it more exactly than people read it.
fn whole_seconds(at: &str) -> String {
    at.parse().map_or_else(|_| at.to_owned(), |at: jiff::Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn show(context: &Context<'_>, id: &str) -> Result<Exit, Fault> {
    let orders: Vec<_> = context.ledger.orders()?.into_iter().filter(|order| order.key.is_named(id)).collect();
    if orders.is_empty() {
        return Err(Fault::new(Exit::Usage, format!("no accepted order {id:?}")).hint("`bindery order list` shows all"));
    }
    let mut documents = Vec::new();
    for order in &orders {
        let counts = context.ledger.counts(order.pk)?;
        let troubles = context.ledger.troubles(order.pk, SHOWN_ROWS)?;
        let changed = order.change.map(|change| context.ledger.order(change.target)).transpose()?.flatten();
        if context.json {
            let mut document = summary_json(order);
            document["states"] = counts.iter().map(|(state, n)| (state.as_str().to_owned(), json!(n))).collect();
            let trouble = |t: &crate::store::sqlite::Trouble| {
                json!({"line": t.line, "row": t.row, "state": t.state.as_str(), "eid": t.eid.map(|eid| eid.to_string()),
                       "error_class": t.error_class, "error": t.error})
            };
            document["troubles"] = troubles.iter().map(trouble).collect();
            if let Some(changed) = changed {
                document["of"] = json!(changed.key.to_string());
            }
            let remake = |r: &Remake| json!({"remake": r.number, "rows": r.rows, "other_euicc": r.other_euicc, "renumbered": r.renumbered});
            document["remakes"] = context.ledger.remakes(order.pk)?.iter().map(remake).collect();
            documents.push(document);
            continue;
        }
        if let Some(changed) = changed {
            print(&format!("{}: {} of {}, {} rows\n", order.key, state_told(order), changed.key, order.rows))?;
            continue;
        }
        let mut states = table(&["order", "state", "devices"]);
        for (state, devices) in counts {
            states.add_row([order.key.to_string(), state.as_str().to_owned(), devices.to_string()]);
        }
        print(&format!("{states}\n"))?;
        for remake in context.ledger.remakes(order.pk)? {
            print(&format!(
                "remake {}: {} rows, {} for another eUICC{}\n",
                remake.number,
                remake.rows,
                remake.other_euicc,
                if remake.renumbered { ", new ICCIDs" } else { "" }
            ))?;
        }
        if !troubles.is_empty() {
            let mut rows = table(&["line", "row", "state", "eid", "class", "error"]);
            for t in troubles {
                let eid = t.eid.map(|eid| eid.masked()).unwrap_or_default();
                let [class, error] = [t.error_class, t.error].map(Option::unwrap_or_default);
                rows.add_row([t.line.to_string(), t.row.to_string(), t.state.as_str().to_owned(), eid, class, error]);
            }
            print(&format!("{rows}\n"))?;
        }
    }
    if context.json { print_json(&json!({ "orders": documents })) } else { Ok(Exit::Done) }
}

/// Of an order that changes another, what it does, too.
pub(super) fn state_told(order: &OrderSummary) -> String {
    match order.change {
        None => order.state.as_str().to_owned(),
        Some(change) => format!("{}: {}", change.kind.as_str(), order.state.as_str()),
    }
}

fn summary_json(order: &OrderSummary) -> serde_json::Value {
    json!({"tenant": order.key.tenant.as_str(), "order_id": order.key.order_id.as_str(), "rev": order.key.rev,
           "state": order.state.as_str(), "change": order.change.map(|change| change.kind.as_str()), "rows": order.rows, "refused": order.refused,
           "body_sha256": order.body_sha256, "accepted_at": whole_seconds(&order.accepted_at)})
}

pub(super) fn print_json(value: &serde_json::Value) -> Result<Exit, Fault> {
    print(&format!("{value:#}\n")).map(|()| Exit::Done)
}

pub(super) fn print(text: &str) -> Result<(), Fault> {
    super::screen::put(format_args!("{text}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: u32, row: u32, column: &str, value: &str) -> Refusal {
        let [column, value, message, hint] = [column, value, "check digit is wrong", "correct it"].map(str::to_owned);
        Refusal { line, row, column, value, code: "check-digit", message, hint }
    }

    #[test]
    fn a_refusal_says_row_column_value_and_remedy() {
        let text = refusal_text(&refusal(1, 7, "eid", "890490**35"));
        assert_eq!(text, "line 1, row 7, eid: 890490**35 check digit is wrong\n  hint: correct it\n");
        assert_eq!(refusal_text(&refusal(0, 0, "", "")), "order: check digit is wrong\n  hint: correct it\n");
    }
}
