//! HSM lanes: worker threads that own one session each and sign what the CPU threads hand over.
//! Their number is apart from the CPU's: a network HSM answers slowly and wants many calls in flight.
//!
//! In: digests, many at once. Out: a [`Ticket`] to wait on while the CPU does something else. Order is kept; one failed
//! digest hides no other. A lane whose session is lost opens another and tries that digest once more.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use super::{FaultClass, Hsm, HsmError, HsmSession, KeyRef};

/// Digests of one job: few enough that all lanes share a chunk's work, enough that the queue costs nothing beside a signature.
const JOB_DIGESTS: usize = 16;

/// Outcome of one digest.
pub type Signed = Result<[u8; 64], HsmError>;

/// The running lanes; dropping them finishes the queue and joins the workers.
pub struct Lanes {
    queue: Option<Sender<Job>>,
    workers: Vec<JoinHandle<()>>,
    signatures: Arc<AtomicU64>,
}

/// A claim on the signatures of one [`Lanes::submit`].
#[must_use = "the signatures are lost unless somebody waits for them"]
pub struct Ticket {
    answers: Receiver<(usize, Vec<Signed>)>,
    expected: usize,
}

struct Job {
    key: KeyRef,
    digests: Arc<Vec<[u8; 32]>>,
    range: Range<usize>,
    answer: Sender<(usize, Vec<Signed>)>,
}

impl Lanes {
    /// Opens `count` sessions (at least one) and starts a worker on each. A token that grants fewer gets fewer lanes and a
    /// warning; one that grants none is an error.
    pub fn start<H: Hsm + 'static>(hsm: &Arc<H>, count: usize) -> Result<Self, HsmError> {
        let (queue, jobs) = crossbeam_channel::unbounded();
        let signatures = Arc::new(AtomicU64::new(0));
        let mut lanes = Self { queue: Some(queue), workers: Vec::new(), signatures };
        for number in 0..count.max(1) {
            let session = match hsm.open_session() {
                Ok(session) => session,
                Err(error) if number == 0 => return Err(error),
                Err(error) => {
                    tracing::warn!(granted = number, asked = count, code = %error.code, "fewer HSM sessions than lanes");
                    break;
                }
            };
            let lane = Lane { hsm: Arc::clone(hsm), session: Some(session), signatures: Arc::clone(&lanes.signatures) };
            let jobs = jobs.clone();
            let worker = std::thread::Builder::new().name(format!("hsm-lane-{number}")).spawn(move || lane.work(&jobs));
            lanes.workers.push(worker.map_err(|e| stopped(&e.to_string()))?);
        }
        Ok(lanes)
    }

    /// Hands digests over; all lanes share them.
    pub fn submit(&self, key: KeyRef, digests: Vec<[u8; 32]>) -> Ticket {
        let expected = digests.len();
        let digests = Arc::new(digests);
        let (answer, answers) = crossbeam_channel::unbounded();
        for start in (0..expected).step_by(JOB_DIGESTS) {
            let range = start..expected.min(start + JOB_DIGESTS);
            let job = Job { key, digests: Arc::clone(&digests), range, answer: answer.clone() };
            // A queue without workers drops the job and with it its answer: the ticket reports that.
            let _ = self.queue.as_ref().map(|queue| queue.send(job));
        }
        Ticket { answers, expected }
    }

    /// Lanes that run.
    pub fn count(&self) -> usize {
        self.workers.len()
    }

    /// Signatures made since the start.
    pub fn signatures(&self) -> u64 {
        self.signatures.load(Ordering::Relaxed)
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.queue = None; // the workers' signal to end
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // a lane that panicked already cost its tickets an error
        }
    }
}

impl Ticket {
    /// Waits for all of them; in the order of submission, one outcome for each digest.
    pub fn wait(self) -> Vec<Signed> {
        let mut all: Vec<Option<Signed>> = (0..self.expected).map(|_| None).collect();
        // Ends when the last job's sender is gone, answered or not.
        for (start, signed) in self.answers {
            all[start..].iter_mut().zip(signed).for_each(|(slot, outcome)| *slot = Some(outcome));
        }
        all.into_iter().map(|slot| slot.unwrap_or_else(|| Err(stopped("the lane ended before it answered")))).collect()
    }
}

