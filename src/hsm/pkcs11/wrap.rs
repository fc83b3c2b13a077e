//! Wrapped import: C_UnwrapKey under an import key, with the policy's template and no other.
//!
//! Rule: PKCS#11 lets whoever unwraps choose the attributes, also "readable"; so an import key has no other use, carries
//! CKA_UNWRAP_TEMPLATE, is tried for it at every start, and what came in is compared with the policy like every key. Mechanisms: RFC 8017 (OAEP), RFC 3394.

use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session as Pkcs11Session;
use openssl::aes::{AesKey, wrap_key};
use openssl::encrypt::Encrypter;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Public};
use openssl::rsa::{Padding, Rsa};
use openssl::symm::{Cipher, Crypter, Mode};

use super::attributes::{Half, flags, template};
use super::faults::hsm_error;
use super::selftest::failed;
use super::{HeldKey, Session, no_such_key};
use crate::hsm::policy::{KeyAttribute as A, KeyKind, KeyRule};
use crate::hsm::profile::{Forms, HsmProfile, OaepDigest};
use crate::hsm::{FaultClass, HsmError};

const BLOCK: usize = 16;
/// A key that the self-test wraps for the token: no secret, forgotten with the call.
const QUESTION: [u8; 16] = *b"known unwrapping";

/// The unwrapping mechanism of an import key.
pub(super) fn mechanism(kind: KeyKind, forms: Forms) -> Mechanism<'static> {
    if kind != KeyKind::Rsa3072 {
        return Mechanism::AesKeyWrap;
    }
    let (digest, mask) = match forms.oaep_digest {
        OaepDigest::Sha1 => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
        OaepDigest::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
    };
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(digest, mask, PkcsOaepSource::empty()))
}

/// The template of the key that comes out: the policy's, every flag said.
pub(super) fn template_of(rule: &KeyRule, id: &[u8], profile: &HsmProfile) -> Vec<Attribute> {
    let mut all = template(rule, Half::Secret, id, &profile.attributes_unknown);
    all.push(Attribute::Class(ObjectClass::SECRET_KEY));
    all.push(Attribute::KeyType(KeyType::AES));
    if profile.forms.unwrap_wants_length {
        let octets = rule.kind.secret_octets().unwrap_or_default();
        all.push(Attribute::ValueLen((octets as u64).into()));
    }
    // SoftHSM sets what it reads in this order, and after CKA_MODIFIABLE = false nothing more (CKR_ATTRIBUTE_READ_ONLY).
    all.sort_by_key(|attribute| matches!(attribute, Attribute::Modifiable(_)));
    all
}

/// What a wrapped key showed of itself before it was made.
pub struct Trial {
    /// The whole block of its check value.
    pub block: [u8; BLOCK],
    /// Its length, where the token tells it.
    pub octets: Option<usize>,
}

/// Encrypts one block with the key on trial.
pub type EncryptBlock<'a> = dyn FnMut(&[u8; BLOCK]) -> Result<[u8; BLOCK], HsmError> + 'a;

