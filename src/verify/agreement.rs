//! Key agreement from the eUICC's side: otSK.EUICC with otPK.DP, then X9.63 (SGP.22 §3.1.3.2, Annex G).
//!
//! Written a second time on purpose, over other OpenSSL calls than the engine's: a mistake made there shall not cancel out here.

use openssl::bn::BigNumContext;
use openssl::derive::Deriver;
use openssl::ec::{EcKey, EcPoint};
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::sha::Sha256;
use zeroize::Zeroizing;

use super::finding::{Check, Finding};
use crate::secret::{Enc, Key, Mac, SharedSecret};

/// Octets of an uncompressed point of a 256-bit curve.
pub(super) const POINT_LEN: usize = 65;

/// What protects the segments from some point on: session keys, or the PPK that ReplaceSessionKeys brings.
pub(super) struct SegmentKeys {
    pub(super) enc: Key<Enc>,
    pub(super) mac: Key<Mac>,
    pub(super) chain: Zeroizing<[u8; 16]>,
}

impl SegmentKeys {
    /// In the order in which both Annex G and BF26 give them: MAC chaining value, encryption key, MAC key.
    pub(super) fn from_parts(chain: &[u8; 16], enc: &[u8; 16], mac: &[u8; 16]) -> Self {
        Self { enc: Key::from_slice(enc), mac: Key::from_slice(mac), chain: Zeroizing::new(*chain) }
    }
}

/// The x coordinate of ECDH(otSK.EUICC, otPK.DP).
pub(super) fn shared_secret(otsk: &PKeyRef<Private>, otpk_dp: &[u8]) -> Result<SharedSecret, Finding> {
    let wrong = |what: String| Finding::new(Check::KeyAgreement, what);
    let failed = |e: openssl::error::ErrorStack| wrong(format!("otPK.DP does not agree with the one-time key: {e}"));
    if otpk_dp.len() != POINT_LEN || otpk_dp[0] != 0x04 {
        return Err(wrong("otPK.DP is not an uncompressed point of 65 octets".into()));
    }
    let own = otsk.ec_key().map_err(failed)?;
    let mut ctx = BigNumContext::new().map_err(failed)?;
    let point = EcPoint::from_bytes(own.group(), otpk_dp, &mut ctx)
        .map_err(|_| wrong("otPK.DP is not a point of the one-time key's curve".into()))?;
    let peer = EcKey::from_public_key(own.group(), &point).and_then(PKey::from_ec_key).map_err(failed)?;
    let mut deriver = Deriver::new(otsk).map_err(failed)?;
    deriver.set_peer(&peer).map_err(failed)?;
    let mut z = Zeroizing::new([0; 32]);
    match deriver.derive(&mut z[..]).map_err(failed)? {
        32 => Ok(z),
        other => Err(wrong(format!("the shared secret has {other} octets, not 32: another curve"))),
    }
}

/// X9.63 with SHA-256 over Z and `88 10 LV(HostID) LV(EID)`: initial MAC chaining value, S-ENC, S-MAC.
/// The EID counts as its 16 packed octets.
pub(super) fn derive(z: &SharedSecret, host_id: &[u8], eid: &[u8; 16]) -> SegmentKeys {
    let mut okm = Zeroizing::new([0; 64]);
    for (counter, block) in (1_u32..).zip(okm.chunks_exact_mut(32)) {
        let mut hash = Sha256::new();
        hash.update(&z[..]);
        hash.update(&counter.to_be_bytes());
        hash.update(&[0x88, 0x10, host_id.len() as u8]);
        hash.update(host_id);
        hash.update(&[eid.len() as u8]);
        hash.update(eid);
        block.copy_from_slice(Zeroizing::new(hash.finish()).as_slice());
    }
    let mut parts = [(); 3].map(|()| Zeroizing::new([0; 16]));
    parts.iter_mut().zip(okm.chunks_exact(16)).for_each(|(part, octets)| part.copy_from_slice(octets));
    let [chain, enc, mac] = &parts;
    SegmentKeys::from_parts(chain, enc, mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::vectors;

    #[test]
    fn both_published_key_derivations_are_reproduced() {
        for case in ["kdf-1", "kdf-2"] {
            let figures = vectors::section(include_str!("../../test-vectors/bpp/segments.txt"), case);
            let z: [u8; 32] = figures["z"].as_slice().try_into().unwrap();
            let eid = figures["eid"].as_slice().try_into().unwrap();
            let keys = derive(&Zeroizing::new(z), &figures["host"], eid);
            assert_eq!(keys.enc.expose()[..], figures["s-enc"]);
            assert_eq!(keys.mac.expose()[..], figures["s-mac"]);
            assert_eq!(keys.chain[..], figures["mcv"]);
        }
    }

    #[test]
    fn a_point_off_the_curve_gives_no_secret() {
        let group = openssl::ec::EcGroup::from_curve_name(openssl::nid::Nid::X9_62_PRIME256V1).unwrap();
        let otsk = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut point = [1; POINT_LEN];
        assert_eq!(shared_secret(&otsk, &point).unwrap_err().check, Check::KeyAgreement);
        point[0] = 4;
        assert_eq!(shared_secret(&otsk, &point).unwrap_err().check, Check::KeyAgreement);
        assert_eq!(shared_secret(&otsk, &[0]).unwrap_err().check, Check::KeyAgreement);
    }
}
