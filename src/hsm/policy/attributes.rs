//! Flags of a key by their PKCS#11 names: which of them a policy has to say, and the comparison with what the token answers.
//!
//! In: flags of a rule and those read back from the token. Out: nothing, or the first [`Drift`].

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hsm::{FaultClass, HsmError};

use KeyAttribute as A;

/// Attribute flags by name.
pub type Flags = BTreeMap<KeyAttribute, bool>;

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
            // A key that came in claims no history; kryoptic then has no such attribute where others have it false.
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
/// What every policy file must say of a private key.
pub(super) const PRIVATE: &[A] = &[
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
pub(super) const PUBLIC: &[A] =
    &[A::Token, A::Private, A::Modifiable, A::Copyable, A::Verify, A::VerifyRecover, A::Encrypt, A::Wrap, A::Derive];
/// What it must say of a secret key.
pub(super) const SECRET: &[A] = &[
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
pub(super) const FACTS: &[A] = &[A::Local, A::AlwaysSensitive, A::NeverExtractable];
#[cfg(test)]
mod tests {
    use super::*;
    use crate::hsm::policy::{BUILT_IN, KeyPolicy, OPERATOR, Origin};

    #[test]
    fn every_flag_that_differs_in_the_token_is_drift() {
        let policy = KeyPolicy::parse(&format!("{BUILT_IN}\n{OPERATOR}")).unwrap();
        for rule in &policy.keys {
            let sound = ReadBack { flags: rule.expected().collect(), mechanisms: Some(vec![7]), kind_fits: true };
            assert_eq!(compare(&rule.label, rule.expected(), &[7], &sound, &[]), Ok(()));
            for (attribute, value) in rule.expected() {
                let mut changed = sound.clone();
                changed.flags.insert(attribute, !value);
                let drift = compare(&rule.label, rule.expected(), &[7], &changed, &[]).unwrap_err();
                assert_eq!((drift.label.as_str(), drift.attribute), (rule.label.as_str(), attribute.as_str()));
                changed.flags.remove(&attribute);
                let told = compare(&rule.label, rule.expected(), &[7], &changed, &[]);
                if !value && FACTS.contains(&attribute) {
                    assert_eq!((told, rule.origin), (Ok(()), Origin::Imported));
                } else {
                    assert_eq!(told.unwrap_err().token, "absent");
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
