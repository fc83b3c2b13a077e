//! What must survive: the ledger of orders, devices, numbers and one-time keys, and the stored PPPs.
//!
//! Rule: a number, a one-time key or an order is claimed in the same transaction that makes the result durable.

mod chunk;
mod fault;
pub mod packages;
pub mod sealed;
pub mod seen;
pub mod sqlite;

use std::collections::BTreeMap;

pub use chunk::{Chunk, ChunkStart, ObjectFacts, Stretch, stretches};
pub use fault::StoreError;

use crate::audit::{Event, Head, Log};
use crate::error::ErrorClass;
use crate::ids::{Eid, Iccid, Imsi, MatchingId, OrderKey};

/// Row id of an order in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderPk(pub i64);

/// Row id of a device line in the ledger; ascending in the order of acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DevicePk(pub i64);

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderState {
    /// Accepted, not finished.
    Open,
    /// Bundle durable.
    Exported,
    /// Its keys were erased: nothing can be made of it any more.
    Purged,
    /// A cancellation or remake that was carried out.
    Done,
}

impl OrderState {
    /// The word that people and programs read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Exported => "exported",
            Self::Purged => "purged",
            Self::Done => "done",
        }
    }

    /// The state of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Open, Self::Exported, Self::Purged, Self::Done].into_iter().find(|state| state.as_str() == word)
    }
}

/// An accepted order as the ledger holds it.
#[derive(Clone, Debug)]
pub struct StoredOrder {
    /// Its row.
    pub pk: OrderPk,
    /// Its key.
    pub key: OrderKey,
    /// SHA-256 of the order file, lower-case hex.
    pub body_sha256: String,
    /// The order, but for confirmation codes, which are kept as their SHA-256.
    pub body: Vec<u8>,
    /// The `ack.json` given first.
    pub ack: Vec<u8>,
    /// Where it stands.
    pub state: OrderState,
    /// Rows ordered, refused ones included.
    pub rows: u64,
    /// Rows refused at acceptance.
    pub refused: u64,
    /// SHA-256 (hex) of the template of each order line, as it was when the order was accepted.
    pub templates: BTreeMap<u32, String>,
    /// Batch key sealed by the site KEK, once made.
    pub sealed_batch_key: Option<Vec<u8>>,
    /// RFC 3339, UTC.
    pub accepted_at: String,
    /// The bundle that is being filled: 0 the order's own, then one each time that held rows are put back later.
    pub part: u32,
    /// Which order it changes, and how; none for orders of profiles.
    pub change: Option<OrderChange>,
}

/// What an order of kind cancel or remake does, and to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderChange {
    /// What it does.
    pub kind: ChangeKind,
    /// The order whose rows change.
    pub target: OrderPk,
}

/// What an order does to the rows of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Gives up what is not started.
    Cancel,
    /// Makes exported profiles again.
    Remake,
}

impl ChangeKind {
    /// The word in orders and in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Remake => "remake",
        }
    }

    /// The kind of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Cancel, Self::Remake].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// What a profile that is made again gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// Whose.
    pub device: DevicePk,
    /// The eUICC.
    pub eid: Eid,
    /// Its one-time key.
    pub euicc_otpk: [u8; 65],
    /// Of a new profile; none where the old one is made once more.
    pub numbers: Option<NewNumbers>,
}

/// Numbers of a profile that takes another one's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewNumbers {
    /// ICCID.
    pub iccid: Iccid,
    /// IMSI, where the old profile has one.
    pub imsi: Option<Imsi>,
}

/// State of one device line (contract, "States").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceState {
    /// Validated, numbers and key claimed.
    Accepted,
    /// PPP stored.
    Prepared,
    /// BPP made.
    Bound,
    /// The bundle that holds it is durable.
    Exported,
    /// Refused at validation; nothing was claimed.
    Rejected,
    /// Accepted, but ended with an error; see its error class.
    Failed,
    /// Set aside by an operator.
    Held,
    /// Cancelled before it was started.
    Cancelled,
    /// Its package was taken back before it was exported.
    Revoked,
}

