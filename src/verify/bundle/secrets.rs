//! `secrets.jsonl` of a test fleet: private one-time keys. Only the places of the lines are kept; a key is read when its package
//! is opened, and wiped with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use openssl::pkey::PKey;
use serde::Deserialize;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use super::lines::{self, Lines, Place};
use super::lookup::Lookup;
use super::record::point;
use super::unique::{Print, Salt};
use crate::error::{Exit, Fault};
use crate::ids::Eid;
use crate::verify::Euicc;

/// Where the secret of each record stands.
pub(super) struct Secrets {
    file: File,
    places: Vec<Option<Place>>,
}

#[derive(Deserialize)]
struct Line {
    eid: String,
    euicc_otpk: String,
    euicc_otsk: String,
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}

impl Secrets {
    /// Reads the file once. `wanted`: fingerprints of EID and one-time key of the records to be opened, with the record's index.
    pub(super) fn index(path: &Path, salt: &Salt, wanted: &Lookup, records: usize) -> Result<Self, Fault> {
        let hint = "it is the secrets.jsonl that `bindery fleet make` wrote beside the key file";
        let unreadable = |e: &std::io::Error| Fault::file(path, e).hint(hint);
        let file = File::open(path).map_err(|e| unreadable(&e))?;
        let mut lines = Lines::open(path).map_err(|e| unreadable(&e))?;
        let mut places = vec![None; records];
        let mut number = 0;
        while let Some((place, line)) = lines.next_line().map_err(|e| unreadable(&e))? {
            number += 1;
            let wrong =
                |what: &str| Fault::new(Exit::Config, format!("{}: line {number}: {what}", path.display())).hint(hint);
            let line = Line::parse(line).map_err(|what| wrong(&what))?;
            let (eid, otpk) = line.identity().map_err(|what| wrong(&what))?;
            if let Some(record) = wanted.find(key_print(salt, &eid, &otpk)) {
                places[record as usize] = Some(place);
            }
        }
        Ok(Self { file, places })
    }

    /// The software eUICC of a record.
    pub(super) fn euicc(&self, record: usize) -> Result<Euicc, String> {
        let Some(Some(place)) = self.places.get(record) else {
            return Err("secrets.jsonl has no key for this EID and one-time key".into());
        };
        let line =
            lines::read_at(&self.file, place.offset, place.len as usize).map_err(|e| format!("secrets.jsonl: {e}"))?;
        let line = Line::parse(&line)?;
        let (eid, otpk) = line.identity()?;
        let pem = Zeroizing::new(line.euicc_otsk);
        let otsk = PKey::private_key_from_pem(pem.as_bytes()).map_err(|_| "euicc_otsk is not a PEM private key")?;
        Euicc::new(eid, otsk, otpk)
    }
}

impl Line {
    /// The text of a JSON fault could quote the key, so only its place is told.
    fn parse(line: &[u8]) -> Result<Self, String> {
        let parsed: Self = serde_json::from_slice(line)
            .map_err(|e| format!("is not {{eid, euicc_otpk, euicc_otsk}} (column {})", e.column()))?;
        match parsed.others.keys().find(|name| !name.starts_with("x_")) {
            Some(name) => Err(format!("unknown member {name:?}")),
            None => Ok(parsed),
        }
    }

    fn identity(&self) -> Result<(Eid, [u8; 65]), String> {
        let eid = self.eid.parse().map_err(|e| format!("eid {e}"))?;
        Ok((eid, point(&self.euicc_otpk).ok_or("euicc_otpk is not base64 of 65 octets")?))
    }
}

/// Fingerprint by which a record and its secret find each other.
pub(super) fn key_print(salt: &Salt, eid: &Eid, otpk: &[u8; 65]) -> Print {
    salt.print(&[b"secret", eid.packed(), otpk])
}
