//! Secrets at rest: a batch key seals single records, the site KEK in the HSM seals the batch key. Losing the sealed
//! batch key shreds the batch.
//!
//! AES-256-GCM; `iv (12) || ciphertext || tag (16)`. The AAD says what is sealed and for which record, so that no blob
//! can stand in for another.

use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use zeroize::Zeroizing;

use crate::hsm::{HsmError, HsmSession, KeyRef};
use crate::ids::{Iccid, OrderKey};

/// Octets of nonce that one [`BatchKey::seal`] takes.
pub const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
/// AAD of the operator's OP under the site KEK.
pub const OP_AAD: &[u8] = b"bindery.op/1";
/// AAD of the operator's TOP.
pub const TOP_AAD: &[u8] = b"bindery.top/1";

/// AAD of the OP or TOP that belongs to an import key: no operator's can stand in for another's.
pub fn import_op_aad(name: &str) -> Vec<u8> {
    format!("bindery.import-op/1|{name}").into_bytes()
}

/// What a blob holds; part of its AAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The PPK triple of a stored PPP.
    Ppk,
    /// K, OPc, PINs and OTA keys of a profile.
    Credentials,
}

/// A blob that does not open: changed, or another record's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sealed record does not open: it was changed or belongs to another record")]
pub struct SealBroken;

/// AES-256 key of one order's records; lives in memory while the order is worked on.
pub struct BatchKey(Zeroizing<[u8; 32]>);

impl BatchKey {
    /// From 32 fresh random octets.
    pub fn from_random(octets: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*octets))
    }

    /// The key under the site KEK, for the ledger.
    pub fn seal_under(
        &self,
        session: &mut impl HsmSession,
        kek: KeyRef,
        order: &OrderKey,
    ) -> Result<Vec<u8>, HsmError> {
        session.seal(kek, &batch_aad(order), &*self.0)
    }

    /// Opens what [`Self::seal_under`] closed for the same order.
    pub fn open_under(
        session: &mut impl HsmSession,
        kek: KeyRef,
        order: &OrderKey,
        sealed: &[u8],
    ) -> Result<Option<Self>, HsmError> {
        let plain = session.open(kek, &batch_aad(order), sealed)?;
        Ok(<&[u8; 32]>::try_from(plain.as_slice()).ok().map(Self::from_random))
    }

    /// Seals one record's secret. `nonce` is random and used once.
    pub fn seal(
        &self,
        content: Content,
        iccid: &Iccid,
        nonce: &[u8; NONCE_LEN],
        secret: &[u8],
    ) -> Result<Vec<u8>, openssl::error::ErrorStack> {
        let mut tag = [0; TAG_LEN];
        let aad = record_aad(content, iccid);
        let body = encrypt_aead(Cipher::aes_256_gcm(), &*self.0, Some(nonce), &aad, secret, &mut tag)?;
        Ok([&nonce[..], &body, &tag].concat())
    }

    /// Opens one record's secret.
    pub fn open(&self, content: Content, iccid: &Iccid, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealBroken> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or(SealBroken)?;
        let body_len = rest.len().checked_sub(TAG_LEN).ok_or(SealBroken)?;
        let (body, tag) = rest.split_at(body_len);
        let aad = record_aad(content, iccid);
        let plain = decrypt_aead(Cipher::aes_256_gcm(), &*self.0, Some(nonce), &aad, body, tag);
        plain.map(Zeroizing::new).map_err(|_| SealBroken)
    }
}

/// AAD of an order's batch key under the site KEK.
pub(crate) fn batch_aad(order: &OrderKey) -> Vec<u8> {
    format!("bindery.batch-key/1|{}|{}|{}", order.tenant, order.order_id, order.rev).into_bytes()
}

fn record_aad(content: Content, iccid: &Iccid) -> Vec<u8> {
    let word = match content {
        Content::Ppk => "bindery.ppk/1",
        Content::Credentials => "bindery.credentials/1",
    };
    [word, "|", iccid.as_str()].concat().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iccid(last: u64) -> Iccid {
        "89000123456789012341".parse::<Iccid>().unwrap().plus(last).unwrap()
    }

    #[test]
    fn a_secret_opens_for_its_own_record_only() {
        let key = BatchKey::from_random(&[7; 32]);
        let sealed = key.seal(Content::Ppk, &iccid(0), &[1; NONCE_LEN], b"forty-eight octets").unwrap();
        assert_eq!(key.open(Content::Ppk, &iccid(0), &sealed).unwrap()[..], *b"forty-eight octets");
        assert!(key.open(Content::Ppk, &iccid(1), &sealed).is_err());
        assert!(key.open(Content::Credentials, &iccid(0), &sealed).is_err());
        assert!(BatchKey::from_random(&[8; 32]).open(Content::Ppk, &iccid(0), &sealed).is_err());
    }

    #[test]
    fn every_changed_or_missing_octet_is_seen() {
        let key = BatchKey::from_random(&[7; 32]);
        let sealed = key.seal(Content::Credentials, &iccid(0), &[1; NONCE_LEN], &[9; 20]).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key.open(Content::Credentials, &iccid(0), &changed).is_err(), "octet {at}");
            assert!(key.open(Content::Credentials, &iccid(0), &sealed[..at]).is_err(), "cut at {at}");
        }
    }
}
