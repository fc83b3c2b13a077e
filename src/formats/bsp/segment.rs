//! Segments: TLV 87 (control, encrypted), 88 (metadata, MAC only), 86 (profile, encrypted), at most 1020 octets each.
//! In: plain octets, keys, the chain's state. Out: TLVs written straight into the caller's exact buffer.
//! Every length is known before anything is encrypted. Source: SGP.22 §2.5.3, §2.5.4, Annex G.

use openssl::error::ErrorStack;

use super::cipher::{ICV_BATCH, Icvs, SegmentCipher, padded_len};
use super::group::{GROUP, GroupCipher, Slot};
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

/// Seals segments one after the other, and those of several packages at once. Keeps its OpenSSL contexts: make one per thread and
/// use it for every profile.
pub struct Sealer {
    cipher: SegmentCipher,
    mac: SegmentMac,
    state: ChainState,
    lanes: Option<GroupCipher>,
}

impl Sealer {
    /// Without keys: refuses to seal before [`Self::begin`].
    pub fn new() -> Result<Self, ErrorStack> {
        let lanes = GroupCipher::where_it_pays();
        Ok(Self { cipher: SegmentCipher::new()?, mac: SegmentMac::new()?, state: ChainState::blank(), lanes })
    }

    /// Takes keys and goes on where their chain stands.
    pub fn begin(&mut self, keys: &SegmentKeys) -> Result<(), ErrorStack> {
        self.cipher.rekey(keys.enc())?;
        self.mac.rekey(keys.mac())?;
        self.state.take_up(keys);
        Ok(())
    }

