//! EUICCInfo2: what a eUICC says it can do.
//!
//! In: the answer of GetEUICCInfo (tag `BF22`) as DER, hex or base64, or the JSON that `lpac chip info` prints. Out: versions,
//! capabilities, free memory. Rule: what is absent is not claimed; members of newer versions are passed over.
//! Source: SGP.22 v2 and v3 §5.7.8; `UICCCapability`: SAIP 3.3.1, module PEDefinitions; card resources: ETSI TS 102 226 §8.2.1.7.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use serde_json::Value;

use crate::formats::tlv::{Reader, Tag, Tlv, TlvError, single};

/// What a eUICC can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EuiccInfo2 {
    /// Newest SAIP version it takes.
    pub profile_version: Version,
    /// Further SAIP versions it takes.
    pub additional_profile_versions: Vec<Version>,
    /// SGP.22 version (SVN).
    pub svn: Version,
    /// Its firmware.
    pub firmware_version: Version,
    /// Octets of free non-volatile memory.
    pub free_non_volatile_octets: Option<u64>,
    /// Octets of free volatile memory.
    pub free_volatile_octets: Option<u64>,
    /// Bits of `uiccCapability`; bit n of the standard is bit n here.
    pub uicc_capability: u64,
    /// Version of TS 102 241, the UICC API for Java Card.
    pub ts102241_version: Option<Version>,
    /// Version of GlobalPlatform.
    pub globalplatform_version: Option<Version>,
    /// Bits of `rspCapability`; bit n of the standard is bit n here.
    pub rsp_capability: u64,
    /// It takes no profile with PPR1.
    pub forbids_ppr1: bool,
    /// It takes no profile with PPR2.
    pub forbids_ppr2: bool,
}

/// A version of three numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u8,
    /// Second number.
    pub minor: u8,
    /// Third number.
    pub revision: u8,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.revision)
    }
}

/// One bit of `UICCCapability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability(u8);

impl Capability {
    /// The eUICC takes IoT Minimal Profiles.
    pub const IOT_MINIMAL: Self = Self(31);

    /// The capability that a service of the ProfileHeader asks for; `None` for services newer than this version.
    pub fn of_service(service: u8) -> Option<Self> {
        // The lists have other orders: what the ServicesList appended stands beside its kin here.
        const OF_SERVICE: [u8; 30] = [
            0, 1, 2, 3, 4, 6, 5, 10, 11, 12, 13, 14, 15, 16, 17, 18, 7, 8, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,
            30,
        ];
        OF_SERVICE.get(usize::from(service)).map(|bit| Self(*bit))
    }
}

