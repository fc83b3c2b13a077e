//! AES-128-CMAC of a segment over `chain || tag || length || body`; the whole tag is the next segment's chaining value, its
//! first eight octets travel.

use openssl::error::ErrorStack;

use super::ChainState;
use crate::ffi::CmacContext;
use crate::secret::{LentKey, Mac};

/// Octets of a MAC on the wire.
pub(super) const MAC_LEN: usize = 8;

pub(super) struct SegmentMac(CmacContext);

impl SegmentMac {
    pub(super) fn new() -> Result<Self, ErrorStack> {
        CmacContext::new().map(Self)
    }

    pub(super) fn rekey(&mut self, key: LentKey<'_, Mac>) -> Result<(), ErrorStack> {
        self.0.rekey(key.expose())
    }

    /// Authenticates `segment` (tag, length, body) and moves the chain on.
    pub(super) fn link(&mut self, state: &mut ChainState, segment: &[u8]) -> Result<[u8; MAC_LEN], ErrorStack> {
        self.0.restart()?;
        self.0.update(&state.chain[..])?;
        self.0.update(segment)?;
        state.chain.copy_from_slice(&self.0.finish()?);
        Ok(std::array::from_fn(|i| state.chain[i]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::bsp::vectors::{sized, vectors};
    use zeroize::Zeroizing;

    #[test]
    fn macs_are_as_rfc4493_published() {
        let mut mac = SegmentMac::new().unwrap();
        let mut long_enough = 0;
        for [key, message, tag] in vectors(include_str!("../../../test-vectors/rfc4493/aes128-cmac.txt")) {
            mac.rekey(LentKey::of(&sized(&key))).unwrap();
            mac.0.update(&message).unwrap();
            assert_eq!(mac.0.finish().unwrap()[..], tag[..]);
            // The same through the chain, whose value is the message's first block.
            let Some((chain, segment)) = message.split_first_chunk() else { continue };
            let mut state = ChainState { chain: Box::new(Zeroizing::new(*chain)), counter: 1 };
            assert_eq!(mac.link(&mut state, segment).unwrap()[..], tag[..MAC_LEN]);
            assert_eq!(state.chain[..], tag[..]);
            long_enough += 1;
        }
        assert_eq!(long_enough, 3);
    }
}
