//! `order hold`: rows that are not started are set aside, and put back.
//!
//! A run passes over held rows from its next chunk on. What it can issue it seals, with the held rows counted as such; an order of
//! which nothing else is left stays open. Rows put back after the sealing get a bundle of their own, `<order>+rest-NNN`.

use super::change::{Changed, Open};
use crate::config::Site;
use crate::error::Fault;
use crate::store::DeviceState;
use crate::store::sqlite::Ledger;

/// Sets aside what of an order is not started.
pub fn hold(site: &Site, name: &str) -> Result<Changed, Fault> {
    Open::order(site, name)?.make(
        DeviceState::Held,
        Ledger::hold,
        ("no row waits", "what is issued cannot be held: `bindery order revoke` takes back what is not exported"),
    )
}

/// Puts the held rows of an order back: the next run issues them.
pub fn release(site: &Site, name: &str) -> Result<Changed, Fault> {
    Open::order(site, name)?.make(
        DeviceState::Accepted,
        Ledger::release,
        ("no row is held", "`bindery order show` tells where its rows are"),
    )
}
