//! `bindery order remake`: exported profiles once more, for another one-time key.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde_json::json;

use super::order::{Context, print, print_json};
use super::run::stop_on_signal;
use crate::error::{Exit, Fault};
use crate::ids::{Iccid, Imsi};
use crate::pipeline::{self, First, Remade, Rows};

/// Which profiles, and what they are to become.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["rows", "iccid"])))]
#[command(group(clap::ArgGroup::new("what").required(true).args(["same_iccid", "new_iccid"])))]
pub struct RemakeOrder {
    /// ORDER_ID, TENANT/ORDER_ID or TENANT/ORDER_ID@REV
    #[arg(value_name = "ORDER")]
    order: String,
    /// The rows' line; may be left out where the order has only one
    #[arg(long, value_name = "N", requires = "rows")]
    line: Option<u32>,
    /// Rows by number: 3,5-9
    #[arg(long, value_name = "ROWS", value_delimiter = ',', value_parser = range)]
    rows: Vec<RangeInclusive<u32>>,
    /// Rows by the ICCIDs of their profiles
    #[arg(long, value_name = "ICCID", num_args = 1.., value_delimiter = ',')]
    iccid: Vec<Iccid>,
    /// The same profiles, ICCID, K and OPc, for the one-time keys of --euicc-data
    #[arg(long)]
    same_iccid: bool,
    /// New profiles, K and OPc too, under new ICCIDs from this one on; the old profiles are revoked
    #[arg(long, value_name = "FIRST")]
    new_iccid: Option<Iccid>,
    /// Their IMSIs, from this one on, where the profiles have one
    #[arg(long, value_name = "FIRST", requires = "new_iccid")]
    new_imsi: Option<Imsi>,
    /// Key file: one signed one-time public key a line (euicc.jsonl), of the same eUICCs or of those that took their place
    #[arg(long, value_name = "FILE")]
    euicc_data: PathBuf,
}

impl RemakeOrder {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, Fault> {
        let Self { order, line, rows, iccid, new_iccid, new_imsi, euicc_data, .. } = self;
        let rows = if rows.is_empty() { Rows::Of(iccid) } else { Rows::Numbered { line, rows } };
        let first = new_iccid.map(|iccid| First { iccid, imsi: new_imsi });
        let stop = stop_on_signal()?;
        tell(&pipeline::remake(context.site, &order, (&rows, first), &euicc_data, &stop)?, context.json)
    }
}

fn tell(remade: &Remade, json: bool) -> Result<Exit, Fault> {
    let Remade { key, remake, bundle, repeated, refused } = remade;
    for bad in refused.iter().take(10) {
        eprintln!("key file line {}: {}\n  hint: {}", bad.line_no, bad.message, bad.hint);
    }
    if json {
        return print_json(&json!({
            "order": key.to_string(),
            "remake": remake.number,
            "rows": remake.rows,
            "other_euicc": remake.other_euicc,
            "renumbered": remake.renumbered,
            "bundle": bundle,
            "repeated": repeated,
            "refused_keys": refused.len(),
        }));
    }
    let again = if *repeated { ", by an earlier call" } else { "" };
    let others = remake.other_euicc;
    print(&format!("{key}: {} rows remade{again}, {others} of them for another eUICC\n", remake.rows))?;
    print(&format!("{}\n", bundle.display()))?;
    Ok(Exit::Done)
}

/// `7` or `5-9`.
fn range(text: &str) -> Result<RangeInclusive<u32>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse(), last.trim().parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
        _ => Err("is no row, and no rows as in 5-9".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_single_or_from_to() {
        assert_eq!(range("7"), Ok(7..=7));
        assert_eq!(range("5-9"), Ok(5..=9));
        for bad in ["", "-", "9-5", "a", "1-", "-3", "1-2-3"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }
}
