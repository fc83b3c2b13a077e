//! Orders: a JSON header and its rows come in, an accepted order in the ledger and an answer in the outbox go out.
//!
//! In: `bindery.order/1`, CSV rows, eUICC key file. Out: [`Answer`]; in the ledger the order, its devices, numbers and one-time keys.
//! Next: the pipeline. Rule: everything is validated before a number or key is used; nothing is consumed by an order that is
//! rejected. What this room needs of the others comes in as arguments: [`Templates`], [`CheckKeys`], [`Targets`], the time.

mod answer;
mod beside;
pub mod change;
mod changing;
mod columns;
pub mod file;
mod header;
pub mod inbox;
mod intake;
mod json;
mod judge;
pub mod key_file;
mod keys;
mod parse;
mod pass;
mod purged;
mod quota;
mod ranges;
mod refusals;
mod rows;
#[cfg(test)]
mod tests;
mod twice;
mod values;
mod vars;
mod warnings;
mod wrapped;

pub use answer::{ACK_SCHEMA, Answer, Counts, Verdict};
pub use change::Document;
pub use changing::{Asked, Changes};
pub use columns::{COLUMNS, Column};
pub use file::{
    Accept, Bootstrap, BootstrapMode, ConfirmationCode, CredentialsFrom, Export, FileRef, InlineRow, Kind, Line,
    MAX_INLINE_ROWS, MAX_QUANTITY, Mode, Numbers, Order, Rows, SCHEMA, Validity,
};
pub use header::{CheckValue, Takes, Targets, TemplateRefusal, Templates, UnfitValue, WrappedForm};
pub use intake::{Intake, OrderFile, answer_again};
pub use keys::{CheckKeys, KeyLine, KeyRefusal};
pub use parse::Unreadable;
pub use purged::without_values;
pub use quota::{Quota, Tenants};
pub use refusals::SHOWN;
pub use vars::{FirstNumber, MSISDN, NoNumber, Var};
