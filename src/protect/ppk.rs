//! PPK: the random keys of one profile at rest, sealed by a key of the HSM beside it, destroyed with it.

use crate::formats::bsp::SegmentKeys;
use crate::formats::bsp::group::Slot;

/// PPK-ENC, PPK-CMAC and the initial MAC chaining value of exactly one PPP.
pub struct Ppk {
    keys: SegmentKeys,
}

impl Ppk {
    /// From 48 octets of the token's random source; the caller wipes its copy.
    pub fn from_random(octets: &[u8; 48]) -> Self {
        Self { keys: SegmentKeys::from_octets(octets) }
    }

    /// From what [`Self::expose_for_sealing`] gave out, unsealed again.
    pub fn opened(octets: &[u8; 48]) -> Self {
        Self::from_random(octets)
    }

    /// `MCV || PPK-ENC || PPK-CMAC`, for the seal at rest only; the caller wipes `out`.
    pub fn expose_for_sealing(&self, out: &mut [u8; 48]) {
        let values = [self.keys.chain(), self.keys.enc().expose(), self.keys.mac().expose()];
        out.chunks_exact_mut(16).zip(values).for_each(|(slot, value)| slot.copy_from_slice(value));
    }

    /// The segment keys, their chain at its beginning.
    pub fn keys(&self) -> &SegmentKeys {
        &self.keys
    }

    /// These keys, and where the segments go.
    pub(super) fn slot<'a>(&'a self, room: &'a mut [u8]) -> Slot<'a> {
        Slot { keys: &self.keys, room }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_at_rest_opens_to_the_same_keys() {
        let octets: [u8; 48] = std::array::from_fn(|i| i as u8);
        let mut sealed = [0; 48];
        Ppk::from_random(&octets).expose_for_sealing(&mut sealed);
        assert_eq!(sealed, octets);
        let ppk = Ppk::opened(&sealed);
        let keys = ppk.keys();
        assert_eq!([&keys.chain()[..], keys.enc().expose(), keys.mac().expose()].concat(), octets);
        assert_eq!(keys.counter(), 1);
    }
}
