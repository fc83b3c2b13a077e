//! Which values came before: exact, and in little memory however many they are.
//!
//! In: values of one size. Out: whether each is new. A filter of 16 bits a value (Bloom, 8 probes) says "never" without error;
//! what it says "maybe" to, which is one honest value in some thousands, is looked for among the values themselves, which rest
//! one behind the other in a nameless temporary file. A batch of values is looked for in one reading of it, so that a flood of
//! repeated values costs a reading a batch and not one a value.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Seek, SeekFrom, Write};

/// With 8 probes at most one new value in 1,700 is a false suspect, while the filter fills one in 14,000.
const BITS_A_VALUE: u64 = 16;
const PROBES: u64 = 8;
/// Values that rest in memory before they are written.
const TAIL: usize = 4_096;
const READ_OCTETS: usize = 64 * 1024;

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
    /// Drawn for this value: nobody can choose values that meet in the filter.
    hasher: RandomState,
    filter: Filter,
    file: Option<File>,
    /// Those behind the file's.
    tail: Vec<[u8; N]>,
}

impl<const N: usize> Seen<N> {
    /// Nothing seen; sized for so many values.
    pub fn for_about(values: u64) -> Self {
        Self { hasher: RandomState::new(), filter: Filter::for_about(values), file: None, tail: Vec::new() }
    }

    /// Whether the value is new.
    pub fn add(&mut self, value: [u8; N]) -> io::Result<bool> {
        Ok(self.add_all(&[value])?.iter().all(|new| *new))
    }

    /// Whether each value is new: neither seen before nor earlier among these.
    pub fn add_all(&mut self, values: &[[u8; N]]) -> io::Result<Vec<bool>> {
        let maybe = |value: &&[u8; N]| self.filter.note(self.hasher.hash_one(value));
        let suspects: HashSet<[u8; N]> = values.iter().filter(maybe).copied().collect();
        let mut known = if suspects.is_empty() { HashSet::new() } else { self.find(&suspects)? };
        let is_new = values.iter().map(|value| !suspects.contains(value) || known.insert(*value)).collect::<Vec<_>>();
        self.tail.extend(values.iter().zip(&is_new).filter(|(_, new)| **new).map(|(value, _)| *value));
        if self.tail.len() >= TAIL {
            self.write_tail()?;
        }
        Ok(is_new)
    }

    fn write_tail(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        file.seek(SeekFrom::End(0))?;
        file.write_all(self.tail.as_flattened())?;
        self.tail.clear();
        Ok(())
    }

    /// Which of the suspects are among the values.
    fn find(&mut self, suspects: &HashSet<[u8; N]>) -> io::Result<HashSet<[u8; N]>> {
        let mut found: HashSet<_> = self.tail.iter().filter(|value| suspects.contains(*value)).copied().collect();
        let Some(file) = &mut self.file else { return Ok(found) };
        // Most values are none of them and are told so by their first two octets.
        let mut begins = vec![false; 1 << 16];
        suspects.iter().for_each(|value| begins[first_two(value)] = true);
        file.seek(SeekFrom::Start(0))?;
        let mut block = vec![0; (READ_OCTETS / N).max(1) * N];
        loop {
            let filled = fill(file, &mut block)?;
            let (values, _) = block[..filled].as_chunks::<N>();
            found.extend(values.iter().filter(|value| begins[first_two(*value)] && suspects.contains(*value)));
            if filled < block.len() {
                return Ok(found);
            }
        }
    }
}

fn first_two(value: &[u8]) -> usize {
    value.iter().take(2).fold(0, |begin, octet| begin << 8 | usize::from(*octet))
}

/// Reads until the block is full or the file ends.
fn fill(file: &mut File, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
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
    fn of_two_equal_values_of_a_batch_the_first_is_new() {
        let mut seen = Seen::<8>::for_about(10);
        assert_eq!(seen.add_all(&[1, 2, 1, 3, 2, 1].map(value)).unwrap(), [true, true, false, true, false, false]);
    }

    #[test]
    fn a_filter_errs_as_seldom_as_it_says() {
        let mut filter = Filter::for_about(100_000);
        let hasher = RandomState::new();
        let suspects = (0..100_000_u32).filter(|n| filter.note(hasher.hash_one(n))).count();
        assert!(suspects < 40, "{suspects}");
        assert!((0..100_000_u32).all(|n| filter.note(hasher.hash_one(n))));
    }
}
