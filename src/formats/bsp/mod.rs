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

use crate::secret::{Enc, LentKey, Mac};

/// What the segments of one package are closed with: S-ENC and S-MAC, or PPK-ENC and PPK-CMAC, and where the MAC chain stands. All in one
/// place of its own, as in [`crate::secret::Key`]: moves leave no copies. Wiped on drop; half of the chaining value never leaves either.
pub struct SegmentKeys {
    /// `MCV || ENC || MAC`; the chaining value is the last full CMAC, at the start the initial one.
    parts: Box<Zeroizing<[[u8; 16]; 3]>>,
    counter: u32,
}

impl SegmentKeys {
    /// Takes over `MCV || ENC || MAC`, the order of the derivation and of ReplaceSessionKeys. The block counter begins with 1.
    pub fn from_octets(octets: &[u8; 48]) -> Self {
        let mut parts = Box::new(Zeroizing::new([[0; 16]; 3]));
        parts.as_flattened_mut().copy_from_slice(octets);
        Self { parts, counter: 1 }
    }

    /// Encrypts.
    pub fn enc(&self) -> LentKey<'_, Enc> {
        LentKey::of(&self.parts[1])
    }

    /// Authenticates.
    pub fn mac(&self) -> LentKey<'_, Mac> {
        LentKey::of(&self.parts[2])
    }

    /// The chaining value, for the MAC and for ReplaceSessionKeys only.
    pub fn chain(&self) -> &[u8; 16] {
        &self.parts[0]
    }

    /// Block counter of the next segment.
    pub fn counter(&self) -> u32 {
        self.counter
    }
}

/// Where the MAC chain of the segments in work stands, in a place of its own too.
struct ChainState {
    chain: Box<Zeroizing<[u8; 16]>>,
    /// Block counter of the next segment.
    counter: u32,
}

impl ChainState {
    /// Of no package.
    fn blank() -> Self {
        Self { chain: Box::new(Zeroizing::new([0; 16])), counter: 1 }
    }

    fn take_up(&mut self, keys: &SegmentKeys) {
        self.chain.copy_from_slice(keys.chain());
        self.counter = keys.counter;
    }

    fn lay_down(&self, keys: &mut SegmentKeys) {
        keys.parts[0].copy_from_slice(&self.chain[..]);
        keys.counter = self.counter;
    }
}
