//! Judges one line of an eUICC key file: chain, dates, roles, EID range of the EUM, and the signature over the one-time key.
//!
//! In: EID, otPK, signature, CERT.EUICC, CERT.EUM. Out: the point, or why not. One judge serves all threads; an EUM certificate
//! is looked at once. Sources: SGP.22 §4.5.2.1.0.2 (EUM constraint), §4.5.2.1.0.3; the key line is the contract's.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;

use super::trust::Untrusted;
use super::{CertRefusal, Certificate, Trust, point};
use crate::formats::curve::Curve;
use crate::formats::digest::sha256;
use crate::formats::tlv::{self, Tag};
use crate::ids::Eid;

/// id-rspRole-eum, v2 and v3.
const EUM_ROLES: &[&str] = &["2.23.146.1.2.1.2", "2.23.146.1.2.1.0.0.0"];
/// id-rspRole-euicc, v2 and v3.
const EUICC_ROLES: &[&str] = &["2.23.146.1.2.1.1", "2.23.146.1.2.1.0.0.0.0.0"];

/// EUM certificates remembered at most: key files are input, input must not grow memory without bound.
const EUMS_REMEMBERED: usize = 1_024;

type Verdict = Result<Arc<Certificate>, CertRefusal>;

/// A one-time key that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneTimePoint {
    /// Its curve, that of the eUICC's certificate.
    pub curve: Curve,
    /// otPK.EUICC.KA, uncompressed.
    pub octets: [u8; 65],
}

/// Judges key lines at one point in time.
pub struct EuiccJudge {
    trust: Arc<Trust>,
    now: Timestamp,
    curves: Vec<Curve>,
    eums: RwLock<HashMap<Vec<u8>, Verdict>>,
}

impl EuiccJudge {
    /// Believes these roots, at this time.
    pub fn new(trust: Arc<Trust>, now: Timestamp) -> Self {
        Self { trust, now, curves: Curve::ALL.to_vec(), eums: RwLock::default() }
    }

    /// The same, but eUICCs on other curves are refused: the site has no DPpb key that could sign for them.
    pub fn serving(self, curves: &[Curve]) -> Self {
        Self { curves: curves.to_vec(), ..self }
    }

    /// Checks one key line; the otPK as a point of the curve of the eUICC's certificate when everything holds.
    pub fn check(
        &self,
        eid: &Eid,
        otpk: &[u8],
        signature: &[u8; 64],
        euicc_cert_der: &[u8],
        eum_cert_der: &[u8],
    ) -> Result<OneTimePoint, CertRefusal> {
        let octets: Option<[u8; 65]> = otpk.try_into().ok();
        let otpk = octets.and_then(|octets| Some(OneTimePoint { curve: Curve::of_point(&octets)?, octets }));
        let otpk = otpk.ok_or_else(|| CertRefusal {
            code: "otpk-not-a-point",
            message: "the one-time key is not an uncompressed point (65 octets) of P-256 or brainpoolP256r1".into(),
            hint: "ask the eUICC's owner for a new key file",
        })?;
        let eum = self.eum(eum_cert_der)?;
        let euicc = self.euicc(eid, euicc_cert_der, &eum)?;
        if !point::verifies(euicc.key(), &sha256(&signed_data(eid, &otpk.octets)), signature) {
            return Err(CertRefusal {
                code: "otpk-signature",
                message: "the signature over EID and one-time key does not verify under the eUICC's certificate".into(),
                hint: "the key was forged, damaged or belongs to another eUICC: ask for a new key file",
            });
        }
        if otpk.curve != euicc.curve() {
            return Err(CertRefusal {
                code: "otpk-curve",
                message: format!("the one-time key is on {}, the eUICC's certificate on {}", otpk.curve, euicc.curve()),
                hint: "the eUICC agrees on the curve of its certificate only: ask for a new key file",
            });
        }
        if !self.curves.contains(&otpk.curve) {
            return Err(CertRefusal {
                code: "eligibility",
                message: format!("the eUICC is on {}, this site has no DPauth and DPpb on that curve", otpk.curve),
                hint: "install DPauth and DPpb chains on the eUICC's curve, or take the eUICC out of the order",
            });
        }
        Ok(otpk)
    }

