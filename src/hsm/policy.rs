//! The key policy: which key a role has, what it may do, and the comparison of that with what the token answers.
//!
//! In: `key-policy.toml` and the attributes read back from the token. Out: [`KeyPolicy`], or the first [`Drift`].
//! Rule: one role and epoch, one key, one purpose; PKCS#11 itself permits the classic attacks, only attributes stop them.

pub mod epoch;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use self::epoch::KeyState;
use super::{FaultClass, HsmError, Role};
use crate::certs::Curve;
use crate::error::{Exit, Fault};

/// Schema word of `key-policy.toml`.
pub const SCHEMA: &str = "bindery.key-policy/1";

/// The policy `init` copies into a site.
pub const BUILT_IN: &str = include_str!("../../hsm-config/key-policy.toml");

/// The keys for eUICCs on brainpoolP256r1, to stand behind [`BUILT_IN`].
pub const BRAINPOOL: &str = include_str!("../../hsm-config/key-policy-brainpool.toml");

/// An operator's key, to stand behind them: the demo site has it, others bring theirs in with `keys import`.
pub const OPERATOR: &str = include_str!("../../hsm-config/operator-key.toml");

/// `key-policy.toml`, checked: no key in it can be weaker than the rules.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPolicy {
    schema: String,
    /// One rule for each role and epoch.
    #[serde(rename = "key")]
    pub keys: Vec<KeyRule>,
}

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
    pub active_from: Option<jiff::Timestamp>,
    /// CKA_LABEL.
    pub label: String,
    /// Kind of key.
    #[serde(rename = "type")]
    pub kind: KeyKind,
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

/// Attribute flags by name.
pub type Flags = BTreeMap<KeyAttribute, bool>;

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
    /// Elsewhere: the same three are false, or not told.
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

