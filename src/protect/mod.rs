//! Turns an Unprotected Profile Package (UPP) into a Protected Profile Package (PPP): the sequence of 86 segments.
//! In: a [`Upp`], segment keys and the state to start from. Out: [`Ppp`]. Next: [`crate::bind`].
//! Rule: it never asks where its keys came from, a [`Ppk`] or a session. Source: SGP.22 §2.5.3.

mod ppk;

use crate::formats::bsp::SegmentKeys;
use crate::formats::bsp::group::Slot;
use crate::formats::bsp::segment::{PROFILE, SealError, Sealer, sealed_all_len};
use crate::personalise::Upp;

pub use ppk::Ppk;

/// A protected profile: 86 segments, one behind the other, without an envelope. Nobody can read it without its keys.
pub struct Ppp(Vec<u8>);

impl Ppp {
    /// One that [`protect`] made earlier, as it comes back from storage.
    pub fn stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The segments.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Octets of all segments.
    #[allow(clippy::len_without_is_empty)] // an empty UPP is refused
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Why a profile was not protected.
#[derive(Debug, thiserror::Error)]
pub enum ProtectError {
    /// There is nothing in it.
    #[error("the profile is empty")]
    Empty,
    /// A segment could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Octets of the PPP of a UPP of `upp_len` octets.
pub const fn ppp_len(upp_len: usize) -> usize {
    sealed_all_len(upp_len)
}

/// Protects `upp` for rest. `keys` are used for this one UPP and never again: ICVs depend on key and counter alone,
/// so two UPPs under one key would show where they begin alike.
pub fn protect(upp: &Upp, keys: &SegmentKeys, sealer: &mut Sealer) -> Result<Ppp, ProtectError> {
    let mut segments = vec![0; ppp_len(upp.len())];
    protect_into(upp, keys, sealer, &mut segments)?;
    Ok(Ppp(segments))
}

/// Protects profiles for rest, several at once: faster than one after the other, the same octets.
pub fn protect_all(profiles: &[(Upp, Ppk)], sealer: &mut Sealer) -> Result<Vec<Ppp>, ProtectError> {
    let mut ppps: Vec<_> = profiles.iter().map(|(upp, _)| Ppp(vec![0; ppp_len(upp.len())])).collect();
    let places = profiles.iter().zip(&mut ppps).map(|((upp, ppk), ppp)| (upp, ppk.slot(&mut ppp.0)));
    protect_all_into(places, sealer)?;
    Ok(ppps)
}

/// Protects `upp` straight into its place in a bound package, `slot` of [`ppp_len`] octets.
pub fn protect_into(upp: &Upp, keys: &SegmentKeys, sealer: &mut Sealer, slot: &mut [u8]) -> Result<(), ProtectError> {
    seal(&mut [(upp.expose(), Slot { keys, room: slot })], sealer)
}

/// Protects profiles straight into their places in bound packages, several at once.
pub fn protect_all_into<'u, 's>(
    profiles: impl IntoIterator<Item = (&'u Upp, Slot<'s>)>,
    sealer: &mut Sealer,
) -> Result<(), ProtectError> {
    let mut group: Vec<_> = profiles.into_iter().map(|(upp, slot)| (upp.expose(), slot)).collect();
    seal(&mut group, sealer)
}

fn seal(group: &mut [(&[u8], Slot<'_>)], sealer: &mut Sealer) -> Result<(), ProtectError> {
    if group.iter().any(|(upp, _)| upp.is_empty()) {
        return Err(ProtectError::Empty);
    }
    Ok(sealer.seal_group(PROFILE, group)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upp(len: usize) -> Upp {
        Upp::from_plain_for_tests(vec![0x5A; len], "89000123456789012341".parse().unwrap())
    }

    #[test]
    fn a_profile_at_rest_and_one_in_its_slot_are_the_same_octets() {
        let ppk = Ppk::from_random(&std::array::from_fn(|i| i as u8));
        let mut sealer = Sealer::new().unwrap();
        let ppp = protect(&upp(2500), ppk.keys(), &mut sealer).unwrap();
        assert_eq!(ppp.len(), ppp_len(2500));
        let mut slot = vec![0; ppp_len(2500)];
        protect_into(&upp(2500), ppk.keys(), &mut sealer, &mut slot).unwrap();
        assert_eq!(ppp.as_bytes(), slot);
        assert_eq!(ppp.as_bytes(), Ppp::stored(slot).as_bytes());
    }

    #[test]
    fn profiles_protected_at_once_are_those_protected_alone() {
        let ppk = |n| Ppk::from_random(&std::array::from_fn(|i| (7 * n + i) as u8));
        let profiles: Vec<_> = (0..19).map(|n| (upp(1 + 700 * (n % 7)), ppk(n))).collect();
        let mut sealer = Sealer::new().unwrap();
        let at_once = protect_all(&profiles, &mut sealer).unwrap();
        assert_eq!(at_once.len(), profiles.len());
        for ((upp, ppk), ppp) in profiles.iter().zip(at_once) {
            sealer.begin(ppk.keys()).unwrap();
            let mut alone = vec![0; ppp_len(upp.len())];
            sealer.seal_all(PROFILE, upp.expose(), &mut alone).unwrap();
            assert_eq!(ppp.as_bytes(), alone, "{} octets", upp.len());
        }
    }

    #[test]
    fn an_empty_profile_is_refused() {
        let ppk = Ppk::from_random(&[1; 48]);
        let refused = protect(&upp(0), ppk.keys(), &mut Sealer::new().unwrap());
        assert!(matches!(refused, Err(ProtectError::Empty)));
    }
}
