//! The floor: what the primitives of one bound profile cost, each called in the fastest way OpenSSL and the token offer.
//! Written with the primitives alone, not with the code whose distance from the floor is measured.

use std::hint::black_box;
use std::time::Duration;

use openssl::bn::{BigNum, BigNumContext};
use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use openssl::ec::{EcKey, EcPoint, PointConversionForm};
use openssl::error::ErrorStack;
use openssl::sha::Sha256;

use super::crew::Crew;
use super::{Sign, Signers, Template, failed, refused};
use crate::error::Fault;
use crate::ffi::{CmacContext, ecdh_x};
use crate::formats::bsp::segment::{MAX_ENCRYPTED, sealed_len};
use crate::formats::curve::Curve;
use crate::protect::ppp_len;

/// Microseconds of one thread.
pub(super) struct Floor {
    /// One-time key, group kept.
    pub(super) keygen_us: f64,
    /// Peer's point decoded, one multiplication.
    pub(super) ecdh_us: f64,
    /// Two SHA-256 over secret, counter and SharedInfo.
    pub(super) kdf_us: f64,
    /// Through the token.
    pub(super) signature_us: f64,
    /// CBC and CMAC of a full segment.
    pub(super) piece_us: f64,
    /// All segments of the profile.
    pub(super) segments_us: f64,
    /// ConfigureISDP, a small StoreMetadata, ReplaceSessionKeys.
    pub(super) short_segments_us: f64,
    /// The whole PPP from one place to another.
    pub(super) copy_us: f64,
}

impl Floor {
    pub(super) fn measure(
        signers: &impl Signers,
        workload: &Template,
        crew: &Crew,
        window: Duration,
    ) -> Result<Self, Fault> {
        let segment_us = |plain_len| crew.us_per_op(window, &|| segment(plain_len));
        let (full, rest) = (workload.upp.len() / MAX_ENCRYPTED, workload.upp.len() % MAX_ENCRYPTED);
        let piece_us = segment_us(MAX_ENCRYPTED)?;
        Ok(Self {
            keygen_us: crew.us_per_op(window, &|| keygen(workload.curve))?,
            ecdh_us: crew.us_per_op(window, &|| ecdh(workload.curve))?,
            kdf_us: crew.us_per_op(window, &kdf)?,
            signature_us: crew.us_per_op(window, &|| signature(signers))?,
            piece_us,
            segments_us: full as f64 * piece_us + if rest > 0 { segment_us(rest)? } else { 0.0 },
            short_segments_us: segment_us(3)? + segment_us(57)? + crew.us_per_op(window, &mac_only)?,
            copy_us: crew.us_per_op(window, &|| Ok(copy(ppp_len(workload.upp.len()))))?,
        })
    }

    /// keygen + ECDH + KDF + token signature + segments x (CBC + CMAC).
    pub(super) fn session_us(&self) -> f64 {
        self.agreement_us() + self.segments_us
    }

    /// keygen + ECDH + KDF + token signature + 3 short segments + copy.
    pub(super) fn stored_us(&self) -> f64 {
        self.agreement_us() + self.short_segments_us + self.copy_us
    }

    fn agreement_us(&self) -> f64 {
        self.keygen_us + self.ecdh_us + self.kdf_us + self.signature_us
    }
}

/// Operations between two looks at the clock.
const BURST: u32 = 16;

fn burst(mut op: impl FnMut() -> Result<(), ErrorStack>) -> impl FnMut() -> Result<u32, Fault> {
    move || (0..BURST).try_for_each(|_| op()).map(|()| BURST).map_err(failed)
}

/// A scalar below the order and its point, without the key object around them: 5.6 us, through `EcKey::generate` 6.4.
fn keygen(curve: Curve) -> Result<impl FnMut() -> Result<u32, Fault>, Fault> {
    let (group, order) = (curve.group().map_err(failed)?, curve.order().map_err(failed)?);
    let mut numbers = BigNumContext::new().map_err(failed)?;
    Ok(burst(move || {
        let mut private = BigNum::new()?;
        order.rand_range(&mut private)?;
        let mut public = EcPoint::new(group)?;
        public.mul_generator2(group, &private, &mut numbers)?;
        black_box(public);
        Ok(())
    }))
}

