//! The eUICC's receiver of protected segments: checks the MAC chain, counts, decrypts (`86`, `87`, `88` of SGP.22 §2.5.3).
//!
//! One counter and one chain run through all three kinds; only new keys start both anew.

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use openssl::symm::{Cipher, Crypter, Mode};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::agreement::SegmentKeys;
use super::finding::{Check, Finding};
use crate::formats::tlv::{Tag, Tlv};

/// A whole segment, tag and MAC included, is at most this long.
pub(super) const SEGMENT_MAX: usize = 1_020;
/// Plaintext of an encrypted segment at most: at least one octet of padding, 1,008 octets of ciphertext.
pub(super) const PIECE_MAX: usize = 1_007;
/// Content of a MAC-only segment at most.
pub(super) const CLEAR_MAX: usize = 1_008;

const MAC_LEN: usize = 8;
const BLOCK: usize = 16;

/// Takes segments in the order of the wire.
pub(super) struct Receiver {
    keys: SegmentKeys,
    counter: u128,
}

impl Receiver {
    pub(super) fn new(keys: SegmentKeys) -> Self {
        Self { keys, counter: 1 }
    }

    /// ReplaceSessionKeys: other keys, the chaining value that came with them, the counter from 1.
    pub(super) fn replace(&mut self, keys: SegmentKeys) {
        *self = Self::new(keys);
    }

    /// The keys that protect what comes next.
    pub(super) fn keys(&self) -> &SegmentKeys {
        &self.keys
    }

    /// Content of the next segment; `88` is clear, `86` and `87` are decrypted.
    pub(super) fn take(&mut self, segment: &Tlv<'_>) -> Result<Zeroizing<Vec<u8>>, Finding> {
        let fail = |check, what: String| Finding::new(check, what).at(segment.offset);
        if segment.whole.len() > SEGMENT_MAX {
            let what = format!("segment {} of {} octets, at most 1,020 are allowed", segment.tag, segment.whole.len());
            return Err(fail(Check::SegmentSize, what));
        }
        let Some(body_len) = segment.value.len().checked_sub(MAC_LEN) else {
            return Err(fail(Check::SegmentSize, format!("segment {} is too short for a MAC", segment.tag)));
        };
        let (signed, mac) = segment.whole.split_at(segment.whole.len() - MAC_LEN);
        let openssl = |e: ErrorStack| fail(Check::SegmentMac, format!("OpenSSL refused the segment: {e}"));
        let full = self.cmac(signed).map_err(openssl)?;
        if !bool::from(full[..MAC_LEN].ct_eq(mac)) {
            let what = format!("MAC of segment {} (number {} under its keys) is wrong", segment.tag, self.counter);
            return Err(fail(Check::SegmentMac, what));
        }
        self.keys.chain = full;
        let counter = self.counter;
        self.counter += 1;
        let body = &segment.value[..body_len];
        if segment.tag == Tag(0x88) {
            return Ok(Zeroizing::new(body.to_vec()));
        }
        if body.is_empty() || !body.len().is_multiple_of(BLOCK) {
            return Err(fail(Check::SegmentSize, format!("ciphertext of {} octets is not whole blocks", body.len())));
        }
        let mut plain = self.decrypt(counter, body).map_err(openssl)?;
        let Some(end) = unpadded_len(&plain) else {
            return Err(fail(Check::SegmentPadding, format!("segment {} does not end with 80 00*", segment.tag)));
        };
        plain.truncate(end);
        Ok(plain)
    }

    fn cmac(&self, signed: &[u8]) -> Result<Zeroizing<[u8; BLOCK]>, ErrorStack> {
        let key = PKey::cmac(&Cipher::aes_128_cbc(), self.keys.mac.expose())?;
        let mut signer = Signer::new_without_digest(&key)?;
        signer.update(&self.keys.chain[..])?;
        signer.update(signed)?;
        let mut full = Zeroizing::new([0; BLOCK]);
        signer.sign(&mut full[..])?;
        Ok(full)
    }

