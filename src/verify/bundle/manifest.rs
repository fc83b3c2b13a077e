//! `manifest.json` and `manifest.sig`: who vouches for the bundle, and that every file is the one vouched for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use data_encoding::HEXLOWER;
use openssl::hash::MessageDigest;
use openssl::sha::Sha256;
use openssl::sign::Verifier;
use openssl::x509::X509;
use serde::Deserialize;

use crate::verify::finding::{Check, Finding, Findings};

const MANIFEST: &str = "manifest.json";
const SIGNATURE: &str = "manifest.sig";
const CERTIFICATE: &str = "certs/manifest.pem";

/// Files that every bundle has, whatever was ordered.
const ALWAYS: &[&str] =
    &["ack.json", "orders.jsonl", "results.csv", "recon.json", "activation-codes.csv", "core.csv", CERTIFICATE];

/// `counts` of the manifest; `recon.json` repeats them.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) rows: u64,
    pub(super) issued: u64,
    pub(super) refused: u64,
    pub(super) held: u64,
    pub(super) cancelled: u64,
}

impl Counts {
    fn add_up(&self) -> bool {
        [self.issued, self.refused, self.held, self.cancelled].iter().try_fold(0_u64, |sum, n| sum.checked_add(*n))
            == Some(self.rows)
    }
}

#[derive(Deserialize)]
struct Manifest {
    files: BTreeMap<String, Listed>,
    counts: Counts,
    #[serde(flatten)]
    order: NamedOrder,
}

/// Which order the bundle says it answers.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) struct NamedOrder {
    pub(super) tenant: Option<String>,
    pub(super) order_id: Option<String>,
    pub(super) rev: Option<u64>,
    pub(super) order_sha256: Option<String>,
    /// A bundle of rows that were held back or made again: it answers some of the order's rows.
    pub(super) part: Option<u32>,
    /// Made again, perhaps for other eUICCs than were ordered.
    pub(super) remake: Option<u32>,
    /// Of a remake: new profiles under other numbers than were ordered are among them.
    #[serde(default)]
    pub(super) renumbered: bool,
}

