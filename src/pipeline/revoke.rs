//! `order revoke`: what of an order is not exported is taken back: packages and stored profiles erased, their secrets with them,
//! rows that wait cancelled. What is exported has left the house, and nobody calls it back.
//!
//! Order of the steps, as in a purge: states and sealed secrets in one durable transaction, then the copies in the ledger's file, then
//! the files. Who was killed in between calls again: the steps behind the transaction are repeated. Holds the run lock throughout,
//! for a runner reads what is erased here.

use super::change::Open;
use super::close::{sweep_orphans, sweep_vault};
use super::lock::RunLock;
use super::stored::part_dir;
use crate::config::Site;
use crate::durable;
use crate::error::{Exit, Fault};
use crate::ids::OrderKey;
use crate::store::sqlite::Revocation;
use crate::store::{DeviceState, OrderState, Store};

/// What a revocation did.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// Which order.
    pub key: OrderKey,
    /// Its rows.
    pub rows: Revocation,
    /// Package files and stored profiles erased.
    pub files: u64,
    /// The order's rows by state, afterwards.
    pub states: Vec<(DeviceState, u64)>,
}

/// Takes back what of an order is not exported.
pub fn revoke(site: &Site, name: &str) -> Result<Revoked, Fault> {
    let _lock = RunLock::take(site.root(), jiff::Timestamp::now())?;
    let order = Open::order(site, name)?;
    order.is_unsealed()?;
    let Open { ledger, stored, .. } = order;
    let key = stored.key.clone();
    let dir = part_dir(&site.outbox().join(key.outbox_path()), stored.part);
    let rows = ledger.revoke(stored.pk)?;
    if rows.there == 0 {
        let what = format!("{key}: {} rows are exported, none can be called back", rows.exported);
        return Err(
            Fault::new(Exit::Usage, what).hint("have the eIM delete the packages, then order the profiles anew")
        );
    }
    ledger.scrub().map_err(|e| {
        let Fault { exit, what, .. } = e.into();
        Fault::new(exit, format!("{key}: revoked, but the ledger's file may still hold old copies: {what}"))
            .hint("end what works on the ledger, or make room for a second one, then revoke again: it finishes")
    })?;
    let chunks = ledger.chunks(stored.pk)?;
    // Also when a run has closed the order since a first call was killed.
    let mut files = sweep_vault(&site.vault(), stored.pk, &chunks)?;
    if stored.state == OrderState::Open {
        files += sweep_orphans(&dir, &chunks, stored.part)?;
        // Row files that a killed runner had begun; the run lock is ours, so nobody writes one.
        durable::sweep(&dir).map_err(|e| Fault::file(&dir, &e))?;
    }
    Ok(Revoked { states: ledger.counts(stored.pk)?, key, rows, files })
}