macro_rules! key_attributes {
    ($($name:ident = $word:literal),+ $(,)?) => {
        /// A yes-or-no attribute of a key, by its PKCS#11 name.
        #[allow(missing_docs)] // the names are the standard's
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
        pub enum KeyAttribute { $(#[serde(rename = $word)] $name),+ }

        impl KeyAttribute {
            /// The standard's name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }
        }
    };
}

key_attributes! {
    Token = "CKA_TOKEN",
    Private = "CKA_PRIVATE",
    Sensitive = "CKA_SENSITIVE",
    Extractable = "CKA_EXTRACTABLE",
    Modifiable = "CKA_MODIFIABLE",
    Copyable = "CKA_COPYABLE",
    Sign = "CKA_SIGN",
    SignRecover = "CKA_SIGN_RECOVER",
    Verify = "CKA_VERIFY",
    VerifyRecover = "CKA_VERIFY_RECOVER",
    Encrypt = "CKA_ENCRYPT",
    Decrypt = "CKA_DECRYPT",
    Wrap = "CKA_WRAP",
    Unwrap = "CKA_UNWRAP",
    Derive = "CKA_DERIVE",
    Local = "CKA_LOCAL",
    AlwaysSensitive = "CKA_ALWAYS_SENSITIVE",
    NeverExtractable = "CKA_NEVER_EXTRACTABLE",
}

use KeyAttribute as A;

/// What every policy file must say of a private key.
const PRIVATE: &[A] = &[
    A::Token,
    A::Private,
    A::Sensitive,
    A::Extractable,
    A::Modifiable,
    A::Copyable,
    A::Sign,
    A::SignRecover,
    A::Decrypt,
    A::Unwrap,
    A::Derive,
];
/// What it must say of a public key.
const PUBLIC: &[A] =
    &[A::Token, A::Private, A::Modifiable, A::Copyable, A::Verify, A::VerifyRecover, A::Encrypt, A::Wrap, A::Derive];
/// What it must say of a secret key.
const SECRET: &[A] = &[
    A::Token,
    A::Private,
    A::Sensitive,
    A::Extractable,
    A::Modifiable,
    A::Copyable,
    A::Encrypt,
    A::Decrypt,
    A::Sign,
    A::Verify,
    A::Wrap,
    A::Unwrap,
    A::Derive,
];
/// Follow from the origin; set by the token, never sent.
const FACTS: &[A] = &[A::Local, A::AlwaysSensitive, A::NeverExtractable];

impl KeyPolicy {
    /// Reads and checks a site's policy file.
    pub fn load(path: &Path) -> Result<Self, Fault> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Fault::file(path, &e).hint("`hsm.policy` in bindery.toml names the key policy; `bindery init` writes one")
        })?;
        Self::parse(&text).map_err(|what| {
            Fault::new(Exit::Config, format!("{}: {what}", path.display()))
                .hint("the rules of a key policy stand in hsm-config/README.md")
        })
    }

    /// Parses and checks the text of a policy file; the error says key and attribute.
    pub fn parse(text: &str) -> Result<Self, String> {
        let policy: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        if policy.schema != SCHEMA {
            return Err(format!("schema {:?} is not {SCHEMA:?}", policy.schema));
        }
        for (i, rule) in policy.keys.iter().enumerate() {
            rule.check()?;
            let is_twin = |o: &&KeyRule| (&o.role, o.epoch) == (&rule.role, rule.epoch) || o.label == rule.label;
            if let Some(twin) = policy.keys[..i].iter().find(is_twin) {
                return Err(format!("keys {:?} and {:?} share a role and epoch, or a label", twin.label, rule.label));
            }
        }
        policy.check_epochs()?;
        let pair = |curve| [Role::DpAuth(curve), Role::DpPb(curve)];
        let has_active = |role: &Role| policy.rule(role).is_some();
        let needed = [Role::SiteKek, Role::Manifest, Role::Audit].into_iter().chain(pair(Curve::P256));
        // A second curve is a site's choice, but a whole one; the key of one role may still wait for its certificate.
        let is_declared =
            |role: &Role| policy.keys.iter().any(|rule| rule.role == *role && rule.state != KeyState::Retired);
        let others =
            Curve::ALL.into_iter().filter(|c| *c != Curve::P256 && pair(*c).iter().any(has_active)).flat_map(pair);
        let missing = needed.filter(|role| !has_active(role)).chain(others.filter(|role| !is_declared(role))).next();
        match missing {
            Some(role) => Err(format!("role {role} has no key")),
            None => Ok(policy),
        }
    }

    /// The rule of a role's active key: the one new work goes to.
    pub fn rule(&self, role: &Role) -> Option<&KeyRule> {
        self.keys.iter().find(|rule| rule.role == *role && rule.state == KeyState::Active)
    }

    /// The rule of one epoch of a role, whatever its state.
    pub fn rule_of(&self, role: &Role, epoch: u32) -> Option<&KeyRule> {
        self.keys.iter().find(|rule| rule.role == *role && rule.epoch == epoch)
    }
}

impl KeyRule {
    /// What the token must answer for the private or secret key: the file's flags and what follows from the origin.
    pub fn expected(&self) -> impl Iterator<Item = (KeyAttribute, bool)> + '_ {
        let generated = self.origin == Origin::Generated;
        self.attributes.iter().map(|(a, v)| (*a, *v)).chain(FACTS.iter().map(move |a| (*a, generated)))
    }

    fn check(&self) -> Result<(), String> {
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

/// What the token answered for one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadBack {
    /// Flags, those the token knows.
    pub flags: Flags,
    /// CKA_ALLOWED_MECHANISMS by number, where the token knows it.
    pub mechanisms: Option<Vec<u64>>,
    /// CKA_KEY_TYPE and the curve or the length are the rule's.
    pub kind_fits: bool,
}

/// The first difference between policy and token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// CKA_LABEL.
    pub label: String,
    /// Which attribute.
    pub attribute: &'static str,
    /// What the policy says.
    pub policy: String,
    /// What the token says.
    pub token: String,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, attribute, policy, token } = self;
        write!(f, "key {label:?}: {attribute} is {token} in the token, {policy} in the key policy")
    }
}

impl From<Drift> for HsmError {
    fn from(drift: Drift) -> Self {
        Self {
            what: drift.to_string(),
            code: "key policy".into(),
            class: FaultClass::Policy,
            hint: "somebody changed the key or the policy: find out who; do not run on a key that is not as declared",
        }
    }
}

