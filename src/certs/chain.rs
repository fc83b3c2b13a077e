//! Our own certificates: DPauth and DPpb with their chains, and the one that bundles are signed with.
//! Rule: both carry the same SM-DP+ OID (the eUICC compares, SGP.22 §5.6.3), lead to a trusted CI, are in date, and are over the
//! keys that the token holds.

use std::path::Path;

use jiff::Timestamp;

use super::trust::{Trust, Untrusted, certificates_in};
use super::{Certificate, point};
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::hsm::{Hsm, Role};

/// Which of our two chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DpRole {
    /// CERT.DPauth.ECDSA.
    Auth,
    /// CERT.DPpb.ECDSA.
    Pb,
}

impl DpRole {
    /// The word in directory names and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "dpauth",
            Self::Pb => "dppb",
        }
    }

    /// id-rspRole-dp-auth and -pb, v2 and v3.
    fn policies(self) -> &'static [&'static str] {
        match self {
            Self::Auth => &["2.23.146.1.2.1.4", "2.23.146.1.2.1.0.0.1.1"],
            Self::Pb => &["2.23.146.1.2.1.5", "2.23.146.1.2.1.0.0.1.2"],
        }
    }

    fn key(self) -> Role {
        match self {
            Self::Auth => Role::DpAuth,
            Self::Pb => Role::DpPb,
        }
    }
}

/// A leaf and the certificates between it and the CI.
pub struct DpChain {
    role: DpRole,
    leaf: Certificate,
    issuers: Vec<Certificate>,
    oid: String,
}

impl DpChain {
    /// Reads `certs/dpauth` or `certs/dppb`: one leaf of the right role, and its issuers below the CI, if any.
    pub fn load(dir: &Path, role: DpRole) -> Result<Self, Fault> {
        let wrong = |what: String| {
            Fault::new(Exit::Config, format!("{}: {what}", dir.display()))
                .hint("the directory holds one leaf certificate of this role and, if there are any, the CAs between it and the CI")
        };
        let (mut issuers, mut leaves): (Vec<_>, Vec<_>) =
            certificates_in(dir)?.into_iter().map(|(_, certificate)| certificate).partition(|c| c.is_ca);
        let count = leaves.len();
        let leaf = leaves.pop().filter(|_| count == 1).ok_or_else(|| wrong(format!("{count} leaf certificates")))?;
        if !leaf.has_policy(role.policies()) {
            return Err(wrong(format!("the leaf does not carry the role {}", role.as_str())));
        }
        if !leaf.may_sign {
            return Err(wrong("keyUsage of the leaf does not allow digitalSignature".into()));
        }
        let [oid] = &leaf.registered_ids[..] else {
            return Err(wrong("the leaf does not carry exactly one RegisteredID (the SM-DP+ OID)".into()));
        };
        let oid = oid.clone();
        let mut ordered: Vec<Certificate> = Vec::new();
        while let Some(at) = issuers.iter().position(|ca| ordered.last().unwrap_or(&leaf).names_issuer(ca)) {
            ordered.push(issuers.swap_remove(at));
        }
        ordered.retain(|ca| !ca.names_issuer(ca)); // the CI itself is the eUICC's to know
        Ok(Self { role, leaf, issuers: ordered, oid })
    }

    /// SM-DP+ OID, dotted.
    pub fn oid(&self) -> &str {
        &self.oid
    }

    /// The leaf, DER.
    pub fn leaf_der(&self) -> &[u8] {
        self.leaf.der()
    }

    /// The leaf and what lies between it and the CI, leaf first, each DER.
    pub fn chain_der(&self) -> Vec<&[u8]> {
        self.certificates().map(Certificate::der).collect()
    }

    /// The chain as a PEM file, leaf first.
    pub fn pem(&self) -> String {
        self.certificates().map(Certificate::pem).collect()
    }

    /// The leaf.
    pub fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// The first end of validity in the chain.
    pub fn not_after(&self) -> Timestamp {
        self.certificates().map(Certificate::not_after).min().unwrap_or(self.leaf.not_after)
    }

    /// The leaf's key, uncompressed.
    pub fn point(&self) -> &[u8; 65] {
        self.leaf.point()
    }

    /// Dates (exit 11), signatures up to a trusted CI, and the key: `hsm_point` is what the token holds.
    pub fn check(&self, trust: &Trust, now: Timestamp, hsm_point: &[u8; 65]) -> Result<(), Fault> {
        self.check_path(trust, now)?;
        check_key(self.role.as_str(), &self.leaf, hsm_point)
    }

