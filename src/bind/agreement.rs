//! The key agreement: a fresh one-time key of ours, the eUICC's one-time key, session keys out of both.

use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::ec::{EcKey, EcPoint, PointConversionForm};
use openssl::error::ErrorStack;
use openssl::pkey::Private;

use super::BindError;
use crate::ffi::ecdh_x;
use crate::formats::bsp::SegmentKeys;
use crate::formats::bsp::kdf::{HostId, session_keys};
use crate::formats::bsp::segment::Sealer;
use crate::formats::curve::Curve;
use crate::formats::rsp::es8p::InitialiseSecureChannel;
use crate::ids::{Eid, TransactionId};

/// What one thread needs to bind, made once and used for every record, on whichever curve.
pub struct Workbench {
    numbers: BigNumContext,
    sealer: Sealer,
    /// Fields to be hashed, of which none is secret.
    fields: Vec<u8>,
}

impl Workbench {
    /// A workbench of one's own.
    pub fn new() -> Result<Self, ErrorStack> {
        Ok(Self { numbers: BigNumContext::new()?, sealer: Sealer::new()?, fields: Vec::new() })
    }

    /// The sealer.
    pub fn sealer(&mut self) -> &mut Sealer {
        &mut self.sealer
    }
}

/// otSK.DP.KA and otPK.DP.KA: one agreement, then gone. OpenSSL wipes the scalar when it frees the key.
pub struct OneTimeKey {
    key: EcKey<Private>,
    curve: Curve,
}

impl OneTimeKey {
    /// Random octets that make a scalar: 128 bits more than the order has, so that what is left of the reduction's bias is
    /// below 2^-128 on every curve (FIPS 186-5 §A.2.1). To draw 32 octets until they fit would do for P-256, where one draw in
    /// 2^32 is too large; for brainpoolP256r1 one in three is.
    pub const RANDOM_LEN: usize = 48;

    /// From random octets. Randomness is the caller's, so a package can be replayed byte for byte.
    pub fn from_random(
        workbench: &mut Workbench,
        curve: Curve,
        random: &[u8; Self::RANDOM_LEN],
    ) -> Result<Self, BindError> {
        let mut below = curve.order()?.to_owned()?;
        below.sub_word(1)?;
        let mut drawn = BigNum::from_slice(random)?;
        drawn.set_const_time();
        let mut private = BigNum::new()?;
        let reduced = private.nnmod(&drawn, &below, &mut workbench.numbers).and_then(|()| private.add_word(1));
        drawn.clear();
        let key = reduced.and_then(|()| Self::of_private(workbench, curve, &private));
        private.clear(); // BN_free alone leaves the digits in memory
        Ok(key?)
    }

    /// From a given scalar, for vectors; refused when it is zero or not below the order.
    pub fn from_scalar(workbench: &mut Workbench, curve: Curve, scalar: &[u8; 32]) -> Result<Self, BindError> {
        let mut private = BigNum::from_slice(scalar)?;
        let fits = private.num_bits() > 0 && *private < *curve.order()?;
        let key = fits.then(|| Self::of_private(workbench, curve, &private));
        private.clear();
        Ok(key.ok_or(BindError::Scalar { curve: curve.as_str() })??)
    }

    fn of_private(workbench: &mut Workbench, curve: Curve, private: &BigNumRef) -> Result<Self, ErrorStack> {
        let group = curve.group()?;
        let mut public = EcPoint::new(group)?;
        public.mul_generator2(group, private, &mut workbench.numbers)?;
        Ok(Self { key: EcKey::from_private_components(group, private, &public)?, curve })
    }
}

/// otPK.EUICC.KA, proven to be a point of its curve.
pub struct PeerKey {
    point: EcPoint,
    octets: [u8; 65],
    curve: Curve,
}

impl PeerKey {
    /// An uncompressed point of one of these curves; `None` when it is on none of them. Points of two curves at once do not come up,
    /// see [`Curve::of_point`].
    pub fn read(workbench: &mut Workbench, curves: &[Curve], octets: &[u8; 65]) -> Option<Self> {
        let numbers = &mut workbench.numbers;
        let (curve, point) = curves.iter().find_map(|curve| Some((*curve, curve.point(octets, numbers)?)))?;
        Some(Self { point, octets: *octets, curve })
    }

    /// Its curve, and so that of the package.
    pub fn curve(&self) -> Curve {
        self.curve
    }
}

