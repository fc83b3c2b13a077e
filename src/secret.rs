//! Secrets as types: wiped on drop, silent in logs, never cloned, never compared with `==`, their use part of the type.
//! Grep for `expose` to audit every use.

use std::fmt;
use std::marker::PhantomData;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// Overwrites 32 KiB of the stack below its caller, which does what leaves something there in functions of its own: what is moved or
/// computed leaves copies in frames that nobody wipes.
#[inline(never)]
pub fn wipe_stack() {
    let mut below = [0_u128; 2048];
    below.zeroize();
    std::hint::black_box(&below);
}

/// Use of a key: S-ENC or PPK-ENC, AES-128-CBC over profile segments.
#[derive(Debug)]
pub enum Enc {}
/// Use of a key: S-MAC or PPK-CMAC, AES-128-CMAC over profile segments.
#[derive(Debug)]
pub enum Mac {}

/// A 16-octet AES key of one use ([`Enc`] or [`Mac`]). The octets have a place of their own: moving the key moves a pointer and
/// leaves no copy behind that nobody wipes.
pub struct Key<Use> {
    bytes: Box<Zeroizing<[u8; 16]>>,
    purpose: PhantomData<Use>,
}

impl<Use> Key<Use> {
    /// Takes the octets over; the caller's buffer stays the caller's to wipe.
    pub fn from_slice(bytes: &[u8; 16]) -> Self {
        let mut own = Box::new(Zeroizing::new([0; 16]));
        own.copy_from_slice(bytes);
        Self { bytes: own, purpose: PhantomData }
    }

    /// The octets, for the cipher call only.
    pub fn expose(&self) -> &[u8; 16] {
        &self.bytes
    }
}

impl<Use> fmt::Debug for Key<Use> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(redacted)")
    }
}

/// The same, lent by who holds the octets, several keys in one place perhaps.
pub struct LentKey<'k, Use> {
    bytes: &'k [u8; 16],
    purpose: PhantomData<Use>,
}

impl<'k, Use> LentKey<'k, Use> {
    /// A key of this use; the octets stay where they are.
    pub fn of(bytes: &'k [u8; 16]) -> Self {
        Self { bytes, purpose: PhantomData }
    }

    /// The octets, for the cipher call only.
    pub fn expose(&self) -> &'k [u8; 16] {
        self.bytes
    }
}

impl<Use> fmt::Debug for LentKey<'_, Use> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(redacted)")
    }
}

/// Octets of at most `MAX`, wiped on drop, without growth, in a place of their own: K, OPc, OTA keys, PINs.
pub struct SecretBytes<const MAX: usize> {
    bytes: Box<[u8; MAX]>,
    length: usize,
}

impl<const MAX: usize> SecretBytes<MAX> {
    /// Copies `value`; `None` when it is longer than `MAX`.
    pub fn copy_of(value: &[u8]) -> Option<Self> {
        let mut secret = Self { bytes: Box::new([0; MAX]), length: value.len() };
        secret.bytes.get_mut(..value.len())?.copy_from_slice(value);
        Some(secret)
    }

    /// The octets, for the profile, the cipher or the token only.
    pub fn expose(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Constant-time comparison.
    pub fn same_as(&self, other: &[u8]) -> bool {
        self.expose().ct_eq(other).into()
    }
}

impl<const MAX: usize> Drop for SecretBytes<MAX> {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl<const MAX: usize> fmt::Debug for SecretBytes<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(redacted)")
    }
}

/// K or OPc/TOPc: 16 or 32 octets.
pub type SubscriberKey = SecretBytes<32>;
/// PIN, PUK or ADM value as it stands in the profile: 8 octets, digits padded with FF.
pub type Pin = SecretBytes<8>;
/// The x coordinate of an ECDH result, leading zeros kept.
pub type SharedSecret = Zeroizing<[u8; 32]>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_a_secret() {
        assert_eq!(format!("{:?}", Key::<Enc>::from_slice(&[7; 16])), "Key(redacted)");
        assert_eq!(format!("{:?}", LentKey::<Enc>::of(&[7; 16])), "Key(redacted)");
        assert_eq!(format!("{:?}", SubscriberKey::copy_of(&[7; 16]).unwrap()), "SecretBytes(redacted)");
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused() {
        assert!(Pin::copy_of(&[0; 9]).is_none());
        assert_eq!(Pin::copy_of(b"1234").unwrap().expose(), b"1234");
    }
}
