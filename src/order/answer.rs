//! The answer to an order: `ack.json` and `rejects.csv` under `outbox/<tenant>/<order_id>/`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::warnings::WarningAck;
use crate::durable;
use crate::error::{Exit, Fault};
use crate::ids::OrderKey;
use crate::store::Refusal;

/// Schema word of `ack.json`.
pub const ACK_SCHEMA: &str = "bindery.ack/1";
/// Name of the file.
pub(super) const ACK_FILE: &str = "ack.json";

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every row.
    Accepted,
    /// Some rows.
    AcceptedPartial,
    /// Nothing was taken; a corrected file may come under the same key.
    Rejected,
    /// The key belongs to another body; nothing was changed.
    Duplicate,
}

impl Verdict {
    /// The word in `ack.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::AcceptedPartial => "accepted_partial",
            Self::Rejected => "rejected",
            Self::Duplicate => "duplicate",
        }
    }

    pub(super) fn exit(self) -> Exit {
        match self {
            Self::Accepted => Exit::Done,
            Self::AcceptedPartial => Exit::RowErrors,
            Self::Rejected => Exit::OrderRejected,
            Self::Duplicate => Exit::DuplicateConflict,
        }
    }
}

/// `ack.json`.
#[derive(Debug, Serialize)]
pub(super) struct Ack<'a> {
    pub(super) schema: &'static str,
    pub(super) tenant: Option<&'a str>,
    pub(super) order_id: Option<&'a str>,
    pub(super) rev: Option<u32>,
    pub(super) verdict: Verdict,
    pub(super) counts: Counts,
    pub(super) body_sha256: &'a str,
    pub(super) ranges: Vec<RangeAck>,
    /// Of an order that changes another: which, and what it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<WarningAck>,
    pub(super) received: String,
    pub(super) engine: &'static str,
}

impl Ack<'_> {
    /// The file's octets.
    pub(super) fn octets(&self) -> Result<Vec<u8>, Fault> {
        let mut octets =
            serde_json::to_vec_pretty(self).map_err(|e| Fault::new(Exit::Bug, format!("ack.json: {e}")))?;
        octets.push(b'\n');
        Ok(octets)
    }
}

/// Rows of a submission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Ordered.
    pub rows: u64,
    /// Taken. In an order that is rejected as a whole, rows without fault are neither accepted nor refused.
    pub accepted: u64,
    /// Named in `rejects.csv`; all of them where the order or one of its files is refused as a whole.
    pub refused: u64,
}

/// Numbers that a line reserved: `count` of those from `first` to `last`; numbers of refused rows in between stay free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct RangeAck {
    pub(super) line: u32,
    pub(super) kind: &'static str,
    pub(super) first: String,
    pub(super) last: String,
    pub(super) count: u64,
}

/// The answer to a submission, and what a terminal shows of it.
#[derive(Debug)]
pub struct Answer {
    /// The order's key, where it could be read.
    pub key: Option<OrderKey>,
    /// The verdict.
    pub verdict: Verdict,
    /// Exit code of the command.
    pub exit: Exit,
    /// Octets of `ack.json`.
    pub ack: Vec<u8>,
    /// Rows.
    pub counts: Counts,
    /// Lines of `rejects.csv`.
    pub refusals_total: u64,
    /// The first of them, at most [`super::SHOWN`].
    pub first_refusals: Vec<Refusal>,
    /// What is wrong and refuses nothing.
    pub warnings: Vec<Refusal>,
    /// Directory of the answer files; none if nothing was written.
    pub outbox: Option<PathBuf>,
    /// The order was accepted before: this is the first answer again.
    pub repeated: bool,
}

/// Creates an answer directory, or takes what killed submissions left in it.
pub(super) fn create_directory(directory: &Path) -> Result<(), Fault> {
    let made = durable::make_dirs(directory, 0o755).and_then(|()| durable::sweep_dead(directory));
    made.map_err(|e| Fault::file(directory, &e))
}

/// Writes `ack.json`, whole or not at all.
pub(super) fn write_ack(directory: &Path, octets: &[u8]) -> Result<(), Fault> {
    let target = directory.join(ACK_FILE);
    durable::write(&target, octets, 0o644).map_err(|e| Fault::file(&target, &e))
}
