//! A session that is no session: every call goes to whichever token serves, with the deadline and the failover of the lanes.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::again::LaneId;
use super::work::{Call, Job, Octets, Work};
use super::{Hall, stopped, submit_tried};
use crate::hsm::{HsmError, HsmSession, KeyRef};

/// What the pipeline draws, seals and encrypts with.
pub struct Client {
    hall: Arc<Hall>,
    /// Who made the last call.
    last: Option<LaneId>,
    /// Whom the next calls are to avoid.
    tried: Vec<LaneId>,
}

impl Client {
    pub(super) fn of(hall: &Arc<Hall>) -> Self {
        Self { hall: Arc::clone(hall), last: None, tried: Vec::new() }
    }

    fn call(&mut self, call: Call) -> Result<Octets, HsmError> {
        let (answer, answers) = crossbeam_channel::bounded(1);
        self.hall.submit([Job { tried: self.tried.clone(), ..Job::new(Work::Call { call, answer }) }]);
        // The watch answers for lanes that do not; a queue that ends drops the job and with it the sender.
        let told = answers.recv().unwrap_or_else(|_| (Err(stopped("the lane ended before it answered")), None));
        self.last = told.1;
        told.0
    }
}

impl HsmSession for Client {
    fn sign(&mut self, key: KeyRef, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
        let told = submit_tried(&self.hall, key, vec![*digest], &self.tried).told().pop();
        let (signed, by) = told.unwrap_or_else(|| (Err(stopped("no outcome")), None));
        self.last = by;
        signed
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), HsmError> {
        let len = out.len();
        let drawn = self.call(Arc::new(move |session| {
            let mut octets = Zeroizing::new(vec![0; len]);
            session.random(&mut octets)?;
            Ok(octets)
        }))?;
        out.copy_from_slice(&drawn);
        Ok(())
    }

    fn encrypt_blocks(&mut self, key: KeyRef, blocks: &[u8]) -> Result<Vec<u8>, HsmError> {
        let blocks = Zeroizing::new(blocks.to_vec());
        self.call(Arc::new(move |session| session.encrypt_blocks(key, &blocks).map(Zeroizing::new))).map(bare)
    }

    fn decrypt_blocks(&mut self, key: KeyRef, blocks: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        let blocks = blocks.to_vec();
        self.call(Arc::new(move |session| session.decrypt_blocks(key, &blocks)))
    }

    fn check_value(&mut self, key: KeyRef) -> Result<Option<Vec<u8>>, HsmError> {
        let told =
            self.call(Arc::new(move |session| Ok(Zeroizing::new(session.check_value(key)?.unwrap_or_default()))))?;
        Ok(Some(bare(told)).filter(|value| !value.is_empty()))
    }

    fn seal(&mut self, key: KeyRef, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, HsmError> {
        let (aad, plain) = (aad.to_vec(), Zeroizing::new(plain.to_vec()));
        self.call(Arc::new(move |session| session.seal(key, &aad, &plain).map(Zeroizing::new))).map(bare)
    }

    fn open(&mut self, key: KeyRef, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        let (aad, sealed) = (aad.to_vec(), sealed.to_vec());
        self.call(Arc::new(move |session| session.open(key, &aad, &sealed)))
    }

    fn elsewhere(&mut self) {
        self.tried.extend(self.last.take());
    }

    fn anywhere(&mut self) {
        self.tried.clear();
    }
}

/// Ciphertext needs no wiping.
fn bare(mut octets: Octets) -> Vec<u8> {
    std::mem::take(&mut *octets)
}