impl DeviceState {
    /// The word that stands in files and in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Prepared => "prepared",
            Self::Bound => "bound",
            Self::Exported => "exported",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Cancelled => "cancelled",
            Self::Revoked => "revoked",
        }
    }

    /// The state of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        const ALL: [DeviceState; 9] = [
            DeviceState::Accepted,
            DeviceState::Prepared,
            DeviceState::Bound,
            DeviceState::Exported,
            DeviceState::Rejected,
            DeviceState::Failed,
            DeviceState::Held,
            DeviceState::Cancelled,
            DeviceState::Revoked,
        ];
        ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// A device line to be worked on. Rejected lines have no numbers.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its row.
    pub pk: DevicePk,
    /// `line` of the order header.
    pub line: u32,
    /// `row` of the CSV.
    pub row: u32,
    /// Where it stands.
    pub state: DeviceState,
    /// The eUICC, where the order names one.
    pub eid: Option<Eid>,
    /// The profile's ICCID.
    pub iccid: Option<Iccid>,
    /// The subscriber's IMSI.
    pub imsi: Option<Imsi>,
    /// E.164 digits, where ordered.
    pub msisdn: Option<String>,
    /// Values of the line's variables that differ from record to record, by the variables' names.
    pub vars: Vec<(String, String)>,
    /// Ordered matching id; else made when the record is.
    pub matching_id: Option<MatchingId>,
    /// otPK.EUICC.KA, uncompressed, in prebound mode.
    pub euicc_otpk: Option<[u8; 65]>,
    /// K and OPc as the order brought them, where it did.
    pub wrapped: Option<Wrapped>,
    /// Set when rejected or failed.
    pub error_class: Option<String>,
    /// What became of it, once issued.
    pub issue: Option<Box<Issue>>,
}

/// K and OPc (TOPc) under an operator's transport key, octet for octet as they were ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// K.
    pub ki: Vec<u8>,
    /// OPc or TOPc; none where it is derived from K and the operator's OP.
    pub opc: Option<Vec<u8>>,
}

/// What became of an issued device line; everything `orders.jsonl`, `core.csv` and `results.csv` say of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issue {
    /// Token of the activation code.
    pub matching_id: String,
    /// transactionId in the package; none for a stored PPP.
    pub transaction_id: Option<[u8; 16]>,
    /// Package file of the bundle (`packages-00001.bpp`), or the vault's file of a stored PPP.
    pub object: Option<String>,
    /// Octets from the start of the object.
    pub offset: u64,
    /// Octets of the package.
    pub length: u64,
    /// SHA-256 of the package (BPP; of the PPP when stored).
    pub sha256: [u8; 32],
    /// SHA-256 of the plain UPP.
    pub upp_sha256: [u8; 32],
    /// SHA-256 of the metadata TLV (BF25).
    pub metadata_sha256: [u8; 32],
    /// K under the transport key, encrypted in the HSM.
    pub ki_enc: Vec<u8>,
    /// OPc/TOPc under the transport key.
    pub opc_enc: Vec<u8>,
    /// PPK triple under the batch key (`mode: order`).
    pub sealed_ppk: Option<Vec<u8>>,
    /// K, OPc, OTA keys, PINs under the batch key: for the OTA platform's and the care desk's files.
    pub sealed_credentials: Option<Vec<u8>>,
}

/// A stored PPP that was bound: what changes of its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBinding {
    /// Whose.
    pub device: DevicePk,
    /// The eUICC it is for.
    pub eid: Eid,
    /// otPK.EUICC.KA, uncompressed.
    pub euicc_otpk: [u8; 65],
    /// transactionId in the package.
    pub transaction_id: [u8; 16],
    /// Package file of the bundle.
    pub object: String,
    /// Octets from the start of the object.
    pub offset: u64,
    /// Octets of the package.
    pub length: u64,
    /// SHA-256 of the package.
    pub sha256: [u8; 32],
}

/// What one chunk did to one device line.
#[derive(Debug)]
pub enum Outcome {
    /// Issued: now in this state ([`DeviceState::Prepared`] or [`DeviceState::Bound`]).
    Issued {
        /// The new state.
        state: DeviceState,
        /// Details.
        issue: Box<Issue>,
    },
    /// Ended with an error.
    Failed {
        /// Its class.
        class: ErrorClass,
        /// What happened and what to do, without secrets.
        what: String,
    },
}

/// Profiles of an exported order made again by one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remake {
    /// 1-based within the order; names its bundle.
    pub number: u32,
    /// SHA-256 of what was asked for.
    pub input: [u8; 32],
    /// Packages made.
    pub rows: u64,
    /// Those among them that went to another eUICC than before.
    pub other_euicc: u64,
    /// New profiles under new numbers, instead of the same ones once more.
    pub renumbered: bool,
    /// The order that asked for it and claimed its keys and numbers; none where a command did.
    pub change: Option<OrderPk>,
}

/// A refused row as `rejects.csv` tells it. `row` 0: the order or file as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `line` of the order header; 0 for the order as a whole.
    pub line: u32,
    /// `row` of the CSV.
    pub row: u32,
    /// Column or header member.
    pub column: String,
    /// Masked.
    pub value: String,
    /// Stable code, kebab-case: `check-digit`, `duplicate-eid`, ...
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// A device line about to be accepted.
#[derive(Clone, Debug)]
pub struct NewDevice {
    /// `line` of the order header.
    pub line: u32,
    /// `row` of the CSV.
    pub row: u32,
    /// The eUICC.
    pub eid: Option<Eid>,
    /// Claimed unless rejected.
    pub iccid: Option<Iccid>,
    /// Claimed unless rejected; unique per tenant.
    pub imsi: Option<Imsi>,
    /// E.164 digits.
    pub msisdn: Option<String>,
    /// Values of variables, kept unless rejected.
    pub vars: Vec<(String, String)>,
    /// Ordered matching id.
    pub matching_id: Option<MatchingId>,
    /// Claimed unless rejected: one profile, ever.
    pub euicc_otpk: Option<[u8; 65]>,
    /// K and OPc under the operator's transport key, kept unless rejected.
    pub wrapped: Option<Wrapped>,
    /// Refused at validation, with this class: kept for `results.csv`, nothing is claimed.
    pub rejected: Option<ErrorClass>,
}