/// Compares one object of the token with what was expected. `unknown`: attributes this HSM model has no notion of.
pub fn compare(
    label: &str,
    expected: impl Iterator<Item = (KeyAttribute, bool)>,
    mechanisms: &[u64],
    found: &ReadBack,
    unknown: &[String],
) -> Result<(), Drift> {
    let drift = |attribute, policy: String, token: String| Drift { label: label.into(), attribute, policy, token };
    if !found.kind_fits {
        return Err(drift("CKA_KEY_TYPE", "the declared type".into(), "another type, curve or length".into()));
    }
    let known = |name: &str| !unknown.iter().any(|u| u == name);
    for (attribute, wanted) in expected.filter(|(a, _)| known(a.as_str())) {
        match found.flags.get(&attribute) {
            Some(value) if *value == wanted => {}
            Some(value) => return Err(drift(attribute.as_str(), wanted.to_string(), value.to_string())),
            // Of a key that came from elsewhere nothing is claimed: not to claim it is as good as to deny it.
            None if !wanted && FACTS.contains(&attribute) => {}
            None => return Err(drift(attribute.as_str(), wanted.to_string(), "absent".into())),
        }
    }
    const ALLOWED: &str = "CKA_ALLOWED_MECHANISMS";
    if mechanisms.is_empty() || !known(ALLOWED) {
        return Ok(());
    }
    match &found.mechanisms {
        Some(allowed) if allowed == mechanisms => Ok(()),
        other => Err(drift(ALLOWED, format!("{mechanisms:X?}"), format!("{other:X?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a demo site has it, on one curve.
    fn of_demo() -> String {
        format!("{BUILT_IN}\n{OPERATOR}")
    }

    #[test]
    fn the_built_in_policy_is_sound_and_names_every_role() {
        let policy = KeyPolicy::parse(&of_demo()).unwrap();
        assert_eq!((KeyPolicy::parse(BUILT_IN).unwrap().keys.len(), policy.keys.len()), (6, 7));
        assert_eq!(policy.rule(&Role::Operator("core-demo".into())).unwrap().purpose, Purpose::Decrypt);
        assert_eq!(policy.rule(&Role::Transport("core-demo".into())).unwrap().origin, Origin::Imported);
    }

    #[test]
    fn a_policy_that_weakens_any_single_attribute_is_refused_by_name() {
        let (sound, mut tried) = (of_demo(), 0);
        for (at, line) in sound.match_indices("CKA_") {
            let end = at + sound[at..].find('\n').unwrap();
            let (name, value) = sound[at..end].split_once(" = ").unwrap_or((line, ""));
            let flipped = match value {
                "true" => "false",
                "false" => "true",
                _ => continue, // a word in a comment
            };
            let text = format!("{}{name} = {flipped}{}", &sound[..at], &sound[end..]);
            assert!(KeyPolicy::parse(&text).unwrap_err().contains(name), "{name} = {flipped} was taken");
            tried += 1;
        }
        assert_eq!(tried, 4 * (11 + 9) + 3 * 13);
    }

    #[test]
    fn an_attribute_left_out_or_unknown_is_refused() {
        let left_out = BUILT_IN.replacen("CKA_COPYABLE = false\n", "", 1);
        assert!(KeyPolicy::parse(&left_out).unwrap_err().contains("attributes.CKA_COPYABLE is not said"));
        let unknown = BUILT_IN.replacen("CKA_COPYABLE", "CKA_COPIABLE", 1);
        assert!(KeyPolicy::parse(&unknown).unwrap_err().contains("CKA_COPIABLE"));
        let surplus = BUILT_IN.replacen("purpose = \"sign\"", "purpose = \"sign\"\nextractable = true", 1);
        assert!(KeyPolicy::parse(&surplus).unwrap_err().contains("extractable"));
    }

    #[test]
    fn a_second_curve_comes_whole_and_each_role_has_the_key_of_its_own_curve() {
        let both = format!("{BUILT_IN}{BRAINPOOL}");
        let policy = KeyPolicy::parse(&both).unwrap();
        assert_eq!(policy.keys.len(), 8);
        assert_eq!(policy.rule(&Role::DpPb(Curve::Brainpool)).unwrap().kind, KeyKind::Ec(Curve::Brainpool));
        assert_eq!(policy.rule(&Role::DpPb(Curve::P256)).unwrap().kind, KeyKind::Ec(Curve::P256));
        let half = &both[..both.rfind("[[key]]").unwrap()];
        assert_eq!(KeyPolicy::parse(half).unwrap_err(), "role dppb:brainpool has no key");
        // The curve of a role and the type of its key cannot differ, either way round; nor has a manifest key a choice.
        for (from, to) in [
            ("ec-brainpoolp256r1", "ec-p256"),
            ("ec-p256", "ec-brainpoolp256r1"),
            ("type = \"ec-brainpoolp256r1\"", "type = \"aes-256\""),
        ] {
            assert!(KeyPolicy::parse(&both.replacen(from, to, 1)).unwrap_err().contains("asks for type ec-"), "{to}");
        }
        let at = BUILT_IN.find("role = \"manifest\"").unwrap();
        let manifest = BUILT_IN[at..].replacen("ec-p256", "ec-brainpoolp256r1", 1);
        assert!(KeyPolicy::parse(&format!("{}{manifest}", &BUILT_IN[..at])).unwrap_err().contains("role manifest"));
        assert!(KeyPolicy::parse(&both.replacen("ec-p256", "ec-p384", 1)).unwrap_err().contains("ec-p384"));
    }

    #[test]
    fn roles_read_as_they_are_written() {
        let pairs = Curve::ALL.into_iter().flat_map(|curve| [Role::DpAuth(curve), Role::DpPb(curve)]);
        for role in pairs.chain([
            Role::SiteKek,
            Role::Manifest,
            Role::Audit,
            Role::Transport("core".into()),
            Role::Operator("op".into()),
        ]) {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert!("dppb:p384".parse::<Role>().is_err());
    }

    #[test]
    fn two_roles_never_share_a_key() {
        let shared = BUILT_IN.replacen("bindery/dppb/p256/1", "bindery/dpauth/p256/1", 1);
        assert!(KeyPolicy::parse(&shared).unwrap_err().contains("share"));
    }

    #[test]
    fn every_flag_that_differs_in_the_token_is_drift() {
        let policy = KeyPolicy::parse(&of_demo()).unwrap();
        for rule in &policy.keys {
            let sound = ReadBack { flags: rule.expected().collect(), mechanisms: Some(vec![7]), kind_fits: true };
            assert_eq!(compare(&rule.label, rule.expected(), &[7], &sound, &[]), Ok(()));
            for (attribute, value) in rule.expected() {
                let mut changed = sound.clone();
                changed.flags.insert(attribute, !value);
                let drift = compare(&rule.label, rule.expected(), &[7], &changed, &[]).unwrap_err();
                assert_eq!((drift.label.as_str(), drift.attribute), (rule.label.as_str(), attribute.as_str()));
                changed.flags.remove(&attribute);
                let absent = compare(&rule.label, rule.expected(), &[7], &changed, &[]);
                match FACTS.contains(&attribute) && rule.origin == Origin::Imported {
                    true => assert_eq!(absent, Ok(())),
                    false => assert_eq!(absent.unwrap_err().token, "absent"),
                }
                let unknown = [attribute.as_str().to_owned()];
                assert_eq!(compare(&rule.label, rule.expected(), &[7], &changed, &unknown), Ok(()));
            }
            let other = ReadBack { mechanisms: Some(vec![7, 8]), ..sound.clone() };
            let drift = compare(&rule.label, rule.expected(), &[7], &other, &[]).unwrap_err();
            assert_eq!(drift.attribute, "CKA_ALLOWED_MECHANISMS");
            let other = ReadBack { kind_fits: false, ..sound };
            assert!(compare(&rule.label, rule.expected(), &[7], &other, &[]).is_err());
        }
    }
}
