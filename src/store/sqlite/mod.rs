//! The ledger in one SQLite file: WAL, `synchronous = FULL`, so what was answered survives a power cut.
//!
//! In: orders being accepted ([`Acceptance`]) and outcomes of chunks. Out: what is due, what is taken, what became of it.
//! Rule: uniqueness is the database's own (primary keys of the claim tables), never a look-up alone.

mod acceptance;
mod audit;
mod batch;
mod bindings;
mod changes;
mod claims;
mod exported;
mod identity;
mod overview;
mod purge;
mod quota;
mod recover;
mod remakes;
mod slots;
mod states;

use std::cmp::Ordering;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use rusqlite_migration::{M, Migrations};

pub use acceptance::{Acceptance, AcceptedOrder};
pub use bindings::Bindings;
pub use claims::{Claimed, one_time_key_x};
pub use identity::{accepted_in, lost};
pub use overview::{KeptRefusal, OrderSummary, Trouble, newest_acceptance};
pub use purge::{Claims, Shredded};
pub use recover::{FoundBundle, FoundRow};
pub use slots::{KeySlots, SlotKey};
pub use states::{Change, Revocation};

use super::{OrderPk, OrderState, StoreError, StoredOrder};
use crate::audit::Log;
use crate::ids::OrderKey;

/// One entry a schema version; an entry that was released is never changed.
const VERSIONS: &[M<'static>] = &[
    M::up(include_str!("schema.sql")),
    // Values of variables that differ from record to record: a JSON object of texts by name.
    M::up("ALTER TABLE devices ADD COLUMN vars TEXT"),
    // K and OPc as an order brought them, under the operator's transport key.
    M::up("ALTER TABLE devices ADD COLUMN ki_wrapped BLOB; ALTER TABLE devices ADD COLUMN opc_wrapped BLOB"),
    // When the order's keys were erased, RFC 3339, UTC; its claims stay.
    M::up("ALTER TABLE orders ADD COLUMN purged_at TEXT"),
    M::up(include_str!("states.sql")).foreign_key_check(),
    M::up(audit::SCHEMA),
    M::up(include_str!("remakes.sql")),
    M::up(identity::SCHEMA),
    M::up(include_str!("changes.sql")),
    M::up(include_str!("states_check.sql")),
    M::up(include_str!("exported.sql")),
];
const MIGRATIONS: Migrations<'static> = Migrations::from_slice(VERSIONS);

/// How long a command waits for another process's transaction; an acceptance of a million rows holds it for some seconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Columns of [`read_order`], in its order.
const ORDER_COLUMNS: &str = "pk, tenant, order_id, rev, body_sha256, body, ack, CASE WHEN purged_at IS NOT NULL THEN 'purged' WHEN target IS NOT NULL \
     AND state = 'exported' THEN 'done' ELSE state END, rows, refused, sealed_batch_key, accepted_at, templates, part, change, target";

/// The ledger: one connection behind a lock, statements cached; and the audit log beside it.
#[derive(Debug)]
pub struct Ledger {
    connection: Mutex<Connection>,
    log: Log,
}

impl Ledger {
    /// Opens `path`, creates it if needed (mode 0600) and brings its schema up to date. A ledger that was there and is gone, or
    /// is another one's, is refused: an empty one would forget every number and key that was used.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let noted = identity::noted(path)?;
        keep_private(path).map_err(|source| StoreError::File { path: path.to_owned(), source })?;
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // What is deleted or replaced is overwritten with zeros in its page, so that a sealed key dies with its row.
        connection.pragma_update(None, "secure_delete", true)?;
        connection.set_prepared_statement_cache_capacity(64);
        // A table that is made anew must not take its children along; the switch does nothing inside a transaction.
        connection.pragma_update(None, "foreign_keys", false)?;
        MIGRATIONS.to_latest(&mut connection).map_err(migration_error)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        identity::compare(&connection, path, noted)?;
        Ok(Self { connection: Mutex::new(connection), log: Log::beside(path) })
    }

    /// As [`Self::open`]; where the site cannot be written, for looking alone.
    pub fn open_to_look(path: &Path) -> Result<Self, StoreError> {
        match Self::open(path) {
            Err(StoreError::File { source, .. })
                if matches!(source.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) =>
            {
                Self::open_read_only(path)
            }
            // Nobody may make the files there that SQLite wants beside it.
            Err(StoreError::Database(_) | StoreError::Full(_)) if is_read_only(path.parent()) => {
                Self::open_read_only(path)
            }
            opened => opened,
        }
    }

    fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let has_wal = std::fs::metadata(wal_of(path)).is_ok_and(|metadata| metadata.len() > 0);
        // SQLite makes files beside a database in WAL mode to read it. Nobody writes here: without a WAL the file is all there is.
        let connection = if has_wal {
            Connection::open_with_flags(path, flags)?
        } else {
            Connection::open_with_flags(immutable_uri(path), flags | OpenFlags::SQLITE_OPEN_URI)?
        };
        connection.set_prepared_statement_cache_capacity(64);
        let version: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match version.cmp(&VERSIONS.len()) {
            Ordering::Greater => return Err(StoreError::Newer),
            Ordering::Less => {
                let what = "written by an older version of Bindery: mount it for writing once, to bring it up to date";
                return Err(StoreError::Database(what.to_owned()));
            }
            Ordering::Equal => identity::is_own(&connection, path)?,
        }
        Ok(Self { connection: Mutex::new(connection), log: Log::beside(path) })
    }

    /// Starts the transaction that accepts an order. Holds the ledger's write lock until it is committed or dropped.
    pub fn acceptance(&self) -> Result<Acceptance<'_>, StoreError> {
        Acceptance::begin(self.lock(), &self.log)
    }

    /// Looks at what is claimed, without a transaction: for dry runs.
    pub fn claimed(&self) -> ClaimedGuard<'_> {
        ClaimedGuard(self.lock())
    }

    /// A poisoned lock means a panic elsewhere; SQLite has rolled that transaction back, so the connection is sound.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ledger's lock, lent for looking at claims.
