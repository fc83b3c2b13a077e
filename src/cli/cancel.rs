//! `bindery order cancel`: gives up what was not started.

use super::hold::tell;
use super::order::Context;
use crate::error::{Exit, Fault};
use crate::pipeline;

/// Whose rows.
#[derive(Debug, clap::Args)]
pub struct Cancel {
    /// ORDER_ID, TENANT/ORDER_ID or TENANT/ORDER_ID@REV
    #[arg(value_name = "ORDER")]
    order: String,
}

impl Cancel {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, Fault> {
        tell(&pipeline::cancel(context.site, &self.order)?, "cancelled", context.json)
    }
}
