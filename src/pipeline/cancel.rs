//! `order cancel`: rows that are not started are given up; what a run has begun it finishes.
//!
//! Rule: the numbers and one-time keys of cancelled rows stay claimed. They were promised in an answer that others have read, and
//! what is claimed once is never handed out again; only numbers of rows refused at acceptance are free.

use super::change::{Changed, Open};
use crate::config::Site;
use crate::error::Fault;
use crate::store::DeviceState;

/// Cancels what of an order is not started, held rows too. The next run seals what is left of it.
pub fn cancel(site: &Site, name: &str) -> Result<Changed, Fault> {
    let order = Open::order(site, name)?;
    let pk = order.stored.pk;
    order.make(
        DeviceState::Cancelled,
        |ledger, idle| ledger.cancel(pk, idle),
        ("every row was started", "`bindery order revoke` takes back what is not exported"),
    )
}
