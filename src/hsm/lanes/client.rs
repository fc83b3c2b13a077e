//! A session that is no session: every call goes to whichever token serves, with the deadline and the failover of the lanes.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::work::{Call, Job, Octets, Work};
use super::{Hall, Ticket, stopped, submit_to};
use crate::hsm::{HsmError, HsmSession, KeyRef};

/// What the pipeline draws, seals and encrypts with.
pub struct Client {
    pub(super) hall: Arc<Hall>,
}

impl Client {
    fn call(&self, call: Call) -> Result<Octets, HsmError> {
        let (answer, answers) = crossbeam_channel::bounded(1);
        self.hall.submit([Job::new(Work::Call { call, answer })]);
        // The watch answers for lanes that do not; a queue that ends drops the job and with it the sender.
        answers.recv().unwrap_or_else(|_| Err(stopped("the lane ended before it answered")))
    }
}

impl HsmSession for Client {
    fn sign(&mut self, key: KeyRef, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
        let ticket: Ticket = submit_to(&self.hall, key, vec![*digest]);
        ticket.wait().pop().unwrap_or_else(|| Err(stopped("no outcome")))
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
}

/// Ciphertext needs no wiping.
fn bare(mut octets: Octets) -> Vec<u8> {
    std::mem::take(&mut *octets)
}
