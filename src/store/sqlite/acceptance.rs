//! The one transaction in which an order is accepted: order, devices, numbers, one-time keys, the answer.
//!
//! Numbers come ascending and are claimed row by row, at the end of their tables. One-time keys are random: a million of them claimed
//! as they come would write a page of the log each. They wait in a temporary table and are claimed together, sorted, before the commit.

use std::collections::BTreeMap;
use std::sync::MutexGuard;

use rusqlite::{Connection, params};

use super::claims::{Claimed, one_time_key_x};
use super::states::{self, Change};
use super::{audit, changes};
use crate::audit::{Event, Log, Word};
use crate::error::ErrorClass;
use crate::ids::{OrderKey, Tenant};
use crate::store::{ChangeKind, Goal, NewDevice, OrderChange, OrderPk, Refusal, StoreError, StoredOrder};

/// A streaming acceptance. Dropped without [`Acceptance::commit`], nothing of it remains.
pub struct Acceptance<'l> {
    connection: MutexGuard<'l, Connection>,
    log: &'l Log,
    order: OrderPk,
    next_device: i64,
    /// What it does to another order.
    effect: Option<Event>,
    open: bool,
}

/// What is known of an order only when all its rows were seen.
#[derive(Debug)]
pub struct AcceptedOrder<'a> {
    /// Its key.
    pub key: &'a OrderKey,
    /// SHA-256 of the order file, lower-case hex.
    pub body_sha256: &'a str,
    /// The order, but for confirmation codes, which are kept as their SHA-256.
    pub body: &'a [u8],
    /// SHA-256 (hex) of the template of each order line.
    pub templates: &'a BTreeMap<u32, String>,
    /// `ack.json`, given again whenever the order comes again.
    pub ack: &'a [u8],
    /// Rows ordered, refused ones included.
    pub rows: u64,
    /// Rows refused.
    pub refused: u64,
    /// RFC 3339, UTC.
    pub accepted_at: &'a str,
    /// Which order it changes, and how; none for orders of profiles.
    pub change: Option<OrderChange>,
}

impl<'l> Acceptance<'l> {
    /// `BEGIN IMMEDIATE`: from here on nobody else claims anything.
    pub(super) fn begin(connection: MutexGuard<'l, Connection>, log: &'l Log) -> Result<Self, StoreError> {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        // From here on whatever fails is rolled back.
        let mut acceptance = Self { connection, log, order: OrderPk(0), next_device: 0, effect: None, open: true };
        let waiting = "CREATE TEMP TABLE new_one_time_keys (x BLOB NOT NULL, device INTEGER NOT NULL) STRICT";
        acceptance.connection.execute_batch(waiting)?;
        acceptance.order = OrderPk(acceptance.first_free("SELECT coalesce(max(pk), 0) + 1 FROM orders")?);
        acceptance.next_device = acceptance.first_free("SELECT coalesce(max(pk), 0) + 1 FROM devices")?;
        Ok(acceptance)
    }

    /// The order of this key, if it was accepted before.
    pub fn find_order(&self, key: &OrderKey) -> Result<Option<StoredOrder>, StoreError> {
        super::find_order(&self.connection, key)
    }

