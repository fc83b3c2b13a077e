//! DPauth and DPpb chains, judged against the CI certificates the site trusts (SGP.22 §4.5.2, roles of v2 and v3).
//!
//! In: certificates of a bundle, trusted CIs, a time. Out: [`DpTrust`], the keys that may have signed InitialiseSecureChannel.

use openssl::asn1::Asn1Time;
use openssl::bn::BigNumContext;
use openssl::ec::{EcKeyRef, PointConversionForm};
use openssl::error::ErrorStack;
use openssl::pkey::{HasPublic, PKey, Public};
use openssl::x509::{X509, X509Ref, X509VerifyResult};

use super::finding::{Check, Finding};
use crate::formats::tlv::{self, Tag, Tlv};

/// Sub-CAs between a leaf and the CI at most: CI sub-CA and role sub-CA (chain variant C).
const SUB_CAS_MAX: usize = 2;

const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1D, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 0x13];
const CERTIFICATE_POLICIES: &[u8] = &[0x55, 0x1D, 0x20];

/// Role policies: 2.23.146.1.2.1.4 and .5 (v2), 2.23.146.1.2.1.0.0.1.1 and .2 (v3).
const DPAUTH: [&[u8]; 2] = [&[0x67, 0x81, 0x12, 1, 2, 1, 4], &[0x67, 0x81, 0x12, 1, 2, 1, 0, 0, 1, 1]];
const DPPB: [&[u8]; 2] = [&[0x67, 0x81, 0x12, 1, 2, 1, 5], &[0x67, 0x81, 0x12, 1, 2, 1, 0, 0, 1, 2]];

/// The SM-DP+ that the trusted CIs vouch for.
pub struct DpTrust {
    dppb: Vec<PKey<Public>>,
    oid: String,
}

impl DpTrust {
    /// DER certificates in, trust out: both roles are there, every chain leads to a CI, in date, and one OID stands in all.
    pub fn establish(certificates: &[X509], cis: &[X509], now_unix_s: i64) -> Result<Self, Vec<Finding>> {
        let mut findings = Vec::new();
        let mut wrong = |what: String| findings.push(Finding::new(Check::DpChain, what));
        let mut dppb = Vec::new();
        let mut oids = Vec::new();
        for (role, policies) in [("DPauth", DPAUTH), ("DPpb", DPPB)] {
            let leaves: Vec<_> = certificates.iter().filter(|cert| has_policy(cert, &policies)).collect();
            if leaves.is_empty() {
                wrong(format!("no {role} certificate in certs/"));
            }
            for leaf in leaves {
                if let Err(what) = lead_to_ci(leaf, certificates, cis, now_unix_s) {
                    wrong(format!("{role} certificate: {what}"));
                    continue;
                }
                match (registered_id(leaf), leaf.public_key()) {
                    (Some(oid), Ok(key)) => {
                        oids.push(oid);
                        dppb.extend((role == "DPpb").then_some(key));
                    }
                    (None, _) => wrong(format!("{role} certificate has no RegisteredID")),
                    (_, Err(_)) => wrong(format!("{role} certificate has no usable public key")),
                }
            }
        }
        oids.dedup();
        match oids.as_slice() {
            [oid] if findings.is_empty() => Ok(Self { dppb, oid: oid.clone() }),
            [_, _, ..] => {
                let what = format!("the certificates name different SM-DP+: {}", oids.join(", "));
                findings.push(Finding::new(Check::DpChain, what));
                Err(findings)
            }
            _ => Err(findings),
        }
    }

    /// Nobody is trusted: every signature check fails.
    pub(super) fn nobody() -> Self {
        Self { dppb: Vec::new(), oid: String::new() }
    }

    #[cfg(test)]
    pub(super) fn of_key(key: PKey<Public>) -> Self {
        Self { dppb: vec![key], oid: "2.999.10".into() }
    }

