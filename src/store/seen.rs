//! Which values came before: exact, and in little memory however many they are.
//!
//! In: values of one size. Out: whether each is new. A filter of 10 bits a value (Bloom, 7 probes) says "never" without error;
//! what it says "maybe" to, which is one honest value in some hundred, is looked for among the values themselves, which rest in a
//! nameless temporary file. They rest there on shelves, chosen by their hash, and a suspect is looked for on its own alone. A batch
//! of values is looked for in one reading, so that a flood of repeated values costs a reading a batch and not one a value.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;

/// With 7 probes at most one new value in 120 is a false suspect, while the filter fills one in 700. Of 12 bits and 8 probes one in 300
/// is, but of a million records each bit is a quarter of a megabyte, and the filter most of what a big order holds more than a small one.
const BITS_A_VALUE: u64 = 10;
const PROBES: u64 = 7;
/// So many that the false suspects of a thousand records are looked for among a quarter of all values at most.
const SHELVES: usize = 64;
/// Values of one shelf that rest in memory before they are written, and are read at once.
const BLOCK: usize = 256;

/// A set of 64-bit hashes that may say yes to one it does not have, and never no to one it has.
pub struct Filter {
    words: Vec<u64>,
}

impl Filter {
    /// Sized for so many hashes; more make it err more often, never wrongly.
    pub fn for_about(hashes: u64) -> Self {
        let words = (hashes.max(64) * BITS_A_VALUE).div_ceil(64);
        Self { words: vec![0; usize::try_from(words).unwrap_or(usize::MAX)] }
    }

    /// Enters a hash; true when it may have been there before.
    pub fn note(&mut self, hash: u64) -> bool {
        let bits = self.words.len() as u128 * 64;
        // The second hash of double hashing (splitmix64's last step); odd, so that no two probes meet for certain.
        let step = (hash ^ hash >> 31).wrapping_mul(0x94D0_49BB_1331_11EB) | 1;
        let mut was_there = true;
        for probe in 0..PROBES {
            let place = hash.wrapping_add(probe.wrapping_mul(step));
            let bit = ((u128::from(place) * bits) >> 64) as usize;
            let Some(word) = self.words.get_mut(bit / 64) else { continue };
            was_there &= *word >> (bit % 64) & 1 == 1;
            *word |= 1 << (bit % 64);
        }
        was_there
    }
}

/// Values of `N` octets, each remembered from when it first came.
pub struct Seen<const N: usize> {
    /// Drawn for this value: nobody can choose values that meet in the filter or crowd on a shelf.
    hasher: RandomState,
    filter: Filter,
    shelves: [Shelf<N>; SHELVES],
    /// Blocks of all shelves, in the order in which they were filled.
    file: Option<File>,
    blocks: u64,
    #[cfg(test)]
    blocks_read: u64,
}

/// The values whose hashes choose it.
struct Shelf<const N: usize> {
    /// Which blocks of the file are its own.
    blocks: Vec<u64>,
    /// Those that do not fill a block yet.
    tail: Vec<[u8; N]>,
}

impl<const N: usize> Seen<N> {
    /// Nothing seen; sized for so many values.
    pub fn for_about(values: u64) -> Self {
        Self {
            hasher: RandomState::new(),
            filter: Filter::for_about(values),
            shelves: std::array::from_fn(|_| Shelf { blocks: Vec::new(), tail: Vec::new() }),
            file: None,
            blocks: 0,
            #[cfg(test)]
            blocks_read: 0,
        }
    }

    /// Whether the value is new.
    pub fn add(&mut self, value: [u8; N]) -> io::Result<bool> {
        Ok(self.add_all(&[value])?.iter().all(|new| *new))
    }

    /// Whether each value is new: neither seen before nor earlier among these.
    pub fn add_all(&mut self, values: &[[u8; N]]) -> io::Result<Vec<bool>> {
        let hashes: Vec<u64> = values.iter().map(|value| self.hasher.hash_one(value)).collect();
        let mut suspects = HashSet::new();
        let mut wanted = [false; SHELVES];
        for (value, hash) in values.iter().zip(&hashes) {
            if self.filter.note(*hash) {
                suspects.insert(*value);
                wanted[shelf_of(*hash)] = true;
            }
        }
        let mut known = if suspects.is_empty() { HashSet::new() } else { self.find(&suspects, &wanted)? };
        let is_new = values.iter().map(|value| !suspects.contains(value) || known.insert(*value)).collect::<Vec<_>>();
        for ((value, hash), _) in values.iter().zip(hashes).zip(&is_new).filter(|(_, new)| **new) {
            self.keep(*value, shelf_of(hash))?;
        }
        Ok(is_new)
    }