/// Why octets or a text are not an EUICCInfo2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InfoError {
    /// Neither DER nor hex, base64 or JSON.
    #[error("is neither DER (BF22), hex, base64 nor JSON")]
    Form,
    /// Not strict DER, or another tag.
    #[error("EUICCInfo2: {0}")]
    Tlv(#[from] TlvError),
    /// A member is missing or has another form.
    #[error("EUICCInfo2: {0}")]
    Member(&'static str),
}

impl EuiccInfo2 {
    /// Reads a file: DER, or a text with hex, base64 or JSON.
    pub fn read(input: &[u8]) -> Result<Self, InfoError> {
        if input.starts_with(&[0xBF, 0x22]) {
            return Self::from_der(input);
        }
        let text = std::str::from_utf8(input).map_err(|_| InfoError::Form)?.trim();
        if text.starts_with('{') {
            return Self::from_json(text);
        }
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let der = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).or_else(|_| BASE64.decode(text.as_bytes()));
        Self::from_der(&der.map_err(|_| InfoError::Form)?)
    }

    /// Reads the TLV `BF22`.
    pub fn from_der(der: &[u8]) -> Result<Self, InfoError> {
        let info = single(der, Tag(0xBF22))?;
        let mut read = Self::default();
        let (mut has_version, mut has_capability) = (false, false);
        let mut members = info.children();
        while let Some(member) = members.next_tlv()? {
            match member.tag.0 {
                0x81 => (read.profile_version, has_version) = (version(&member)?, true),
                0x82 => read.svn = version(&member)?,
                0x83 => read.firmware_version = version(&member)?,
                0x84 => read.resources(member.value)?,
                0x85 => (read.uicc_capability, has_capability) = (bits(&member)?, true),
                0x86 => read.ts102241_version = Some(version(&member)?),
                0x87 => read.globalplatform_version = Some(version(&member)?),
                0x88 => read.rsp_capability = bits(&member)?,
                0x99 => {
                    let rules = bits(&member)?;
                    (read.forbids_ppr1, read.forbids_ppr2) = (rules & 2 != 0, rules & 4 != 0);
                }
                0xAF => {
                    let mut list = member.children();
                    while let Some(item) = list.next_tlv()? {
                        read.additional_profile_versions.push(version(&item)?);
                    }
                }
                _ => {}
            }
        }
        match (has_version, has_capability) {
            (false, _) => Err(InfoError::Member("profileVersion is missing")),
            (_, false) => Err(InfoError::Member("uiccCapability is missing")),
            _ => Ok(read),
        }
    }

    /// Reads the JSON of `lpac chip info`, or the object `EUICCInfo2` of it.
    pub fn from_json(text: &str) -> Result<Self, InfoError> {
        let json: Value = serde_json::from_str(text).map_err(|_| InfoError::Form)?;
        let places = ["/payload/data/EUICCInfo2", "/data/EUICCInfo2", "/EUICCInfo2", ""];
        let info = places.iter().find_map(|place| json.pointer(place)).unwrap_or(&json);
        let version = |name: &str| info.get(name).and_then(Value::as_str).and_then(parsed);
        let memory = |name: &str| info.pointer(&format!("/extCardResource/{name}")).and_then(Value::as_u64);
        let words =
            |name: &str| info.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let capability = info.get("uiccCapability").ok_or(InfoError::Member("uiccCapability is missing"))?;
        capability.as_array().ok_or(InfoError::Member("uiccCapability is not a list"))?;
        let known = |names: &[&str], word: &str| names.iter().position(|name| *name == word);
        let bits = |field: &str, names: &[&str]| {
            words(field).filter_map(|word| known(names, word)).fold(0, |bits, at| bits | 1_u64 << at)
        };
        Ok(Self {
            profile_version: version("profileVersion").ok_or(InfoError::Member("profileVersion is missing"))?,
            additional_profile_versions: words("additionalProfilePackageVersions").filter_map(parsed).collect(),
            svn: version("svn").unwrap_or_default(),
            firmware_version: version("euiccFirmwareVer").unwrap_or_default(),
            free_non_volatile_octets: memory("freeNonVolatileMemory"),
            free_volatile_octets: memory("freeVolatileMemory"),
            uicc_capability: bits("uiccCapability", &CAPABILITIES),
            ts102241_version: version("ts102241Version").or(version("javacardVersion")),
            globalplatform_version: version("globalplatformVersion"),
            rsp_capability: bits("rspCapability", &RSP_CAPABILITIES),
            forbids_ppr1: words("forbiddenProfilePolicyRules").any(|rule| rule == "ppr1"),
            forbids_ppr2: words("forbiddenProfilePolicyRules").any(|rule| rule == "ppr2"),
        })
    }

    /// Every SAIP version it takes.
    pub fn profile_versions(&self) -> impl Iterator<Item = Version> {
        std::iter::once(self.profile_version).chain(self.additional_profile_versions.iter().copied())
    }

    /// It claims the capability; one that this version does not know is not held against it.
    pub fn can(&self, capability: Option<Capability>) -> bool {
        capability.is_none_or(|Capability(bit)| self.uicc_capability >> bit & 1 == 1)
    }

    /// `81` applications, `82` free non-volatile, `83` free volatile memory.
    fn resources(&mut self, value: &[u8]) -> Result<(), InfoError> {
        let mut reader = Reader::new(value);
        while let Some(tlv) = reader.next_tlv()? {
            let octets = crate::formats::saip::package::unsigned(tlv.value);
            match tlv.tag.0 {
                0x82 => self.free_non_volatile_octets = octets,
                0x83 => self.free_volatile_octets = octets,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Names of `UICCCapability`, by their bits.
const CAPABILITIES: [&str; 32] = [
    "contactlessSupport",
    "usimSupport",
    "isimSupport",
    "csimSupport",
    "akaMilenage",
    "akaCave",
    "akaTuak128",
    "akaTuak256",
    "usimTestAlgorithm",
    "rfu2",
    "gbaAuthenUsim",
    "gbaAuthenISim",
    "mbmsAuthenUsim",
    "eapClient",
    "javacard",
    "multos",
    "multipleUsimSupport",
    "multipleIsimSupport",
    "multipleCsimSupport",
    "berTlvFileSupport",
    "dfLinkSupport",
    "catTp",
    "getIdentity",
    "profile-a-x25519",
    "profile-b-p256",
    "suciCalculatorApi",
    "dns-resolution",
    "scp11ac",
    "scp11c-authorization-mechanism",
    "s16mode",
    "eaka",
    "iotminimal",
];

/// Names of `RspCapability`, by their bits.
const RSP_CAPABILITIES: [&str; 4] = ["additionalProfile", "crlSupport", "rpmSupport", "testProfileSupport"];

fn version(tlv: &Tlv<'_>) -> Result<Version, InfoError> {
    match tlv.value {
        [major, minor, revision] => Ok(Version { major: *major, minor: *minor, revision: *revision }),
        _ => Err(InfoError::Member("a version is not three octets")),
    }
}

fn parsed(text: &str) -> Option<Version> {
    let mut numbers = text.split('.').map(|number| number.parse::<u8>().ok());
    let version =
        Version { major: numbers.next()??, minor: numbers.next()??, revision: numbers.next().unwrap_or(Some(0))? };
    numbers.next().is_none().then_some(version)
}

/// A BIT STRING: the number of unused bits, then bits from the most significant one on; those above 63 are passed over.
fn bits(tlv: &Tlv<'_>) -> Result<u64, InfoError> {
    let [unused @ 0..=7, octets @ ..] = tlv.value else { return Err(InfoError::Member("not a BIT STRING")) };
    let count = (octets.len() * 8).saturating_sub(usize::from(*unused)).min(64);
    let is_set = |bit: &usize| octets[bit / 8] >> (7 - bit % 8) & 1 == 1;
    Ok((0..count).filter(is_set).fold(0, |bits, bit| bits | 1 << bit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::saip::services::service_number;
    use crate::formats::tlv::wrap;

    /// Members of the EUICCInfo2 of osmocom's public ES9+ client, put into DER; PPR1 forbidden is ours.
    fn published() -> Vec<u8> {
        let members: [&[u8]; 11] = [
            &[0x81, 3, 2, 3, 1],
            &[0x82, 3, 2, 2, 2],
            &[0x83, 3, 0x23, 0x42, 0],
            &[0x84, 13, 0x81, 1, 0, 0x82, 4, 0, 4, 0x9C, 0x68, 0x83, 2, 0x22, 0x23],
            &[0x85, 5, 0, 0x6B, 0x36, 0xD3, 0xC3],
            &[0x86, 3, 0x11, 2, 0],
            &[0x87, 3, 2, 3, 0],
            &[0x88, 2, 2, 0x9C],
            &[0xA9, 0, 0xAA, 0],
            &[0x99, 2, 6, 0x40],
            &[0x04, 3, 1, 0, 0],
        ];
        wrap(Tag(0xBF22), &members)
    }

    fn service(name: &str) -> Option<Capability> {
        Capability::of_service(service_number(name).unwrap())
    }

    #[test]
    fn a_published_answer_is_read() {
        let info = EuiccInfo2::from_der(&published()).unwrap();
        assert_eq!(info.profile_version.to_string(), "2.3.1");
        assert_eq!((info.free_non_volatile_octets, info.free_volatile_octets), (Some(302_184), Some(8_739)));
        assert_eq!(info.globalplatform_version.unwrap().to_string(), "2.3.0");
        for name in ["usim", "isim", "milenage", "tuak128", "tuak256", "javacard", "ber-tlv", "get-identity", "eap"] {
            assert!(info.can(service(name)), "{name}");
        }
        for name in ["csim", "cave", "contactless", "multos", "mbms", "dfLink", "cat-tp", "usim-test-algorithm"] {
            assert!(!info.can(service(name)), "{name}");
        }
        assert!(info.can(Some(Capability::IOT_MINIMAL)));
        assert_eq!((info.forbids_ppr1, info.forbids_ppr2), (true, false));
        assert_eq!(info.rsp_capability, 0b11_1001);
    }

    #[test]
    fn hex_base64_and_der_say_the_same() {
        let der = published();
        let expected = EuiccInfo2::from_der(&der).unwrap();
        let hex = data_encoding::HEXUPPER.encode(&der);
        let spaced = hex.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair)).collect::<Vec<_>>().join(" ");
        for input in
            [der.clone(), hex.into_bytes(), format!("{spaced}\n").into_bytes(), BASE64.encode(&der).into_bytes()]
        {
            assert_eq!(EuiccInfo2::read(&input), Ok(expected.clone()));
        }
    }

    #[test]
    fn the_json_of_a_reader_is_read() {
        let json = r#"{"type":"lpa","payload":{"code":0,"data":{"eidValue":"89","EUICCInfo2":{
            "profileVersion":"2.1.0","svn":"2.2.0","euiccFirmwareVer":"4.6.0",
            "extCardResource":{"installedApplication":0,"freeNonVolatileMemory":291666,"freeVolatileMemory":5970},
            "uiccCapability":["usimSupport","akaMilenage","javacard"],"globalplatformVersion":"2.3.0",
            "rspCapability":["additionalProfile"],"forbiddenProfilePolicyRules":["ppr1"]}}}}"#;
        let info = EuiccInfo2::read(json.as_bytes()).unwrap();
        assert_eq!(info.profile_version.to_string(), "2.1.0");
        assert_eq!(info.free_non_volatile_octets, Some(291_666));
        assert_eq!(info.uicc_capability, 1 << 1 | 1 << 4 | 1 << 14);
        assert!(info.forbids_ppr1);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        assert_eq!(EuiccInfo2::read(b"not it!"), Err(InfoError::Form));
        assert_eq!(EuiccInfo2::read(&[0xFF, 0xFE]), Err(InfoError::Form));
        assert!(matches!(EuiccInfo2::read(&[0xBF, 0x22, 0x80]), Err(InfoError::Tlv(_))));
        assert!(matches!(EuiccInfo2::read(&[0xBF, 0x22, 0x00]), Err(InfoError::Member(_))));
        assert!(matches!(EuiccInfo2::read(b"{}"), Err(InfoError::Member(_))));
    }

    proptest::proptest! {
        #[test]
        fn damage_costs_an_error_at_most(at in 0..60_usize, value in proptest::prelude::any::<u8>()) {
            let mut der = published();
            let at = at % der.len();
            der[at] = value;
            let _ = EuiccInfo2::read(&der);
        }
    }
}
