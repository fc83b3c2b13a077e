//! The transcript: one JSON line for each step done, each with the hash of the line before; the audit key signs it with every line.
//!
//! It is also what a resumed ceremony believes: a step is done when its line is there. So it is believed only with the audit key's
//! signature and line by line as the plan says, and one that is not is never signed again. Never a secret; check values of
//! transport keys only.

use std::path::{Path, PathBuf};

use openssl::ecdsa::EcdsaSig;
use openssl::sha::sha256;
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use crate::certs::point;
use crate::config::files;
use crate::error::{Exit, Fault};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Step of the plan, from 1.
    pub step: usize,
    /// What was done.
    #[serde(rename = "do")]
    pub word: String,
    /// Whose key.
    pub role: String,
    /// Which epoch.
    pub epoch: u32,
    /// When, RFC 3339.
    pub at: String,
    /// Who typed.
    pub operator: String,
    /// Who approved.
    pub approved_by: String,
    /// The approval's hash; none for an approver's own login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_sha256: Option<String>,
    /// Of its signature's file; both files are kept in `approvals/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_signature_sha256: Option<String>,
    /// Of the custodian's public key, SubjectPublicKeyInfo in DER: whose signature it was, whatever the site lists later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custodian_key_sha256: Option<String>,
    /// This running.
    pub ceremony: String,
    /// The plan.
    pub plan_sha256: String,
    /// Model, label, serial number and firmware of the token.
    pub hsm: [String; 4],
    /// What came of it: label, CKA_ID, public point, check value, files and their hashes.
    pub result: serde_json::Value,
    /// SHA-256 of the line before, without its line end; of nothing before the first.
    pub previous_sha256: String,
}

/// `transcript.jsonl` of a ceremony directory.
pub struct Transcript {
    path: PathBuf,
    text: String,
    lines: Vec<Line>,
}

impl Transcript {
    /// Reads what is there and checks the chain; a broken one is exit 8.
    pub fn open(dir: &Path) -> Result<Self, Fault> {
        let path = dir.join("transcript.jsonl");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Fault::file(&path, &e)),
        };
        let lines = chained(&text).map_err(|what| changed(&path, &what))?;
        Ok(Self { path, text, lines })
    }

    /// Whether each line is of the plan's step of its number, in this running; surplus and foreign lines are exit 8.
    pub fn follows(&self, plan: &Plan, ceremony: &str) -> Result<(), Fault> {
        for (at, line) in self.lines.iter().enumerate() {
            let number = at + 1;
            let Some(step) = plan.script.steps.get(at) else {
                return Err(changed(&self.path, &format!("line {number}: the plan has {at} steps")));
            };
            let (role, epoch) = step.key();
            let is_it = line.word == step.word() && line.role == role.to_string() && line.epoch == epoch;
            if !is_it || line.plan_sha256 != plan.sha256 || line.operator != plan.script.operator {
                return Err(changed(
                    &self.path,
                    &format!("line {number} is not of step {number} of the plan ({})", step.title()),
                ));
            }
            if line.ceremony != ceremony {
                let what = format!("{}: transcript and state are of different ceremonies", self.path.display());
                return Err(Fault::new(Exit::IntegrityFailure, what).hint("restore both from one backup"));
            }
        }
        Ok(())
    }

    /// Whether one of these audit keys signed the transcript as it is; nothing signs an empty one.
    pub fn verify(&self, audit_keys: &[[u8; 65]]) -> Result<(), Fault> {
        let [signature, next] = ["sig", "sig.next"].map(|tail| self.path.with_extension(tail));
        let fits = |file: &Path| {
            let signed = std::fs::read(file).ok().and_then(|der| EcdsaSig::from_der(&der).ok());
            let digest = sha256(self.octets());
            let by = |point: &[u8; 65], signed: &EcdsaSig| {
                point::public_key(point).and_then(|key| signed.verify(&digest, &key)).unwrap_or(false)
            };
            signed.is_some_and(|signed| audit_keys.iter().any(|point| by(point, &signed)))
        };
        if fits(&signature) || (self.lines.is_empty() && !signature.exists()) {
            return Ok(());
        }
        // Killed between the line and its signature's last name.
        if fits(&next) {
            return std::fs::rename(&next, &signature).map_err(|e| Fault::file(&signature, &e));
        }
        Err(changed(
            &self.path,
            "the audit key's signature (transcript.sig) is not of what stands there, or is missing",
        ))
    }

    /// The lines.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The octets that are signed.
    pub fn octets(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Appends one line; durable when this returns. `sign` makes the audit key's signature, DER, over the octets it is given.
    ///
    /// The signature is on the disk before the line is, under a name of its own: so there is never a line without one, and
    /// [`Self::verify`] finds the pair that belongs together wherever this was cut off.
    pub fn append(&mut self, mut line: Line, sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, Fault>) -> Result<(), Fault> {
        line.previous_sha256 = hash(self.text.lines().last().unwrap_or_default());
        let text = serde_json::to_string(&line).map_err(|e| Fault::new(Exit::Bug, e.to_string()))?;
        let whole = format!("{}{text}\n", self.text);
        let [signature, next] = ["sig", "sig.next"].map(|tail| self.path.with_extension(tail));
        files::write_whole(&next, &sign(whole.as_bytes())?, 0o644)?;
        files::write_whole(&self.path, whole.as_bytes(), 0o640)?;
        std::fs::rename(&next, &signature).map_err(|e| Fault::file(&signature, &e))?;
        self.text = whole;
        self.lines.push(line);
        Ok(())
    }
}

