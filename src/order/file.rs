//! The order file `bindery.order/1` as types that hold no wrong value. The pipeline reads a stored order's body again with
//! [`Order::from_json`]; nothing here depends on the clock or the site.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use zeroize::Zeroizing;

use super::vars::{MSISDN, Var};
use crate::formats::rsp::metadata::StoreMetadata;
use crate::formats::saip::algorithm::Algorithm;
use crate::ids::{Iccid, Imsi, OrderKey};

/// Schema word of an order file.
pub const SCHEMA: &str = "bindery.order/1";
/// Rows of one line at most.
pub const MAX_QUANTITY: u32 = 10_000_000;
/// Lines of an order at most.
pub const MAX_LINES: usize = 1_000;
/// Variables of a line at most.
pub const MAX_VARS: usize = 256;
/// Rows written into the order file itself at most.
pub const MAX_INLINE_ROWS: usize = 1_000;

/// An order.
#[derive(Clone, Debug)]
pub struct Order {
    /// Tenant, order id and revision: what makes it unique.
    pub key: OrderKey,
    /// What the profiles are for.
    pub kind: Kind,
    /// What a refused row does to the others.
    pub accept: Accept,
    /// When it should be exported.
    pub due: Option<jiff::Timestamp>,
    /// Its lines; at least one, numbers differ.
    pub lines: Vec<Line>,
}

impl Order {
    /// Rows of all lines.
    pub fn quantity(&self) -> u64 {
        self.lines.iter().map(|line| u64::from(line.quantity)).sum()
    }
}

/// What the profiles of an order are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Subscribers'.
    Production,
    /// The profile a device leaves the factory with.
    Bootstrap,
    /// Tests.
    Test,
}

/// What a refused row does to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// One refused row rejects the order.
    AllOrNothing,
    /// The others are accepted.
    Partial,
}

/// A line of an order: one template, one mode, `quantity` devices.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its number in the order, from 1.
    pub line: u32,
    /// `name@version`.
    pub template: String,
    /// When and how packages are bound.
    pub mode: Mode,
    /// Rows, refused ones included.
    pub quantity: u32,
    /// Where ICCIDs come from.
    pub iccid: Numbers<Iccid>,
    /// Where IMSIs come from; none: from the rows if they have the column, else the profiles get none of ours.
    pub imsi: Option<Numbers<Imsi>>,
    /// AKA algorithm written into the profiles.
    pub algorithm: Algorithm,
    /// Where K and OPc come from.
    pub credentials: CredentialsFrom,
    /// Generated credentials: transport key of the core file, where it is not the core target's own. Imported ones: the key they
    /// came under; the core file's is the core target's.
    pub transport_key: Option<String>,
    /// The template's variables, and where their values come from.
    pub vars: BTreeMap<String, Var>,
    /// What StoreMetadata says.
    pub metadata: StoreMetadata,
    /// When the profiles are good for use.
    pub validity: Option<Validity>,
    /// How a bootstrap profile is used.
    pub bootstrap: Option<Bootstrap>,
    /// What a user must type before the download.
    pub confirmation_code: Option<ConfirmationCode>,
    /// Values by row.
    pub rows: Option<Rows>,
    /// eUICC key file (`euicc.jsonl`).
    pub euicc_data: Option<FileRef>,
    /// Where results go.
    pub export: Vec<Export>,
}

impl Line {
    /// The own columns (`x_*`) that give values of variables, each once.
    pub(super) fn own_columns(&self) -> Vec<&str> {
        let named = self.vars.values().filter_map(|var| match var {
            Var::Column(column) if column != MSISDN => Some(column.as_str()),
            _ => None,
        });
        named.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// Where numbers come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Numbers<T> {
    /// Row r gets the number `first + r - 1`.
    First(T),
    /// From the rows.
    Rows,
}

/// When and how packages are bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Protected now under random keys, bound when the eUICC asks.
    Order,
    /// Bound now under session keys, with one-time keys from the key file.
    Prebound,
}

impl Mode {
    /// The word in orders and exports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Prebound => "prebound",
        }
    }
}

/// Where K and OPc come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialsFrom {
    /// Made here.
    Generate,
    /// The rows bring them, under an operator's transport key.
    Import,
}

/// When profiles are good for use; both days included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First day.
    pub from: Option<jiff::civil::Date>,
    /// Last day.
    pub until: Option<jiff::civil::Date>,
}

/// How a bootstrap profile is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// Static or managed.
    pub mode: BootstrapMode,
    /// Data it may use.
    pub allowance_bytes: Option<u64>,
}

/// Whether somebody steers the bootstrap connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootstrapMode {
    /// Nobody does.
    Static,
    /// A platform does.
    Managed,
}

/// A confirmation code: wiped, silent.
#[derive(Clone)]
pub struct ConfirmationCode(Zeroizing<String>);

impl ConfirmationCode {
    /// 1 to 64 printable ASCII characters.
    pub(super) fn new(text: &str) -> Option<Self> {
        let sound = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        sound.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The code, for its hash only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ConfirmationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConfirmationCode(redacted)")
    }
}

/// Values by row.
#[derive(Clone, Debug)]
pub enum Rows {
    /// In a CSV beside the order.
    File {
        /// The file.
        file: FileRef,
        /// Rows it has.
        count: u32,
    },
    /// In the order itself.
    Inline(Vec<InlineRow>),
}

/// A row written into the order; empty cells are absent.
#[derive(Clone, Debug, Default)]
pub struct InlineRow {
    /// One a column of [`super::columns::Column`].
    pub(super) cells: [Option<Box<str>>; super::columns::COLUMNS],
    /// Own columns (`x_*`), by name.
    pub(super) own: BTreeMap<Box<str>, Box<str>>,
}

/// A file beside the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRef {
    /// Relative to the order file.
    pub file: String,
    /// Lower-case hex.
    pub sha256: String,
}

/// Where results go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Export {
    /// `eim:NAME`.
    Eim(String),
    /// `core:NAME`.
    Core(String),
    /// `qr`.
    Qr,
}
