//! A test fleet: eUICCs with certificates of the site's test EUM and signed one-time keys, for `prebound` orders.
//!
//! Out: `euicc.jsonl`, the key file an order names, and `secrets.jsonl`, the private one-time keys that only `verify` on a test
//! site reads. Rule: never for a production site; the private keys of the eUICCs themselves are wiped once they have signed.
//! Source: contract "eUICC key file", in the style of SGP.41.

mod files;

use data_encoding::BASE64;
use openssl::bn::BigNumContext;
use openssl::ec::{EcKey, PointConversionForm};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::sha::sha256;
use serde::Serialize;
use zeroize::Zeroizing;

pub use self::files::FleetFiles;
use crate::error::{Exit, Fault};
use crate::formats::curve::Curve;
use crate::formats::tlv::{Tag, wrap};
use crate::ids::Eid;

/// EUM identification number of all test fleets: the SGP.26 test EUM's.
const EIN: &str = "89049032";

/// Who certifies eUICCs: the site's test EUM.
pub trait Issuer: Sync {
    /// A certificate whose subject serialNumber is the EID, over an uncompressed point, by the EUM of its curve. DER.
    fn issue_euicc(&self, eid: &Eid, public_point: &[u8; 65]) -> Result<Vec<u8>, Fault>;
    /// The own certificate of the EUM of this curve. DER.
    fn eum_certificate(&self, curve: Curve) -> Result<&[u8], Fault>;
}

/// The EIDs of one fleet: EIN, ten random digits that tell fleets apart, a serial, two check digits.
#[derive(Clone, Debug)]
pub struct FleetNumbers {
    prefix: String,
}

impl FleetNumbers {
    /// A fleet of its own.
    pub fn random() -> Result<Self, Fault> {
        let mut octets = [0; 8];
        openssl::rand::rand_bytes(&mut octets).map_err(no_crypto)?;
        Ok(Self { prefix: format!("{EIN}{:010}", u64::from_be_bytes(octets) % 10_000_000_000) })
    }

    /// The EID of device `serial`, counted from 0.
    pub fn eid(&self, serial: u64) -> Result<Eid, Fault> {
        Eid::from_body(&format!("{}{serial:012}", self.prefix))
            .map_err(|e| Fault::new(Exit::Exhausted, format!("no EID for device {serial}: {e}")))
    }
}

/// One line of each file for one one-time key, without line ends.
pub struct FleetLine {
    /// For `euicc.jsonl`.
    pub euicc: String,
    /// For `secrets.jsonl`.
    pub secret: Zeroizing<String>,
}

/// Makes one eUICC with `keys` one-time keys, all on one curve. Stands alone, so any number may be made at once.
pub fn make_one(issuer: &dyn Issuer, eid: &Eid, curve: Curve, keys: u32) -> Result<Vec<FleetLine>, Fault> {
    let identity = curve.group().and_then(EcKey::generate).map_err(no_crypto)?;
    let certificate = issuer.issue_euicc(eid, &point(&identity).map_err(no_crypto)?)?;
    let chain = [&certificate, issuer.eum_certificate(curve)?];
    (0..keys).map(|_| one_time_key(eid, &identity, chain)).collect()
}

/// The DER that the eUICC signs: `30 L { 5A 10 EID packed, 5F49 41 otPK }`.
fn signed_octets(eid: &Eid, otpk: &[u8; 65]) -> Vec<u8> {
    wrap(Tag(0x30), &[&wrap(Tag(0x5A), &[eid.packed()]), &wrap(Tag(0x5F49), &[otpk])])
}

#[derive(Serialize)]
struct EuiccLine<'a> {
    eid: &'a str,
    euicc_otpk: &'a str,
    signature: String,
    euicc_certificate: String,
    eum_certificate: String,
}

#[derive(Serialize)]
struct SecretLine<'a> {
    eid: &'a str,
    euicc_otpk: &'a str,
    euicc_otsk: &'a str,
}

fn one_time_key(eid: &Eid, identity: &EcKey<Private>, [euicc, eum]: [&[u8]; 2]) -> Result<FleetLine, Fault> {
    let one_time = EcKey::generate(identity.group()).map_err(no_crypto)?;
    let otpk = point(&one_time).map_err(no_crypto)?;
    let signature = sign_raw(identity, &signed_octets(eid, &otpk)).map_err(no_crypto)?;
    let pem = PKey::from_ec_key(one_time).and_then(|key| key.private_key_to_pem_pkcs8()).map_err(no_crypto)?;
    let pem = Zeroizing::new(pem);
    let not_text = |e: &dyn std::fmt::Display| Fault::new(Exit::Bug, format!("fleet line is not text: {e}"));
    let otsk = std::str::from_utf8(&pem).map_err(|e| not_text(&e))?;
    let (eid, euicc_otpk) = (&eid.to_string(), &BASE64.encode(&otpk));
    let line = EuiccLine {
        eid,
        euicc_otpk,
        signature: BASE64.encode(&signature),
        euicc_certificate: BASE64.encode(euicc),
        eum_certificate: BASE64.encode(eum),
    };
    let euicc = serde_json::to_string(&line).map_err(|e| not_text(&e))?;
    let secret = serde_json::to_string(&SecretLine { eid, euicc_otpk, euicc_otsk: otsk }).map_err(|e| not_text(&e))?;
    Ok(FleetLine { euicc, secret: Zeroizing::new(secret) })
}