    fn eum(&self, der: &[u8]) -> Verdict {
        if let Some(verdict) = self.eums.read().unwrap_or_else(PoisonError::into_inner).get(der) {
            return verdict.clone();
        }
        let verdict = self.judge_eum(der);
        let mut eums = self.eums.write().unwrap_or_else(PoisonError::into_inner);
        if eums.len() < EUMS_REMEMBERED {
            eums.insert(der.to_vec(), verdict.clone());
        }
        verdict
    }

    fn judge_eum(&self, der: &[u8]) -> Verdict {
        let refuse = |code, message: &str| {
            Err(CertRefusal {
                code,
                message: message.to_owned(),
                hint: "the EUM certificate itself is refused: ask the EUM",
            })
        };
        let eum = match Certificate::from_der(der) {
            Ok(eum) => eum,
            Err(what) => return refuse("eum-unreadable", &format!("EUM certificate: {what}")),
        };
        match self.trust.issuer_of(&eum, self.now) {
            Ok(_) => {}
            Err(Untrusted::UnknownIssuer) => {
                return Err(CertRefusal {
                    code: "eum-ci-unknown",
                    message: "the EUM certificate is issued by a CI that is not in certs/ci".into(),
                    hint: "put that CI's certificate into certs/ci, if it is to be believed",
                });
            }
            Err(Untrusted::BadSignature) => {
                return refuse("eum-signature", "the CI's signature of the EUM certificate is wrong");
            }
            Err(Untrusted::RootOutOfDate) => return refuse("ci-expired", "the CI certificate is not in date"),
        }
        if !eum.in_date(self.now) {
            return refuse("eum-expired", &out_of_date("EUM certificate", &eum));
        }
        if !eum.is_ca || !eum.may_sign_certificates {
            return refuse(
                "eum-not-a-ca",
                "the EUM certificate may not sign certificates (basicConstraints, keyUsage)",
            );
        }
        if !eum.has_policy(EUM_ROLES) {
            return refuse("eum-role", "the EUM certificate does not carry the role of an EUM");
        }
        if let Some(name) = &eum.unknown_critical {
            return refuse(
                "eum-extension",
                &format!("the EUM certificate has a critical extension {name} unknown to us"),
            );
        }
        let limit = &eum.eid_limit;
        if limit.names.is_none() && limit.eins.is_none() {
            return refuse("eum-unlimited", "the EUM certificate has neither nameConstraints nor permittedEins");
        }
        if limit.names_not_critical {
            return refuse("eum-extension", "nameConstraints of the EUM certificate are not critical");
        }
        Ok(Arc::new(eum))
    }

    fn euicc(&self, eid: &Eid, der: &[u8], eum: &Certificate) -> Result<Certificate, CertRefusal> {
        const HINT: &str = "the eUICC's certificate is refused: ask the eUICC's owner or its EUM";
        let refuse = |code, message: String| Err(CertRefusal { code, message, hint: HINT });
        let euicc = match Certificate::from_der(der) {
            Ok(euicc) => euicc,
            Err(what) => return refuse("euicc-unreadable", format!("eUICC certificate: {what}")),
        };
        // The cheap checks first; the signature is checked in any case before anything is believed.
        let digits = eid.to_string();
        if euicc.subject.serial_number.as_deref() != Some(digits.as_str()) {
            return refuse("eid-mismatch", format!("the eUICC certificate is not that of EID {}", eid.masked()));
        }
        if !euicc.in_date(self.now) {
            return refuse("euicc-expired", out_of_date("eUICC certificate", &euicc));
        }
        if !euicc.has_policy(EUICC_ROLES) {
            return refuse("euicc-role", "the eUICC certificate does not carry the role of an eUICC".into());
        }
        if euicc.is_ca || !euicc.may_sign {
            return refuse(
                "euicc-usage",
                "the eUICC certificate may not sign data (basicConstraints, keyUsage)".into(),
            );
        }
        if let Some(name) = &euicc.unknown_critical {
            return refuse(
                "euicc-extension",
                format!("the eUICC certificate has a critical extension {name} unknown to us"),
            );
        }
        if !euicc.names_issuer(eum) {
            return refuse("euicc-issuer", "the eUICC certificate was issued by another EUM".into());
        }
        within_limit((eid, &digits), &euicc, eum)?;
        if !euicc.signed_by(eum) {
            return refuse("euicc-signature", "the EUM's signature of the eUICC certificate is wrong".into());
        }
        Ok(euicc)
    }
}

