//! `bindery keys list|status`: what keys there are, what they may do, which epochs drain, how long their certificates last.

use comfy_table::Table;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::ceremony::kcv::KcvMethod;
use crate::certs::chain::days_left;
use crate::certs::{DpChains, Trust};
use crate::cli::screen;
use crate::config::{CheckValue, Site};
use crate::error::{Exit, Fault};
use crate::hsm::pkcs11::{Token, objects};
use crate::hsm::policy::{KeyPolicy, KeyRule, KeyState, Purpose};
use crate::hsm::{Hsm, HsmError, HsmSession, Role, own_points};
use crate::pipeline::AuditKey;

/// The keys of the policy; the token is not opened.
pub(super) fn list(policy: &KeyPolicy, json: bool) -> Result<Exit, Fault> {
    if json {
        let keys: Vec<Value> = policy.keys.iter().map(described).collect();
        say!("{}", json!({ "keys": keys }));
        return Ok(Exit::Done);
    }
    let rows = policy.keys.iter().map(|k| {
        let epoch = format!("{} {}", k.epoch, k.state.as_str());
        vec![k.role.to_string(), epoch, k.label.clone(), mechanisms(k), k.purpose.as_str().into()]
    });
    say!("{}", table(&["role", "epoch", "label", "mechanism", "purpose"], rows));
    Ok(Exit::Done)
}

/// Opens the token, compares, shows.
pub(super) fn status(site: &Site, policy: &KeyPolicy, json: bool) -> Result<Exit, Fault> {
    let token = Token::open(site)?; // compares every key in use with the policy, or ends here
    let pending = Token::open_present(site)?;
    let now = Timestamp::now();
    let chains = DpChains::load(site)?;
    let certificate_end = |role: &Role| match role {
        Role::DpAuth(curve) => chains.pair(*curve).map(|pair| pair.auth.not_after()),
        Role::DpPb(curve) => chains.pair(*curve).map(|pair| pair.pb.not_after()),
        Role::Manifest => Some(chains.manifest.not_after()),
        _ => None,
    };
    let days = |rule: &KeyRule| {
        certificate_end(&rule.role).filter(|_| rule.state == KeyState::Active).map(|end| days_left(end, now))
    };
    let halves = objects::half_made(site, policy)?;
    let found = |rule: &KeyRule| match pending.rules().iter().any(|there| there.label == rule.label) {
        true => "as declared",
        false if halves.contains(rule) => "half a key",
        false if rule.state == KeyState::Retired => "not looked for",
        false => "not there yet",
    };
    let check_values: Vec<Option<String>> =
        policy.keys.iter().map(|rule| check_value(&pending, rule)).collect::<Result<_, HsmError>>()?;
    let fingerprint = chains.manifest.fingerprint();
    let audit_sha256 = AuditKey::of(&token.public_point(token.key(&Role::Audit)?)?)?.sha256;
    if json {
        let keys: Vec<Value> = policy
            .keys
            .iter()
            .zip(&check_values)
            .map(|(rule, kcv)| {
                let mut key = described(rule);
                key["state"] = json!(found(rule));
                key["certificate_days_left"] = json!(days(rule));
                key["kcv"] = json!(kcv);
                key
            })
            .collect();
        say!(
            "{}",
            json!({ "token": token.facts().label, "keys": keys, "manifest_sha256": fingerprint,
                         "audit_key_sha256": audit_sha256 })
        );
    } else {
        let rows = policy.keys.iter().zip(&check_values).map(|(rule, kcv)| {
            let days = days(rule).map_or("-".to_owned(), |days| days.to_string());
            let epoch = format!("{} {}", rule.epoch, rule.state.as_str());
            let kcv = kcv.clone().unwrap_or_else(|| "-".into());
            vec![rule.role.to_string(), epoch, rule.label.clone(), found(rule).into(), days, kcv]
        });
        say!("{}", table(&["role", "epoch", "label", "state", "cert. days", "KCV"], rows));
        say!("manifest certificate, SHA-256:\n{fingerprint}");
        say!("audit key (SubjectPublicKeyInfo), SHA-256:\n{audit_sha256}");
    }
    chains.check(&Trust::load(&site.path("certs/ci"))?, now, &own_points(&token)?)?;
    Ok(Exit::Done)
}

/// Check value of a transport or an operator's key, AES of zeros: what its owner compares. No other key has one here.
fn check_value(token: &Token, rule: &KeyRule) -> Result<Option<String>, HsmError> {
    if !matches!(rule.purpose, Purpose::Encrypt | Purpose::Decrypt)
        || !token.rules().iter().any(|there| there.label == rule.label)
    {
        return Ok(None);
    }
    let key = token.key_of(&rule.role, rule.epoch)?;
    let mut session = token.open_session()?;
    if rule.purpose == Purpose::Decrypt {
        // It does not encrypt; what the token tells of it is all there is.
        let told = session.check_value(key)?;
        return Ok(told.and_then(|told| CheckValue::try_from(told).ok()).map(|value| value.to_string()));
    }
    let block = KcvMethod::AesEcbZeros.block_of_token(&mut session, key, &rule.label)?;
    Ok(Some(CheckValue::of_block(&block).to_string()))
}

fn described(rule: &KeyRule) -> Value {
    json!({
        "role": rule.role.to_string(),
        "epoch": rule.epoch,
        "epoch_state": rule.state.as_str(),
        "label": rule.label,
        "mechanism": mechanisms(rule),
        "purpose": rule.purpose.as_str(),
    })
}

fn mechanisms(rule: &KeyRule) -> String {
    rule.mechanisms.iter().map(|m| m.as_str()).collect::<Vec<_>>().join(" ")
}

fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = screen::table(header);
    rows.for_each(|row| {
        table.add_row(row);
    });
    table
}
