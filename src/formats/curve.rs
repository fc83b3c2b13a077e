//! The curves of SGP.22 that Bindery serves, and what is common to both: 256 bits, cofactor 1, SHA-256 beside them.
//! Rule: nobody chooses a curve. It is that of the eUICC's certificate; one-time keys, DPauth and DPpb follow it (SGP.22 §2.6.5).
//! No message names the curve: the control reference template of InitialiseSecureChannel tells the symmetric keys alone.
//! Sources: SEC 2 §2.4.2, RFC 5639 §3.4.

use std::fmt;
use std::sync::OnceLock;

use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::ec::{EcGroup, EcGroupRef, EcPoint};
use openssl::error::ErrorStack;
use openssl::nid::Nid;

/// A curve of 256 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Curve {
    /// NIST P-256 (secp256r1).
    P256,
    /// brainpoolP256r1.
    Brainpool,
}

impl Curve {
    /// All of them, the usual one first.
    pub const ALL: [Self; 2] = [Self::P256, Self::Brainpool];

    /// The standards' name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::Brainpool => "brainpoolP256r1",
        }
    }

    /// What stands behind names of roles and titles of keys on this curve; nothing for P-256, which was there first.
    pub fn suffix(self) -> Option<&'static str> {
        match self {
            Self::P256 => None,
            Self::Brainpool => Some("brainpool"),
        }
    }

    /// The same behind names of files.
    pub fn file_tail(self) -> &'static str {
        match self {
            Self::P256 => "",
            Self::Brainpool => "-brainpool",
        }
    }

    /// ECParameters, namedCurve, DER: as in SubjectPublicKeyInfo (RFC 5480 §2.1.1) and CKA_EC_PARAMS.
    pub fn params_der(self) -> &'static [u8] {
        match self {
            Self::P256 => &[0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07], // 1.2.840.10045.3.1.7
            Self::Brainpool => &[0x06, 0x09, 0x2B, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x07], // 1.3.36.3.3.2.8.1.1.7
        }
    }

    /// The curve whose parameters these are.
    pub fn of_params(der: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|curve| curve.params_der() == der)
    }

    /// The curve on which an uncompressed point lies. A point of one that also satisfied the other's equation would have to be
    /// searched for among 2^256; and a one-time key is compared with its eUICC's certificate before it is taken.
    pub fn of_point(point: &[u8; 65]) -> Option<Self> {
        let mut numbers = BigNumContext::new().ok()?;
        Self::ALL.into_iter().find(|curve| curve.point(point, &mut numbers).is_some())
    }

    /// The point, if it is an uncompressed one of this curve. OpenSSL also takes the hybrid forms 06 and 07 of 65 octets; SGP.22
    /// knows the uncompressed one alone.
    pub fn point(self, octets: &[u8; 65], numbers: &mut BigNumContext) -> Option<EcPoint> {
        let group = self.group().ok().filter(|_| octets[0] == 0x04)?;
        EcPoint::from_bytes(group, octets, numbers).ok()
    }

    /// OpenSSL's group, made once: making one costs as much as a key.
    pub fn group(self) -> Result<&'static EcGroupRef, ErrorStack> {
        Ok(&self.domain()?.group)
    }

    /// The order of the group.
    pub fn order(self) -> Result<&'static BigNumRef, ErrorStack> {
        Ok(&self.domain()?.order)
    }

    fn domain(self) -> Result<&'static Domain, ErrorStack> {
        static DOMAINS: [OnceLock<Domain>; 2] = [OnceLock::new(), OnceLock::new()];
        let (slot, nid) = match self {
            Self::P256 => (&DOMAINS[0], Nid::X9_62_PRIME256V1),
            Self::Brainpool => (&DOMAINS[1], Nid::BRAINPOOL_P256R1),
        };
        if let Some(domain) = slot.get() {
            return Ok(domain);
        }
        let group = EcGroup::from_curve_name(nid)?;
        let mut order = BigNum::new()?;
        group.order(&mut order, &mut *BigNumContext::new()?)?;
        Ok(slot.get_or_init(|| Domain { group, order }))
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

struct Domain {
    group: EcGroup,
    order: BigNum,
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::ec::{EcKey, PointConversionForm};

    fn a_point(curve: Curve) -> [u8; 65] {
        let group = curve.group().unwrap();
        let key = EcKey::generate(group).unwrap();
        let mut numbers = BigNumContext::new().unwrap();
        key.public_key().to_bytes(group, PointConversionForm::UNCOMPRESSED, &mut numbers).unwrap().try_into().unwrap()
    }

    #[test]
    fn a_point_tells_its_curve_and_is_none_of_the_other() {
        let mut numbers = BigNumContext::new().unwrap();
        for (curve, other) in [(Curve::P256, Curve::Brainpool), (Curve::Brainpool, Curve::P256)] {
            let point = a_point(curve);
            assert_eq!(Curve::of_point(&point), Some(curve));
            assert!(curve.point(&point, &mut numbers).is_some());
            assert!(other.point(&point, &mut numbers).is_none());
        }
    }

    #[test]
    fn other_forms_and_points_off_both_curves_have_no_curve() {
        for curve in Curve::ALL {
            let good = a_point(curve);
            for (at, octet) in [(64, good[64] ^ 1), (0, 0), (0, 2), (0, 6 | good[64] & 1), (1, good[1] ^ 0x80)] {
                let mut point = good;
                point[at] = octet;
                assert_eq!(Curve::of_point(&point), None, "{curve}: octet {at} = {octet:02x}");
            }
        }
        assert_eq!(Curve::of_point(&[0; 65]), None);
    }

    #[test]
    fn parameters_are_the_published_identifiers() {
        for (curve, name) in [(Curve::P256, "1.2.840.10045.3.1.7"), (Curve::Brainpool, "1.3.36.3.3.2.8.1.1.7")] {
            let object = openssl::asn1::Asn1Object::from_str(name).unwrap();
            assert_eq!(curve.params_der()[2..], *object.as_slice());
            assert_eq!(usize::from(curve.params_der()[1]), object.as_slice().len());
            assert_eq!(Curve::of_params(curve.params_der()), Some(curve));
            assert_eq!(object.nid(), curve.group().unwrap().curve_name().unwrap());
        }
        assert_eq!(Curve::of_params(&[0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22]), None); // secp384r1
    }
}
