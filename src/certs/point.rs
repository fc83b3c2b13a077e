//! Points of NIST P-256 and ECDSA signatures over them, as SGP.22 writes both: 65 and 64 octets.

use std::sync::OnceLock;

use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint, PointConversionForm};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, Public};

/// The group, made once: making one costs as much as a key.
pub(crate) fn group() -> Result<&'static EcGroup, ErrorStack> {
    static GROUP: OnceLock<EcGroup> = OnceLock::new();
    if let Some(group) = GROUP.get() {
        return Ok(group);
    }
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    Ok(GROUP.get_or_init(|| group))
}

/// The public key of an uncompressed point; an error when it is not on the curve or written in another form.
pub(crate) fn public_key(point: &[u8; 65]) -> Result<EcKey<Public>, ErrorStack> {
    let group = group()?;
    // A hybrid form (06, 07) has 65 octets too; OpenSSL takes it, eUICCs do not.
    let octets: &[u8] = if point[0] == 0x04 { point } else { &[] };
    let mut ctx = BigNumContext::new()?;
    EcKey::from_public_key(group, EcPoint::from_bytes(group, octets, &mut ctx)?.as_ref())
}

/// The uncompressed point of a key.
pub(crate) fn point_of<K: HasPublic>(key: &EcKey<K>) -> Result<[u8; 65], ErrorStack> {
    let mut ctx = BigNumContext::new()?;
    let octets = key.public_key().to_bytes(group()?, PointConversionForm::UNCOMPRESSED, &mut ctx)?;
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
