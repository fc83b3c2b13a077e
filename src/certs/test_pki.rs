//! The PKI of a demo site: a CI and an EUM of our own, with private keys in files. Never for production.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use openssl::ec::EcKey;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use zeroize::Zeroizing;

use super::chain::DpRole;
use super::issue::{self, Issuer, Usage, Wording, certificate};
use super::{Certificate, point};
use crate::config::{Site, files};
use crate::error::{Exit, Fault};
use crate::formats::curve::Curve;
use crate::ids::Eid;

/// EUM identification number: the first 8 digits of every EID of a test fleet.
pub const TEST_EIN: &str = "89049032";
/// Organisation of the test EUM and of its eUICCs.
pub const TEST_EUM: &str = "Bindery Test EUM";
/// SM-DP+ OID of a demo site, in the arc that ITU-T X.660 keeps for examples.
pub const TEST_OID: &str = "2.999.10";

const CI_DAYS: i64 = 35 * 365;
const EUM_DAYS: i64 = 30 * 365;
const DP_DAYS: i64 = 3 * 365;

/// How an EUM certificate says which EIDs it may certify, and how it and its eUICC certificates name their roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EumForm {
    /// Critical nameConstraints with {O, serialNumber = EIN}; roles 2.23.146.1.2.1.2 and .1.
    V2,
    /// permittedEins; roles of SGP.22 v3.
    V3,
}

/// CI and EUM with their private keys.
pub struct TestPki {
    ci_key: EcKey<Private>,
    ci: Certificate,
    eum: EumKey,
}

/// An EUM that can certify eUICCs. Usable by several threads.
pub struct EumKey {
    key: EcKey<Private>,
    certificate: Certificate,
    form: EumForm,
}

impl TestPki {
    /// A fresh CI and a fresh EUM of the v2 form on P-256.
    pub fn create(now: Timestamp) -> Result<Self, Fault> {
        Self::create_on(Curve::P256, now)
    }

    /// The same on any curve.
    pub fn create_on(curve: Curve, now: Timestamp) -> Result<Self, Fault> {
        let ci_key = new_key(curve)?;
        let subject = issue::name(Some("Bindery"), Some(&titled("Bindery Test CI", curve)), None);
        let wording = Wording {
            subject: subject.clone(),
            not_before: now - SignedDuration::from_hours(1),
            not_after: now + SignedDuration::from_hours(24 * CI_DAYS),
            policy: Some("2.23.146.1.2.1.0"), // id-rspRole-ci
            usage: Usage::Authority { path_length: None },
            more: vec![issue::registered_id("2.999.1")],
        };
        let ci = self_made(&Issuer { name: &subject, key: &ci_key }, &ci_key, &wording)?;
        let eum = EumKey::create(&ci_key, &ci, EumForm::V2, TEST_EIN, now)?;
        Ok(Self { ci_key, ci, eum })
    }

    /// The PKI of a demo site on this curve.
    pub fn load(site: &Site, curve: Curve) -> Result<Self, Fault> {
        let [ci_key, ci, eum_key, eum] = Self::files(site, curve);
        if curve != Curve::P256 && !ci_key.exists() {
            return Err(Fault::new(Exit::Config, format!("this demo site has no test PKI on {curve}")).hint(
                "its token does not make such keys, or the site is older: make another with `bindery init DIR --demo`",
            ));
        }
        let (ci_key, ci) = load_pair(&ci_key, &ci)?;
        let (key, certificate) = load_pair(&eum_key, &eum)?;
        let form = if certificate.eid_limit.eins.is_some() { EumForm::V3 } else { EumForm::V2 };
        Ok(Self { ci_key, ci, eum: EumKey { key, certificate, form } })
    }

    /// Writes keys and certificates to where [`Self::load`] looks for them.
    pub(crate) fn save(&self, site: &Site) -> Result<(), Fault> {
        files::make_directory(&site.path("test-pki"), 0o700)?;
        files::make_directory(&site.path("certs/ci"), 0o755)?;
        let [ci_key, ci, eum_key, eum] = Self::files(site, self.ci.curve());
        for (path, key) in [(ci_key, &self.ci_key), (eum_key, &self.eum.key)] {
            let pem = PKey::from_ec_key(key.clone()).and_then(|key| key.private_key_to_pem_pkcs8());
            let pem = Zeroizing::new(pem.map_err(|e| bug(&e))?);
            files::write_whole(&path, &pem, 0o600)?;
        }
        files::write_whole(&eum, self.eum.certificate.pem().as_bytes(), 0o644)?;
        files::write_whole(&ci, self.ci.pem().as_bytes(), 0o644)
    }

    /// Key and certificate of the CI, key and certificate of the EUM.
    fn files(site: &Site, curve: Curve) -> [PathBuf; 4] {
        let tail = curve.file_tail();
        [
            site.path(format!("test-pki/ci{tail}.key.pem")),
            site.path(format!("certs/ci/test-ci{tail}.pem")),
            site.path(format!("test-pki/eum{tail}.key.pem")),
            site.path(format!("test-pki/eum{tail}.pem")),
        ]
    }

