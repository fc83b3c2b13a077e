//! Orders of kind `cancel` and `remake` as types: they have no profiles of their own, they name rows of an order that was accepted
//! before, of the same tenant and order id and a lower revision.

use super::file::{FileRef, Order, Rows};
use crate::ids::{Iccid, Imsi, OrderKey};
use crate::store::ChangeKind;

/// An order file: of profiles, or of changes to another order's.
#[derive(Clone, Debug)]
pub enum Document {
    /// Kind production, bootstrap or test.
    Order(Box<Order>),
    /// Kind cancel or remake.
    Change(ChangeOrder),
}

impl Document {
    /// Its own key.
    pub fn key(&self) -> &OrderKey {
        match self {
            Self::Order(order) => &order.key,
            Self::Change(change) => &change.key,
        }
    }

    /// The files beside it that it names.
    pub(super) fn files(&self) -> Vec<&FileRef> {
        fn of(rows: Option<&Rows>) -> Option<&FileRef> {
            match rows {
                Some(Rows::File { file, .. }) => Some(file),
                _ => None,
            }
        }
        match self {
            Self::Order(order) => {
                order.lines.iter().flat_map(|line| of(line.rows.as_ref()).into_iter().chain(&line.euicc_data)).collect()
            }
            Self::Change(ChangeOrder { change: Change::Cancel { .. }, .. }) => Vec::new(),
            Self::Change(ChangeOrder { change: Change::Remake { lines }, .. }) => {
                lines.iter().flat_map(|line| of(Some(&line.rows)).into_iter().chain([&line.euicc_data])).collect()
            }
        }
    }
}

/// An order that changes another.
#[derive(Clone, Debug)]
pub struct ChangeOrder {
    /// Its own key.
    pub key: OrderKey,
    /// What it asks for.
    pub change: Change,
}

impl ChangeOrder {
    /// Its kind.
    pub fn kind(&self) -> ChangeKind {
        match self.change {
            Change::Cancel { .. } => ChangeKind::Cancel,
            Change::Remake { .. } => ChangeKind::Remake,
        }
    }
}

/// What a change asks for.
#[derive(Clone, Debug)]
pub enum Change {
    /// Give up what is not started.
    Cancel {
        /// Of these lines; empty: of all.
        lines: Vec<u32>,
    },
    /// Make exported profiles again.
    Remake {
        /// At least one; numbers differ.
        lines: Vec<RemakeLine>,
    },
}

/// Rows of one line to be made again.
#[derive(Clone, Debug)]
pub struct RemakeLine {
    /// Its number in the order that is changed.
    pub line: u32,
    /// Which rows: by ICCID where they have the column, else by number.
    pub rows: Rows,
    /// Key file (`euicc.jsonl`).
    pub euicc_data: FileRef,
    /// New profiles from this ICCID on, counted in the order of the rows; none: the same profiles.
    pub iccid: Option<Iccid>,
    /// New IMSIs from this one on.
    pub imsi: Option<Imsi>,
}

/// Rows as a remake names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// By number.
    Rows(Vec<u32>),
    /// By the ICCIDs of their profiles.
    Iccids(Vec<Iccid>),
}
