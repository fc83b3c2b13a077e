//! A second person's approval: a JSON file and beside it its signature, `FILE.sig`, made by the custodian with
//! `openssl dgst -sha256 -sign KEY -out FILE.sig FILE`.
//!
//! In: the files, the custodians' public keys that the site lists. Out: who approved which steps, or exit 13 with what is missing.
//! Rule: it names one plan and one running of it, so that it is worth nothing for another; the operator never approves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey, Public};
use openssl::sha::sha256;
use openssl::sign::Verifier;
use openssl::x509::X509;
use serde::{Deserialize, Serialize};

use crate::config::{Site, files};
use crate::error::{Exit, Fault};

/// Schema word of an approval.
pub const SCHEMA: &str = "bindery.approval/1";

/// What a custodian signs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// [`SCHEMA`].
    pub schema: String,
    /// The running: 32 hex digits, drawn when the ceremony was begun.
    pub ceremony: String,
    /// The plan.
    pub plan_sha256: String,
    /// First and last step.
    pub steps: [usize; 2],
    /// Not before.
    pub not_before: Timestamp,
    /// Not after.
    pub not_after: Timestamp,
    /// Who signs, by the site's name for this person.
    pub custodian: String,
}

/// An approval whose signature verified.
#[derive(Clone, Debug)]
pub struct Approved {
    /// What it says.
    pub approval: Approval,
    /// SHA-256 of its file, lower-case hex, for the transcript.
    pub sha256: String,
    /// SHA-256 of its signature's file.
    pub signature_sha256: String,
    /// SHA-256 of the custodian's public key, SubjectPublicKeyInfo in DER.
    pub key_sha256: String,
    text: Vec<u8>,
    signature: Vec<u8>,
}

/// The custodians of a site with their public keys.
pub struct Custodians(BTreeMap<String, PKey<Public>>);

impl Custodians {
    /// `[ceremony] custodians` of the site: certificates or public keys, PEM, on any elliptic curve.
    pub fn load(site: &Site) -> Result<Self, Fault> {
        let mut keys = BTreeMap::new();
        for (name, file) in &site.config.ceremony.custodians {
            let path = site.path(file);
            let octets = std::fs::read(&path).map_err(|e| Fault::file(&path, &e))?;
            let key =
                X509::from_pem(&octets).and_then(|c| c.public_key()).or_else(|_| PKey::public_key_from_pem(&octets));
            let key = key.ok().filter(|key| key.id() == Id::EC).ok_or_else(|| {
                Fault::new(Exit::Config, format!("{}: holds no certificate or public key on a curve", path.display()))
                    .hint("openssl pkey -in KEY -pubout -out FILE writes it")
            })?;
            if keys.values().any(|other: &PKey<Public>| other.public_eq(&key)) {
                let what = format!("custodian {name:?} has the key of another custodian");
                return Err(Fault::new(Exit::Config, what).hint("every custodian holds a key of his own"));
            }
            keys.insert(name.clone(), key);
        }
        Ok(Self(keys))
    }

    /// Reads and verifies one approval. A file that is none, or a wrong signature, is exit 13: it approves nothing.
    pub fn verify(&self, file: &Path) -> Result<Approved, Fault> {
        let worthless = |what: String| {
            Fault::new(Exit::ApprovalMissing, format!("{}: {what}", file.display()))
                .hint("`bindery keys approval` writes the text; its signature stands beside it in FILE.sig")
        };
        let text = std::fs::read(file).map_err(|e| worthless(e.to_string()))?;
        let approval: Approval =
            serde_json::from_slice(&text).map_err(|e| worthless(format!("is no approval: {e}")))?;
        if approval.schema != SCHEMA {
            return Err(worthless(format!("schema {:?} is not {SCHEMA:?}", approval.schema)));
        }
        let Some(key) = self.0.get(&approval.custodian) else {
            return Err(worthless(format!("{:?} is no custodian of this site", approval.custodian)));
        };
        let signature_file = signature_of(file);
        let signature = std::fs::read(&signature_file).map_err(|e| worthless(format!("its signature: {e}")))?;
        let verified =
            Verifier::new(MessageDigest::sha256(), key).and_then(|mut v| v.verify_oneshot(&signature, &text));
        if !verified.unwrap_or(false) {
            return Err(worthless(format!("the signature is not {:?}'s", approval.custodian)));
        }
        let hex = |octets: &[u8]| data_encoding::HEXLOWER.encode(&sha256(octets));
        let key = key.public_key_to_der().map_err(|e| Fault::new(Exit::Bug, format!("OpenSSL: {e}")))?;
        let hashes = (hex(&text), hex(&signature), hex(&key));
        Ok(Approved { approval, sha256: hashes.0, signature_sha256: hashes.1, key_sha256: hashes.2, text, signature })
    }