/// `30 L { 5A 10 <EID packed>, 5F49 41 <otPK> }`: what the eUICC signs.
pub fn signed_data(eid: &Eid, otpk: &[u8; 65]) -> Vec<u8> {
    tlv::wrap(Tag(0x30), &[&tlv::wrap(Tag(0x5A), &[eid.packed()]), &tlv::wrap(Tag(0x5F49), &[otpk])])
}

/// The EUM's range: each form that is there must permit the EID; v2 also ties the organisation.
fn within_limit((eid, digits): (&Eid, &str), euicc: &Certificate, eum: &Certificate) -> Result<(), CertRefusal> {
    let by_name = eum.eid_limit.names.as_ref().is_none_or(|names| {
        names.iter().any(|name| {
            let range =
                name.serial_number.as_ref().is_some_and(|ein| !ein.is_empty() && digits.starts_with(ein.as_str()));
            let owner = name.organization.is_none() || name.organization == euicc.subject.organization;
            range && owner
        })
    });
    let by_ein = eum.eid_limit.eins.as_ref().is_none_or(|eins| eins.iter().any(|ein| digits.starts_with(ein.as_str())));
    if by_name && by_ein {
        return Ok(());
    }
    Err(CertRefusal {
        code: "eid-range",
        message: format!("EID {} is outside the range that the EUM certificate permits", eid.masked()),
        hint: "the EUM may not certify this EID: ask the EUM",
    })
}

