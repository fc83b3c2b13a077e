//! Orders that change others: which one they mean, what an accepted remake is to bring about, and its claims.
//!
//! Rule: the one-time keys and numbers of a remake are claimed in the transaction that accepts it, each for the device it is meant
//! for. Who makes the profiles later finds them claimed, and by nobody else.

use std::collections::HashSet;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::claims::claim_one_time_key;
use super::{Ledger, ORDER_COLUMNS, one_time_key_x, parsed, read_order};
use crate::ids::{Eid, Iccid, Imsi, OrderKey, Tenant};
use crate::store::{ChangeKind, Device, DevicePk, Goal, NewNumbers, OrderChange, OrderPk, StoreError, StoredOrder};

impl Ledger {
    /// The order that a cancellation or remake of this key means: of the same tenant and order id, no such change itself, and of these the
    /// one with the highest revision below its own.
    pub fn changed_by(&self, key: &OrderKey) -> Result<Option<StoredOrder>, StoreError> {
        target(&self.lock(), key)
    }

    /// One order by its row.
    pub fn order(&self, order: OrderPk) -> Result<Option<StoredOrder>, StoreError> {
        let sql = format!("SELECT {ORDER_COLUMNS} FROM orders WHERE pk = ?1");
        Ok(self.lock().prepare_cached(&sql)?.query_row([order.0], read_order).optional()?)
    }

    /// Remakes that were accepted and wait for a run, oldest first.
    pub fn due_remakes(&self) -> Result<Vec<StoredOrder>, StoreError> {
        let sql = format!(
            "SELECT {ORDER_COLUMNS} FROM orders WHERE change = 'remake' AND state = 'open' AND purged_at IS NULL ORDER BY pk"
        );
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&sql)?;
        Ok(statement.query_map([], read_order)?.collect::<Result<_, _>>()?)
    }

    /// What an accepted remake is to bring about, in the order of its devices.
    pub fn goals(&self, change: OrderPk) -> Result<Vec<Goal>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT device, eid, euicc_otpk, iccid, imsi FROM goals WHERE change_pk = ?1 ORDER BY device",
        )?;
        Ok(statement.query_map([change.0], read_goal)?.collect::<Result<_, _>>()?)
    }

    /// Devices of an order that an accepted remake waits to make again.
    pub fn devices_to_remake(&self, target: OrderPk) -> Result<HashSet<DevicePk>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT g.device FROM orders o JOIN goals g ON g.change_pk = o.pk
             WHERE o.target = ?1 AND o.state = 'open' AND o.purged_at IS NULL",
        )?;
        Ok(statement.query_map([target.0], |row| Ok(DevicePk(row.get(0)?)))?.collect::<Result<_, _>>()?)
    }

    /// The device that has, or had before a remake, this ICCID.
    pub fn device_of_iccid(&self, iccid: &Iccid) -> Result<Option<DevicePk>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT device FROM iccids WHERE iccid = ?1")?;
        Ok(statement.query_row([iccid.as_str()], |row| Ok(DevicePk(row.get(0)?))).optional()?)
    }
}

/// See [`Ledger::changed_by`].
pub(super) fn target(connection: &Connection, key: &OrderKey) -> Result<Option<StoredOrder>, StoreError> {
    let sql = format!(
        "SELECT {ORDER_COLUMNS} FROM orders WHERE tenant = ?1 AND order_id = ?2 AND rev < ?3 AND target IS NULL
         ORDER BY rev DESC LIMIT 1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row(params![key.tenant.as_str(), key.order_id.as_str(), key.rev], read_order).optional()?)
}

