//! Our own certificates: DPauth and DPpb with their chains, and the one that bundles are signed with.
//! Rule: both carry the same SM-DP+ OID (the eUICC compares, SGP.22 §5.6.3), lead to a trusted CI, are in date, and are over the
//! keys that the token holds.

use std::path::Path;

use jiff::Timestamp;

use super::trust::{Trust, Untrusted, certificates_in};
use super::{Certificate, point};
use crate::config::Site;
use crate::error::{Exit, Fault};

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

    /// The role's certificate policy, v2: what a request asks for.
    pub(crate) fn policy(self) -> &'static str {
        self.policies()[0]
    }

    /// id-rspRole-dp-auth and -pb, v2 and v3.
    fn policies(self) -> &'static [&'static str] {
        match self {
            Self::Auth => &["2.23.146.1.2.1.4", "2.23.146.1.2.1.0.0.1.1"],
            Self::Pb => &["2.23.146.1.2.1.5", "2.23.146.1.2.1.0.0.1.2"],
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

/// Public points of the token's keys that carry a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPoints {
    /// SK.DPauth.ECDSA.
    pub auth: [u8; 65],
    /// SK.DPpb.ECDSA.
    pub pb: [u8; 65],
    /// The manifest key.
    pub manifest: [u8; 65],
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

    /// All of it against trust, time and the keys that the token holds.
    pub fn check(&self, trust: &Trust, now: Timestamp, own: &OwnPoints) -> Result<(), Fault> {
        self.auth.check(trust, now, &own.auth)?;
        self.pb.check(trust, now, &own.pb)?;
        self.check_manifest_date(now)?;
        check_key("manifest", &self.manifest, &own.manifest)
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

/// A certificate for the manifest key before it is installed: its dates (exit 11) and its key.
pub fn check_manifest(certificate: &Certificate, now: Timestamp, hsm_point: &[u8; 65]) -> Result<(), Fault> {
    check_date("manifest", certificate, now)?;
    check_key("manifest", certificate, hsm_point)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::certificate::pem;
    use crate::certs::issue::{self, Issuer, Usage, Wording};
    use crate::certs::test_pki::{TEST_OID, TestPki};
    use jiff::SignedDuration;
    use openssl::ec::EcKey;
    use openssl::pkey::Private;

    fn now() -> Timestamp {
        "2026-05-01T12:00:00Z".parse().unwrap()
    }

    fn key() -> (EcKey<Private>, [u8; 65]) {
        let key = EcKey::generate(point::group().unwrap()).unwrap();
        let point = point::point_of(&key).unwrap();
        (key, point)
    }

    fn wording(title: &str, policy: &'static str, usage: Usage, days: i64) -> Wording<'static> {
        Wording {
            subject: issue::name(Some("Bindery"), Some(title), None),
            not_before: now() - SignedDuration::from_hours(1),
            not_after: now() + SignedDuration::from_hours(24 * days),
            policy: Some(policy),
            usage,
            more: if usage == Usage::Signer { vec![issue::registered_id(TEST_OID)] } else { Vec::new() },
        }
    }

    fn load(files: &[&[u8]], role: DpRole) -> Result<DpChain, Fault> {
        let dir = tempfile::tempdir().unwrap();
        for (i, der) in files.iter().enumerate() {
            let (name, octets) = if i % 2 == 0 { ("pem", pem(der).into_bytes()) } else { ("der", der.to_vec()) };
            std::fs::write(dir.path().join(format!("{i}.{name}")), octets).unwrap();
        }
        DpChain::load(dir.path(), role)
    }

    fn trust(der: &[u8]) -> Trust {
        Trust::of(vec![Certificate::from_der(der).unwrap()])
    }

    #[test]
    fn a_chain_over_two_sub_cas_is_put_in_order_and_its_first_end_counts() {
        let pki = TestPki::create(now()).unwrap();
        let ci = Certificate::from_der(pki.ci_der()).unwrap();
        let [(upper_key, upper_point), (lower_key, lower_point), (_, leaf_point)] = [key(), key(), key()];
        let authority = Usage::Authority { path_length: None };
        let upper_words = wording("CI SubCA", "2.23.146.1.2.1.0.0", authority, 90);
        let lower_words = wording("DP SubCA", "2.23.146.1.2.1.0.0.1", authority, 60);
        let leaf_words = wording("DPpb", "2.23.146.1.2.1.0.0.1.2", Usage::Signer, 75);
        let issued = |name: &[u8], key: &EcKey<Private>, point: &[u8; 65], words: &Wording<'_>| {
            issue::certificate(&Issuer { name, key }, point, words).unwrap()
        };
        let upper = issued(&ci.subject_der, pki.ci_private(), &upper_point, &upper_words);
        let lower = issued(&upper_words.subject, &upper_key, &lower_point, &lower_words);
        let leaf = issued(&lower_words.subject, &lower_key, &leaf_point, &leaf_words);
        // The CI's own file beside them does no harm and is not sent.
        let chain = load(&[&upper, &leaf, pki.ci_der(), &lower], DpRole::Pb).unwrap();
        assert_eq!(chain.chain_der(), [&leaf[..], &lower, &upper]);
        assert_eq!(days_left(chain.not_after(), now()), 60);
        chain.check(&trust(pki.ci_der()), now(), &leaf_point).unwrap();
        let later = now() + SignedDuration::from_hours(24 * 61);
        assert_eq!(chain.check_path(&trust(pki.ci_der()), later).unwrap_err().exit, Exit::CertificateExpired);
        // Without the middle the chain leads nowhere.
        let broken = load(&[&upper, &leaf], DpRole::Pb).unwrap();
        assert_eq!(broken.check_path(&trust(pki.ci_der()), now()).unwrap_err().exit, Exit::Config);
        // A middle of the same name and identifier, but under a key of its own.
        let forged = issued(&upper_words.subject, &lower_key, &lower_point, &lower_words);
        let chain = load(&[&upper, &leaf, &forged], DpRole::Pb).unwrap();
        assert!(chain.check_path(&trust(pki.ci_der()), now()).is_err());
    }

    #[test]
    fn a_leaf_of_another_role_or_without_its_oid_is_refused() {
        let pki = TestPki::create(now()).unwrap();
        let (_, point) = key();
        let leaf = pki.issue_dp(DpRole::Auth, TEST_OID, &point, now()).unwrap();
        assert_eq!(load(&[&leaf], DpRole::Auth).unwrap().oid(), TEST_OID);
        assert!(load(&[&leaf], DpRole::Pb).err().unwrap().what.contains("role dppb"));
        assert!(load(&[&leaf, &leaf], DpRole::Auth).err().unwrap().what.contains("2 leaf"));
        assert!(load(&[], DpRole::Auth).err().unwrap().what.contains("0 leaf"));
        let bare = pki.issue_manifest(&point, now()).unwrap();
        assert!(load(&[&bare], DpRole::Auth).is_err());
    }

    #[test]
    fn days_are_whole_and_negative_once_the_end_is_past() {
        let end = now();
        for (seconds, days) in [(-86_400, 1), (-86_399, 0), (0, 0), (1, -1), (86_400, -1), (86_401, -2)] {
            assert_eq!(days_left(end, end + SignedDuration::from_secs(seconds)), days);
        }
    }
}