    fn keep(&mut self, value: [u8; N], shelf: usize) -> io::Result<()> {
        let Shelf { blocks, tail } = &mut self.shelves[shelf];
        // Before the next value comes: a tail that could not be written stays a block.
        if tail.len() == BLOCK {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(tempfile::tempfile()?),
            };
            file.write_all_at(tail.as_flattened(), self.blocks * (BLOCK * N) as u64)?;
            blocks.push(self.blocks);
            self.blocks += 1;
            tail.clear();
        }
        tail.push(value);
        Ok(())
    }

    /// Which of the suspects are among the values of the wanted shelves.
    fn find(&mut self, suspects: &HashSet<[u8; N]>, wanted: &[bool; SHELVES]) -> io::Result<HashSet<[u8; N]>> {
        // Most values are none of them and are told so by their first two octets.
        let mut begins = vec![false; 1 << 16];
        suspects.iter().for_each(|value| begins[first_two(value)] = true);
        let is_suspect = |value: &&[u8; N]| begins[first_two(*value)] && suspects.contains(*value);
        let mut found = HashSet::new();
        let mut block = [[0; N]; BLOCK];
        for (Shelf { blocks, tail }, _) in self.shelves.iter().zip(wanted).filter(|(_, wanted)| **wanted) {
            found.extend(tail.iter().filter(is_suspect));
            let Some(file) = &self.file else { continue };
            for number in blocks {
                file.read_exact_at(block.as_flattened_mut(), number * (BLOCK * N) as u64)?;
                found.extend(block.iter().filter(is_suspect));
            }
            #[cfg(test)]
            {
                self.blocks_read += blocks.len() as u64;
            }
        }
        Ok(found)
    }
}

/// By other bits of the hash than the filter's first probe.
fn shelf_of(hash: u64) -> usize {
    hash as usize % SHELVES
}

fn first_two(value: &[u8]) -> usize {
    value.iter().take(2).fold(0, |begin, octet| begin << 8 | usize::from(*octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(n: u64) -> [u8; 8] {
        n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()
    }

    #[test]
    fn every_value_is_new_once_wherever_it_rests_meanwhile() {
        // Far more values than the filter is sized for: suspicion is the rule, errors are not.
        for sized_for in [64, 20_000] {
            let mut seen = Seen::<8>::for_about(sized_for);
            for batch in (0..20_000_u64).collect::<Vec<_>>().chunks(1_000) {
                let values: Vec<_> = batch.iter().map(|n| value(*n)).collect();
                assert_eq!(seen.add_all(&values).unwrap(), vec![true; 1_000]);
            }
            let again: Vec<_> = (0..20_100).step_by(50).map(value).collect();
            let is_new = seen.add_all(&again).unwrap();
            assert!(is_new.iter().zip((0..20_100).step_by(50)).all(|(new, n)| *new == (n >= 20_000)));
            assert!(!seen.add(value(20_050)).unwrap() && seen.add(value(20_051)).unwrap());
        }
    }

    #[test]
    fn a_suspect_costs_its_own_shelf_and_a_flood_of_repeats_one_reading_a_batch() {
        let mut seen = Seen::<8>::for_about(50_000);
        let values: Vec<_> = (0..50_000).map(value).collect();
        values.chunks(1_000).for_each(|batch| drop(seen.add_all(batch).unwrap()));
        let blocks = seen.blocks;
        seen.blocks_read = 0;
        assert!(!seen.add(value(7)).unwrap());
        assert!((1..blocks / 8).contains(&seen.blocks_read), "{} of {blocks}", seen.blocks_read);
        seen.blocks_read = 0;
        for batch in [&values[..2_000], &[value(1_000); 2_000]] {
            assert_eq!(seen.add_all(batch).unwrap(), vec![false; 2_000]);
        }
        assert!(seen.blocks_read <= 2 * blocks, "{} of {blocks}", seen.blocks_read);
        assert_eq!(seen.blocks, blocks, "what was there is not kept again");
    }

    #[test]
    fn values_that_begin_alike_are_told_apart_wherever_they_rest() {
        let mut seen = Seen::<8>::for_about(64);
        for batch in (0..20_000_u64).map(u64::to_be_bytes).collect::<Vec<_>>().chunks(1_000) {
            assert_eq!(seen.add_all(batch).unwrap(), vec![true; 1_000]);
        }
        let again: Vec<_> = (19_000..21_000_u64).map(u64::to_be_bytes).collect();
        let is_new = seen.add_all(&again).unwrap();
        assert!(is_new.iter().zip(19_000..).all(|(new, n)| *new == (n >= 20_000)));
    }

    #[test]
    fn of_two_equal_values_of_a_batch_the_first_is_new() {
        let mut seen = Seen::<8>::for_about(10);
        assert_eq!(seen.add_all(&[1, 2, 1, 3, 2, 1].map(value)).unwrap(), [true, true, false, true, false, false]);
    }

    #[test]
    fn a_filter_errs_as_seldom_as_it_says() {
        let mut filter = Filter::for_about(100_000);
        let hasher = RandomState::new();
        let suspects = (0..100_000_u32).filter(|n| filter.note(hasher.hash_one(n))).count();
        assert!(suspects < 220, "{suspects}"); // 134 are to be expected
        assert!((0..100_000_u32).all(|n| filter.note(hasher.hash_one(n))));
    }
}
