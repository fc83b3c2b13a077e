//! A key that comes in against the check value that was announced for it: who showed what, and how far that proves it.
//!
//! In: the key in the token, its components or its wrapped form, the announced check value. Out: how the check value was seen, for
//! the transcript, or exit 8. Rule: a key nobody could compare does not stay; a key that only decrypts or unwraps cannot be asked
//! to encrypt a block of zeros, so it is compared before it is made, or by CKA_CHECK_VALUE, which PKCS#11 makes optional.

use serde_json::{Value, json};

use super::component::Component;
use super::kcv::KcvMethod;
use crate::config::CheckValue;
use crate::error::{Exit, Fault};
use crate::hsm::pkcs11::{KeyRoom, Token};
use crate::hsm::policy::{KeyRule, Purpose};
use crate::hsm::{Hsm, HsmSession};

/// What a key makes of a block of zeros, whole.
pub(super) type Block = [u8; 16];

/// A check value and how it is made.
pub(super) type Announced<'a> = (&'a CheckValue, KcvMethod);

/// How a check value was seen: the word in the transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The key in the token encrypted a block of zeros.
    Encrypted,
    /// The key in the token decrypted what the components' key had encrypted in memory.
    Decrypted,
    /// The components' key showed it in memory; its object in the token cannot be asked.
    Components,
    /// The same wrapped key, unwrapped for the length of this question into an object that encrypts.
    Trial,
    /// The token tells it (CKA_CHECK_VALUE).
    Told,
}

impl Seen {
    fn as_str(self) -> &'static str {
        match self {
            Self::Encrypted => "encrypted",
            Self::Decrypted => "decrypted",
            Self::Components => "components",
            Self::Trial => "trial",
            Self::Told => "told",
        }
    }
}

/// Adds check value, method and how it was seen to what the transcript says of a key.
pub(super) fn told(mut made: Value, (kcv, method): Announced<'_>, seen: Seen) -> Value {
    made["kcv"] = json!(kcv.to_string());
    made["kcv_method"] = json!(method.as_str());
    made["kcv_seen"] = json!(seen.as_str());
    made
}

/// The check value to pin in the key policy: of a key that encrypts 3 octets; of one that decrypts the whole block, if `of_zeros` is
/// what its key makes of zeros, else what the token tells. None where nobody can see one.
pub(super) fn to_pin(token: &Token, rule: &KeyRule, of_zeros: Option<Block>) -> Result<Option<CheckValue>, Fault> {
    let key = token.key_of(&rule.role, rule.epoch)?;
    let mut session = token.open_session()?;
    Ok(match (rule.purpose, of_zeros) {
        (Purpose::Encrypt, _) => {
            session.encrypt_blocks(key, &[0; 16])?.as_slice().try_into().ok().map(CheckValue::of_block)
        }
        (Purpose::Decrypt, Some(block)) if session.decrypt_blocks(key, &block)?[..] == [0; 16] => {
            CheckValue::try_from(block.to_vec()).ok()
        }
        (Purpose::Decrypt, _) => session.check_value(key)?.and_then(|told| CheckValue::try_from(told).ok()),
        _ => None,
    })
}

/// What the components' key makes of a block of zeros.
pub(super) fn block_of_components(own: &Component) -> Result<Block, Fault> {
    let of_zeros = KcvMethod::AesEcbZeros.block_of_key(own.expose());
    of_zeros.map_err(|e| Fault::new(Exit::Bug, format!("OpenSSL: {e}")))
}

/// Of a key of components, whose check value was compared in memory: the token works with just this key.
pub(super) fn seen_of_components(token: &Token, rule: &KeyRule, of_zeros: Block) -> Result<Seen, Fault> {
    let key = token.key_of(&rule.role, rule.epoch)?;
    let mut session = token.open_session()?;
    let (agrees, seen) = match rule.purpose {
        Purpose::Encrypt => (session.encrypt_blocks(key, &[0; 16])? == of_zeros, Seen::Encrypted),
        Purpose::Decrypt => (session.decrypt_blocks(key, &of_zeros)?[..] == [0; 16], Seen::Decrypted),
        _ => (true, Seen::Components),
    };
    if agrees { Ok(seen) } else { Err(another(rule, "its components")) }
}

/// Of a key that is about to be unwrapped, with what it makes of zeros; none when the token does not unwrap it for this question.
pub(super) fn seen_on_trial(
    room: &KeyRoom,
    (rule, under): (&KeyRule, &KeyRule),
    wrapped: &[u8],
    (kcv, method): Announced<'_>,
) -> Result<Option<(Seen, Block)>, Fault> {
    let mut of_zeros = [0; 16];
    let trial = room.trial(rule, under, wrapped, |encrypt| {
        of_zeros = encrypt(&[0; 16])?;
        method.block(encrypt)
    })?;
    if let Some(trial) = &trial
        && !kcv.agrees_with(&trial.block)
    {
        return Err(another(rule, &kcv.to_string()));
    }
    // AES key wrap adds one block of 8 octets (RFC 3394 §2.2.1).
    let by_wrap = under.kind.secret_octets().and_then(|_| wrapped.len().checked_sub(8));
    let octets = trial.as_ref().and_then(|trial| trial.octets).or(by_wrap);
    match (octets, rule.kind.secret_octets()) {
        (Some(octets), Some(declared)) if octets != declared => {
            let what =
                format!("{}: the wrapped key has {octets} octets, the key policy declares {declared}", rule.label);
            Err(Fault::new(Exit::IntegrityFailure, what)
                .hint("correct `type` in the key policy, or ask for the right key"))
        }
        _ => Ok(trial.map(|_| (Seen::Trial, of_zeros))),
    }
}

/// Of a key that is in the token, by itself; none when it cannot show it and the token does not tell it.
pub(super) fn seen_of_key(token: &Token, rule: &KeyRule, (kcv, method): Announced<'_>) -> Result<Option<Seen>, Fault> {
    let key = token.key_of(&rule.role, rule.epoch)?;
    let mut session = token.open_session()?;
    let (block, seen) = if rule.purpose == Purpose::Encrypt {
        (method.block_of_token(&mut session, key, &rule.label)?.to_vec(), Seen::Encrypted)
    } else {
        match session.check_value(key)? {
            // CKA_CHECK_VALUE of an AES key is of the other method than CMAC.
            Some(told) if method == KcvMethod::AesEcbZeros => (told, Seen::Told),
            _ => return Ok(None),
        }
    };
    if kcv.agrees_with(&block) { Ok(Some(seen)) } else { Err(another(rule, &kcv.to_string())) }
}

/// Nobody could compare the key.
pub(super) fn unseen(rule: &KeyRule) -> Fault {
    let what = format!("{}: its check value cannot be seen, the key was destroyed again", rule.label);
    Fault::new(Exit::IntegrityFailure, what).hint(
        "this token neither unwraps it for a trial nor tells CKA_CHECK_VALUE: announce an aes-ecb-zeros value, or bring it in components",
    )
}

fn another(rule: &KeyRule, than: &str) -> Fault {
    let what = format!("{}: the key has another check value than {than}", rule.label);
    Fault::new(Exit::IntegrityFailure, what)
        .hint("this is not the key that was announced: ask its owner for key and check value again; nothing was kept")
}
