//! One certificate, read once: the fields SGP.22 looks at, owned.

use jiff::Timestamp;
use openssl::ec::EcKey;
use openssl::ecdsa::EcdsaSig;
use openssl::pkey::Public;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::{oid, point};
use crate::formats::curve::Curve;
use crate::formats::digest::sha256;
use crate::formats::tlv::{self, Tag};

/// permittedEins of an EUM certificate, v3 form.
pub(crate) const PERMITTED_EINS: &str = "2.23.146.1.2.2.0";
const ECDSA_WITH_SHA256: &str = "1.2.840.10045.4.3.2";
/// The same as AlgorithmIdentifier: without parameters (RFC 5758 §3.2).
const ECDSA_WITH_SHA256_DER: &[u8] = &[0x30, 0x0A, 0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02];

/// An X.509 certificate over a key on one of the [`Curve`]s, signed with ECDSA and SHA-256.
pub struct Certificate {
    der: Vec<u8>,
    tbs_sha256: [u8; 32],
    signature: EcdsaSig,
    key: EcKey<Public>,
    curve: Curve,
    point: [u8; 65],
    pub(crate) subject: Name,
    pub(crate) subject_der: Vec<u8>,
    pub(crate) issuer_der: Vec<u8>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// Content octets of their OIDs.
    pub(crate) policies: Vec<Vec<u8>>,
    pub(crate) subject_key_id: Option<Vec<u8>>,
    pub(crate) authority_key_id: Option<Vec<u8>>,
    pub(crate) is_ca: bool,
    pub(crate) may_sign_certificates: bool,
    pub(crate) may_sign: bool,
    pub(crate) registered_ids: Vec<String>,
    pub(crate) eid_limit: EidLimit,
    pub(crate) unknown_critical: Option<String>,
}

/// What stands in a subject name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) common_name: Option<String>,
    pub(crate) organization: Option<String>,
    pub(crate) serial_number: Option<String>,
}

/// Which EIDs an EUM may certify.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EidLimit {
    /// v2: organisation and EID prefix, one pair for each permitted directory name.
    pub(crate) names: Option<Vec<Name>>,
    /// v3: EID prefixes.
    pub(crate) eins: Option<Vec<String>>,
    /// nameConstraints stand there but are not critical.
    pub(crate) names_not_critical: bool,
}