/// What the other checks need of the manifest, and the files that are really there.
#[derive(Default)]
pub(super) struct Vouched {
    pub(super) counts: Option<Counts>,
    pub(super) order: NamedOrder,
    pub(super) there: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Listed {
    sha256: String,
    bytes: u64,
}

/// Judges manifest, signature and files.
pub(super) fn read(dir: &Path, site_certificates: &[X509], findings: &mut Findings) -> Vouched {
    let mut there = BTreeSet::new();
    if let Err(e) = walk(dir, "", &mut there, findings) {
        findings.add(Finding::new(Check::FileMissing, format!("the bundle cannot be listed: {e}")));
    }
    let bytes = match fs::read(dir.join(MANIFEST)) {
        Ok(bytes) => bytes,
        Err(e) => {
            findings.add(Finding::new(Check::ManifestForm, e.to_string()).in_file(MANIFEST));
            return Vouched { there, ..Vouched::default() };
        }
    };
    findings.add_all(check_signature(dir, &bytes, site_certificates));
    let manifest: Manifest = match serde_json::from_slice(&bytes) {
        Ok(manifest) => manifest,
        Err(e) => {
            findings.add(Finding::new(Check::ManifestForm, e.to_string()).in_file(MANIFEST));
            return Vouched { there, ..Vouched::default() };
        }
    };
    for name in ALWAYS.iter().filter(|name| !there.contains(**name)) {
        findings.add(Finding::new(Check::FileMissing, "a bundle must have this file").in_file(name));
    }
    for (name, listed) in &manifest.files {
        if !there.contains(name) {
            findings.add(Finding::new(Check::FileMissing, "the manifest lists it, but it is not there").in_file(name));
            continue;
        }
        match hash(&dir.join(name)) {
            Ok((bytes, sha256)) if bytes == listed.bytes && sha256 == listed.sha256 => {}
            Ok((bytes, _)) if bytes != listed.bytes => {
                let what = format!("has {bytes} octets, the manifest says {}", listed.bytes);
                findings.add(Finding::new(Check::FileHash, what).in_file(name));
            }
            Ok(_) => findings.add(Finding::new(Check::FileHash, "SHA-256 is not the manifest's").in_file(name)),
            Err(e) => findings.add(Finding::new(Check::FileMissing, e.to_string()).in_file(name)),
        }
    }
    for name in there
        .iter()
        .filter(|name| !manifest.files.contains_key(*name) && ![MANIFEST, SIGNATURE].contains(&name.as_str()))
    {
        findings.add(Finding::new(Check::FileUnlisted, "the manifest does not list it").in_file(name));
    }
    findings.add_all(check_counts(dir, &manifest.counts));
    Vouched { counts: Some(manifest.counts), order: manifest.order, there }
}

/// The manifest's own sum, and `recon.json` equal to it.
fn check_counts(dir: &Path, counts: &Counts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !counts.add_up() {
        let what = format!("rows {} is not the sum of issued, refused, held and cancelled", counts.rows);
        findings.push(Finding::new(Check::Counts, what).in_file(MANIFEST));
    }
    let recon = fs::read(dir.join("recon.json")).map_err(|e| e.to_string());
    match recon.and_then(|bytes| serde_json::from_slice::<Counts>(&bytes).map_err(|e| e.to_string())) {
        Ok(recon) if recon == *counts => {}
        Ok(_) => findings.push(Finding::new(Check::Counts, "differs from the manifest's counts").in_file("recon.json")),
        Err(what) => findings.push(Finding::new(Check::Counts, what).in_file("recon.json")),
    }
    findings
}

/// ECDSA-SHA256, DER, by the key of `certs/manifest.pem`; that certificate must be the site's own.
fn check_signature(dir: &Path, manifest: &[u8], site_certificates: &[X509]) -> Vec<Finding> {
    let wrong = |check, what: &str, file: &str| vec![Finding::new(check, what).in_file(file)];
    let certificate = fs::read(dir.join(CERTIFICATE)).ok().and_then(|pem| X509::from_pem(&pem).ok());
    let Some(certificate) = certificate else {
        return wrong(Check::ManifestSignature, "no readable certificate of the manifest key", CERTIFICATE);
    };
    let mut findings = Vec::new();
    let der = certificate.to_der().ok();
    if site_certificates.is_empty() {
        let what = "self-asserted: the site holds no certificate of its manifest key (certs/manifest/manifest.pem)";
        findings.extend(wrong(Check::ManifestTrust, what, CERTIFICATE));
    } else if der.is_none() || site_certificates.iter().all(|own| own.to_der().ok() != der) {
        findings.extend(wrong(Check::ManifestTrust, "is not the certificate of this site's manifest key", CERTIFICATE));
    }
    let verify = || -> Result<bool, String> {
        let signature = fs::read(dir.join(SIGNATURE)).map_err(|e| e.to_string())?;
        let key = certificate.public_key().map_err(|e| e.to_string())?;
        let mut verifier = Verifier::new(MessageDigest::sha256(), &key).map_err(|e| e.to_string())?;
        verifier.update(manifest).map_err(|e| e.to_string())?;
        // A signature that is not even DER is as wrong as one that does not verify.
        Ok(verifier.verify(&signature).unwrap_or(false))
    };
    match verify() {
        Ok(true) => {}
        Ok(false) => findings.extend(wrong(Check::ManifestSignature, "does not verify over manifest.json", SIGNATURE)),
        Err(what) => findings.extend(wrong(Check::ManifestSignature, &what, SIGNATURE)),
    }
    findings
}

/// Names of all regular files below `dir`; anything else has no business in a bundle.
fn walk(dir: &Path, prefix: &str, there: &mut BTreeSet<String>, findings: &mut Findings) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), &format!("{name}/"), there, findings)?;
        } else if kind.is_file() {
            there.insert(name);
        } else {
            findings.add(Finding::new(Check::FileUnlisted, "is neither a file nor a directory").in_file(&name));
        }
    }
    Ok(())
}

/// Size and SHA-256 of a file, in lower-case hex.
pub(super) fn hash(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((bytes, HEXLOWER.encode(&hash.finish()))),
            got => {
                hash.update(&buffer[..got]);
                bytes += got as u64;
            }
        }
    }
}
