//! What an epoch is still needed for: the ledger knows, the ceremony only asks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use jiff::Timestamp;
use serde_json::Value;

use crate::ceremony::{self, Helpers, Need};
use crate::config::{CoreTarget, Site};
use crate::error::{Exit, Fault};
use crate::hsm::pkcs11::Token;
use crate::hsm::policy::{KeyPolicy, KeyRule};
use crate::hsm::{FaultClass, HsmError, KeyRef, Role};
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
fn still_needs(site: &Site, token: &Token, rule: &KeyRule) -> Result<Vec<Need>, Fault> {
    let unfinished = |orders: Vec<String>| orders.into_iter().map(|what| Need { what, remedy: FINISH }).collect();
    match &rule.role {
        Role::SiteKek => sealed_under(site, token, rule),
        Role::Transport(name) => accepted_under(site, rule, &BTreeSet::from([name.as_str()])).map(unfinished),
        Role::Operator(name) => {
            let names = site.config.import.iter().filter(|(_, import)| import.key == *name).map(|(n, _)| n.as_str());
            accepted_under(site, rule, &names.collect()).map(unfinished)
        }
        Role::DpAuth(_) | Role::DpPb(_) | Role::Manifest => begun_orders(site).map(unfinished),
        Role::Audit | Role::Import(_) => Ok(Vec::new()),
    }
}

/// What is sealed under this KEK alone: each thing has to open with another epoch in use before this one goes. What opens with none
/// is exit 8: nobody can say that it needs nothing.
fn sealed_under(site: &Site, token: &Token, rule: &KeyRule) -> Result<Vec<Need>, Fault> {
    let key_of = |epoch| token.key_of(&rule.role, epoch);
    let kek = key_of(rule.epoch)?;
    let is_other = |other: &&KeyRule| other.role == rule.role && other.epoch != rule.epoch;
    let others = token.rules().iter().filter(is_other).map(|other| key_of(other.epoch));
    let others = others.collect::<Result<Vec<KeyRef>, HsmError>>()?;
    let opens = |key: KeyRef, sealed: &Sealed| -> Result<bool, HsmError> {
        match token.open_with_only(key, &sealed.aad, &sealed.octets) {
            Ok(_) => Ok(true),
            Err(error) if error.class == FaultClass::Data => Ok(false),
            Err(error) => Err(error),
        }
    };
    let mut needed_by = Vec::new();
    'things: for sealed in all_sealed(site)? {
        for other in &others {
            if opens(*other, &sealed)? {
                continue 'things;
            }
        }
        if !opens(kek, &sealed)? {
            let what =
                format!("{} opens with no site KEK in use; epoch {} is not retired", sealed.need.what, rule.epoch);
            return Err(Fault::new(Exit::IntegrityFailure, what)
                .hint("it is damaged, or an older epoch sealed it: restore it, or replace it, then go on"));
        }
        needed_by.push(sealed.need);
    }
    Ok(needed_by)
}

/// Something that rests sealed under a site KEK.
struct Sealed {
    need: Need,
    aad: Vec<u8>,
    octets: Vec<u8>,
}

/// Whatever of this site a KEK has sealed and somebody will want opened.
fn all_sealed(site: &Site) -> Result<Vec<Sealed>, Fault> {
    let mut all = Vec::new();
    let own = &site.config.credentials;
    let own = [(&own.op_file, OP_AAD), (&own.top_file, TOP_AAD)];
    let own = own.into_iter().filter_map(|(file, aad)| Some((file.as_ref()?, aad.to_vec())));
    let operators =
        site.config.import.iter().filter_map(|(name, import)| Some((import.op.as_ref()?, import_op_aad(name))));
    for (file, aad) in own.chain(operators) {
        let path = site.path(file);
        let octets = match std::fs::read(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => continue, // named beforehand, not sealed yet
            read => read.map_err(|e| Fault::file(&path, &e))?,
        };
        let what = format!("the operator's OP ({})", file.display());
        all.push(Sealed { need: Need { what, remedy: SEAL_AGAIN }, aad, octets });
    }
    for order in unfinished_orders(site)? {
        if let Some(octets) = order.sealed_batch_key {
            let what = format!("order {}", order.key);
            all.push(Sealed { need: Need { what, remedy: FINISH }, aad: batch_aad(&order.key), octets });
        }
    }
    let waiting = ceremony::waiting(&site.path("ceremonies"))?.into_iter();
    all.extend(waiting.map(|ceremony::Waiting { what, aad, sealed }| Sealed {
        need: Need { what, remedy: "finish that ceremony with `bindery keys ceremony`, or remove its directory" },
        aad,
        octets: sealed,
    }));
    Ok(all)
}

const FINISH: &str = "finish these orders first (`bindery run`, `bindery bind`)";
const SEAL_AGAIN: &str = "seal OP or TOP again with `bindery keys import-op`: the active KEK seals it then";

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
        if let Some(change) = order.change {
            // What a remake makes, it makes of the order that it changes.
            if order.state == OrderState::Open {
                unfinished.extend(ledger.order(change.target)?);
            }
        } else if order.state == OrderState::Open || ledger.stored_count(order.pk)? > 0 {
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
