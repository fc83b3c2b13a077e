//! What an epoch is still needed for: the ledger knows, the ceremony only asks.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use jiff::Timestamp;

use crate::ceremony::Helpers;
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::hsm::pkcs11::Token;
use crate::hsm::policy::{KeyPolicy, KeyRule};
use crate::hsm::{FaultClass, HsmError, Role};
use crate::store::sealed::{OP_AAD, TOP_AAD, batch_aad, import_op_aad};
use crate::store::sqlite::Ledger;
use crate::store::{DeviceState, OrderState, Store, StoredOrder};

/// Lends a ceremony the ledger of a site.
pub(super) fn with_helpers<R>(site: &Site, run: impl FnOnce(Helpers<'_>) -> R) -> R {
    let still_needs = |token: &Token, rule: &KeyRule| still_needs(site, token, rule);
    let begun_orders = || begun_orders(site);
    run(Helpers { still_needs: &still_needs, begun_orders: &begun_orders, now: &Timestamp::now })
}

/// Open orders of which a part is bound: their bundle carries one chain.
pub(super) fn begun_orders(site: &Site) -> Result<Vec<String>, Fault> {
    let ledger = Ledger::open(&site.state_db())?;
    let mut begun = Vec::new();
    for order in ledger.orders()?.into_iter().filter(|order| order.state == OrderState::Open) {
        if ledger.counts(order.pk)?.iter().any(|(state, count)| *state == DeviceState::Bound && *count > 0) {
            begun.push(order.key.to_string());
        }
    }
    Ok(begun)
}

/// Orders, and the operator's OP, that only this epoch serves.
fn still_needs(site: &Site, token: &Token, rule: &KeyRule) -> Result<Vec<String>, Fault> {
    match &rule.role {
        Role::SiteKek => sealed_under(site, token, rule),
        Role::Transport(name) => accepted_under(site, rule, &BTreeSet::from([name.as_str()])),
        Role::Operator(name) => {
            let names = site.config.import.iter().filter(|(_, import)| import.key == *name).map(|(n, _)| n.as_str());
            accepted_under(site, rule, &names.collect())
        }
        Role::DpAuth(_) | Role::DpPb(_) | Role::Manifest => begun_orders(site),
        Role::Audit | Role::Import(_) => Ok(Vec::new()),
    }
}

/// What opens with this KEK and no other.
fn sealed_under(site: &Site, token: &Token, rule: &KeyRule) -> Result<Vec<String>, Fault> {
    let kek = token.key_of(&rule.role, rule.epoch)?;
    let opens = |aad: &[u8], sealed: &[u8]| -> Result<bool, HsmError> {
        match token.open_with_only(kek, aad, sealed) {
            Ok(_) => Ok(true),
            Err(error) if error.class == FaultClass::Data => Ok(false),
            Err(error) => Err(error),
        }
    };
    let mut needed_by = Vec::new();
    let own = &site.config.credentials;
    let own = [(&own.op_file, OP_AAD), (&own.top_file, TOP_AAD)];
    let own = own.into_iter().filter_map(|(file, aad)| Some((file.as_ref()?, aad.to_vec())));
    let operators =
        site.config.import.iter().filter_map(|(name, import)| Some((import.op.as_ref()?, import_op_aad(name))));
    for (file, aad) in own.chain(operators) {
        let path = site.path(file);
        let sealed = match std::fs::read(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => continue, // named beforehand, not sealed yet
            read => read.map_err(|e| Fault::file(&path, &e))?,
        };
        if opens(&aad, &sealed)? {
            needed_by.push(format!("the operator's OP ({})", file.display()));
        }
    }
    for order in unfinished_orders(site)? {
        if let Some(sealed) = &order.sealed_batch_key
            && opens(&batch_aad(&order.key), sealed)?
        {
            needed_by.push(format!("order {}", order.key));
        }
    }
    Ok(needed_by)
}

/// Unfinished orders that were accepted while this epoch was the active one of a key that orders call by one of `names`.
fn accepted_under(site: &Site, rule: &KeyRule, names: &BTreeSet<&str>) -> Result<Vec<String>, Fault> {
    let policy = KeyPolicy::load(&site.path(&site.config.hsm.policy))?;
    let targets = site
        .config
        .export
        .core
        .iter()
        .filter(|(_, t)| names.contains(t.transport_key.as_str()))
        .map(|(n, _)| n.as_str());
    let called: Vec<String> = targets
        .map(|target| format!("\"core:{target}\""))
        .chain(names.iter().map(|name| format!("\"{name}\"")))
        .collect();
    let mut needed_by = Vec::new();
    for order in unfinished_orders(site)? {
        let accepted: Timestamp = order.accepted_at.parse().map_err(|e| {
            Fault::new(Exit::IntegrityFailure, format!("{}: accepted_at is no timestamp: {e}", order.key))
        })?;
        let body = String::from_utf8_lossy(&order.body);
        let names_it = called.iter().any(|name| body.contains(name));
        let is_epoch = policy.rule_at(&rule.role, accepted).is_some_and(|used| used.epoch == rule.epoch);
        if names_it && is_epoch {
            needed_by.push(format!("order {}", order.key));
        }
    }
    Ok(needed_by)
}

/// Orders with work left: open ones, and exported ones whose stored profiles wait to be bound.
fn unfinished_orders(site: &Site) -> Result<Vec<StoredOrder>, Fault> {
    let ledger = Ledger::open(&site.state_db())?;
    let mut unfinished = Vec::new();
    for order in ledger.orders()? {
        if order.state == OrderState::Open || !ledger.prepared_devices(order.pk)?.is_empty() {
            unfinished.extend(ledger.find_order(&order.key)?);
        }
    }
    Ok(unfinished)
}
