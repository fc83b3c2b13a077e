//! `bind`, asked once more: the keys of the file are the keys that the order's profiles were bound to, and the first answer stands.
//!
//! In: an order and a key file, after a binding found nothing to do. Out: what the ledger has of that file's keys. Rule: nothing is
//! believed here and nothing is claimed. A key that the ledger knows was believed when it was claimed; a file with a key for a
//! profile that still waits is no repetition.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use data_encoding::BASE64;

use super::find_order;
use super::stored::bundles_of;
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::ids::Eid;
use crate::order::file::{Mode, Order};
use crate::order::key_file::KeyFile;
use crate::store::sqlite::{Ledger, one_time_key_x};
use crate::store::{OrderState, Store, StoredOrder};

/// What an earlier call bound with the same keys.
#[derive(Debug)]
pub struct BoundBefore {
    /// Profiles that have a key of this file.
    pub bound: u64,
    /// Profiles that stay stored.
    pub still_stored: u64,
    /// Lines of the file that are no key.
    pub refused: u64,
    /// The newest bundle with one of these profiles.
    pub bundle: Option<PathBuf>,
}

/// Whether all that the key file has for this order was bound before; `None` when something of it was not.
pub fn bound_before(site: &Site, order: &str, key_file: &Path) -> Result<Option<BoundBefore>, Fault> {
    let ledger = Ledger::open(&site.state_db())?;
    let stored = find_order(&ledger, order)?;
    if stored.state != OrderState::Exported {
        return Ok(None);
    }
    let Stored { keys, waiting } = look(&ledger, &stored)?;
    let still_stored = ledger.stored_count(stored.pk)?;
    let (mut found, mut refused) = (HashSet::new(), 0);
    for line in KeyFile::open(key_file)? {
        let Ok(line) = line? else {
            refused += 1;
            continue;
        };
        let x = one_time_key_x(&line.euicc_otpk);
        match keys.get(&x) {
            Some(eid) if *eid == line.eid => {
                found.insert(x);
            }
            _ if waiting.contains(&line.eid) => return Ok(None),
            _ => {}
        }
    }
    if found.is_empty() {
        return Ok(None);
    }
    let bundle = newest_with(site, &stored, &found)?;
    Ok(Some(BoundBefore { bound: found.len() as u64, still_stored, refused, bundle }))
}

/// What the ledger has of an order's profiles of mode order.
struct Stored {
    /// One-time keys that they got, by x, and whose they are.
    keys: HashMap<[u8; 32], Eid>,
    /// eUICCs whose profiles still wait for one.
    waiting: HashSet<Eid>,
}

fn look(ledger: &Ledger, stored: &StoredOrder) -> Result<Stored, Fault> {
    let order = Order::from_json(&stored.body)
        .map_err(|_| Fault::new(Exit::IntegrityFailure, format!("{}: the stored order cannot be read", stored.key)))?;
    let of_mode_order: HashSet<u32> =
        order.lines.iter().filter(|line| line.mode == Mode::Order).map(|line| line.line).collect();
    let mut found = Stored { keys: HashMap::new(), waiting: HashSet::new() };
    for chunk in ledger.chunks(stored.pk)? {
        for device in ledger.devices(stored.pk, chunk.first, chunk.last)? {
            match (device.eid, device.euicc_otpk) {
                (Some(eid), Some(point)) if of_mode_order.contains(&device.line) => {
                    found.keys.insert(one_time_key_x(&point), eid);
                }
                (Some(eid), None) if device.issue.is_some() => {
                    found.waiting.insert(eid);
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

/// The newest bundle of a binding that has one of these keys.
fn newest_with(site: &Site, stored: &StoredOrder, keys: &HashSet<[u8; 32]>) -> Result<Option<PathBuf>, Fault> {
    let is_binding = |dir: &PathBuf| dir.file_name().is_some_and(|name| name.to_string_lossy().contains("+bound-"));
    for dir in bundles_of(site, &stored.key)?.into_iter().filter(is_binding).rev() {
        let path = dir.join("orders.jsonl");
        let failed = |e: std::io::Error| Fault::file(&path, &e);
        for line in BufReader::new(File::open(&path).map_err(failed)?).lines() {
            let record: serde_json::Value = serde_json::from_str(&line.map_err(failed)?).unwrap_or_default();
            let point = record["euicc_otpk"].as_str().and_then(|text| BASE64.decode(text.as_bytes()).ok());
            let point: Option<[u8; 65]> = point.and_then(|point| point.try_into().ok());
            if point.is_some_and(|point| keys.contains(&one_time_key_x(&point))) {
                return Ok(Some(dir));
            }
        }
    }
    Ok(None)
}
