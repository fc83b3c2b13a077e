//! What a terminal or a USIM needs to conceal the subscription identifier: protection schemes and the home network's public keys.

use std::fmt::Write;

use super::form::{Extent, Form, Wrong, is_digits, padded};
use crate::formats::tlv::{self, Reader, Tag};

/// `df-5gs/ef-suci-calc-info`, `df-saip/ef-suci-calc-info-usim` and both of `opt-iot`: TLV `A0` { scheme, key index, ... } in order
/// of preference, TLV `A1` { TLV `80` key identifier, TLV `81` public key, ... }.
pub(super) struct SuciCalc;

impl Form for SuciCalc {
    const NAME: &'static str = "suci_calc_info";
    const FORM: &'static str = "schemes with the place of their key, then identifiers and public keys in hex, such as \
                                profile-a:1,null;27=5A8D38864820197C3394B92613B20B91633CBD897119273BF8E4A6F4EEC0A650";
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.4.11.8";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        let info = SuciCalcInfo::parse(value)?;
        info.check()?;
        let mut octets = tlv::wrap(SCHEMES, &[&info.schemes.concat()]);
        if !info.keys.is_empty() {
            let mut keys = Vec::new();
            for (identifier, key) in &info.keys {
                tlv::put(&mut keys, IDENTIFIER, &[*identifier]);
                tlv::put(&mut keys, KEY, key);
            }
            tlv::put(&mut octets, KEYS, &keys);
        }
        Ok(padded(octets, extent.len))
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        let info = SuciCalcInfo::read(octets)?;
        info.check().ok()?;
        Some(info.to_string())
    }
}

/// The content of EF.SUCI_Calc_Info, sound or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SuciCalcInfo {
    /// Protection scheme and key index, the preferred first. The index counts keys from 1; 0 stands with the null scheme.
    pub schemes: Vec<[u8; 2]>,
    /// Home network public key identifier and key.
    pub keys: Vec<(u8, Vec<u8>)>,
}

impl SuciCalcInfo {
    /// From the octets of a file; `None` where the TLVs are broken.
    pub fn read(octets: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(octets);
        let (schemes, rest) = reader.expect(SCHEMES).ok()?.value.as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        let mut info = Self { schemes: schemes.to_vec(), keys: Vec::new() };
        if reader.peek() == Some(KEYS) {
            let mut keys = reader.expect(KEYS).ok()?.children();
            while !keys.is_empty() {
                let [identifier] = keys.expect(IDENTIFIER).ok()?.value else { return None };
                info.keys.push((*identifier, keys.expect(KEY).ok()?.value.to_vec()));
            }
        }
        Some(info)
    }

    /// Schemes are known and stand once, their indexes lead to keys of the right length, identifiers are unique. That a key is a
    /// point of its curve is not looked at.
    pub fn check(&self) -> Result<(), String> {
        if self.schemes.is_empty() {
            return Err("there is no scheme".into());
        }
        for (at, [scheme, index]) in self.schemes.iter().enumerate() {
            let name = NAMES.get(usize::from(*scheme)).ok_or_else(|| format!("scheme {scheme} is not known"))?;
            if self.schemes[..at].iter().any(|[other, _]| other == scheme) {
                return Err(format!("{name} stands twice"));
            }
            let key = usize::from(*index).checked_sub(1).map(|index| self.keys.get(index));
            let sound = match (scheme, key) {
                (0, None) => true,
                (1, Some(Some((_, key)))) => key.len() == 32,
                (2, Some(Some((_, key)))) => matches!((key.len(), key.first()), (33, Some(2 | 3)) | (65, Some(4))),
                (0, Some(_)) => return Err(format!("{name} has no key, its index is 0")),
                (_, None | Some(None)) => {
                    return Err(format!("{name} has key index {index}, there are {}", self.keys.len()));
                }
                _ => false,
            };
            if !sound {
                return Err(format!("key {index} is none of {name}: 32 octets for profile-a, 33 or 65 for profile-b"));
            }
        }
        for (at, (identifier, _)) in self.keys.iter().enumerate() {
            if self.keys[..at].iter().any(|(other, _)| other == identifier) {
                return Err(format!("key identifier {identifier} stands twice"));
            }
        }
        Ok(())
    }

