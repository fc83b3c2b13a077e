//! Checks a whole log: the chain octet for octet, the ledger's heads, the signatures. Tells the first line that is wrong.
//!
//! In: the files, what the ledger committed, the public keys of the audit role. Out: a [`Verdict`]. A clock that went back is
//! reported, it proves nothing; so is an end that a crash left and nobody has written behind yet.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Public};
use openssl::sha::sha256;

use super::event::Word;
use super::line::{Head, Line};
use super::log::{files, first_seq, open};
use super::statement::Statement;
use super::{AuditError, tail};

/// Public keys by the SHA-256 of their SubjectPublicKeyInfo.
#[derive(Default)]
pub struct Keys(BTreeMap<String, PKey<Public>>);

impl Keys {
    /// Adds a key in PEM; gives its fingerprint.
    pub fn add(&mut self, pem: &[u8]) -> Result<String, ErrorStack> {
        let key = PKey::public_key_from_pem(pem)?;
        let fingerprint = HEXLOWER.encode(&sha256(&key.public_key_to_der()?));
        self.0.insert(fingerprint.clone(), key);
        Ok(fingerprint)
    }
}

/// The first line that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// File in the log's directory; empty where there is none.
    pub file: String,
    /// Line of that file, from 1.
    pub line: u64,
    /// Its number in the chain, or the one it should have.
    pub seq: u64,
    /// What is wrong.
    pub what: String,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The first line that is wrong.
    pub broken: Option<Broken>,
    /// What deserves a look and breaks nothing.
    pub warnings: Vec<String>,
    /// Signatures that are right.
    pub signatures: u64,
    /// The last head that is signed.
    pub signed: Option<u64>,
    /// Fingerprints of the keys that signed.
    pub signed_by: Vec<String>,
}

/// A log as it was read: every line's place, and the lines that say something about others.
pub struct Chain {
    /// Lines that are chained, in order.
    heads: Vec<[u8; 32]>,
    /// Files with their first line.
    files: Vec<(String, u64)>,
    voids: Vec<(u64, u64, u64)>,
    signed: Vec<Line>,
    /// The last lines, for those that the ledger may not know.
    recent: Vec<Line>,
    clock_back: Vec<(u64, u64)>,
    broken: Option<Broken>,
    torn_octets: usize,
}

/// How many lines at the end may be unknown to the ledger: one attempt's, and what failed before it.
const RECENT: usize = 64;

impl Chain {
    /// Reads all files; stops at the first line that does not follow the one before.
    pub fn read(dir: &Path) -> Result<Self, AuditError> {
        let failed = |path: &Path, source| AuditError::File { path: path.to_owned(), source };
        let mut chain = Self {
            heads: Vec::new(),
            files: Vec::new(),
            voids: Vec::new(),
            signed: Vec::new(),
            recent: Vec::new(),
            clock_back: Vec::new(),
            broken: None,
            torn_octets: 0,
        };
        let paths = files(dir).map_err(|e| failed(dir, e))?;
        for (at, path) in paths.iter().enumerate() {
            let is_newest = at + 1 == paths.len();
            let mut reader = BufReader::new(open(path).map_err(|e| failed(path, e))?);
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            chain.files.push((name, chain.head().seq + 1));
            if first_seq(path) != Some(chain.head().seq + 1) {
                chain.broken = Some(chain.place("begins with another line than the file before ended with"));
                return Ok(chain);
            }
            let mut octets = Vec::new();
            loop {
                octets.clear();
                if reader.read_until(b'\n', &mut octets).map_err(|e| failed(path, e))? == 0 {
                    break;
                }
                if !octets.ends_with(b"\n") && is_newest {
                    chain.torn_octets = octets.len();
                    break;
                }
                if let Err(what) = chain.take(&octets) {
                    chain.broken = Some(chain.place(&what));
                    return Ok(chain);
                }
            }
        }
        Ok(chain)
    }

    /// Lines in the chain.
    pub fn len(&self) -> u64 {
        self.heads.len() as u64
    }

    /// No line at all.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// The last line.
    pub fn head(&self) -> Head {
        self.heads.last().map_or(Head::NONE, |sha256| Head { seq: self.len(), sha256: *sha256 })
    }

    /// Holds the chain against the ledger and the keys. `at_start`: the ledger's head before the files were read; `committed`: its
    /// heads after that, so that lines written meanwhile are no surprise either way.
    pub fn judge(&self, at_start: &Head, committed: &[Head], keys: &Keys) -> Verdict {
        let mut verdict =
            Verdict { broken: None, warnings: Vec::new(), signatures: 0, signed: None, signed_by: Vec::new() };
        let found = [
            self.broken.clone(),
            self.ledger_objects(at_start, committed, &mut verdict),
            self.signatures(keys, &mut verdict),
        ];
        verdict.broken = found.into_iter().flatten().min_by_key(|broken| broken.seq);
        let clock = |(seq, ms): &(u64, u64)| format!("line {seq}: the clock went back by {:.3} s", *ms as f64 / 1e3);
        verdict.warnings.extend(self.clock_back.iter().map(clock));
        if self.torn_octets > 0 {
            let octets = self.torn_octets;
            verdict.warnings.push(format!(
                "a torn line of {octets} octets at the end, as a crash leaves it; the next line mends it"
            ));
        }
        match verdict.signed {
            None if self.is_empty() => {}
            None => verdict.warnings.push("no head is signed yet; the next run signs".to_owned()),
            // The line of the signature is behind what it signs.
            Some(seq) if self.len() > seq + 1 => {
                let unsigned = self.len() - seq;
                verdict.warnings.push(format!("the last {unsigned} lines are not signed yet; the next run signs"));
            }
            Some(_) => {}
        }
        verdict
    }

