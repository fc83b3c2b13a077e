//! The plan of a ceremony: what is done, in which order, by whom. Its SHA-256 is what custodians approve.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use openssl::sha::sha256;
use serde::Deserialize;

use super::kcv::KcvMethod;
use crate::config::CheckValue;
use crate::error::{Exit, Fault};
use crate::hsm::Role;

/// Schema word of a plan.
pub const SCHEMA: &str = "bindery.ceremony-plan/1";

/// A plan, read and checked.
#[derive(Debug)]
pub struct Plan {
    /// What it says.
    pub script: Script,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// Files it names are relative to this directory.
    pub directory: PathBuf,
}

/// The text of a plan.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    schema: String,
    /// For people.
    pub title: String,
    /// Who types; never one of the approving custodians.
    pub operator: String,
    /// Step 1, 2, ...
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
}

/// One step. `epoch` is 1 unless said.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs)] // fields are the words of the file, described in docs/keys.md
pub enum Step {
    /// Make a key in the token.
    Generate {
        role: Role,
        #[serde(default = "first")]
        epoch: u32,
    },
    /// Take one custodian's component in.
    Component {
        role: Role,
        #[serde(default = "first")]
        epoch: u32,
        number: u8,
        of: u8,
        custodian: String,
        kcv: CheckValue,
        kcv_method: KcvMethod,
    },
    /// Make the key of its components.
    Combine {
        role: Role,
        #[serde(default = "first")]
        epoch: u32,
        kcv: CheckValue,
        kcv_method: KcvMethod,
    },
    /// Unwrap a key that an operator wrapped under one of our import keys.
    Unwrap {
        role: Role,
        #[serde(default = "first")]
        epoch: u32,
        under: Role,
        #[serde(default)]
        under_epoch: Option<u32>,
        file: PathBuf,
        wrapped_sha256: FileHash,
        kcv: CheckValue,
        kcv_method: KcvMethod,
    },
    /// Write a certificate request, signed in the token.
    Request {
        role: Role,
        #[serde(default = "first")]
        epoch: u32,
        #[serde(default)]
        common_name: Option<String>,
        #[serde(default)]
        organization: Option<String>,
        #[serde(default)]
        oid: Option<String>,
    },
    /// Check and install a certificate chain; a pending epoch becomes the active one.
    Certificate {
        role: Role,
        #[serde(default = "first")]
        epoch: u32,
        files: Vec<PathBuf>,
        #[serde(default)]
        files_sha256: Vec<FileHash>,
    },
    /// Make a pending epoch without certificate the active one.
    Activate {
        role: Role,
        #[serde(default = "first")]
        epoch: u32,
    },
    /// Use a drained epoch no more.
    Retire { role: Role, epoch: u32 },
    /// Destroy a retired epoch's key.
    Destroy { role: Role, epoch: u32 },
}

fn first() -> u32 {
    1
}

/// SHA-256 of a file that a plan names, lower-case hex: what is approved is this content, not whatever lies under the name later.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FileHash(String);

impl FileHash {
    /// Of these octets.
    pub fn of(octets: &[u8]) -> Self {
        Self(data_encoding::HEXLOWER.encode(&sha256(octets)))
    }

    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Refuses a file whose content is not the approved one. `octets` are those that are worked with afterwards.
    pub fn check(&self, path: &Path, octets: &[u8]) -> Result<(), Fault> {
        if *self == Self::of(octets) {
            return Ok(());
        }
        let what = format!("{}: its SHA-256 is not the one in the approved plan", path.display());
        Err(Fault::new(Exit::IntegrityFailure, what)
            .hint("the file was exchanged after the plan was written: bring the approved one back, or have a new plan approved"))
    }
}

impl TryFrom<String> for FileHash {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let is_hex = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_hex { Ok(Self(text)) } else { Err(format!("{text:?} is no SHA-256 of 64 lower-case hex digits")) }
    }
}

