//! One key of the policy: its kind, its one purpose, its mechanism, and the rules that no policy file can lift.
//!
//! In: a `[[key]]` of `key-policy.toml`. Out: [`KeyRule`], or which key and attribute is weaker than the rules.

use jiff::Timestamp;
use serde::Deserialize;

use super::attributes::{FACTS, Flags, KeyAttribute, PRIVATE, PUBLIC, SECRET};
use super::epoch::{self, KeyState};
use crate::certs::Curve;
use crate::config::CheckValue;
use crate::hsm::Role;

use KeyAttribute as A;

/// What one role's key has to be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRule {
    /// Whose key.
    pub role: Role,
    /// Which key of this role, counted from 1.
    #[serde(default = "epoch::first")]
    pub epoch: u32,
    /// Whether new work goes to it.
    #[serde(default)]
    pub state: KeyState,
    /// Since when it is active; none for the first.
    #[serde(default)]
    pub active_from: Option<Timestamp>,
    /// CKA_LABEL.
    pub label: String,
    /// Kind of key.
    #[serde(rename = "type")]
    pub kind: KeyKind,
    /// What it makes of a block of zeros (AES), of a key that came in: 3 octets, or for a key that only decrypts the whole block.
    /// Compared at every start, so that another key of the same attributes is noticed.
    #[serde(default)]
    pub kcv: Option<CheckValue>,
    /// CKA_ALLOWED_MECHANISMS, all of them.
    pub mechanisms: Vec<MechanismName>,
    /// The one thing it does.
    pub purpose: Purpose,
    /// Where it was made.
    pub origin: Origin,
    /// Flags of the private or secret key.
    pub attributes: Flags,
    /// Flags of the public half of a key pair.
    #[serde(default)]
    pub public: Flags,
}

/// Kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum KeyKind {
    /// Key pair on this curve: `ec-p256`, `ec-brainpoolp256r1`.
    Ec(Curve),
    /// 128-bit AES key: `aes-128`; transport keys of operators only.
    Aes128,
    /// 256-bit AES key: `aes-256`.
    Aes256,
    /// RSA key pair of 3,072 bits; import keys only.
    #[serde(rename = "rsa-3072")]
    Rsa3072,
}

impl KeyKind {
    const ALL: [Self; 5] =
        [Self::Ec(Curve::P256), Self::Ec(Curve::Brainpool), Self::Aes128, Self::Aes256, Self::Rsa3072];

    /// The word in the policy file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ec(Curve::P256) => "ec-p256",
            Self::Ec(Curve::Brainpool) => "ec-brainpoolp256r1",
            Self::Aes128 => "aes-128",
            Self::Aes256 => "aes-256",
            Self::Rsa3072 => "rsa-3072",
        }
    }

    /// Octets of a secret key; none of a key pair.
    pub fn secret_octets(self) -> Option<usize> {
        match self {
            Self::Ec(_) | Self::Rsa3072 => None,
            Self::Aes128 => Some(16),
            Self::Aes256 => Some(32),
        }
    }

    /// The curve of a key pair on one.
    pub fn curve(self) -> Option<Curve> {
        match self {
            Self::Ec(curve) => Some(curve),
            Self::Aes128 | Self::Aes256 | Self::Rsa3072 => None,
        }
    }
}

impl TryFrom<String> for KeyKind {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
            format!("type {text:?} is none of {}", known.join(", "))
        })
    }
}

/// The one thing a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Signs.
    Sign,
    /// Seals and opens what rests on our own disk.
    Seal,
    /// Encrypts for somebody else, never decrypts.
    Encrypt,
    /// Unwraps keys that somebody else wrapped for us, into keys of this policy, and does nothing besides.
    Unwrap,
    /// Decrypts what somebody else encrypted for us, never encrypts.
    Decrypt,
}

impl Purpose {
    /// The word in the policy file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::Seal => "seal",
            Self::Encrypt => "encrypt",
            Self::Unwrap => "unwrap",
            Self::Decrypt => "decrypt",
        }
    }

    fn usage_flags(self) -> &'static [KeyAttribute] {
        match self {
            Self::Sign => &[KeyAttribute::Sign],
            Self::Seal => &[KeyAttribute::Encrypt, KeyAttribute::Decrypt],
            Self::Encrypt => &[KeyAttribute::Encrypt],
            Self::Unwrap => &[KeyAttribute::Unwrap],
            Self::Decrypt => &[KeyAttribute::Decrypt],
        }
    }
}

/// Where a key was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// In the token: CKA_LOCAL, CKA_ALWAYS_SENSITIVE and CKA_NEVER_EXTRACTABLE are true.
    Generated,
    /// Elsewhere: the same three are false.
    Imported,
}

