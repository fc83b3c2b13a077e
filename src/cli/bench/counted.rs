//! A session that counts what is asked of the token, at the seam where the engine speaks to it.

use zeroize::Zeroizing;

use crate::hsm::{HsmError, HsmSession, KeyRef};

/// Calls of the token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Signatures.
    pub signatures: u64,
    /// Anything else.
    pub others: u64,
}

/// Passes every call on and counts it.
pub struct Counted<S> {
    session: S,
    calls: Calls,
}

impl<S: HsmSession> Counted<S> {
    pub(super) fn new(session: S) -> Self {
        Self { session, calls: Calls::default() }
    }

    /// Since the last look.
    pub(super) fn take(&mut self) -> Calls {
        std::mem::take(&mut self.calls)
    }

    fn other(&mut self) -> &mut S {
        self.calls.others += 1;
        &mut self.session
    }
}

impl<S: HsmSession> HsmSession for Counted<S> {
    fn sign(&mut self, key: KeyRef, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
        self.calls.signatures += 1;
        self.session.sign(key, digest)
    }
    fn random(&mut self, out: &mut [u8]) -> Result<(), HsmError> {
        self.other().random(out)
    }
    fn encrypt_blocks(&mut self, key: KeyRef, blocks: &[u8]) -> Result<Vec<u8>, HsmError> {
        self.other().encrypt_blocks(key, blocks)
    }
    fn decrypt_blocks(&mut self, key: KeyRef, blocks: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        self.other().decrypt_blocks(key, blocks)
    }
    fn check_value(&mut self, key: KeyRef) -> Result<Option<Vec<u8>>, HsmError> {
        self.other().check_value(key)
    }
    fn seal(&mut self, key: KeyRef, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, HsmError> {
        self.other().seal(key, aad, plain)
    }
    fn open(&mut self, key: KeyRef, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        self.other().open(key, aad, sealed)
    }
}