/// Claims what a goal takes, and keeps it.
pub(super) fn want(connection: &Connection, change: OrderPk, tenant: &Tenant, goal: &Goal) -> Result<(), StoreError> {
    let Goal { device, eid, euicc_otpk, numbers } = goal;
    claim_one_time_key(connection, *device, euicc_otpk)?;
    let (iccid, imsi) = numbers.map_or((None, None), |numbers| (Some(numbers.iccid), numbers.imsi));
    claim_numbers(connection, tenant, *device, (iccid, imsi))?;
    let sql = "INSERT INTO goals (change_pk, device, eid, euicc_otpk, iccid, imsi) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let [iccid, imsi] = [iccid.map(|n| n.to_string()), imsi.map(|n| n.to_string())];
    connection.prepare_cached(sql)?.execute(params![
        change.0,
        device.0,
        &eid.packed()[..],
        &euicc_otpk[..],
        iccid,
        imsi
    ])?;
    Ok(())
}

/// Claims new numbers for a device that keeps the claims of its old ones.
pub(super) fn claim_numbers(
    connection: &Connection,
    tenant: &Tenant,
    device: DevicePk,
    (iccid, imsi): (Option<Iccid>, Option<Imsi>),
) -> Result<(), StoreError> {
    if let Some(iccid) = iccid {
        let sql = "INSERT OR IGNORE INTO iccids VALUES (?1, ?2)";
        if connection.prepare_cached(sql)?.execute(params![iccid.as_str(), device.0])? == 0 {
            return Err(StoreError::Taken { column: "iccid", value: iccid.masked(), row: None });
        }
    }
    if let Some(imsi) = imsi {
        let sql = "INSERT OR IGNORE INTO imsis VALUES (?1, ?2, ?3)";
        if connection.prepare_cached(sql)?.execute(params![tenant.as_str(), imsi.as_str(), device.0])? == 0 {
            return Err(StoreError::Taken { column: "imsi", value: imsi.masked(), row: None });
        }
    }
    Ok(())
}

/// The key and the numbers with which a device was made again are those that were claimed for it.
pub(super) fn is_wanted(connection: &Connection, change: OrderPk, made: &Device) -> Result<(), StoreError> {
    let sql = "SELECT device, eid, euicc_otpk, iccid, imsi FROM goals WHERE change_pk = ?1 AND device = ?2";
    let goal = connection.prepare_cached(sql)?.query_row(params![change.0, made.pk.0], read_goal).optional()?;
    let claimed = match &made.euicc_otpk {
        Some(point) => {
            let sql = "SELECT device FROM one_time_keys WHERE x = ?1";
            let mut statement = connection.prepare_cached(sql)?;
            statement.query_row([one_time_key_x(point)], |row| row.get::<_, i64>(0)).optional()?
        }
        None => None,
    };
    let is_same = goal.is_some_and(|goal| {
        let numbers = goal.numbers.is_none_or(|numbers| Some(numbers.iccid) == made.iccid && numbers.imsi == made.imsi);
        Some(goal.eid) == made.eid && Some(goal.euicc_otpk) == made.euicc_otpk && numbers
    });
    if is_same && claimed == Some(made.pk.0) {
        return Ok(());
    }
    Err(StoreError::State(format!("device {} was made again otherwise than it was accepted", made.pk.0)))
}

/// Kind and target from two columns on.
pub(super) fn read_change(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<OrderChange>> {
    let (Some(word), Some(target)) = (row.get::<_, Option<String>>(at)?, row.get::<_, Option<i64>>(at + 1)?) else {
        return Ok(None);
    };
    let kind =
        ChangeKind::from_word(&word).ok_or_else(|| rusqlite::Error::InvalidColumnType(at, word.clone(), Type::Text))?;
    Ok(Some(OrderChange { kind, target: OrderPk(target) }))
}

fn read_goal(row: &Row<'_>) -> rusqlite::Result<Goal> {
    let number = |at: usize| row.get::<_, Option<String>>(at).map(|text| text.is_some());
    let imsi = if number(4)? { Some(parsed(row, 4)?) } else { None };
    let numbers = if number(3)? { Some(NewNumbers { iccid: parsed(row, 3)?, imsi }) } else { None };
    let eid: [u8; 16] = row.get(1)?;
    Ok(Goal {
        device: DevicePk(row.get(0)?),
        eid: Eid::from_packed(&eid).map_err(|e| super::damaged_column(1, e))?,
        euicc_otpk: row.get(2)?,
        numbers,
    })
}
