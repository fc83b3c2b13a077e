//! Segments: TLV 87 (control, encrypted), 88 (metadata, MAC only), 86 (profile, encrypted), at most 1020 octets each.
//! In: plain octets, keys, the chain's state. Out: TLVs written straight into the caller's exact buffer.
//! Every length is known before anything is encrypted. Source: SGP.22 §2.5.3, §2.5.4, Annex G.

use openssl::error::ErrorStack;

use super::cipher::{ICV_BATCH, Icvs, SegmentCipher, padded_len};
use super::mac::{MAC_LEN, SegmentMac};
use super::{ChainState, SegmentKeys};
use crate::formats::tlv::{Tag, tlv_len};

/// A piece of the profile: encrypted, part of sequenceOf86.
pub const PROFILE: Tag = Tag(0x86);
/// ConfigureISDP or ReplaceSessionKeys: encrypted, first or second sequenceOf87.
pub const CONTROL: Tag = Tag(0x87);
/// A piece of StoreMetadata: readable by the LPA, part of sequenceOf88.
pub const METADATA: Tag = Tag(0x88);

/// Most plain octets of an encrypted segment: one more would pad to 1024 and make the TLV 1036 octets long.
pub const MAX_ENCRYPTED: usize = 1007;
/// Most octets of a MAC-only segment.
pub const MAX_MAC_ONLY: usize = 1008;

/// Octets of the encrypted TLV around `plain_len` octets.
pub const fn sealed_len(plain_len: usize) -> usize {
    tlv_len(1, padded_len(plain_len) + MAC_LEN)
}

/// Octets of the encrypted TLVs that carry `total` octets in pieces of [`MAX_ENCRYPTED`].
pub const fn sealed_all_len(total: usize) -> usize {
    let rest = total % MAX_ENCRYPTED;
    total / MAX_ENCRYPTED * sealed_len(MAX_ENCRYPTED) + if rest > 0 { sealed_len(rest) } else { 0 }
}

/// Octets of the MAC-only TLV around `plain_len` octets.
pub const fn mac_only_len(plain_len: usize) -> usize {
    tlv_len(1, plain_len + MAC_LEN)
}

/// Octets of the MAC-only TLVs that carry `total` octets in pieces of [`MAX_MAC_ONLY`].
pub const fn mac_only_all_len(total: usize) -> usize {
    let rest = total % MAX_MAC_ONLY;
    total / MAX_MAC_ONLY * mac_only_len(MAX_MAC_ONLY) + if rest > 0 { mac_only_len(rest) } else { 0 }
}

/// Why nothing usable was sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// More than one segment holds.
    #[error("a segment of {got} octets, at most {max} fit")]
    TooLong {
        /// Octets given.
        got: usize,
        /// Octets that fit.
        max: usize,
    },
    /// The buffer is not the size the lengths above announce.
    #[error("a buffer of {got} octets where {need} are written")]
    Buffer {
        /// Octets given.
        got: usize,
        /// Octets needed.
        need: usize,
    },
    /// The block counter has no next value.
    #[error("the block counter is used up")]
    Counter,
    /// OpenSSL refused.
    #[error("OpenSSL: {0}")]
    OpenSsl(#[from] ErrorStack),
}

/// Seals segments one after the other. Keeps its OpenSSL contexts: make one per thread and use it for every profile.
pub struct Sealer {
    cipher: SegmentCipher,
    mac: SegmentMac,
    state: ChainState,
}

impl Sealer {
    /// Without keys: refuses to seal before [`Self::begin`].
    pub fn new() -> Result<Self, ErrorStack> {
        Ok(Self { cipher: SegmentCipher::new()?, mac: SegmentMac::new()?, state: ChainState::start(&[0; 16]) })
    }

    /// Takes keys and the state to go on from.
    pub fn begin(&mut self, keys: &SegmentKeys, start: &ChainState) -> Result<(), ErrorStack> {
        self.cipher.rekey(&keys.enc)?;
        self.mac.rekey(&keys.mac)?;
        self.state.continue_from(start);
        Ok(())
    }

    /// Where the chain stands now.
    pub fn state(&self) -> ChainState {
        let mut state = ChainState::start(&[0; 16]);
        state.continue_from(&self.state);
        state
    }

