//! The CI certificates a site believes: what lies in `certs/ci/` decides whose eUICCs are served.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::Certificate;
use crate::error::{Exit, Fault};

/// Trusted roots. Whether they are in date is asked at the time of use.
pub struct Trust {
    roots: Vec<Certificate>,
}

impl Trust {
    /// Every `.pem`, `.crt`, `.cer` and `.der` file of the directory, PEM or DER. None at all is an error, so is one that
    /// cannot be read, is no CA, or does not verify under its own key.
    pub fn load(dir: &Path) -> Result<Self, Fault> {
        let mut roots = Vec::new();
        for (path, certificate) in certificates_in(dir)? {
            let wrong = |what: &str| {
                Fault::new(Exit::Config, format!("{}: {what}", path.display()))
                    .hint("certs/ci/ holds self-signed CI certificates only")
            };
            if !certificate.is_ca || !certificate.may_sign_certificates {
                return Err(wrong("is not a CA certificate"));
            }
            if !certificate.signed_by(&certificate) {
                return Err(wrong("is not signed by its own key"));
            }
            roots.push(certificate);
        }
        if roots.is_empty() {
            return Err(Fault::new(Exit::Config, format!("{}: no CI certificate", dir.display()))
                .hint("put the CI certificates to be believed there, PEM or DER"));
        }
        Ok(Self { roots })
    }

    /// From certificates already read; for tests and tools.
    pub fn of(roots: Vec<Certificate>) -> Self {
        Self { roots }
    }

    /// The roots.
    pub fn roots(&self) -> &[Certificate] {
        &self.roots
    }

    /// The root that issued this certificate and is in date; what is missing otherwise, in words.
    pub(crate) fn issuer_of(&self, certificate: &Certificate, now: Timestamp) -> Result<&Certificate, Untrusted> {
        let named: Vec<&Certificate> = self.roots.iter().filter(|root| certificate.names_issuer(root)).collect();
        if named.is_empty() {
            return Err(Untrusted::UnknownIssuer);
        }
        let signer = named.into_iter().find(|root| certificate.signed_by(root)).ok_or(Untrusted::BadSignature)?;
        if signer.in_date(now) { Ok(signer) } else { Err(Untrusted::RootOutOfDate) }
    }
}

/// Why no root stands behind a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untrusted {
    UnknownIssuer,
    BadSignature,
    RootOutOfDate,
}

/// All certificates of a directory with their files, in the order of file names.
pub(crate) fn certificates_in(dir: &Path) -> Result<Vec<(PathBuf, Certificate)>, Fault> {
    let entries = std::fs::read_dir(dir).map_err(|e| Fault::file(dir, &e))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Fault::file(dir, &e))?.path();
        if path.extension().and_then(|e| e.to_str()).is_some_and(|e| matches!(e, "pem" | "crt" | "cer" | "der")) {
            paths.push(path);
        }
    }
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let octets = std::fs::read(&path).map_err(|e| Fault::file(&path, &e))?;
        let read = Certificate::all_of(&octets).map_err(|what| {
            Fault::new(Exit::Config, format!("{}: {what}", path.display())).hint("replace the file or take it away")
        })?;
        all.extend(read.into_iter().map(|certificate| (path.clone(), certificate)));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::test_pki::TestPki;

    #[test]
    fn only_self_signed_ci_certificates_are_believed() {
        let now: Timestamp = "2026-05-01T12:00:00Z".parse().unwrap();
        let [ours, theirs] = [0; 2].map(|_| TestPki::create(now).unwrap());
        let dir = tempfile::tempdir().unwrap();
        assert!(Trust::load(dir.path()).err().unwrap().what.contains("no CI certificate"));
        std::fs::write(dir.path().join("a.der"), ours.ci_der()).unwrap();
        std::fs::write(dir.path().join("b.pem"), crate::certs::certificate::pem(theirs.ci_der())).unwrap();
        std::fs::write(dir.path().join("README"), "not a certificate").unwrap();
        let trust = Trust::load(dir.path()).unwrap();
        assert_eq!(trust.roots().len(), 2);
        // Both roots have one name; the key identifier tells them apart.
        for pki in [&ours, &theirs] {
            let eum = Certificate::from_der(pki.eum().der()).unwrap();
            assert_eq!(trust.issuer_of(&eum, now).unwrap().der(), pki.ci_der());
        }
        std::fs::write(dir.path().join("c.der"), ours.eum().der()).unwrap();
        assert!(Trust::load(dir.path()).err().unwrap().what.contains("c.der: is not signed by its own key"));
        std::fs::write(dir.path().join("c.der"), [0x30, 0x03, 0x02]).unwrap();
        assert_eq!(Trust::load(dir.path()).err().unwrap().exit, Exit::Config);
    }
}
