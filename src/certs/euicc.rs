//! Judges one line of an eUICC key file: chain, dates, roles, EID range of the EUM, and the signature over the one-time key.
//!
//! In: EID, otPK, signature, CERT.EUICC, CERT.EUM. Out: the point, or why not. One judge serves all threads; an EUM certificate
//! is looked at once. Sources: SGP.22 §4.5.2.1.0.2 (EUM constraint), §4.5.2.1.0.3; the key line is the contract's.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use openssl::sha::sha256;

use super::trust::Untrusted;
use super::{CertRefusal, Certificate, Trust, point};
use crate::formats::tlv::{self, Tag};
use crate::ids::Eid;

/// id-rspRole-eum, v2 and v3.
const EUM_ROLES: &[&str] = &["2.23.146.1.2.1.2", "2.23.146.1.2.1.0.0.0"];
/// id-rspRole-euicc, v2 and v3.
const EUICC_ROLES: &[&str] = &["2.23.146.1.2.1.1", "2.23.146.1.2.1.0.0.0.0.0"];

/// EUM certificates remembered at most: key files are input, input must not grow memory without bound.
const EUMS_REMEMBERED: usize = 1_024;

type Verdict = Result<Arc<Certificate>, CertRefusal>;

/// Judges key lines at one point in time.
pub struct EuiccJudge {
    trust: Arc<Trust>,
    now: Timestamp,
    eums: RwLock<HashMap<Vec<u8>, Verdict>>,
}

impl EuiccJudge {
    /// Believes these roots, at this time.
    pub fn new(trust: Arc<Trust>, now: Timestamp) -> Self {
        Self { trust, now, eums: RwLock::default() }
    }

    /// Checks one key line; the otPK as a point when everything holds.
    pub fn check(
        &self,
        eid: &Eid,
        otpk: &[u8],
        signature: &[u8; 64],
        euicc_cert_der: &[u8],
        eum_cert_der: &[u8],
    ) -> Result<[u8; 65], CertRefusal> {
        let otpk: [u8; 65] =
            otpk.try_into().ok().filter(|point| point::public_key(point).is_ok()).ok_or_else(|| CertRefusal {
                code: "otpk-not-a-point",
                message: "the one-time key is not an uncompressed point of P-256 (65 octets)".into(),
                hint: "ask the eUICC's owner for a new key file",
            })?;
        let eum = self.eum(eum_cert_der)?;
        let euicc = self.euicc(eid, euicc_cert_der, &eum)?;
        if point::verifies(euicc.key(), &sha256(&signed_data(eid, &otpk)), signature) {
            return Ok(otpk);
        }
        Err(CertRefusal {
            code: "otpk-signature",
            message: "the signature over EID and one-time key does not verify under the eUICC's certificate".into(),
            hint: "the key was forged, damaged or belongs to another eUICC: ask for a new key file",
        })
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
        if euicc.subject.serial_number.as_deref() != Some(eid.to_string().as_str()) {
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
        within_limit(eid, &euicc, eum)?;
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
fn within_limit(eid: &Eid, euicc: &Certificate, eum: &Certificate) -> Result<(), CertRefusal> {
    let digits = eid.to_string();
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
