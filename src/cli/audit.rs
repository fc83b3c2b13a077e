//! `bindery audit verify|show`: is the log whole, and what does it say.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Voice;
use super::screen::{print_json, table};
use crate::audit::{Chain, Keys, Line, Verdict, files};
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::store::sqlite::Ledger;

/// Check and read the audit log
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Audit {
    /// Check every line, the ledger's heads and the signatures; name the first line that is wrong (exit 8)
    Verify {
        /// Believe only this public key of the audit role (PEM, kept apart from the site); may be given more than once
        #[arg(long = "key", value_name = "FILE")]
        keys: Vec<PathBuf>,
    },
    /// Print lines of the log; they are not checked
    Show {
        /// Only of this order: ORDER_ID, TENANT/ORDER_ID or TENANT/ORDER_ID@REV
        #[arg(long, value_name = "ID")]
        order: Option<String>,
        /// Only the last of them
        #[arg(long, value_name = "N", default_value_t = 50)]
        tail: usize,
    },
}

impl Audit {
    pub(crate) fn run(self, site_dir: &Path, voice: Voice) -> Result<Exit, Fault> {
        let site = Site::open(site_dir)?;
        let ledger = Ledger::open_to_look(&site.state_db())?;
        match self {
            Self::Verify { keys } => verify(&ledger, &keys, voice.json),
            Self::Show { order, tail } => show(&ledger, order.as_deref(), tail, voice.json),
        }
    }
}

fn verify(ledger: &Ledger, named: &[PathBuf], json: bool) -> Result<Exit, Fault> {
    let dir = ledger.audit_log().dir();
    let at_start = ledger.audit_head()?;
    let chain = Chain::read(dir).map_err(crate::store::StoreError::from)?;
    let verdict = chain.judge(&at_start, &ledger.audit_heads()?, &believed(dir, named)?);
    let Verdict { broken, warnings, signatures, signed, signed_by } = &verdict;
    let head = chain.head();
    if json {
        let broken = broken.as_ref().map(|b| json!({"file": b.file, "line": b.line, "seq": b.seq, "what": b.what}));
        print_json(&json!({
            "ok": broken.is_none(), "lines": chain.len(), "head": {"seq": head.seq, "sha256": head.hex()},
            "signatures": signatures, "signed_to": signed, "signed_by": signed_by, "warnings": warnings, "broken": broken,
        }))?;
    } else {
        say!("{} lines, head {} {}", chain.len(), head.seq, head.hex());
        say!("{signatures} signatures, signed to line {}", signed.unwrap_or(0));
        signed_by.iter().for_each(|key| say!("signed by key {key}"));
        warnings.iter().for_each(|warning| say!("warning: {warning}"));
    }
    let Some(broken) = broken else {
        if !json {
            say!("the log is whole");
        }
        return Ok(Exit::Done);
    };
    tell!("error: audit/{}, line {} (number {}): {}", broken.file, broken.line, broken.seq, broken.what);
    tell!(
        "  hint: keep audit/ and state.db as they are and compare them with a copy kept elsewhere; see docs/audit.md"
    );
    Ok(Exit::IntegrityFailure)
}

/// The keys named, or those that the site has signed with.
fn believed(dir: &Path, named: &[PathBuf]) -> Result<Keys, Fault> {
    let mut paths = named.to_vec();
    if named.is_empty()
        && let Ok(entries) = std::fs::read_dir(dir.join("keys"))
    {
        paths.extend(
            entries
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|e| e == "pem")),
        );
    }
    let mut keys = Keys::default();
    for path in &paths {
        let pem = std::fs::read(path).map_err(|e| Fault::file(path, &e))?;
        keys.add(&pem).map_err(|_| {
            Fault::new(Exit::Config, format!("{}: is no public key in PEM", path.display()))
                .hint("the site keeps them in audit/keys")
        })?;
    }
    Ok(keys)
}

fn show(ledger: &Ledger, order: Option<&str>, tail: usize, json: bool) -> Result<Exit, Fault> {
    let mut lines = std::collections::VecDeque::new();
    let dir = ledger.audit_log().dir();
    for path in files(dir).map_err(|e| Fault::file(dir, &e))? {
        let text = std::fs::read(&path).map_err(|e| Fault::file(&path, &e))?;
        for octets in text.split_inclusive(|octet| *octet == b'\n') {
            let Ok(line) = serde_json::from_slice::<Line>(octets) else { continue };
            if order.is_none_or(|name| is_of(&line, name)) {
                lines.push_back(line);
            }
            if lines.len() > tail {
                lines.pop_front();
            }
        }
    }
    if json {
        print_json(&json!({ "lines": lines }))?;
        return Ok(Exit::Done);
    }
    let mut shown = table(&["line", "at", "event", "who", "what"]);
    for line in &lines {
        let who = line.by.user.clone().unwrap_or_else(|| line.by.uid.to_string());
        shown.add_row([
            line.seq.to_string(),
            line.at.strftime("%F %TZ").to_string(),
            line.event.clone(),
            who,
            members(line),
        ]);
    }
    say!("{shown}");
    Ok(Exit::Done)
}

/// `TENANT/ORDER_ID@REV` as the line has it (without the first revision's `@1`), named in full or in part.
fn is_of(line: &Line, name: &str) -> bool {
    let Some(key) = line.data.get("order").and_then(Value::as_str) else { return false };
    let name = name.strip_suffix("@1").unwrap_or(name);
    key == name || key.split_once('/').is_some_and(|(_, leaf)| leaf == name)
}

/// The members in one cell; hashes and signatures by their first digits.
fn members(line: &Line) -> String {
    let short = |value: &Value| match value {
        Value::String(text) if text.len() >= 64 => {
            format!("{}..", text.lines().next().unwrap_or("").chars().take(12).collect::<String>())
        }
        Value::String(text) => text.clone(),
        Value::Object(counts) => {
            counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    line.data.iter().map(|(name, value)| format!("{name}={}", short(value))).collect::<Vec<_>>().join(" ")
}
