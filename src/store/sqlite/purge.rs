//! The end of an order's secrets in the ledger: sealed key, sealed records and wrapped columns go in one transaction, then every
//! copy that the database file may still hold. Claims stay: a number or a one-time key never comes back.
//!
//! `secure_delete` zeroes what a statement frees; a ledger that was written without it, or a page that was moved, can still hold an
//! old copy, so the file is written anew (`VACUUM`) and the write-ahead log cut to nothing.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::exported::settle;
use super::{Ledger, audit, write};
use crate::audit::{Event, Word};
use crate::store::{OrderPk, StoreError};

/// What [`Ledger::shred`] erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shredded {
    /// The sealed batch key was there.
    pub batch_key: bool,
    /// Records whose sealed credentials, sealed PPK and wrapped K and OPc went.
    pub records: u64,
    /// Device lines that were waiting and never will be issued now.
    pub cancelled: u64,
}

/// What stays claimed for an order's devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// ICCIDs.
    pub iccids: u64,
    /// IMSIs.
    pub imsis: u64,
    /// One-time keys.
    pub one_time_keys: u64,
    /// Matching ids.
    pub matching_ids: u64,
}

impl Ledger {
    /// When the order was purged, RFC 3339.
    pub fn purged_at(&self, order: OrderPk) -> Result<Option<String>, StoreError> {
        let sql = "SELECT purged_at FROM orders WHERE pk = ?1";
        Ok(self.lock().query_row(sql, [order.0], |row| row.get(0)).optional()?.flatten())
    }

    /// Whether the order's bundle was exported, before its keys were erased or not.
    pub fn is_exported(&self, order: OrderPk) -> Result<bool, StoreError> {
        let sql = "SELECT state = 'exported' FROM orders WHERE pk = ?1";
        Ok(self.lock().query_row(sql, [order.0], |row| row.get(0)).optional()?.unwrap_or_default())
    }

    /// Erases an order's secrets in one durable transaction; `body` is what is kept of the order. Device lines that were not
    /// exported are cancelled. [`Self::scrub`] comes next.
    pub fn shred(&self, order: OrderPk, body: &[u8], purged_at: &str) -> Result<Shredded, StoreError> {
        let mut connection = self.lock();
        let transaction = write(&mut connection)?;
        let Shredded { batch_key, records, cancelled } = shred_in(&transaction, order, body, purged_at)?;
        let event = Event::new(Word::OrderPurged).order(&audit::order_key(&transaction, order)?);
        let event = event.number("batch_key", u64::from(batch_key)).number("records", records);
        audit::commit(transaction, &self.log, &event.number("cancelled", cancelled))?;
        Ok(Shredded { batch_key, records, cancelled })
    }

    /// Leaves no copy of what was deleted in the file's free places or in the write-ahead log. Takes room for a second ledger while
    /// it works; doing it again is harmless.
    pub fn scrub(&self) -> Result<(), StoreError> {
        let connection = self.lock();
        // First the log: should there be no room for the rest, the page that held the key is overwritten all the same.
        cut_log(&connection)?;
        connection.execute_batch("VACUUM")?;
        cut_log(&connection)
    }

    /// What stays claimed for an order.
    pub fn claims_of(&self, order: OrderPk) -> Result<Claims, StoreError> {
        let connection = self.lock();
        let count = |table: &str| {
            let sql =
                format!("SELECT count(*) FROM {table} WHERE device IN (SELECT pk FROM devices WHERE order_pk = ?1)");
            connection.query_row(&sql, [order.0], |row| row.get(0))
        };
        Ok(Claims {
            iccids: count("iccids")?,
            imsis: count("imsis")?,
            one_time_keys: count("one_time_keys")?,
            matching_ids: count("matching_ids")?,
        })
    }
}

/// The change of [`Ledger::shred`] without its line.
pub(super) fn shred_in(
    transaction: &Transaction<'_>,
    order: OrderPk,
    body: &[u8],
    purged_at: &str,
) -> Result<Shredded, StoreError> {
    let batch_key = "SELECT sealed_batch_key IS NOT NULL FROM orders WHERE pk = ?1";
    let batch_key = transaction.query_row(batch_key, [order.0], |row| row.get(0))?;
    let orders =
        "UPDATE orders SET sealed_batch_key = NULL, body = ?2, purged_at = ?3 WHERE pk = ?1 AND purged_at IS NULL";
    if transaction.execute(orders, params![order.0, body, purged_at])? != 1 {
        return Err(StoreError::State(format!("order {} was purged already", order.0)));
    }
    // A remake that waits has nothing left to make.
    let waiting = "UPDATE orders SET purged_at = ?2 WHERE target = ?1 AND state = 'open' AND purged_at IS NULL";
    transaction.execute(waiting, params![order.0, purged_at])?;
    let records = transaction.execute(
        "UPDATE issues SET sealed_credentials = NULL, sealed_ppk = NULL, ki_enc = x'', opc_enc = x''
         WHERE device IN (SELECT pk FROM devices WHERE order_pk = ?1)",
        [order.0],
    )? as u64;
    settle(transaction, order)?;
    let cancelled = transaction.execute(
        "UPDATE devices SET state = 'cancelled' WHERE order_pk = ?1 AND state IN ('accepted', 'prepared', 'bound', 'held')",
        [order.0],
    )? as u64;
    // Ordered PINs are among the values; what came wrapped is the operator's to open, not ours to keep.
    transaction.execute(
        "UPDATE devices SET vars = NULL, ki_wrapped = NULL, opc_wrapped = NULL WHERE order_pk = ?1
         AND (vars IS NOT NULL OR ki_wrapped IS NOT NULL OR opc_wrapped IS NOT NULL)",
        [order.0],
    )?;
    Ok(Shredded { batch_key, records, cancelled })
}

/// Everything into the main file, the log cut to length zero. A reader that holds an old state is waited for, then told of.
fn cut_log(connection: &Connection) -> Result<(), StoreError> {
    let is_busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if is_busy { Err(StoreError::Busy) } else { Ok(()) }
}