impl Step {
    /// The word in the plan.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Generate { .. } => "generate",
            Self::Component { .. } => "component",
            Self::Combine { .. } => "combine",
            Self::Unwrap { .. } => "unwrap",
            Self::Request { .. } => "request",
            Self::Certificate { .. } => "certificate",
            Self::Activate { .. } => "activate",
            Self::Retire { .. } => "retire",
            Self::Destroy { .. } => "destroy",
        }
    }

    /// The key it is about.
    pub fn key(&self) -> (&Role, u32) {
        match self {
            Self::Generate { role, epoch }
            | Self::Component { role, epoch, .. }
            | Self::Combine { role, epoch, .. }
            | Self::Unwrap { role, epoch, .. }
            | Self::Request { role, epoch, .. }
            | Self::Certificate { role, epoch, .. }
            | Self::Activate { role, epoch }
            | Self::Retire { role, epoch }
            | Self::Destroy { role, epoch } => (role, *epoch),
        }
    }

    /// For people: `combine transport:op1 epoch 2`.
    pub fn title(&self) -> String {
        let (role, epoch) = self.key();
        match self {
            Self::Component { number, of, custodian, .. } => {
                format!("component {number} of {of} of {role} epoch {epoch}, by {custodian}")
            }
            _ => format!("{} {role} epoch {epoch}", self.word()),
        }
    }
}

impl Plan {
    /// Reads a plan file.
    pub fn load(path: &Path) -> Result<Self, Fault> {
        let octets = std::fs::read(path).map_err(|e| Fault::file(path, &e))?;
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        let named = |what: String| Fault::new(Exit::Config, format!("{}: {what}", path.display()));
        let text = std::str::from_utf8(&octets).map_err(|e| named(e.to_string()))?;
        let script = Script::parse(text).map_err(|what| named(what).hint("docs/keys.md describes a plan"))?;
        Ok(Self { script, sha256: data_encoding::HEXLOWER.encode(&sha256(&octets)), directory })
    }
}

impl Script {
    fn parse(text: &str) -> Result<Self, String> {
        let script: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        if script.schema != SCHEMA {
            return Err(format!("schema {:?} is not {SCHEMA:?}", script.schema));
        }
        if script.steps.is_empty() {
            return Err("the plan has no step".into());
        }
        for (at, step) in script.steps.iter().enumerate() {
            script.check(at, step).map_err(|what| format!("step {}: {what}", at + 1))?;
        }
        Ok(script)
    }

    fn check(&self, at: usize, step: &Step) -> Result<(), String> {
        match step {
            Step::Component { number, of, custodian, .. } => {
                if !(2..=3).contains(of) || !(1..=*of).contains(number) {
                    return Err("a key has 2 or 3 components, counted from 1".into());
                }
                if *custodian == self.operator {
                    return Err("the operator holds no component".into());
                }
                let combines = |other: &Step| matches!(other, Step::Combine { .. }) && other.key() == step.key();
                if self.steps[..at].iter().any(combines) {
                    return Err("the component comes after its key was combined".into());
                }
            }
            Step::Combine { role, epoch, .. } => self.check_components(at, role, *epoch)?,
            Step::Certificate { files, files_sha256, .. }
                if !files_sha256.is_empty() && files_sha256.len() != files.len() =>
            {
                return Err("files_sha256 names another number of files than files".into());
            }
            Step::Unwrap { under, .. } if !matches!(under, Role::Import(_)) => {
                return Err(format!("{under} is no import key"));
            }
            Step::Request { role, .. } | Step::Certificate { role, .. }
                if !matches!(role, Role::DpAuth(_) | Role::DpPb(_) | Role::Manifest) =>
            {
                return Err(format!("{role} carries no certificate"));
            }
            _ => {}
        }
        match step {
            Step::Component { role, .. } | Step::Combine { role, .. } | Step::Unwrap { role, .. }
                if !matches!(role, Role::Transport(_) | Role::Operator(_) | Role::Import(_)) =>
            {
                Err(format!("{role} is made in the token, never brought in"))
            }
            _ => Ok(()),
        }
    }

