//! Why the ledger could not answer, and what the command that asked ends with.

use std::io::ErrorKind;

use crate::audit::AuditError;
use crate::error::{Exit, Fault, MAKE_ROOM};

/// Why the ledger could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused.
    #[error("ledger: {0}")]
    Database(String),
    /// A write found no room, or the disk refused it.
    #[error("ledger: {0}")]
    Full(String),
    /// Another process holds the ledger's write lock.
    #[error("ledger: another process is writing to it")]
    Busy,
    /// The file is no ledger of this version, or damaged.
    #[error("ledger: {0}")]
    Damaged(String),
    /// A newer Bindery wrote it.
    #[error("ledger: written by a newer version of Bindery")]
    Newer,
    /// The ledger that this site worked with is not there.
    #[error("ledger: {0}")]
    Lost(String),
    /// The caller asked for a step that the states do not allow.
    #[error("ledger: {0}")]
    State(String),
    /// A number or key is taken; names the column and the masked value.
    #[error("{column} {value} is already taken")]
    Taken {
        /// `iccid`, `imsi` or `euicc_otpk`.
        column: &'static str,
        /// Masked.
        value: String,
        /// Row in the order, where known.
        row: Option<u32>,
    },
    /// The line of a change could not be written, so the change was not made.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A file beside the database.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// As the error that ends a command.
impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        let what = error.to_string();
        match error {
            StoreError::Busy => {
                Self::new(Exit::Locked, what).hint("wait until the other command has ended, then try again")
            }
            StoreError::Damaged(_) => Self::new(Exit::IntegrityFailure, what)
                .hint("keep the file as it is and restore the site's last backup beside it"),
            // An older backup would be opened and would not know what was given out since.
            StoreError::Newer => Self::new(Exit::IntegrityFailure, what)
                .hint("nothing is damaged: use the Bindery that wrote it, or a newer one; do not restore an older ledger"),
            StoreError::Audit(error) => audit_fault(&error),
            StoreError::Lost(_) => Self::new(Exit::IntegrityFailure, what).hint(
                "nothing was changed; restore state.db from its last backup, see docs/orders.md, \"When the ledger is lost\"",
            ),
            StoreError::Taken { .. } | StoreError::State(_) => Self::new(Exit::IntegrityFailure, what),
            StoreError::Full(_) => Self::new(Exit::Stopped, what).hint(MAKE_ROOM),
            StoreError::File { path, source } if file_is_full(&source) => Self::file(&path, &source).of_run(),
            StoreError::Database(_) | StoreError::File { .. } => {
                Self::new(Exit::Config, what).hint("check the site's disk space and permissions")
            }
        }
    }
}

fn file_is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// Without its line nothing happens: what to do about the log.
fn audit_fault(error: &AuditError) -> Fault {
    let what = |exit, error: &AuditError| Fault::new(exit, format!("{error}; without its line nothing was changed"));
    match error {
        AuditError::File { source, .. } => match source.kind() {
            _ if file_is_full(source) => what(Exit::Stopped, error).hint(MAKE_ROOM),
            _ => what(Exit::Config, error).hint("make the site's directory audit/ and its files writable, then run again"),
        },
        AuditError::Lost { .. } => what(Exit::IntegrityFailure, error).hint(
            "`bindery audit verify` tells what is missing; restore audit/ from a copy that is as new as state.db, or see docs/audit.md, \
             \"When the log is lost\"",
        ),
        AuditError::Stray { .. } => what(Exit::IntegrityFailure, error)
            .hint("move this file out of audit/; `bindery audit verify` tells whether the log is whole without it"),
        AuditError::LedgerBehind { .. } => what(Exit::IntegrityFailure, error).hint(
            "state.db is older than the log, as from a backup: numbers and one-time keys issued since would be issued again; \
             restore the newest state.db, or see docs/orders.md, \"When the ledger is lost\"",
        ),
    }
}
