//! One lane: a thread with a session of its own, and what it does when the token fails it.
//!
//! By class of the fault: data and policy are the item's own outcome (data leaves the session as it was); a lost session costs
//! one more try on a fresh one; what that does not cure, and a lost token, opens the breaker and the work goes to others. A policy
//! fault that leaves us without a session is no item's: the token goes out.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::again::LaneId;
use super::hall::{Hall, Seat};
use super::work::{InHand, Job, Work};
use super::{Signed, stopped};
use crate::certs::signature_fits;
use crate::hsm::{FaultClass, HsmError, HsmSession, KeyRef};

/// What the watch sees of a lane.
pub(super) struct Slip {
    pub(super) id: LaneId,
    born: Instant,
    /// When the call in flight began, in microseconds of this slip's life, plus one; 0: no call.
    call_began: AtomicU64,
    /// Given up by the watch: its answer is nobody's.
    stuck: AtomicBool,
    hand: Mutex<Option<InHand>>,
}

/// One lane. Its session is opened when there is work, or before the start.
pub(super) struct Lane {
    hall: Arc<Hall>,
    slip: Arc<Slip>,
    session: Option<Open>,
}

/// A session and what is known of it.
pub(super) struct Open {
    session: Box<dyn HsmSession>,
    /// The pool's when it was opened.
    generation: u64,
    has_signed: bool,
}

/// Why a call has no result.
enum Trouble {
    /// The item's own outcome.
    Item(HsmError),
    /// The token's: others have to take over.
    Token(HsmError, u64),
    /// No session for this lane, while others have one.
    NoSession(HsmError),
    /// The watch gave this lane up: the work is no longer its.
    Stuck,
}

impl Slip {
    pub(super) fn new(pool: usize) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: LaneId { number: NEXT.fetch_add(1, Relaxed), pool },
            born: Instant::now(),
            call_began: AtomicU64::new(0),
            stuck: AtomicBool::new(false),
            hand: Mutex::new(None),
        })
    }

    /// How long the call in flight has lasted; zero when there is none.
    pub(super) fn in_call_for(&self) -> Duration {
        match self.call_began.load(Relaxed) {
            0 => Duration::ZERO,
            began => self.born.elapsed().saturating_sub(Duration::from_micros(began - 1)),
        }
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.load(Relaxed)
    }

    /// Takes the work out of a stuck lane's hand: what is done is answered, the rest is given back.
    pub(super) fn snatch(&self) -> Option<Job> {
        self.stuck.store(true, Relaxed);
        self.hand().take().and_then(InHand::put_down)
    }

    fn hand(&self) -> MutexGuard<'_, Option<InHand>> {
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self) -> Instant {
        let now = Instant::now();
        self.call_began.store(now.duration_since(self.born).as_micros() as u64 + 1, Relaxed);
        now
    }

    fn end(&self) {
        self.call_began.store(0, Relaxed);
    }
}

impl Open {
    /// A session of this seat's token, for the pool as it is now.
    pub(super) fn of(hall: &Hall, pool: usize) -> Result<Self, HsmError> {
        let generation = hall.generation(pool); // before: a recovery meanwhile makes the session an old one
        Ok(Self { session: hall.seats[pool].token.open()?, generation, has_signed: false })
    }

    /// Signs; the first signature of a session must verify at once.
    fn sign(&mut self, seat: &Seat, key: KeyRef, digest: &[u8; 32]) -> Signed {
        let signature = self.session.sign(key, digest)?;
        if !self.has_signed && !signature_fits(&seat.token.public_point(key)?, digest, &signature) {
            return Err(wrong_signature(seat));
        }
        self.has_signed = true;
        Ok(signature)
    }
}

/// A token that signs with another key or wrongly would ruin packages without a word.
fn wrong_signature(seat: &Seat) -> HsmError {
    HsmError {
        what: format!("sign on {}", seat.token.name()),
        code: "the signature does not verify with the key's public half".into(),
        class: FaultClass::Token,
        hint: "the HSM signs with another key or wrongly: do not use it before its maker has explained it",
    }
}

