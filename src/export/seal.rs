//! Whether a bundle is still what was sealed: the manifest's signature, and the files it names.
//!
//! For who is about to use a bundle of this site again. That the certificate itself is one to be believed is the matter of
//! `bindery verify`, which shares no code with this.

use std::fs;
use std::path::Path;

use openssl::x509::X509;

use super::bundle::{MANIFEST, SIGNATURE, file_entry};
use super::manifest::Manifest;
use crate::error::{Exit, Fault};

const CERTIFICATE: &str = "certs/manifest.pem";

/// Compares the files of `bundle` that `wanted` names with the signed manifest; the first that is another one is an error (exit 8).
pub fn check(bundle: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<(), Fault> {
    let broken = |name: &str, what: &str| {
        Fault::new(Exit::IntegrityFailure, format!("{}: {what}", bundle.join(name).display()))
            .hint("the bundle was changed after it was sealed: use a sound copy; `bindery verify` says everything that is wrong")
    };
    let read = |name: &str| fs::read(bundle.join(name)).map_err(|e| broken(name, &e.to_string()));
    let [json, signature, certificate] = [read(MANIFEST)?, read(SIGNATURE)?, read(CERTIFICATE)?];
    let key = X509::from_pem(&certificate).and_then(|certificate| certificate.public_key());
    let key = key.map_err(|_| broken(CERTIFICATE, "is no certificate"))?;
    let signed = openssl::sign::Verifier::new(openssl::hash::MessageDigest::sha256(), &key)
        .and_then(|mut verifier| verifier.verify_oneshot(&signature, &json));
    if !signed.is_ok_and(|fits| fits) {
        return Err(broken(MANIFEST, "its signature does not verify"));
    }
    let manifest: Manifest = serde_json::from_slice(&json).map_err(|e| broken(MANIFEST, &e.to_string()))?;
    for (name, entry) in manifest.files.iter().filter(|(name, _)| wanted(name)) {
        let found = file_entry(&bundle.join(name)).map_err(|e| broken(name, &e.to_string()))?;
        if found != *entry {
            return Err(broken(name, "is not the file that was sealed"));
        }
    }
    Ok(())
}
