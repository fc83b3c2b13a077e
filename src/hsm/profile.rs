//! What one HSM model needs beyond the standard: a file in `hsm-config/profiles/`, not code.

use std::path::PathBuf;

use serde::Deserialize;

use super::policy::MechanismName;
use crate::config::Site;
use crate::error::{Exit, Fault};

/// Schema word of a profile file.
pub const SCHEMA: &str = "bindery.hsm-profile/1";

/// Policy attributes that a model may lack without a key being weaker for it. The others no profile can wave away.
const MAY_BE_UNKNOWN: &[&str] =
    &["CKA_COPYABLE", "CKA_SIGN_RECOVER", "CKA_VERIFY_RECOVER", "CKA_ALLOWED_MECHANISMS", "CKA_UNWRAP_TEMPLATE"];

const SOFTHSM: &str = include_str!("../../hsm-config/profiles/softhsm.toml");

/// The profiles that are built in, by name.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("softhsm", SOFTHSM),
    ("kryoptic", include_str!("../../hsm-config/profiles/kryoptic.toml")),
    ("luna", include_str!("../../hsm-config/profiles/luna.toml")),
    ("nshield", include_str!("../../hsm-config/profiles/nshield.toml")),
    ("utimaco", include_str!("../../hsm-config/profiles/utimaco.toml")),
    ("cloudhsm", include_str!("../../hsm-config/profiles/cloudhsm.toml")),
    ("yubihsm", include_str!("../../hsm-config/profiles/yubihsm.toml")),
];

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
    /// What differs from model to model in calls that all of them have.
    #[serde(default)]
    pub forms: Forms,
    /// Values of this file that no public source tells: taken from the standard, to be asked of the maker.
    #[serde(default)]
    pub unknown: Vec<String>,
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
    /// Where a site does not say how many lanes it wants, and CPU threads work beside them: one for so many cores. A token that computes
    /// on these cores itself needs no more than a part of them.
    #[serde(default = "cores_a_lane")]
    pub cores_a_lane: usize,
    /// Sessions of the token altogether; 0: the token tells (ulMaxSessionCount) or has no bound.
    #[serde(default)]
    pub sessions: usize,
}

fn cores_a_lane() -> usize {
    1
}

/// Sessions that are no lane's: the anchor, which holds the login, and the one of the signature that ends a recovery.
const OTHER_SESSIONS: usize = 2;

impl Limits {
    /// Lanes that the profile and the token, if it told a number of sessions, leave room for.
    pub fn most_lanes(&self, granted: Option<usize>) -> usize {
        let told = Some(self.sessions).filter(|sessions| *sessions != 0);
        let sessions = [told, granted].into_iter().flatten().min();
        sessions.map_or(self.lanes, |sessions| self.lanes.min(sessions.saturating_sub(OTHER_SESSIONS).max(1)))
    }
}

/// `[forms]`: all have the standard's form as default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Forms {
    /// CKA_EC_POINT as the token answers. Both are taken; what is said here is for people.
    pub ec_point: EcPointForm,
    /// Who makes the IV of AES-GCM.
    pub gcm_iv: GcmIv,
    /// Digest of RSA-OAEP, also of its MGF1.
    pub oaep_digest: OaepDigest,
    /// CKA_VALUE_LEN goes into the template of C_UnwrapKey; the standard forbids it, some models demand it.
    pub unwrap_wants_length: bool,
    /// Number of the mechanism that pads (RFC 5649), where there is one: 0x210A or 0x210B. Bindery wraps with CKM_AES_KEY_WRAP.
    pub key_wrap_pad_number: Option<u64>,
}

/// Form of CKA_EC_POINT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EcPointForm {
    /// A DER OCTET STRING around the point: the standard.
    #[default]
    Der,
    /// The bare point.
    Raw,
}

/// Origin of the IV of AES-GCM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GcmIv {
    /// Random of ours, from two sources.
    #[default]
    Ours,
    /// The token writes its own over twelve zeros.
    Token,
}

