//! Values that may stand once in an order: EIDs in a line, numbers, matching ids and wrapped keys in all of it.
//!
//! The rows are read twice. The first reading ([`FirstLook`]) notes in a filter of two octets a value which values may stand twice
//! at all: the few that the filter takes for known, among them every one that is. The second reading, which judges, keeps those
//! few and no other ([`Twice`]). So the first of two equal values stands, every later one is found, and an honest order of a
//! million rows takes the memory of one with ten thousand.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use super::columns::Column;
use super::rows::{Cells, RowSource};
use crate::store::seen::Filter;

/// What a value must not share with another of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Within this line.
    Eid(u32),
    Iccid,
    Imsi,
    MatchingId,
    /// K or OPc, as hex.
    Wrapped,
}

/// Columns with such values.
const COLUMNS: [Column; 6] =
    [Column::Eid, Column::Iccid, Column::Imsi, Column::MatchingId, Column::KiWrapped, Column::OpcWrapped];

/// The first reading.
pub(super) struct FirstLook {
    hasher: RandomState,
    filter: Filter,
    suspects: HashSet<u64>,
    lengths: HashMap<(u32, Column), [u64; LONGEST + 1]>,
}

/// Digits of the longest number, an ICCID.
const LONGEST: usize = 20;

/// The second reading.
#[derive(Default)]
pub(super) struct Twice {
    hasher: RandomState,
    suspects: HashSet<u64>,
    stood: HashSet<(Kind, Box<[u8]>)>,
    /// Digits of a line's numbers of one kind.
    lengths: HashMap<(u32, Column), usize>,
}

impl FirstLook {
    /// Values that so many rows of a source can have at most.
    pub(super) fn values_of(source: &RowSource<'_>, rows: u32) -> u64 {
        COLUMNS.into_iter().filter(|column| source.has(*column)).count() as u64 * u64::from(rows)
    }

    pub(super) fn for_about(values: u64) -> Self {
        Self {
            hasher: RandomState::new(),
            filter: Filter::for_about(values),
            suspects: HashSet::new(),
            lengths: HashMap::new(),
        }
    }

    /// Notes the values of a row as they stand there: a value that is right can be written in one way only, but for the case of hex.
    pub(super) fn note(&mut self, line: u32, cells: &Cells<'_>) {
        for column in COLUMNS {
            let Some(cell) = cells.cell(column) else { continue };
            if matches!(column, Column::Iccid | Column::Imsi)
                && let Some(count) = self.lengths.entry((line, column)).or_insert([0; LONGEST + 1]).get_mut(cell.len())
            {
                *count += 1;
            }
            let hash = match column {
                Column::Eid => self.hasher.hash_one((Kind::Eid(line), cell)),
                Column::Iccid => self.hasher.hash_one((Kind::Iccid, cell)),
                Column::Imsi => self.hasher.hash_one((Kind::Imsi, cell)),
                Column::MatchingId => self.hasher.hash_one((Kind::MatchingId, cell)),
                _ => self.hasher.hash_one((Kind::Wrapped, &cell.to_ascii_lowercase()[..])),
            };
            if self.filter.note(hash) {
                self.suspects.insert(hash);
            }
        }
    }

    pub(super) fn into_twice(self) -> Twice {
        // Of two lengths that are met as often the longer one is taken: digits are lost, none are won.
        let usual = |counts: [u64; LONGEST + 1]| (0..=LONGEST).max_by_key(|length| (counts[*length], *length));
        let lengths = self.lengths.into_iter().filter_map(|(of, counts)| Some((of, usual(counts)?))).collect();
        Twice { hasher: self.hasher, suspects: self.suspects, stood: HashSet::new(), lengths }
    }
}

impl Twice {
    /// The length that most of the line's numbers in this column have.
    pub(super) fn usual_length(&self, line: u32, column: Column) -> Option<usize> {
        self.lengths.get(&(line, column)).copied()
    }

    /// False when the value stood before, in this reading. `value` as the first reading saw it; hex in lower case.
    pub(super) fn is_first(&mut self, kind: Kind, value: &[u8]) -> bool {
        !self.suspects.contains(&self.hasher.hash_one((kind, value))) || self.stood.insert((kind, value.into()))
    }
}
