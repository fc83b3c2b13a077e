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
    name: &'static str,
}

impl Curve {
    /// NIST P-256.
    pub fn p256() -> Result<Self, ErrorStack> {
        Ok(Self { group: EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?, name: "P-256" })
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
    /// A fresh one.
    pub fn generate(curve: &Curve) -> Result<Self, ErrorStack> {
        EcKey::generate(&curve.group).map(Self)
    }

    /// One with a known scalar, to replay a package byte for byte.
    pub fn from_scalar(curve: &Curve, scalar: &[u8; 32]) -> Result<Self, BindError> {
        let mut order = BigNum::new()?;
        let mut numbers = BigNumContext::new()?;
        curve.group.order(&mut order, &mut numbers)?;
        let mut private = BigNum::from_slice(scalar)?;
        let fits = private.num_bits() > 0 && private < order;
        let key = fits.then(|| {
            let mut public = EcPoint::new(&curve.group)?;
            public.mul_generator2(&curve.group, &private, &mut numbers)?;
            EcKey::from_private_components(&curve.group, &private, &public)
        });
        private.clear(); // BN_free alone leaves the digits in memory
        Ok(Self(key.ok_or(BindError::Scalar { curve: curve.name })??))
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

impl Agreement {
    /// otPK.DP.KA, uncompressed.
    pub fn otpk_dp(&self) -> &[u8; 65] {
        &self.otpk_dp
    }
}

/// Agrees on session keys with the eUICC `eid` and destroys our one-time key.
pub fn agree(
    workbench: &mut Workbench,
    one_time: OneTimeKey,
    eid: &Eid,
    otpk_euicc: &[u8; 65],
    host_id: &HostId,
) -> Result<Agreement, BindError> {
    let Curve { group, name } = &workbench.curve;
    let off_curve = |_| BindError::NotOnCurve { curve: name };
    let peer = EcPoint::from_bytes(group, otpk_euicc, &mut workbench.numbers).map_err(off_curve)?;
    let shared = ecdh_x(&one_time.0, &peer)?;
    let (keys, start) = session_keys(&shared, host_id, eid);
    let form = PointConversionForm::UNCOMPRESSED;
    let public = one_time.0.public_key().to_bytes(group, form, &mut workbench.numbers)?;
    let otpk_dp = public.try_into().map_err(|_| BindError::OpenSsl(ErrorStack::get()))?;
    Ok(Agreement { keys, start, otpk_dp, otpk_euicc: *otpk_euicc, host_id: *host_id })
}