fn out_of_date(what: &str, certificate: &Certificate) -> String {
    format!("the {what} is valid from {} to {} only", certificate.not_before, certificate.not_after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::issue::{self, Issuer, Usage, Wording};
    use crate::certs::test_pki::{EumForm, EumKey, TEST_EIN, TEST_EUM, TestPki, issue_euicc};
    use jiff::SignedDuration;
    use openssl::ec::EcKey;
    use openssl::ecdsa::EcdsaSig;
    use openssl::pkey::Private;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    /// A key line that holds, and the keys to make wrong ones.
    struct Line {
        eid: Eid,
        otpk: [u8; 65],
        signature: [u8; 64],
        euicc_key: EcKey<Private>,
        euicc: Vec<u8>,
        eum: Vec<u8>,
    }

    static NOW: LazyLock<Timestamp> = LazyLock::new(|| "2026-05-01T12:00:00Z".parse().unwrap());
    static PKI: LazyLock<TestPki> = LazyLock::new(|| TestPki::create(*NOW).unwrap());
    static LINE: LazyLock<Line> = LazyLock::new(|| line(PKI.eum(), &format!("{TEST_EIN}0010012345678901234567")));

    fn key() -> EcKey<Private> {
        key_on(Curve::P256)
    }

    fn key_on(curve: Curve) -> EcKey<Private> {
        EcKey::generate(curve.group().unwrap()).unwrap()
    }

    fn raw(key: &EcKey<Private>, data: &[u8]) -> [u8; 64] {
        let signature = EcdsaSig::sign(&sha256(data), key).unwrap();
        let halves = [signature.r(), signature.s()].map(|n| n.to_vec_padded(32).unwrap());
        halves.concat().try_into().unwrap()
    }

    fn line(eum: &EumKey, eid_body: &str) -> Line {
        let curve = Certificate::from_der(eum.der()).unwrap().curve();
        let (eid, euicc_key) = (Eid::from_body(eid_body).unwrap(), key_on(curve));
        let otpk = point::point_of(&key_on(curve)).unwrap();
        let euicc = issue_euicc(eum, &eid, &point::point_of(&euicc_key).unwrap()).unwrap();
        let signature = raw(&euicc_key, &signed_data(&eid, &otpk));
        Line { eid, otpk, signature, euicc_key, euicc, eum: eum.der().to_vec() }
    }

    fn judge_at(now: Timestamp) -> EuiccJudge {
        EuiccJudge::new(Arc::new(Trust::of(vec![Certificate::from_der(PKI.ci_der()).unwrap()])), now)
    }

    fn code(judge: &EuiccJudge, line: &Line) -> &'static str {
        let Line { eid, otpk, signature, euicc, eum, .. } = line;
        match judge.check(eid, otpk, signature, euicc, eum) {
            Ok(point) => {
                assert_eq!((point.octets, point.curve), (*otpk, Curve::of_point(otpk).unwrap()));
                "ok"
            }
            Err(refusal) => {
                assert!(!refusal.message.contains(&eid.to_string()), "EID in clear: {}", refusal.message);
                refusal.code
            }
        }
    }

    /// The good line with an eUICC certificate of another wording, signed by the right or a wrong EUM key.
    fn reworded(change: impl FnOnce(&mut Wording<'_>), eum_key: Option<&EcKey<Private>>) -> Line {
        let eum_certificate = Certificate::from_der(PKI.eum().der()).unwrap();
        let mut wording = Wording {
            subject: issue::name(Some(TEST_EUM), None, Some(&LINE.eid.to_string())),
            not_before: *NOW,
            not_after: *NOW + SignedDuration::from_hours(24),
            policy: Some("2.23.146.1.2.1.1"),
            usage: Usage::Signer,
            more: Vec::new(),
        };
        change(&mut wording);
        let issuer = Issuer { name: &eum_certificate.subject_der, key: eum_key.unwrap_or(PKI.eum().private()) };
        let point = point::point_of(&LINE.euicc_key).unwrap();
        let euicc = issue::certificate(&issuer, &point, &wording).unwrap();
        let Line { eid, otpk, signature, .. } = *LINE;
        Line { eid, otpk, signature, euicc_key: LINE.euicc_key.clone(), euicc, eum: LINE.eum.clone() }
    }

    /// A line under an EUM of another wording.
    fn under_eum(change: impl FnOnce(&mut Wording<'_>)) -> Line {
        let ci = Certificate::from_der(PKI.ci_der()).unwrap();
        let mut wording = Wording {
            subject: issue::name(Some(TEST_EUM), Some("EUM Test"), None),
            not_before: *NOW,
            not_after: *NOW + SignedDuration::from_hours(24),
            policy: Some("2.23.146.1.2.1.2"),
            usage: Usage::Authority { path_length: Some(0) },
            more: vec![issue::name_constraints(TEST_EUM, TEST_EIN)],
        };
        change(&mut wording);
        let issuer = Issuer { name: &ci.subject_der, key: PKI.ci_private() };
        let eum = issue::certificate(&issuer, &point::point_of(PKI.eum().private()).unwrap(), &wording).unwrap();
        let Line { eid, otpk, signature, .. } = *LINE;
        Line { eid, otpk, signature, euicc_key: LINE.euicc_key.clone(), euicc: LINE.euicc.clone(), eum }
    }

    #[test]
    fn both_forms_of_eum_are_taken() {
        let judge = judge_at(*NOW);
        assert_eq!(code(&judge, &LINE), "ok");
        let v3 = PKI.another_eum(EumForm::V3, "890490", *NOW).unwrap();
        assert_eq!(code(&judge, &line(&v3, "890490320010012345678901234567")), "ok");
    }

    /// A judge that believes the CIs of both curves, and the PKI of brainpoolP256r1.
    fn both_curves() -> (EuiccJudge, TestPki) {
        let brainpool = TestPki::create_on(Curve::Brainpool, *NOW).unwrap();
        let roots = [PKI.ci_der(), brainpool.ci_der()].map(|der| Certificate::from_der(der).unwrap());
        (EuiccJudge::new(Arc::new(Trust::of(roots.into())), *NOW), brainpool)
    }

    #[test]
    fn a_key_on_either_curve_is_believed_and_one_that_nobody_here_serves_is_refused() {
        let (judge, pki) = both_curves();
        let brainpool = line(pki.eum(), &format!("{TEST_EIN}0010012345678901234567"));
        assert_eq!((code(&judge, &LINE), code(&judge, &brainpool)), ("ok", "ok"));
        assert_eq!(Curve::of_point(&brainpool.otpk), Some(Curve::Brainpool));
        let judge = judge.serving(&[Curve::P256]);
        assert_eq!((code(&judge, &LINE), code(&judge, &brainpool)), ("ok", "eligibility"));
    }

    #[test]
    fn a_one_time_key_on_another_curve_than_its_certificate_is_refused_even_when_signed() {
        let (judge, pki) = both_curves();
        for (eum, other) in [(PKI.eum(), Curve::Brainpool), (pki.eum(), Curve::P256)] {
            let mut line = line(eum, &format!("{TEST_EIN}0010012345678901234567"));
            line.otpk = point::point_of(&key_on(other)).unwrap();
            assert_eq!(code(&judge, &line), "otpk-signature");
            line.signature = raw(&line.euicc_key, &signed_data(&line.eid, &line.otpk));
            assert_eq!(code(&judge, &line), "otpk-curve");
        }
    }

    #[test]
    fn a_signature_by_a_key_of_another_curve_is_refused() {
        let (judge, pki) = both_curves();
        for (eum, other) in [(PKI.eum(), Curve::Brainpool), (pki.eum(), Curve::P256)] {
            let mut line = line(eum, &format!("{TEST_EIN}0010012345678901234567"));
            line.signature = raw(&key_on(other), &signed_data(&line.eid, &line.otpk));
            assert_eq!(code(&judge, &line), "otpk-signature");
        }
    }

    #[test]
    fn each_wrong_eum_is_refused_by_its_own_name() {
        let judge = judge_at(*NOW);
        assert_eq!(code(&judge, &under_eum(|_| {})), "ok"); // the pattern the next ones change
        assert_eq!(code(&judge, &under_eum(|w| w.policy = Some("2.23.146.1.2.1.1"))), "eum-role");
        assert_eq!(code(&judge, &under_eum(|w| w.policy = None)), "eum-role");
        assert_eq!(code(&judge, &under_eum(|w| w.usage = Usage::Signer)), "eum-not-a-ca");
        assert_eq!(code(&judge, &under_eum(|w| w.more.clear())), "eum-unlimited");
        assert_eq!(code(&judge, &under_eum(|w| w.not_after = *NOW - SignedDuration::from_secs(1))), "eum-expired");
        assert_eq!(code(&judge, &under_eum(|w| w.not_before = *NOW + SignedDuration::from_secs(1))), "eum-expired");
        let foreign = issue::extension("1.3.6.1.4.1.55555.1", true, &[5, 0]);
        assert_eq!(code(&judge, &under_eum(|w| w.more.push(foreign))), "eum-extension");
        let harmless = issue::extension("1.3.6.1.4.1.55555.1", false, &[5, 0]);
        assert_eq!(code(&judge, &under_eum(|w| w.more.push(harmless))), "ok");
        let mut lax = issue::name_constraints(TEST_EUM, TEST_EIN);
        let at = lax.windows(3).position(|w| w == [1, 1, 0xFF]).unwrap();
        lax.drain(at..at + 3);
        lax[1] -= 3;
        assert_eq!(code(&judge, &under_eum(|w| w.more = vec![lax])), "eum-extension");
        let stranger = TestPki::create(*NOW).unwrap();
        assert_eq!(code(&judge, &line(stranger.eum(), &LINE.eid.to_string()[..30])), "eum-ci-unknown");
        assert_eq!(code(&judge_at(*NOW + SignedDuration::from_hours(24 * 366 * 40)), &LINE), "ci-expired");
        let mut cut = line(PKI.eum(), &LINE.eid.to_string()[..30]);
        cut.eum.pop();
        assert_eq!(code(&judge, &cut), "eum-unreadable");
    }

    #[test]
    fn each_wrong_euicc_certificate_is_refused_by_its_own_name() {
        let judge = judge_at(*NOW);
        assert_eq!(code(&judge, &reworded(|_| {}, None)), "ok");
        assert_eq!(code(&judge, &reworded(|w| w.policy = Some("2.23.146.1.2.1.2"), None)), "euicc-role");
        assert_eq!(code(&judge, &reworded(|w| w.usage = Usage::Authority { path_length: None }, None)), "euicc-usage");
        let late = SignedDuration::from_hours(24 * 400);
        assert_eq!(code(&judge, &reworded(|w| w.not_before = *NOW + late, None)), "euicc-expired");
        assert_eq!(code(&judge, &reworded(|w| w.not_after = *NOW - late, None)), "euicc-expired");
        let foreign = issue::extension("1.3.6.1.4.1.55555.1", true, &[5, 0]);
        assert_eq!(code(&judge, &reworded(|w| w.more.push(foreign), None)), "euicc-extension");
        let other = Eid::from_body(&format!("{TEST_EIN}0010012345678901234568")).unwrap().to_string();
        let subject = issue::name(Some(TEST_EUM), None, Some(&other));
        assert_eq!(code(&judge, &reworded(|w| w.subject = subject, None)), "eid-mismatch");
        let subject = issue::name(Some("Somebody Else"), None, Some(&LINE.eid.to_string()));
        assert_eq!(code(&judge, &reworded(|w| w.subject = subject, None)), "eid-range");
        // Another key under the right name: told by the key identifier, and by the signature when that lies.
        assert_eq!(code(&judge, &reworded(|_| {}, Some(&key()))), "euicc-issuer");
        let mut forged = line(PKI.eum(), &LINE.eid.to_string()[..30]);
        let last = forged.euicc.len() - 1;
        forged.euicc[last] ^= 1;
        assert_eq!(code(&judge, &forged), "euicc-signature");
    }

    #[test]
    fn an_eid_outside_the_range_is_refused_in_both_forms() {
        let judge = judge_at(*NOW);
        for form in [EumForm::V2, EumForm::V3] {
            let eum = PKI.another_eum(form, "89049033", *NOW).unwrap();
            assert_eq!(code(&judge, &line(&eum, &LINE.eid.to_string()[..30])), "eid-range");
        }
    }

    #[test]
    fn what_is_no_point_and_what_is_not_signed_is_refused() {
        let judge = judge_at(*NOW);
        let check =
            |otpk: &[u8]| judge.check(&LINE.eid, otpk, &LINE.signature, &LINE.euicc, &LINE.eum).unwrap_err().code;
        let mut off_curve = LINE.otpk;
        off_curve[64] ^= 1;
        let mut hybrid = LINE.otpk;
        hybrid[0] = 6 | hybrid[64] & 1;
        for wrong in [&off_curve[..], &hybrid, &LINE.otpk[..64], &[0; 65], &[]] {
            assert_eq!(check(wrong), "otpk-not-a-point");
        }
        let another = point::point_of(&key()).unwrap();
        assert_eq!(check(&another), "otpk-signature");
        // Signed, but for another eUICC: the EID is part of what is signed.
        let other = Eid::from_body(&format!("{TEST_EIN}0010012345678901234568")).unwrap();
        let signature = raw(&LINE.euicc_key, &signed_data(&other, &LINE.otpk));
        let refusal = judge.check(&LINE.eid, &LINE.otpk, &signature, &LINE.euicc, &LINE.eum).unwrap_err();
        assert_eq!(refusal.code, "otpk-signature");
    }

    #[test]
    fn what_is_signed_has_the_contracts_octets() {
        let data = signed_data(&LINE.eid, &LINE.otpk);
        assert_eq!(data[..4], [0x30, 0x56, 0x5A, 0x10]);
        assert_eq!(data[4..20], LINE.eid.packed()[..]);
        assert_eq!(data[20..23], [0x5F, 0x49, 0x41]);
        assert_eq!(data[23..], LINE.otpk[..]);
    }

    #[test]
    fn one_judge_serves_many_threads() {
        let judge = judge_at(*NOW);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5).for_each(|_| assert_eq!(code(&judge, &LINE), "ok")));
            }
        });
        assert_eq!(judge.eums.read().unwrap().len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn one_wrong_bit_anywhere_is_always_refused(part in 0..4_usize, at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let judge = judge_at(*NOW);
            let mut parts = [LINE.otpk.to_vec(), LINE.signature.to_vec(), LINE.euicc.clone(), LINE.eum.clone()];
            let at = at.index(parts[part].len());
            parts[part][at] ^= 1 << bit;
            let [otpk, signature, euicc, eum] = parts;
            let verdict = judge.check(&LINE.eid, &otpk, &signature.try_into().unwrap(), &euicc, &eum);
            prop_assert!(verdict.is_err(), "bit {bit} of octet {at} in part {part}");
        }

        #[test]
        fn hostile_certificates_cost_a_refusal_at_most(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            let verdict = judge_at(*NOW).check(&LINE.eid, &LINE.otpk, &LINE.signature, &octets, &octets);
            prop_assert!(verdict.is_err());
        }
    }
}
