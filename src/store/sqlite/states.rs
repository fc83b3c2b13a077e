//! State changes that people ask for: rows set aside and put back, cancelled, revoked; and the marks by which a runner and such a
//! change keep out of each other's way.
//!
//! Rule: a row changes only while no runner works on its chunk. A runner marks a chunk as started before it reads the chunk's rows
//! and an order as sealing before it counts; the changes here spare the one and refuse the other. Without the run lock only accepted and
//! held rows change: those of a done chunk are what a runner may have written into files already (`pipeline/scribe.rs`). Claims stay:
//! the numbers and the one-time key of a cancelled or revoked row are never handed out again.

use rusqlite::{Connection, Transaction, params};

use super::exported::settle;
use super::{Ledger, audit, write};
use crate::audit::{Event, Word};
use crate::store::{DeviceState, OrderPk, StoreError};

/// What a change did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Rows that changed their state.
    pub changed: u64,
    /// Rows that stay as they are because a runner works on their chunk.
    pub started: u64,
    /// Rows that are where the change leads to, these and earlier ones.
    pub there: u64,
}

/// What a revocation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revocation {
    /// Rows whose package or stored profile was taken back now.
    pub revoked: u64,
    /// Rows that were waiting and were cancelled now.
    pub cancelled: u64,
    /// Rows whose package is exported: it stays valid.
    pub exported: u64,
    /// Rows revoked or cancelled, these and earlier ones.
    pub there: u64,
    /// The order's batch key went with the last of its secrets.
    pub batch_key: bool,
}

impl Ledger {
    /// Sets aside every accepted row that is not started. `idle`: the caller holds the run lock, so nothing is started.
    pub fn hold(&self, order: OrderPk, idle: bool) -> Result<Change, StoreError> {
        self.change(order, idle, (&[DeviceState::Accepted], DeviceState::Held), Word::OrderHeld)
    }

    /// Puts held rows back; an order that was exported without them is open again, for a bundle of its own.
    pub fn release(&self, order: OrderPk, idle: bool) -> Result<Change, StoreError> {
        self.change(order, idle, (&[DeviceState::Held], DeviceState::Accepted), Word::OrderReleased)
    }

    /// Cancels every row that is not started, held ones too.
    pub fn cancel(&self, order: OrderPk, idle: bool) -> Result<Change, StoreError> {
        let waiting = [DeviceState::Accepted, DeviceState::Held];
        self.change(order, idle, (&waiting, DeviceState::Cancelled), Word::OrderCancelled)
    }

    /// Takes back what is not exported, and its secrets with it; rows that wait are cancelled. The caller holds the run lock.
    pub fn revoke(&self, order: OrderPk) -> Result<Revocation, StoreError> {
        let mut connection = self.lock();
        let transaction = write(&mut connection)?;
        forget_marks(&transaction, order)?;
        settle(&transaction, order)?;
        let secrets = "UPDATE issues SET sealed_credentials = NULL, sealed_ppk = NULL, ki_enc = x'', opc_enc = x''
             WHERE device IN (SELECT pk FROM devices WHERE order_pk = ?1 AND state IN ('prepared', 'bound'))";
        transaction.execute(secrets, [order.0])?;
        let brought =
            "UPDATE devices SET ki_wrapped = NULL, opc_wrapped = NULL WHERE order_pk = ?1 AND ki_wrapped IS NOT NULL
             AND state IN ('prepared', 'bound', 'accepted', 'held', 'cancelled')";
        transaction.execute(brought, [order.0])?;
        let objects = "UPDATE chunks SET sha256 = NULL, bytes = NULL WHERE order_pk = ?1 AND part =
             (SELECT part FROM orders WHERE pk = ?1 AND state = 'open')";
        transaction.execute(objects, [order.0])?;
        let to = |state: &str, from: &str| -> Result<u64, StoreError> {
            let sql = format!("UPDATE devices SET state = '{state}' WHERE order_pk = ?1 AND state IN ({from})");
            Ok(transaction.execute(&sql, [order.0])? as u64)
        };
        let revoked = to("revoked", "'prepared', 'bound'")?;
        let cancelled = to("cancelled", "'accepted', 'held'")?;
        if cancelled > 0 {
            reopen(&transaction, order)?;
        }
        let exported = count(&transaction, order, &[DeviceState::Exported])?;
        let key = "UPDATE orders SET sealed_batch_key = NULL WHERE pk = ?1 AND sealed_batch_key IS NOT NULL AND ?2 = 0";
        let batch_key = revoked > 0 && transaction.execute(key, params![order.0, exported])? > 0;
        let there = count(&transaction, order, &[DeviceState::Revoked, DeviceState::Cancelled])?;
        if revoked + cancelled == 0 {
            transaction.commit()?; // marks of a killed runner, and what an earlier call left
        } else {
            let event = Event::new(Word::OrderRevoked).order(&audit::order_key(&transaction, order)?);
            let event = event.number("revoked", revoked).number("cancelled", cancelled).number("exported", exported);
            audit::commit(transaction, &self.log, &event.number("batch_key", u64::from(batch_key)))?;
        }
        Ok(Revocation { revoked, cancelled, exported, there, batch_key })
    }

