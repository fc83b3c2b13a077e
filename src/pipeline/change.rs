//! What `order hold|cancel|revoke` share: the order they mean, the run lock as far as it is free, and what they tell.
//!
//! They work while a `run` is active. The lock is only asked for: whoever gets it knows that no chunk is being worked on, whatever
//! marks a killed run has left; else the marks of the runner are believed, and the ledger's transaction does the rest.

use super::find_order;
use super::lock::RunLock;
use super::purge;
use super::stored::part_dir;
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::export::bundle;
use crate::ids::OrderKey;
use crate::store::sqlite::{Change, Ledger};
use crate::store::{DeviceState, OrderPk, OrderState, Store, StoreError, StoredOrder};

/// What a change did to an order, and where its rows are now.
#[derive(Clone, Debug)]
pub struct Changed {
    /// Which order.
    pub key: OrderKey,
    /// The state that rows went to.
    pub to: DeviceState,
    /// What happened.
    pub change: Change,
    /// The order's rows by state, afterwards.
    pub states: Vec<(DeviceState, u64)>,
}

/// The run lock, where it is free, for as long as a change of the order's rows takes; `None`: a runner is at work.
pub fn keep_runners_out(site: &Site, stored: &StoredOrder) -> Result<Option<RunLock>, Fault> {
    let lock = RunLock::take_if_free(site.root(), jiff::Timestamp::now())?;
    if lock.is_some() {
        is_unsealed(site, stored)?;
    }
    Ok(lock)
}

fn is_unsealed(site: &Site, stored: &StoredOrder) -> Result<(), Fault> {
    let own = site.outbox().join(stored.key.outbox_path());
    let seal = part_dir(&own, stored.part).join(bundle::SIGNATURE);
    if stored.state == OrderState::Open && seal.exists() {
        let what = format!("{}: its bundle is sealed, the ledger does not say so yet", stored.key);
        return Err(Fault::new(Exit::Stopped, what).hint("`bindery run` finishes the order; then try again"));
    }
    Ok(())
}

/// An order that a change may be made to.
pub(super) struct Open<'s> {
    pub(super) ledger: Ledger,
    pub(super) stored: StoredOrder,
    site: &'s Site,
}

impl<'s> Open<'s> {
    /// The order of this name, unless it was purged.
    pub(super) fn order(site: &'s Site, name: &str) -> Result<Self, Fault> {
        let ledger = Ledger::open(&site.state_db())?;
        let stored = find_order(&ledger, name)?;
        match stored.state {
            OrderState::Purged => Err(purge::is_purged(&ledger, &stored)?),
            OrderState::Open | OrderState::Exported | OrderState::Done => Ok(Self { ledger, stored, site }),
        }
    }

    /// A crash between the seal and the ledger's last step: whoever saw the seal may have fetched the bundle, which must not become
    /// another one. To be asked by who holds the run lock.
    pub(super) fn is_unsealed(&self) -> Result<(), Fault> {
        is_unsealed(self.site, &self.stored)
    }

    /// Makes one change. `nothing`: what to say, and what to do instead, where no row is in its reach.
    pub(super) fn make(
        self,
        to: DeviceState,
        change: impl FnOnce(&Ledger, OrderPk, bool) -> Result<Change, StoreError>,
        nothing: (&str, &str),
    ) -> Result<Changed, Fault> {
        let key = self.stored.key.clone();
        let lock = keep_runners_out(self.site, &self.stored)?;
        let change = change(&self.ledger, self.stored.pk, lock.is_some()).map_err(|e| match e {
            StoreError::Busy => {
                Fault::new(Exit::Locked, format!("{key}: its bundle is being sealed, or the ledger is busy"))
                    .hint("nothing was changed; try again in a moment")
            }
            other => other.into(),
        })?;
        drop(lock);
        if change.there == 0 && change.started == 0 {
            return Err(Fault::new(Exit::Usage, format!("{key}: {}", nothing.0)).hint(nothing.1));
        }
        Ok(Changed { to, change, states: self.ledger.counts(self.stored.pk)?, key })
    }
}
