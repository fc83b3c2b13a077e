//! Secrets at rest: a batch key seals single records, the site KEK in the HSM seals the batch key. Losing the sealed
//! batch key shreds the batch.
//!
//! AES-256-GCM; `02 || iv (12) || ciphertext || tag (16)`. The AAD says what is sealed, for which order and for which record, so
//! that no blob can stand in for another. Form 1, `iv || ciphertext || tag` with what and record in its AAD, is still opened.
//!
//! Nonces are random, fresh ones from token and OpenSSL for every record and every attempt at it, so that a resumed run repeats
//! none. A batch key seals two values a record: 2^25 of an order line at its largest, where NIST SP 800-38D §8.3 allows 2^32 under
//! one key.

use std::sync::LazyLock;

use openssl::cipher::{self, CipherRef};
use openssl::cipher_ctx::CipherCtx;
use openssl::error::ErrorStack;
use openssl::symm::{Cipher, Crypter, Mode};
use zeroize::Zeroizing;

use crate::hsm::{HsmError, HsmSession, KeyRef};
use crate::ids::{Iccid, OrderKey};

/// Octets of nonce that one [`BatchKey::seal`] takes.
pub const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
/// First octet of what is sealed now.
const FORM: u8 = 2;
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

/// AES-256 key of one order's records; lives in memory while the order is worked on. The octets have a place of their own: moving
/// the key leaves no copy behind.
pub struct BatchKey {
    octets: Box<Zeroizing<[u8; 32]>>,
    /// `tenant|order_id|rev`, of which none holds a bar.
    order: String,
}

impl BatchKey {
    /// From 32 fresh random octets, for the records of this order only.
    pub fn from_random(octets: &[u8; 32], order: &OrderKey) -> Self {
        let mut own = Box::new(Zeroizing::new([0; 32]));
        own.copy_from_slice(octets);
        Self { octets: own, order: order_name(order) }
    }

    /// The key under the site KEK, for the ledger.
    pub fn seal_under(
        &self,
        session: &mut impl HsmSession,
        kek: KeyRef,
        order: &OrderKey,
    ) -> Result<Vec<u8>, HsmError> {
        session.seal(kek, &batch_aad(order), &self.octets[..])
    }

    /// Opens what [`Self::seal_under`] closed for the same order.
    pub fn open_under(
        session: &mut impl HsmSession,
        kek: KeyRef,
        order: &OrderKey,
        sealed: &[u8],
    ) -> Result<Option<Self>, HsmError> {
        let plain = session.open(kek, &batch_aad(order), sealed)?;
        Ok(<&[u8; 32]>::try_from(plain.as_slice()).ok().map(|octets| Self::from_random(octets, order)))
    }

    /// Seals one record's secret. `nonce` is random and used once.
    pub fn seal(
        &self,
        content: Content,
        iccid: &Iccid,
        nonce: &[u8; NONCE_LEN],
        secret: &[u8],
    ) -> Result<Vec<u8>, ErrorStack> {
        self.seal_written(content, iccid, nonce, secret.len(), |place| place.extend_from_slice(secret))
    }

    /// The same for a secret of `len` octets that `write` appends: it is encrypted where it was written, so nothing else holds it.
    pub fn seal_written(
        &self,
        content: Content,
        iccid: &Iccid,
        nonce: &[u8; NONCE_LEN],
        len: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Vec<u8>, ErrorStack> {
        // Of its final size, or what is written would move and leave a copy; wiped when it is not encrypted after all.
        let mut sealed = Zeroizing::new(Vec::with_capacity(1 + NONCE_LEN + len + TAG_LEN));
        sealed.push(FORM);
        sealed.extend_from_slice(nonce);
        write(&mut sealed);
        debug_assert_eq!(sealed.len(), 1 + NONCE_LEN + len);
        sealed.extend_from_slice(&[0; TAG_LEN]);
        let (_, rest) = sealed.split_at_mut(1 + NONCE_LEN);
        let (body, tag) = rest.split_at_mut(rest.len() - TAG_LEN);
        let mut context = CipherCtx::new()?;
        context.encrypt_init(Some(aes_256_gcm()), Some(&self.octets[..]), Some(nonce))?;
        for part in [word_of(content), "|", &self.order, "|", iccid.as_str()] {
            context.cipher_update(part.as_bytes(), None)?;
        }
        context.cipher_update_inplace(body, body.len())?;
        context.cipher_final(&mut [])?;
        context.tag(tag)?;
        Ok(std::mem::take(&mut *sealed))
    }

    /// Opens one record's secret.
    pub fn open(&self, content: Content, iccid: &Iccid, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealBroken> {
        // One nonce of form 1 in 256 begins like form 2: the tag decides.
        let opened = match sealed.split_first() {
            Some((&FORM, rest)) => self.decrypt(&self.record_aad(content, iccid), rest),
            _ => Err(SealBroken),
        };
        opened.or_else(|_| self.decrypt(&record_aad_of_form_1(content, iccid), sealed))
    }

    /// `iv || ciphertext || tag`. What does not open is wiped: it could be a secret with a changed tag.
    fn decrypt(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealBroken> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or(SealBroken)?;
        let (body, tag) = rest.split_at_checked(rest.len().wrapping_sub(TAG_LEN)).ok_or(SealBroken)?;
        let cipher = Cipher::aes_256_gcm();
        let mut plain = Zeroizing::new(vec![0; body.len() + cipher.block_size()]);
        let mut read = || {
            let mut crypter = Crypter::new(cipher, Mode::Decrypt, &self.octets[..], Some(nonce))?;
            crypter.aad_update(aad)?;
            let written = crypter.update(body, &mut plain)?;
            crypter.set_tag(tag)?;
            Ok(written + crypter.finalize(&mut plain[written..])?)
        };
        let length = read().map_err(|_: ErrorStack| SealBroken)?;
        plain.truncate(length);
        Ok(plain)
    }

    fn record_aad(&self, content: Content, iccid: &Iccid) -> Vec<u8> {
        [word_of(content), &self.order, iccid.as_str()].join("|").into_bytes()
    }
}

/// AES-256-GCM, looked up once: OpenSSL's table of algorithms lies under a lock, and a search in it takes as long as the sealing.
fn aes_256_gcm() -> &'static CipherRef {
    static FETCHED: LazyLock<Option<cipher::Cipher>> =
        LazyLock::new(|| cipher::Cipher::fetch(None, "AES-256-GCM", None).ok());
    FETCHED.as_deref().unwrap_or(cipher::Cipher::aes_256_gcm())
}

/// First word of the AAD of [`BatchKey::seal`].
fn word_of(content: Content) -> &'static str {
    match content {
        Content::Ppk => "bindery.ppk/2",
        Content::Credentials => "bindery.credentials/2",
    }
}

