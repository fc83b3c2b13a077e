//! `bindery order recover`: an older ledger takes over what audit log and outbox say.

use serde_json::json;

use super::order::{Context, print, print_json};
use crate::error::{Exit, Fault};
use crate::pipeline::recover::{Recovered, recover};

/// The approval.
#[derive(Debug, clap::Args)]
pub struct Recover {
    /// There is no newer ledger: orders that went on after this one's backup end here. Needed, for nothing brings them back
    #[arg(long)]
    yes: bool,
}

impl Recover {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, Fault> {
        if !self.yes {
            let what = "orders that went on after the ledger's backup would end; nothing was changed";
            return Err(Fault::new(Exit::ApprovalMissing, what)
                .hint("put the newest state.db in place first; only if there is no newer one, approve with --yes"));
        }
        let Recovered { lines, bundles, ended, again } = recover(context.site)?;
        if context.json {
            return print_json(&json!({"lines": lines, "bundles": bundles, "ended": ended, "submit_again": again}));
        }
        let mut text = format!("{lines} lines of the audit log and {} bundles taken over\n", bundles.len());
        for order in ended {
            text += &format!("{order}: over; its numbers and one-time keys are claimed, its bundles stay\n");
        }
        for order in again {
            text += &format!("{order}: answered, never sealed; submit it again\n");
        }
        print(&text)?;
        Ok(Exit::Done)
    }
}