    pub(super) fn dppb(&self) -> &[PKey<Public>] {
        &self.dppb
    }

    /// OID of the SM-DP+, dotted.
    pub fn oid(&self) -> &str {
        &self.oid
    }
}

fn lead_to_ci(leaf: &X509, pool: &[X509], cis: &[X509], now_unix_s: i64) -> Result<(), String> {
    let mut current = leaf;
    for _ in 0..=SUB_CAS_MAX {
        in_date(current, now_unix_s)?;
        if let Some(ci) = cis.iter().find(|ci| signed_by(current, ci)) {
            return in_date(ci, now_unix_s).map_err(|what| format!("its CI {what}"));
        }
        let issuer = pool.iter().find(|other| is_ca(other) && signed_by(current, other));
        current = issuer.ok_or("does not lead to a CI that this site trusts (certs/ci)")?;
    }
    Err("has more sub-CAs above it than SGP.22 knows".into())
}

fn signed_by(cert: &X509Ref, issuer: &X509Ref) -> bool {
    let signature = || cert.verify(&*issuer.public_key()?);
    issuer.issued(cert) == X509VerifyResult::OK && signature().unwrap_or(false)
}

fn in_date(cert: &X509Ref, now_unix_s: i64) -> Result<(), String> {
    let now = Asn1Time::from_unix(now_unix_s).map_err(|e| e.to_string())?;
    if cert.not_before() > now {
        return Err(format!("is not valid before {}", cert.not_before()));
    }
    if cert.not_after() < now {
        return Err(format!("expired on {}", cert.not_after()));
    }
    Ok(())
}

fn has_policy(cert: &X509Ref, policies: &[&[u8]]) -> bool {
    let find = || -> Option<bool> {
        let der = cert.to_der().ok()?;
        let value = extension(&der, CERTIFICATE_POLICIES)?;
        let mut list = tlv::single(value, Tag(0x30)).ok()?.children();
        let mut found = false;
        while let Some(policy) = list.next_tlv().ok()? {
            let oid = policy.children().expect(Tag(0x06)).ok()?;
            found |= policies.contains(&oid.value);
        }
        Some(found)
    };
    find().unwrap_or(false)
}

fn is_ca(cert: &X509Ref) -> bool {
    let find = || -> Option<bool> {
        let der = cert.to_der().ok()?;
        let value = extension(&der, BASIC_CONSTRAINTS)?;
        let ca = tlv::single(value, Tag(0x30)).ok()?.children().expect(Tag(0x01)).ok()?;
        Some(ca.value == [0xFF])
    };
    find().unwrap_or(false)
}

/// RegisteredID of the subject alternative name, dotted.
fn registered_id(cert: &X509Ref) -> Option<String> {
    let der = cert.to_der().ok()?;
    let mut names = tlv::single(extension(&der, SUBJECT_ALT_NAME)?, Tag(0x30)).ok()?.children();
    std::iter::from_fn(|| names.next_tlv().ok().flatten())
        .find(|name| name.tag == Tag(0x88))
        .and_then(|id| dotted(id.value))
}

/// Value of one extension: TBSCertificate's `A3 { 30 { 30 { 06 id, [01 critical], 04 value }... } }`.
fn extension<'a>(der: &'a [u8], id: &[u8]) -> Option<&'a [u8]> {
    let mut tbs = tlv::single(der, Tag(0x30)).ok()?.children().expect(Tag(0x30)).ok()?.children();
    let is_extensions = |field: &Tlv<'_>| field.tag == Tag(0xA3);
    let extensions = std::iter::from_fn(|| tbs.next_tlv().ok().flatten()).find(is_extensions)?;
    let mut list = tlv::single(extensions.value, Tag(0x30)).ok()?.children();
    while let Some(extension) = list.next_tlv().ok()? {
        let mut fields = extension.children();
        if fields.expect(Tag(0x06)).ok()?.value == id {
            fields.take_if(Tag(0x01)).ok()?;
            return fields.expect(Tag(0x04)).ok().map(|value| value.value);
        }
    }
    None
}