fn changed(path: &Path, what: &str) -> Fault {
    Fault::new(Exit::IntegrityFailure, format!("{}: {what}", path.display()))
        .hint("the transcript was changed: keep it as it is and find out by whom; it is not signed again")
}

fn chained(text: &str) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    let mut before = "";
    for (at, text) in text.lines().enumerate() {
        let line: Line = serde_json::from_str(text).map_err(|e| format!("line {}: {e}", at + 1))?;
        if line.step != at + 1 || line.previous_sha256 != hash(before) {
            return Err(format!("line {} does not follow the one before", at + 1));
        }
        before = text;
        lines.push(line);
    }
    Ok(lines)
}

fn hash(line: &str) -> String {
    data_encoding::HEXLOWER.encode(&sha256(line.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::ec::EcKey;
    use openssl::pkey::Private;

    fn line(step: usize) -> Line {
        let text = String::new;
        Line {
            step,
            word: "generate".into(),
            role: "audit".into(),
            epoch: 1,
            at: text(),
            operator: text(),
            approved_by: text(),
            approval_sha256: None,
            approval_signature_sha256: None,
            custodian_key_sha256: None,
            ceremony: text(),
            plan_sha256: text(),
            hsm: std::array::from_fn(|_| text()),
            result: serde_json::Value::Null,
            previous_sha256: text(),
        }
    }

    fn audit_key() -> (EcKey<Private>, [u8; 65]) {
        let key = EcKey::generate(crate::certs::Curve::P256.group().unwrap()).unwrap();
        let point = point::point_of(&key).unwrap();
        (key, point)
    }

    fn signed(key: &EcKey<Private>, octets: &[u8]) -> Result<Vec<u8>, Fault> {
        Ok(EcdsaSig::sign(&sha256(octets), key).unwrap().to_der().unwrap())
    }

    #[test]
    fn only_what_the_audit_key_signed_is_believed_and_a_cut_off_signature_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let ((key, point), (stranger, other)) = (audit_key(), audit_key());
        let at = |name: &str| dir.path().join(name);
        let mut transcript = Transcript::open(dir.path()).unwrap();
        transcript.verify(&[]).unwrap();
        transcript.append(line(1), |octets| signed(&key, octets)).unwrap();
        let verdict = |keys: &[[u8; 65]]| Transcript::open(dir.path()).unwrap().verify(keys);
        verdict(&[other, point]).unwrap();
        assert_eq!(verdict(&[other]).unwrap_err().exit, Exit::IntegrityFailure);
        let before = std::fs::read(at("transcript.sig")).unwrap();
        let text = std::fs::read(at("transcript.jsonl")).unwrap();
        transcript.append(line(2), |octets| signed(&key, octets)).unwrap();
        let last = std::fs::read(at("transcript.sig")).unwrap();
        // Killed before the signature got its name, and before the line was written.
        std::fs::write(at("transcript.sig"), &before).unwrap();
        verdict(&[point]).unwrap_err();
        std::fs::write(at("transcript.sig.next"), &last).unwrap();
        verdict(&[point]).unwrap();
        assert_eq!(std::fs::read(at("transcript.sig")).unwrap(), last);
        std::fs::write(at("transcript.sig"), &before).unwrap();
        std::fs::write(at("transcript.sig.next"), &last).unwrap();
        std::fs::write(at("transcript.jsonl"), &text).unwrap();
        verdict(&[point]).unwrap();
        // A line in the right chain that nobody signed, or a stranger did; no signature at all.
        let mut forged = Transcript::open(dir.path()).unwrap();
        forged.append(line(2), |octets| signed(&stranger, octets)).unwrap();
        verdict(&[point]).unwrap_err();
        std::fs::remove_file(at("transcript.sig")).unwrap();
        verdict(&[point]).unwrap_err();
    }

    #[test]
    fn a_line_of_another_step_plan_or_operator_or_one_too_many_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let steps =
            "[[step]]\ndo = \"generate\"\nrole = \"audit\"\n[[step]]\ndo = \"destroy\"\nrole = \"audit\"\nepoch = 2\n";
        let path = dir.path().join("plan.toml");
        std::fs::write(
            &path,
            format!("schema = \"bindery.ceremony-plan/1\"\ntitle = \"t\"\noperator = \"olga\"\n{steps}"),
        )
        .unwrap();
        let plan = Plan::load(&path).unwrap();
        let of = |step: usize, word: &str, epoch: u32| Line {
            word: word.into(),
            epoch,
            operator: "olga".into(),
            ceremony: "c".into(),
            plan_sha256: plan.sha256.clone(),
            ..line(step)
        };
        let good = [of(1, "generate", 1), of(2, "destroy", 2)];
        let follows = |lines: Vec<Line>| {
            Transcript { path: path.clone(), text: String::new(), lines }
                .follows(&plan, "c")
                .map_err(|fault| fault.exit)
        };
        assert_eq!(follows(good.to_vec()), Ok(()));
        for change in [
            |line: &mut Line| line.word = "generate".into(),
            |line: &mut Line| line.role = "manifest".into(),
            |line: &mut Line| line.epoch = 1,
            |line: &mut Line| line.operator = "mallory".into(),
            |line: &mut Line| line.plan_sha256 = "00".into(),
            |line: &mut Line| line.ceremony = "d".into(),
        ] {
            let mut lines = good.to_vec();
            change(&mut lines[1]);
            assert_eq!(follows(lines), Err(Exit::IntegrityFailure));
        }
        assert_eq!(follows([&good[..], &[of(3, "destroy", 2)]].concat()), Err(Exit::IntegrityFailure));
    }

    #[test]
    fn a_transcript_grows_line_by_line_and_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut transcript = Transcript::open(dir.path()).unwrap();
        let (key, _) = audit_key();
        (1..=3).for_each(|step| transcript.append(line(step), |octets| signed(&key, octets)).unwrap());
        let again = Transcript::open(dir.path()).unwrap();
        assert_eq!(again.lines(), transcript.lines());
        assert_eq!(again.octets(), transcript.octets());
    }

    #[test]
    fn a_line_changed_removed_or_moved_breaks_the_chain() {
        let dir = tempfile::tempdir().unwrap();
        let mut transcript = Transcript::open(dir.path()).unwrap();
        let (key, _) = audit_key();
        (1..=3).for_each(|step| transcript.append(line(step), |octets| signed(&key, octets)).unwrap());
        let text = String::from_utf8(transcript.octets().to_vec()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for broken in [
            text.replacen("generate", "destroy", 1),
            [lines[0], lines[2]].join("\n"),
            [lines[1], lines[0], lines[2]].join("\n"),
            lines[1..].join("\n"),
        ] {
            std::fs::write(dir.path().join("transcript.jsonl"), broken).unwrap();
            assert_eq!(Transcript::open(dir.path()).err().unwrap().exit, Exit::IntegrityFailure);
        }
    }
}
