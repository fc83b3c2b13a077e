//! `bindery status`: where every order stands.

use std::path::Path;

use serde_json::json;

use super::Voice;
use super::order::state_told;
use super::screen::{print_json, table};
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::store::Store;
use crate::store::sqlite::Ledger;

/// Show where every order stands
#[derive(clap::Args)]
pub(crate) struct Status {}

impl Status {
    pub(crate) fn run(self, site_dir: &Path, voice: Voice) -> Result<Exit, Fault> {
        let site = Site::open(site_dir)?;
        let ledger = Ledger::open_to_look(&site.state_db())?;
        let mut rows = Vec::new();
        for order in ledger.orders()? {
            rows.push((order.key.to_string(), state_told(&order), order.rows, ledger.counts(order.pk)?));
        }
        if voice.json {
            let orders: Vec<_> = rows
                .iter()
                .map(|(key, state, total, counts)| {
                    let devices: serde_json::Map<_, _> =
                        counts.iter().map(|(state, rows)| (state.as_str().to_owned(), json!(rows))).collect();
                    json!({"order": key, "state": state, "rows": total, "devices": devices})
                })
                .collect();
            print_json(&json!({ "orders": orders }))?;
            return Ok(Exit::Done);
        }
        if rows.is_empty() {
            say!("no orders yet");
            return Ok(Exit::Done);
        }
        let mut table = table(&["order", "state", "rows", "devices"]);
        for (key, state, total, counts) in rows {
            let devices: Vec<String> =
                counts.iter().map(|(state, rows)| format!("{} {rows}", state.as_str())).collect();
            table.add_row([key, state, total.to_string(), devices.join(", ")]);
        }
        say!("{table}");
        Ok(Exit::Done)
    }
}
