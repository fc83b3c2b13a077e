//! What a person asks the ledger: which orders there are, and what is wrong with one.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::batch::{read_eid, read_state};
use super::changes::read_change;
use super::{BUSY_TIMEOUT, Ledger, parsed, read_key, read_order_state};
use crate::ids::{Eid, OrderKey};
use crate::store::{DeviceState, OrderChange, OrderPk, OrderState, StoreError};

/// An accepted order without its body.
#[derive(Clone, Debug)]
pub struct OrderSummary {
    /// Its row.
    pub pk: OrderPk,
    /// Its key.
    pub key: OrderKey,
    /// SHA-256 of the order file, lower-case hex.
    pub body_sha256: String,
    /// Where it stands.
    pub state: OrderState,
    /// Rows ordered, refused ones included.
    pub rows: u64,
    /// Rows refused at acceptance.
    pub refused: u64,
    /// RFC 3339, UTC.
    pub accepted_at: String,
    /// Which order it changes, and how; none for orders of profiles.
    pub change: Option<OrderChange>,
}

/// A device line that was rejected or failed.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// `line` of the order header.
    pub line: u32,
    /// `row` of the CSV.
    pub row: u32,
    /// Rejected or failed.
    pub state: DeviceState,
    /// The eUICC, where known.
    pub eid: Option<Eid>,
    /// Class of the error.
    pub error_class: Option<String>,
    /// What happened, where the record failed later than at acceptance.
    pub error: Option<String>,
}

/// A line of the first `rejects.csv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRefusal {
    /// `line` of the order header.
    pub line: u32,
    /// `row` of the CSV.
    pub row: u32,
    /// The five texts of `rejects.csv`: column, value, code, message, hint.
    pub texts: [String; 5],
}

/// When the newest order was accepted; none where there is no ledger yet or no order.
pub fn newest_acceptance(state_db: &Path) -> Result<Option<Timestamp>, StoreError> {
    if !state_db.exists() {
        return Ok(None);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(state_db, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let sql = "SELECT accepted_at FROM orders ORDER BY pk DESC LIMIT 1";
    Ok(connection.query_row(sql, [], |row| parsed(row, 0)).optional()?)
}

impl Ledger {
    /// All accepted orders, oldest first.
    pub fn orders(&self) -> Result<Vec<OrderSummary>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT pk, tenant, order_id, rev, body_sha256, CASE WHEN purged_at IS NOT NULL THEN 'purged' WHEN target IS NOT NULL
             AND state = 'exported' THEN 'done' ELSE state END, rows, refused, accepted_at, change, target FROM orders ORDER BY pk",
        )?;
        let orders = statement.query_map([], |row| {
            Ok(OrderSummary {
                pk: OrderPk(row.get(0)?),
                key: read_key(row, 1)?,
                body_sha256: row.get(4)?,
                state: read_order_state(row, 5)?,
                rows: row.get(6)?,
                refused: row.get(7)?,
                accepted_at: row.get(8)?,
                change: read_change(row, 9)?,
            })
        })?;
        Ok(orders.collect::<Result<_, _>>()?)
    }

    /// The first `limit` device lines of an order that were rejected or failed.
    pub fn troubles(&self, order: OrderPk, limit: u32) -> Result<Vec<Trouble>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT line, row, state, eid, error_class, COALESCE(error,
                 (SELECT \"column\" || ' ' || message || '; hint: ' || hint FROM refusals r
                  WHERE r.order_pk = d.order_pk AND r.line = d.line AND r.row = d.row ORDER BY r.pk LIMIT 1))
             FROM devices d WHERE order_pk = ?1 AND state IN ('rejected', 'failed') ORDER BY pk LIMIT ?2",
        )?;
        let troubles = statement.query_map(params![order.0, limit], |row| {
            Ok(Trouble {
                line: row.get(0)?,
                row: row.get(1)?,
                state: read_state(row, 2)?,
                eid: read_eid(row, 3)?,
                error_class: row.get(4)?,
                error: row.get(5)?,
            })
        })?;
        Ok(troubles.collect::<Result<_, _>>()?)
    }

    /// Calls `each` with every line of the order's first `rejects.csv`, in its order.
    pub fn kept_refusals<E: From<StoreError>>(
        &self,
        order: OrderPk,
        mut each: impl FnMut(KeptRefusal) -> Result<(), E>,
    ) -> Result<(), E> {
        let connection = self.lock();
        let sql =
            "SELECT line, row, \"column\", value, code, message, hint FROM refusals WHERE order_pk = ?1 ORDER BY pk";
        let mut statement = connection.prepare_cached(sql).map_err(StoreError::from)?;
        let mut rows = statement.query([order.0]).map_err(StoreError::from)?;
        while let Some(row) = rows.next().map_err(StoreError::from)? {
            let kept = || -> rusqlite::Result<KeptRefusal> {
                let texts = [row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?];
                Ok(KeptRefusal { line: row.get(0)?, row: row.get(1)?, texts })
            };
            each(kept().map_err(StoreError::from)?)?;
        }
        Ok(())
    }
}
