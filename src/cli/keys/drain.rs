//! What an epoch is still needed for: the ledger knows, the ceremony only asks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use jiff::Timestamp;
use serde_json::Value;

use crate::ceremony::Helpers;
use crate::config::{CoreTarget, Site};
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
    let mut needed_by = Vec::new();
    for order in unfinished_orders(site)? {
        let accepted: Timestamp = order.accepted_at.parse().map_err(|e| {
            Fault::new(Exit::IntegrityFailure, format!("{}: accepted_at is no timestamp: {e}", order.key))
        })?;
        let body: Value = serde_json::from_slice(&order.body).map_err(|e| {
            Fault::new(Exit::IntegrityFailure, format!("{}: the stored order is no JSON: {e}", order.key))
        })?;
        let names_it = body["lines"]
            .as_array()
            .is_some_and(|lines| lines.iter().any(|line| calls(&site.config.export.core, line, names)));
        // Of an epoch that is gone already nothing keeps this one.
        let used = policy.rule_at(&rule.role, accepted).ok().flatten();
        if names_it && used.is_some_and(|used| used.epoch == rule.epoch) {
            needed_by.push(format!("order {}", order.key));
        }
    }
    Ok(needed_by)
}

/// Whether a line asks for a key by one of these names: itself, or through the core network that gets its K and OPc, which is the
/// site's only one where it names none.
fn calls(targets: &BTreeMap<String, CoreTarget>, line: &Value, names: &BTreeSet<&str>) -> bool {
    let exports = line["export"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut named = exports.filter_map(|export| export.strip_prefix("core:")).peekable();
    let only = if named.peek().is_none() && targets.len() == 1 { targets.values().next() } else { None };
    let through = named.filter_map(|name| targets.get(name)).chain(only).map(|target| target.transport_key.as_str());
    through.chain(line["transport_key"].as_str()).any(|key| names.contains(key))
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_calls_its_key_itself_or_through_its_core_network_or_the_only_one() {
        let targets = toml::from_str("[demo]\ntransport_key = \"core-demo\"\nscheme = \"aes-ecb\"\n").unwrap();
        let calls = |line: Value, name: &str| calls(&targets, &line, &BTreeSet::from([name]));
        for (line, own, demo) in [
            (json!({ "transport_key": "acme", "export": ["core:demo"] }), true, true),
            (json!({ "export": ["eim:demo", "core:demo"] }), false, true),
            (json!({ "export": ["eim:demo"] }), false, true),
            (json!({}), false, true),
            (json!({ "export": ["core:elsewhere"] }), false, false),
        ] {
            assert_eq!((calls(line.clone(), "acme"), calls(line.clone(), "core-demo")), (own, demo), "{line}");
        }
    }
}
