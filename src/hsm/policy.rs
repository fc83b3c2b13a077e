//! The key policy: which key a role has, what it may do, and the comparison of that with what the token answers.
//!
//! In: `key-policy.toml` and the attributes read back from the token. Out: [`KeyPolicy`], or the first [`Drift`].
//! Rule: one role and epoch, one key, one purpose; PKCS#11 itself permits the classic attacks, only attributes stop them.

mod attributes;
pub mod epoch;
mod rule;

use std::path::Path;

use serde::Deserialize;

pub use self::attributes::{Drift, Flags, KeyAttribute, ReadBack, compare};
pub use self::epoch::KeyState;
pub use self::rule::{KeyKind, KeyRule, MechanismName, Origin, Purpose};
use super::Role;
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
        assert!("transport:Op_7.a-b".parse::<Role>().is_ok());
        for name in ["", "../../x", ".x", "a/b", "a b", "a:b", "\u{e4}", &"a".repeat(65)] {
            for kind in ["transport", "operator", "import"] {
                assert!(format!("{kind}:{name}").parse::<Role>().is_err(), "{kind}:{name}");
            }
        }
    }

    #[test]
    fn two_roles_never_share_a_key() {
        let shared = BUILT_IN.replacen("bindery/dppb/p256/1", "bindery/dpauth/p256/1", 1);
        assert!(KeyPolicy::parse(&shared).unwrap_err().contains("share"));
    }
}