    /// The CI certificate, DER.
    pub fn ci_der(&self) -> &[u8] {
        self.ci.der()
    }

    /// For tests that forge.
    #[cfg(test)]
    pub(super) fn ci_private(&self) -> &EcKey<Private> {
        &self.ci_key
    }

    /// The EUM.
    pub fn eum(&self) -> &EumKey {
        &self.eum
    }

    /// Another EUM under the same CI, of either form and any EIN.
    pub fn another_eum(&self, form: EumForm, ein: &str, now: Timestamp) -> Result<EumKey, Fault> {
        EumKey::create(&self.ci_key, &self.ci, form, ein, now)
    }

    /// A DPauth or DPpb leaf over a point of the token, DER.
    pub fn issue_dp(&self, role: DpRole, oid: &str, point: &[u8; 65], now: Timestamp) -> Result<Vec<u8>, ErrorStack> {
        let (title, policy) = match role {
            DpRole::Auth => ("Bindery Test DPauth", "2.23.146.1.2.1.4"),
            DpRole::Pb => ("Bindery Test DPpb", "2.23.146.1.2.1.5"),
        };
        let title = Curve::of_point(point).map_or_else(|| title.to_owned(), |curve| titled(title, curve));
        self.issue_signer(&title, Some(policy), vec![issue::registered_id(oid)], point, now)
    }

    /// The certificate of the manifest key, DER.
    pub fn issue_manifest(&self, point: &[u8; 65], now: Timestamp) -> Result<Vec<u8>, ErrorStack> {
        self.issue_signer("Bindery manifest (demo)", None, Vec::new(), point, now)
    }

    fn issue_signer(
        &self,
        title: &str,
        policy: Option<&str>,
        more: Vec<Vec<u8>>,
        point: &[u8; 65],
        now: Timestamp,
    ) -> Result<Vec<u8>, ErrorStack> {
        let wording = Wording {
            subject: issue::name(Some("Bindery"), Some(title), None),
            not_before: now - SignedDuration::from_hours(1),
            not_after: now + SignedDuration::from_hours(24 * DP_DAYS),
            policy,
            usage: Usage::Signer,
            more,
        };
        certificate(&Issuer { name: &self.ci.subject_der, key: &self.ci_key }, point, &wording)
    }
}

impl EumKey {
    fn create(
        ci_key: &EcKey<Private>,
        ci: &Certificate,
        form: EumForm,
        ein: &str,
        now: Timestamp,
    ) -> Result<Self, Fault> {
        let key = new_key(ci.curve())?;
        let (policy, limit) = match form {
            EumForm::V2 => ("2.23.146.1.2.1.2", issue::name_constraints(TEST_EUM, ein)),
            EumForm::V3 => ("2.23.146.1.2.1.0.0.0", issue::permitted_eins(&[ein])),
        };
        let wording = Wording {
            subject: issue::name(Some(TEST_EUM), Some("EUM Test"), None),
            not_before: now - SignedDuration::from_hours(1),
            not_after: now + SignedDuration::from_hours(24 * EUM_DAYS),
            policy: Some(policy),
            usage: Usage::Authority { path_length: Some(0) },
            more: vec![limit],
        };
        let certificate = self_made(&Issuer { name: &ci.subject_der, key: ci_key }, &key, &wording)?;
        Ok(Self { key, certificate, form })
    }

    /// For tests that forge.
    #[cfg(test)]
    pub(super) fn private(&self) -> &EcKey<Private> {
        &self.key
    }

    /// Its certificate, DER.
    pub fn der(&self) -> &[u8] {
        self.certificate.der()
    }
}

/// The certificate of one eUICC: subject serialNumber is the EID, valid as long as its EUM.
pub fn issue_euicc(eum: &EumKey, eid: &Eid, public_point: &[u8; 65]) -> Result<Vec<u8>, ErrorStack> {
    let policy = match eum.form {
        EumForm::V2 => "2.23.146.1.2.1.1",
        EumForm::V3 => "2.23.146.1.2.1.0.0.0.0.0",
    };
    let wording = Wording {
        subject: issue::name(Some(TEST_EUM), Some("Test eUICC"), Some(&eid.to_string())),
        not_before: eum.certificate.not_before,
        not_after: eum.certificate.not_after,
        policy: Some(policy),
        usage: Usage::Signer,
        more: Vec::new(),
    };
    certificate(&Issuer { name: &eum.certificate.subject_der, key: &eum.key }, public_point, &wording)
}

fn titled(title: &str, curve: Curve) -> String {
    curve.suffix().map_or_else(|| title.to_owned(), |suffix| format!("{title} {suffix}"))
}

