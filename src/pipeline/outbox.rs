//! What the outbox says of the site's orders beside what the ledger says: an older ledger in the newest one's place is known by it.
//!
//! In: the names in the outbox, and the few files that a name alone does not answer for. Out: what the ledger does not know.
//! Rule: whoever would give out numbers, keys or packages asks here first, for an older ledger would give them out a second time.
//! The ledger speaks last: every step commits there before its answer stands in the outbox, but for the seal of an order's own
//! bundle, which then is the one that the ledger's finished chunks make.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::close;
use super::stored::first_key;
use super::work::package_object;
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::export::bundle;
use crate::export::manifest::Manifest;
use crate::ids::OrderKey;
use crate::store::sqlite::{Ledger, accepted_in};
use crate::store::{Chunk, ObjectFacts, OrderState, Store, StoredOrder};

/// Places that a fault names at most.
const SHOWN: usize = 5;
const HINT: &str = "state.db is older than the outbox and would give out numbers and keys again: put the newest one in place, or see \
                    docs/orders.md, \"When the ledger is lost\"";

/// An accepted order, or a sealed bundle, of which the ledger knows nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The order.
    pub order: String,
    /// The file that speaks of it.
    pub file: PathBuf,
}

/// Ends with exit 8 when the outbox holds what the ledger does not know.
pub fn agrees(site: &Site, ledger: &Ledger) -> Result<(), Fault> {
    let unknown = unknown(site, ledger)?;
    if unknown.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> =
        unknown.iter().take(SHOWN).map(|one| format!("{} ({})", one.order, one.file.display())).collect();
    let more = if unknown.len() > SHOWN { ", ..." } else { "" };
    let what = format!(
        "state.db does not know {} answers or bundles of the outbox: {}{more}",
        unknown.len(),
        shown.join(", ")
    );
    Err(Fault::new(Exit::IntegrityFailure, what).hint(HINT))
}

/// What of the outbox the ledger does not know, in the order of the names.
pub fn unknown(site: &Site, ledger: &Ledger) -> Result<Vec<Unknown>, Fault> {
    let orders: HashMap<PathBuf, (OrderKey, OrderState)> =
        ledger.orders()?.into_iter().map(|order| (order.key.outbox_path(), (order.key, order.state))).collect();
    let mut found = Vec::new();
    for tenant in directories(&site.outbox())? {
        for dir in directories(&tenant)? {
            let Some(place) = Place::of(&dir) else { continue };
            let known = orders.get(&place.own);
            // Nothing is to be read of a closed order's own bundle: most are.
            if place.beside == Beside::Own && known.is_some_and(|(_, state)| *state != OrderState::Open) {
                continue;
            }
            let known = known.map(|(key, _)| key);
            if let Some(file) = speaks(&dir, &place)
                && let Some(order) = is_unknown(ledger, (&dir, &place), known)?
            {
                found.push(Unknown { order, file });
            }
        }
    }
    Ok(found)
}

/// Every sealed bundle of the outbox.
pub(super) fn sealed_bundles(site: &Site) -> Result<Vec<PathBuf>, Fault> {
    let mut found = Vec::new();
    for tenant in directories(&site.outbox())? {
        found.extend(directories(&tenant)?.into_iter().filter(|dir| is_sealed(dir)));
    }
    Ok(found)
}

/// Whether a bundle that is sealed while the ledger calls its order open is the one that the ledger's finished chunks make.
pub(super) fn is_of_ledger(store: &dyn Store, stored: &StoredOrder, manifest: &Manifest) -> Result<bool, Fault> {
    let chunks = store.chunks(stored.pk)?;
    let of_chunk = |chunk: &Chunk| {
        let object = chunk.object.filter(|_| chunk.done && chunk.part == stored.part)?;
        Some((package_object(chunk.number), object))
    };
    let made: HashMap<String, ObjectFacts> = chunks.iter().filter_map(of_chunk).collect();
    let mut packages = manifest.files.iter().filter(|(name, _)| name.starts_with("packages-"));
    let is_made = packages.all(|(name, entry)| {
        made.get(name).is_some_and(|facts| {
            entry.bytes == facts.bytes && entry.sha256 == data_encoding::HEXLOWER.encode(&facts.sha256)
        })
    });
    // Rows without outcome are no counts: the ledger is not as far as the seal.
    let counts = close::counts_of(store, stored).ok();
    Ok(is_made && manifest.order_sha256 == stored.body_sha256 && counts == Some(manifest.counts))
}

/// Whether a bundle is complete: its seal comes last.
pub(super) fn is_sealed(dir: &Path) -> bool {
    dir.join(bundle::MANIFEST).is_file() && dir.join(bundle::SIGNATURE).is_file()
}

/// A directory of the outbox, as its name says.
struct Place {
    /// The order's own directory, relative to the outbox.
    own: PathBuf,
    beside: Beside,
}

