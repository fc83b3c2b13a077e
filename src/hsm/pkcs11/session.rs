//! One PKCS#11 session: the calls of the run, on key handles found when the token was opened.

use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLockReadGuard};

use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::session::Session as Pkcs11Session;
use zeroize::Zeroizing;

use super::faults::{hsm_error, opening_error};
use super::{Held, HeldKey, Login, module_restarted};
use crate::hsm::profile::{Forms, GcmIv};
use crate::hsm::{FaultClass, HsmError, HsmSession, KeyRef, draw};

const IV_OCTETS: usize = 12;
const TAG_OCTETS: usize = 16;
const BLOCK_OCTETS: usize = 16;
/// First octet of what is sealed now: `02 || iv || ciphertext || tag`, its AAD names the key. Form 1 has neither and still opens.
const FORM: u8 = 2;

/// One session of an open token. Dropping it closes it.
pub struct Session {
    /// Always there until the drop.
    session: Option<Pkcs11Session>,
    login: Arc<Login>,
    held: Arc<Held>,
}

/// The module cannot be finalised while this lives.
struct InCall<'a> {
    session: &'a Pkcs11Session,
    login: &'a Login,
    _gate: RwLockReadGuard<'a, ()>,
}

impl Session {
    pub(super) fn new(session: Pkcs11Session, login: Arc<Login>, held: Arc<Held>) -> Self {
        Self { session: Some(session), login, held }
    }

    /// The token as this session knows it.
    pub(super) fn shared_login(&self) -> Arc<Login> {
        Arc::clone(&self.login)
    }

    /// For one call. A session from before a restart of the module must not reach it: its handle may be another's today.
    fn enter(&self) -> Result<InCall<'_>, HsmError> {
        let gate = self.held.module.enter();
        match &self.session {
            Some(session) if self.login.is_of_today() => Ok(InCall { session, login: &self.login, _gate: gate }),
            _ => Err(module_restarted()),
        }
    }

    /// One attribute of a key's working object.
    pub(super) fn attribute(&self, key: &HeldKey, wanted: AttributeType) -> Result<Option<Attribute>, HsmError> {
        let told = self.call(
            || format!("read {wanted} of {}", key.label),
            |session| session.get_attributes(key.working, &[wanted]),
        );
        Ok(told?.into_iter().next())
    }

    /// What differs from model to model.
    pub(super) fn forms(&self) -> Forms {
        self.held.forms
    }

    /// Attributes that the model does not know.
    pub(super) fn unknown(&self) -> &[String] {
        &self.held.unknown
    }

    /// One call that is not of the run.
    pub(super) fn call<R>(
        &self,
        what: impl FnOnce() -> String,
        call: impl FnOnce(&Pkcs11Session) -> Result<R, Error>,
    ) -> Result<R, HsmError> {
        let in_call = self.enter()?;
        call(in_call.session).map_err(|e| in_call.failed(what(), &e))
    }

    fn key(&self, key: KeyRef) -> Result<(ObjectHandle, &str), HsmError> {
        let held = self.login.key(key)?;
        Ok((held.working, &held.label))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.session.take().into_iter().for_each(|session| self.login.close(session));
    }
}

impl InCall<'_> {
    /// What a failed call means; one of class session puts login and handles in doubt as well.
    fn failed(&self, what: String, error: &Error) -> HsmError {
        self.noted(hsm_error(what, error))
    }

    fn noted(&self, error: HsmError) -> HsmError {
        if error.class == FaultClass::Session {
            self.login.doubtful.store(true, Ordering::Relaxed);
        }
        error
    }
}

impl HsmSession for Session {
    fn sign(&mut self, key: KeyRef, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
        let (handle, label) = self.key(key)?;
        let call = self.enter()?;
        let failed = |e: &Error| call.failed(format!("sign with {label}"), e);
        // Digest and signature have fixed sizes: modules sign 20 or 65 octets just as gladly.
        let signature = call.session.sign(&Mechanism::Ecdsa, handle, digest).map_err(|e| failed(&e))?;
        signature.as_slice().try_into().map_err(|_| HsmError {
            what: format!("sign with {label}"),
            code: format!("a signature of {} octets came back, not of 64", signature.len()),
            class: FaultClass::Token,
            hint: "the HSM answers wrongly: do not use it before its maker has explained it",
        })
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), HsmError> {
        for piece in out.chunks_mut(self.held.limits.random_octets) {
            let call = self.enter()?;
            call.session.generate_random_slice(piece).map_err(|e| call.failed("draw random".into(), &e))?;
        }
        Ok(())
    }

    fn encrypt_blocks(&mut self, key: KeyRef, blocks: &[u8]) -> Result<Vec<u8>, HsmError> {
        let (handle, label) = self.key(key)?;
        if !blocks.len().is_multiple_of(BLOCK_OCTETS) {
            return Err(refused(format!("encrypt with {label}"), "the input is not a multiple of 16 octets"));
        }
        let mut encrypted = Vec::with_capacity(blocks.len());
        for piece in blocks.chunks(self.held.limits.encrypt_octets / BLOCK_OCTETS * BLOCK_OCTETS) {
            let call = self.enter()?;
            let part = call.session.encrypt(&Mechanism::AesEcb, handle, piece);
            encrypted.extend_from_slice(&part.map_err(|e| call.failed(format!("encrypt with {label}"), &e))?);
        }
        if encrypted.len() == blocks.len() {
            Ok(encrypted)
        } else {
            Err(refused(format!("encrypt with {label}"), "the token answered with another length"))
        }
    }

