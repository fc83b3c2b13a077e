//! The identifiers that travel with a profile. Each is parsed once and can never hold a bad value.
//!
//! Identifiers are not secrets, but they are personal data: logs and errors print [`Eid::masked`] and its siblings.

mod order;

use std::fmt;
use std::str::FromStr;

pub use order::{OrderId, OrderKey, RecordId, Tenant};

/// Why a text is not the identifier it claims to be. `at` counts characters from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Something else than `0`-`9`.
    #[error("character {at} is not a digit")]
    NotADigit {
        /// Position of the first offender.
        at: usize,
    },
    /// Too short or too long.
    #[error("has {got} characters, expected {expected}")]
    Length {
        /// Characters found.
        got: usize,
        /// What the standard asks for, in words.
        expected: &'static str,
    },
    /// The check digit (ICCID: Luhn, one digit) does not fit the rest.
    #[error("check digit is wrong, the others give {expected}")]
    CheckDigit {
        /// The digit that would be right.
        expected: char,
    },
    /// The two check digits of an EID (ISO 7064 MOD 97-10) do not fit the rest.
    #[error("check digits are wrong, the others give {expected:02}")]
    CheckDigits {
        /// The two digits that would be right.
        expected: u8,
    },
    /// A character outside the identifier's alphabet.
    #[error("character {at} is not allowed here")]
    Character {
        /// Position of the first offender.
        at: usize,
    },
}

fn digits_only(text: &str) -> Result<(), IdError> {
    match text.bytes().position(|b| !b.is_ascii_digit()) {
        Some(at) => Err(IdError::NotADigit { at }),
        None => Ok(()),
    }
}

/// All but the first six and the last two characters become `*`.
fn mask(text: &str) -> String {
    let shown = |i: usize| i < 6 || i + 2 >= text.len();
    text.chars().enumerate().map(|(i, c)| if shown(i) { c } else { '*' }).collect()
}

// ---------------------------------------------------------------------------------------------------------- EID

/// EID: 32 digits, the last two ISO 7064 MOD 97-10 check digits (SGP.02 §2.2.2, SGP.29). Held packed, 16 octets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Eid([u8; 16]);

impl Eid {
    /// The 16 octets that key derivation and certificates' owners mean: two digits an octet, high nibble first.
    pub fn packed(&self) -> &[u8; 16] {
        &self.0
    }

    /// From 16 packed octets; refuses nibbles above 9 and wrong check digits.
    pub fn from_packed(octets: &[u8; 16]) -> Result<Self, IdError> {
        let digit = |at: usize| octets[at / 2] >> (4 * (1 - at % 2)) & 15;
        let digits: [u8; 32] = std::array::from_fn(|at| if digit(at) < 10 { b'0' + digit(at) } else { b'?' });
        Self::of_digits(&digits)
    }

    /// The 30 leading digits completed with their two check digits.
    pub fn from_body(body: &str) -> Result<Self, IdError> {
        digits_only(body)?;
        if body.len() != 30 {
            return Err(IdError::Length { got: body.len(), expected: "30 digits" });
        }
        format!("{body}{:02}", Self::check_digits(body.as_bytes())).parse()
    }

    fn of_digits(digits: &[u8; 32]) -> Result<Self, IdError> {
        if let Some(at) = digits.iter().position(|digit| !digit.is_ascii_digit()) {
            return Err(IdError::NotADigit { at });
        }
        let (body, check) = digits.split_at(30);
        let expected = Self::check_digits(body);
        if check != [b'0' + expected / 10, b'0' + expected % 10] {
            return Err(IdError::CheckDigits { expected });
        }
        Ok(Self(std::array::from_fn(|at| (digits[2 * at] - b'0') << 4 | (digits[2 * at + 1] - b'0'))))
    }

    fn check_digits(body: &[u8]) -> u8 {
        let remainder = body.iter().chain(b"00").fold(0_u32, |r, b| (r * 10 + u32::from(b - b'0')) % 97);
        (98 - remainder) as u8
    }

    /// For logs: `890490**********************35`.
    pub fn masked(&self) -> String {
        mask(&self.to_string())
    }
}

impl FromStr for Eid {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        digits_only(text)?;
        let digits = text.as_bytes().try_into();
        Self::of_digits(digits.map_err(|_| IdError::Length { got: text.len(), expected: "32 digits" })?)
    }
}

impl fmt::Display for Eid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 32];
        for (pair, octet) in digits.chunks_exact_mut(2).zip(&self.0) {
            pair.copy_from_slice(&[b'0' + (octet >> 4), b'0' + (octet & 15)]);
        }
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Eid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Eid({})", self.masked())
    }
}

// -------------------------------------------------------------------------------------------------------- ICCID

/// ICCID of one profile: 19 or 20 digits, the last a Luhn check digit (ITU-T E.118).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Iccid {
    digits: [u8; 20], // ASCII; a 19-digit number leaves the last byte zero
}

