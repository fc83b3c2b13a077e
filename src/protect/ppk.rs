//! PPK: the random keys of one profile at rest, sealed by a key of the HSM beside it, destroyed with it.

use crate::formats::bsp::group::Slot;
use crate::formats::bsp::{ChainState, SegmentKeys};

/// PPK-ENC, PPK-CMAC and the initial MAC chaining value of exactly one PPP.
pub struct Ppk {
    keys: SegmentKeys,
    start: ChainState,
}

impl Ppk {
    /// From 48 octets of the token's random source; the caller wipes its copy.
    pub fn from_random(octets: &[u8; 48]) -> Self {
        let (keys, start) = SegmentKeys::from_octets(octets);
        Self { keys, start }
    }

    /// From what [`Self::expose_for_sealing`] gave out, unsealed again.
    pub fn opened(octets: &[u8; 48]) -> Self {
        Self::from_random(octets)
    }

    /// `MCV || PPK-ENC || PPK-CMAC`, for the seal at rest only; the caller wipes `out`.
    pub fn expose_for_sealing(&self, out: &mut [u8; 48]) {
        let values = [self.start.expose(), self.keys.enc.expose(), self.keys.mac.expose()];
        out.chunks_exact_mut(16).zip(values).for_each(|(slot, value)| slot.copy_from_slice(value));
    }

    /// The segment keys.
    pub fn keys(&self) -> &SegmentKeys {
        &self.keys
    }

    /// These keys, and where the segments go.
    pub(super) fn slot<'a>(&'a self, room: &'a mut [u8]) -> Slot<'a> {
        Slot { keys: &self.keys, start: &self.start, room }
    }

    /// Where the chain begins.
    pub fn start(&self) -> &ChainState {
        &self.start
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
        assert_eq!([&ppk.start().expose()[..], ppk.keys().enc.expose(), ppk.keys().mac.expose()].concat(), octets);
        assert_eq!(ppk.start().counter(), 1);
    }
}
