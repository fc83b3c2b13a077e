//! `order cancel`: rows that are not started are given up; what a run has begun it finishes.
//!
//! Rule: the numbers and one-time keys of cancelled rows stay claimed. They were promised in an answer that others have read, and
//! what is claimed once is never handed out again; only numbers of rows refused at acceptance are free.

use super::change::{Changed, Open};
use crate::config::Site;
use crate::error::Fault;
use crate::store::DeviceState;
use crate::store::sqlite::Ledger;

/// Cancels what of an order is not started, held rows too. The next run seals what is left of it.
pub fn cancel(site: &Site, name: &str) -> Result<Changed, Fault> {
    Open::order(site, name)?.make(
        DeviceState::Cancelled,
        Ledger::cancel,
        ("every row was started", "`bindery order revoke` takes back what is not exported"),
    )
}
