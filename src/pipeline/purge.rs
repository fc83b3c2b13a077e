//! The end of an order: its key is erased and with it everything that only this key opens; told is what lies elsewhere and stays.
//!
//! In: an accepted order. Out: [`Purged`]. Order of the steps, against a crash at any point: the sealed key and what it sealed go
//! in one durable transaction, then the copies in the ledger's file, then the files of the vault. Who was killed in between calls
//! again: the steps behind the transaction are repeated. Rule: what was claimed stays claimed, and the bundle is the customer's.
//!
//! Files are unlinked, not overwritten: a solid-state disk or a copying file system writes elsewhere. What dies is the key.

use std::fs;
use std::path::{Path, PathBuf};

use super::remake::{finish_cut_off, remake_dir};
use super::stored::{Places, binding_dir, part_dir};
use super::work::vault_prefix;
use super::{find_order, lock, outbox};
use crate::audit::{Event, Word};
use crate::config::Site;
use crate::durable;
use crate::error::{Exit, Fault};
use crate::export::bundle;
use crate::ids::OrderKey;
use crate::order::without_values;
use crate::store::sqlite::{Claims, Ledger, Shredded};
use crate::store::{OrderState, Store, StoreError, StoredOrder};

/// How far a purge may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Also an order with work to do: rows not issued, stored profiles not bound. They never will be.
    pub unfinished: bool,
    /// Also its bundles in the outbox.
    pub bundle: bool,
}

/// What a purge did.
#[derive(Clone, Debug)]
pub struct Purged {
    /// Which order.
    pub key: OrderKey,
    /// When its key was erased, RFC 3339.
    pub purged_at: String,
    /// By an earlier call; this one repeated what comes behind.
    pub was_purged: bool,
    /// Erased in the ledger by this call.
    pub shredded: Shredded,
    /// Files erased in the vault.
    pub vault_files: u64,
    /// Package files erased in the outbox, of a bundle that was not sealed.
    pub package_files: u64,
    /// Bundles erased in the outbox.
    pub bundles_erased: u64,
    /// What is claimed for ever.
    pub claims: Claims,
    /// What is still there.
    pub left: Vec<Left>,
}

/// Something of a purged order that is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// What it is.
    pub what: &'static str,
    /// File or place; relative to the site where it lies there.
    pub place: String,
    /// How many, where they can be counted.
    pub count: Option<u64>,
    /// What keeps a reader from its secrets, or that nothing does.
    pub note: &'static str,
}

/// Purges an order, or finishes the purge that was cut off. Holds the run lock.
pub fn purge(site: &Site, name: &str, reach: Reach) -> Result<Purged, Fault> {
    let now = jiff::Timestamp::now();
    let _lock = lock::RunLock::take(site.root(), now)?;
    let ledger = Ledger::open(&site.state_db())?;
    let stored = find_order(&ledger, name)?;
    let own_bundle = site.outbox().join(stored.key.outbox_path());
    let partial_binding = Places::beside(&own_bundle).partial;
    finish_cut_off(&own_bundle, &ledger.remakes(stored.pk)?)?;
    let was_purged = stored.state == OrderState::Purged;
    let unsealed = part_dir(&own_bundle, stored.part);
    if stored.state == OrderState::Open && outbox::is_sealed(&unsealed) {
        let what = format!("{}: its bundle is sealed, the ledger does not say so yet", stored.key);
        return Err(Fault::new(Exit::Stopped, what).hint("`bindery run` finishes the order; then purge it"));
    }
    let mut shredded = Shredded::default();
    if !was_purged {
        if !reach.unfinished {
            has_no_work(&ledger, &stored, &partial_binding)?;
        }
        shredded = ledger.shred(stored.pk, &without_values(&stored.body), &now.to_string())?;
    }
    ledger.scrub().map_err(|e| unfinished(&stored.key, e))?;
    let vault_files = {
        let prefix = vault_prefix(stored.pk);
        erase_files(&site.vault(), |name| name.starts_with(&prefix))?
    };
    erase_dir(&partial_binding)?;
    // What was never sealed is nobody's bundle: its packages go with the keys.
    let package_files = if ledger.is_exported(stored.pk)? { 0 } else { erase_files(&unsealed, is_package_file)? };
    // Row files that a killed runner had begun; the run lock is ours, so nobody writes one.
    durable::sweep(&unsealed).map_err(|e| Fault::file(&unsealed, &e))?;
    let mut bundles_erased = 0;
    if reach.bundle {
        for dir in bundle_dirs(&own_bundle) {
            bundles_erased += u64::from(erase_dir(&dir)?);
        }
    }
    let event = Event::new(Word::PurgeFinished).order(&stored.key).number("vault_files", vault_files);
    let event = event.number("package_files", package_files);
    ledger.record(&event.number("bundles", bundles_erased))?;
    let claims = ledger.claims_of(stored.pk)?;
    Ok(Purged {
        purged_at: ledger.purged_at(stored.pk)?.unwrap_or_default(),
        was_purged,
        shredded,
        vault_files,
        package_files,
        bundles_erased,
        claims,
        left: left(site, &own_bundle, &stored),
        key: stored.key,
    })
}