    /// What is claimed, this transaction's own claims included but for its one-time keys.
    pub fn claimed(&self) -> Claimed<'_> {
        Claimed::new(&self.connection)
    }

    /// Adds a device line and claims its numbers, unless it is a rejected one. On [`StoreError::Taken`] nothing of the
    /// line remains.
    pub fn add_device(&mut self, tenant: &Tenant, device: &NewDevice) -> Result<(), StoreError> {
        let pk = self.next_device;
        self.insert_device(pk, device)?;
        if device.rejected.is_none() {
            let claimed = self.claim(pk, tenant, device);
            if let Err(StoreError::Taken { .. }) = claimed {
                self.release(pk, tenant, device)?;
            }
            claimed?;
        }
        self.next_device += 1;
        Ok(())
    }

    /// Cancels what of another order is not started; with this acceptance or not at all. `lines`: those of these numbers; empty: all.
    pub fn cancel(&mut self, target: OrderPk, idle: bool, lines: &[u32]) -> Result<Change, StoreError> {
        let (change, event) = states::cancel_in(&self.connection, target, idle, lines)?;
        self.effect = event;
        Ok(change)
    }

    /// Claims the keys and numbers of a remake for the devices they are meant for, and keeps what is to be made.
    pub fn want(&mut self, tenant: &Tenant, goals: &[Goal]) -> Result<(), StoreError> {
        goals.iter().try_for_each(|goal| changes::want(&self.connection, self.order, tenant, goal))
    }

    /// Orders of this name that were accepted, but for those of kind cancel and remake: the newest below this revision.
    pub fn changed_by(&self, key: &OrderKey) -> Result<Option<StoredOrder>, StoreError> {
        changes::target(&self.connection, key)
    }

    fn insert_device(&self, pk: i64, device: &NewDevice) -> Result<(), StoreError> {
        let state = if device.rejected.is_some() { "rejected" } else { "accepted" };
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO devices (pk, order_pk, line, row, state, eid, iccid, imsi, msisdn, matching_id, euicc_otpk,
             error_class, vars, ki_wrapped, opc_wrapped)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?;
        let wrapped = device.wrapped.as_ref().filter(|_| device.rejected.is_none());
        insert.execute(params![
            pk,
            self.order.0,
            device.line,
            device.row,
            state,
            device.eid.as_ref().map(|eid| &eid.packed()[..]),
            device.iccid.as_ref().filter(|_| device.rejected.is_none()).map(|n| n.as_str()),
            device.imsi.as_ref().filter(|_| device.rejected.is_none()).map(|n| n.as_str()),
            device.msisdn,
            device.matching_id.as_ref().filter(|_| device.rejected.is_none()).map(|id| id.as_str()),
            device.euicc_otpk.as_ref().filter(|_| device.rejected.is_none()).map(|point| &point[..]),
            device.rejected.map(ErrorClass::as_str),
            vars_text(device),
            wrapped.map(|wrapped| &wrapped.ki),
            wrapped.and_then(|wrapped| wrapped.opc.as_ref()),
        ])?;
        Ok(())
    }

    /// Keeps one line of `rejects.csv`.
    pub fn keep_refusal(&mut self, refusal: &Refusal) -> Result<(), StoreError> {
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO refusals (order_pk, line, row, \"column\", value, code, message, hint)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        let Refusal { line, row, column, value, code, message, hint } = refusal;
        insert.execute(params![self.order.0, line, row, column, value, code, message, hint])?;
        Ok(())
    }

    /// Adds the order itself, writes its audit line and makes everything durable.
    pub fn commit(mut self, order: &AcceptedOrder<'_>) -> Result<OrderPk, StoreError> {
        self.claim_one_time_keys()?;
        let key = order.key;
        self.connection.execute(
            "INSERT INTO orders (pk, tenant, order_id, rev, body_sha256, body, ack, state, rows, refused, accepted_at,
             templates, change, target) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?14, ?8, ?9, ?10, ?11, ?12, ?13)",
            params![
                self.order.0,
                key.tenant.as_str(),
                key.order_id.as_str(),
                key.rev,
                order.body_sha256,
                order.body,
                order.ack,
                order.rows,
                order.refused,
                order.accepted_at,
                serde_json::json!(order.templates).to_string(),
                order.change.map(|change| change.kind.as_str()),
                order.change.map(|change| change.target.0),
                // A cancellation is carried out by being accepted.
                if order.change.is_some_and(|change| change.kind == ChangeKind::Cancel) { "exported" } else { "open" },
            ],
        )?;
        let event = Event::new(Word::OrderAccepted).order(key).name("body_sha256", order.body_sha256);
        let event = event.number("rows", order.rows).number("refused", order.refused);
        let event = match order.change {
            Some(change) => event.name("kind", change.kind.as_str()),
            None => event,
        };
        // One line a transaction: a second one would say that the first was committed. What was done to the other order is the more
        // telling one, and it names whose doing it was.
        let effect = self.effect.take();
        let effect = effect.map(|event| event.name("by", key.to_string()).name("body_sha256", order.body_sha256));
        audit::write_line(&self.connection, self.log, &effect.unwrap_or(event))?;
        self.connection.execute_batch("COMMIT")?;
        self.open = false;
        Ok(self.order)
    }

    fn claim(&self, pk: i64, tenant: &Tenant, device: &NewDevice) -> Result<(), StoreError> {
        let taken = |column, value| StoreError::Taken { column, value, row: Some(device.row) };
        if let Some(iccid) = &device.iccid
            && !self.insert("INSERT OR IGNORE INTO iccids VALUES (?1, ?2)", params![iccid.as_str(), pk])?
        {
            return Err(taken("iccid", iccid.masked()));
        }
        if let Some(imsi) = &device.imsi {
            let sql = "INSERT OR IGNORE INTO imsis VALUES (?1, ?2, ?3)";
            if !self.insert(sql, params![tenant.as_str(), imsi.as_str(), pk])? {
                return Err(taken("imsi", imsi.masked()));
            }
        }
        if let Some(id) = &device.matching_id
            && !self.insert("INSERT OR IGNORE INTO matching_ids VALUES (?1, ?2)", params![id.as_str(), pk])?
        {
            return Err(taken("matching_id", id.masked()));
        }
        if let Some(point) = &device.euicc_otpk {
            if self.claimed().one_time_key(point)? {
                return Err(taken("euicc_otpk", String::new()));
            }
            self.insert("INSERT INTO new_one_time_keys VALUES (?1, ?2)", params![one_time_key_x(point), pk])?;
        }
        Ok(())
    }

    /// Claims the keys that wait. The order's own rows have different keys, or the key table that gave them out is wrong: the whole
    /// order is refused then.
    fn claim_one_time_keys(&self) -> Result<(), StoreError> {
        let sql = "INSERT OR IGNORE INTO one_time_keys SELECT x, device FROM new_one_time_keys ORDER BY x";
        let claimed = self.connection.execute(sql, [])?;
        let waiting: usize =
            self.connection.query_row("SELECT count(*) FROM new_one_time_keys", [], |row| row.get(0))?;
        if claimed != waiting {
            return Err(StoreError::Taken { column: "euicc_otpk", value: String::new(), row: None });
        }
        self.connection.execute_batch("DROP TABLE new_one_time_keys")?;
        Ok(())
    }

    /// Takes back the device and what [`Self::claim`] inserted for it before it met a number that is taken.
    fn release(&self, pk: i64, tenant: &Tenant, device: &NewDevice) -> Result<(), StoreError> {
        if let Some(iccid) = &device.iccid {
            self.insert("DELETE FROM iccids WHERE iccid = ?1 AND device = ?2", params![iccid.as_str(), pk])?;
        }
        if let Some(imsi) = &device.imsi {
            let sql = "DELETE FROM imsis WHERE tenant = ?1 AND imsi = ?2 AND device = ?3";
            self.insert(sql, params![tenant.as_str(), imsi.as_str(), pk])?;
        }
        if let Some(id) = &device.matching_id {
            self.insert("DELETE FROM matching_ids WHERE matching_id = ?1 AND device = ?2", params![id.as_str(), pk])?;
        }
        self.insert("DELETE FROM devices WHERE pk = ?1", params![pk])?;
        Ok(())
    }

    /// Runs one statement; true when it changed a row.
    fn insert(&self, sql: &str, params: impl rusqlite::Params) -> Result<bool, StoreError> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)? == 1)
    }

    fn first_free(&self, sql: &str) -> Result<i64, StoreError> {
        Ok(self.connection.query_row(sql, [], |row| row.get(0))?)
    }
}

/// A JSON object; none for a device without values of its own, which is the rule.
fn vars_text(device: &NewDevice) -> Option<String> {
    let vars = Some(&device.vars).filter(|vars| !vars.is_empty() && device.rejected.is_none())?;
    Some(vars.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<serde_json::Value>().to_string())
}

impl Drop for Acceptance<'_> {
    fn drop(&mut self) {
        if self.open {
            // A connection that cannot roll back is broken; SQLite rolls back when it is opened again.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }
}
