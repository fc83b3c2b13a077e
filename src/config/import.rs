//! `[import.NAME]`: the key under which an operator sends K and OPc, and how they are wrapped.

use std::fmt;
use std::path::PathBuf;

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Serialize};

/// `[import.NAME]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ImportKey {
    /// The key of role `operator:KEY` in the key policy.
    pub key: String,
    /// How single secrets are wrapped.
    pub scheme: ImportScheme,
    /// With `aes-cbc`: 32 hex digits, or `prefix` when each value begins with its own; none: zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iv: Option<CbcIv>,
    /// Check value of the key as the operator told it: the first 3 octets or more of AES of a zero block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kcv: Option<CheckValue>,
    /// OP (TOP with TUAK) of the operator, sealed under the site KEK by `bindery keys import-op NAME`: rows may then leave
    /// `opc_wrapped` out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<PathBuf>,
}

impl ImportKey {
    /// Octets of a wrapped value of `octets`.
    pub fn wrapped_len(&self, octets: usize) -> usize {
        match (self.scheme, self.iv) {
            (ImportScheme::AesKw, _) => octets + 8,
            (ImportScheme::AesCbc, Some(CbcIv::Prefix)) => octets + 16,
            (ImportScheme::AesCbc | ImportScheme::AesEcb, _) => octets,
        }
    }
}

/// How K and OPc come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImportScheme {
    /// Single random blocks: the usual K4 form.
    AesEcb,
    /// Cipher block chaining within a value; no padding.
    AesCbc,
    /// AES key wrap (RFC 3394): 8 octets longer, damage is seen.
    AesKw,
}

/// The initial vector of `aes-cbc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum CbcIv {
    /// The same for every value.
    Fixed([u8; 16]),
    /// The first 16 octets of each value.
    Prefix,
}

impl TryFrom<String> for CbcIv {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text == "prefix" {
            return Ok(Self::Prefix);
        }
        let octets = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok().and_then(|octets| octets.try_into().ok());
        octets.map(Self::Fixed).ok_or_else(|| "iv is neither \"prefix\" nor 32 hex digits".to_owned())
    }
}

impl From<CbcIv> for String {
    fn from(iv: CbcIv) -> Self {
        match iv {
            CbcIv::Fixed(octets) => HEXLOWER_PERMISSIVE.encode(&octets),
            CbcIv::Prefix => "prefix".to_owned(),
        }
    }
}

/// A key check value, the first octets of what the key makes of a block of zeros: no secret, 3 to 16 octets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct CheckValue(Vec<u8>);

impl CheckValue {
    /// The usual three octets of a whole block.
    pub fn of_block(block: &[u8; 16]) -> Self {
        Self(block[..Self::LEAST].to_vec())
    }

    /// Whether it is the key's of which the token tells `told`: the shorter one decides how much is compared.
    pub fn agrees_with(&self, told: &[u8]) -> bool {
        told.len() >= Self::LEAST && told.iter().zip(&self.0).all(|(told, own)| told == own)
    }

    /// The whole block of which it is the beginning; none of a shorter one.
    pub fn as_block(&self) -> Option<&[u8; 16]> {
        self.0.as_slice().try_into().ok()
    }

    const LEAST: usize = 3;
}

impl TryFrom<String> for CheckValue {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let octets = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).unwrap_or_default();
        Self::try_from(octets).map_err(|_| "kcv is not 6 to 32 hex digits".to_owned())
    }
}

impl TryFrom<Vec<u8>> for CheckValue {
    type Error = String;
    fn try_from(octets: Vec<u8>) -> Result<Self, String> {
        match octets.len() {
            Self::LEAST..=16 => Ok(Self(octets)),
            other => Err(format!("a check value has 3 to 16 octets, not {other}")),
        }
    }
}

impl From<CheckValue> for String {
    fn from(value: CheckValue) -> Self {
        value.to_string()
    }
}

impl fmt::Display for CheckValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXUPPER.encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ImportKey, String> {
        toml::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn lengths_follow_from_scheme_and_iv() {
        for (rest, sixteen, thirty_two) in [
            ("scheme = \"aes-ecb\"", 16, 32),
            ("scheme = \"aes-cbc\"", 16, 32),
            ("scheme = \"aes-cbc\"\niv = \"23232323232323232323232323232323\"", 16, 32),
            ("scheme = \"aes-cbc\"\niv = \"prefix\"", 32, 48),
            ("scheme = \"aes-kw\"", 24, 40),
        ] {
            let key = read(&format!("key = \"a\"\n{rest}")).unwrap();
            assert_eq!((key.wrapped_len(16), key.wrapped_len(32)), (sixteen, thirty_two), "{rest}");
            assert_eq!(read(&toml::to_string(&key).unwrap()).unwrap().iv, key.iv);
        }
    }

    #[test]
    fn what_is_no_iv_or_check_value_is_refused_by_name() {
        for (line, told) in [
            ("iv = \"zero\"", "iv"),
            ("iv = \"23\"", "iv"),
            ("kcv = \"A1B2\"", "kcv"),
            ("kcv = \"x\"", "kcv"),
            ("k = 1", "k"),
        ] {
            let text = format!("key = \"a\"\nscheme = \"aes-cbc\"\n{line}");
            assert!(read(&text).unwrap_err().contains(told), "{line}");
        }
    }

    #[test]
    fn a_check_value_agrees_as_far_as_both_go_and_never_over_less_than_three_octets() {
        let kcv = CheckValue::try_from("dc95c0".to_owned()).unwrap();
        assert!(kcv.agrees_with(&[0xDC, 0x95, 0xC0]) && kcv.agrees_with(&[0xDC, 0x95, 0xC0, 0x78]));
        assert!(!kcv.agrees_with(&[0xDC, 0x95, 0xC1]) && !kcv.agrees_with(&[0xDC, 0x95]) && !kcv.agrees_with(&[]));
    }
}
