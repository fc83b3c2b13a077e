//! The ledger's half of the audit log: the heads of the lines, committed with the changes that they tell of.
//!
//! Order, against power loss: the write lock is held, the head is read, the line is written and synced, then one commit makes the
//! change and the line's head durable together. A line whose head is not here never came to be; a head whose line is not in the
//! file says that the file was cut. See [`crate::audit`].

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Ledger, write};
use crate::audit::{Event, Head, Log, Word};
use crate::ids::OrderKey;
use crate::store::{OrderPk, StoreError};

/// Schema version 6. One row a line: 40 octets, of which a million records make a thousand.
pub(super) const SCHEMA: &str = "
    CREATE TABLE audit_heads (
        seq    INTEGER PRIMARY KEY,
        sha256 BLOB NOT NULL CHECK (length(sha256) = 32)
    ) STRICT;
    -- SHA-256 of the files that rule what is done, as they were at the last start.
    CREATE TABLE audit_seen (
        file   TEXT NOT NULL PRIMARY KEY,
        sha256 BLOB NOT NULL CHECK (length(sha256) = 32)
    ) STRICT, WITHOUT ROWID;";

impl Ledger {
    /// Writes one line that goes with no change of the ledger's own, in a transaction of its own.
    pub fn record(&self, event: &Event) -> Result<Head, StoreError> {
        let mut connection = self.lock();
        let transaction = write(&mut connection)?;
        commit(transaction, &self.log, event)
    }

    /// Records that an order was refused as a whole.
    pub fn record_rejection(
        &self,
        key: Option<&OrderKey>,
        body_sha256: &str,
        (rows, refused): (u64, u64),
    ) -> Result<(), StoreError> {
        let event = Event::new(Word::OrderRejected).number("rows", rows).number("refused", refused);
        let event = event.name("body_sha256", body_sha256);
        self.record(&key.map_or(event.clone(), |key| event.order(key))).map(drop)
    }

    /// Records that a file which rules what is done is not as it was when this was last called; says nothing the first time.
    pub fn note_file(&self, file: &str, sha256: &[u8; 32]) -> Result<(), StoreError> {
        let mut connection = self.lock();
        let transaction = write(&mut connection)?;
        let sql = "SELECT sha256 FROM audit_seen WHERE file = ?1";
        let before: Option<[u8; 32]> = transaction.query_row(sql, [file], |row| row.get(0)).optional()?;
        if before.as_ref() == Some(sha256) {
            return Ok(());
        }
        transaction.execute("INSERT OR REPLACE INTO audit_seen VALUES (?1, ?2)", params![file, sha256])?;
        match before {
            None => Ok(transaction.commit()?),
            Some(before) => {
                let event = Event::new(Word::ConfigChanged).name("file", file).sha256("before", &before);
                commit(transaction, &self.log, &event.sha256("after", sha256)).map(drop)
            }
        }
    }

    /// The last line that was committed.
    pub fn audit_head(&self) -> Result<Head, StoreError> {
        head(&self.lock())
    }

    /// Every line that was committed, in order.
    pub fn audit_heads(&self) -> Result<Vec<Head>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT seq, sha256 FROM audit_heads ORDER BY seq")?;
        let heads = statement.query_map([], |row| Ok(Head { seq: row.get(0)?, sha256: row.get(1)? }))?;
        Ok(heads.collect::<Result<_, _>>()?)
    }

    /// The log beside this ledger.
    pub fn audit_log(&self) -> &Log {
        &self.log
    }
}

/// Ends a transaction with its line: the line on the disk, its head into the ledger, the commit. An error at any of the three
/// leaves the ledger as it was. Every transaction that changes a state ends here.
pub(super) fn commit(transaction: Transaction<'_>, log: &Log, event: &Event) -> Result<Head, StoreError> {
    let head = write_line(&transaction, log, event)?;
    transaction.commit()?;
    Ok(head)
}

/// The same for a transaction that is begun and committed by hand.
pub(super) fn write_line(connection: &Connection, log: &Log, event: &Event) -> Result<Head, StoreError> {
    let mut last = head(connection)?;
    for head in log.append(&last, event)? {
        let mut insert = connection.prepare_cached("INSERT INTO audit_heads VALUES (?1, ?2)")?;
        insert.execute(params![head.seq, head.sha256])?;
        last = head;
    }
    Ok(last)
}

/// The key of an order, for its line.
pub(super) fn order_key(connection: &Connection, order: OrderPk) -> Result<OrderKey, StoreError> {
    let sql = "SELECT tenant, order_id, rev FROM orders WHERE pk = ?1";
    let key = connection.prepare_cached(sql)?.query_row([order.0], |row| super::read_key(row, 0)).optional()?;
    key.ok_or_else(|| StoreError::State(format!("there is no order {}", order.0)))
}

fn head(connection: &Connection) -> Result<Head, StoreError> {
    let mut select = connection.prepare_cached("SELECT seq, sha256 FROM audit_heads ORDER BY seq DESC LIMIT 1")?;
    let head = select.query_row([], |row| Ok(Head { seq: row.get(0)?, sha256: row.get(1)? })).optional()?;
    Ok(head.unwrap_or(Head::NONE))
}
