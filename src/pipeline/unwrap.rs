//! Wrapped values to keys, with a token that decrypts single blocks only: ECB, CBC and AES key wrap over [`BlockKey`].
//!
//! In: the values of many records. Out: each one's key, or why it is none. Rule: values share calls, however many there are; what is
//! decrypted lies in wiped buffers. Sources: NIST SP 800-38A §6.2, RFC 3394 §2.2.2.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::blocks::BlockKey;
use crate::config::CbcIv;
use crate::hsm::{HsmError, HsmSession};
use crate::secret::SubscriberKey;

/// Octets of an AES block.
pub(super) const BLOCK: usize = 16;
/// What a wrapped key begins with once it is unwrapped (RFC 3394 §2.2.3.1).
const KW_INTEGRITY: [u8; 8] = [0xA6; 8];
const KW_HALF: usize = 8;

/// Why one value is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Not whole blocks, or longer than any key.
    Length,
    /// RFC 3394's integrity check.
    Integrity,
}

/// One value, or why it is none.
pub(super) type Plain = Result<SubscriberKey, Unfit>;

/// ECB, and with an initial vector CBC, of all values in one call; chaining is an XOR here.
pub(super) fn chained(
    session: &mut impl HsmSession,
    key: &BlockKey,
    values: &[&[u8]],
    iv: Option<CbcIv>,
) -> Result<Vec<Plain>, HsmError> {
    /// What goes to the token of a value, and what its first block is XORed with.
    fn parts(value: &[u8], iv: Option<CbcIv>) -> Option<(&[u8], Option<[u8; BLOCK]>)> {
        let (first, body) = match iv {
            None => (None, value),
            Some(CbcIv::Fixed(iv)) => (Some(iv), value),
            Some(CbcIv::Prefix) => value.split_first_chunk().map(|(iv, body)| (Some(*iv), body))?,
        };
        matches!(body.len(), 16 | 32).then_some((body, first))
    }
    let parts: Vec<_> = values.iter().map(|value| parts(value, iv)).collect();
    let blocks: Vec<u8> = parts.iter().flatten().flat_map(|(body, _)| body.iter().copied()).collect();
    let mut plain = key.ask(session, &blocks)?;
    let mut rest = &mut plain[..];
    let mut next = |(body, first): (&[u8], Option<[u8; BLOCK]>)| {
        let (own, after) = std::mem::take(&mut rest).split_at_mut(body.len());
        rest = after;
        if let Some(first) = first {
            let before = std::iter::once(&first).chain(body.as_chunks::<BLOCK>().0);
            for (block, before) in own.chunks_mut(BLOCK).zip(before) {
                block.iter_mut().zip(before).for_each(|(octet, before)| *octet ^= before);
            }
        }
        SubscriberKey::copy_of(own).ok_or(Unfit::Length)
    };
    Ok(parts.into_iter().map(|parts| parts.ok_or(Unfit::Length).and_then(&mut next)).collect())
}

/// A value on its way through RFC 3394: A, then R1 to Rn.
struct Unwrapping {
    at: usize,
    octets: Zeroizing<Vec<u8>>,
}

impl Unwrapping {
    fn registers(&self) -> usize {
        self.octets.len() / KW_HALF - 1
    }

    /// The steps of its length, 6 for each register.
    fn steps(&self) -> usize {
        6 * self.registers()
    }

    /// Which register the step `left` from the end works on, counted from 1.
    fn register(&self, left: usize) -> usize {
        (left - 1) % self.registers() + 1
    }
}

/// AES key wrap: every step is one call for all values together, 12 for a key of 16 octets and 24 for one of 32.
pub(super) fn unwrapped(
    session: &mut impl HsmSession,
    key: &BlockKey,
    values: &[&[u8]],
) -> Result<Vec<Plain>, HsmError> {
    let mut going: Vec<Unwrapping> = Vec::with_capacity(values.len());
    for (at, value) in values.iter().enumerate() {
        if matches!(value.len(), 24 | 40) {
            going.push(Unwrapping { at, octets: Zeroizing::new(value.to_vec()) });
        }
    }
    let most = going.iter().map(Unwrapping::steps).max().unwrap_or_default();
    for step in (1..=most).rev() {
        // The short ones begin later: all end with step 1.
        let mut blocks = Zeroizing::new(Vec::with_capacity(going.len() * BLOCK));
        for value in going.iter().filter(|value| value.steps() >= step) {
            let register = KW_HALF * value.register(step);
            let a = u64::from_be_bytes(std::array::from_fn(|i| value.octets[i])) ^ step as u64;
            blocks.extend_from_slice(&a.to_be_bytes());
            blocks.extend_from_slice(&value.octets[register..register + KW_HALF]);
        }
        let plain = key.ask(session, &blocks)?;
        let stepping = going.iter_mut().filter(|value| value.steps() >= step);
        for (value, block) in stepping.zip(plain.chunks_exact(BLOCK)) {
            let register = KW_HALF * value.register(step);
            value.octets[..KW_HALF].copy_from_slice(&block[..KW_HALF]);
            value.octets[register..register + KW_HALF].copy_from_slice(&block[KW_HALF..]);
        }
    }
    let mut plain: Vec<Plain> = values.iter().map(|_| Err(Unfit::Length)).collect();
    for value in going {
        let (integrity, body) = value.octets.split_at(KW_HALF);
        plain[value.at] = match bool::from(integrity.ct_eq(&KW_INTEGRITY)) {
            true => SubscriberKey::copy_of(body).ok_or(Unfit::Length),
            false => Err(Unfit::Integrity),
        };
    }
    Ok(plain)
}