impl Iccid {
    /// The digits as text, 19 or 20 of them.
    pub fn as_str(&self) -> &str {
        let length = if self.digits[19] == 0 { 19 } else { 20 };
        std::str::from_utf8(&self.digits[..length]).unwrap_or_default()
    }

    /// The number `steps` further in its range: the digits before the check digit count up, the check digit is made anew.
    /// `None` when the range's digits are used up.
    pub fn plus(&self, steps: u64) -> Option<Self> {
        let text = self.as_str();
        let body = &text[..text.len() - 1];
        let next = body.parse::<u64>().ok()?.checked_add(steps)?; // 19 digits at most, which 64 bits hold
        let mut digits = [0; 20];
        let (places, check) = digits.split_at_mut(body.len());
        put_digits(next, places)?;
        check[0] = luhn_check_digit(places) as u8;
        Some(Self { digits })
    }

    /// 18 or 19 digits completed with their Luhn digit.
    pub fn from_body(body: &str) -> Result<Self, IdError> {
        digits_only(body)?;
        format!("{body}{}", luhn_check_digit(body.as_bytes())).parse()
    }

    /// For logs: `894450************41`.
    pub fn masked(&self) -> String {
        mask(self.as_str())
    }
}

/// Fills `places` with the decimal digits of `number`; `None` when it has more.
fn put_digits(mut number: u64, places: &mut [u8]) -> Option<()> {
    for place in places.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
    (number == 0).then_some(())
}

/// The digit that makes `body` followed by it pass the Luhn test.
fn luhn_check_digit(body: &[u8]) -> char {
    let sum: u32 = body
        .iter()
        .rev()
        .enumerate()
        .map(|(i, b)| {
            let digit = u32::from(b - b'0') * if i % 2 == 0 { 2 } else { 1 };
            if digit > 9 { digit - 9 } else { digit }
        })
        .sum();
    char::from(b'0' + ((10 - sum % 10) % 10) as u8)
}

impl FromStr for Iccid {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        digits_only(text)?;
        if !matches!(text.len(), 19 | 20) {
            return Err(IdError::Length { got: text.len(), expected: "19 or 20 digits" });
        }
        let (body, check) = text.as_bytes().split_at(text.len() - 1);
        let expected = luhn_check_digit(body);
        if char::from(check[0]) != expected {
            return Err(IdError::CheckDigit { expected });
        }
        let mut digits = [0; 20];
        digits.iter_mut().zip(text.bytes()).for_each(|(slot, digit)| *slot = digit);
        Ok(Self { digits })
    }
}

impl fmt::Display for Iccid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Iccid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Iccid({})", self.masked())
    }
}

// --------------------------------------------------------------------------------------------------------- IMSI

/// IMSI: 6 to 15 digits (3GPP TS 23.003 §2.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Imsi {
    digits: [u8; 15], // ASCII, unused places zero
    length: u8,
}

impl Imsi {
    /// The digits as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits[..usize::from(self.length)]).unwrap_or_default()
    }

    /// The last digit, 0 to 9: decides EF.ACC unless ordered otherwise.
    pub fn last_digit(&self) -> u8 {
        self.digits[usize::from(self.length) - 1] - b'0'
    }

    /// The number `steps` further; `None` when its digits are used up.
    pub fn plus(&self, steps: u64) -> Option<Self> {
        let next = self.as_str().parse::<u64>().ok()?.checked_add(steps)?;
        let mut digits = [0; 15];
        put_digits(next, &mut digits[..usize::from(self.length)])?;
        Some(Self { digits, length: self.length })
    }

    /// For logs: `262011*******93`.
    pub fn masked(&self) -> String {
        mask(self.as_str())
    }
}

impl FromStr for Imsi {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        digits_only(text)?;
        if !(6..=15).contains(&text.len()) {
            return Err(IdError::Length { got: text.len(), expected: "6 to 15 digits" });
        }
        let mut digits = [0; 15];
        digits.iter_mut().zip(text.bytes()).for_each(|(slot, digit)| *slot = digit);
        Ok(Self { digits, length: text.len() as u8 })
    }
}

impl fmt::Display for Imsi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Imsi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Imsi({})", self.masked())
    }
}

// ------------------------------------------------------------------------------------ transaction and matching id

/// transactionId of one RSP session or pre-bound package: 16 random octets (SGP.22 §3.1.2 allows 1 to 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId(pub [u8; 16]);

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXUPPER.encode(&self.0))
    }
}

/// MatchingID, the token of an activation code: 16 to 64 of `[A-Z0-9-]`, unguessable (SGP.22 §4.1).
/// Whoever knows it can ask for the profile, so it is masked in logs.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MatchingId(String);

impl MatchingId {
    /// Random octets that the ids of one batch have in common: so many characters at their beginning.
    pub const STEM_LEN: usize = 4;
    /// Random octets of one id's own.
    pub const OWN_LEN: usize = 20;

