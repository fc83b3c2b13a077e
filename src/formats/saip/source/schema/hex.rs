//! Octets in a source.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// Octets as hex digits, one text or a list of them; blanks may stand anywhere between octets. They may be a key that somebody left
/// in a source, so no error and no [`fmt::Debug`] repeats them.
#[derive(Clone, Default)]
pub(in crate::formats::saip::source) struct Hex(pub Vec<u8>);

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hex({} octets)", self.0.len())
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HexVisitor)
    }
}

struct HexVisitor;

impl<'de> serde::de::Visitor<'de> for HexVisitor {
    type Value = Hex;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hex octets, as a text or a list of texts")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Hex, E> {
        let digits: String = text.split_whitespace().collect();
        let octets = data_encoding::HEXUPPER_PERMISSIVE.decode(digits.as_bytes());
        octets.map(Hex).map_err(|e| E::custom(format!("is not hex octets: blanks aside, {e}")))
    }

    /// Digits without quotation marks: the message of `serde` would repeat them.
    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Hex, E> {
        Err(E::custom("is a number: hex octets stand in quotation marks"))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut parts: A) -> Result<Hex, A::Error> {
        let mut octets = Vec::new();
        while let Some(Hex(part)) = parts.next_element()? {
            octets.extend(part);
        }
        Ok(Hex(octets))
    }
}
