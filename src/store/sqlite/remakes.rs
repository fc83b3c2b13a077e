//! Profiles made again: the new package takes the old one's place in one transaction, and of the old one a tombstone stays.
//!
//! Rule: an ICCID has one live package. The new one-time key is claimed here; the old one stays claimed, and so do both matching ids.

use std::collections::HashSet;

use rusqlite::{Row, Transaction, params};

use super::batch::insert_issue;
use super::changes::{claim_numbers, is_wanted};
use super::claims::claim_one_time_key;
use super::exported::settle;
use super::{Ledger, audit, write};
use crate::audit::{Event, Word};
use crate::ids::OrderKey;
use crate::store::{Device, DevicePk, OrderPk, Remake, StoreError};

impl Ledger {
    /// The remakes of an order, oldest first.
    pub fn remakes(&self, order: OrderPk) -> Result<Vec<Remake>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT number, input, rows, other_euicc, renumbered, change_pk FROM remakes WHERE order_pk = ?1 ORDER BY number",
        )?;
        Ok(statement.query_map([order.0], read_remake)?.collect::<Result<_, _>>()?)
    }

    /// Orders that were ever remade.
    pub fn remade_orders(&self) -> Result<Vec<OrderKey>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT tenant, order_id, rev FROM orders WHERE pk IN (SELECT order_pk FROM remakes) ORDER BY pk",
        )?;
        Ok(statement.query_map([], |row| super::read_key(row, 0))?.collect::<Result<_, _>>()?)
    }

    /// Devices of an order whose profile has other numbers than the first one had.
    pub fn renumbered_devices(&self, order: OrderPk) -> Result<HashSet<DevicePk>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT d.pk FROM tombstones t JOIN devices d ON d.pk = t.device WHERE d.order_pk = ?1 AND t.iccid <> d.iccid",
        )?;
        Ok(statement.query_map([order.0], |row| Ok(DevicePk(row.get(0)?)))?.collect::<Result<_, _>>()?)
    }

    /// SHA-256 of every package that was made of an order, replaced ones included.
    pub fn packages_made(&self, order: OrderPk) -> Result<HashSet<[u8; 32]>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT i.sha256 FROM issues i JOIN devices d ON d.pk = i.device WHERE d.order_pk = ?1 AND i.transaction_id IS NOT NULL
             UNION ALL SELECT t.sha256 FROM tombstones t JOIN devices d ON d.pk = t.device WHERE d.order_pk = ?1",
        )?;
        Ok(statement.query_map([order.0], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// SHA-256 of every package of an order that was replaced.
    pub fn tombstones(&self, order: OrderPk) -> Result<HashSet<[u8; 32]>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT t.sha256 FROM tombstones t JOIN devices d ON d.pk = t.device WHERE d.order_pk = ?1",
        )?;
        Ok(statement.query_map([order.0], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }
}

/// Puts the packages of `made` in the place of those that its devices have; one transaction with its audit line.
pub(super) fn record(
    ledger: &Ledger,
    order: OrderPk,
    (remake, made): (&Remake, &[Device]),
    manifest_sha256: &[u8; 32],
) -> Result<(), StoreError> {
    let mut connection = ledger.lock();
    let transaction = write(&mut connection)?;
    settle(&transaction, order)?;
    for device in made {
        replace(&transaction, order, remake, device)?;
    }
    let Remake { number, input, rows, other_euicc, renumbered, change } = remake;
    let sql = "INSERT INTO remakes (order_pk, number, input, rows, other_euicc, renumbered, change_pk) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let change = change.map(|change| change.0);
    transaction.execute(sql, params![order.0, number, input, rows, other_euicc, renumbered, change])?;
    if change.is_some() {
        let sql = "UPDATE orders SET state = 'exported' WHERE pk = ?1 AND target = ?2 AND state = 'open'";
        if transaction.execute(sql, params![change, order.0])? != 1 {
            return Err(StoreError::State("the remake's order waits for nothing".to_owned()));
        }
    }
    let event = Event::new(Word::OrderRemade).order(&audit::order_key(&transaction, order)?);
    let event = event.number("remake", (*number).into()).number("rows", *rows).number("other_euicc", *other_euicc);
    let event = event.number("renumbered", u64::from(*renumbered));
    audit::commit(transaction, &ledger.log, &event.sha256("manifest_sha256", manifest_sha256)).map(drop)
}

fn replace(transaction: &Transaction<'_>, order: OrderPk, remake: &Remake, device: &Device) -> Result<(), StoreError> {
    let (pk, Some(point), Some(eid), Some(issue)) = (device.pk, &device.euicc_otpk, &device.eid, &device.issue) else {
        return Err(StoreError::State(format!("device {} is not bound", device.pk.0)));
    };
    let bury = "INSERT INTO tombstones (device, remake, state, eid, euicc_otpk, matching_id, transaction_id, object, offset, length,
                sha256, iccid, imsi)
         SELECT d.pk, ?3, 'revoked', d.eid, d.euicc_otpk, i.matching_id, i.transaction_id, i.object, i.offset, i.length, i.sha256,
                d.iccid, d.imsi
         FROM devices d JOIN issues i ON i.device = d.pk
         WHERE d.pk = ?1 AND d.order_pk = ?2 AND d.state = 'exported' AND i.transaction_id IS NOT NULL";
    if transaction.prepare_cached(bury)?.execute(params![pk.0, order.0, remake.number])? != 1 {
        return Err(StoreError::State(format!("device {} has no exported package", pk.0)));
    }
    let tenant = audit::order_key(transaction, order)?.tenant;
    match remake.change {
        Some(change) => is_wanted(transaction, change, device)?,
        None => {
            claim_one_time_key(transaction, pk, point)?;
            if remake.renumbered {
                claim_numbers(transaction, &tenant, pk, (device.iccid, device.imsi))?;
            }
        }
    }
    let sql = "UPDATE devices SET eid = ?2, euicc_otpk = ?3, iccid = ?4, imsi = ?5 WHERE pk = ?1";
    let [iccid, imsi] = [device.iccid.map(|n| n.to_string()), device.imsi.map(|n| n.to_string())];
    transaction.prepare_cached(sql)?.execute(params![pk.0, &eid.packed()[..], &point[..], iccid, imsi])?;
    insert_issue(transaction, pk, issue)
}

fn read_remake(row: &Row<'_>) -> rusqlite::Result<Remake> {
    Ok(Remake {
        number: row.get(0)?,
        input: row.get(1)?,
        rows: row.get(2)?,
        other_euicc: row.get(3)?,
        renumbered: row.get(4)?,
        change: row.get::<_, Option<i64>>(5)?.map(OrderPk),
    })
}
