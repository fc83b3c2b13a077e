//! What is told of a change: a word of a closed list, and numbers, hashes, order keys and names. No value of a subscriber or an
//! eUICC has a way in: there is no method that takes one.

use serde_json::{Map, Value};

use crate::ids::OrderKey;

/// Defines the words and their spelling in one place.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Word {
            $($(#[$doc])* $name,)*
        }

        impl Word {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As it stands in the log.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

words! {
    /// The first line of a log; `schema`.
    LogBegun = "log-begun",
    /// The change of these lines (`from`, `to`) never came to be: a crash or a fault came between the line and the ledger's commit.
    Void = "void",
    /// A torn end was cut off: `octets`, `sha256`.
    Repaired = "repaired",
    /// A head was signed: `statement`, `signature`, `key_sha256`, `epoch`.
    HeadSigned = "head-signed",
    /// An order was accepted: `rows`, `refused`, `body_sha256`.
    OrderAccepted = "order-accepted",
    /// An order was refused as a whole: `rows`, `refused`, `body_sha256`.
    OrderRejected = "order-rejected",
    /// An order's batch key was made and sealed under the site KEK.
    BatchKeyMade = "batch-key-made",
    /// A chunk's profiles were stored for a later binding: `chunk`, `line`, `issued`, `failed`, `sha256`, `bytes`.
    ChunkPrepared = "chunk-prepared",
    /// A chunk's packages were made; members as of `chunk-prepared`.
    ChunkBound = "chunk-bound",
    /// No record of a chunk was issued; members as of `chunk-prepared`.
    ChunkFailed = "chunk-failed",
    /// An order's bundle is durable: rows by state, `manifest_sha256`.
    OrderExported = "order-exported",
    /// Stored profiles were bound and exported: `bound`, `manifest_sha256`.
    StoredBound = "stored-bound",
    /// An order was set aside.
    OrderHeld = "order-held",
    /// An order that was set aside goes on.
    OrderReleased = "order-released",
    /// Rows of an order were cancelled.
    OrderCancelled = "order-cancelled",
    /// Profiles were made again.
    OrderRemade = "order-remade",
    /// Unexported packages were erased and their keys shredded.
    OrderRevoked = "order-revoked",
    /// An order's keys were erased: `batch_key`, `records`, `cancelled`.
    OrderPurged = "order-purged",
    /// What a purge erases beside the ledger is gone: `vault_files`, `package_files`, `bundles`.
    PurgeFinished = "purge-finished",
    /// An older ledger took over what this log and the outbox say: `lines`, `bundles`.
    LedgerRecovered = "ledger-recovered",
    /// A run or a binding began: `command`, `due`, `resumed`.
    RunBegun = "run-begun",
    /// It ended: `exported`, `failed`, `records`.
    RunEnded = "run-ended",
    /// It drained on a signal; running again goes on.
    RunDrained = "run-drained",
    /// It ended with an error: `exit`.
    RunFailed = "run-failed",
    /// A token failed or was left out during a run: `token`, `opened`, `late`, `faults`, `breaker`.
    TokenTrouble = "token-trouble",
    /// A file that rules what is done is another than at the last start: `file`, `before`, `after`.
    ConfigChanged = "config-changed",
    /// A ceremony is conducted: `ceremony`, `plan_sha256`, `state` (begun, waiting, done); at its end `transcript_sha256`, `steps`.
    KeyCeremony = "key-ceremony",
    /// A role's next epoch was made: `role`, `epoch`, `state` (begun, made, pending, active).
    KeyRotated = "key-rotated",
    /// An epoch was taken out of use: `role`, `epoch`, `state` (begun, done), as of the two that follow.
    KeyRetired = "key-retired",
    /// A certificate was installed: `role`, `epoch`, `certificate_sha256`.
    CertificateInstalled = "certificate-installed",
    /// An operator's OP or TOP was sealed under the site KEK: `import`, `file_sha256`.
    OpImported = "op-imported",
}

/// One event to be written down.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub(super) word: Word,
    pub(super) data: Map<String, Value>,
}

impl Event {
    /// Without members yet.
    pub fn new(word: Word) -> Self {
        Self { word, data: Map::new() }
    }

    /// With the order it is about, `TENANT/ORDER_ID` or from the second revision on `TENANT/ORDER_ID@REV`.
    pub fn order(self, key: &OrderKey) -> Self {
        self.with("order", key.to_string())
    }

    /// With a count or a number.
    pub fn number(self, name: &str, number: u64) -> Self {
        self.with(name, number)
    }

    /// With numbers: rows, for instance.
    pub fn numbers(self, name: &str, numbers: Vec<u64>) -> Self {
        self.with(name, numbers)
    }

    /// With counts by name.
    pub fn counts(self, name: &str, counts: impl IntoIterator<Item = (String, u64)>) -> Self {
        self.with(name, counts.into_iter().map(|(name, count)| (name, Value::from(count))).collect::<Map<_, _>>())
    }

    /// With a SHA-256.
    pub fn sha256(self, name: &str, sha256: &[u8; 32]) -> Self {
        self.with(name, data_encoding::HEXLOWER.encode(sha256))
    }

    /// With a name of the site's or the engine's own: a key role, a token, a state, a file. Never a value out of an order's rows.
    pub fn name(self, name: &str, text: impl Into<String>) -> Self {
        self.with(name, text.into())
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.data.insert(name.to_owned(), value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_spelt_once_each() {
        let mut all: Vec<_> = Word::ALL.iter().map(|word| word.as_str()).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), Word::ALL.len());
    }
}