fn new_key(curve: Curve) -> Result<EcKey<Private>, Fault> {
    curve.group().and_then(EcKey::generate).map_err(|e| bug(&e))
}

fn self_made(issuer: &Issuer<'_>, key: &EcKey<Private>, wording: &Wording<'_>) -> Result<Certificate, Fault> {
    let der = point::point_of(key).and_then(|point| certificate(issuer, &point, wording)).map_err(|e| bug(&e))?;
    Certificate::from_der(&der).map_err(|what| Fault::new(Exit::Bug, format!("our own certificate: {what}")))
}

fn bug(error: &ErrorStack) -> Fault {
    Fault::new(Exit::Bug, format!("OpenSSL: {error}"))
}

fn load_pair(key_file: &Path, certificate_file: &Path) -> Result<(EcKey<Private>, Certificate), Fault> {
    const HINT: &str = "only a demo site has a test PKI; `bindery init DIR --demo` makes one";
    let read = |path: &Path| std::fs::read(path).map_err(|e| Fault::file(path, &e).hint(HINT));
    let wrong = |path: &Path, what: &str| Fault::new(Exit::Config, format!("{}: {what}", path.display())).hint(HINT);
    let pem = Zeroizing::new(read(key_file)?);
    let key = EcKey::private_key_from_pem(&pem).map_err(|_| wrong(key_file, "not an EC private key"))?;
    let all = Certificate::all_of(&read(certificate_file)?).map_err(|what| wrong(certificate_file, &what))?;
    let certificate = all.into_iter().next().ok_or_else(|| wrong(certificate_file, "no certificate"))?;
    if point::point_of(&key).ok().as_ref() != Some(certificate.point()) {
        return Err(wrong(certificate_file, "is not the certificate of the key beside it"));
    }
    Ok((key, certificate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::x509::X509;

    fn now() -> Timestamp {
        "2026-05-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn openssl_reads_and_verifies_what_we_issue() {
        let pki = TestPki::create(now()).unwrap();
        let [ci, eum] = [pki.ci_der(), pki.eum().der()].map(|der| X509::from_der(der).unwrap());
        assert!(ci.verify(&ci.public_key().unwrap()).unwrap());
        assert!(eum.verify(&ci.public_key().unwrap()).unwrap());
        let eid: Eid = "89049032123451234512345678901235".parse().unwrap();
        let point = point::point_of(&new_key(Curve::P256).unwrap()).unwrap();
        let euicc = X509::from_der(&issue_euicc(pki.eum(), &eid, &point).unwrap()).unwrap();
        assert!(euicc.verify(&eum.public_key().unwrap()).unwrap());
        let name = euicc.subject_name().entries_by_nid(openssl::nid::Nid::SERIALNUMBER).next().unwrap();
        assert_eq!(name.data().as_slice(), eid.to_string().as_bytes());
        assert_eq!(ci.not_after().to_string(), "Apr 22 12:00:00 2061 GMT"); // beyond UTCTime
        assert_eq!(eum.not_after().to_string(), "Apr 23 12:00:00 2056 GMT");
        assert!(euicc.serial_number().to_bn().unwrap().num_bits() > 64);
    }

    #[test]
    fn leaves_carry_role_oid_and_key_identifiers() {
        let pki = TestPki::create(now()).unwrap();
        let point = point::point_of(&new_key(Curve::P256).unwrap()).unwrap();
        let leaf = Certificate::from_der(&pki.issue_dp(DpRole::Pb, TEST_OID, &point, now()).unwrap()).unwrap();
        assert!(leaf.policies.len() == 1 && leaf.has_policy(&["2.23.146.1.2.1.5"]));
        assert_eq!(leaf.registered_ids, ["2.999.10"]);
        assert!(leaf.may_sign && !leaf.is_ca && !leaf.may_sign_certificates);
        assert_eq!(leaf.authority_key_id, pki.ci.subject_key_id);
        assert!(leaf.names_issuer(&pki.ci) && leaf.signed_by(&pki.ci) && !leaf.signed_by(&pki.eum.certificate));
        assert_eq!(leaf.point(), &point);
        let other = TestPki::create(now()).unwrap();
        assert!(!leaf.names_issuer(&other.ci)); // same name, other key identifier
    }

    #[test]
    fn pem_and_der_files_read_alike() {
        let pki = TestPki::create(now()).unwrap();
        let two = format!("{}{}", pki.ci.pem(), pki.eum.certificate.pem());
        let read = Certificate::all_of(two.as_bytes()).unwrap();
        assert_eq!([read[0].der(), read[1].der()], [pki.ci_der(), pki.eum().der()]);
        assert_eq!(Certificate::all_of(pki.ci_der()).unwrap()[0].fingerprint(), pki.ci.fingerprint());
        assert!(Certificate::all_of(b"neither").is_err());
        assert!(Certificate::from_der(&[pki.ci_der(), &[0]].concat()).is_err());
    }
}