fn dotted(body: &[u8]) -> Option<String> {
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc = 0_u64;
    for octet in body {
        arc = arc.checked_mul(128)? + u64::from(octet & 0x7F);
        if octet & 0x80 == 0 {
            arcs.push(arc);
            arc = 0;
        }
    }
    // The first number holds two arcs: 40 times the first (0 to 2) plus the second.
    let (first, rest) = arcs.split_first().filter(|_| body.last().is_some_and(|last| last & 0x80 == 0))?;
    let root = (*first / 40).min(2);
    let arcs = [root, first - 40 * root].into_iter().chain(rest.iter().copied());
    Some(arcs.map(|arc| arc.to_string()).collect::<Vec<_>>().join("."))
}

/// The public point of a key, uncompressed.
pub(super) fn public_point<T: HasPublic>(key: &EcKeyRef<T>) -> Result<Vec<u8>, ErrorStack> {
    key.public_key().to_bytes(key.group(), PointConversionForm::UNCOMPRESSED, &mut *BigNumContext::new()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::builder::pki::{NOW_UNIX_S, Pki, Role};

    fn refused(certs: &[X509], cis: &[X509], now: i64) -> String {
        let findings = DpTrust::establish(certs, cis, now).err().unwrap();
        assert!(findings.iter().all(|f| f.check == Check::DpChain));
        findings.iter().map(|f| f.message.clone()).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn both_roles_under_one_ci_are_trusted_with_their_oid() {
        let pki = Pki::new();
        let certs = [pki.leaf(Role::Auth, "2.999.10"), pki.leaf(Role::Pb, "2.999.10")];
        let trust = DpTrust::establish(&certs, &[pki.ci()], NOW_UNIX_S).unwrap();
        assert_eq!(trust.oid(), "2.999.10");
        assert_eq!(trust.dppb().len(), 1);
        let v3 = [pki.leaf(Role::AuthV3, "2.999.10"), pki.leaf(Role::PbV3, "2.999.10")];
        assert!(DpTrust::establish(&v3, &[pki.ci()], NOW_UNIX_S).is_ok());
    }

    #[test]
    fn a_chain_fails_for_its_ci_its_date_its_role_and_its_oid() {
        let (pki, other) = (Pki::new(), Pki::new());
        let certs = [pki.leaf(Role::Auth, "2.999.10"), pki.leaf(Role::Pb, "2.999.10")];
        assert!(refused(&certs, &[other.ci()], NOW_UNIX_S).contains("does not lead to a CI"));
        assert!(refused(&certs, &[], NOW_UNIX_S).contains("does not lead to a CI"));
        assert!(refused(&certs, &[pki.ci()], NOW_UNIX_S + 40 * 365 * 86_400).contains("expired"));
        assert!(refused(&certs, &[pki.ci()], 0).contains("not valid before"));
        assert!(refused(&certs[..1], &[pki.ci()], NOW_UNIX_S).contains("no DPpb"));
        assert!(refused(&certs[1..], &[pki.ci()], NOW_UNIX_S).contains("no DPauth"));
        let mixed = [certs[0].clone(), pki.leaf(Role::Pb, "2.999.12")];
        assert!(refused(&mixed, &[pki.ci()], NOW_UNIX_S).contains("2.999.10, 2.999.12"));
    }

    #[test]
    fn object_identifiers_read_as_dots() {
        assert_eq!(dotted(&[0x88, 0x37, 0x0A]).unwrap(), "2.999.10");
        assert_eq!(dotted(&[0x67, 0x81, 0x12, 1]).unwrap(), "2.23.146.1");
        assert_eq!(dotted(&[0x2A, 0x81]), None);
        assert_eq!(dotted(&[]), None);
    }
}