/// AAD of an order's batch key under the site KEK; the token's session puts role and epoch of the KEK before it.
pub(crate) fn batch_aad(order: &OrderKey) -> Vec<u8> {
    ["bindery.batch-key/1", &order_name(order)].join("|").into_bytes()
}

fn order_name(order: &OrderKey) -> String {
    format!("{}|{}|{}", order.tenant, order.order_id, order.rev)
}

fn record_aad_of_form_1(content: Content, iccid: &Iccid) -> Vec<u8> {
    let word = match content {
        Content::Ppk => "bindery.ppk/1",
        Content::Credentials => "bindery.credentials/1",
    };
    [word, "|", iccid.as_str()].concat().into_bytes()
}

#[cfg(test)]
mod tests {
    use openssl::symm::encrypt_aead;

    use super::*;

    fn iccid(last: u64) -> Iccid {
        "89000123456789012341".parse::<Iccid>().unwrap().plus(last).unwrap()
    }

    fn key(octet: u8, order_id: &str) -> BatchKey {
        let order = OrderKey { tenant: "acme".parse().unwrap(), order_id: order_id.parse().unwrap(), rev: 1 };
        BatchKey::from_random(&[octet; 32], &order)
    }

    #[test]
    fn a_secret_opens_for_its_own_order_and_record_only() {
        let own = key(7, "PO-1");
        let sealed = own.seal(Content::Ppk, &iccid(0), &[1; NONCE_LEN], b"forty-eight octets").unwrap();
        assert_eq!(own.open(Content::Ppk, &iccid(0), &sealed).unwrap()[..], *b"forty-eight octets");
        assert!(own.open(Content::Ppk, &iccid(1), &sealed).is_err());
        assert!(own.open(Content::Credentials, &iccid(0), &sealed).is_err());
        assert!(key(8, "PO-1").open(Content::Ppk, &iccid(0), &sealed).is_err());
        assert!(key(7, "PO-2").open(Content::Ppk, &iccid(0), &sealed).is_err());
    }

    #[test]
    fn what_is_sealed_is_what_a_call_over_the_whole_gives() {
        let (mut tag, nonce) = ([0; TAG_LEN], [3; NONCE_LEN]);
        let aad = format!("bindery.credentials/2|acme|PO-1|1|{}", iccid(0));
        let body = encrypt_aead(Cipher::aes_256_gcm(), &[7; 32], Some(&nonce), aad.as_bytes(), &[9; 100], &mut tag);
        let expected = [&[FORM], &nonce[..], &body.unwrap(), &tag].concat();
        let sealed = key(7, "PO-1").seal(Content::Credentials, &iccid(0), &nonce, &[9; 100]).unwrap();
        assert_eq!(sealed, expected);
    }

    #[test]
    fn what_form_1_sealed_opens_whatever_its_nonce_begins_with() {
        for first in [0, FORM, 0xFF] {
            let (mut tag, nonce) = ([0; TAG_LEN], [first; NONCE_LEN]);
            let aad = format!("bindery.ppk/1|{}", iccid(0));
            let body = encrypt_aead(Cipher::aes_256_gcm(), &[7; 32], Some(&nonce), aad.as_bytes(), &[9; 48], &mut tag)
                .unwrap();
            let sealed = [&nonce[..], &body, &tag].concat();
            assert_eq!(key(7, "PO-1").open(Content::Ppk, &iccid(0), &sealed).unwrap()[..], [9; 48]);
            assert!(key(7, "PO-1").open(Content::Ppk, &iccid(1), &sealed).is_err());
        }
    }

    #[test]
    fn every_changed_or_missing_octet_is_seen() {
        let own = key(7, "PO-1");
        for nonce in [[1; NONCE_LEN], [FORM; NONCE_LEN]] {
            let sealed = own.seal(Content::Credentials, &iccid(0), &nonce, &[9; 20]).unwrap();
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert!(own.open(Content::Credentials, &iccid(0), &changed).is_err(), "octet {at}");
                assert!(own.open(Content::Credentials, &iccid(0), &sealed[..at]).is_err(), "cut at {at}");
            }
        }
    }
}
