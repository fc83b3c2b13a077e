//! Authentication and key agreement (3GPP TS 33.102 §6.3) between the two holders of a subscriber's key: the core network makes a
//! challenge, the profile answers it.
//!
//! In: algorithm, K, OPc or TOPc and constants of either side. Out: nothing, or what the two disagree about. Bindery plays both
//! parts once, before a profile leaves: what was handed to the core network must be what stands in the profile.

pub mod milenage;
pub mod tuak;

use std::fmt;

use openssl::error::ErrorStack;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use self::milenage::{Constants, Milenage};
use self::tuak::Tuak;
use crate::formats::saip::algorithm::Algorithm;

/// One side: a profile, or the core network.
pub struct Party(Set);

enum Set {
    Milenage(Box<Milenage>),
    Tuak(Box<Tuak>),
}

/// Outputs of f2 to f5 and f5*.
struct Response {
    res: Zeroizing<[u8; 8]>,
    ck: Zeroizing<[u8; 16]>,
    ik: Zeroizing<[u8; 16]>,
    ak: Zeroizing<[u8; 6]>,
    ak_star: Zeroizing<[u8; 6]>,
}

/// What the core network chooses: RAND and the sequence number. The authentication management field is that of a first challenge.
pub struct Challenge {
    /// RAND.
    pub rand: [u8; 16],
    /// SQN.
    pub sqn: [u8; 6],
}

/// The separation bit set, as for access to 4G and 5G (TS 33.102 Annex H).
const AMF: [u8; 2] = [0x80, 0x00];
/// A resynchronisation's is zero (TS 33.102 §6.3.3).
const AMF_RESYNC: [u8; 2] = [0, 0];

