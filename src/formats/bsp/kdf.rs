//! From the shared secret of the key agreement to session keys: X9.63 with SHA-256.
//! In: the x coordinate of the ECDH point, host id, EID. Out: [`SegmentKeys`] and the chain's start.
//! The EID enters packed, 16 octets, never as ASCII. Source: SGP.22 §3.1.3.2 step 9 and Annex G; SEC 1 §3.6.1.

use openssl::sha::Sha256;
use zeroize::Zeroizing;

use super::{ChainState, SegmentKeys};
use crate::ids::Eid;
use crate::secret::SharedSecret;

/// keyType of the control reference template: AES.
pub const KEY_TYPE_AES: u8 = 0x88;
/// keyLen of the control reference template: 16 octets.
pub const KEY_LEN: u8 = 0x10;

/// HostID: 1 to 16 octets the SM-DP+ chooses; the same in the control reference template and in the derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostId {
    octets: [u8; 16],
    length: u8,
}

impl HostId {
    /// `None` when empty or longer than 16 octets.
    pub fn new(value: &[u8]) -> Option<Self> {
        let mut octets = [0; 16];
        octets.get_mut(..value.len())?.copy_from_slice(value);
        (!value.is_empty()).then_some(Self { octets, length: value.len() as u8 })
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }
}

/// S-ENC, S-MAC and the initial MAC chaining value of one session.
pub fn session_keys(shared: &SharedSecret, host_id: &HostId, eid: &Eid) -> (SegmentKeys, ChainState) {
    let mut keys = Zeroizing::new([0; 48]);
    let host_id = host_id.as_bytes();
    let shared_info =
        [&[KEY_TYPE_AES, KEY_LEN], &[host_id.len() as u8][..], host_id, &[eid.packed().len() as u8], eid.packed()];
    x963_sha256(&shared[..], &shared_info, &mut keys[..]);
    SegmentKeys::from_octets(&keys)
}

/// Fills `out` with `SHA-256(secret || counter || shared_info)` for counter 1, 2, ... (four octets, big-endian).
fn x963_sha256(secret: &[u8], shared_info: &[&[u8]], out: &mut [u8]) {
    for (counter, part) in (1_u32..).zip(out.chunks_mut(32)) {
        let mut sha = Sha256::new();
        sha.update(secret);
        sha.update(&counter.to_be_bytes());
        shared_info.iter().for_each(|piece| sha.update(piece));
        let digest = Zeroizing::new(sha.finish());
        part.copy_from_slice(&digest[..part.len()]);
    }
}
