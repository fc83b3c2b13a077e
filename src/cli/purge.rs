//! `bindery order purge`: asks, purges, tells what was erased and what is left.

use std::io::{BufRead, IsTerminal, Write};

use serde_json::json;

use super::order::{Context, print, print_json};
use super::screen::table;
use crate::error::{Exit, Fault};
use crate::pipeline::find_order;
use crate::pipeline::purge::{Purged, Reach, purge};

/// What to purge, and how far.
#[derive(Debug, clap::Args)]
pub struct Purge {
    /// ORDER_ID, TENANT/ORDER_ID or TENANT/ORDER_ID@REV
    #[arg(value_name = "ORDER")]
    order: String,
    /// Also when work is left: rows not issued, stored profiles not bound
    #[arg(long)]
    unfinished: bool,
    /// Also the order's bundles in the outbox
    #[arg(long)]
    bundle: bool,
    /// Do not ask; needed where nobody can be asked
    #[arg(long)]
    yes: bool,
}

impl Purge {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, Fault> {
        // The whole name from here on: what was confirmed is what is purged.
        let name = find_order(context.ledger, &self.order)?.key.to_string();
        if !self.yes {
            confirm(&name, self.bundle)?;
        }
        let purged = purge(context.site, &name, Reach { unfinished: self.unfinished, bundle: self.bundle })?;
        if context.json { print_json(&as_json(&purged)) } else { print(&as_text(&purged)).map(|()| Exit::Done) }
    }
}

/// On a terminal the order's name has to be typed.
fn confirm(name: &str, bundle: bool) -> Result<(), Fault> {
    let unconfirmed = |what: &str| Fault::new(Exit::Usage, format!("{name}: {what}; nothing was erased"));
    if !std::io::stdin().is_terminal() {
        return Err(unconfirmed("nobody to ask").hint("confirm with --yes"));
    }
    let also = if bundle { ", its bundles" } else { "" };
    eprint!(
        "{name}: its keys, stored profiles{also} and wrapped credentials are erased for good.\nType its name to go on: "
    );
    let mut typed = String::new();
    let read = std::io::stderr().flush().and_then(|()| std::io::stdin().lock().read_line(&mut typed));
    read.map_err(|e| unconfirmed(&format!("no answer: {e}")))?;
    if typed.trim() == name { Ok(()) } else { Err(unconfirmed("not confirmed").hint(format!("type {name}"))) }
}

fn as_json(purged: &Purged) -> serde_json::Value {
    let left = |left: &crate::pipeline::purge::Left| json!({"what": left.what, "place": left.place, "count": left.count, "note": left.note});
    json!({
        "order": purged.key.to_string(),
        "purged_at": purged.purged_at,
        "was_purged": purged.was_purged,
        "erased": {
            "batch_key": purged.shredded.batch_key,
            "records": purged.shredded.records,
            "cancelled": purged.shredded.cancelled,
            "vault_files": purged.vault_files,
            "package_files": purged.package_files,
            "bundles": purged.bundles_erased,
        },
        "claimed": {
            "iccids": purged.claims.iccids,
            "imsis": purged.claims.imsis,
            "one_time_keys": purged.claims.one_time_keys,
            "matching_ids": purged.claims.matching_ids,
        },
        "left": purged.left.iter().map(left).collect::<Vec<_>>(),
    })
}

fn as_text(purged: &Purged) -> String {
    let Purged { key, purged_at, shredded, vault_files, package_files, bundles_erased, claims, .. } = purged;
    let mut text = if purged.was_purged {
        format!("{key}: purged at {purged_at}; finished now\n")
    } else {
        format!("{key}: purged\n")
    };
    let mut erased = table(&["erased", "count"]);
    for (what, count) in [
        ("batch key", u64::from(shredded.batch_key)),
        ("records: sealed credentials and PPK, wrapped K and OPc", shredded.records),
        ("device lines cancelled", shredded.cancelled),
        ("files of the vault", *vault_files),
        ("package files, never sealed", *package_files),
        ("bundles", *bundles_erased),
    ] {
        erased.add_row([what.to_owned(), count.to_string()]);
    }
    let mut left = table(&["left", "count", "place", "note"]);
    for one in &purged.left {
        let count = one.count.map_or("?".to_owned(), |count| count.to_string());
        left.add_row([one.what.to_owned(), count, one.place.clone(), one.note.to_owned()]);
    }
    text += &format!("{erased}\n{left}\n");
    text += &format!(
        "claimed for ever: {} ICCIDs, {} IMSIs, {} one-time keys, {} matching ids\n",
        claims.iccids, claims.imsis, claims.one_time_keys, claims.matching_ids
    );
    text
}