impl Certificate {
    /// Reads one DER certificate; the error says what is wrong with it.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|e| format!("not an X.509 certificate: {e}"))?;
        if !rest.is_empty() {
            return Err(format!("{} octets behind the certificate", rest.len()));
        }
        let tbs = &parsed.tbs_certificate;
        let signature = outer_signature(der, tbs.as_ref())?;
        if !oid::is(tbs.signature.algorithm.as_bytes(), ECDSA_WITH_SHA256) {
            return Err("not signed with ECDSA and SHA-256".into());
        }
        let parameters = tbs.subject_pki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
        let parameters = parameters.map(|name| tlv::wrap(Tag(0x06), &[name.as_bytes()]));
        let curve = parameters.as_deref().and_then(Curve::of_params);
        let curve = curve.ok_or("key is on neither P-256 nor brainpoolP256r1")?;
        let octets: [u8; 65] = (*tbs.subject_pki.subject_public_key.data)
            .try_into()
            .map_err(|_| format!("key is not an uncompressed point of {curve}"))?;
        let key = point::public_key_on(curve, &octets).map_err(|_| format!("key is not a point of {curve}"))?;
        let time = |t: x509_parser::time::ASN1Time| {
            Timestamp::from_second(t.timestamp()).map_err(|_| "date out of range".to_owned())
        };
        let mut certificate = Self {
            der: der.to_vec(),
            tbs_sha256: sha256(tbs.as_ref()),
            signature,
            key,
            curve,
            point: octets,
            subject: Name::of(&tbs.subject),
            subject_der: tbs.subject.as_raw().to_vec(),
            issuer_der: tbs.issuer.as_raw().to_vec(),
            not_before: time(tbs.validity.not_before)?,
            not_after: time(tbs.validity.not_after)?,
            policies: Vec::new(),
            subject_key_id: None,
            authority_key_id: None,
            is_ca: false,
            may_sign_certificates: false,
            may_sign: false,
            registered_ids: Vec::new(),
            eid_limit: EidLimit::default(),
            unknown_critical: None,
        };
        for extension in tbs.extensions() {
            certificate.read_extension(extension)?;
        }
        Ok(certificate)
    }

    /// All certificates of a file, PEM (one or more) or DER (one).
    pub fn all_of(file: &[u8]) -> Result<Vec<Self>, String> {
        if file.first() == Some(&0x30) {
            return Self::from_der(file).map(|one| vec![one]);
        }
        let stack = openssl::x509::X509::stack_from_pem(file).map_err(|_| "neither PEM nor DER")?;
        if stack.is_empty() {
            return Err("holds no certificate".into());
        }
        stack.iter().map(|one| one.to_der().map_err(|e| e.to_string()).and_then(|der| Self::from_der(&der))).collect()
    }

    /// Its octets.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its key, uncompressed.
    pub fn point(&self) -> &[u8; 65] {
        &self.point
    }

    /// The curve of its key.
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// End of its validity.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Its PEM form.
    pub fn pem(&self) -> String {
        pem(&self.der)
    }

    /// SHA-256 of its octets, lower-case hex.
    pub fn fingerprint(&self) -> String {
        data_encoding::HEXLOWER.encode(&sha256(&self.der))
    }

    /// Common name, else serial number, for people.
    pub fn title(&self) -> &str {
        self.subject.common_name.as_deref().unwrap_or("certificate without common name")
    }

    pub(crate) fn key(&self) -> &EcKey<Public> {
        &self.key
    }

    pub(crate) fn in_date(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Whether `issuer` is named as its issuer: by name, and by key identifier where both say one.
    pub(crate) fn names_issuer(&self, issuer: &Self) -> bool {
        let ids_agree = match (&self.authority_key_id, &issuer.subject_key_id) {
            (Some(own), Some(theirs)) => own == theirs,
            _ => true,
        };
        self.issuer_der == issuer.subject_der && ids_agree
    }

    pub(crate) fn signed_by(&self, issuer: &Self) -> bool {
        self.signature.verify(&self.tbs_sha256, &issuer.key).unwrap_or(false)
    }

    pub(crate) fn has_policy(&self, accepted: &[&str]) -> bool {
        self.policies.iter().any(|policy| accepted.iter().any(|dotted| oid::is(policy, dotted)))
    }

    fn read_extension(&mut self, extension: &x509_parser::extensions::X509Extension<'_>) -> Result<(), String> {
        match extension.parsed_extension() {
            ParsedExtension::CertificatePolicies(policies) => {
                self.policies = policies.iter().map(|policy| policy.policy_id.as_bytes().to_vec()).collect();
            }
            ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key_id = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            ParsedExtension::BasicConstraints(basic) => self.is_ca = basic.ca,
            ParsedExtension::KeyUsage(usage) => {
                self.may_sign_certificates = usage.key_cert_sign();
                self.may_sign = usage.digital_signature();
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                self.registered_ids = names
                    .general_names
                    .iter()
                    .filter_map(|name| if let GeneralName::RegisteredID(id) = name { Some(id) } else { None })
                    .filter_map(|id| oid::decode(id.as_bytes()))
                    .collect();
            }
            ParsedExtension::NameConstraints(constraints) => {
                let permitted = constraints.permitted_subtrees.iter().flatten().map(|tree| &tree.base);
                let names =
                    permitted.filter_map(|base| if let GeneralName::DirectoryName(n) = base { Some(n) } else { None });
                self.eid_limit.names = Some(names.map(Name::of).collect());
                self.eid_limit.names_not_critical = !extension.critical;
            }
            ParsedExtension::ExtendedKeyUsage(_) | ParsedExtension::CRLDistributionPoints(_) => {}
            ParsedExtension::ParseError { .. } => {
                let name = oid::decode(extension.oid.as_bytes()).unwrap_or_default();
                return Err(format!("extension {name} cannot be read"));
            }
            _ => match oid::decode(extension.oid.as_bytes()) {
                Some(name) if name == PERMITTED_EINS => self.eid_limit.eins = Some(permitted_eins(extension.value)?),
                name if extension.critical => {
                    self.unknown_critical = name.or_else(|| Some("of unreadable name".into()))
                }
                _ => {}
            },
        }
        Ok(())
    }
}

