//! An older ledger is brought up to what the site's own witnesses say: lines of the audit log, sealed bundles of the outbox.
//!
//! Rule: what was issued is claimed again, and an order whose later secrets are lost is over: exported as far as its bundles go,
//! cancelled for the rest, purged. One transaction with its audit line.

use rusqlite::{OptionalExtension, Transaction, params};

use super::claims::one_time_key_x;
use super::purge::shred_in;
use super::{Ledger, audit, find_order, write};
use crate::audit::{Event, Head, Word};
use crate::ids::{Eid, Iccid, Imsi, MatchingId, OrderKey, Tenant};
use crate::store::{DeviceState, OrderPk, OrderState, StoreError};

/// A row of a bundle that the ledger does not know.
#[derive(Clone, Debug)]
pub struct FoundRow {
    /// `line` of the order.
    pub line: u32,
    /// `row` within it.
    pub row: u32,
    /// What became of it.
    pub state: DeviceState,
    /// The eUICC.
    pub eid: Option<Eid>,
    /// Claimed.
    pub iccid: Option<Iccid>,
    /// Claimed within the tenant.
    pub imsi: Option<Imsi>,
    /// Claimed.
    pub matching_id: Option<MatchingId>,
    /// Claimed: spent by the package.
    pub euicc_otpk: Option<[u8; 65]>,
}

/// A sealed bundle that the ledger does not know, as its manifest and its files say.
#[derive(Clone, Debug)]
pub struct FoundBundle {
    /// The order.
    pub key: OrderKey,
    /// SHA-256 of the order file, lower-case hex.
    pub body_sha256: String,
    /// The answer that was given; empty in a bundle without one.
    pub ack: Vec<u8>,
    /// Rows ordered.
    pub rows: u64,
    /// Rows refused at acceptance.
    pub refused: u64,
    /// When it was sealed, RFC 3339.
    pub created: String,
    /// SHA-256 of its manifest.
    pub manifest_sha256: [u8; 32],
    /// Which of the order's bundles of held rows it is.
    pub part: u32,
    /// Which remake it is of.
    pub remake: Option<u32>,
    /// What is kept of the order's text, where the ledger has it.
    pub body: Option<Vec<u8>>,
    /// Its rows.
    pub devices: Vec<FoundRow>,
}

impl Ledger {
    /// Takes over lines of the audit log and bundles that are newer than the ledger. `at`: now, RFC 3339.
    pub fn recover(&self, heads: &[Head], bundles: &[FoundBundle], at: &str) -> Result<(), StoreError> {
        let mut connection = self.lock();
        let transaction = write(&mut connection)?;
        for head in heads {
            let mut insert = transaction.prepare_cached("INSERT INTO audit_heads VALUES (?1, ?2)")?;
            insert.execute(params![head.seq, head.sha256])?;
        }
        for bundle in bundles {
            let order = end_order(&transaction, bundle, at)?;
            let mut next: i64 =
                transaction.query_row("SELECT coalesce(max(pk), 0) + 1 FROM devices", [], |row| row.get(0))?;
            for row in &bundle.devices {
                next = enter_row(&transaction, (order, next), &bundle.key.tenant, row)?;
            }
            if let Some(number) = bundle.remake {
                let sql = "INSERT OR IGNORE INTO remakes (order_pk, number, input, rows, other_euicc) VALUES (?1, ?2, ?3, ?4, 0)";
                let rows = bundle.devices.len() as u64;
                transaction.execute(sql, params![order.0, number, bundle.manifest_sha256, rows])?;
            }
        }
        let event = Event::new(Word::LedgerRecovered).number("lines", heads.len() as u64);
        audit::commit(transaction, &self.log, &event.number("bundles", bundles.len() as u64)).map(drop)
    }
}

