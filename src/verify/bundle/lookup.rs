//! Which record has a value: 96 bits of its fingerprint and the record's index, 16 octets a record, looked up by halving.

use super::unique::Print;

/// Filled first, then [`Self::sorted`], then asked.
#[derive(Default)]
pub(super) struct Lookup(Vec<(u64, u32, u32)>);

impl Lookup {
    pub(super) fn add(&mut self, print: Print, record: u32) {
        let (high, low) = halves(print);
        self.0.push((high, low, record));
    }

    pub(super) fn sort(&mut self) {
        self.0.sort_unstable();
    }

    /// The last record that has the value.
    pub(super) fn find(&self, print: Print) -> Option<u32> {
        let (high, low) = halves(print);
        let behind = self.0.partition_point(|entry| (entry.0, entry.1) <= (high, low));
        let entry = self.0.get(behind.checked_sub(1)?)?;
        ((entry.0, entry.1) == (high, low)).then_some(entry.2)
    }
}

fn halves(print: Print) -> (u64, u32) {
    ((print >> 64) as u64, (print >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_record_with_a_value_is_found_and_no_other() {
        let mut lookup = Lookup::default();
        for (record, value) in (0..).zip([5_u128, 3, 5, 9]) {
            lookup.add(value << 40, record);
        }
        lookup.sort();
        let find = |value: u128| lookup.find(value << 40);
        assert_eq!(
            [find(5), find(3), find(9), find(4), find(0), find(10)],
            [Some(2), Some(1), Some(3), None, None, None]
        );
        assert_eq!(Lookup::default().find(1), None);
    }
}
