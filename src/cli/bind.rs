//! `bindery bind`: profiles that were stored under random keys get their eUICC.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::Voice;
use super::run::stop_on_signal;
use super::screen::print_json;
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::pipeline::{self, BoundBefore};

/// Bind the stored profiles of an order (mode `order`) to the eUICCs of a key file
#[derive(clap::Args)]
pub(crate) struct Bind {
    /// The order: ORDER_ID, TENANT/ORDER_ID or TENANT/ORDER_ID@REV
    #[arg(value_name = "ORDER")]
    order: String,
    /// Key file: one signed one-time public key a line (euicc.jsonl)
    #[arg(long, value_name = "FILE")]
    euicc_data: PathBuf,
}

impl Bind {
    pub(crate) fn run(self, site_dir: &Path, voice: Voice) -> Result<Exit, Fault> {
        let site = Site::open(site_dir)?;
        let stop = stop_on_signal()?;
        let before = || pipeline::bound_before(&site, &self.order, &self.euicc_data);
        let bound = match pipeline::bind_stored(&site, &self.order, &self.euicc_data, voice.progress, &stop) {
            Err(fault) if fault.exit == Exit::Usage => match before()? {
                Some(before) => return say_again(&before, voice),
                None => return Err(fault),
            },
            bound => bound?,
        };
        if bound.bound == 0
            && bound.failed.is_empty()
            && let Some(before) = before()?
        {
            return say_again(&before, voice);
        }
        for refusal in bound.refused.iter().take(10) {
            tell!("key file line {}: {}\n  hint: {}", refusal.line_no, refusal.message, refusal.hint);
        }
        for error in bound.failed.iter().take(10) {
            tell!("{error}\n  hint: {}", error.hint);
        }
        if voice.json {
            print_json(&json!({
                "repeated": false,
                "bound": bound.bound,
                "still_stored": bound.still_stored,
                "refused_keys": bound.refused.len(),
                "failed": bound.failed.len(),
                "bundle": bound.bundle,
            }))?;
        } else {
            say!(
                "{} bound, {} still stored, {} key lines refused",
                bound.bound,
                bound.still_stored,
                bound.refused.len()
            );
            bound.bundle.iter().for_each(|bundle| say!("{}", bundle.display()));
        }
        if bound.bound == 0 && bound.failed.is_empty() {
            tell!("error: no believed, unused one-time key for any of {} stored profiles", bound.still_stored);
            tell!("  hint: get fresh one-time keys for these eUICCs from their maker");
            return Ok(Exit::Exhausted);
        }
        Ok(match (bound.bound, bound.refused.is_empty() && bound.failed.is_empty()) {
            (0, _) => Exit::IntegrityFailure, // every stored profile that has a key is damaged
            (_, true) => Exit::Done,
            (_, false) => Exit::RowErrors,
        })
    }
}

/// The answer to a key file whose keys were bound before.
fn say_again(before: &BoundBefore, voice: Voice) -> Result<Exit, Fault> {
    let BoundBefore { bound, still_stored, refused, bundle } = before;
    if voice.json {
        print_json(&json!({
            "repeated": true, "bound": bound, "still_stored": still_stored, "refused_keys": refused, "failed": 0,
            "bundle": bundle,
        }))?;
    } else {
        say!("{bound} bound before, {still_stored} still stored, {refused} key lines refused");
        bundle.iter().for_each(|bundle| say!("{}", bundle.display()));
    }
    Ok(if *refused == 0 { Exit::Done } else { Exit::RowErrors })
}