    /// One encrypted segment (86, 87) into `out` of [`sealed_len`] octets.
    pub fn seal_encrypted(&mut self, tag: Tag, plain: &[u8], out: &mut [u8]) -> Result<(), SealError> {
        at_most(plain.len(), MAX_ENCRYPTED)?;
        exactly(out.len(), sealed_len(plain.len()))?;
        let mut icv = [0; size_of::<Icvs>()];
        self.cipher.icvs(self.state.counter, 1, &mut icv)?;
        self.encrypt_and_link(tag, &icv[..16], plain, out)
    }

    /// Encrypted segments that carry all of `data` in pieces of [`MAX_ENCRYPTED`], into `out` of [`sealed_all_len`] octets.
    pub fn seal_all(&mut self, tag: Tag, data: &[u8], out: &mut [u8]) -> Result<(), SealError> {
        exactly(out.len(), sealed_all_len(data.len()))?;
        let mut icvs = [0; size_of::<Icvs>()];
        let batches = data.chunks(ICV_BATCH * MAX_ENCRYPTED).zip(out.chunks_mut(ICV_BATCH * sealed_len(MAX_ENCRYPTED)));
        for (data, out) in batches {
            self.cipher.icvs(self.state.counter, data.len().div_ceil(MAX_ENCRYPTED), &mut icvs)?;
            let pieces = data.chunks(MAX_ENCRYPTED).zip(out.chunks_mut(sealed_len(MAX_ENCRYPTED)));
            for ((plain, out), icv) in pieces.zip(icvs.chunks_exact(16)) {
                self.encrypt_and_link(tag, icv, plain, out)?;
            }
        }
        Ok(())
    }

    /// One MAC-only segment (88) into `out` of [`mac_only_len`] octets.
    pub fn seal_mac_only(&mut self, tag: Tag, plain: &[u8], out: &mut [u8]) -> Result<(), SealError> {
        at_most(plain.len(), MAX_MAC_ONLY)?;
        exactly(out.len(), mac_only_len(plain.len()))?;
        let body = write_head(tag, plain.len() + MAC_LEN, out);
        out[body..body + plain.len()].copy_from_slice(plain);
        self.link(out)
    }

    /// MAC-only segments that carry all of `data` in pieces of [`MAX_MAC_ONLY`], into `out` of [`mac_only_all_len`] octets.
    pub fn seal_mac_only_all(&mut self, tag: Tag, data: &[u8], out: &mut [u8]) -> Result<(), SealError> {
        exactly(out.len(), mac_only_all_len(data.len()))?;
        let mut pieces = data.chunks(MAX_MAC_ONLY).zip(out.chunks_mut(mac_only_len(MAX_MAC_ONLY)));
        pieces.try_for_each(|(plain, out)| self.seal_mac_only(tag, plain, out))
    }

    fn encrypt_and_link(&mut self, tag: Tag, icv: &[u8], plain: &[u8], out: &mut [u8]) -> Result<(), SealError> {
        let body_len = padded_len(plain.len());
        let body = write_head(tag, body_len + MAC_LEN, out);
        self.cipher.encrypt(icv, plain, &mut out[body..body + body_len])?;
        self.link(out)
    }

    /// Writes the MAC over everything before it. The length that is authenticated is the final one, MAC included.
    fn link(&mut self, segment: &mut [u8]) -> Result<(), SealError> {
        let (signed, mac) = segment.split_at_mut(segment.len() - MAC_LEN);
        mac.copy_from_slice(&self.mac.link(&mut self.state, signed)?);
        self.state.counter = self.state.counter.checked_add(1).ok_or(SealError::Counter)?;
        Ok(())
    }
}

/// Writes tag and length (below 65,536) and tells where the body begins.
fn write_head(tag: Tag, length: usize, out: &mut [u8]) -> usize {
    let [.., high, low] = length.to_be_bytes();
    let head: &[u8] = match length {
        0..=0x7F => &[tag.0 as u8, low],
        0x80..=0xFF => &[tag.0 as u8, 0x81, low],
        _ => &[tag.0 as u8, 0x82, high, low],
    };
    out[..head.len()].copy_from_slice(head);
    head.len()
}

fn at_most(got: usize, max: usize) -> Result<(), SealError> {
    if got <= max { Ok(()) } else { Err(SealError::TooLong { got, max }) }
}

fn exactly(got: usize, need: usize) -> Result<(), SealError> {
    if got == need { Ok(()) } else { Err(SealError::Buffer { got, need }) }
}