/// What the two sides disagree about. Names no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    /// The profile would refuse the core network.
    #[error("AUTN: the profile does not believe the core network's MAC")]
    Autn,
    /// The core network would refuse the profile.
    #[error("RES: the profile's answer is not the one that the core network expects")]
    Res,
    /// They would not understand each other.
    #[error("{0}: profile and core network derive different keys")]
    Key(&'static str),
    /// The core network would not believe a resynchronisation.
    #[error("AUTS: the core network does not believe the profile's resynchronisation")]
    Auts,
    /// The profile has another algorithm than the core network.
    #[error("the profile has another algorithm than the core network")]
    Algorithm,
    /// K or OPc has not the length of its algorithm.
    #[error("K or OPc has not the length that {0} takes")]
    Length(&'static str),
    /// OpenSSL refused to work.
    #[error("AES: {0}")]
    Aes(String),
}

impl From<ErrorStack> for Disagreement {
    fn from(error: ErrorStack) -> Self {
        Self::Aes(error.to_string())
    }
}

impl Party {
    /// With K and OPc (TOPc) of the lengths of `algorithm`; the constants are Milenage's.
    pub fn new(algorithm: Algorithm, k: &[u8], opc: &[u8], constants: &Constants) -> Result<Self, Disagreement> {
        let length = || Disagreement::Length(algorithm.as_str());
        Ok(Self(match algorithm {
            Algorithm::Milenage => {
                let k = k.try_into().map_err(|_| length())?;
                let opc = opc.try_into().map_err(|_| length())?;
                Set::Milenage(Box::new(Milenage::new(k, opc, constants.clone())?))
            }
            Algorithm::Tuak => {
                let topc = opc.try_into().map_err(|_| length())?;
                Set::Tuak(Box::new(Tuak::new(k, topc).ok_or_else(length)?))
            }
        }))
    }

    fn macs(&mut self, rand: &[u8; 16], sqn: &[u8; 6], amf: [u8; 2]) -> Result<[Zeroizing<[u8; 8]>; 2], ErrorStack> {
        match &mut self.0 {
            Set::Milenage(milenage) => milenage.macs(rand, sqn, amf),
            Set::Tuak(tuak) => Ok(tuak.macs(rand, sqn, amf)),
        }
    }

    fn response(&mut self, rand: &[u8; 16]) -> Result<Response, ErrorStack> {
        match &mut self.0 {
            Set::Milenage(milenage) => milenage.response(rand),
            Set::Tuak(tuak) => Ok(tuak.response(rand)),
        }
    }
}

/// One authentication and one resynchronisation: `core` challenges, `profile` answers, all comparisons in constant time.
pub fn agree(core: &mut Party, profile: &mut Party, challenge: &Challenge) -> Result<(), Disagreement> {
    let Challenge { rand, sqn } = challenge;
    let expected = core.response(rand)?;
    let own = profile.response(rand)?;
    // AUTN = SQN xor AK || AMF || MAC-A, and what the profile makes of it.
    let [mac_a, _] = core.macs(rand, sqn, AMF)?;
    let concealed = masked(sqn, &expected.ak);
    let [expected_mac, _] = profile.macs(rand, &masked(&concealed, &own.ak), AMF)?;
    demand(&mac_a[..], &expected_mac[..], Disagreement::Autn)?;
    demand(&own.res[..], &expected.res[..], Disagreement::Res)?;
    demand(&own.ck[..], &expected.ck[..], Disagreement::Key("CK"))?;
    demand(&own.ik[..], &expected.ik[..], Disagreement::Key("IK"))?;
    // AUTS = SQN_MS xor AK* || MAC-S, and what the core network makes of it.
    let [_, mac_s] = profile.macs(rand, sqn, AMF_RESYNC)?;
    let concealed = masked(sqn, &own.ak_star);
    let [_, expected_mac] = core.macs(rand, &masked(&concealed, &expected.ak_star), AMF_RESYNC)?;
    demand(&mac_s[..], &expected_mac[..], Disagreement::Auts)
}

fn masked(sqn: &[u8; 6], ak: &[u8; 6]) -> Zeroizing<[u8; 6]> {
    Zeroizing::new(std::array::from_fn(|i| sqn[i] ^ ak[i]))
}

fn demand(one: &[u8], other: &[u8], or: Disagreement) -> Result<(), Disagreement> {
    if one.ct_eq(other).into() { Ok(()) } else { Err(or) }
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Party(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: Challenge = Challenge { rand: [0x23; 16], sqn: [0, 0, 0, 0, 1, 0x20] };

    fn party(algorithm: Algorithm, k: &[u8], opc: &[u8]) -> Party {
        Party::new(algorithm, k, opc, &Constants::default()).unwrap()
    }

    #[test]
    fn two_holders_of_one_key_agree() {
        for (algorithm, k_len) in [(Algorithm::Milenage, 16), (Algorithm::Tuak, 16), (Algorithm::Tuak, 32)] {
            let new = || party(algorithm, &vec![0x46; k_len], &vec![0xCD; algorithm.opc_len()]);
            assert_eq!(agree(&mut new(), &mut new(), &CHALLENGE), Ok(()));
        }
    }

    #[test]
    fn a_single_other_bit_of_k_opc_or_a_constant_is_told() {
        for algorithm in [Algorithm::Milenage, Algorithm::Tuak] {
            let (k, opc) = (vec![0x46; 16], vec![0xCD; algorithm.opc_len()]);
            for bit in 0..8 * (k.len() + opc.len()) {
                let (mut other_k, mut other_opc) = (k.clone(), opc.clone());
                let octet = if bit < 128 { &mut other_k[bit / 8] } else { &mut other_opc[bit / 8 - 16] };
                *octet ^= 1 << (bit % 8);
                let told =
                    agree(&mut party(algorithm, &k, &opc), &mut party(algorithm, &other_k, &other_opc), &CHALLENGE);
                assert_eq!(told, Err(Disagreement::Autn), "{algorithm} bit {bit}");
            }
        }
        let told = [Disagreement::Autn, Disagreement::Autn, Disagreement::Key("CK"), Disagreement::Key("IK")];
        for (at, told) in told.into_iter().chain([Disagreement::Auts]).enumerate() {
            let mut constants = Constants::default();
            constants.rotations[at] += 8;
            let mut other = Party::new(Algorithm::Milenage, &[1; 16], &[2; 16], &constants).unwrap();
            assert_eq!(agree(&mut party(Algorithm::Milenage, &[1; 16], &[2; 16]), &mut other, &CHALLENGE), Err(told));
        }
    }

    #[test]
    fn keys_of_other_lengths_are_no_party() {
        for (algorithm, k, opc) in [
            (Algorithm::Milenage, 32, 16),
            (Algorithm::Milenage, 16, 32),
            (Algorithm::Tuak, 16, 16),
            (Algorithm::Tuak, 24, 32),
        ] {
            let party = Party::new(algorithm, &vec![1; k], &vec![2; opc], &Constants::default());
            assert_eq!(party.err(), Some(Disagreement::Length(algorithm.as_str())));
        }
    }
}