    fn parse(value: &str) -> Result<Self, Wrong> {
        let (schemes, keys) = value.split_once(';').unwrap_or((value, ""));
        let schemes = schemes.split(',').map(|scheme| {
            let (name, index) = scheme.trim().split_once(':').unwrap_or((scheme.trim(), "0"));
            let scheme = NAMES.iter().position(|known| *known == name);
            let scheme = scheme.ok_or_else(|| format!("{name:?} is no scheme; there are {}", NAMES.join(", ")))?;
            Ok([scheme as u8, octet(index)?])
        });
        let keys = keys.split(',').map(str::trim).filter(|key| !key.is_empty()).map(|key| {
            let (identifier, hex) = key.split_once('=').ok_or_else(|| format!("{key:?} is no identifier=key"))?;
            let octets = data_encoding::HEXUPPER_PERMISSIVE.decode(hex.as_bytes());
            Ok((octet(identifier)?, octets.map_err(|_| format!("key {identifier} is not hex"))?))
        });
        Ok(Self { schemes: schemes.collect::<Result<_, Wrong>>()?, keys: keys.collect::<Result<_, Wrong>>()? })
    }
}

impl std::fmt::Display for SuciCalcInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, [scheme, index]) in self.schemes.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "," })?;
            match NAMES.get(usize::from(*scheme)) {
                Some(name) => f.write_str(name)?,
                None => write!(f, "scheme-{scheme}")?,
            }
            if *index != 0 {
                write!(f, ":{index}")?;
            }
        }
        for (at, (identifier, key)) in self.keys.iter().enumerate() {
            f.write_char(if at == 0 { ';' } else { ',' })?;
            write!(f, "{identifier}={}", data_encoding::HEXUPPER.encode(key))?;
        }
        Ok(())
    }
}

const SCHEMES: Tag = Tag(0xA0);
const KEYS: Tag = Tag(0xA1);
const IDENTIFIER: Tag = Tag(0x80);
const KEY: Tag = Tag(0x81);

/// Protection schemes by their number (3GPP TS 33.501 Annex C).
const NAMES: [&str; 3] = ["null", "profile-a", "profile-b"];

fn octet(text: &str) -> Result<u8, Wrong> {
    let number = Some(text).filter(|text| is_digits(text, 1, 3)).and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("{text:?} is no number from 0 to 255").into())
}

#[cfg(test)]
mod tests {
    use super::super::form::Coding;
    use super::*;

    /// Home network public keys of 3GPP TS 33.501 Annex C.4.3 (profile A) and C.4.4 (profile B, compressed).
    const KEY_A: &str = "5A8D38864820197C3394B92613B20B91633CBD897119273BF8E4A6F4EEC0A650";
    const KEY_B: &str = "0272DA71976234CE833A6907425867B82E074D44EF907DFB4B3E21C1C2256EBCD1";

    fn extent(len: usize) -> Extent<'static> {
        Extent { len, record_len: None, given: &[] }
    }

    #[test]
    fn schemes_and_keys_of_ts_33_501_are_coded_as_in_ts_31_102() {
        let value = format!("profile-b:1,profile-a:2,null;27={KEY_B},30={KEY_A}");
        let octets = SuciCalc.encode(&value, extent(120)).unwrap();
        assert_eq!(octets[..10], [0xA0, 6, 2, 1, 1, 2, 0, 0, 0xA1, 75]);
        assert_eq!(octets[10..17], [0x80, 1, 27, 0x81, 33, 0x02, 0x72]);
        assert_eq!(octets[48..55], [0x80, 1, 30, 0x81, 32, 0x5A, 0x8D]);
        assert_eq!(octets[85..], [0xFF; 35]);
        assert_eq!(SuciCalc.decode(&octets, None).unwrap(), value);
    }

    #[test]
    fn the_null_scheme_alone_reads_where_a_template_has_only_that() {
        assert_eq!(SuciCalc.decode(&[0xA0, 2, 0, 0, 0xFF, 0xFF], None).unwrap(), "null");
        assert_eq!(SuciCalc.decode(&[0xA0, 0, 0xFF], None), None);
        assert_eq!(SuciCalc.encode("null", extent(4)).unwrap(), [0xA0, 2, 0, 0]);
    }

    #[test]
    fn an_unsound_list_is_refused_and_still_readable_for_a_check() {
        let refused = |value: &str| SuciCalc.encode(value, extent(300)).unwrap_err().what;
        assert!(refused("profile-a:1").contains("there are 0"));
        assert!(refused(&format!("profile-b:1;1={KEY_A}")).contains("key 1"));
        assert!(refused(&format!("profile-a:1,profile-a:1;1={KEY_A}")).contains("twice"));
        assert!(refused(&format!("null:1;1={KEY_A}")).contains("index is 0"));
        assert!(refused(&format!("profile-a:1;1={KEY_A},1={KEY_A}")).contains("identifier 1"));
        assert!(refused("profile-c:1").contains("profile-b"));
        let info = SuciCalcInfo::read(&[0xA0, 2, 1, 1]).unwrap();
        assert!(info.check().is_err());
        assert_eq!(info.to_string(), "profile-a:1");
    }
}