/// ECDSA-SHA256, raw r || s (BSI TR-03111 plain format).
fn sign_raw(key: &EcKey<Private>, message: &[u8]) -> Result<[u8; 64], ErrorStack> {
    let signature = EcdsaSig::sign(&sha256(message), key)?;
    let mut raw = [0; 64];
    raw[..32].copy_from_slice(&signature.r().to_vec_padded(32)?);
    raw[32..].copy_from_slice(&signature.s().to_vec_padded(32)?);
    Ok(raw)
}

fn point(key: &EcKey<Private>) -> Result<[u8; 65], ErrorStack> {
    let mut ctx = BigNumContext::new()?;
    let octets = key.public_key().to_bytes(key.group(), PointConversionForm::UNCOMPRESSED, &mut ctx)?;
    let mut point = [0; 65];
    point.copy_from_slice(&octets);
    Ok(point)
}

fn no_crypto(error: ErrorStack) -> Fault {
    Fault::new(Exit::Bug, format!("OpenSSL could not make a test key: {error}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use openssl::bn::BigNum;
    use serde_json::Value;

    use super::*;

    /// Hands out a certificate that is only the point: enough to see what is asked for.
    pub(crate) struct Echo;

    impl Issuer for Echo {
        fn issue_euicc(&self, _: &Eid, public_point: &[u8; 65]) -> Result<Vec<u8>, Fault> {
            Ok(public_point.to_vec())
        }
        fn eum_certificate(&self, curve: Curve) -> Result<&[u8], Fault> {
            Ok(curve.as_str().as_bytes())
        }
    }

    fn octets(line: &Value, name: &str) -> Vec<u8> {
        BASE64.decode(line[name].as_str().unwrap().as_bytes()).unwrap()
    }

    #[test]
    fn the_signed_octets_are_the_contracts() {
        let eid = "89049032123451234512345678901235".parse().unwrap();
        let signed = signed_octets(&eid, &[4; 65]);
        assert_eq!(signed.len(), 2 + 18 + 68);
        assert_eq!(signed[..6], [0x30, 86, 0x5A, 16, 0x89, 0x04]);
        assert_eq!(signed[20..23], [0x5F, 0x49, 65]);
    }

    #[test]
    fn every_key_is_signed_by_its_euicc_and_opens_with_its_secret() {
        let eid = FleetNumbers::random().unwrap().eid(7).unwrap();
        for curve in Curve::ALL {
            let lines = make_one(&Echo, &eid, curve, 2).unwrap();
            assert_eq!(lines.len(), 2);
            lines.iter().for_each(|line| check_line(line, &eid, curve));
            assert_ne!(*lines[0].secret, *lines[1].secret);
        }
    }

    fn check_line(line: &FleetLine, eid: &Eid, curve: Curve) {
        let public: Value = serde_json::from_str(&line.euicc).unwrap();
        let secret: Value = serde_json::from_str(&line.secret).unwrap();
        assert_eq!(public["eid"], eid.to_string());
        assert_eq!(public["eid"], secret["eid"]);
        assert_eq!(public["euicc_otpk"], secret["euicc_otpk"]);
        assert_eq!(octets(&public, "eum_certificate"), curve.as_str().as_bytes());

        let otpk: [u8; 65] = octets(&public, "euicc_otpk").try_into().unwrap();
        let pem = secret["euicc_otsk"].as_str().unwrap();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----"));
        let otsk = PKey::private_key_from_pem(pem.as_bytes()).unwrap().ec_key().unwrap();
        assert_eq!(point(&otsk).unwrap(), otpk);

        let group = curve.group().unwrap();
        assert_eq!(otsk.group().curve_name(), group.curve_name());
        let mut ctx = BigNumContext::new().unwrap();
        let identity = octets(&public, "euicc_certificate");
        let identity = openssl::ec::EcPoint::from_bytes(group, &identity, &mut ctx).unwrap();
        let identity = EcKey::from_public_key(group, &identity).unwrap();
        let raw = octets(&public, "signature");
        let number = |part: &[u8]| BigNum::from_slice(part).unwrap();
        let signature = EcdsaSig::from_private_components(number(&raw[..32]), number(&raw[32..])).unwrap();
        assert!(signature.verify(&sha256(&signed_octets(eid, &otpk)), &identity).unwrap());
        assert!(!signature.verify(&sha256(&signed_octets(eid, &[4; 65])), &identity).unwrap());
    }

    #[test]
    fn a_fleet_counts_its_eids_and_ends_after_twelve_digits() {
        let fleet = FleetNumbers::random().unwrap();
        let (first, second) = (fleet.eid(0).unwrap().to_string(), fleet.eid(1).unwrap().to_string());
        assert!(first.starts_with(EIN));
        assert_eq!((&first[..18], &second[18..30]), (&second[..18], "000000000001"));
        assert_eq!(fleet.eid(1_000_000_000_000).unwrap_err().exit, Exit::Exhausted);
    }
}