/// Digest of RSA-OAEP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OaepDigest {
    /// SHA-1: all that SoftHSM has. OAEP does not rest on its collision resistance.
    Sha1,
    /// SHA-256.
    #[default]
    Sha256,
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

    /// A profile by name: a built-in one, or the path of a file ending in `.toml`.
    pub fn named(site: &Site, name: &str) -> Result<Self, Fault> {
        if let Some((_, text)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
            return Self::parse(name, text);
        }
        if name.ends_with(".toml") {
            let path = site.path(name);
            let text = std::fs::read_to_string(&path).map_err(|e| Fault::file(&path, &e))?;
            return Self::parse(name, &text);
        }
        let known: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        Err(Fault::new(Exit::Config, format!("bindery.toml: hsm.profile {name:?} is unknown"))
            .hint(format!("built in are {}; for another model name a profile file ending in .toml", known.join(", "))))
    }

    fn parse(name: &str, text: &str) -> Result<Self, Fault> {
        let wrong = |what: String| Fault::new(Exit::Config, format!("HSM profile {name}: {what}"));
        let profile: Self = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if profile.schema != SCHEMA {
            return Err(wrong(format!("schema {:?} is not {SCHEMA:?}", profile.schema)));
        }
        let Limits { random_octets, encrypt_octets, lanes, cores_a_lane, sessions } = profile.limits;
        if random_octets < 64 || encrypt_octets < 16 || lanes == 0 || cores_a_lane == 0 {
            let what = "limits: random_octets below 64, encrypt_octets below 16, no lanes or no cores_a_lane";
            return Err(wrong(what.into()));
        }
        if (1..=OTHER_SESSIONS).contains(&sessions) {
            return Err(wrong(format!(
                "limits: {sessions} sessions are too few: {OTHER_SESSIONS} besides those of the lanes"
            )));
        }
        if let Some(name) = profile.attributes_unknown.iter().find(|name| !MAY_BE_UNKNOWN.contains(&name.as_str())) {
            return Err(wrong(format!("attributes_unknown: {name} is not optional, only {MAY_BE_UNKNOWN:?} are")));
        }
        if profile.forms.key_wrap_pad_number.is_some_and(|number| !matches!(number, 0x210A | 0x210B)) {
            return Err(wrong("forms.key_wrap_pad_number is 0x210A or 0x210B".into()));
        }
        let whole: toml::Table = text.parse().map_err(|e: toml::de::Error| wrong(e.to_string()))?;
        if let Some(key) = profile.unknown.iter().find(|key| !is_in(&whole, key)) {
            return Err(wrong(format!("unknown: there is no value {key:?} in this file")));
        }
        Ok(profile)
    }
}

/// Whether a dotted key stands in the file.
fn is_in(table: &toml::Table, dotted: &str) -> bool {
    match dotted.split_once('.') {
        None => table.contains_key(dotted),
        Some((head, rest)) => table.get(head).and_then(toml::Value::as_table).is_some_and(|inner| is_in(inner, rest)),
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
    fn every_built_in_profile_loads_and_says_what_it_needs_to_make_keys() {
        for (name, text) in BUILT_IN {
            let profile = HsmProfile::parse(name, text).unwrap();
            assert!(profile.mechanisms.contains(&MechanismName::Ecdsa), "{name}");
            assert!(profile.mechanisms_for_making_keys.contains(&MechanismName::EcKeyPairGen), "{name}");
        }
        let in_directory: Vec<_> = std::fs::read_dir("hsm-config/profiles").unwrap().collect();
        assert_eq!(in_directory.len(), BUILT_IN.len());
    }

    #[test]
    fn an_unknown_value_must_be_one_of_the_file_and_a_wrap_number_one_of_two() {
        let with = |line: &str| HsmProfile::parse("x", &SOFTHSM.replacen("model =", &format!("{line}\nmodel ="), 1));
        assert!(with("unknown = [\"limits.lanes\"]").is_ok());
        assert!(with("unknown = [\"limits.lines\"]").unwrap_err().what.contains("limits.lines"));
        let lanes = SOFTHSM.replacen("cores_a_lane = 2", "cores_a_lane = 0", 1);
        assert!(HsmProfile::parse("x", &lanes).unwrap_err().what.contains("no cores_a_lane"));
        let number = SOFTHSM.replacen("0x210A", "0x210C", 1);
        assert!(HsmProfile::parse("x", &number).unwrap_err().what.contains("key_wrap_pad_number"));
    }

    #[test]
    fn lanes_leave_room_for_the_sessions_that_are_no_lanes() {
        let limits =
            |lanes, sessions| Limits { random_octets: 64, encrypt_octets: 16, lanes, cores_a_lane: 1, sessions };
        assert_eq!(limits(16, 0).most_lanes(None), 16);
        assert_eq!(limits(16, 10).most_lanes(None), 8);
        assert_eq!(limits(16, 10).most_lanes(Some(6)), 4, "the token's own bound is tighter");
        assert_eq!(limits(16, 10).most_lanes(Some(600)), 8, "the profile's is");
        assert_eq!(limits(4, 10).most_lanes(Some(600)), 4);
        assert_eq!(limits(16, 0).most_lanes(Some(1)), 1, "a token that tells so little is asked for one all the same");
        let with = |sessions: &str| SOFTHSM.replacen("[limits]", &format!("[limits]\nsessions = {sessions}"), 1);
        assert!(HsmProfile::parse("x", &with("2")).unwrap_err().what.contains("too few"));
        assert_eq!(HsmProfile::parse("x", &with("3")).unwrap().limits.most_lanes(None), 1);
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
