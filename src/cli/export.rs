//! `bindery export`: what to do with a finished bundle.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Voice;
use super::screen::print_json;
use crate::certs::chain::manifest_certificates;
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::export::manifest::Manifest;
use crate::export::{seal, unpack};
use crate::ids::OrderKey;
use crate::pipeline;
use crate::store::sqlite::Ledger;
use crate::store::{OrderState, Store};

/// Take the bundles of an exported order apart; packages that were made again only as they are now
#[derive(clap::Args)]
pub(crate) struct Export {
    /// The order: ORDER_ID, TENANT/ORDER_ID or TENANT/ORDER_ID@REV; or a bundle's directory
    #[arg(value_name = "ORDER")]
    order: String,
    /// Write every package to DIR as <EID>_<ICCID>.der
    #[arg(long, value_name = "DIR")]
    unpack: PathBuf,
}

impl Export {
    pub(crate) fn run(self, site_dir: &Path, voice: Voice) -> Result<Exit, Fault> {
        let site = Site::open(site_dir)?;
        let ledger = Ledger::open(&site.state_db())?;
        let trusted = manifest_certificates(&site)?;
        let (bundles, replaced) = if Path::new(&self.order).join("orders.jsonl").is_file() {
            (vec![PathBuf::from(&self.order)], HashSet::new())
        } else {
            let order = pipeline::find_order(&ledger, &self.order)?;
            // What was made again is not handed out a second time.
            (pipeline::bundles_of(&site, &order.key)?, ledger.tombstones(order.pk)?)
        };
        // Before anything is written: a record and its package may have been changed together.
        for bundle in &bundles {
            let is_read = |name: &str| name == "orders.jsonl" || name.starts_with("packages-");
            let sealed = seal::check(bundle, &trusted, &is_read)?;
            if let Some(made) = made(&ledger, &sealed.manifest)? {
                unpack::check_made(bundle, &made)?;
            }
        }
        let mut packages = 0;
        for bundle in &bundles {
            packages += unpack::unpack(bundle, &self.unpack, &replaced)?;
        }
        if voice.json {
            print_json(&json!({"packages": packages, "dir": self.unpack}))?;
        } else {
            say!("{packages} packages in {}", self.unpack.display());
        }
        Ok(Exit::Done)
    }
}

/// SHA-256 of every package that was made of the manifest's order; none where the ledger does not know the order, or not any more.
fn made(ledger: &Ledger, manifest: &Manifest) -> Result<Option<HashSet<[u8; 32]>>, Fault> {
    let Manifest { tenant, order_id, rev, .. } = manifest;
    let (Ok(tenant), Ok(order_id)) = (tenant.parse(), order_id.parse()) else { return Ok(None) };
    match ledger.find_order(&OrderKey { tenant, order_id, rev: *rev })? {
        // Of an order that was recovered from its bundles the ledger knows no packages.
        Some(order) if order.state != OrderState::Purged => Ok(Some(ledger.packages_made(order.pk)?)),
        _ => Ok(None),
    }
}
