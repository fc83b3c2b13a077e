//! What can go wrong, in a closed list: error classes for records, exit codes for commands, and a remedy with each.

use std::fmt;
use std::io::ErrorKind;

use crate::ids::RecordId;

/// Exit code of a command (README lists them for scripts).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// A bug in Bindery.
    Bug = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The site or its configuration is wrong.
    Config = 3,
    /// The order was rejected; nothing was consumed.
    OrderRejected = 4,
    /// Finished, some rows have errors.
    RowErrors = 5,
    /// Same order key, other body.
    DuplicateConflict = 6,
    /// The HSM cannot be used.
    HsmUnusable = 7,
    /// Something was changed or does not fit: package, bundle, ledger, template.
    IntegrityFailure = 8,
    /// Stopped; running again continues.
    Stopped = 9,
    /// Another runner holds the site.
    Locked = 10,
    /// A certificate is expired or does not last long enough.
    CertificateExpired = 11,
    /// Numbers or one-time keys are used up.
    Exhausted = 12,
    /// An approval is missing.
    ApprovalMissing = 13,
}

/// Class of an error that ends one record: the closed list of `results.csv`. A token that is busy or gone and a bundle that cannot be
/// written end the command, not a record: its rows wait for the next run, and have no class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The row itself is wrong.
    Input,
    /// The identifier or key is another record's.
    Duplicate,
    /// The number range has no number left for the row.
    Range,
    /// The template cannot carry the row's values.
    Template,
    /// The eUICC cannot take the profile.
    Eligibility,
    /// A certificate or key signature is wrong.
    Cert,
    /// The HSM refuses to work on the record's data.
    HsmMech,
    /// A result failed its own check.
    CryptoSelfcheck,
    /// The ledger or the vault holds another value than was put there.
    Storage,
    /// A bug.
    Internal,
}

impl ErrorClass {
    /// The word that stands in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Duplicate => "duplicate",
            Self::Range => "range",
            Self::Template => "template",
            Self::Eligibility => "eligibility",
            Self::Cert => "cert",
            Self::HsmMech => "hsm_mech",
            Self::CryptoSelfcheck => "crypto_selfcheck",
            Self::Storage => "storage",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error that ends one record and no other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{record}: {what}")]
pub struct RecordError {
    /// Which record.
    pub record: RecordId,
    /// Its class.
    pub class: ErrorClass,
    /// What happened, without secrets, identifiers masked.
    pub what: String,
    /// What to do.
    pub hint: &'static str,
}

/// An error that ends a command: exit code, what happened, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Fault {
    /// The exit code.
    pub exit: Exit,
    /// What happened: file, row, value (masked if secret).
    pub what: String,
    /// What to do; printed on its own line.
    pub hint: Option<String>,
}

impl Fault {
    /// What happened, without a remedy yet.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), hint: None }
    }

    /// With the remedy.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same for a run: a disk that is full or read-only stops it, and it goes on when that is mended.
    pub fn of_run(mut self) -> Self {
        if self.exit == Exit::Config && [MAKE_ROOM, REMOUNT].iter().any(|hint| self.hint.as_deref() == Some(*hint)) {
            self.exit = Exit::Stopped;
        }
        self
    }

    /// The same for a submission, which has nothing to resume: it is made again.
    pub fn of_submission(mut self) -> Self {
        if self.exit == Exit::Stopped {
            self.exit = Exit::Config;
        }
        if self.hint.as_deref() == Some(MAKE_ROOM) {
            let again = "make room on this disk (or raise the limit), then submit the same file again: what was accepted is answered again";
            self.hint = Some(again.to_owned());
        }
        self
    }

    /// A file that could not be read or written.
    pub fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        let fault = Self::new(Exit::Config, format!("{}: {error}", path.display()));
        match file_hint(error.kind()) {
            Some(hint) => fault.hint(hint),
            None => fault,
        }
    }
}

/// The remedy of a full disk.
pub(crate) const MAKE_ROOM: &str =
    "make room on this disk (or raise the limit), then run the command again: it continues where it stood";
const REMOUNT: &str = "mount it for writing, then run the command again";

/// What a person can do about a file system, whatever the file is for.
fn file_hint(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Some(MAKE_ROOM),
        ErrorKind::ReadOnlyFilesystem => Some(REMOUNT),
        ErrorKind::PermissionDenied => Some("give it to the user who runs this command, then run it again"),
        ErrorKind::NotADirectory => {
            Some("a file stands where a directory has to be: move it away, then run the command again")
        }
        _ => None,
    }
}
