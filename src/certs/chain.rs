//! Our own certificates: DPauth and DPpb with their chains, a pair for each curve of our eUICCs, and the one that bundles are
//! signed with.
//! Rule: all carry one SM-DP+ OID (the eUICC compares, SGP.22 §5.6.3), lead to a trusted CI, are in date, and are over the keys that
//! the token holds. The pair for an eUICC is that on the curve of its certificate.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use openssl::x509::X509;

use super::trust::{Trust, Untrusted, certificates_in};
use super::{Certificate, point};
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::formats::curve::Curve;

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
    // Shared: one CA may stand above the leaves of both curves.
    issuers: Vec<Arc<Certificate>>,
    oid: String,
}

impl DpChain {
    /// Reads `certs/dpauth` or `certs/dppb`: for each curve at most one leaf of the right role, and their issuers below the CI, if
    /// any. In the order of the curves, at least one.
    pub fn load_all(dir: &Path, role: DpRole) -> Result<Vec<Self>, Fault> {
        let wrong = |what: String| {
            Fault::new(Exit::Config, format!("{}: {what}", dir.display())).hint(
                "the directory holds one leaf certificate of this role a curve and, if there are any, the CAs between it and the CI",
            )
        };
        let (issuers, mut leaves): (Vec<_>, Vec<_>) =
            certificates_in(dir)?.into_iter().map(|(_, certificate)| certificate).partition(|c| c.is_ca);
        let issuers: Vec<_> = issuers.into_iter().map(Arc::new).collect();
        leaves.sort_by_key(Certificate::curve);
        if leaves.is_empty() {
            return Err(wrong("0 leaf certificates".into()));
        }
        if let Some(twins) = leaves.chunk_by(|a, b| a.curve() == b.curve()).find(|same| same.len() > 1) {
            return Err(wrong(format!("{} leaf certificates on {}", twins.len(), twins[0].curve())));
        }
        leaves.into_iter().map(|leaf| Self::of_leaf(leaf, role, &issuers).map_err(&wrong)).collect()
    }

    fn of_leaf(leaf: Certificate, role: DpRole, issuers: &[Arc<Certificate>]) -> Result<Self, String> {
        if !leaf.has_policy(role.policies()) {
            return Err(format!("the leaf does not carry the role {}", role.as_str()));
        }
        if !leaf.may_sign {
            return Err("keyUsage of the leaf does not allow digitalSignature".into());
        }
        let [oid] = &leaf.registered_ids[..] else {
            return Err("the leaf does not carry exactly one RegisteredID (the SM-DP+ OID)".into());
        };
        let oid = oid.clone();
        let mut ordered: Vec<Arc<Certificate>> = Vec::new();
        let mut rest = issuers.to_vec();
        while let Some(at) = rest.iter().position(|ca| ordered.last().map_or(&leaf, |last| last).names_issuer(ca)) {
            ordered.push(rest.swap_remove(at));
        }
        ordered.retain(|ca| !ca.names_issuer(ca)); // the CI itself is the eUICC's to know
        Ok(Self { role, leaf, issuers: ordered, oid })
    }

    /// The curve of the leaf's key: eUICCs on it are served.
    pub fn curve(&self) -> Curve {
        self.leaf.curve()
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
        std::iter::once(&self.leaf).chain(self.issuers.iter().map(Arc::as_ref))
    }
}

/// Public points of the token's keys that carry a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPoints {
    /// Keys that eUICCs know, for each curve that the key policy has them on.
    pub dp: Vec<DpPoints>,
    /// The manifest key.
    pub manifest: [u8; 65],
}

/// Public points of one curve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpPoints {
    /// The curve.
    pub curve: Curve,
    /// SK.DPauth.ECDSA.
    pub auth: [u8; 65],
    /// SK.DPpb.ECDSA.
    pub pb: [u8; 65],
}

/// What eUICCs of one curve know us by.
pub struct DpPair {
    /// CERT.DPauth.ECDSA and its chain.
    pub auth: DpChain,
    /// CERT.DPpb.ECDSA and its chain.
    pub pb: DpChain,
}

impl DpPair {
    /// The curve of both.
    pub fn curve(&self) -> Curve {
        self.pb.curve()
    }
}

/// Everything that says who we are.
pub struct DpChains {
    /// One for each curve we serve, at least one, in the order of the curves.
    pairs: Vec<DpPair>,
    /// Certificate of the manifest key.
    pub manifest: Certificate,
}

impl DpChains {
    /// Reads `certs/dpauth`, `certs/dppb` and `certs/manifest/manifest.pem`. A curve has both chains or none, and all carry one OID.
    pub fn load(site: &Site) -> Result<Self, Fault> {
        let auths = DpChain::load_all(&site.path("certs/dpauth"), DpRole::Auth)?;
        let pbs = DpChain::load_all(&site.path("certs/dppb"), DpRole::Pb)?;
        for curve in Curve::ALL {
            let has = |chains: &[DpChain]| chains.iter().any(|chain| chain.curve() == curve);
            if has(&auths) != has(&pbs) {
                let (there, missing) = if has(&auths) { ("dpauth", "dppb") } else { ("dppb", "dpauth") };
                let what = format!("certs/{there} has a chain on {curve}, certs/{missing} has none");
                return Err(Fault::new(Exit::Config, what).hint(
                    "eUICCs are served with both on one curve: install the missing one, or take the other away",
                ));
            }
        }
        let oids: BTreeSet<&str> = auths.iter().chain(&pbs).map(DpChain::oid).collect();
        if oids.len() > 1 {
            let oids: Vec<&str> = oids.into_iter().collect();
            let what = format!("the DPauth and DPpb certificates carry different OIDs: {}", oids.join(", "));
            return Err(
                Fault::new(Exit::Config, what).hint("eUICCs compare the two: install certificates of one SM-DP+ OID")
            );
        }
        let pairs = auths.into_iter().zip(pbs).map(|(auth, pb)| DpPair { auth, pb }).collect();
        Ok(Self { pairs, manifest: manifest_certificate(site)? })
    }