struct Lane<H: Hsm> {
    hsm: Arc<H>,
    session: Option<H::Session>,
    signatures: Arc<AtomicU64>,
}

impl<H: Hsm> Lane<H> {
    fn work(mut self, jobs: &Receiver<Job>) {
        for Job { key, digests, range, answer } in jobs {
            let signed: Vec<Signed> = digests[range.clone()].iter().map(|digest| self.sign(key, digest)).collect();
            let made = signed.iter().filter(|outcome| outcome.is_ok()).count();
            self.signatures.fetch_add(made as u64, Ordering::Relaxed);
            let _ = answer.send((range.start, signed)); // nobody waits for a dropped ticket
        }
    }

    /// Signing a digest twice does no harm, so a lost session costs one more try and no more.
    fn sign(&mut self, key: KeyRef, digest: &[u8; 32]) -> Signed {
        match self.attempt(key, digest) {
            Err(error) if error.class == FaultClass::Session => self.attempt(key, digest),
            outcome => outcome,
        }
    }

    fn attempt(&mut self, key: KeyRef, digest: &[u8; 32]) -> Signed {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(self.hsm.open_session()?),
        };
        let outcome = session.sign(key, digest);
        // Only an error of the data leaves a session as it was.
        if matches!(&outcome, Err(error) if error.class != FaultClass::Data) {
            self.session = None;
        }
        outcome
    }
}

fn stopped(why: &str) -> HsmError {
    HsmError {
        what: "sign on an HSM lane".into(),
        code: why.into(),
        class: FaultClass::Token,
        hint: "run again: nothing was issued for these records",
    }
}

