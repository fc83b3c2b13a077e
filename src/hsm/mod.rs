//! The token: a small seam spoken in our words. Only `hsm::pkcs11` names cryptoki; a vendor is a profile file, not code.
//!
//! Long-lived keys live there and never leave: DPauth and DPpb sign, the site KEK seals, the manifest and audit keys sign,
//! transport keys encrypt what goes to a core network, operators' keys decrypt what comes from one. Everything else is CPU work outside.

pub mod draw;
pub mod lanes;
pub mod mechanisms;
pub mod pin;
pub mod pkcs11;
pub mod policy;
pub mod profile;

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::certs::{Curve, DpPoints, OwnPoints};
use crate::error::{Exit, Fault};

/// What a key is for. One role, one key, one purpose (key policy in `hsm-config/`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Role {
    /// SK.DPauth.ECDSA for eUICCs on this curve: serverSigned1 (SGP.22 §5.6.1).
    DpAuth(Curve),
    /// SK.DPpb.ECDSA for eUICCs on this curve: InitialiseSecureChannel, smdpSigned2 (SGP.22 §5.5.1, §5.6.3).
    DpPb(Curve),
    /// Seals batch keys at rest (AES-256-GCM).
    SiteKek,
    /// Signs `manifest.json` of a bundle.
    Manifest,
    /// Signs heads of the audit log.
    Audit,
    /// Encrypts K and OPc for one core network; the name is the one orders use in `transport_key`.
    Transport(String),
    /// Unwraps keys that an operator wrapped for us; the name is ours.
    Import(String),
    /// Decrypts K and OPc that an operator sends with its orders; the name stands in `[import.NAME] key` of `bindery.toml`.
    Operator(String),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DpAuth(curve) => on_curve(f, "dpauth", *curve),
            Self::DpPb(curve) => on_curve(f, "dppb", *curve),
            Self::SiteKek => f.write_str("site-kek"),
            Self::Manifest => f.write_str("manifest"),
            Self::Audit => f.write_str("audit"),
            Self::Transport(name) => write!(f, "transport:{name}"),
            Self::Import(name) => write!(f, "import:{name}"),
            Self::Operator(name) => write!(f, "operator:{name}"),
        }
    }
}

impl Role {
    /// A key that a site may have or not: for eUICCs on another curve than P-256.
    pub fn is_of_second_curve(&self) -> bool {
        matches!(self, Self::DpAuth(curve) | Self::DpPb(curve) if *curve != Curve::P256)
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "dpauth" => Self::DpAuth(Curve::P256),
            "dppb" => Self::DpPb(Curve::P256),
            "dpauth:brainpool" => Self::DpAuth(Curve::Brainpool),
            "dppb:brainpool" => Self::DpPb(Curve::Brainpool),
            "site-kek" => Self::SiteKek,
            "manifest" => Self::Manifest,
            "audit" => Self::Audit,
            other => match other.split_once(':') {
                Some(("transport", name)) => Self::Transport(named(name)?),
                Some(("import", name)) => Self::Import(named(name)?),
                Some(("operator", name)) => Self::Operator(named(name)?),
                _ => return Err(format!("role {other:?} is unknown")),
            },
        })
    }
}

/// Letters, digits, `.`, `_` and `-`, no leading dot, 64 at most: a name stands in labels and in file names.
fn named(name: &str) -> Result<String, String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if matches!(name.len(), 1..=64) && name.bytes().all(is_plain) && !name.starts_with('.') {
        return Ok(name.to_owned());
    }
    Err(format!("{name:?} is no name of a key: 1 to 64 of letters, digits, '.', '_' and '-', no leading dot"))
}

impl TryFrom<String> for Role {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// `dppb` on P-256, `dppb:brainpool` on the other.
fn on_curve(f: &mut fmt::Formatter<'_>, role: &str, curve: Curve) -> fmt::Result {
    match curve.suffix() {
        None => f.write_str(role),
        Some(suffix) => write!(f, "{role}:{suffix}"),
    }
}

/// A key of an open token: an index into its table of handles, resolved once at start, never searched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyRef(pub(in crate::hsm) usize);

#[cfg(test)]
impl KeyRef {
    /// Of a token made up for a test.
    pub(crate) fn for_tests() -> Self {
        Self(0)
    }
}

/// What a PKCS#11 failure means for us (the table with a test per row stands in `pkcs11::faults`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultClass {
    /// Fails the item, keeps the session.
    Data,
    /// Configuration or policy: stop, no retry.
    Policy,
    /// The session is lost: drop it, open another, retry once.
    Session,
    /// The token is lost.
    Token,
    /// The PIN: one attempt per process and value, never retried.
    Pin,
}

/// A failed call: what was asked, which code came back, what it means.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {code}")]
pub struct HsmError {
    /// What was being done, in our words: "sign with dppb".
    pub what: String,
    /// The CKR code's name, or our own reason.
    pub code: String,
    /// What it means.
    pub class: FaultClass,
    /// What to do.
    pub hint: &'static str,
}