pub struct ClaimedGuard<'l>(MutexGuard<'l, Connection>);

impl ClaimedGuard<'_> {
    /// The view.
    pub fn view(&self) -> Claimed<'_> {
        Claimed::new(&self.0)
    }
}

/// A write transaction that has its lock from the start: no later surprise when it first writes.
fn write(connection: &mut Connection) -> Result<Transaction<'_>, StoreError> {
    // Before a line of the log stands that no ledger will ever know.
    if connection.is_readonly("main")? {
        return Err(StoreError::Database("it is opened for looking alone".to_owned()));
    }
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

/// SQLite's own verdict on the file, `ok` when it is sound and may be written; reads all of it.
pub fn quick_check(path: &Path) -> Result<String, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let ledger = Connection::open_with_flags(path, flags)?;
    // SQLite opens a file it may not write all the same.
    if ledger.is_readonly("main")? {
        return Ok("it cannot be written".to_owned());
    }
    let answer: String = ledger.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    let version: usize = ledger.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version.cmp(&VERSIONS.len()) {
        Ordering::Greater => Err(StoreError::Newer),
        // The next command that opens it brings it up to date.
        Ordering::Less => Ok(answer),
        Ordering::Equal => identity::is_own(&ledger, path).map(|()| answer),
    }
}

/// A database of its own, without a journal, in a temporary file that goes with its connection; a transaction is open that nobody
/// commits.
fn nameless(cache_kib: i32, tables: &str) -> Result<Connection, StoreError> {
    // The empty name is SQLite's for such a file.
    let connection = Connection::open("")?;
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "journal_mode", "OFF")?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.execute_batch(tables)?;
    connection.execute_batch("BEGIN")?;
    Ok(connection)
}

fn is_read_only(directory: Option<&Path>) -> bool {
    directory.and_then(|directory| directory.metadata().ok()).is_some_and(|found| found.permissions().readonly())
}

fn wal_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// `file:` URI (RFC 3986) of the path; every octet that could mean something in one is escaped.
fn immutable_uri(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"/-_.".contains(&octet);
    let escaped = path.as_os_str().as_bytes().iter().map(|octet| match *octet {
        octet if plain(octet) => char::from(octet).to_string(),
        octet => format!("%{octet:02X}"),
    });
    format!("file:{}?immutable=1", escaped.collect::<String>())
}

fn find_order(connection: &Connection, key: &OrderKey) -> Result<Option<StoredOrder>, StoreError> {
    let sql = format!("SELECT {ORDER_COLUMNS} FROM orders WHERE tenant = ?1 AND order_id = ?2 AND rev = ?3");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row(params![key.tenant.as_str(), key.order_id.as_str(), key.rev], read_order).optional()?)
}

fn read_order(row: &Row<'_>) -> rusqlite::Result<StoredOrder> {
    Ok(StoredOrder {
        pk: OrderPk(row.get(0)?),
        key: read_key(row, 1)?,
        body_sha256: row.get(4)?,
        body: row.get(5)?,
        ack: row.get(6)?,
        state: read_order_state(row, 7)?,
        rows: row.get(8)?,
        refused: row.get(9)?,
        sealed_batch_key: row.get(10)?,
        accepted_at: row.get(11)?,
        templates: serde_json::from_str(row.get_ref(12)?.as_str()?)
            .map_err(|e| rusqlite::Error::FromSqlConversionFailure(12, rusqlite::types::Type::Text, e.into()))?,
        part: row.get(13)?,
        change: changes::read_change(row, 14)?,
    })
}

/// Tenant, order id and revision from three columns on.
fn read_key(row: &Row<'_>, at: usize) -> rusqlite::Result<OrderKey> {
    Ok(OrderKey { tenant: parsed(row, at)?, order_id: parsed(row, at + 1)?, rev: row.get(at + 2)? })
}

fn read_order_state(row: &Row<'_>, at: usize) -> rusqlite::Result<OrderState> {
    let word = row.get_ref(at)?.as_str()?;
    OrderState::from_word(word)
        .ok_or_else(|| rusqlite::Error::InvalidColumnType(at, word.to_owned(), rusqlite::types::Type::Text))
}

/// A text column as the identifier it must be.
fn parsed<T>(row: &Row<'_>, at: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    row.get_ref(at)?.as_str()?.parse().map_err(|e| damaged_column(at, e))
}

fn damaged_column(at: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, Box::new(error))
}

/// The ledger holds whole orders, confirmation codes as their SHA-256. A short code can be guessed from it: readable by its
/// owner alone.
fn keep_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(drop)
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Damaged(error.to_string()),
            // A write that the file system refuses is one or the other, by the call that was refused.
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => Self::Full(error.to_string()),
            Some(_) => Self::Database(error.to_string()),
            None => match error {
                rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) => {
                    Self::Damaged(error.to_string())
                }
                _ => Self::Database(error.to_string()),
            },
        }
    }
}

fn migration_error(error: rusqlite_migration::Error) -> StoreError {
    match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => err.into(),
        rusqlite_migration::Error::MigrationDefinition(
            rusqlite_migration::MigrationDefinitionError::DatabaseTooFarAhead,
        ) => StoreError::Newer,
        other => StoreError::Damaged(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