fn ecdh(curve: Curve) -> Result<impl FnMut() -> Result<u32, Fault>, Fault> {
    let group = curve.group().map_err(failed)?;
    let mut numbers = BigNumContext::new().map_err(failed)?;
    let [own, peer] = [EcKey::generate(group).map_err(failed)?, EcKey::generate(group).map_err(failed)?];
    let form = PointConversionForm::UNCOMPRESSED;
    let peer = peer.public_key().to_bytes(group, form, &mut numbers).map_err(failed)?;
    Ok(burst(move || {
        let peer = EcPoint::from_bytes(group, &peer, &mut numbers)?;
        ecdh_x(&own, &peer).map(|shared| drop(black_box(shared)))
    }))
}

fn kdf() -> Result<impl FnMut() -> Result<u32, Fault>, Fault> {
    const SHARED_INFO_LEN: usize = 2 + 1 + 16 + 1 + 16;
    Ok(burst(|| {
        for counter in 1_u32..=2 {
            let mut sha = Sha256::new();
            sha.update(black_box(&[7; 32]));
            sha.update(&counter.to_be_bytes());
            sha.update(black_box(&[7; SHARED_INFO_LEN]));
            black_box(sha.finish());
        }
        Ok(())
    }))
}

fn signature(signers: &impl Signers) -> Result<impl FnMut() -> Result<u32, Fault>, Fault> {
    let mut signer = signers.open().map_err(refused)?;
    Ok(move || {
        black_box(signer.sign(black_box(&[0xD1; 32])).map_err(refused)?);
        Ok(1)
    })
}

/// CBC over the padded octets and CMAC over chain, head and body.
fn segment(plain_len: usize) -> Result<impl FnMut() -> Result<u32, Fault>, Fault> {
    let body_len = (plain_len / 16 + 1) * 16;
    let mut cbc = CipherCtx::new().map_err(failed)?;
    let aes = Cipher::fetch(None, "AES-128-CBC", None).map_err(failed)?;
    cbc.encrypt_init(Some(&aes), Some(&[1; 16]), Some(&[2; 16])).map_err(failed)?;
    let mut cmac = keyed_cmac()?;
    let plain = vec![0x5A; body_len];
    let mut sealed = vec![0; body_len + 16];
    let signed_len = sealed_len(plain_len) - 8;
    Ok(burst(move || {
        cbc.encrypt_init(None, None, Some(&[2; 16]))?;
        cbc.cipher_update(black_box(&plain), Some(&mut sealed))?;
        cmac.restart()?;
        cmac.update(&[3; 16])?;
        cmac.update(&sealed[..signed_len])?;
        cmac.finish().map(|mac| {
            black_box(mac);
        })
    }))
}

/// CMAC over chain and a StoreMetadata of 60 octets.
fn mac_only() -> Result<impl FnMut() -> Result<u32, Fault>, Fault> {
    let mut cmac = keyed_cmac()?;
    Ok(burst(move || {
        cmac.restart()?;
        cmac.update(black_box(&[3; 16 + 2 + 60]))?;
        cmac.finish().map(|mac| {
            black_box(mac);
        })
    }))
}

fn keyed_cmac() -> Result<CmacContext, Fault> {
    let mut cmac = CmacContext::new().map_err(failed)?;
    cmac.rekey(&[1; 16]).map_err(failed)?;
    Ok(cmac)
}

fn copy(len: usize) -> impl FnMut() -> Result<u32, Fault> {
    let (from, mut to) = (vec![0x5A; len], vec![0; len]);
    burst(move || {
        to.copy_from_slice(black_box(&from));
        black_box(&to);
        Ok(())
    })
}
