//! Which ledger is the site's: an identity inside the ledger, and the same one in `ledger.id` beside it.
//!
//! Rule: a site never begins a second ledger. What an empty one does not know it would give out again: numbers, one-time keys,
//! whole orders. Write order: the ledger is durable before its identity stands beside it, so that a crash in between leaves a
//! ledger to adopt, never a note without a ledger.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::durable::Pending;
use crate::ids::OrderKey;
use crate::store::StoreError;

/// Made with the table, also in a ledger of an older version. It is a name, not a secret.
pub(super) const SCHEMA: &str = "CREATE TABLE identity (ledger TEXT NOT NULL) STRICT;
INSERT INTO identity VALUES (lower(hex(randomblob(16))))";
/// The file beside the ledger.
const FILE: &str = "ledger.id";

/// Whether the ledger of a site that had one is gone; looks, and makes nothing.
pub fn lost(state_db: &Path) -> Result<(), StoreError> {
    noted(state_db).map(drop)
}

/// What stands beside the ledger, before it is opened: opening would make an empty one in its place.
pub(super) fn noted(state_db: &Path) -> Result<Option<String>, StoreError> {
    let file = beside(state_db, FILE);
    let noted = match fs::read_to_string(&file) {
        Ok(text) => Some(text.trim().to_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(StoreError::File { path: file, source }),
    };
    if fs::metadata(state_db).is_ok_and(|metadata| metadata.len() > 0) {
        return Ok(noted);
    }
    let gone = |why: String| StoreError::Lost(format!("{} is gone or empty, and {why}", state_db.display()));
    if noted.is_some() {
        return Err(gone(format!("{} says that this site had one", file.display())));
    }
    match answers(state_db)?.first() {
        Some((key, path)) => Err(gone(format!("{} says that {key} was accepted", path.display()))),
        None => Ok(None),
    }
}

/// The opened ledger must be the one that was noted; where none was, it is noted now.
pub(super) fn compare(connection: &Connection, state_db: &Path, noted: Option<String>) -> Result<(), StoreError> {
    let own = own(connection)?;
    let noted = match noted {
        Some(noted) => noted,
        None => {
            adopt(connection, state_db)?;
            note(&beside(state_db, FILE), &own)?
        }
    };
    same(state_db, &noted, &own)
}

/// The same for who only looks.
pub(super) fn is_own(connection: &Connection, state_db: &Path) -> Result<(), StoreError> {
    match noted(state_db)? {
        Some(noted) => same(state_db, &noted, &own(connection)?),
        None => Ok(()),
    }
}

fn own(connection: &Connection) -> Result<String, StoreError> {
    Ok(connection.query_row("SELECT ledger FROM identity", [], |row| row.get(0))?)
}

fn same(state_db: &Path, noted: &str, own: &str) -> Result<(), StoreError> {
    if noted == own {
        return Ok(());
    }
    let what =
        format!("{} is another ledger than the one of this site ({FILE} {noted}, found {own})", state_db.display());
    Err(StoreError::Lost(what))
}

/// A ledger of an older version has no note. One without orders beside answers of orders is a new one.
fn adopt(connection: &Connection, state_db: &Path) -> Result<(), StoreError> {
    let is_empty: bool = connection.query_row("SELECT NOT EXISTS (SELECT 1 FROM orders)", [], |row| row.get(0))?;
    match answers(state_db)?.first().filter(|_| is_empty) {
        None => Ok(()),
        Some((key, path)) => {
            let what =
                format!("{} has no order, and {} says that {key} was accepted", state_db.display(), path.display());
            Err(StoreError::Lost(what))
        }
    }
}

/// Writes the note; where another process was first, gives its own.
fn note(file: &Path, own: &str) -> Result<String, StoreError> {
    let failed = |source| StoreError::File { path: file.to_owned(), source };
    let mut pending = Pending::create(file, 0o600).map_err(failed)?;
    pending.write_all(format!("{own}\n").as_bytes()).map_err(failed)?;
    match pending.publish_new() {
        Ok(()) => Ok(own.to_owned()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs::read_to_string(file).map(|text| text.trim().to_owned()).map_err(failed)
        }
        Err(e) => Err(failed(e)),
    }
}

/// Keys of the orders that the outbox calls accepted, with the files that say so.
fn answers(state_db: &Path) -> Result<Vec<(OrderKey, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    for tenant in directories(&beside(state_db, "outbox"))? {
        for order in directories(&tenant)? {
            let path = order.join("ack.json");
            found.extend(accepted_in(&path).map(|key| (key, path)));
        }
    }
    Ok(found)
}

/// The order that an `ack.json` calls accepted; none when there is no such file, or when it says something else.
pub fn accepted_in(ack: &Path) -> Option<OrderKey> {
    let ack: serde_json::Value = serde_json::from_slice(&fs::read(ack).ok()?).ok()?;
    let is_accepted = matches!(ack["verdict"].as_str()?, "accepted" | "accepted_partial");
    let rev = u32::try_from(ack["rev"].as_u64()?).ok()?;
    let [tenant, order_id] = ["tenant", "order_id"].map(|name| ack[name].as_str());
    is_accepted.then_some(OrderKey { tenant: tenant?.parse().ok()?, order_id: order_id?.parse().ok()?, rev })
}

fn directories(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |source| StoreError::File { path: path.to_owned(), source };
    let entries = match fs::read_dir(path) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    Ok(paths.into_iter().filter(|path| path.is_dir()).collect())
}

fn beside(state_db: &Path, name: &str) -> PathBuf {
    state_db.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::Ledger;

    fn answer(site: &Path) {
        let dir = site.join("outbox/acme/PO-1");
        fs::create_dir_all(&dir).unwrap();
        let ack = r#"{"tenant": "acme", "order_id": "PO-1", "rev": 1, "verdict": "accepted"}"#;
        fs::write(dir.join("ack.json"), ack).unwrap();
    }

    fn open(site: &Path) -> Result<(), StoreError> {
        Ledger::open(&site.join("state.db")).map(drop)
    }

    fn take_away(site: &Path, names: &[&str]) {
        names.iter().for_each(|name| fs::remove_file(site.join(name)).unwrap());
    }

    #[test]
    fn a_ledger_that_was_there_is_never_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let site = dir.path();
        open(site).unwrap();
        open(site).unwrap();
        for gone in [true, false] {
            take_away(site, &["state.db"]);
            if !gone {
                fs::write(site.join("state.db"), b"").unwrap();
            }
            assert!(matches!(open(site), Err(StoreError::Lost(_))), "{gone}");
            assert_eq!(fs::metadata(site.join("state.db")).map_or(0, |m| m.len()), 0, "nothing was made");
            fs::write(site.join("state.db"), b"").unwrap();
        }
        // Without the note the outbox still knows.
        take_away(site, &["ledger.id"]);
        answer(site);
        assert!(matches!(open(site), Err(StoreError::Lost(_))));
        fs::remove_dir_all(site.join("outbox")).unwrap();
        open(site).unwrap();
    }

    #[test]
    fn another_ledger_in_its_place_is_refused_and_its_own_backup_is_not() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        [&one, &other].iter().for_each(|dir| open(dir.path()).unwrap());
        let backup = fs::read(one.path().join("state.db")).unwrap();
        fs::copy(other.path().join("state.db"), one.path().join("state.db")).unwrap();
        assert!(matches!(open(one.path()), Err(StoreError::Lost(_))));
        fs::write(one.path().join("state.db"), backup).unwrap();
        open(one.path()).unwrap();
    }

    #[test]
    fn a_ledger_of_an_older_version_is_adopted_unless_it_is_empty_beside_answers() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).unwrap();
        take_away(dir.path(), &["ledger.id"]);
        open(dir.path()).unwrap();
        assert!(dir.path().join("ledger.id").exists());
        take_away(dir.path(), &["ledger.id"]);
        answer(dir.path());
        assert!(matches!(open(dir.path()), Err(StoreError::Lost(_))));
    }
}
