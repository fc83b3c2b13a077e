//! AES-128 of a segment: the ICVs (ECB over block counters) and the encryption itself (CBC). Contexts are made once per
//! thread and rekeyed per profile: a fetch and a context per call cost more than the encryption.

use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use openssl::error::ErrorStack;
use zeroize::Zeroizing;

use crate::secret::{Enc, LentKey};

const BLOCK: usize = 16;
/// ICVs made in one call.
pub(super) const ICV_BATCH: usize = 16;
/// `cipher_update` asks for room for one block more than it writes.
pub(super) type Icvs = [u8; (ICV_BATCH + 1) * BLOCK];

/// Octets after padding `80 00*`: at least one is added.
pub(super) const fn padded_len(plain_len: usize) -> usize {
    (plain_len / BLOCK + 1) * BLOCK
}

pub(super) struct SegmentCipher {
    cbc: CipherCtx,
    ecb: CipherCtx,
}

impl SegmentCipher {
    pub(super) fn new() -> Result<Self, ErrorStack> {
        let context = |name| {
            let mut ctx = CipherCtx::new()?;
            ctx.encrypt_init(Some(&*Cipher::fetch(None, name, None)?), None, None)?;
            Ok::<_, ErrorStack>(ctx)
        };
        Ok(Self { cbc: context("AES-128-CBC")?, ecb: context("AES-128-ECB")? })
    }

    pub(super) fn rekey(&mut self, key: LentKey<'_, Enc>) -> Result<(), ErrorStack> {
        self.cbc.encrypt_init(None, Some(key.expose()), None)?;
        self.ecb.encrypt_init(None, Some(key.expose()), None)
    }

    /// ICVs of the block counters `first`, `first + 1`, ...; `count` of them, at most [`ICV_BATCH`].
    pub(super) fn icvs(&mut self, first: u32, count: usize, out: &mut Icvs) -> Result<(), ErrorStack> {
        let mut counters = [0; ICV_BATCH * BLOCK];
        for (block, counter) in counters.chunks_exact_mut(BLOCK).zip(u128::from(first)..).take(count) {
            block.copy_from_slice(&counter.to_be_bytes());
        }
        self.ecb.cipher_update(&counters[..count * BLOCK], Some(out)).map(drop)
    }

    /// Pads and encrypts `plain` into `out`, which has [`padded_len`] octets. Whole blocks go straight from one to the other;
    /// only the last one, with the padding, passes through the stack.
    pub(super) fn encrypt(&mut self, icv: &[u8], plain: &[u8], out: &mut [u8]) -> Result<(), ErrorStack> {
        debug_assert_eq!(out.len(), padded_len(plain.len()));
        self.cbc.encrypt_init(None, None, Some(icv))?;
        let (blocks, rest) = plain.split_at(plain.len() / BLOCK * BLOCK);
        if !blocks.is_empty() {
            // The final block of `out` is the spare room `cipher_update` asks for.
            self.cbc.cipher_update(blocks, Some(out))?;
        }
        let mut last = Zeroizing::new([0; BLOCK]);
        last[..rest.len()].copy_from_slice(rest);
        last[rest.len()] = 0x80;
        let mut sealed = [0; 2 * BLOCK];
        self.cbc.cipher_update(&*last, Some(&mut sealed))?;
        out[blocks.len()..].copy_from_slice(&sealed[..BLOCK]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::bsp::vectors::{sized, vectors};

    #[test]
    fn whole_blocks_are_encrypted_as_nist_published() {
        let mut cipher = SegmentCipher::new().unwrap();
        for [key, iv, plain, sealed] in vectors(include_str!("../../../test-vectors/nist/aes128-cbc.txt")) {
            cipher.rekey(LentKey::of(&sized(&key))).unwrap();
            for blocks in 1..=plain.len() / BLOCK {
                let mut out = vec![0; (blocks + 1) * BLOCK];
                cipher.encrypt(&iv, &plain[..blocks * BLOCK], &mut out).unwrap();
                assert_eq!(out[..blocks * BLOCK], sealed[..blocks * BLOCK]);
            }
        }
    }

    #[test]
    fn padding_always_adds_an_octet() {
        assert_eq!([0, 1, 15, 16, 991, 992, 1007].map(padded_len), [16, 16, 16, 32, 992, 1008, 1008]);
    }
}