#[cfg(test)]
pub(in crate::hsm) mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use zeroize::Zeroizing;

    /// Signs by writing the digest twice; loses its session, refuses data or dies on demand.
    #[derive(Default)]
    struct FakeHsm {
        opened: AtomicUsize,
        grant: Option<usize>,
        fault_after: Option<(usize, FaultClass)>,
    }

    #[derive(Default)]
    pub(in crate::hsm) struct FakeSession {
        pub(in crate::hsm) calls: usize,
        pub(in crate::hsm) fault_after: Option<(usize, FaultClass)>,
        pub(in crate::hsm) stuck_random: Option<[u8; 32]>,
    }

    fn fault(class: FaultClass) -> HsmError {
        HsmError { what: "sign".into(), code: "FAKE".into(), class, hint: "" }
    }

    impl Hsm for FakeHsm {
        type Session = FakeSession;
        fn open_session(&self) -> Result<FakeSession, HsmError> {
            let number = self.opened.fetch_add(1, Ordering::SeqCst);
            match self.grant {
                Some(grant) if number >= grant => Err(fault(FaultClass::Session)),
                _ => Ok(FakeSession { fault_after: self.fault_after, ..FakeSession::default() }),
            }
        }
        fn key(&self, _: &super::super::Role) -> Result<KeyRef, HsmError> {
            Ok(KeyRef(0))
        }
        fn public_point(&self, _: KeyRef) -> Result<[u8; 65], HsmError> {
            Err(fault(FaultClass::Policy))
        }
    }

    impl HsmSession for FakeSession {
        fn sign(&mut self, _: KeyRef, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
            self.calls += 1;
            match self.fault_after {
                Some((after, class)) if self.calls > after => Err(fault(class)),
                _ => Ok(std::array::from_fn(|i| digest[i % 32])),
            }
        }
        fn random(&mut self, out: &mut [u8]) -> Result<(), HsmError> {
            match self.stuck_random {
                Some(stuck) => out.iter_mut().zip(stuck.iter().cycle()).for_each(|(o, s)| *o = *s),
                None => openssl::rand::rand_bytes(out).unwrap(),
            }
            Ok(())
        }
        fn encrypt_blocks(&mut self, _: KeyRef, _: &[u8]) -> Result<Vec<u8>, HsmError> {
            Err(fault(FaultClass::Policy))
        }
        fn decrypt_blocks(&mut self, _: KeyRef, _: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
            Err(fault(FaultClass::Policy))
        }
        fn check_value(&mut self, _: KeyRef) -> Result<Option<Vec<u8>>, HsmError> {
            Ok(None)
        }
        fn seal(&mut self, _: KeyRef, _: &[u8], _: &[u8]) -> Result<Vec<u8>, HsmError> {
            Err(fault(FaultClass::Policy))
        }
        fn open(&mut self, _: KeyRef, _: &[u8], _: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
            Err(fault(FaultClass::Policy))
        }
    }

    fn digests(count: usize) -> Vec<[u8; 32]> {
        (0..count).map(|i| std::array::from_fn(|b| (i >> (8 * (b % 4))) as u8)).collect()
    }

    fn is_signature_of(signed: &Signed, digest: &[u8; 32]) -> bool {
        matches!(signed, Ok(signature) if signature[..32] == *digest && signature[32..] == *digest)
    }

    #[test]
    fn signatures_come_back_in_order_whatever_the_split() {
        let lanes = Lanes::start(&Arc::new(FakeHsm::default()), 3).unwrap();
        for count in [0, 1, 15, 16, 17, 1_000] {
            let digests = digests(count);
            let signed = lanes.submit(KeyRef(0), digests.clone()).wait();
            assert_eq!(signed.len(), count);
            assert!(signed.iter().zip(&digests).all(|(s, d)| is_signature_of(s, d)));
        }
        assert_eq!(lanes.signatures(), 1 + 15 + 16 + 17 + 1_000);
    }

    #[test]
    fn a_lost_session_is_replaced_and_its_digest_tried_again() {
        let hsm = Arc::new(FakeHsm { fault_after: Some((5, FaultClass::Session)), ..FakeHsm::default() });
        let lanes = Lanes::start(&hsm, 2).unwrap();
        let digests = digests(200);
        let signed = lanes.submit(KeyRef(0), digests.clone()).wait();
        assert!(signed.iter().zip(&digests).all(|(s, d)| is_signature_of(s, d)));
        assert!(hsm.opened.load(Ordering::SeqCst) > 30);
    }

    #[test]
    fn a_digest_is_tried_twice_at_most() {
        let hsm = Arc::new(FakeHsm { fault_after: Some((0, FaultClass::Session)), ..FakeHsm::default() });
        let lanes = Lanes::start(&hsm, 1).unwrap();
        let signed = lanes.submit(KeyRef(0), digests(10)).wait();
        assert!(signed.iter().all(|s| s.is_err()));
        assert_eq!(hsm.opened.load(Ordering::SeqCst), 20); // the first of the 20 attempts used the session of the start
        assert_eq!(lanes.signatures(), 0);
    }

    #[test]
    fn an_error_of_the_data_keeps_the_session_and_is_not_tried_again() {
        let hsm = Arc::new(FakeHsm { fault_after: Some((3, FaultClass::Data)), ..FakeHsm::default() });
        let lanes = Lanes::start(&hsm, 1).unwrap();
        let signed = lanes.submit(KeyRef(0), digests(10)).wait();
        assert_eq!(signed.iter().filter(|s| s.is_ok()).count(), 3);
        assert_eq!(hsm.opened.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn fewer_sessions_mean_fewer_lanes_and_none_is_an_error() {
        let hsm = Arc::new(FakeHsm { grant: Some(2), ..FakeHsm::default() });
        assert_eq!(Lanes::start(&hsm, 8).unwrap().count(), 2);
        let none = Arc::new(FakeHsm { grant: Some(0), ..FakeHsm::default() });
        assert!(Lanes::start(&none, 8).is_err());
    }

    #[test]
    fn many_tickets_of_many_threads_do_not_mix() {
        let lanes = Lanes::start(&Arc::new(FakeHsm::default()), 4).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let lanes = &lanes;
                scope.spawn(move || {
                    for round in 0..20 {
                        let digests = digests(thread * 37 + round);
                        let signed = lanes.submit(KeyRef(0), digests.clone()).wait();
                        assert!(signed.iter().zip(&digests).all(|(s, d)| is_signature_of(s, d)));
                    }
                });
            }
        });
    }
}
