//! Points and ECDSA signatures over them, as SGP.22 writes both: 65 and 64 octets (BSI TR-03111), on either curve.

use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcKey, PointConversionForm};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::pkey::{HasPublic, Public};

use crate::formats::curve::Curve;

/// The public key of an uncompressed point on the curve that it lies on; an error when that is none of ours, or the point is
/// written in another form.
pub(crate) fn public_key(point: &[u8; 65]) -> Result<EcKey<Public>, ErrorStack> {
    public_key_on(Curve::of_point(point).ok_or_else(ErrorStack::get)?, point)
}

/// The same on a curve that is known.
pub(crate) fn public_key_on(curve: Curve, point: &[u8; 65]) -> Result<EcKey<Public>, ErrorStack> {
    let point = curve.point(point, &mut BigNumContext::new()?).ok_or_else(ErrorStack::get)?;
    EcKey::from_public_key(curve.group()?, &point)
}

/// The uncompressed point of a key.
pub(crate) fn point_of<K: HasPublic>(key: &EcKey<K>) -> Result<[u8; 65], ErrorStack> {
    let mut ctx = BigNumContext::new()?;
    let octets = key.public_key().to_bytes(key.group(), PointConversionForm::UNCOMPRESSED, &mut ctx)?;
    let mut point = [0; 65];
    point.iter_mut().zip(octets).for_each(|(slot, octet)| *slot = octet);
    Ok(point)
}

/// Whether `r || s` is the key's signature of the digest.
pub(crate) fn verifies(key: &EcKey<Public>, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    let (r, s) = signature.split_at(32);
    let parts = BigNum::from_slice(r).and_then(|r| Ok((r, BigNum::from_slice(s)?)));
    parts.and_then(|(r, s)| EcdsaSig::from_private_components(r, s)?.verify(digest, key)).unwrap_or(false)
}