    /// The next line, if it follows.
    fn take(&mut self, octets: &[u8]) -> Result<(), String> {
        let head = self.head();
        let line = Line::parse(octets)?;
        if line.seq != head.seq + 1 {
            return Err(format!("has number {} where {} was to follow", line.seq, head.seq + 1));
        }
        if line.prev != head.hex() {
            return Err(
                "does not follow: `prev` is not the SHA-256 of the line before; one of the two was changed".to_owned()
            );
        }
        if let Some(back_ms) = line.clock_back_ms {
            self.clock_back.push((line.seq, back_ms));
        }
        if line.event == Word::Void.as_str()
            && let (Some(from), Some(to)) = (line.number("from"), line.number("to"))
        {
            self.voids.push((line.seq, from, to));
        }
        self.heads.push(sha256(octets));
        if line.event == Word::HeadSigned.as_str() {
            self.signed.push(line.clone());
        }
        if self.recent.len() == 2 * RECENT {
            self.recent.drain(..RECENT);
        }
        self.recent.push(line);
        Ok(())
    }

    fn ledger_objects(&self, at_start: &Head, committed: &[Head], verdict: &mut Verdict) -> Option<Broken> {
        let last = committed.last().map_or(0, |head| head.seq);
        let known: BTreeMap<u64, &[u8; 32]> = committed.iter().map(|head| (head.seq, &head.sha256)).collect();
        let is_void =
            |seq: u64| self.voids.iter().any(|(by, from, to)| known.contains_key(by) && (from..=to).contains(&&seq));
        for (seq, sha256) in (1..).zip(&self.heads).take_while(|(seq, _)| *seq <= last) {
            let what = match (known.get(&seq), is_void(seq)) {
                (Some(ledger), _) if *ledger != sha256 => "is not the line that the ledger committed",
                (Some(_), true) => "was committed and is declared void",
                (None, false) => "was never committed and is not declared void",
                _ => continue,
            };
            return Some(self.place_of(seq, what));
        }
        if self.len() < at_start.seq.min(last) && self.broken.is_none() {
            let what = format!("is missing: the ledger knows {} lines", at_start.seq);
            return Some(self.place_of(self.len() + 1, &what));
        }
        let unknown = self.len().saturating_sub(last);
        let Some(first) = self.recent.len().checked_sub(unknown as usize) else {
            return Some(
                self.place_of(
                    last + 1,
                    "and those behind it were committed, but not in this ledger: it is an older one",
                ),
            );
        };
        let beyond = &self.recent[first..];
        if let Some(seq) = tail::committed(beyond, &Head { seq: last, ..Head::NONE }) {
            return Some(self.place_of(seq, "was committed, but not in this ledger: it is an older one"));
        }
        if !beyond.is_empty() {
            let from = last + 1;
            verdict.warnings.push(format!(
                "from line {from} on nothing is committed, as a crash leaves it; the next line declares it void"
            ));
        }
        None
    }

    fn signatures(&self, keys: &Keys, verdict: &mut Verdict) -> Option<Broken> {
        for line in &self.signed {
            let fingerprint = line.text("key_sha256").unwrap_or_default();
            let checked = || -> Result<u64, String> {
                let text = line.text("statement").ok_or("has no statement")?;
                let Statement { head, .. } = text.parse()?;
                let signature = line.text("signature").and_then(|text| BASE64.decode(text.as_bytes()).ok());
                let signature = signature.ok_or("has no signature")?;
                let key = keys
                    .0
                    .get(fingerprint)
                    .ok_or_else(|| format!("is signed by a key that is not believed: {fingerprint}"))?;
                let fits =
                    key.ec_key().and_then(|key| EcdsaSig::from_der(&signature)?.verify(&sha256(text.as_bytes()), &key));
                if !fits.unwrap_or(false) {
                    return Err("its signature is wrong".to_owned());
                }
                let signed = head.seq.checked_sub(1).and_then(|at| self.heads.get(at as usize));
                match signed {
                    Some(sha256) if *sha256 == head.sha256 && head.seq < line.seq => Ok(head.seq),
                    _ => Err(format!("signs another line {} than the one that is there", head.seq)),
                }
            };
            match checked() {
                Err(what) => return Some(self.place_of(line.seq, &what)),
                Ok(seq) => {
                    verdict.signatures += 1;
                    verdict.signed = verdict.signed.max(Some(seq));
                    if !verdict.signed_by.iter().any(|known| known == fingerprint) {
                        verdict.signed_by.push(fingerprint.to_owned());
                    }
                }
            }
        }
        None
    }

    /// The line that would come next.
    fn place(&self, what: &str) -> Broken {
        self.place_of(self.len() + 1, what)
    }

    fn place_of(&self, seq: u64, what: &str) -> Broken {
        let file = self.files.iter().rev().find(|(_, first)| *first <= seq);
        let (file, line) = file.map_or((String::new(), seq), |(name, first)| (name.clone(), seq - first + 1));
        Broken { file, line, seq, what: what.to_owned() }
    }
}
