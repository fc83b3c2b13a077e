//! BSP, the BPP security protocol (SCP03t in SGP.22 v2): keys, counters and segments between SM-DP+ and eUICC.
//! In: a shared secret or random keys, and plain octets. Out: TLVs 86, 87, 88. Next: [`crate::protect`], [`crate::bind`].
//! Rule: one counter and one MAC chain run through 87, 88 and 86 in wire order. Source: SGP.22 §2.5, §3.1.3.2, Annex G.

mod cipher;
pub mod group;
pub mod kdf;
mod lanes;
mod mac;
pub mod segment;
#[cfg(test)]
pub(crate) mod vectors;

use zeroize::Zeroizing;

use crate::secret::{Enc, Key, Mac};

/// The two keys segments are closed with: S-ENC and S-MAC, or PPK-ENC and PPK-CMAC.
pub struct SegmentKeys {
    /// Encrypts.
    pub enc: Key<Enc>,
    /// Authenticates.
    pub mac: Key<Mac>,
}

impl SegmentKeys {
    /// Takes apart `MCV || ENC || MAC`, the order of the derivation and of ReplaceSessionKeys.
    pub fn from_octets(octets: &[u8; 48]) -> (Self, ChainState) {
        let part = |at: usize| Zeroizing::new(std::array::from_fn::<u8, 16, _>(|i| octets[at + i]));
        let keys = Self { enc: Key::from_slice(&part(16)), mac: Key::from_slice(&part(32)) };
        (keys, ChainState::start(&part(0)))
    }
}

/// Where the MAC chain stands: the last full CMAC (at the start: the initial MAC chaining value) and the block counter of the
/// next segment. Wiped on drop, because half of the chaining value never leaves.
pub struct ChainState {
    chain: Box<Zeroizing<[u8; 16]>>,
    counter: u32,
}

impl ChainState {
    /// Before the first segment, and again after ReplaceSessionKeys: counter 1.
    pub fn start(initial_mac_chaining_value: &[u8; 16]) -> Self {
        let mut chain = Box::new(Zeroizing::new([0; 16]));
        chain.copy_from_slice(initial_mac_chaining_value);
        Self { chain, counter: 1 }
    }

    /// The chaining value, for the MAC and for ReplaceSessionKeys only.
    pub fn expose(&self) -> &[u8; 16] {
        &self.chain
    }

    /// Block counter of the next segment.
    pub fn counter(&self) -> u32 {
        self.counter
    }

    fn continue_from(&mut self, other: &Self) {
        self.chain.copy_from_slice(&other.chain[..]);
        self.counter = other.counter;
    }
}