/// Why nothing can be done with this order any more.
pub fn is_purged(ledger: &Ledger, stored: &StoredOrder) -> Result<Fault, Fault> {
    let when = ledger.purged_at(stored.pk)?.unwrap_or_default();
    let what = format!("{}: was purged at {when}; its keys are gone", stored.key);
    Ok(Fault::new(Exit::Usage, what).hint("its numbers stay claimed: order the profiles again with new ones"))
}

/// The key is erased, an old copy of it may be left.
fn unfinished(order: &OrderKey, error: StoreError) -> Fault {
    let Fault { exit, what, .. } = error.into();
    Fault::new(exit, format!("{order}: purged, but the ledger's file may still hold old copies: {what}"))
        .hint("end what works on the ledger, or make room for a second one, then purge again: it finishes")
}

/// Refuses what would be lost: rows that wait, stored profiles that wait for their eUICC, a binding that a crash cut off.
fn has_no_work(ledger: &Ledger, stored: &StoredOrder, partial_binding: &Path) -> Result<(), Fault> {
    let (what, instead) = if stored.state == OrderState::Open {
        ("is not exported yet".to_owned(), "`bindery run` finishes it")
    } else if partial_binding.exists() {
        ("a binding of it was cut off".to_owned(), "`bindery bind` finishes it")
    } else {
        match ledger.stored_count(stored.pk)? {
            0 => return Ok(()),
            waiting => (format!("{waiting} stored profiles wait for their eUICCs"), "`bindery bind` binds them"),
        }
    };
    Err(Fault::new(Exit::ApprovalMissing, format!("{}: {what}; nothing was erased", stored.key))
        .hint(format!("{instead}; `--unfinished` erases it all the same")))
}

/// The order's own bundle and those beside it, as far as they are there.
fn bundle_dirs(own: &Path) -> Vec<PathBuf> {
    // Also behind a gap: an earlier purge may have been killed in the middle.
    let beside =
        (1..=999).flat_map(|number| [part_dir(own, number), binding_dir(own, number), remake_dir(own, number)]);
    std::iter::once(own.to_owned()).chain(beside).filter(|dir| dir.is_dir()).collect()
}

/// Unlinks the files of a directory whose names are `doomed`, unfinished ones (a dot before the name) too, and makes that durable.
pub(super) fn erase_files(dir: &Path, doomed: impl Fn(&str) -> bool) -> Result<u64, Fault> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(|e| Fault::file(dir, &e))?,
    };
    let mut erased = 0;
    for entry in entries {
        let entry = entry.map_err(|e| Fault::file(dir, &e))?;
        if doomed(entry.file_name().to_string_lossy().trim_start_matches('.')) {
            fs::remove_file(entry.path()).map_err(|e| Fault::file(&entry.path(), &e))?;
            erased += 1;
        }
    }
    // Also when nothing was there: who was killed before this step comes again.
    durable::sync_dir(dir).map_err(|e| Fault::file(dir, &e))?;
    Ok(erased)
}

/// Takes a directory away for good; false when it is not there.
fn erase_dir(dir: &Path) -> Result<bool, Fault> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        result => result.map_err(|e| Fault::file(dir, &e))?,
    }
    let above = dir.parent().unwrap_or(dir);
    durable::sync_dir(above).map_err(|e| Fault::file(above, &e))?;
    Ok(true)
}

/// What a purge does not reach, counted where it can be.
fn left(site: &Site, own_bundle: &Path, stored: &StoredOrder) -> Vec<Left> {
    let mut left = Vec::new();
    for dir in bundle_dirs(own_bundle) {
        let place = |name: &str| dir.strip_prefix(site.root()).unwrap_or(&dir).join(name).display().to_string();
        let mut found = |name: &str, what, count: Option<u64>, note| {
            if count != Some(0) {
                left.push(Left { what, place: place(name), count, note });
            }
        };
        found("", "packages", Some(lines(&dir.join("orders.jsonl"))), "only their eUICCs open them");
        if !dir.join(bundle::MANIFEST).exists() {
            found("", "package files without manifest", Some(package_files(&dir)), "only their eUICCs open them");
        }
        let core = lines(&dir.join("core.csv")).saturating_sub(1);
        found("core.csv", "K and OPc, encrypted", Some(core), "who holds the transport key opens them");
        let codes = lines(&dir.join("activation-codes.csv")).saturating_sub(1);
        found("activation-codes.csv", "activation codes", Some(codes), "readable; they open no profile here any more");
    }
    let ledger = |what, count, note| Left { what, place: "state.db".to_owned(), count, note };
    left.push(ledger("device lines", Some(stored.rows), "numbers and hashes, no secret"));
    left.push(ledger("the order's text and first answer", Some(1), "without codes and variables"));
    left.push(Left {
        what: "backups and snapshots",
        place: "wherever they were made".to_owned(),
        count: None,
        note: "one of before the purge and the site KEK open everything: erase them, or retire the KEK",
    });
    left
}

fn is_package_file(name: &str) -> bool {
    name.starts_with("packages-")
}

/// Package files of a directory; none when it cannot be read.
fn package_files(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| is_package_file(&entry.file_name().to_string_lossy())).count() as u64
}

/// Lines of a file; none when it cannot be read.
fn lines(path: &Path) -> u64 {
    use std::io::BufRead;
    let Ok(file) = fs::File::open(path) else { return 0 };
    std::io::BufReader::new(file).split(b'\n').map_while(Result::ok).count() as u64
}
