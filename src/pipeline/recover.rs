//! `order recover`: an older ledger, the newest backup there is, takes over what audit log and outbox say was done since.
//!
//! In: the site, with its newer `audit/` and `outbox/`. Out: a ledger in which every number and one-time key that stands in a sealed
//! bundle is claimed. Rule: nothing changes unless every bundle that the log tells of is there and sealed by a key of this site; what
//! is not in either was never given out. An order that went on after the backup is over: its secrets of that time are lost.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use openssl::sha::sha256;
use serde::Deserialize;

use super::lock::RunLock;
use super::outbox::{self, Unknown};
use super::purge::erase_files;
use crate::certs::chain::manifest_certificates;
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::export::bundle;
use crate::export::seal::{self, Sealed};
use crate::ids::{Iccid, OrderKey};
use crate::order::without_values;
use crate::store::sqlite::{FoundBundle, FoundRow, Ledger};
use crate::store::{DeviceState, Store};

/// What was taken over.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Lines of the audit log.
    pub lines: u64,
    /// Bundles whose numbers and keys were claimed.
    pub bundles: Vec<PathBuf>,
    /// Orders that are over.
    pub ended: BTreeSet<String>,
    /// Orders that were answered and never sealed: they are not accepted any more, and their answers were taken away.
    pub again: Vec<String>,
}

/// Brings the ledger up to audit log and outbox. Holds the run lock.
pub fn recover(site: &Site) -> Result<Recovered, Fault> {
    let now = jiff::Timestamp::now();
    let _lock = RunLock::take(site.root(), now)?;
    let ledger = Ledger::open(&site.state_db())?;
    let newer = ledger.audit_log().behind(&ledger.audit_head()?).map_err(crate::store::StoreError::from)?;
    all_there(site, &newer.manifests)?;
    let trusted = manifest_certificates(site)?;
    let (sealed, answered): (Vec<Unknown>, Vec<Unknown>) =
        outbox::unknown(site, &ledger)?.into_iter().partition(|one| one.file.ends_with(bundle::MANIFEST));
    let mut found = Vec::new();
    let (mut bundles, mut ended) = (Vec::new(), BTreeSet::new());
    for one in sealed {
        let dir = one.file.parent().unwrap_or(Path::new("")).to_owned();
        // The whole bundle, packages too: what is taken over is what was sealed.
        found.push(read(&ledger, &dir, seal::check(&dir, &trusted, &|_| true)?)?);
        bundles.push(dir);
        ended.insert(one.order);
    }
    if !newer.heads.is_empty() || !found.is_empty() {
        ledger.recover(&newer.heads, &found, &now.to_string())?;
    }
    for one in &answered {
        let dir = one.file.parent().unwrap_or(Path::new(""));
        // The answer last: as long as it is there, the next call comes here again.
        erase_files(dir, |name| name.starts_with("packages-") || name == "rejects.csv")?;
        erase_files(dir, |name| name == "ack.json")?;
    }
    let again = answered.into_iter().map(|one| one.order).collect();
    Ok(Recovered { lines: newer.heads.len() as u64, bundles, ended, again })
}

/// Every bundle that the log tells of lies in the outbox: a missing one holds keys that nobody else knows to be spent.
fn all_there(site: &Site, told: &[(String, String)]) -> Result<(), Fault> {
    if told.is_empty() {
        return Ok(());
    }
    let mut there = BTreeSet::new();
    for dir in outbox::sealed_bundles(site)? {
        let path = dir.join(bundle::MANIFEST);
        there.insert(HEXLOWER.encode(&sha256(&fs::read(&path).map_err(|e| Fault::file(&path, &e))?)));
    }
    match told.iter().find(|(_, manifest)| !there.contains(manifest)) {
        None => Ok(()),
        Some((order, manifest)) => {
            let what = format!(
                "{order}: the audit log tells of a bundle with the manifest {manifest}, which is not in the outbox"
            );
            Err(Fault::new(Exit::IntegrityFailure, what).hint(
                "nothing was changed; put the bundle back from a copy: its numbers and one-time keys are spent. Without one, see \
                 docs/orders.md, \"When the ledger is lost\"",
            ))
        }
    }
}

