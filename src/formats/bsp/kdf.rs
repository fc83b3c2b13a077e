//! From the shared secret of the key agreement to session keys: X9.63 with SHA-256.
//! In: the x coordinate of the ECDH point, host id, EID. Out: [`SegmentKeys`].
//! The EID enters packed, 16 octets, never as ASCII. Source: SGP.22 §3.1.3.2 step 9 and Annex G; SEC 1 §3.6.1.

use openssl::sha::Sha256;
use zeroize::Zeroizing;

use super::SegmentKeys;
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
pub fn session_keys(shared: &SharedSecret, host_id: &HostId, eid: &Eid) -> SegmentKeys {
    let mut keys = Zeroizing::new([0; 48]);
    x963_sha256(&shared[..], &shared_info(host_id, eid.packed()), &mut keys[..]);
    SegmentKeys::from_octets(&keys)
}

/// `88 10 LV(host id) LV(EID)`.
fn shared_info<'a>(host_id: &'a HostId, eid: &'a [u8; 16]) -> [&'a [u8]; 5] {
    const EID_LEN: &[u8] = &[16];
    let HostId { octets, length } = host_id;
    [&[KEY_TYPE_AES, KEY_LEN], std::slice::from_ref(length), &octets[..usize::from(*length)], EID_LEN, eid]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::bsp::vectors::{sized, vectors};

    #[test]
    fn key_data_is_as_nist_published() {
        for [secret, shared_info, key_data] in vectors(include_str!("../../../test-vectors/x963/sha256.txt")) {
            let mut out = vec![0; key_data.len()];
            x963_sha256(&secret, &[&shared_info], &mut out);
            assert_eq!(out, key_data);
        }
    }

    #[test]
    fn keys_of_an_agreement_are_as_others_derive_them() {
        let mut below_eid = 0;
        let files = [
            include_str!("../../../test-vectors/bsp/kdf-pysim.txt"),
            include_str!("../../../test-vectors/bsp/kdf-own.txt"),
        ];
        for [secret, host_id, eid, expected] in files.iter().flat_map(|file| vectors(file)) {
            let host_id = HostId::new(&host_id).unwrap();
            let Ok(eid) = Eid::from_packed(&sized(&eid)) else {
                let mut out = [0; 48];
                x963_sha256(&secret, &shared_info(&host_id, &sized(&eid)), &mut out);
                assert_eq!(out[..], expected);
                below_eid += 1;
                continue;
            };
            let keys = session_keys(&SharedSecret::new(sized(&secret)), &host_id, &eid);
            assert_eq!([&keys.chain()[..], keys.enc().expose(), keys.mac().expose()].concat(), expected);
            assert_eq!(keys.counter(), 1);
        }
        assert_eq!(below_eid, 1, "one published EID has wrong check digits");
    }

    #[test]
    fn a_host_id_has_1_to_16_octets() {
        assert_eq!(HostId::new(&[]), None);
        assert_eq!(HostId::new(&[7; 17]), None);
        assert_eq!(HostId::new(&[7; 16]).unwrap().as_bytes(), [7; 16]);
        assert_eq!(HostId::new(b"h").unwrap().as_bytes(), b"h");
    }
}
