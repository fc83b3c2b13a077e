//! Octets in a source.

use serde::{Deserialize, Deserializer};

/// Octets as hex digits, one text or a list of them; blanks may stand anywhere between octets.
#[derive(Clone, Debug, Default)]
pub(in crate::formats::saip::source) struct Hex(pub Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HexVisitor)
    }
}

struct HexVisitor;

impl<'de> serde::de::Visitor<'de> for HexVisitor {
    type Value = Hex;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hex octets, as a text or a list of texts")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Hex, E> {
        let digits: String = text.split_whitespace().collect();
        let octets = data_encoding::HEXUPPER_PERMISSIVE.decode(digits.as_bytes());
        octets.map(Hex).map_err(|e| E::custom(format!("{text:?} is not hex octets: {e}")))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut parts: A) -> Result<Hex, A::Error> {
        let mut octets = Vec::new();
        while let Some(Hex(part)) = parts.next_element()? {
            octets.extend(part);
        }
        Ok(Hex(octets))
    }
}
