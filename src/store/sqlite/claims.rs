//! What is claimed: ICCIDs, matching ids and one-time keys for ever, IMSIs for ever within their tenant; and how matching ids and
//! one-time keys are.

use rusqlite::{Connection, OptionalExtension, params};

use crate::ids::{Iccid, Imsi, MatchingId, Tenant};
use crate::store::{DevicePk, Outcome, StoreError};

/// A view of the claims, inside or outside a transaction.
#[derive(Clone, Copy)]
pub struct Claimed<'c>(&'c Connection);

impl<'c> Claimed<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self(connection)
    }

    pub(super) fn connection(&self) -> &'c Connection {
        self.0
    }

    /// Is this ICCID some device's?
    pub fn iccid(&self, iccid: &Iccid) -> Result<bool, StoreError> {
        self.exists("SELECT 1 FROM iccids WHERE iccid = ?1", params![iccid.as_str()])
    }

    /// Is this IMSI some device's of this tenant?
    pub fn imsi(&self, tenant: &Tenant, imsi: &Imsi) -> Result<bool, StoreError> {
        self.exists("SELECT 1 FROM imsis WHERE tenant = ?1 AND imsi = ?2", params![tenant.as_str(), imsi.as_str()])
    }

    /// Was this matching id given out?
    pub fn matching_id(&self, id: &MatchingId) -> Result<bool, StoreError> {
        self.exists("SELECT 1 FROM matching_ids WHERE matching_id = ?1", params![id.as_str()])
    }

    /// Is a profile bound to this one-time key?
    pub fn one_time_key(&self, point: &[u8; 65]) -> Result<bool, StoreError> {
        self.exists("SELECT 1 FROM one_time_keys WHERE x = ?1", params![one_time_key_x(point)])
    }

    /// Calls `found` with every claimed ICCID between `first` and `last`, both included.
    ///
    /// Numbers of one length compare like their texts: the check digit is last and decides nothing between two bodies.
    pub fn iccids_between(&self, first: &Iccid, last: &Iccid, mut found: impl FnMut(Iccid)) -> Result<(), StoreError> {
        let sql = "SELECT iccid FROM iccids WHERE iccid BETWEEN ?1 AND ?2 AND length(iccid) = length(?1)";
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows = statement.query(params![first.as_str(), last.as_str()])?;
        while let Some(row) = rows.next()? {
            found(super::parsed(row, 0)?);
        }
        Ok(())
    }

    /// Calls `found` with every claimed IMSI of the tenant between `first` and `last`, both included.
    pub fn imsis_between(
        &self,
        tenant: &Tenant,
        first: &Imsi,
        last: &Imsi,
        mut found: impl FnMut(Imsi),
    ) -> Result<(), StoreError> {
        let sql = "SELECT imsi FROM imsis WHERE tenant = ?1 AND imsi BETWEEN ?2 AND ?3 AND length(imsi) = length(?2)";
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows = statement.query(params![tenant.as_str(), first.as_str(), last.as_str()])?;
        while let Some(row) = rows.next()? {
            found(super::parsed(row, 0)?);
        }
        Ok(())
    }

    fn exists(&self, sql: &str, params: impl rusqlite::Params) -> Result<bool, StoreError> {
        Ok(self.0.prepare_cached(sql)?.query_row(params, |_| Ok(())).optional()?.is_some())
    }
}

/// Claims the matching ids of a chunk in their own order: neighbours lie on one page, which is then read and written once, while the
/// claims of a big ledger are many times what its cache holds.
pub(super) fn claim_matching_ids(connection: &Connection, outcomes: &[(DevicePk, Outcome)]) -> Result<(), StoreError> {
    let issued = outcomes.iter().filter_map(|(device, outcome)| match outcome {
        Outcome::Issued { issue, .. } => Some((issue.matching_id.as_str(), *device)),
        Outcome::Failed { .. } => None,
    });
    let mut issued: Vec<_> = issued.collect();
    issued.sort_unstable();
    issued.into_iter().try_for_each(|(matching_id, device)| claim_matching_id(connection, device, matching_id))
}

/// Claims a matching id unless this device has it already.
pub(super) fn claim_matching_id(
    connection: &Connection,
    device: DevicePk,
    matching_id: &str,
) -> Result<(), StoreError> {
    let claim = "INSERT INTO matching_ids VALUES (?1, ?2)
         ON CONFLICT (matching_id) DO UPDATE SET device = device WHERE device = excluded.device";
    if connection.prepare_cached(claim)?.execute(params![matching_id, device.0])? == 0 {
        return Err(StoreError::Taken { column: "matching_id", value: String::new(), row: None });
    }
    Ok(())
}

/// Claims a one-time key, which nobody may have claimed before.
pub(super) fn claim_one_time_key(
    connection: &Connection,
    device: DevicePk,
    point: &[u8; 65],
) -> Result<(), StoreError> {
    let claim = "INSERT OR IGNORE INTO one_time_keys VALUES (?1, ?2)";
    if connection.prepare_cached(claim)?.execute(params![one_time_key_x(point), device.0])? == 0 {
        return Err(StoreError::Taken { column: "euicc_otpk", value: String::new(), row: None });
    }
    Ok(())
}

/// What makes a one-time key one: its x coordinate. A point and its negative share it and lead to the same shared secret.
pub fn one_time_key_x(point: &[u8; 65]) -> [u8; 32] {
    std::array::from_fn(|i| point[i + 1])
}
