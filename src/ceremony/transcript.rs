//! The transcript: one JSON line for each step done, each with the hash of the line before, signed by the audit key at the end.
//!
//! It is also what a resumed ceremony believes: a step is done when its line is there. Never a secret; check values of transport
//! keys only.

use std::path::{Path, PathBuf};

use openssl::sha::sha256;
use serde::{Deserialize, Serialize};

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
        let lines = chained(&text).map_err(|what| {
            Fault::new(Exit::IntegrityFailure, format!("{}: {what}", path.display()))
                .hint("the transcript was changed: keep it as it is and find out by whom")
        })?;
        Ok(Self { path, text, lines })
    }

    /// The lines.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The octets that are signed.
    pub fn octets(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Appends one line; durable when this returns.
    pub fn append(&mut self, mut line: Line) -> Result<(), Fault> {
        line.previous_sha256 = hash(self.text.lines().last().unwrap_or_default());
        let text = serde_json::to_string(&line).map_err(|e| Fault::new(Exit::Bug, e.to_string()))?;
        let whole = format!("{}{text}\n", self.text);
        files::write_whole(&self.path, whole.as_bytes(), 0o640)?;
        self.text = whole;
        self.lines.push(line);
        Ok(())
    }
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
            ceremony: text(),
            plan_sha256: text(),
            hsm: std::array::from_fn(|_| text()),
            result: serde_json::Value::Null,
            previous_sha256: text(),
        }
    }

    #[test]
    fn a_transcript_grows_line_by_line_and_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut transcript = Transcript::open(dir.path()).unwrap();
        (1..=3).for_each(|step| transcript.append(line(step)).unwrap());
        let again = Transcript::open(dir.path()).unwrap();
        assert_eq!(again.lines(), transcript.lines());
        assert_eq!(again.octets(), transcript.octets());
    }

    #[test]
    fn a_line_changed_removed_or_moved_breaks_the_chain() {
        let dir = tempfile::tempdir().unwrap();
        let mut transcript = Transcript::open(dir.path()).unwrap();
        (1..=3).for_each(|step| transcript.append(line(step)).unwrap());
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