impl Lane {
    pub(super) fn new(hall: &Arc<Hall>, pool: usize, session: Option<Open>) -> Self {
        let slip = Slip::new(pool);
        hall.enter(&slip);
        Self { hall: Arc::clone(hall), slip, session }
    }

    pub(super) fn slip(&self) -> Arc<Slip> {
        Arc::clone(&self.slip)
    }

    pub(super) fn hall(&self) -> Arc<Hall> {
        Arc::clone(&self.hall)
    }

    /// Until the lanes stop, the token is not to be used any more, or there are lanes enough.
    pub(super) fn work(mut self) {
        while let Some(job) = self.hall.take(&self.slip) {
            let goes_on = match self.serve(job) {
                Ok(()) => self.hall.done(&self.slip) || self.come_back(),
                Err(Trouble::Token(error, generation)) => {
                    self.hall.fault(self.slip.id.pool, generation, &error);
                    self.bounce(&error)
                }
                Err(Trouble::NoSession(error)) if self.hall.may_retire(&self.slip) => {
                    self.lay_back(&error);
                    false
                }
                Err(Trouble::NoSession(error)) => {
                    self.hall.fault(self.slip.id.pool, self.hall.generation(self.slip.id.pool), &error);
                    self.bounce(&error)
                }
                Err(Trouble::Stuck | Trouble::Item(_)) => self.come_back(),
            };
            if !goes_on {
                break;
            }
        }
        self.close_session();
        self.hall.leave(&self.slip);
    }

    /// One piece of work; `Err` only for what is not the item's own outcome.
    fn serve(&mut self, job: Job) -> Result<(), Trouble> {
        let call = match &job.work {
            Work::Call { call, .. } => Some(Arc::clone(call)),
            Work::Sign { .. } => None,
        };
        let id = self.slip.id;
        *self.slip.hand() = Some(InHand::of(job, id, Arc::clone(&self.hall.seats[id.pool].token)));
        match call {
            Some(call) => {
                let outcome = settled(self.attempt(|open, _| call(&mut *open.session)))?;
                let Some(InHand { job, .. }) = self.slip.hand().take() else { return Err(Trouble::Stuck) };
                if let Work::Call { answer, .. } = job.work {
                    let _ = answer.send((outcome, Some(id))); // nobody may be waiting any more
                }
                Ok(())
            }
            None => self.sign_all(),
        }
    }

    /// Digest after digest; every outcome goes into the hand, where the watch finds it should the next call hang. The last
    /// signature is verified before any of the job goes out: of a token that goes wrong and stays so none does.
    fn sign_all(&mut self) -> Result<(), Trouble> {
        let mut outcome = None;
        loop {
            let next = {
                let mut hand = self.slip.hand();
                let Some(in_hand) = hand.as_mut() else { return Err(Trouble::Stuck) };
                if let Some(outcome) = outcome.take() {
                    in_hand.done.push(outcome);
                }
                match in_hand.next_digest() {
                    Some(next) => next,
                    None => {
                        drop(hand);
                        self.vouch()?;
                        let rest = self.slip.hand().take().and_then(InHand::answer);
                        // Nothing can be left of it; were it otherwise, its ticket would hear so.
                        rest.into_iter().for_each(|job| job.fail(&stopped("a digest was left over")));
                        return Ok(());
                    }
                }
            };
            let (key, digest) = next;
            let signed = settled(self.attempt(|open, seat| open.sign(seat, key, &digest)))?;
            if signed.is_ok() {
                self.hall.seats[self.slip.id.pool].tally.signatures.fetch_add(1, Relaxed);
            }
            outcome = Some(signed);
        }
    }