/// Unwraps a key into an object of this session that only encrypts, lets `block` ask it, destroys it. None when the token will not.
pub(super) fn trial(
    session: &Pkcs11Session,
    (unwrapping, mechanism): (ObjectHandle, Mechanism<'_>),
    wrapped: &[u8],
    (rule, profile): (&KeyRule, &HsmProfile),
    block: impl FnOnce(&mut EncryptBlock<'_>) -> Result<[u8; BLOCK], HsmError>,
) -> Result<Option<Trial>, HsmError> {
    let what = || format!("try the wrapped key {}", rule.label);
    let mut template = passing(&profile.attributes_unknown);
    if profile.forms.unwrap_wants_length {
        let octets = rule.kind.secret_octets().unwrap_or_default();
        template.insert(0, Attribute::ValueLen((octets as u64).into()));
    }
    let key = match session.unwrap_key(&mechanism, unwrapping, wrapped, &template) {
        Ok(key) => key,
        Err(e) => {
            let error = hsm_error(what(), &e);
            tracing::debug!(%error, "no trial of the wrapped key");
            return if matches!(error.class, FaultClass::Data | FaultClass::Policy) { Ok(None) } else { Err(error) };
        }
    };
    let mut encrypt = |zeros: &[u8; BLOCK]| {
        let answer = session.encrypt(&Mechanism::AesEcb, key, zeros).map_err(|e| hsm_error(what(), &e))?;
        answer.as_slice().try_into().map_err(|_| other_length(what()))
    };
    let block = block(&mut encrypt);
    let told = session.get_attributes(key, &[AttributeType::ValueLen]);
    session.destroy_object(key).map_err(|e| hsm_error(what(), &e))?;
    let octets = told.ok().and_then(|told| {
        told.into_iter().find_map(|attribute| match attribute {
            // SoftHSM 2.6 tells 0 of a key that was unwrapped.
            Attribute::ValueLen(length) => {
                Some(usize::try_from(*length).unwrap_or(usize::MAX)).filter(|length| *length > 0)
            }
            _ => None,
        })
    });
    Ok(Some(Trial { block: block?, octets }))
}

fn other_length(what: String) -> HsmError {
    let code = "the token answered with another length".into();
    HsmError { what, code, class: FaultClass::Data, hint: "the HSM is faulty" }
}

/// The error of an unwrapping with its likelier cause: models answer wrapped octets that do not open with codes of a lost session or
/// token (kryoptic: CKR_DEVICE_ERROR).
pub(super) fn refused(error: HsmError) -> HsmError {
    match error.class {
        FaultClass::Policy | FaultClass::Pin => error,
        FaultClass::Data | FaultClass::Session | FaultClass::Token => HsmError { hint: NOT_OPENED, ..error },
    }
}

const NOT_OPENED: &str = "most likely the wrapped key was made for another import key, or with another digest than the profile's \
                          `oaep_digest`: ask its operator to wrap it again. If other commands fail too, check the HSM";

/// Known answer of an import key: a key wrapped in software under its public half encrypts as it should. An AES import key
/// cannot be asked so, its other copy is the operator's: its check value was compared when it came in.
pub(super) fn unwraps(session: &Session, key: &HeldKey) -> Result<(), HsmError> {
    let Some(public) = &key.rsa else { return Ok(()) };
    let what = || format!("self-test of {}", key.label);
    let forms = session.forms();
    let prepared = wrapped_under(public, forms.oaep_digest).and_then(|wrapped| Ok((wrapped, encrypted_zeros()?)));
    let (wrapped, expected) = prepared.map_err(|_| failed(key, "has a public half that OpenSSL does not take"))?;
    let template = passing(session.unknown());
    let unwrapping = mechanism(KeyKind::Rsa3072, forms);
    let unwrapped = session.call(what, |s| s.unwrap_key(&unwrapping, key.working, &wrapped, &template))?;
    let answer = session.call(what, |s| s.encrypt(&Mechanism::AesEcb, unwrapped, &[0; 16]));
    session.call(what, |s| s.destroy_object(unwrapped))?;
    if answer? != expected {
        return Err(failed(key, "unwraps otherwise than its public half wraps"));
    }
    match session.call(what, |s| s.unwrap_key(&unwrapping, key.working, &wrapped, &readable())) {
        Err(error) if error.class == FaultClass::Policy => Ok(()),
        Err(error) => Err(error),
        Ok(open) => {
            session.call(what, |s| s.destroy_object(open))?;
            Err(failed(key, READABLE))
        }
    }
}

/// An object of the session that encrypts and nothing else: for one answer. CKA_MODIFIABLE last, see [`template_of`].
fn passing(unknown: &[String]) -> Vec<Attribute> {
    let mut all = vec![Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES)];
    all.extend(flags(&PASSING, unknown));
    all
}

const PASSING: [(A, bool); 11] = [
    (A::Token, false),
    (A::Private, true),
    (A::Sensitive, true),
    (A::Extractable, false),
    (A::Encrypt, true),
    (A::Decrypt, false),
    (A::Wrap, false),
    (A::Unwrap, false),
    (A::Derive, false),
    (A::Copyable, false),
    (A::Modifiable, false),
];

const READABLE: &str =
    "unwraps into keys that can be read: it was not made with CKA_UNWRAP_TEMPLATE, or the token ignores that";

/// What an attacker with the PIN would ask for.
fn readable() -> [Attribute; 5] {
    [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(false),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ]
}

/// Whether an AES import key that was just made holds what it unwraps to its template. Later nobody can ask it: only its owner wraps
/// under it.
pub(super) fn aes_key_binds(session: &Pkcs11Session, rule: &KeyRule, value: &[u8]) -> Result<(), HsmError> {
    let what = || format!("try key {}", rule.label);
    let mut wrapped = [0; QUESTION.len() + 8];
    let done = AesKey::new_encrypt(value).is_ok_and(|own| wrap_key(&own, None, &mut wrapped, &QUESTION).is_ok());
    if !done {
        let code = "OpenSSL does not wrap under it".to_owned();
        return Err(HsmError { what: what(), code, class: FaultClass::Data, hint: "check the key's components" });
    }
    let found = session.find_objects(&Half::Secret.search(&rule.label)).map_err(|e| hsm_error(what(), &e))?;
    let [key] = found[..] else { return Err(no_such_key(&rule.label)) };
    match session.unwrap_key(&Mechanism::AesKeyWrap, key, &wrapped, &readable()).map_err(|e| hsm_error(what(), &e)) {
        Err(error) if error.class == FaultClass::Policy => Ok(()),
        Err(error) => Err(error),
        Ok(open) => {
            session.destroy_object(open).map_err(|e| hsm_error(what(), &e))?;
            Err(HsmError {
                what: what(),
                code: format!("the key {READABLE}"),
                class: FaultClass::Policy,
                hint: "bring keys in as components on this token",
            })
        }
    }
}

fn wrapped_under(key: &Rsa<Public>, digest: OaepDigest) -> Result<Vec<u8>, ErrorStack> {
    let key = PKey::from_rsa(key.clone())?;
    let digest = match digest {
        OaepDigest::Sha1 => MessageDigest::sha1(),
        OaepDigest::Sha256 => MessageDigest::sha256(),
    };
    let mut encrypter = Encrypter::new(&key)?;
    encrypter.set_rsa_padding(Padding::PKCS1_OAEP)?;
    encrypter.set_rsa_oaep_md(digest)?;
    encrypter.set_rsa_mgf1_md(digest)?;
    let mut wrapped = vec![0; encrypter.encrypt_len(&QUESTION)?];
    let length = encrypter.encrypt(&QUESTION, &mut wrapped)?;
    wrapped.truncate(length);
    Ok(wrapped)
}

fn encrypted_zeros() -> Result<Vec<u8>, ErrorStack> {
    let mut crypter = Crypter::new(Cipher::aes_128_ecb(), Mode::Encrypt, &QUESTION, None)?;
    crypter.pad(false);
    let mut answer = vec![0; 32];
    let length = crypter.update(&[0; 16], &mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use FaultClass::{Data, Pin, Policy, Session, Token};

    #[test]
    fn an_unwrapping_that_fails_names_the_wrapped_key_as_a_cause_unless_the_code_says_better() {
        for (class, names_it) in [(Data, true), (Session, true), (Token, true), (Policy, false), (Pin, false)] {
            let met = HsmError { what: "unwrap".into(), code: "CKR_X".into(), class, hint: "as ever" };
            let told = refused(met.clone());
            assert_eq!((told.class, &told.code), (met.class, &met.code));
            assert_eq!(told.hint.contains("another digest"), names_it, "{class:?}");
        }
    }
}