    /// Every component once, each by another custodian, all before they are combined.
    fn check_components(&self, at: usize, role: &Role, epoch: u32) -> Result<(), String> {
        let (mut numbers, mut custodians, mut parts) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut count = 0;
        for step in &self.steps[..at] {
            if let Step::Component { number, of, custodian, .. } = step
                && step.key() == (role, epoch)
            {
                count += 1;
                numbers.insert(*number);
                parts.insert(*of);
                custodians.insert(custodian.as_str());
            }
        }
        let of = parts.first().copied().map_or(0, usize::from);
        if parts.len() != 1 || numbers.len() != of || count != of {
            return Err(format!("the components of {role} epoch {epoch} are not all there before it, each once"));
        }
        if custodians.len() != of {
            return Err(format!("two components of {role} epoch {epoch} have one custodian"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(number: u8, custodian: &str) -> String {
        format!(
            "[[step]]\ndo = \"component\"\nrole = \"transport:op\"\nnumber = {number}\nof = 2\ncustodian = \"{custodian}\"\n\
             kcv = \"a1b2c3\"\nkcv_method = \"aes-cmac-zeros\"\n"
        )
    }

    const COMBINE: &str =
        "[[step]]\ndo = \"combine\"\nrole = \"transport:op\"\nkcv = \"a1b2c3\"\nkcv_method = \"aes-ecb-zeros\"\n";

    fn parse(steps: &str) -> Result<Script, String> {
        Script::parse(&format!("schema = \"{SCHEMA}\"\ntitle = \"t\"\noperator = \"olga\"\n{steps}"))
    }

    #[test]
    fn components_come_once_each_from_different_hands_before_they_are_combined() {
        let [a, b] = [component(1, "anna"), component(2, "berta")];
        assert_eq!(parse(&[&a, &b, COMBINE].concat()).unwrap().steps.len(), 3);
        for (steps, why) in [
            ([&a, COMBINE, &b].concat(), "not all there"),
            ([&a, &a, COMBINE].concat(), "not all there"),
            ([&a, &b, &b, COMBINE].concat(), "not all there"),
            ([&a, &component(2, "anna"), COMBINE].concat(), "one custodian"),
            ([&a, &component(2, "olga"), COMBINE].concat(), "operator"),
            ([&a, &component(3, "berta"), COMBINE].concat(), "counted from 1"),
            ([&a, &b, COMBINE, &component(1, "carla")].concat(), "after its key was combined"),
        ] {
            assert!(parse(&steps).unwrap_err().contains(why), "{steps}");
        }
    }

    #[test]
    fn what_a_plan_does_not_know_is_refused_by_name() {
        for (step, why) in [
            ("do = \"generate\"\nrole = \"dpxx\"", "dpxx"),
            ("do = \"generate\"\nrole = \"dpauth\"\nvalue = \"00\"", "value"),
            ("do = \"extract\"\nrole = \"dpauth\"", "extract"),
            ("do = \"request\"\nrole = \"site-kek\"", "no certificate"),
            ("do = \"retire\"\nrole = \"site-kek\"", "epoch"),
            (
                "do = \"unwrap\"\nrole = \"transport:a\"\nunder = \"site-kek\"\nfile = \"f\"\nwrapped_sha256 = \"HASH\"\nkcv = \"a1b2c3\"\nkcv_method = \"aes-ecb-zeros\"",
                "no import key",
            ),
            (
                "do = \"unwrap\"\nrole = \"transport:a\"\nunder = \"import:m\"\nfile = \"f\"\nkcv = \"a1b2c3\"\nkcv_method = \"aes-ecb-zeros\"",
                "wrapped_sha256",
            ),
            (
                "do = \"certificate\"\nrole = \"dppb\"\nfiles = [\"a\", \"b\"]\nfiles_sha256 = [\"HASH\"]",
                "another number",
            ),
            ("do = \"certificate\"\nrole = \"dppb\"\nfiles = [\"a\"]\nfiles_sha256 = [\"AB\"]", "no SHA-256"),
        ] {
            let step = step.replace("HASH", &"0a".repeat(32));
            assert!(parse(&format!("[[step]]\n{step}\n")).unwrap_err().contains(why), "{step}");
        }
        assert!(
            parse(&component(1, "anna").replace("transport:op", "site-kek")).unwrap_err().contains("never brought in")
        );
        assert!(parse("step = []\n").unwrap_err().contains("no step"));
    }
}
