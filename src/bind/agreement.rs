//! The key agreement: a fresh one-time key of ours, the eUICC's one-time key, session keys out of both.

use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint, PointConversionForm};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::Private;

use super::BindError;
use crate::ffi::ecdh_x;
use crate::formats::bsp::kdf::{HostId, session_keys};
use crate::formats::bsp::segment::Sealer;
use crate::formats::bsp::{ChainState, SegmentKeys};
use crate::ids::Eid;

/// The curve of a key agreement: that of CERT.DPpb. Holds OpenSSL's group, whose making costs more than a key's.
pub struct Curve {
    group: EcGroup,
    order: BigNum,
    name: &'static str,
}

impl Curve {
    /// NIST P-256.
    pub fn p256() -> Result<Self, ErrorStack> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
        let mut order = BigNum::new()?;
        let mut numbers = BigNumContext::new()?;
        group.order(&mut order, &mut numbers)?;
        Ok(Self { group, order, name: "P-256" })
    }
}

/// What one thread needs to bind, made once and used for every record.
pub struct Workbench {
    curve: Curve,
    numbers: BigNumContext,
    sealer: Sealer,
}

impl Workbench {
    /// For packages on this curve.
    pub fn new(curve: Curve) -> Result<Self, ErrorStack> {
        Ok(Self { curve, numbers: BigNumContext::new()?, sealer: Sealer::new()? })
    }

    /// The curve.
    pub fn curve(&self) -> &Curve {
        &self.curve
    }

    /// The sealer.
    pub fn sealer(&mut self) -> &mut Sealer {
        &mut self.sealer
    }
}

/// otSK.DP.KA and otPK.DP.KA: one agreement, then gone. OpenSSL wipes the scalar when it frees the key.
pub struct OneTimeKey(EcKey<Private>);

impl OneTimeKey {
    /// From 32 random octets; refused (2^-32 of all draws) when they are not a scalar of the curve. Randomness is the
    /// caller's, so a package can be replayed byte for byte.
    pub fn from_scalar(workbench: &mut Workbench, scalar: &[u8; 32]) -> Result<Self, BindError> {
        let Workbench { curve: Curve { group, order, name }, numbers, .. } = workbench;
        let mut private = BigNum::from_slice(scalar)?;
        let fits = private.num_bits() > 0 && private < *order;
        let key = fits.then(|| {
            let mut public = EcPoint::new(group)?;
            public.mul_generator2(group, &private, numbers)?;
            EcKey::from_private_components(group, &private, &public)
        });
        private.clear(); // BN_free alone leaves the digits in memory
        Ok(Self(key.ok_or(BindError::Scalar { curve: name })??))
    }
}

/// Session keys that only the eUICC can derive as well, and what it needs to do so.
pub struct Agreement {
    pub(super) keys: SegmentKeys,
    pub(super) start: ChainState,
    pub(super) otpk_dp: [u8; 65],
    pub(super) otpk_euicc: [u8; 65],
    pub(super) host_id: HostId,
}

