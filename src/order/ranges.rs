//! Number ranges and number sets: which numbers an order takes, which of them are taken already.

use crate::ids::{Iccid, Imsi};

/// ICCIDs and IMSIs alike: a fixed number of digits that counts up.
pub(super) trait Number: Copy + Ord {
    fn digits(&self) -> &str;
    /// The digits that count: an ICCID's without its check digit.
    fn counting(&self) -> u128;
    /// The digits in front that name whose numbers these are: a range ends before they change.
    const OWNER_DIGITS: usize;
    fn plus(&self, steps: u64) -> Option<Self>;
    /// The last number with these digits in front.
    fn last_of_its_owner(&self) -> Self;
    fn masked(&self) -> String;
}

impl Number for Iccid {
    fn digits(&self) -> &str {
        self.as_str()
    }

    fn counting(&self) -> u128 {
        let digits = self.as_str();
        digits[..digits.len() - 1].parse().unwrap_or_default()
    }

    /// ITU-T E.118: 89, then at least two digits of country code and issuer.
    const OWNER_DIGITS: usize = 4;

    fn plus(&self, steps: u64) -> Option<Self> {
        Self::plus(self, steps).filter(|next| has_same_owner(self, next))
    }

    fn last_of_its_owner(&self) -> Self {
        Self::from_body(&nines_after(Self::OWNER_DIGITS, self.as_str().len() - 1, self.as_str())).unwrap_or(*self)
    }

    fn masked(&self) -> String {
        Self::masked(self)
    }
}

impl Number for Imsi {
    fn digits(&self) -> &str {
        self.as_str()
    }

    fn counting(&self) -> u128 {
        self.as_str().parse().unwrap_or_default()
    }

    /// ITU-T E.212: three digits of MCC, at least two of MNC.
    const OWNER_DIGITS: usize = 5;

    fn plus(&self, steps: u64) -> Option<Self> {
        Self::plus(self, steps).filter(|next| has_same_owner(self, next))
    }

    fn last_of_its_owner(&self) -> Self {
        nines_after(Self::OWNER_DIGITS, self.as_str().len(), self.as_str()).parse().unwrap_or(*self)
    }

    fn masked(&self) -> String {
        Self::masked(self)
    }
}

fn has_same_owner<T: Number>(one: &T, other: &T) -> bool {
    one.digits().get(..T::OWNER_DIGITS) == other.digits().get(..T::OWNER_DIGITS)
}

/// `length` digits: those in front of `digits`, then nines.
fn nines_after(in_front: usize, length: usize, digits: &str) -> String {
    format!("{:9<length$}", &digits[..in_front.min(digits.len())])
}

/// The numbers `first` to `first + quantity - 1`; shorter when its owner's numbers end before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range<T> {
    pub(super) line: u32,
    pub(super) first: T,
    pub(super) last: T,
}

impl<T: Number> Range<T> {
    pub(super) fn new(line: u32, first: T, quantity: u32) -> Self {
        let last = first.plus(u64::from(quantity - 1)).unwrap_or_else(|| first.last_of_its_owner());
        Self { line, first, last }
    }

    /// Numbers of one length compare like their digits; an ICCID's check digit decides nothing between two others.
    pub(super) fn contains(&self, number: &T) -> bool {
        number.digits().len() == self.first.digits().len() && (self.first..=self.last).contains(number)
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.contains(&other.first) || other.contains(&self.first)
    }
}

/// Whether a number given by a row is in one of the order's ranges already.
pub(super) fn is_within<T: Number>(ranges: &[Range<T>], number: &T) -> bool {
    ranges.iter().any(|range| range.contains(number))
}

/// One bit a row.
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn new(count: u32) -> Self {
        Self(vec![0; count as usize / 64 + 1])
    }

    pub(super) fn has(&self, at: u32) -> bool {
        self.0.get(at as usize / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// Sets a bit; true when it was clear.
    pub(super) fn set(&mut self, at: u32) -> bool {
        let clear = !self.has(at);
        if let Some(word) = self.0.get_mut(at as usize / 64) {
            *word |= 1 << (at % 64);
        }
        clear
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iccid(body: &str) -> Iccid {
        Iccid::from_body(body).unwrap()
    }

    #[test]
    fn a_range_has_its_first_and_its_last_number_and_no_other() {
        let range = Range::new(1, iccid("8900012345678901200"), 10);
        assert!(range.contains(&iccid("8900012345678901200")) && range.contains(&iccid("8900012345678901209")));
        assert!(!range.contains(&iccid("8900012345678901210")) && !range.contains(&iccid("8900012345678901199")));
        assert!(!range.contains(&iccid("890001234567890120")), "19 digits are another number");
    }

    #[test]
    fn ranges_overlap_when_they_share_a_number() {
        let range = |body, quantity| Range::new(1, iccid(body), quantity);
        assert!(range("8900012345678901200", 10).overlaps(&range("8900012345678901209", 1)));
        assert!(range("8900012345678901205", 1).overlaps(&range("8900012345678901200", 10)));
        assert!(!range("8900012345678901200", 10).overlaps(&range("8900012345678901210", 10)));
    }

    #[test]
    fn a_range_ends_with_its_digits() {
        assert_eq!(Range::new(1, iccid("9999999999999999998"), 5).last, iccid("9999999999999999999"));
    }

    #[test]
    fn a_range_ends_where_another_operators_numbers_begin() {
        let range = Range::new(1, iccid("8949999999999999998"), 5);
        assert_eq!(range.last, iccid("8949999999999999999"));
        assert!(Number::plus(&iccid("8949999999999999998"), 1).is_some());
        assert_eq!(Number::plus(&iccid("8949999999999999998"), 2), None, "8950 is another country");
        let imsi = |digits: &str| digits.parse::<Imsi>().unwrap();
        assert_eq!(Range::new(1, imsi("001019999999998"), 5).last, imsi("001019999999999"));
        assert_eq!(Number::plus(&imsi("001019999999998"), 2), None, "00102 is another network");
        assert_eq!(Number::plus(&imsi("001018999999999"), 1), Some(imsi("001019000000000")));
    }

    #[test]
    fn a_bit_is_set_once() {
        let mut bits = Bits::new(128);
        for at in [0, 63, 64, 127] {
            assert!(bits.set(at) && !bits.set(at) && bits.has(at));
        }
        assert!(!bits.has(1) && !bits.has(9_999));
    }
}