/// Session keys that only the eUICC can derive as well, and what InitialiseSecureChannel tells it to do so.
pub struct Agreement {
    pub(super) curve: Curve,
    pub(super) keys: SegmentKeys,
    pub(super) otpk_dp: [u8; 65],
    pub(super) host_id: HostId,
    pub(super) transaction_id: TransactionId,
    pub(super) digest: [u8; 32],
}

impl Agreement {
    /// SHA-256 of what the HSM signs; known before there is a profile, so that it signs while profiles are made and sealed.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Whose DPpb key signs: that of the eUICC's curve.
    pub fn curve(&self) -> Curve {
        self.curve
    }
}

/// Agrees on session keys with the eUICC `eid` and destroys our one-time key. Both one-time keys are on one curve, or nothing
/// is agreed. `transaction_id`: of the session or the pre-bound package.
pub fn agree(
    workbench: &mut Workbench,
    one_time: OneTimeKey,
    (eid, peer): (&Eid, &PeerKey),
    (host_id, transaction_id): (&HostId, &TransactionId),
) -> Result<Agreement, BindError> {
    let OneTimeKey { key, curve } = one_time;
    if peer.curve != curve {
        return Err(BindError::NotOnCurve { curve: curve.as_str() });
    }
    let shared = ecdh_x(&key, &peer.point)?;
    let keys = session_keys(&shared, host_id, eid);
    let form = PointConversionForm::UNCOMPRESSED;
    let public = key.public_key().to_bytes(key.group(), form, &mut workbench.numbers)?;
    let otpk_dp = public.try_into().map_err(|_| BindError::OpenSsl(ErrorStack::get()))?;
    let channel = InitialiseSecureChannel { transaction_id, host_id, otpk_dp: &otpk_dp };
    let digest = channel.digest(&peer.octets, &mut workbench.fields);
    Ok(Agreement { curve, keys, otpk_dp, host_id: *host_id, transaction_id: *transaction_id, digest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::bsp::vectors::{sized, vectors};

    const TRANSACTION: TransactionId = TransactionId([9; 16]);

    fn workbench() -> Workbench {
        Workbench::new().unwrap()
    }

    fn peer(curve: Curve) -> [u8; 65] {
        let file = match curve {
            Curve::P256 => include_str!("../../test-vectors/nist/ecdh-p256.txt"),
            Curve::Brainpool => include_str!("../../test-vectors/rfc7027/ecdh-brainpoolp256r1.txt"),
        };
        sized(&vectors::<3>(file)[0][1])
    }

    #[test]
    fn shared_points_are_as_published() {
        let mut workbench = workbench();
        let files = [
            (Curve::P256, include_str!("../../test-vectors/nist/ecdh-p256.txt")),
            (Curve::P256, include_str!("../../test-vectors/bsp/ecdh-own.txt")),
            (Curve::Brainpool, include_str!("../../test-vectors/rfc7027/ecdh-brainpoolp256r1.txt")),
        ];
        for (curve, [scalar, peer, x]) in
            files.iter().flat_map(|(curve, file)| vectors(file).into_iter().map(|v| (*curve, v)))
        {
            let own = OneTimeKey::from_scalar(&mut workbench, curve, &sized(&scalar)).unwrap();
            let peer = curve.point(&sized(&peer), &mut workbench.numbers).unwrap();
            assert_eq!(ecdh_x(&own.key, &peer).unwrap()[..], x);
        }
    }

    #[test]
    fn both_public_keys_of_rfc_7027_come_from_their_scalars() {
        let mut workbench = workbench();
        let [[a, b_public, _], [b, a_public, _]]: [[Vec<u8>; 3]; 2] =
            vectors(include_str!("../../test-vectors/rfc7027/ecdh-brainpoolp256r1.txt")).try_into().unwrap();
        let eid = "89049032123451234512345678901235".parse().unwrap();
        let host_id = HostId::new(b"h").unwrap();
        let mut agreed = |own: &[u8], peer: &[u8]| {
            let own = OneTimeKey::from_scalar(&mut workbench, Curve::Brainpool, &sized(own)).unwrap();
            let peer = PeerKey::read(&mut workbench, &Curve::ALL, &sized(peer)).unwrap();
            agree(&mut workbench, own, (&eid, &peer), (&host_id, &TRANSACTION)).unwrap()
        };
        let (ours, theirs) = (agreed(&a, &b_public), agreed(&b, &a_public));
        assert_eq!((ours.otpk_dp[..].to_vec(), theirs.otpk_dp[..].to_vec()), (a_public, b_public));
        assert_eq!(ours.keys.enc().expose(), theirs.keys.enc().expose());
        assert_eq!(ours.keys.chain(), theirs.keys.chain());
        assert_eq!(ours.curve, Curve::Brainpool);
    }

    #[test]
    fn what_is_no_point_of_the_curve_is_refused() {
        let mut workbench = workbench();
        let eid = "89049032123451234512345678901235".parse().unwrap();
        let host_id = HostId::new(b"h").unwrap();
        for (curve, other) in [(Curve::P256, Curve::Brainpool), (Curve::Brainpool, Curve::P256)] {
            let good = peer(curve);
            let mut read = |otpk: &[u8; 65]| PeerKey::read(&mut workbench, &[curve], otpk);
            assert!(read(&good).is_some());
            for (at, octet) in [(64, good[64] ^ 1), (0, 0), (0, 2), (0, 6), (0, 7), (1, good[1] ^ 0x80)] {
                let mut otpk = good;
                otpk[at] = octet;
                assert!(read(&otpk).is_none(), "{curve}: octet {at} = {octet:02x}");
            }
            assert!(read(&[0; 65]).is_none() && read(&peer(other)).is_none());
            let other = PeerKey::read(&mut workbench, &Curve::ALL, &peer(other)).unwrap();
            let one_time = OneTimeKey::from_random(&mut workbench, curve, &[0x3D; 48]).unwrap();
            let agreed = agree(&mut workbench, one_time, (&eid, &other), (&host_id, &TRANSACTION));
            let Err(BindError::NotOnCurve { curve: told }) = agreed else {
                panic!("a point of {} was taken on {curve}", other.curve())
            };
            assert_eq!(told, curve.as_str());
        }
    }

    #[test]
    fn scalars_outside_the_order_are_refused() {
        let mut workbench = workbench();
        let orders: [(Curve, &[u8]); 2] = [
            (Curve::P256, b"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"),
            (Curve::Brainpool, b"a9fb57dba1eea9bc3e660a909d838d718c397aa3b561a6f7901e0e82974856a7"),
        ];
        for (curve, order) in orders {
            let order: [u8; 32] = sized(&data_encoding::HEXLOWER.decode(order).unwrap());
            let mut below = order;
            below[31] -= 1;
            assert!(OneTimeKey::from_scalar(&mut workbench, curve, &below).is_ok());
            for scalar in [order, [0; 32], [0xFF; 32]] {
                let refused = OneTimeKey::from_scalar(&mut workbench, curve, &scalar);
                assert!(matches!(refused, Err(BindError::Scalar { .. })), "{curve}");
            }
        }
    }

    #[test]
    fn every_draw_makes_a_scalar_of_its_curve() {
        let mut workbench = workbench();
        for curve in Curve::ALL {
            let order = curve.order().unwrap().to_vec();
            // c: what is drawn; c mod (n - 1) + 1 stands beside it.
            let wide = |low: &[u8]| -> [u8; 48] { [&[0; 16], low].concat().try_into().unwrap() };
            let mut below = order.clone();
            below[31] -= 1;
            for (drawn, scalar) in [([0; 48], vec![1]), (wide(&below), vec![1]), (wide(&order), vec![2])] {
                let key = OneTimeKey::from_random(&mut workbench, curve, &drawn).unwrap();
                assert_eq!(key.key.private_key().to_vec(), scalar, "{curve}");
            }
            let key = OneTimeKey::from_random(&mut workbench, curve, &[0xFF; 48]).unwrap();
            assert!(*key.key.private_key() < *curve.order().unwrap());
            key.key.check_key().unwrap();
        }
    }

    #[test]
    fn two_one_time_keys_agree_on_different_session_keys() {
        let mut workbench = workbench();
        let otpk = PeerKey::read(&mut workbench, &[Curve::P256], &peer(Curve::P256)).unwrap();
        let eid = "89049032123451234512345678901235".parse().unwrap();
        let host_id = HostId::new(b"h").unwrap();
        let [one, two] = [[0x3D; 32], [0x3E; 32]].map(|scalar| {
            let one_time = OneTimeKey::from_scalar(&mut workbench, Curve::P256, &scalar).unwrap();
            agree(&mut workbench, one_time, (&eid, &otpk), (&host_id, &TRANSACTION)).unwrap()
        });
        assert_ne!(one.otpk_dp, two.otpk_dp);
        assert_ne!(one.keys.enc().expose(), two.keys.enc().expose());
        assert_ne!(one.keys.chain(), two.keys.chain());
    }
}
