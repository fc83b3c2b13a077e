//! The audit log: one line for each change of state, each line chained to the one before, heads signed in the HSM.
//!
//! In: an [`Event`] and the [`Head`] that the ledger holds. Out: lines that are on the disk, and their heads for the ledger to commit.
//! Rule: the line comes first, the ledger's commit second, and the commit carries the line's head. So
//!
//! * a change without its line cannot be: what cannot be written or synced ends the transaction;
//! * a line without its change is seen: its head is not in the ledger, and the next writer says so in a line ([`Word::Void`]);
//! * a line that was taken away is seen: the ledger holds a head that the file does not.
//!
//! Power may fail at any point: before the sync nothing is promised, the file's torn end lies beyond the ledger's head and is cut
//! off ([`Word::Repaired`]); between sync and commit the line is void; after the commit both are durable. Who writes is ordered by
//! the ledger's own write lock, which is held from reading the head to the commit: processes need no second lock, and no line can
//! come between a head and its commit. Format and how to check it with other tools: `docs/audit.md`.

mod check;
mod event;
mod line;
mod log;
mod statement;
mod tail;

#[cfg(test)]
mod tests;

pub use check::{Broken, Chain, Keys, Verdict};
pub use event::{Event, Word};
pub use line::{Author, Head, Line};
pub use log::{Log, files};
pub use statement::Statement;
pub use tail::Newer;

use std::path::PathBuf;

/// Schema word of the first line.
pub const SCHEMA: &str = "bindery.audit/1";

/// Why a line could not be written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The log could not be read or written.
    #[error("{path}: the audit log: {source}")]
    File {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Lines that the ledger knows are not there, or not as they were.
    #[error("{path}: the audit log does not end with line {seq} as the ledger knows it")]
    Lost {
        /// Where it was looked for.
        path: PathBuf,
        /// The ledger's last line.
        seq: u64,
    },
    /// A file is called like one of the log, and does not begin with the line that its name says.
    #[error("{path}: is no file of the audit log: line {seq}, which its name promises, does not stand in it")]
    Stray {
        /// The file.
        path: PathBuf,
        /// By its name.
        seq: u64,
    },
    /// The log goes on behind what the ledger knows, by more than a crash leaves.
    #[error("{path}: line {seq} of the audit log was committed, but the ledger ends with line {ledger}")]
    LedgerBehind {
        /// Where it stands.
        path: PathBuf,
        /// The line.
        seq: u64,
        /// The ledger's last line.
        ledger: u64,
    },
}
