//! `bindery order hold`: sets rows aside and puts them back; and how every change of rows is told.

use serde_json::json;

use super::order::{Context, print, print_json};
use super::screen::table;
use crate::error::{Exit, Fault};
use crate::ids::OrderKey;
use crate::pipeline::{self, Changed};
use crate::store::DeviceState;

/// Whose rows, and which way.
#[derive(Debug, clap::Args)]
pub struct Hold {
    /// ORDER_ID, TENANT/ORDER_ID or TENANT/ORDER_ID@REV
    #[arg(value_name = "ORDER")]
    order: String,
    /// Put the held rows back: the next run issues them
    #[arg(long)]
    release: bool,
}

impl Hold {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, Fault> {
        let act = if self.release { pipeline::release } else { pipeline::hold };
        tell(&act(context.site, &self.order)?, if self.release { "released" } else { "held" }, context.json)
    }
}

/// The result of a change.
pub(super) fn tell(changed: &Changed, done: &str, json: bool) -> Result<Exit, Fault> {
    let Changed { key, change, states, .. } = changed;
    if json {
        return print_json(&json!({
            "order": key.to_string(),
            done: change.changed,
            "started": change.started,
            "states": states_json(states),
        }));
    }
    print(&format!("{key}: {} rows {done}\n{}", change.changed, states_table(key, states)))?;
    if change.started > 0 {
        print(&format!("{} rows are in chunks that a run has begun: they are finished\n", change.started))?;
    }
    Ok(Exit::Done)
}

pub(super) fn states_json(states: &[(DeviceState, u64)]) -> serde_json::Value {
    states.iter().map(|(state, rows)| (state.as_str().to_owned(), json!(rows))).collect()
}

pub(super) fn states_table(key: &OrderKey, states: &[(DeviceState, u64)]) -> String {
    let mut table = table(&["order", "state", "rows"]);
    for (state, rows) in states {
        table.add_row([key.to_string(), state.as_str().to_owned(), rows.to_string()]);
    }
    format!("{table}\n")
}