    /// The same without the token: dates and signatures.
    pub fn check_path(&self, trust: &Trust, now: Timestamp) -> Result<(), Fault> {
        let name = self.role.as_str();
        self.certificates().try_for_each(|certificate| check_date(name, certificate, now))?;
        let wrong = |what: &str| {
            Fault::new(Exit::Config, format!("certs/{name}: {what}"))
                .hint("install the chain that the CI issued for this key, and the CI in certs/ci")
        };
        let mut below = &self.leaf;
        for issuer in &self.issuers {
            if !issuer.may_sign_certificates || !below.signed_by(issuer) {
                return Err(wrong("a signature in the chain is wrong"));
            }
            below = issuer;
        }
        match trust.issuer_of(below, now) {
            Ok(_) => Ok(()),
            Err(Untrusted::RootOutOfDate) => {
                let what = format!("certs/{name}: the CI certificate is not in date");
                Err(Fault::new(Exit::CertificateExpired, what).hint("eUICCs do not take what is under an expired CI"))
            }
            Err(Untrusted::UnknownIssuer) => Err(wrong("the chain leads to no CI in certs/ci")),
            Err(Untrusted::BadSignature) => Err(wrong("the CI's signature is wrong")),
        }
    }

    fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.leaf).chain(&self.issuers)
    }
}

/// Everything that says who we are.
pub struct DpChains {
    /// CERT.DPauth.ECDSA and its chain.
    pub auth: DpChain,
    /// CERT.DPpb.ECDSA and its chain.
    pub pb: DpChain,
    /// Certificate of the manifest key.
    pub manifest: Certificate,
}

impl DpChains {
    /// Reads `certs/dpauth`, `certs/dppb` and `certs/manifest/manifest.pem`; both chains must carry one OID.
    pub fn load(site: &Site) -> Result<Self, Fault> {
        let auth = DpChain::load(&site.path("certs/dpauth"), DpRole::Auth)?;
        let pb = DpChain::load(&site.path("certs/dppb"), DpRole::Pb)?;
        if auth.oid != pb.oid {
            let what = format!("DPauth carries OID {}, DPpb {}", auth.oid, pb.oid);
            return Err(
                Fault::new(Exit::Config, what).hint("eUICCs compare the two: install certificates of one SM-DP+ OID")
            );
        }
        Ok(Self { auth, pb, manifest: manifest_certificate(site)? })
    }

    /// All of it against trust, time and token.
    pub fn check<H: Hsm>(&self, trust: &Trust, now: Timestamp, hsm: &H) -> Result<(), Fault> {
        for chain in [&self.auth, &self.pb] {
            chain.check(trust, now, &hsm.public_point(hsm.key(&chain.role.key())?)?)?;
        }
        self.check_manifest_date(now)?;
        check_key("manifest", &self.manifest, &hsm.public_point(hsm.key(&Role::Manifest)?)?)
    }

    /// The manifest certificate's dates alone (exit 11).
    pub fn check_manifest_date(&self, now: Timestamp) -> Result<(), Fault> {
        check_date("manifest", &self.manifest, now)
    }

    /// SM-DP+ OID, dotted.
    pub fn oid(&self) -> &str {
        self.pb.oid()
    }
}

/// `certs/manifest/manifest.pem`.
pub fn manifest_certificate(site: &Site) -> Result<Certificate, Fault> {
    let dir = site.path("certs/manifest");
    let mut all = certificates_in(&dir)?;
    match (all.pop(), all.len()) {
        (Some((_, one)), 0) => Ok(one),
        _ => Err(Fault::new(Exit::Config, format!("{}: must hold one certificate", dir.display()))
            .hint("install the certificate of the manifest key as manifest.pem")),
    }
}

/// Whole days until the end of validity, negative after it.
pub fn days_left(not_after: Timestamp, now: Timestamp) -> i64 {
    (not_after.as_second() - now.as_second()).div_euclid(86_400)
}

fn check_date(name: &str, certificate: &Certificate, now: Timestamp) -> Result<(), Fault> {
    if certificate.in_date(now) {
        return Ok(());
    }
    let (from, to) = (certificate.not_before, certificate.not_after);
    let what = format!("certs/{name}: {} is valid from {from} to {to} only", certificate.title());
    let hint = if now < from { "check this machine's clock" } else { "install a new certificate for the same key" };
    Err(Fault::new(Exit::CertificateExpired, what).hint(hint))
}

fn check_key(name: &str, certificate: &Certificate, hsm_point: &[u8; 65]) -> Result<(), Fault> {
    if certificate.point() == hsm_point && point::public_key(hsm_point).is_ok() {
        return Ok(());
    }
    Err(Fault::new(Exit::Config, format!("certs/{name}: the certificate is not over the key that the token holds"))
        .hint("install the certificate of this token's key, or name the right token in bindery.toml"))
}