    /// Notes in `keys`, which are those of [`Self::begin`], where their chain stands now; void behind [`Self::seal_group`], whose
    /// chains are others.
    pub(crate) fn pause(&self, keys: &mut SegmentKeys) {
        self.state.lay_down(keys);
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

    /// What [`Self::seal_all`] writes, of each package under its own keys; those of [`Self::begin`] are void afterwards. Nothing is
    /// sealed when one package's room is not of [`sealed_all_len`] octets. In lanes where the processor has instructions for AES,
    /// elsewhere one after the other.
    pub fn seal_group(&mut self, tag: Tag, group: &mut [(&[u8], Slot<'_>)]) -> Result<(), SealError> {
        for (data, slot) in group.iter() {
            exactly(slot.room.len(), sealed_all_len(data.len()))?;
            let segments = u32::try_from(data.len().div_ceil(MAX_ENCRYPTED)).map_err(|_| SealError::Counter)?;
            slot.keys.counter().checked_add(segments).ok_or(SealError::Counter)?;
        }
        let Some(lanes) = &mut self.lanes else {
            return group.iter_mut().try_for_each(|(data, slot)| {
                self.begin(slot.keys)?;
                self.seal_all(tag, data, slot.room)
            });
        };
        group.chunks_mut(GROUP).for_each(|group| lanes.seal(tag, group));
        Ok(())
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
pub(super) fn write_head(tag: Tag, length: usize, out: &mut [u8]) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::bsp::vectors::{sized, vectors};
    use openssl::sha::sha256;
    use openssl::symm::{Cipher, Crypter, Mode, encrypt};
    use proptest::prelude::*;

    fn sealer(octets: &[u8]) -> Sealer {
        let mut sealer = Sealer::new().unwrap();
        sealer.begin(&SegmentKeys::from_octets(&sized(octets))).unwrap();
        sealer
    }

    #[test]
    fn segments_are_as_others_seal_them() {
        let files = [
            include_str!("../../../test-vectors/bsp/mode51.txt"),
            include_str!("../../../test-vectors/bsp/segments.txt"),
        ];
        let mut sealer = Sealer::new().unwrap();
        let mut counter = 0;
        for [octets, tag, plain, expected] in files.iter().flat_map(|file| vectors(file)) {
            if !octets.is_empty() {
                sealer.begin(&SegmentKeys::from_octets(&sized(&octets))).unwrap();
                counter = 1;
            }
            assert_eq!(sealer.state.counter, counter);
            let tag = Tag(u32::from(tag[0]));
            let mut out = vec![0; expected.len()];
            match tag {
                METADATA => sealer.seal_mac_only(tag, &plain, &mut out).unwrap(),
                _ => sealer.seal_encrypted(tag, &plain, &mut out).unwrap(),
            }
            assert_eq!(out, expected, "tag {tag}, {} octets", plain.len());
            counter += 1;
        }
    }

    #[test]
    fn whole_profiles_are_sealed_as_segment_by_segment_elsewhere() {
        for [keys, upp_len, sealed, digest] in vectors(include_str!("../../../test-vectors/bsp/sequences.txt")) {
            let [upp_len, sealed] = [upp_len, sealed].map(|octets| u32::from_be_bytes(sized(&octets)) as usize);
            let upp: Vec<u8> = (0..upp_len).map(|i| ((7 * i + 3) % 251) as u8).collect();
            assert_eq!(sealed_all_len(upp_len), sealed);
            let mut out = vec![0; sealed];
            sealer(&keys).seal_all(PROFILE, &upp, &mut out).unwrap();
            assert_eq!(sha256(&out)[..], digest, "{upp_len} octets");
        }
    }

    #[test]
    fn a_segment_never_exceeds_1020_octets() {
        assert_eq!([3, 57, 991, 992, 1007].map(sealed_len), [26, 74, 1004, 1020, 1020]);
        assert_eq!([1007, 1008].map(mac_only_len), [1019, 1020]);
        assert_eq!([1, 1007, 1008, 2014].map(sealed_all_len), [26, 1020, 1046, 2040]);
        assert_eq!([0, 1008, 1009, 2016].map(mac_only_all_len), [0, 1020, 1031, 2040]);
    }

    #[test]
    fn wrong_sizes_are_refused_and_move_nothing() {
        let mut sealer = sealer(&[7; 48]);
        let mut out = vec![0; 2000];
        let error = sealer.seal_encrypted(PROFILE, &[0; 1008], &mut out).unwrap_err();
        assert!(matches!(error, SealError::TooLong { got: 1008, max: 1007 }), "{error}");
        let error = sealer.seal_mac_only(METADATA, &[0; 1009], &mut out).unwrap_err();
        assert!(matches!(error, SealError::TooLong { got: 1009, max: 1008 }), "{error}");
        for len in [25, 27] {
            let error = sealer.seal_encrypted(CONTROL, &[0; 3], &mut out[..len]).unwrap_err();
            assert!(matches!(error, SealError::Buffer { need: 26, .. }), "{error}");
            let error = sealer.seal_all(PROFILE, &[0; 3], &mut out[..len]).unwrap_err();
            assert!(matches!(error, SealError::Buffer { need: 26, .. }), "{error}");
        }
        assert_eq!(sealer.state.counter, 1);
        assert_eq!(sealer.state.chain[..], [7; 16]);
    }

    #[test]
    fn without_keys_nothing_is_sealed() {
        let mut sealer = Sealer::new().unwrap();
        assert!(matches!(sealer.seal_encrypted(CONTROL, &[1], &mut [0; 26]), Err(SealError::OpenSsl(_))));
        assert!(matches!(sealer.seal_mac_only(METADATA, &[1], &mut [0; 11]), Err(SealError::OpenSsl(_))));
    }

    /// The eUICC's way back, in the plainest form: one-shot decryption of each segment; MACs are judged by the vectors.
    fn open_all(enc: &[u8; 16], mut segments: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        for counter in 1_u128.. {
            if segments.is_empty() {
                break;
            }
            let tlv = crate::formats::tlv::Reader::new(segments).next_tlv().unwrap().unwrap();
            assert_eq!(tlv.tag, PROFILE);
            assert!(tlv.whole.len() <= 1020);
            segments = &segments[tlv.whole.len()..];
            let icv = encrypt(Cipher::aes_128_ecb(), enc, None, &counter.to_be_bytes()).unwrap();
            let body = &tlv.value[..tlv.value.len() - MAC_LEN];
            let mut crypter = Crypter::new(Cipher::aes_128_cbc(), Mode::Decrypt, enc, Some(&icv[..16])).unwrap();
            crypter.pad(false);
            let mut out = vec![0; body.len() + 16];
            let written = crypter.update(body, &mut out).unwrap();
            let marker = out[..written].iter().rposition(|octet| *octet != 0).unwrap();
            assert_eq!(out[marker], 0x80);
            assert!(written - marker <= 16);
            plain.extend_from_slice(&out[..marker]);
        }
        plain
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_profile_of_any_length_comes_back(len in 1..=20_000_usize, octets in proptest::array::uniform32(any::<u8>())) {
            let upp: Vec<u8> = (0..len).map(|i| octets[i % 32] ^ (i / 32) as u8).collect();
            let keys = [&octets[..], &octets[..16]].concat();
            let mut out = vec![0; sealed_all_len(len)];
            sealer(&keys).seal_all(PROFILE, &upp, &mut out).unwrap();
            prop_assert_eq!(open_all(&sized(&keys[16..32]), &out), upp);
        }
    }
}
