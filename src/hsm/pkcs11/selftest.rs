//! Known answers before work: each key proves that it is the one its public half or check value says.

use std::sync::Arc;

use cryptoki::object::{Attribute, AttributeType};

use super::{HeldKey, Login, Session};
use crate::certs::point::{public_key, verifies};
use crate::config::CheckValue;
use crate::hsm::policy::Purpose;
use crate::hsm::{FaultClass, HsmError, HsmSession, KeyRef};

const QUESTION: [u8; 32] = *b"bindery: known answer test, v. 1";

/// Signs and verifies in software, seals and opens, encrypts and compares the check value: decrypts: whatever each key is for.
pub(super) fn run(session: &mut Session) -> Result<(), HsmError> {
    let login: Arc<Login> = session.shared_login();
    for (i, key) in login.keys.iter().enumerate() {
        match key.purpose {
            Purpose::Sign => signs(session, KeyRef(i), key)?,
            Purpose::Seal => seals(session, KeyRef(i), key)?,
            Purpose::Encrypt => encrypts(session, KeyRef(i), key)?,
            Purpose::Unwrap => super::wrap::unwraps(session, key)?,
            Purpose::Decrypt => decrypts(session, KeyRef(i), key)?,
        }
    }
    Ok(())
}

fn signs(session: &mut Session, reference: KeyRef, key: &HeldKey) -> Result<(), HsmError> {
    let signature = session.sign(reference, &QUESTION)?;
    let point = key.point.ok_or_else(|| failed(key, "has no public half"))?;
    match public_key(&point) {
        Ok(public) if verifies(&public, &QUESTION, &signature) => Ok(()),
        _ => Err(failed(key, "signs what its public half does not verify")),
    }
}

fn seals(session: &mut Session, reference: KeyRef, key: &HeldKey) -> Result<(), HsmError> {
    let sealed = session.seal(reference, b"bindery.selftest/1", &QUESTION)?;
    let opened = session.open_with(reference, b"bindery.selftest/1", &sealed)?;
    let hidden = !sealed.windows(QUESTION.len()).any(|window| window == QUESTION);
    if opened[..] == QUESTION && hidden { Ok(()) } else { Err(failed(key, "does not open what it sealed")) }
}

/// An encrypt-only key cannot be asked back; its check value (the first octets of AES of a zero block) must agree instead.
fn encrypts(session: &mut Session, reference: KeyRef, key: &HeldKey) -> Result<(), HsmError> {
    let answer = session.encrypt_blocks(reference, &[0; 32])?;
    if answer[..16] != answer[16..] || answer[..16] == [0; 16] {
        return Err(failed(key, "does not encrypt as AES-ECB does"));
    }
    if key.kcv.as_ref().is_some_and(|pinned| !pinned.agrees_with(&answer[..16])) {
        return Err(failed(key, PINNED));
    }
    match session.attribute(key, AttributeType::CheckValue)? {
        Some(Attribute::CheckValue(check)) if !check.is_empty() && !answer.starts_with(&check) => {
            Err(failed(key, "encrypts otherwise than its check value says"))
        }
        _ => Ok(()), // CKA_CHECK_VALUE is optional
    }
}

const PINNED: &str = "is another key: its check value is not the one that the key policy pins (kcv)";

/// A decrypt-only key cannot be asked to encrypt: equal blocks must give equal blocks, and other ones. A pinned block must decrypt
/// to zeros; a pinned value of 3 octets is compared with what the token tells, if it tells anything.
fn decrypts(session: &mut Session, reference: KeyRef, key: &HeldKey) -> Result<(), HsmError> {
    let mut asked = vec![0; 32];
    let pinned = key.kcv.as_ref().and_then(CheckValue::as_block);
    asked.extend(pinned.into_iter().flatten()); // in the same call
    let answer = session.decrypt_blocks(reference, &asked)?;
    let is_pinned = match (&key.kcv, pinned) {
        (Some(_), Some(_)) => answer[32..] == [0; 16],
        (Some(short), None) => session.check_value(reference)?.is_none_or(|told| short.agrees_with(&told)),
        (None, _) => true,
    };
    if !is_pinned {
        return Err(failed(key, PINNED));
    }
    if answer[..16] == answer[16..32] && answer[..16] != [0; 16] {
        Ok(())
    } else {
        Err(failed(key, "does not decrypt as AES-ECB does"))
    }
}

pub(super) fn failed(key: &HeldKey, how: &str) -> HsmError {
    HsmError {
        what: format!("self-test of {}", key.label),
        code: format!("the key {how}"),
        class: FaultClass::Policy,
        hint: "do not use this token: a key was exchanged or the HSM is faulty",
    }
}