/// The order's row: the one that is there, its secrets erased, or a new one; exported and purged either way.
fn end_order(transaction: &Transaction<'_>, bundle: &FoundBundle, at: &str) -> Result<OrderPk, StoreError> {
    let FoundBundle { key, body_sha256, ack, rows, refused, created, part, body, .. } = bundle;
    if let Some(known) = find_order(transaction, key)? {
        if known.state != OrderState::Purged {
            shred_in(transaction, known.pk, body.as_deref().unwrap_or(b"{}"), at)?;
        }
        let sql = "UPDATE orders SET state = 'exported', sealing = 0, part = max(part, ?2) WHERE pk = ?1";
        transaction.execute(sql, params![known.pk.0, part])?;
        return Ok(known.pk);
    }
    let pk: i64 = transaction.query_row("SELECT coalesce(max(pk), 0) + 1 FROM orders", [], |row| row.get(0))?;
    transaction.execute(
        "INSERT INTO orders (pk, tenant, order_id, rev, body_sha256, body, ack, templates, state, rows, refused, accepted_at, purged_at,
                             part)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, '{}', 'exported', ?8, ?9, ?10, ?11, ?12)",
        params![pk, key.tenant.as_str(), key.order_id.as_str(), key.rev, body_sha256, b"{}", ack, rows, refused, created, at, part],
    )?;
    Ok(OrderPk(pk))
}

/// Claims a row's numbers and key for the device that has its ICCID, or for a new one; gives the next free device.
fn enter_row(
    transaction: &Transaction<'_>,
    (order, next): (OrderPk, i64),
    tenant: &Tenant,
    found: &FoundRow,
) -> Result<i64, StoreError> {
    let FoundRow { line, row, state, eid, iccid, imsi, matching_id, euicc_otpk } = found;
    let eid = eid.as_ref().map(|eid| eid.packed().to_vec());
    let point = euicc_otpk.as_ref().map(|point| point.to_vec());
    let known: Option<i64> = match iccid {
        Some(iccid) => transaction
            .prepare_cached("SELECT device FROM iccids WHERE iccid = ?1")?
            .query_row([iccid.as_str()], |row| row.get(0))
            .optional()?,
        None => None,
    };
    let issued = *state == DeviceState::Exported;
    let device = known.unwrap_or(next);
    if known.is_some() {
        let sql =
            "UPDATE devices SET state = 'exported', eid = coalesce(?2, eid), euicc_otpk = coalesce(?3, euicc_otpk)
             WHERE pk = ?1 AND ?4";
        transaction.prepare_cached(sql)?.execute(params![device, eid, point, issued])?;
    } else {
        let state = match state {
            DeviceState::Exported | DeviceState::Rejected | DeviceState::Failed | DeviceState::Revoked => *state,
            // What waited when the bundle was sealed waits for nothing any more.
            _ => DeviceState::Cancelled,
        };
        let sql = "INSERT INTO devices (pk, order_pk, line, row, state, eid, iccid, imsi, matching_id, euicc_otpk)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        let (iccid, imsi) = (iccid.as_ref().map(|n| n.as_str()), imsi.as_ref().map(|n| n.as_str()));
        let id = matching_id.as_ref().map(|id| id.as_str());
        transaction.prepare_cached(sql)?.execute(params![
            device,
            order.0,
            line,
            row,
            state.as_str(),
            eid,
            iccid,
            imsi,
            id,
            point
        ])?;
    }
    if let Some(iccid) = iccid {
        claim(transaction, "INSERT OR IGNORE INTO iccids VALUES (?1, ?2)", params![iccid.as_str(), device])?;
    }
    if let Some(imsi) = imsi {
        let values = params![tenant.as_str(), imsi.as_str(), device];
        claim(transaction, "INSERT OR IGNORE INTO imsis VALUES (?1, ?2, ?3)", values)?;
    }
    if let Some(id) = matching_id {
        claim(transaction, "INSERT OR IGNORE INTO matching_ids VALUES (?1, ?2)", params![id.as_str(), device])?;
    }
    if let Some(point) = euicc_otpk {
        let values = params![one_time_key_x(point), device];
        claim(transaction, "INSERT OR IGNORE INTO one_time_keys VALUES (?1, ?2)", values)?;
    }
    Ok(next + i64::from(known.is_none()))
}

/// What is claimed already stays its device's.
fn claim(transaction: &Transaction<'_>, sql: &str, values: impl rusqlite::Params) -> Result<(), StoreError> {
    transaction.prepare_cached(sql)?.execute(values)?;
    Ok(())
}
