//! The authentication algorithm of a profile: what the order asks for and every akaParameter carries.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// AKA algorithm of a subscription (SAIP §8.4.2, `algorithmID`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Milenage, 3GPP TS 35.206: K 16 octets, OPc 16 octets.
    #[default]
    Milenage,
    /// TUAK, 3GPP TS 35.231, with a key of 128 bits: K 16 octets, TOPc 32 octets.
    Tuak,
}

impl Algorithm {
    /// The word of orders and `core.csv`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Milenage => "milenage",
            Self::Tuak => "tuak",
        }
    }

    /// `algorithmID` of the akaParameter.
    pub fn id(self) -> u8 {
        match self {
            Self::Milenage => 1,
            Self::Tuak => 2,
        }
    }

    /// Octets of K.
    pub fn k_len(self) -> usize {
        16
    }

    /// Octets of OPc (Milenage) or TOPc (TUAK).
    pub fn opc_len(self) -> usize {
        match self {
            Self::Milenage => 16,
            Self::Tuak => 32,
        }
    }

    /// Number of its bit in the eUICC-Mandatory-services list.
    pub fn service(self) -> u8 {
        match self {
            Self::Milenage => 4,
            Self::Tuak => 5,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no algorithm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("algorithm {0:?} is not milenage or tuak")]
pub struct UnknownAlgorithm(String);

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;
    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        match text {
            "milenage" => Ok(Self::Milenage),
            "tuak" => Ok(Self::Tuak),
            other => Err(UnknownAlgorithm(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_orders_are_read_and_written() {
        for algorithm in [Algorithm::Milenage, Algorithm::Tuak] {
            assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
            assert_eq!(serde_json::to_string(&algorithm).unwrap(), format!("\"{algorithm}\""));
        }
        assert!("Milenage".parse::<Algorithm>().is_err());
    }
}