    /// Names of those who can approve what this operator does, for messages.
    pub fn names_besides(&self, operator: &str) -> String {
        self.0.keys().filter(|name| *name != operator).cloned().collect::<Vec<_>>().join(", ")
    }
}

/// What an approval must fit.
pub struct Asked<'a> {
    /// The running.
    pub ceremony: &'a str,
    /// The plan.
    pub plan_sha256: &'a str,
    /// The step.
    pub step: usize,
    /// Who types.
    pub operator: &'a str,
    /// Whose step it is, when it is one custodian's.
    pub only: Option<&'a str>,
}

impl Approved {
    /// Copies text and signature into a ceremony's directory, as `approvals/HASH-HASH.json` and its `.sig`: later it is there to be
    /// verified, with the custodian's key and `openssl dgst`.
    pub fn keep_in(&self, dir: &Path) -> Result<(), Fault> {
        let dir = dir.join("approvals");
        files::make_directory(&dir, 0o750)?;
        let file = dir.join(format!("{}-{}.json", &self.sha256[..16], &self.signature_sha256[..16]));
        files::write_whole(&file, &self.text, 0o640)?;
        files::write_whole(&signature_of(&file), &self.signature, 0o640)
    }

    /// Why it does not carry this step now; `None` when it does.
    pub fn objection(&self, asked: &Asked<'_>, now: Timestamp) -> Option<String> {
        let Approval { ceremony, plan_sha256, steps, not_before, not_after, custodian, .. } = &self.approval;
        let by = |what: &str| Some(format!("{custodian}'s approval {what}"));
        if plan_sha256 != asked.plan_sha256 {
            return by("is of another plan");
        }
        if ceremony != asked.ceremony {
            return by("is of another running of this plan");
        }
        if !(steps[0]..=steps[1]).contains(&asked.step) {
            return Some(format!("{custodian}'s approval is of steps {} to {}", steps[0], steps[1]));
        }
        if now < *not_before || now > *not_after {
            return Some(format!("{custodian}'s approval holds from {not_before} to {not_after}"));
        }
        if custodian == asked.operator {
            return by("is the operator's own");
        }
        match asked.only {
            Some(only) if only != custodian => Some(format!("this step takes the approval of {only}")),
            _ => None,
        }
    }
}

fn signature_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approved() -> Approved {
        let approval = Approval {
            schema: SCHEMA.into(),
            ceremony: "c1".into(),
            plan_sha256: "p1".into(),
            steps: [2, 4],
            not_before: "2026-05-01T08:00:00Z".parse().unwrap(),
            not_after: "2026-05-01T18:00:00Z".parse().unwrap(),
            custodian: "anna".into(),
        };
        let [sha256, signature_sha256, key_sha256] = std::array::from_fn(|_| String::new());
        Approved { approval, sha256, signature_sha256, key_sha256, text: Vec::new(), signature: Vec::new() }
    }

    const ASKED: Asked<'_> = Asked { ceremony: "c1", plan_sha256: "p1", step: 3, operator: "olga", only: None };

    #[test]
    fn an_approval_carries_its_own_steps_plan_running_and_hours_only() {
        let noon = "2026-05-01T12:00:00Z".parse().unwrap();
        assert_eq!(approved().objection(&ASKED, noon), None);
        assert_eq!(approved().objection(&Asked { only: Some("anna"), ..ASKED }, noon), None);
        for (asked, why) in [
            (Asked { plan_sha256: "p2", ..ASKED }, "another plan"),
            (Asked { ceremony: "c2", ..ASKED }, "another running"),
            (Asked { step: 1, ..ASKED }, "steps 2 to 4"),
            (Asked { step: 5, ..ASKED }, "steps 2 to 4"),
            (Asked { operator: "anna", ..ASKED }, "operator"),
            (Asked { only: Some("berta"), ..ASKED }, "berta"),
        ] {
            assert!(approved().objection(&asked, noon).unwrap().contains(why), "{why}");
        }
        for time in ["2026-05-01T07:59:59Z", "2026-05-01T18:00:01Z"] {
            assert!(approved().objection(&ASKED, time.parse().unwrap()).unwrap().contains("holds from"));
        }
    }
}
