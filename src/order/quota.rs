//! Who may order, and how much: judged inside the acceptance's transaction, so that two orders at once do not pass together what
//! only one of them may have.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::file::Order;
use crate::store::sqlite::Claimed;
use crate::store::{Refusal, StoreError};

/// The tenants of a site.
#[derive(Clone, Debug, Default)]
pub struct Tenants {
    /// Their quotas, by name.
    pub quotas: BTreeMap<String, Quota>,
    /// Others are refused; a demo site takes any tenant.
    pub only_these: bool,
}

/// Rows that a tenant may order; none: as many as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Of one order.
    pub rows_per_order: Option<u64>,
    /// Of all orders accepted on one day, UTC.
    pub rows_per_day: Option<u64>,
    /// Accepted and neither exported nor ended.
    pub open_rows: Option<u64>,
}

/// What the quotas say of an order. Every row of it counts, also those that will be refused: they are known only later.
pub(super) fn judge(
    order: &Order,
    tenants: &Tenants,
    claimed: Claimed<'_>,
    now: Timestamp,
) -> Result<Vec<Refusal>, StoreError> {
    let tenant = &order.key.tenant;
    let refusal = |column: &str, value: String, code, message: String, hint: &str| Refusal {
        line: 0,
        row: 0,
        column: column.to_owned(),
        value,
        code,
        message,
        hint: hint.to_owned(),
    };
    let Some(quota) = tenants.quotas.get(tenant.as_str()) else {
        let unknown = refusal(
            "tenant",
            tenant.to_string(),
            "unknown-tenant",
            "is no tenant of this site".to_owned(),
            "set it up in bindery.toml, [tenant.NAME], or correct the name",
        );
        return Ok(tenants.only_these.then_some(unknown).into_iter().collect());
    };
    let rows = order.quantity();
    let mut refused = Vec::new();
    let mut hold_against = |most: Option<u64>, has: u64, code, what: &str, hint: &str| {
        if let Some(most) = most.filter(|most| has + rows > *most) {
            let message = format!("is too many rows: the tenant may have {most} {what} and has {has}");
            refused.push(refusal("quantity", rows.to_string(), code, message, hint));
        }
    };
    hold_against(quota.rows_per_order, 0, "quota-order", "in one order", "make several orders of it");
    if quota.rows_per_day.is_some() {
        let day = now.strftime("%Y-%m-%d").to_string();
        let has = claimed.rows_on(tenant, &day)?;
        hold_against(quota.rows_per_day, has, "quota-day", "a day (UTC)", "send it again tomorrow, or fewer rows");
    }
    if quota.open_rows.is_some() {
        let has = claimed.open_rows(tenant)?;
        hold_against(
            quota.open_rows,
            has,
            "quota-open",
            "unfinished",
            "send it again when earlier orders are exported",
        );
    }
    Ok(refused)
}
