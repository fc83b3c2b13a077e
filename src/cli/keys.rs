//! `bindery keys status|list`: what keys there are, what they may do, how long their certificates last.

use std::path::Path;

use comfy_table::Table;

use super::import_op::ImportOp;
use super::screen;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::certs::chain::days_left;
use crate::certs::{DpChains, Trust};
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::hsm::pkcs11::Token;
use crate::hsm::policy::{KeyPolicy, KeyRule};
use crate::hsm::{Role, own_points};

/// Keys of the token: status, list
#[derive(Debug, clap::Args)]
pub struct Keys {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Open the token, compare every key with the policy, show certificates and the manifest fingerprint
    Status,
    /// The keys of the policy: role, label, mechanism, purpose; the token is not opened
    List,
    ImportOp(ImportOp),
}

impl Keys {
    /// Runs the subcommand.
    pub fn run(self, site_dir: &Path, json: bool) -> Result<Exit, Fault> {
        let site = Site::open(site_dir)?;
        let policy = KeyPolicy::load(&site.path(&site.config.hsm.policy))?;
        match self.command {
            Command::List => list(&policy, json),
            Command::Status => status(&site, &policy, json),
            Command::ImportOp(import) => import.run(&site, json),
        }
    }
}

fn list(policy: &KeyPolicy, json: bool) -> Result<Exit, Fault> {
    if json {
        let keys: Vec<Value> = policy.keys.iter().map(described).collect();
        say!("{}", json!({ "keys": keys }));
        return Ok(Exit::Done);
    }
    let rows =
        policy.keys.iter().map(|k| vec![k.role.to_string(), k.label.clone(), mechanisms(k), k.purpose.as_str().into()]);
    say!("{}", table(&["role", "label", "mechanism", "purpose"], rows));
    Ok(Exit::Done)
}

fn status(site: &Site, policy: &KeyPolicy, json: bool) -> Result<Exit, Fault> {
    let token = Token::open(site)?; // compares every key with the policy, or ends here
    let now = Timestamp::now();
    let chains = DpChains::load(site)?;
    let certificate_end = |role: &Role| match role {
        Role::DpAuth => Some(chains.auth.not_after()),
        Role::DpPb => Some(chains.pb.not_after()),
        Role::Manifest => Some(chains.manifest.not_after()),
        _ => None,
    };
    let days = |role: &Role| certificate_end(role).map(|end| days_left(end, now));
    let fingerprint = chains.manifest.fingerprint();
    if json {
        let keys: Vec<Value> = policy
            .keys
            .iter()
            .map(|rule| {
                let mut key = described(rule);
                key["state"] = json!("as declared");
                key["certificate_days_left"] = json!(days(&rule.role));
                key
            })
            .collect();
        say!("{}", json!({ "token": token.facts().label, "keys": keys, "manifest_sha256": fingerprint }));
    } else {
        let rows = policy.keys.iter().map(|rule| {
            let days = days(&rule.role).map_or("-".to_owned(), |days| days.to_string());
            vec![rule.role.to_string(), rule.label.clone(), rule.purpose.as_str().into(), "as declared".into(), days]
        });
        say!("{}", table(&["role", "label", "purpose", "state", "cert. days"], rows));
        say!("manifest certificate, SHA-256:\n{fingerprint}");
    }
    chains.check(&Trust::load(&site.path("certs/ci"))?, now, &own_points(&token)?)?;
    Ok(Exit::Done)
}

fn described(rule: &KeyRule) -> Value {
    json!({
        "role": rule.role.to_string(),
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