/// The ledger as the batch conductor sees it. Acceptance of orders is `sqlite::Ledger`'s own (it needs a transaction
/// that streams).
pub trait Store: Send + Sync {
    /// Accepted orders that are not exported yet, oldest first.
    fn due_orders(&self) -> Result<Vec<StoredOrder>, StoreError>;
    /// One order.
    fn find_order(&self, key: &OrderKey) -> Result<Option<StoredOrder>, StoreError>;
    /// Keeps the sealed batch key; called once per order, before its first chunk.
    fn keep_batch_key(&self, order: OrderPk, sealed: &[u8]) -> Result<(), StoreError>;
    /// First and last device of one order line, rejected ones included; `None` for an empty line.
    fn device_span(&self, order: OrderPk, line: u32) -> Result<Option<(DevicePk, DevicePk)>, StoreError>;
    /// Keeps the plan of an order's chunks; an order is planned once.
    fn plan_chunks(&self, order: OrderPk, chunks: &[Chunk]) -> Result<(), StoreError>;
    /// The plan, in order; empty before planning.
    fn chunks(&self, order: OrderPk) -> Result<Vec<Chunk>, StoreError>;
    /// A runner begins with an order, alone: marks that a killed one left are void.
    fn begin_work(&self, order: OrderPk) -> Result<(), StoreError>;
    /// Marks a chunk as started, unless its rows are held.
    fn start_chunk(&self, order: OrderPk, chunk: u32) -> Result<ChunkStart, StoreError>;
    /// Marks the order as being sealed: from now on its rows keep their states. False when rows were put back meanwhile and want to
    /// be worked on first.
    fn begin_seal(&self, order: OrderPk) -> Result<bool, StoreError>;
    /// Devices of the order's bundle `part` (1 and later) by state.
    fn part_counts(&self, order: OrderPk, part: u32) -> Result<Vec<(DeviceState, u64)>, StoreError>;
    /// The devices `first..=last` of an order, in order.
    fn devices(&self, order: OrderPk, first: DevicePk, last: DevicePk) -> Result<Vec<Device>, StoreError>;
    /// Makes a chunk's outcomes durable and marks it done, in one transaction; `object`: the package file it wrote. Every
    /// `Accepted` device of the chunk must have an outcome, else the ledger refuses.
    fn commit_chunk(
        &self,
        order: OrderPk,
        chunk: u32,
        outcomes: &[(DevicePk, Outcome)],
        object: Option<&ObjectFacts>,
    ) -> Result<(), StoreError>;
    /// Prepared and bound devices are exported from here on, and the order, in one transaction, under the hash of the bundle's manifest.
    /// Refused while a device is without outcome.
    fn close_order(&self, order: OrderPk, manifest_sha256: &[u8; 32]) -> Result<(), StoreError>;
    /// How many devices of an order have a PPP that is stored and not bound yet.
    fn stored_count(&self, order: OrderPk) -> Result<u64, StoreError>;
    /// Claims the one-time keys and records the packages of stored PPPs that were bound, in one transaction; `bound` must not ask
    /// this ledger.
    fn record_binding(
        &self,
        order: OrderPk,
        bound: &mut dyn Iterator<Item = Result<NewBinding, StoreError>>,
        manifest_sha256: &[u8; 32],
    ) -> Result<(), StoreError>;
    /// Puts the packages of profiles that were made again in the place of the old ones, of which tombstones stay, and claims their
    /// one-time keys; in one transaction. Each device carries its new eUICC, one-time key and issue.
    fn record_remake(
        &self,
        order: OrderPk,
        remake: &Remake,
        made: &[Device],
        manifest_sha256: &[u8; 32],
    ) -> Result<(), StoreError>;
    /// Whether a profile was ever bound, or is to be bound, with this one-time key.
    fn one_time_key_used(&self, point: &[u8; 65]) -> Result<bool, StoreError>;
    /// Devices of an order counted by state.
    fn counts(&self, order: OrderPk) -> Result<Vec<(DeviceState, u64)>, StoreError>;
    /// Writes an audit line that goes with no change of the ledger; the changes above write their own.
    fn record(&self, event: &Event) -> Result<Head, StoreError>;
    /// The last line of the audit log that was committed.
    fn audit_head(&self) -> Result<Head, StoreError>;
    /// The audit log.
    fn audit_log(&self) -> &Log;
}
