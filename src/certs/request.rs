//! PKCS#10 requests (RFC 2986) for keys that never leave the token: the part that is signed is written here, the token signs it.

use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;

use super::issue::{self, object};
use super::{Curve, DpRole};
use crate::formats::tlv::{self, Tag};

const SEQUENCE: Tag = Tag(0x30);
const SET: Tag = Tag(0x31);
const BIT_STRING: Tag = Tag(0x03);

/// What a request says besides its key.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// O of the subject.
    pub organization: Option<&'a str>,
    /// CN of the subject.
    pub common_name: &'a str,
    /// The role of SGP.22; none for the manifest key.
    pub role: Option<DpRole>,
    /// SM-DP+ OID, dotted, for subjectAltName.
    pub oid: Option<&'a str>,
}

/// CertificationRequestInfo over a point on this curve: its SHA-256 is what the token signs.
pub fn info(curve: Curve, point: &[u8; 65], asked: &Asked<'_>) -> Vec<u8> {
    let curve = tlv::wrap(SEQUENCE, &[&object("1.2.840.10045.2.1"), curve.params_der()]);
    let spki = tlv::wrap(SEQUENCE, &[&curve, &tlv::wrap(BIT_STRING, &[&[0], point])]);
    let mut extensions = issue::extension("2.5.29.15", true, &[0x03, 0x02, 0x07, 0x80]); // digitalSignature
    if let Some(role) = asked.role {
        let policy = tlv::wrap(SEQUENCE, &[&object(role.policy())]);
        extensions.extend(issue::extension("2.5.29.32", true, &tlv::wrap(SEQUENCE, &[&policy])));
    }
    if let Some(oid) = asked.oid {
        extensions.extend(issue::registered_id(oid));
    }
    let extension_request = tlv::wrap(
        SEQUENCE,
        &[&object("1.2.840.113549.1.9.14"), &tlv::wrap(SET, &[&tlv::wrap(SEQUENCE, &[&extensions])])],
    );
    let subject = issue::name(asked.organization, Some(asked.common_name), None);
    tlv::wrap(SEQUENCE, &[&[0x02, 0x01, 0x00], &subject, &spki, &tlv::wrap(Tag(0xA0), &[&extension_request])])
}

/// The whole request: the info and the token's `r || s` over its SHA-256.
pub fn signed(info: &[u8], signature: &[u8; 64]) -> Result<Vec<u8>, ErrorStack> {
    let (r, s) = signature.split_at(32);
    let der = EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?.to_der()?;
    let algorithm = tlv::wrap(SEQUENCE, &[&object("1.2.840.10045.4.3.2")]);
    Ok(tlv::wrap(SEQUENCE, &[info, &algorithm, &tlv::wrap(BIT_STRING, &[&[0], &der])]))
}

/// PEM form (RFC 7468).
pub fn pem(der: &[u8]) -> String {
    super::certificate::pem(der).replace("CERTIFICATE", "CERTIFICATE REQUEST")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::point;
    use crate::certs::test_pki::TEST_OID;
    use openssl::ec::EcKey;
    use openssl::sha::sha256;
    use openssl::x509::X509Req;

    #[test]
    fn openssl_reads_the_request_and_verifies_it_under_its_own_key() {
        for curve in Curve::ALL {
            let key = EcKey::generate(curve.group().unwrap()).unwrap();
            let own = point::point_of(&key).unwrap();
            let asked = Asked {
                organization: Some("Example"),
                common_name: "smdp.example.com DPpb",
                role: Some(DpRole::Pb),
                oid: Some(TEST_OID),
            };
            let info = info(curve, &own, &asked);
            let signature = EcdsaSig::sign(&sha256(&info), &key).unwrap();
            let mut raw = [0; 64];
            raw[..32].copy_from_slice(&signature.r().to_vec_padded(32).unwrap());
            raw[32..].copy_from_slice(&signature.s().to_vec_padded(32).unwrap());
            let request = X509Req::from_pem(pem(&signed(&info, &raw).unwrap()).as_bytes()).unwrap();
            let public = request.public_key().unwrap();
            assert!(request.verify(&public).unwrap());
            assert_eq!(point::point_of(&public.ec_key().unwrap()).unwrap(), own);
            assert_eq!(request.extensions().unwrap().len(), 3);
            raw[40] ^= 1;
            let forged = X509Req::from_der(&signed(&info, &raw).unwrap()).unwrap();
            assert!(!forged.verify(&public).unwrap_or(false));
        }
    }
}