    /// One for each curve we serve, P-256 first.
    pub fn pairs(&self) -> &[DpPair] {
        &self.pairs
    }

    /// The pair for eUICCs on this curve.
    pub fn pair(&self, curve: Curve) -> Option<&DpPair> {
        self.pairs.iter().find(|pair| pair.curve() == curve)
    }

    /// Curves whose eUICCs we can serve.
    pub fn curves(&self) -> Vec<Curve> {
        self.pairs.iter().map(DpPair::curve).collect()
    }

    /// The first end of validity among the DPpb chains.
    pub fn pb_not_after(&self) -> Timestamp {
        self.pairs.iter().map(|pair| pair.pb.not_after()).min().unwrap_or(Timestamp::MIN)
    }

    /// All of it against trust, time and the keys that the token holds.
    pub fn check(&self, trust: &Trust, now: Timestamp, own: &OwnPoints) -> Result<(), Fault> {
        for pair in &self.pairs {
            let curve = pair.curve();
            let points = own.dp.iter().find(|points| points.curve == curve).ok_or_else(|| {
                Fault::new(Exit::Config, format!("certs/dppb: the key policy has no keys on {curve} for these chains"))
                    .hint("add the keys to the key policy, or take the chains of that curve away")
            })?;
            pair.auth.check(trust, now, &points.auth)?;
            pair.pb.check(trust, now, &points.pb)?;
        }
        self.check_manifest_date(now)?;
        check_key("manifest", &self.manifest, &own.manifest)
    }

    /// The manifest certificate's dates alone (exit 11).
    pub fn check_manifest_date(&self, now: Timestamp) -> Result<(), Fault> {
        check_date("manifest", &self.manifest, now)
    }

    /// SM-DP+ OID, dotted.
    pub fn oid(&self) -> &str {
        self.pairs.first().map(|pair| pair.pb.oid()).unwrap_or_default()
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

/// The certificates of every manifest key that this site has or had: the one in use, and those that were moved aside (`until-*`) when
/// the next was installed. Bundles stay their keys'.
pub fn manifest_certificates(site: &Site) -> Result<Vec<X509>, Fault> {
    let dir = site.path("certs/manifest");
    let mut all = certificates_in(&dir)?;
    for entry in std::fs::read_dir(&dir).map_err(|e| Fault::file(&dir, &e))? {
        let entry = entry.map_err(|e| Fault::file(&dir, &e))?;
        if entry.file_name().to_string_lossy().starts_with("until-") && entry.path().is_dir() {
            all.extend(certificates_in(&entry.path())?);
        }
    }
    let read = |(path, certificate): &(PathBuf, Certificate)| {
        X509::from_der(certificate.der()).map_err(|e| Fault::new(Exit::Config, format!("{}: {e}", path.display())))
    };
    all.iter().map(read).collect()
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
        let key = EcKey::generate(Curve::P256.group().unwrap()).unwrap();
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
        let mut all = DpChain::load_all(dir.path(), role)?;
        assert_eq!(all.len(), 1);
        Ok(all.remove(0))
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
    fn a_directory_holds_a_chain_for_each_curve() {
        let dir = tempfile::tempdir().unwrap();
        let [p256, brainpool] = Curve::ALL.map(|curve| TestPki::create_on(curve, now()).unwrap());
        // Signed by a key of its own curve each; what stands in the file's name is nothing.
        for (curve, pki, name) in [(Curve::Brainpool, &brainpool, "a.pem"), (Curve::P256, &p256, "b.pem")] {
            let point = point::point_of(&EcKey::generate(curve.group().unwrap()).unwrap()).unwrap();
            let leaf = pki.issue_dp(DpRole::Pb, TEST_OID, &point, now()).unwrap();
            std::fs::write(dir.path().join(name), pem(&leaf)).unwrap();
        }
        let chains = DpChain::load_all(dir.path(), DpRole::Pb).unwrap();
        assert_eq!(chains.iter().map(DpChain::curve).collect::<Vec<_>>(), Curve::ALL);
        let both = Trust::of([&p256, &brainpool].map(|pki| Certificate::from_der(pki.ci_der()).unwrap()).into());
        for chain in &chains {
            chain.check(&both, now(), chain.point()).unwrap();
        }
        let fault = chains[1].check(&trust(p256.ci_der()), now(), chains[1].point()).unwrap_err();
        assert!(fault.what.contains("no CI"), "{}", fault.what);
        assert!(chains[1].check(&both, now(), chains[0].point()).is_err());
    }

    #[test]
    fn a_leaf_of_another_role_or_without_its_oid_is_refused() {
        let pki = TestPki::create(now()).unwrap();
        let (_, point) = key();
        let leaf = pki.issue_dp(DpRole::Auth, TEST_OID, &point, now()).unwrap();
        assert_eq!(load(&[&leaf], DpRole::Auth).unwrap().oid(), TEST_OID);
        assert!(load(&[&leaf], DpRole::Pb).err().unwrap().what.contains("role dppb"));
        assert!(load(&[&leaf, &leaf], DpRole::Auth).err().unwrap().what.contains("2 leaf certificates on P-256"));
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
