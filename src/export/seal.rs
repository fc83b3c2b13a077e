//! Whether a bundle is still what was sealed: the manifest's signature by a key of this site, and the files it names.
//!
//! For who is about to use a bundle of this site again. The certificate in the bundle is not asked: who changes a bundle can bring a
//! certificate of his own. `bindery verify`, which shares no code with this, says everything that is wrong.

use std::fs;
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::sha::sha256;
use openssl::sign::Verifier;
use openssl::x509::X509;

use super::bundle::{MANIFEST, SIGNATURE, file_entry};
use super::manifest::Manifest;
use crate::error::{Exit, Fault};

/// A manifest that was believed.
#[derive(Debug)]
pub struct Sealed {
    /// The manifest.
    pub manifest: Manifest,
    /// Of its octets.
    pub manifest_sha256: [u8; 32],
}

/// Compares the files of `bundle` that `wanted` names with the manifest, which one of the `trusted` keys must have signed; the first
/// that is another one is an error (exit 8).
pub fn check(bundle: &Path, trusted: &[X509], wanted: &dyn Fn(&str) -> bool) -> Result<Sealed, Fault> {
    let broken = |name: &str, what: &str| {
        Fault::new(Exit::IntegrityFailure, format!("{}: {what}", bundle.join(name).display()))
            .hint("the bundle was changed after it was sealed: use a sound copy; `bindery verify` says everything that is wrong")
    };
    let read = |name: &str| fs::read(bundle.join(name)).map_err(|e| broken(name, &e.to_string()));
    let [json, signature] = [read(MANIFEST)?, read(SIGNATURE)?];
    let signed = |certificate: &X509| -> Result<bool, ErrorStack> {
        let key = certificate.public_key()?;
        Verifier::new(MessageDigest::sha256(), &key)?.verify_oneshot(&signature, &json)
    };
    // A signature that is not even DER is an error of OpenSSL, and as wrong as one that does not verify.
    if !trusted.iter().any(|certificate| signed(certificate).is_ok_and(|fits| fits)) {
        return Err(broken(MANIFEST, "no manifest key of this site has signed it (certs/manifest)"));
    }
    let manifest: Manifest = serde_json::from_slice(&json).map_err(|e| broken(MANIFEST, &e.to_string()))?;
    for (name, entry) in manifest.files.iter().filter(|(name, _)| wanted(name)) {
        let found = file_entry(&bundle.join(name)).map_err(|e| broken(name, &e.to_string()))?;
        if found != *entry {
            return Err(broken(name, "is not the file that was sealed"));
        }
    }
    Ok(Sealed { manifest, manifest_sha256: sha256(&json) })
}
