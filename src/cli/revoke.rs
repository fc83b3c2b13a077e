//! `bindery order revoke`: takes back what is not exported.

use serde_json::json;

use super::hold::{states_json, states_table};
use super::order::{Context, print, print_json};
use crate::error::{Exit, Fault};
use crate::pipeline::{self, Revoked};

/// Whose packages.
#[derive(Debug, clap::Args)]
pub struct Revoke {
    /// ORDER_ID, TENANT/ORDER_ID or TENANT/ORDER_ID@REV
    #[arg(value_name = "ORDER")]
    order: String,
    /// Erase packages and secrets for good; needed, for nothing brings them back
    #[arg(long)]
    yes: bool,
}

impl Revoke {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, Fault> {
        if !self.yes {
            let what = format!("{}: its packages that are not exported would be erased; nothing was", self.order);
            return Err(Fault::new(Exit::Usage, what).hint("confirm with --yes"));
        }
        let Revoked { key, rows, files, states } = pipeline::revoke(context.site, &self.order)?;
        if context.json {
            return print_json(&json!({
                "order": key.to_string(),
                "revoked": rows.revoked,
                "cancelled": rows.cancelled,
                "exported": rows.exported,
                "erased": {"batch_key": rows.batch_key, "files": files},
                "states": states_json(&states),
            }));
        }
        let text = format!(
            "{key}: {} rows revoked, {} cancelled, {files} files erased\n{}",
            rows.revoked,
            rows.cancelled,
            states_table(&key, &states)
        );
        print(&text)?;
        if rows.exported > 0 {
            print(&format!("{} rows are exported: their packages cannot be called back\n", rows.exported))?;
        }
        Ok(Exit::Done)
    }
}