/// The members of `orders.jsonl` that tell of spent keys.
#[derive(Deserialize)]
struct Record {
    iccid: String,
    euicc_otpk: Option<String>,
}

/// The columns of `results.csv` that tell of numbers.
#[derive(Deserialize)]
struct ResultRow {
    row: u32,
    eid: String,
    iccid: String,
    imsi: String,
    state: String,
    matching_id: String,
    line: Option<u32>,
}

fn read(ledger: &Ledger, dir: &Path, sealed: Sealed) -> Result<FoundBundle, Fault> {
    let Sealed { manifest, manifest_sha256 } = sealed;
    let broken = |name: &str, what: String| {
        Fault::new(Exit::IntegrityFailure, format!("{}: {what}", dir.join(name).display()))
            .hint("nothing was changed; use the Bindery that wrote this bundle, or a newer one")
    };
    let named = |what: &str| broken(bundle::MANIFEST, format!("{what} is none"));
    let key = OrderKey {
        tenant: manifest.tenant.parse().map_err(|_| named("tenant"))?,
        order_id: manifest.order_id.parse().map_err(|_| named("order_id"))?,
        rev: manifest.rev,
    };
    let mut points: HashMap<Iccid, [u8; 65]> = HashMap::new();
    let orders = dir.join("orders.jsonl");
    for line in BufReader::new(File::open(&orders).map_err(|e| Fault::file(&orders, &e))?).lines() {
        let line = line.map_err(|e| Fault::file(&orders, &e))?;
        let Record { iccid, euicc_otpk } =
            serde_json::from_str(&line).map_err(|e| broken("orders.jsonl", e.to_string()))?;
        let Some(text) = euicc_otpk else { continue };
        let point = BASE64.decode(text.as_bytes()).ok().and_then(|point| point.try_into().ok());
        let point = point.ok_or_else(|| broken("orders.jsonl", "euicc_otpk is no point".to_owned()))?;
        points.insert(iccid.parse().map_err(|e| broken("orders.jsonl", format!("iccid: {e}")))?, point);
    }
    let mut devices = Vec::new();
    let results = csv::Reader::from_path(dir.join("results.csv")).map_err(|e| broken("results.csv", e.to_string()))?;
    for row in results.into_deserialize() {
        let row: ResultRow = row.map_err(|e| broken("results.csv", e.to_string()))?;
        let wrong = |column: &str| broken("results.csv", format!("row {}: {column} is none", row.row));
        let iccid: Option<Iccid> = parsed(&row.iccid).map_err(|()| wrong("iccid"))?;
        devices.push(FoundRow {
            line: row.line.unwrap_or(1),
            row: row.row,
            state: DeviceState::from_word(&row.state).ok_or_else(|| wrong("state"))?,
            eid: parsed(&row.eid).map_err(|()| wrong("eid"))?,
            imsi: parsed(&row.imsi).map_err(|()| wrong("imsi"))?,
            matching_id: parsed(&row.matching_id).map_err(|()| wrong("matching_id"))?,
            euicc_otpk: iccid.as_ref().and_then(|iccid| points.remove(iccid)),
            iccid,
        });
    }
    if !points.is_empty() {
        return Err(broken("results.csv", "has no row for a record of orders.jsonl".to_owned()));
    }
    let ack = fs::read(dir.join("ack.json")).unwrap_or_else(|_| b"{}".to_vec());
    let answer: serde_json::Value = serde_json::from_slice(&ack).unwrap_or_default();
    let body = ledger.find_order(&key)?.map(|stored| without_values(&stored.body));
    Ok(FoundBundle {
        key,
        body_sha256: manifest.order_sha256,
        rows: answer["counts"]["rows"].as_u64().unwrap_or(manifest.counts.rows),
        refused: answer["counts"]["refused"].as_u64().unwrap_or_default(),
        ack,
        created: manifest.created,
        manifest_sha256,
        part: manifest.part.filter(|_| manifest.remake.is_none()).unwrap_or_default(),
        remake: manifest.remake,
        body,
        devices,
    })
}

/// An empty cell is no value.
fn parsed<T: std::str::FromStr>(text: &str) -> Result<Option<T>, ()> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| ()) }
}