/// Agrees on session keys with the eUICC `eid` and destroys our one-time key.
pub fn agree(
    workbench: &mut Workbench,
    one_time: OneTimeKey,
    eid: &Eid,
    otpk_euicc: &[u8; 65],
    host_id: &HostId,
) -> Result<Agreement, BindError> {
    let Curve { group, name, .. } = &workbench.curve;
    // OpenSSL also takes the hybrid forms 06 and 07 of 65 octets; SGP.22 knows the uncompressed one alone.
    let peer = match otpk_euicc {
        [0x04, ..] => EcPoint::from_bytes(group, otpk_euicc, &mut workbench.numbers).ok(),
        _ => None,
    };
    let peer = peer.ok_or(BindError::NotOnCurve { curve: name })?;
    let shared = ecdh_x(&one_time.0, &peer)?;
    let (keys, start) = session_keys(&shared, host_id, eid);
    let form = PointConversionForm::UNCOMPRESSED;
    let public = one_time.0.public_key().to_bytes(group, form, &mut workbench.numbers)?;
    let otpk_dp = public.try_into().map_err(|_| BindError::OpenSsl(ErrorStack::get()))?;
    Ok(Agreement { keys, start, otpk_dp, otpk_euicc: *otpk_euicc, host_id: *host_id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::bsp::vectors::{sized, vectors};

    fn workbench() -> Workbench {
        Workbench::new(Curve::p256().unwrap()).unwrap()
    }

    #[test]
    fn shared_points_are_as_nist_published() {
        let mut workbench = workbench();
        let files = [
            include_str!("../../test-vectors/nist/ecdh-p256.txt"),
            include_str!("../../test-vectors/bsp/ecdh-own.txt"),
        ];
        for [scalar, peer, x] in files.iter().flat_map(|file| vectors(file)) {
            let own = OneTimeKey::from_scalar(&mut workbench, &sized(&scalar)).unwrap();
            let peer = EcPoint::from_bytes(&workbench.curve.group, &peer, &mut workbench.numbers).unwrap();
            assert_eq!(ecdh_x(&own.0, &peer).unwrap()[..], x);
        }
    }

    #[test]
    fn what_is_no_point_of_the_curve_is_refused() {
        let mut workbench = workbench();
        let good = vectors::<3>(include_str!("../../test-vectors/nist/ecdh-p256.txt"))[0][1].clone();
        let eid = "89049032123451234512345678901235".parse().unwrap();
        let host_id = HostId::new(b"h").unwrap();
        let mut agree_with = |change: &dyn Fn(&mut [u8; 65])| {
            let mut otpk = sized(&good);
            change(&mut otpk);
            let one_time = OneTimeKey::from_scalar(&mut workbench, &[0x3D; 32]).unwrap();
            agree(&mut workbench, one_time, &eid, &otpk, &host_id)
        };
        assert!(agree_with(&|_| {}).is_ok());
        for (at, octet) in [(64, good[64] ^ 1), (0, 0), (0, 2), (0, 6), (0, 7), (1, good[1] ^ 0x80)] {
            let refused = agree_with(&|otpk| otpk[at] = octet);
            assert!(matches!(refused, Err(BindError::NotOnCurve { curve: "P-256" })), "octet {at} = {octet:02x}");
        }
        assert!(agree_with(&|otpk| *otpk = [0; 65]).is_err());
    }

    #[test]
    fn scalars_outside_the_order_are_refused() {
        let mut workbench = workbench();
        let order = data_encoding::HEXLOWER
            .decode(b"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551")
            .unwrap();
        let mut below = order.clone();
        below[31] -= 1;
        assert!(OneTimeKey::from_scalar(&mut workbench, &sized(&below)).is_ok());
        for scalar in [sized(&order), [0; 32], [0xFF; 32]] {
            assert!(matches!(OneTimeKey::from_scalar(&mut workbench, &scalar), Err(BindError::Scalar { .. })));
        }
    }

    #[test]
    fn two_one_time_keys_agree_on_different_session_keys() {
        let mut workbench = workbench();
        let otpk = sized(&vectors::<3>(include_str!("../../test-vectors/nist/ecdh-p256.txt"))[0][1]);
        let eid = "89049032123451234512345678901235".parse().unwrap();
        let host_id = HostId::new(b"h").unwrap();
        let [one, two] = [[0x3D; 32], [0x3E; 32]].map(|scalar| {
            let one_time = OneTimeKey::from_scalar(&mut workbench, &scalar).unwrap();
            agree(&mut workbench, one_time, &eid, &otpk, &host_id).unwrap()
        });
        assert_ne!(one.otpk_dp, two.otpk_dp);
        assert_ne!(one.keys.enc.expose(), two.keys.enc.expose());
        assert_ne!(one.start.expose(), two.start.expose());
    }
}