    /// The job in hand is done: whether it may go out. After an error nothing of it has, and the session is not used again.
    fn vouch(&mut self) -> Result<(), Trouble> {
        if self.slip.hand().as_ref().is_none_or(InHand::is_sound) {
            return Ok(());
        }
        let pool = self.slip.id.pool;
        let error = wrong_signature(&self.hall.seats[pool]);
        self.hall.seats[pool].tally.fault(&error.code);
        let generation = self.session.as_ref().map_or_else(|| self.hall.generation(pool), |open| open.generation);
        self.close_session();
        Err(Trouble::Token(error, generation))
    }

    /// One call, once more on a fresh session if the first was lost.
    fn attempt<T>(&mut self, call: impl Fn(&mut Open, &Seat) -> Result<T, HsmError>) -> Result<T, Trouble> {
        let mut is_second = false;
        loop {
            let had_session = self.session.is_some();
            let pool = self.slip.id.pool;
            let began = self.slip.begin();
            let hall = Arc::clone(&self.hall);
            let seat = &hall.seats[pool];
            let opened = match self.session.take() {
                Some(open) => Ok(open),
                None => Open::of(&hall, pool),
            };
            let (generation, result) = match opened {
                Ok(open) => {
                    let generation = open.generation;
                    (generation, call(self.session.insert(open), seat))
                }
                Err(error) => (hall.generation(pool), Err(error)),
            };
            self.slip.end();
            seat.tally.answered(began.elapsed());
            if self.slip.is_stuck() {
                return Err(Trouble::Stuck);
            }
            let error = match result {
                Ok(value) => {
                    seat.tally.served.fetch_add(1, Relaxed);
                    return Ok(value);
                }
                Err(error) => error,
            };
            seat.tally.fault(&error.code);
            let never_opened = self.session.is_none();
            if error.class != FaultClass::Data {
                self.close_session(); // only an error of the data leaves a session as it was
            }
            let is_old = had_session && generation != hall.generation(pool);
            match error.class {
                // Not the item's: the token as it came back (with another key) is not the one that was opened.
                FaultClass::Policy if never_opened => return Err(Trouble::Token(error, generation)),
                FaultClass::Data | FaultClass::Policy => return Err(Trouble::Item(error)),
                FaultClass::Session if never_opened && error.is_session_count() => {
                    return Err(Trouble::NoSession(error));
                }
                FaultClass::Session if !is_second => is_second = true,
                FaultClass::Token if !is_second && is_old => is_second = true,
                _ => return Err(Trouble::Token(error, generation)),
            }
        }
    }

    /// Lays the work back for others; goes on (and waits for its pool), unless it was given up meanwhile.
    fn bounce(&mut self, error: &HsmError) -> bool {
        let is_listed = self.hall.done(&self.slip);
        self.lay_back(error);
        is_listed || self.come_back()
    }

    /// Empties the hand, unless the watch has.
    fn lay_back(&self, error: &HsmError) {
        let in_hand = self.slip.hand().take();
        if let Some(job) = in_hand.and_then(InHand::put_down) {
            self.hall.put_back(job, error);
        }
    }

    /// After the watch gave it up: a new slip if the pool has too few lanes, else the end.
    fn come_back(&mut self) -> bool {
        self.lay_back(&stopped("the lane was given up")); // the watch has emptied the hand; a job dropped with it would be lost
        self.close_session();
        self.slip = Slip::new(self.slip.id.pool);
        self.hall.came_back(&self.slip)
    }

    /// Closing is a call, too, and can hang.
    fn close_session(&mut self) {
        if let Some(open) = self.session.take() {
            self.slip.begin();
            drop(open);
            self.slip.end();
        }
    }
}

/// What is the item's own outcome becomes its outcome.
fn settled<T>(outcome: Result<T, Trouble>) -> Result<Result<T, HsmError>, Trouble> {
    match outcome {
        Ok(value) => Ok(Ok(value)),
        Err(Trouble::Item(error)) => Ok(Err(error)),
        Err(trouble) => Err(trouble),
    }
}