impl HsmError {
    /// No session is to be had: asking again at once would spin.
    fn is_session_count(&self) -> bool {
        self.code == "CKR_SESSION_COUNT"
    }
}

/// A token error that ends a command: exit 7.
impl From<HsmError> for Fault {
    fn from(error: HsmError) -> Self {
        Fault::new(Exit::HsmUnusable, error.to_string()).hint(error.hint)
    }
}

/// An open, logged-in token whose keys were compared with the key policy.
pub trait Hsm: Send + Sync {
    /// One session; holds the state of one operation in progress.
    type Session: HsmSession;
    /// Opens one more session. Login is the token's, not the session's.
    fn open_session(&self) -> Result<Self::Session, HsmError>;
    /// The active key of this role: for new work.
    fn key(&self, role: &Role) -> Result<KeyRef, HsmError>;
    /// The key of this role for an order accepted at `accepted`: the one that was active then, as long as it drains.
    fn key_at(&self, role: &Role, accepted: Timestamp) -> Result<KeyRef, HsmError> {
        let _ = accepted; // a token with one epoch has one answer
        self.key(role)
    }
    /// The public point of a signing key, uncompressed, 65 octets.
    fn public_point(&self, key: KeyRef) -> Result<[u8; 65], HsmError>;
}

/// A token that can be lost and brought back: what a pool of sessions needs of it besides [`Hsm`].
pub trait Recoverable: Hsm {
    /// For people: which token.
    fn name(&self) -> String;
    /// Tokens of the same number share a module and with it C_Finalize: they have one recoverer.
    fn module(&self) -> usize;
    /// Finalises and initialises the module when no call is in flight; every session of every token of it is dead afterwards.
    fn restart_module(&self) -> Result<(), HsmError>;
    /// Finds the token again, logs in at most once, resolves its keys anew and compares them with those of the start.
    fn revive(&self) -> Result<(), HsmError>;
}

/// The points that our own certificates must be over: on P-256, and on every other curve that the key policy has both keys
/// of.
pub fn own_points<H: Hsm>(hsm: &H) -> Result<OwnPoints, HsmError> {
    let point = |role| hsm.public_point(hsm.key(&role)?);
    let has_both = |c: Curve| [Role::DpAuth(c), Role::DpPb(c)].iter().all(|role| hsm.key(role).is_ok());
    let curves = Curve::ALL.into_iter().filter(|c| *c == Curve::P256 || has_both(*c));
    let dp = curves
        .map(|curve| Ok(DpPoints { curve, auth: point(Role::DpAuth(curve))?, pb: point(Role::DpPb(curve))? }))
        .collect::<Result<_, HsmError>>()?;
    Ok(OwnPoints { dp, manifest: point(Role::Manifest)? })
}

/// `Send` but not shared: one caller at a time.
pub trait HsmSession: Send {
    /// ECDSA over a SHA-256 digest on the key's curve; `r || s` as PKCS#11 and SGP.22 (BSI TR-03111) write it.
    fn sign(&mut self, key: KeyRef, digest: &[u8; 32]) -> Result<[u8; 64], HsmError>;
    /// Fills `out` from the token's random source. Ask for 1 KiB and more at once.
    fn random(&mut self, out: &mut [u8]) -> Result<(), HsmError>;
    /// AES-ECB over `blocks` (a multiple of 16 octets), many records in one call.
    fn encrypt_blocks(&mut self, key: KeyRef, blocks: &[u8]) -> Result<Vec<u8>, HsmError>;
    /// The inverse of AES-ECB over `blocks` (a multiple of 16 octets) with an operator's key, many records in one call.
    fn decrypt_blocks(&mut self, key: KeyRef, blocks: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError>;
    /// CKA_CHECK_VALUE: the first octets of AES of a zero block. Optional in PKCS#11: none when the token does not tell it.
    fn check_value(&mut self, key: KeyRef) -> Result<Option<Vec<u8>>, HsmError>;
    /// AES-256-GCM under a KEK: `02 || iv (12) || ciphertext || tag (16)`. `aad` says what is sealed and must not be empty
    /// (SoftHSM 2.6.1 crashes without); role and epoch of the KEK are bound in with it.
    fn seal(&mut self, key: KeyRef, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, HsmError>;
    /// Opens what [`Self::seal`] closed, under this key or a draining epoch of its role: the KEK of a sealed thing is the one
    /// that opens it. A wrong `aad` or octet is an error of class [`FaultClass::Data`].
    fn open(&mut self, key: KeyRef, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError>;
    /// The last call was refused as its data. Those that follow are other attempts and go to other sessions than all that refused
    /// since [`Self::anywhere`], as far as there are some; a session by itself knows no others.
    fn elsewhere(&mut self) {}
    /// The calls that follow go to any session again.
    fn anywhere(&mut self) {}
}
