//! One line of the log: a JSON object and a line feed. Its hash is taken over its octets as they stand in the file, the line feed
//! included, so that `sha256sum` and a reader of lines agree with us without knowing JSON.

use jiff::Timestamp;
use nix::unistd::{Uid, User};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::event::Event;

use openssl::sha::sha256;

/// A place in the chain: the number of a line and the SHA-256 of its octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Counts from 1; 0 before the first line.
    pub seq: u64,
    /// Of the line, its line feed included; zeros before the first line.
    pub sha256: [u8; 32],
}

impl Head {
    /// Before the first line.
    pub const NONE: Self = Self { seq: 0, sha256: [0; 32] };

    /// Lower-case hex, as `prev` of the next line and `audit_head` of a manifest have it.
    pub fn hex(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.sha256)
    }
}

/// A line as it stands in the file, its members in this order.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Counts from 1 without gaps, through all files.
    pub seq: u64,
    /// UTC, by the machine's clock.
    pub at: Timestamp,
    /// What happened: a word of [`super::Word`]. A text, because a newer version may know more.
    pub event: String,
    /// Members by event.
    pub data: Map<String, Value>,
    /// Who.
    pub by: Author,
    /// Which engine wrote it.
    pub version: String,
    /// The clock stood so many milliseconds before the time of the line before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_back_ms: Option<u64>,
    /// SHA-256 of the line before, hex; zeros in the first line.
    pub prev: String,
}

/// Who started the process that writes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Author {
    /// Real user id.
    pub uid: u32,
    /// Its name, where the machine knows one.
    pub user: Option<String>,
    /// Process number.
    pub pid: u32,
}

impl Author {
    /// Of this process.
    pub fn of_process() -> Self {
        let uid = Uid::current();
        let user = User::from_uid(uid).ok().flatten().map(|user| user.name);
        Self { uid: uid.as_raw(), user, pid: std::process::id() }
    }
}

impl Line {
    /// The line behind `before`.
    pub(super) fn behind(before: &Head, event: &Event, at: Timestamp, by: &Author) -> Self {
        Self {
            seq: before.seq + 1,
            at,
            event: event.word.as_str().to_owned(),
            data: event.data.clone(),
            by: by.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clock_back_ms: None,
            prev: before.hex(),
        }
    }

    /// Its octets and its head.
    pub(super) fn octets(&self) -> Result<(Vec<u8>, Head), serde_json::Error> {
        let mut octets = serde_json::to_vec(self)?;
        octets.push(b'\n');
        let sha256 = sha256(&octets);
        Ok((octets, Head { seq: self.seq, sha256 }))
    }

    /// The line of these octets, the line feed included or not.
    pub(super) fn parse(octets: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(octets).map_err(|e| format!("is no line of an audit log: {e}"))
    }

    /// A number among its members.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.data.get(name).and_then(Value::as_u64)
    }

    /// A text among its members.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.data.get(name).and_then(Value::as_str)
    }
}