    fn decrypt_blocks(&mut self, key: KeyRef, blocks: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        let (handle, label) = self.key(key)?;
        let what = || format!("decrypt with {label}");
        if !blocks.len().is_multiple_of(BLOCK_OCTETS) {
            return Err(refused(what(), "the input is not a multiple of 16 octets"));
        }
        // Room for all of it at once: what grows leaves copies behind.
        let mut decrypted = Zeroizing::new(Vec::with_capacity(blocks.len()));
        for piece in blocks.chunks(self.held.limits.encrypt_octets / BLOCK_OCTETS * BLOCK_OCTETS) {
            let call = self.enter()?;
            let part = call.session.decrypt(&Mechanism::AesEcb, handle, piece).map(Zeroizing::new);
            let part = part.map_err(|e| call.failed(what(), &e))?;
            if part.len() != piece.len() {
                return Err(refused(what(), "the token answered with another length"));
            }
            decrypted.extend_from_slice(&part);
        }
        Ok(decrypted)
    }

    fn check_value(&mut self, key: KeyRef) -> Result<Option<Vec<u8>>, HsmError> {
        let (handle, label) = self.key(key)?;
        let call = self.enter()?;
        let told = call.session.get_attributes(handle, &[AttributeType::CheckValue]);
        let told = told.map_err(|e| call.failed(format!("read the check value of {label}"), &e))?;
        Ok(told.into_iter().find_map(|attribute| match attribute {
            Attribute::CheckValue(value) => Some(value).filter(|value| !value.is_empty()),
            _ => None,
        }))
    }

    fn seal(&mut self, key: KeyRef, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, HsmError> {
        // Random, one for each batch: far below the 2^32 that NIST SP 800-38D §8.3 allows for one key. Of both sources: an IV
        // that comes twice under the long-lived key would open what it sealed.
        let mut iv = [0; IV_OCTETS];
        let by_token = self.held.forms.gcm_iv == GcmIv::Token;
        if !by_token {
            draw::fill_random(self, &mut iv)?;
        }
        let (handle, label) = self.key(key)?;
        let what = || format!("seal with {label}");
        named(aad, what)?;
        let aad = self.aad_of(key, aad);
        let gcm = gcm(&mut iv, &aad).map_err(|e| hsm_error(what(), &e))?;
        let call = self.enter()?;
        let body = call.session.encrypt(&Mechanism::AesGcm(gcm), handle, plain).map_err(|e| call.failed(what(), &e))?;
        if by_token && iv == [0; IV_OCTETS] {
            return Err(refused(what(), "the profile says that the token makes the IV, but it made none"));
        }
        let length = 1 + IV_OCTETS + plain.len() + TAG_OCTETS;
        let mut sealed = Vec::with_capacity(length);
        sealed.push(FORM);
        sealed.extend_from_slice(&iv);
        sealed.extend_from_slice(&body);
        if sealed.len() == length { Ok(sealed) } else { Err(refused(what(), "the token answered with another length")) }
    }

    fn open(&mut self, key: KeyRef, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        let held = Arc::clone(&self.held);
        let mut outcome = self.open_with(key, aad, sealed);
        for older in held.openers(key).skip(1) {
            match &outcome {
                Err(error) if error.class == FaultClass::Data => outcome = self.open_with(older, aad, sealed),
                _ => break,
            }
        }
        outcome
    }
}

impl Session {
    /// Opens with one key alone.
    pub(super) fn open_with(&mut self, key: KeyRef, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        named(aad, || "open what is sealed".to_owned())?;
        // One IV of form 1 in 256 begins like form 2: the tag decides.
        if let Some((&FORM, rest)) = sealed.split_first() {
            match self.decrypt_sealed(key, &self.aad_of(key, aad), rest) {
                Err(error) if error.class == FaultClass::Data => {}
                opened => return opened,
            }
        }
        self.decrypt_sealed(key, aad, sealed)
    }

    /// What is sealed, and with which key and epoch: none can stand in for another's, whatever its octets are.
    fn aad_of(&self, key: KeyRef, aad: &[u8]) -> Vec<u8> {
        let rule = self.held.rules.get(key.0);
        let (role, epoch) = rule.map_or_else(Default::default, |rule| (rule.role.to_string(), rule.epoch));
        [format!("bindery.sealed/2|{role}|{epoch}|").as_bytes(), aad].concat()
    }

    /// `iv || ciphertext || tag`.
    fn decrypt_sealed(&self, key: KeyRef, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        let (handle, label) = self.key(key)?;
        let what = || format!("open with {label}");
        let Some((iv, body)) = sealed.split_first_chunk::<IV_OCTETS>().filter(|(_, body)| body.len() >= TAG_OCTETS)
        else {
            return Err(refused(what(), "too short to be sealed by us"));
        };
        let mut iv = *iv;
        let gcm = gcm(&mut iv, aad).map_err(|e| hsm_error(what(), &e))?;
        let call = self.enter()?;
        let plain = call.session.decrypt(&Mechanism::AesGcm(gcm), handle, body);
        plain.map(Zeroizing::new).map_err(|e| call.noted(opening_error(what(), &e)))
    }
}

fn gcm<'a>(iv: &'a mut [u8; IV_OCTETS], aad: &'a [u8]) -> Result<GcmParams<'a>, Error> {
    GcmParams::new(iv, aad, (8 * TAG_OCTETS as u64).into())
}

/// SoftHSM 2.6.1 crashes on GCM without additional data; and what is sealed should say what it is.
fn named(aad: &[u8], what: impl Fn() -> String) -> Result<(), HsmError> {
    if aad.is_empty() { Err(refused(what(), "without additional data that says what is sealed")) } else { Ok(()) }
}

fn refused(what: String, why: &str) -> HsmError {
    HsmError { what, code: why.into(), class: FaultClass::Data, hint: "this item was not processed" }
}