    fn decrypt(&self, counter: u128, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, ErrorStack> {
        let enc = self.keys.enc.expose();
        let icv = crypt(Cipher::aes_128_ecb(), Mode::Encrypt, enc, None, &counter.to_be_bytes())?;
        crypt(Cipher::aes_128_cbc(), Mode::Decrypt, enc, Some(&icv), body)
    }
}

/// Whole blocks through a cipher, without padding.
pub(super) fn crypt(
    cipher: Cipher,
    mode: Mode,
    key: &[u8],
    iv: Option<&[u8]>,
    input: &[u8],
) -> Result<Zeroizing<Vec<u8>>, ErrorStack> {
    let mut crypter = Crypter::new(cipher, mode, key, iv)?;
    crypter.pad(false);
    // One block to spare: the safe wrapper asks for it, and the buffer must not grow while it holds plaintext.
    let mut out = Zeroizing::new(vec![0; input.len() + BLOCK]);
    let mut length = crypter.update(input, &mut out)?;
    length += crypter.finalize(&mut out[length..])?;
    out.truncate(length);
    Ok(out)
}

/// Where `80 00*` (1 to 16 octets) begins.
fn unpadded_len(plain: &[u8]) -> Option<usize> {
    let mark = plain.iter().rposition(|octet| *octet != 0)?;
    (plain[mark] == 0x80 && plain.len() - mark <= BLOCK).then_some(mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tlv;
    use crate::verify::vectors;

    fn receiver(figures: &std::collections::BTreeMap<String, Vec<u8>>) -> Receiver {
        let part = |name: &str| <[u8; 16]>::try_from(figures[name].as_slice()).unwrap();
        Receiver::new(SegmentKeys::from_parts(&part("mcv"), &part("s-enc"), &part("s-mac")))
    }

    fn take(receiver: &mut Receiver, wire: &[u8]) -> Result<Zeroizing<Vec<u8>>, Finding> {
        receiver.take(&tlv::Reader::new(wire).next_tlv().unwrap().unwrap())
    }

    #[test]
    fn the_recorded_segments_of_a_third_party_sm_dp_plus_open() {
        let text = include_str!("../../test-vectors/bpp/segments.txt");
        let session = vectors::section(text, "mode-51");
        let mut receiver = receiver(&session);
        for (wire, plain) in
            [("configure", "configure-plain"), ("metadata", "metadata-plain"), ("replace", "replace-plain")]
        {
            assert_eq!(*take(&mut receiver, &session[wire]).unwrap(), session[plain], "{wire}");
        }
        let ppk = vectors::section(text, "mode-51-ppk");
        receiver.replace(self::receiver(&ppk).keys);
        for (wire, plain) in [("segment-0", "segment-0-plain"), ("segment-1", "segment-1-plain")] {
            assert_eq!(ppk[wire].len(), SEGMENT_MAX);
            assert_eq!(ppk[plain].len(), PIECE_MAX);
            assert_eq!(*take(&mut receiver, &ppk[wire]).unwrap(), ppk[plain], "{wire}");
        }
    }

    #[test]
    fn segments_out_of_turn_are_refused() {
        let session = vectors::section(include_str!("../../test-vectors/bpp/segments.txt"), "mode-51");
        let mut receiver = receiver(&session);
        assert_eq!(take(&mut receiver, &session["metadata"]).unwrap_err().check, Check::SegmentMac);
        assert_eq!(take(&mut receiver, &session["replace"]).unwrap_err().check, Check::SegmentMac);
        assert!(take(&mut receiver, &session["configure"]).is_ok());
        assert_eq!(take(&mut receiver, &session["configure"]).unwrap_err().check, Check::SegmentMac);
    }

    #[test]
    fn padding_is_one_mark_and_zeros_within_one_block() {
        assert_eq!(unpadded_len(&[1, 2, 0x80, 0]), Some(2));
        assert_eq!(unpadded_len(&[0x80]), Some(0));
        assert_eq!(unpadded_len(&[0; 16]), None);
        assert_eq!(unpadded_len(&[1; 16]), None);
        assert_eq!(unpadded_len(&[&[0x80][..], &[0; 16]].concat()), None);
    }
}