#[derive(PartialEq, Eq)]
enum Beside {
    Own,
    Rest(u32),
    Bound,
    Remake(u32),
}

impl Place {
    /// None for what no bundle is called, unfinished ones (a dot before the name) among them.
    fn of(dir: &Path) -> Option<Self> {
        let (tenant, name) = (dir.parent()?.file_name()?, dir.file_name()?.to_str()?);
        let (leaf, tail) = name.split_once('+').map_or((name, None), |(leaf, tail)| (leaf, Some(tail)));
        let beside = match tail.map(|tail| tail.split_once('-')) {
            None => Beside::Own,
            Some(Some(("rest", number))) => Beside::Rest(number.parse().ok()?),
            Some(Some(("bound", number))) => number.parse::<u32>().ok().map(|_| Beside::Bound)?,
            Some(Some(("remake", number))) => Beside::Remake(number.parse().ok()?),
            Some(_) => return None,
        };
        (!leaf.is_empty() && !leaf.starts_with('.')).then(|| Self { own: Path::new(tenant).join(leaf), beside })
    }
}

/// The file by which a directory says that something was promised; none when nothing was.
fn speaks(dir: &Path, place: &Place) -> Option<PathBuf> {
    if is_sealed(dir) {
        return Some(dir.join(bundle::MANIFEST));
    }
    let ack = dir.join("ack.json");
    (place.beside == Beside::Own && accepted_in(&ack).is_some()).then_some(ack)
}

/// The order's name, when the ledger does not know what the directory speaks of. The ledger is asked anew: between the first look
/// at it and this one others may have gone on.
fn is_unknown(
    ledger: &Ledger,
    (dir, place): (&Path, &Place),
    known: Option<&OrderKey>,
) -> Result<Option<String>, Fault> {
    let key = known.cloned().or_else(|| accepted_in(&dir.join("ack.json"))).or_else(|| key_of(dir));
    let stored = match &key {
        Some(key) => ledger.find_order(key)?,
        None => None,
    };
    let (Some(key), Some(stored)) = (key, stored) else {
        return Ok(Some(place.own.display().to_string()));
    };
    let is_known = match place.beside {
        Beside::Own => is_part_known(ledger, &stored, 0, dir)?,
        Beside::Rest(part) => is_part_known(ledger, &stored, part, dir)?,
        // Its one-time keys were claimed together, before it had this name.
        Beside::Bound => match first_key(&dir.join("orders.jsonl")) {
            Some(point) => ledger.one_time_key_used(&point)?,
            None => true,
        },
        Beside::Remake(number) => ledger.remakes(stored.pk)?.iter().any(|remake| remake.number == number),
    };
    Ok((!is_known).then(|| key.to_string()))
}

fn is_part_known(ledger: &Ledger, stored: &StoredOrder, part: u32, dir: &Path) -> Result<bool, Fault> {
    if stored.state != OrderState::Open || part != stored.part {
        return Ok(part <= stored.part);
    }
    match manifest_of(dir).filter(|_| is_sealed(dir)) {
        Some(manifest) => is_of_ledger(ledger, stored, &manifest),
        None => Ok(!is_sealed(dir)),
    }
}

fn manifest_of(dir: &Path) -> Option<Manifest> {
    serde_json::from_slice(&fs::read(dir.join(bundle::MANIFEST)).ok()?).ok()
}

/// The order that a manifest names.
fn key_of(dir: &Path) -> Option<OrderKey> {
    let Manifest { tenant, order_id, rev, .. } = manifest_of(dir)?;
    Some(OrderKey { tenant: tenant.parse().ok()?, order_id: order_id.parse().ok()?, rev })
}

/// The directories in a directory, by name; none where there is none.
fn directories(path: &Path) -> Result<Vec<PathBuf>, Fault> {
    let failed = |e: &io::Error| Fault::file(path, e);
    let entries = match fs::read_dir(path) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        entries => entries.map_err(|e| failed(&e))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| failed(&e))?;
        if entry.file_type().map_err(|e| failed(&e))?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_told_by_its_name() {
        let place = |name: &str| Place::of(&Path::new("site/outbox/acme").join(name));
        for (name, beside) in [
            ("PO-1", Beside::Own),
            ("PO-1+rest-002", Beside::Rest(2)),
            ("PO-1+bound-001", Beside::Bound),
            ("PO-1+remake-010", Beside::Remake(10)),
        ] {
            let place = place(name).unwrap();
            assert!(place.beside == beside && place.own == Path::new("acme/PO-1"), "{name}");
        }
        assert!(place("PO-1@2").is_some_and(|place| place.own == Path::new("acme/PO-1@2")));
        for other in [".PO-1+bound-001.partial", ".PO-1+remake-001.partial", "PO-1+rest-x", "PO-1+copy", "+rest-001"] {
            assert!(place(other).is_none(), "{other}");
        }
    }
}
