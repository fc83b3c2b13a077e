//! What one HSM model needs beyond the standard: a file in `hsm-config/profiles/`, not code.

use std::path::PathBuf;

use serde::Deserialize;

use super::policy::MechanismName;
use crate::config::Site;
use crate::error::{Exit, Fault};

/// Schema word of a profile file.
pub const SCHEMA: &str = "bindery.hsm-profile/1";

/// Policy attributes that a model may lack without a key being weaker for it. The others no profile can wave away.
const MAY_BE_UNKNOWN: &[&str] = &["CKA_COPYABLE", "CKA_SIGN_RECOVER", "CKA_VERIFY_RECOVER", "CKA_ALLOWED_MECHANISMS"];

const SOFTHSM: &str = include_str!("../../hsm-config/profiles/softhsm.toml");

/// A profile file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HsmProfile {
    schema: String,
    /// For people.
    pub model: String,
    /// Where the module usually lies.
    pub module_paths: Vec<PathBuf>,
    /// Must be there for the site to run.
    pub mechanisms: Vec<MechanismName>,
    /// Needed besides to make keys.
    pub mechanisms_for_making_keys: Vec<MechanismName>,
    /// Policy attributes this model has no notion of: neither sent nor compared.
    pub attributes_unknown: Vec<String>,
    /// Sizes.
    pub limits: Limits,
}

/// `[limits]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Octets of one draw of random.
    pub random_octets: usize,
    /// Octets of one encryption call.
    pub encrypt_octets: usize,
    /// Sessions that sign at once, at most.
    pub lanes: usize,
}

impl HsmProfile {
    /// The profile of SoftHSM, built in.
    pub fn softhsm() -> Result<Self, Fault> {
        Self::parse("softhsm", SOFTHSM)
    }

    /// The profile a site names for its first token.
    pub fn load(site: &Site) -> Result<Self, Fault> {
        Self::named(site, &site.config.hsm.profile)
    }

    /// A profile by name: `softhsm`, or the path of a file ending in `.toml`.
    pub fn named(site: &Site, name: &str) -> Result<Self, Fault> {
        match name {
            "softhsm" => Self::softhsm(),
            name if name.ends_with(".toml") => {
                let path = site.path(name);
                let text = std::fs::read_to_string(&path).map_err(|e| Fault::file(&path, &e))?;
                Self::parse(name, &text)
            }
            name => Err(Fault::new(Exit::Config, format!("bindery.toml: hsm.profile {name:?} is unknown"))
                .hint("`softhsm` is built in; for another model name a profile file ending in .toml")),
        }
    }

    fn parse(name: &str, text: &str) -> Result<Self, Fault> {
        let wrong = |what: String| Fault::new(Exit::Config, format!("HSM profile {name}: {what}"));
        let profile: Self = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if profile.schema != SCHEMA {
            return Err(wrong(format!("schema {:?} is not {SCHEMA:?}", profile.schema)));
        }
        let Limits { random_octets, encrypt_octets, lanes } = profile.limits;
        if random_octets < 64 || encrypt_octets < 16 || lanes == 0 {
            return Err(wrong("limits: random_octets below 64, encrypt_octets below 16 or no lanes".into()));
        }
        if let Some(name) = profile.attributes_unknown.iter().find(|name| !MAY_BE_UNKNOWN.contains(&name.as_str())) {
            return Err(wrong(format!("attributes_unknown: {name} is not optional, only {MAY_BE_UNKNOWN:?} are")));
        }
        Ok(profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_profile_parses_and_an_unknown_key_is_refused_by_name() {
        let profile = HsmProfile::softhsm().unwrap();
        assert!(profile.mechanisms.contains(&MechanismName::Ecdsa));
        let fault = HsmProfile::parse("x", &SOFTHSM.replacen("model", "modell", 1)).unwrap_err();
        assert_eq!(fault.exit, Exit::Config);
        assert!(fault.what.contains("modell"));
    }

    #[test]
    fn no_profile_waves_away_what_protects_a_key() {
        let with = |name: &str| {
            let list = format!("attributes_unknown = [\"{name}\"]");
            HsmProfile::parse("x", &SOFTHSM.replacen("attributes_unknown = []", &list, 1))
        };
        assert_eq!(with("CKA_COPYABLE").unwrap().attributes_unknown, ["CKA_COPYABLE"]);
        for name in ["CKA_EXTRACTABLE", "CKA_SENSITIVE", "CKA_MODIFIABLE", "CKA_DECRYPT", "CKA_NONSENSE"] {
            assert!(with(name).unwrap_err().what.contains(name));
        }
    }
}