/// Mechanisms the policy and the profiles can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub enum MechanismName {
    /// ECDSA over a digest made outside.
    #[serde(rename = "CKM_ECDSA")]
    Ecdsa,
    /// AES, single blocks.
    #[serde(rename = "CKM_AES_ECB")]
    AesEcb,
    /// AES-GCM.
    #[serde(rename = "CKM_AES_GCM")]
    AesGcm,
    /// Makes EC key pairs.
    #[serde(rename = "CKM_EC_KEY_PAIR_GEN")]
    EcKeyPairGen,
    /// Makes AES keys.
    #[serde(rename = "CKM_AES_KEY_GEN")]
    AesKeyGen,
    /// Makes RSA key pairs.
    #[serde(rename = "CKM_RSA_PKCS_KEY_PAIR_GEN")]
    RsaKeyPairGen,
    /// RSA-OAEP (PKCS #1 v2): unwraps.
    #[serde(rename = "CKM_RSA_PKCS_OAEP")]
    RsaOaep,
    /// AES key wrap (RFC 3394), 0x2109.
    #[serde(rename = "CKM_AES_KEY_WRAP")]
    AesKeyWrap,
}

impl MechanismName {
    /// The standard's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ecdsa => "CKM_ECDSA",
            Self::AesEcb => "CKM_AES_ECB",
            Self::AesGcm => "CKM_AES_GCM",
            Self::EcKeyPairGen => "CKM_EC_KEY_PAIR_GEN",
            Self::AesKeyGen => "CKM_AES_KEY_GEN",
            Self::RsaKeyPairGen => "CKM_RSA_PKCS_KEY_PAIR_GEN",
            Self::RsaOaep => "CKM_RSA_PKCS_OAEP",
            Self::AesKeyWrap => "CKM_AES_KEY_WRAP",
        }
    }
}
impl KeyRule {
    /// What the token must answer for the private or secret key: the file's flags and what follows from the origin.
    pub fn expected(&self) -> impl Iterator<Item = (KeyAttribute, bool)> + '_ {
        let generated = self.origin == Origin::Generated;
        self.attributes.iter().map(|(a, v)| (*a, *v)).chain(FACTS.iter().map(move |a| (*a, generated)))
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let (purpose, mechanism, kinds) = match self.role {
            Role::SiteKek => (Purpose::Seal, MechanismName::AesGcm, vec![KeyKind::Aes256]),
            Role::Transport(_) => (Purpose::Encrypt, MechanismName::AesEcb, vec![KeyKind::Aes256, KeyKind::Aes128]),
            Role::Operator(_) => (Purpose::Decrypt, MechanismName::AesEcb, vec![KeyKind::Aes256, KeyKind::Aes128]),
            Role::Import(_) if self.kind == KeyKind::Rsa3072 => {
                (Purpose::Unwrap, MechanismName::RsaOaep, vec![KeyKind::Rsa3072])
            }
            Role::Import(_) => (Purpose::Unwrap, MechanismName::AesKeyWrap, vec![KeyKind::Aes256]),
            Role::DpAuth(curve) | Role::DpPb(curve) => (Purpose::Sign, MechanismName::Ecdsa, vec![KeyKind::Ec(curve)]),
            Role::Manifest | Role::Audit => (Purpose::Sign, MechanismName::Ecdsa, vec![KeyKind::Ec(Curve::P256)]),
        };
        let asks = |what: &str| format!("key {:?}: role {} asks for {what}", self.label, self.role);
        if self.purpose != purpose {
            return Err(asks(&format!("purpose {:?}", purpose.as_str())));
        }
        if !kinds.contains(&self.kind) {
            let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
            return Err(asks(&format!("type {}", kinds.join(" or "))));
        }
        if self.epoch == 0 {
            return Err(format!("key {:?}: epochs count from 1", self.label));
        }
        if self.kcv.is_some() && !matches!(self.purpose, Purpose::Encrypt | Purpose::Decrypt) {
            return Err(format!("key {:?}: kcv is for keys that encrypt or decrypt blocks", self.label));
        }
        if self.mechanisms != [mechanism] {
            return Err(format!("key {:?}: mechanisms must be [{:?}]", self.label, mechanism.as_str()));
        }
        let (own, public) = match self.kind {
            KeyKind::Ec(_) | KeyKind::Rsa3072 => (PRIVATE, PUBLIC),
            KeyKind::Aes128 | KeyKind::Aes256 => (SECRET, &[][..]),
        };
        let usage = self.purpose.usage_flags();
        self.check_flags("attributes", &self.attributes, own, |a| match a {
            A::Token | A::Private | A::Sensitive => true,
            other => usage.contains(&other),
        })?;
        // The public half of an import key is used by others, outside: in the token it does nothing.
        let verifies = self.purpose == Purpose::Sign;
        self.check_flags("public", &self.public, public, |a| a == A::Token || (a == A::Verify && verifies))
    }

    fn check_flags(&self, table: &str, flags: &Flags, all: &[A], wanted: impl Fn(A) -> bool) -> Result<(), String> {
        let place = |a: A| format!("key {:?}: {table}.{}", self.label, a.as_str());
        for attribute in all {
            let wanted = wanted(*attribute);
            match flags.get(attribute) {
                None => return Err(format!("{} is not said", place(*attribute))),
                Some(said) if *said != wanted => return Err(format!("{} must be {wanted}", place(*attribute))),
                Some(_) => {}
            }
        }
        match flags.keys().find(|a| !all.contains(a)) {
            Some(a) => Err(format!("{} does not belong there", place(*a))),
            None => Ok(()),
        }
    }
}
