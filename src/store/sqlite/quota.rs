//! What a tenant has in the house: for the quotas that are judged at acceptance, inside its transaction.

use rusqlite::params;

use super::claims::Claimed;
use crate::ids::Tenant;
use crate::store::StoreError;

impl Claimed<'_> {
    /// Rows of the tenant that were accepted and are neither exported nor ended.
    pub fn open_rows(&self, tenant: &Tenant) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM orders o JOIN device_states d ON d.order_pk = o.pk
             WHERE o.tenant = ?1 AND o.state = 'open' AND o.purged_at IS NULL
             AND d.state IN ('accepted', 'held', 'prepared', 'bound')";
        Ok(self.connection().prepare_cached(sql)?.query_row([tenant.as_str()], |row| row.get(0))?)
    }

    /// Rows of the tenant that were accepted on this day, `YYYY-MM-DD` in UTC.
    pub fn rows_on(&self, tenant: &Tenant, day: &str) -> Result<u64, StoreError> {
        let sql = "SELECT coalesce(sum(rows - refused), 0) FROM orders WHERE tenant = ?1 AND target IS NULL AND substr(accepted_at, 1, 10) = ?2";
        Ok(self.connection().prepare_cached(sql)?.query_row(params![tenant.as_str(), day], |row| row.get(0))?)
    }
}