    /// 24 characters of 5 random bits each: 32 letters and digits, none mistaken for another. Nobody guesses an id from others, whose
    /// own 100 bits say nothing of its; but those with one stem are neighbours wherever ids are kept in their order, which the ledger
    /// does with all that it ever gave out.
    pub fn from_random(stem: &[u8; Self::STEM_LEN], own: &[u8; Self::OWN_LEN]) -> Self {
        const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
        Self(stem.iter().chain(own).map(|octet| char::from(ALPHABET[usize::from(octet & 31)])).collect())
    }

    /// The token as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For logs: the first two characters only.
    pub fn masked(&self) -> String {
        format!("{}***", &self.0[..2])
    }
}

impl FromStr for MatchingId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if let Some(at) = text.bytes().position(|b| !matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'-')) {
            return Err(IdError::Character { at });
        }
        if !(16..=64).contains(&text.len()) {
            return Err(IdError::Length { got: text.len(), expected: "16 to 64 of A-Z, 0-9 and -" });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for MatchingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MatchingId({})", self.masked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_sgp26_test_eid_is_accepted_and_packs_to_its_digits() {
        let eid: Eid = "89049032123451234512345678901235".parse().unwrap();
        assert_eq!(eid.packed()[..4], [0x89, 0x04, 0x90, 0x32]);
        assert_eq!(eid.to_string(), "89049032123451234512345678901235");
        assert_eq!(Eid::from_packed(eid.packed()), Ok(eid));
    }

    #[test]
    fn a_wrong_eid_check_digit_names_the_right_one() {
        assert_eq!("89049032123451234512345678901236".parse::<Eid>(), Err(IdError::CheckDigits { expected: 35 }));
    }

    #[test]
    fn the_ts48_iccid_is_accepted() {
        assert_eq!("89000123456789012341".parse::<Iccid>().unwrap().as_str(), "89000123456789012341");
        assert_eq!("89000123456789012342".parse::<Iccid>(), Err(IdError::CheckDigit { expected: '1' }));
    }

    #[test]
    fn a_range_counts_the_digits_before_the_check_digit() {
        let first: Iccid = "89000123456789012341".parse().unwrap();
        assert_eq!(first.plus(1).unwrap().as_str(), "89000123456789012358");
        assert_eq!(first.plus(0), Some(first));
        assert_eq!(Iccid::from_body("9999999999999999999").unwrap().plus(1), None);
        assert_eq!(first.plus(u64::MAX), None);
        let of_19 = Iccid::from_body("890001234567890099").unwrap();
        assert_eq!(of_19.plus(1), Iccid::from_body("890001234567890100").ok());
    }

    #[test]
    fn an_imsi_range_ends_with_its_digits() {
        let imsi: Imsi = "001010123456063".parse().unwrap();
        assert_eq!(imsi.plus(7).unwrap().as_str(), "001010123456070");
        assert_eq!("999999".parse::<Imsi>().unwrap().plus(1), None);
    }

    #[test]
    fn an_order_is_named_with_or_without_its_tenant() {
        let key = |rev| OrderKey { tenant: "acme".parse().unwrap(), order_id: "PO-1".parse().unwrap(), rev };
        assert!(key(1).is_named("PO-1") && key(1).is_named("acme/PO-1"));
        assert!(key(2).is_named("PO-1@2") && key(2).is_named("acme/PO-1@2"));
        assert!(!key(2).is_named("PO-1") && !key(1).is_named("other/PO-1") && !key(1).is_named("acme"));
    }

    #[test]
    fn a_random_matching_id_is_one() {
        let id = MatchingId::from_random(&[0, 33, 66, 99], &std::array::from_fn(|i| i as u8 + 4));
        assert_eq!(id.as_str().parse::<MatchingId>().unwrap(), id);
        assert_eq!(id.as_str(), "ABCDEFGHJKLMNPQRSTUVWXYZ");
    }

    proptest! {
        #[test]
        fn one_wrong_digit_of_an_iccid_is_always_refused(body in "89[0-9]{17}", at in 0..20_usize, bump in 1..10_u8) {
            let good = Iccid::from_body(&body).unwrap();
            let mut bad = good.as_str().as_bytes().to_vec();
            bad[at] = b'0' + (bad[at] - b'0' + bump) % 10;
            prop_assert!(std::str::from_utf8(&bad).unwrap().parse::<Iccid>().is_err());
        }

        #[test]
        fn one_wrong_digit_of_an_eid_is_always_refused(body in "89[0-9]{28}", at in 0..32_usize, bump in 1..10_u8) {
            let mut bad = Eid::from_body(&body).unwrap().to_string().into_bytes();
            bad[at] = b'0' + (bad[at] - b'0' + bump) % 10;
            prop_assert!(std::str::from_utf8(&bad).unwrap().parse::<Eid>().is_err());
        }
    }
}