impl Name {
    fn of(name: &X509Name<'_>) -> Self {
        let first = |dotted: &str| {
            let attribute = name.iter_attributes().find(|a| oid::is(a.attr_type().as_bytes(), dotted))?;
            attribute.as_str().ok().map(str::to_owned)
        };
        Self { common_name: first("2.5.4.3"), organization: first("2.5.4.10"), serial_number: first("2.5.4.5") }
    }
}

/// What stands around the signed part, octet for octet: it is the only place where a certificate could be changed and still
/// verify.
fn outer_signature(der: &[u8], tbs: &[u8]) -> Result<EcdsaSig, String> {
    let parts = || -> Result<[&[u8]; 3], tlv::TlvError> {
        let mut reader = tlv::single(der, Tag(0x30))?.children();
        let parts = [reader.expect(Tag(0x30))?.whole, reader.expect(Tag(0x30))?.whole, reader.expect(Tag(0x03))?.value];
        reader.finish().map(|()| parts)
    };
    let [signed, told, bits] = parts().map_err(|e| format!("not strict DER: {e}"))?;
    if signed != tbs || told != ECDSA_WITH_SHA256_DER {
        return Err("not signed with ECDSA and SHA-256".into());
    }
    let octets = bits.strip_prefix(&[0]).ok_or("signature is not whole octets")?;
    let signature = EcdsaSig::from_der(octets).ok().filter(|s| s.to_der().is_ok_and(|again| again == octets));
    signature.ok_or_else(|| "signature is not an ECDSA value in DER".to_owned())
}

/// PEM form of a DER certificate (RFC 7468).
pub fn pem(der: &[u8]) -> String {
    let base64 = data_encoding::BASE64.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in base64.as_bytes().chunks(64) {
        text.extend(line.iter().map(|octet| char::from(*octet)));
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

/// SEQUENCE OF PrintableString, each an EIN: the leading digits of the EIDs. The other ASCII text types are taken too: issuers differ,
/// and digits are digits in each of them.
fn permitted_eins(value: &[u8]) -> Result<Vec<String>, String> {
    let wrong = |e: tlv::TlvError| format!("permittedEins: {e}");
    let mut eins = Vec::new();
    let mut reader = tlv::single(value, Tag(0x30)).map_err(wrong)?.children();
    while let Some(ein) = reader.next_tlv().map_err(wrong)? {
        let is_text = matches!(ein.tag, Tag(0x0C | 0x12 | 0x13 | 0x16)); // UTF8, Numeric, Printable, IA5
        let digits = std::str::from_utf8(ein.value).ok().filter(|text| is_text && !text.is_empty());
        match digits.filter(|text| text.bytes().all(|b| b.is_ascii_digit())) {
            Some(text) => eins.push(text.to_owned()),
            None => return Err("permittedEins: an entry is not a text of digits".into()),
        }
    }
    Ok(eins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ein_is_digits_in_any_text_type_and_nothing_else() {
        let entry = |tag, text: &[u8]| tlv::wrap(Tag(0x30), &[&tlv::wrap(Tag(tag), &[text])]);
        for tag in [0x0C, 0x12, 0x13, 0x16] {
            assert_eq!(permitted_eins(&entry(tag, b"89049032")).unwrap(), ["89049032"]);
        }
        for (tag, text) in [(0x13, &b""[..]), (0x13, b"8904x"), (0x04, b"8904"), (0x02, b"1")] {
            assert!(permitted_eins(&entry(tag, text)).is_err(), "{tag:02x}");
        }
        assert!(permitted_eins(&[0x30, 0x80]).is_err());
    }
}