    fn change(
        &self,
        order: OrderPk,
        idle: bool,
        (from, to): (&[DeviceState], DeviceState),
        word: Word,
    ) -> Result<Change, StoreError> {
        let mut connection = self.lock();
        let transaction = write(&mut connection)?;
        let (change, event) = apply(&transaction, order, (idle, &[]), (from, to), word)?;
        match event {
            None => transaction.commit()?, // marks of a killed runner, no row's state
            Some(event) => drop(audit::commit(transaction, &self.log, &event)?),
        }
        Ok(change)
    }
}

/// Cancels inside a transaction of the caller's, who writes the event, if there is one, and commits. `lines`: those of these numbers;
/// empty: all.
pub(super) fn cancel_in(
    connection: &Connection,
    order: OrderPk,
    idle: bool,
    lines: &[u32],
) -> Result<(Change, Option<Event>), StoreError> {
    let waiting = [DeviceState::Accepted, DeviceState::Held];
    apply(connection, order, (idle, lines), (&waiting, DeviceState::Cancelled), Word::OrderCancelled)
}

/// Changes states; the event is none when no row changed.
fn apply(
    connection: &Connection,
    order: OrderPk,
    (idle, lines): (bool, &[u32]),
    (from, to): (&[DeviceState], DeviceState),
    word: Word,
) -> Result<(Change, Option<Event>), StoreError> {
    if idle {
        forget_marks(connection, order)?;
    }
    if connection.query_row("SELECT sealing FROM orders WHERE pk = ?1", [order.0], |row| row.get(0))? {
        return Err(StoreError::Busy);
    }
    // A chunk is of one line: what is said of chunks holds for lines, too.
    let numbers = lines.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let of_lines = if lines.is_empty() { String::new() } else { format!(" AND line IN ({numbers})") };
    // A few, as many as a runner works on at once.
    let started = started_spans(connection, order)?;
    let spared: String =
        started.iter().map(|(first, last)| format!(" AND pk NOT BETWEEN {first} AND {last}")).collect();
    let sql =
        format!("UPDATE devices SET state = ?2 WHERE order_pk = ?1 AND state IN ({}){of_lines}{spared}", words(from));
    let changed = connection.execute(&sql, params![order.0, to.as_str()])? as u64;
    if changed > 0 && to != DeviceState::Held {
        reopen(connection, order)?;
    }
    let count = |states: &[DeviceState]| -> Result<u64, StoreError> {
        let states = words(states);
        let sql = format!("SELECT count(*) FROM devices WHERE order_pk = ?1 AND state IN ({states}){of_lines}");
        Ok(connection.query_row(&sql, [order.0], |row| row.get(0))?)
    };
    // Put back, a row is due like any other: nothing of it is spared.
    let started = if to == DeviceState::Accepted { 0 } else { count(&[DeviceState::Accepted])? };
    let change = Change { changed, started, there: count(&[to])? };
    if changed == 0 {
        return Ok((change, None));
    }
    let event = Event::new(word).order(&audit::order_key(connection, order)?).number("rows", changed);
    Ok((change, Some(event.number("started", started))))
}

/// First and last device of the chunks that a runner works on.
fn started_spans(connection: &Connection, order: OrderPk) -> Result<Vec<(i64, i64)>, StoreError> {
    let sql = "SELECT first_device, last_device FROM chunks WHERE order_pk = ?1 AND started = 1 AND done = 0";
    let mut statement = connection.prepare(sql)?;
    Ok(statement.query_map([order.0], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
}

/// Nobody works on the order: marks were left by a runner that was killed.
pub(super) fn forget_marks(connection: &Connection, order: OrderPk) -> Result<(), StoreError> {
    connection.execute("UPDATE chunks SET started = 0 WHERE order_pk = ?1 AND started = 1 AND done = 0", [order.0])?;
    connection.execute("UPDATE orders SET sealing = 0 WHERE pk = ?1 AND sealing = 1", [order.0])?;
    Ok(())
}

/// Rows of an exported order are due again: they go into the order's next bundle.
fn reopen(connection: &Connection, order: OrderPk) -> Result<(), StoreError> {
    let sql = "UPDATE orders SET state = 'open', part = part + 1 WHERE pk = ?1 AND state = 'exported'";
    connection.execute(sql, [order.0])?;
    Ok(())
}

fn count(transaction: &Transaction<'_>, order: OrderPk, states: &[DeviceState]) -> Result<u64, StoreError> {
    let sql = format!("SELECT count(*) FROM devices WHERE order_pk = ?1 AND state IN ({})", words(states));
    Ok(transaction.query_row(&sql, [order.0], |row| row.get(0))?)
}

fn words(states: &[DeviceState]) -> String {
    states.iter().map(|state| format!("'{}'", state.as_str())).collect::<Vec<_>>().join(", ")
}
