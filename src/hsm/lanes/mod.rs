//! HSM lanes: worker threads that own one session each and do what the CPU threads hand over. Their number is apart from the
//! CPU's: a network HSM answers slowly and wants many calls in flight.
//!
//! In: digests, many at once; or single calls through a [`Client`]. Out: a [`Ticket`] to wait on while the CPU does something
//! else. Each token is a pool of lanes with a breaker; a pool that fails loses its work to the others and is brought back by the
//! one recoverer of its module. Order is kept; every digest has exactly one outcome; one failed digest hides no other.

mod again;
mod client;
mod hall;
mod health;
mod lane;
mod recover;
mod state;
#[cfg(test)]
pub(in crate::hsm) mod tests;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::Receiver;
use jiff::Timestamp;

use self::again::LaneId;
pub use self::client::Client;
use self::hall::{Hall, Seat};
use self::health::Tally;
pub use self::health::{Breaker, Health, PoolHealth};
use self::lane::{Lane, Open};
use self::work::{Answer, Job, Work};
use super::{FaultClass, Hsm, HsmError, HsmSession, KeyRef, Recoverable, Role};
use crate::config::{HsmConfig, VERIFY_ONE_IN};

/// Digests of one job at most: of so many signatures one is verified, which takes about as long as a signature.
const MOST_DIGESTS: usize = 64;
/// Of one job where lanes are many: enough that the queue costs nothing beside a signature, few enough that the lanes share a chunk's
/// work. Each gets [`JOBS_A_LANE`] jobs of what is submitted at once, as long as they are not smaller than this.
const LEAST_DIGESTS: usize = 16;
const JOBS_A_LANE: usize = 8;
/// The watch looks at least this often.
const WATCH_EVERY: Duration = Duration::from_millis(250);
/// At shutdown a call in flight gets this long.
const LAST_CALL: Duration = Duration::from_secs(5);

/// Threads that were still inside a call of a module when their lanes ended.
static LEFT_BEHIND: AtomicUsize = AtomicUsize::new(0);

/// Outcome of one digest.
pub type Signed = Result<[u8; 64], HsmError>;

/// The running lanes; dropping them finishes the queue and ends the workers.
pub struct Lanes {
    hall: Arc<Hall>,
}

/// How patient the lanes are.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// A call that takes longer is given up.
    pub call_deadline: Duration,
    /// How long work waits for a token to come back before it fails.
    pub recover_for: Duration,
    /// Digests of one piece of work at most: its last signature is verified before any of them goes out.
    pub verify_one_in: usize,
    /// Between the first two rounds of a recovery.
    pub pause_from: Duration,
    /// Between two rounds at most.
    pub pause_to: Duration,
}

impl Rules {
    /// As a site wants them.
    pub fn of(config: &HsmConfig) -> Self {
        Self {
            call_deadline: Duration::from_millis(config.call_deadline_ms),
            recover_for: Duration::from_secs(config.recover_s),
            verify_one_in: (config.verify_one_in as usize).clamp(1, MOST_DIGESTS),
            ..Self::default()
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            call_deadline: Duration::from_secs(30),
            recover_for: Duration::from_secs(60),
            verify_one_in: VERIFY_ONE_IN as usize,
            pause_from: Duration::from_millis(100),
            pause_to: Duration::from_secs(5),
        }
    }
}

/// A claim on the signatures of one [`Lanes::submit`].
#[must_use = "the signatures are lost unless somebody waits for them"]
pub struct Ticket {
    key: KeyRef,
    digests: Arc<Vec<[u8; 32]>>,
    answers: Receiver<Answer>,
}

/// A token as the lanes hold it, whatever its type.
pub(in crate::hsm) trait Seated: Send + Sync {
    fn open(&self) -> Result<Box<dyn HsmSession>, HsmError>;
    fn key(&self, role: &Role) -> Result<KeyRef, HsmError>;
    fn key_at(&self, role: &Role, accepted: Timestamp) -> Result<KeyRef, HsmError>;
    fn public_point(&self, key: KeyRef) -> Result<[u8; 65], HsmError>;
    fn name(&self) -> String;
    fn module(&self) -> usize;
    fn restart_module(&self) -> Result<(), HsmError>;
    fn revive(&self) -> Result<(), HsmError>;
}

impl<H: Recoverable> Seated for H
where
    H::Session: 'static,
{
    fn open(&self) -> Result<Box<dyn HsmSession>, HsmError> {
        Ok(Box::new(self.open_session()?))
    }
    fn key(&self, role: &Role) -> Result<KeyRef, HsmError> {
        Hsm::key(self, role)
    }
    fn key_at(&self, role: &Role, accepted: Timestamp) -> Result<KeyRef, HsmError> {
        Hsm::key_at(self, role, accepted)
    }
    fn public_point(&self, key: KeyRef) -> Result<[u8; 65], HsmError> {
        Hsm::public_point(self, key)
    }
    fn name(&self) -> String {
        Recoverable::name(self)
    }
    fn module(&self) -> usize {
        Recoverable::module(self)
    }
    fn restart_module(&self) -> Result<(), HsmError> {
        Recoverable::restart_module(self)
    }
    fn revive(&self) -> Result<(), HsmError> {
        Recoverable::revive(self)
    }
}

impl Lanes {
    /// `count` lanes (at least one) on one token, with the usual rules.
    pub fn start<H: Recoverable + 'static>(hsm: &Arc<H>, count: usize) -> Result<Self, HsmError> {
        Self::over(vec![(Arc::clone(hsm), count)], Rules::default())
    }

    /// Lanes on several tokens that hold the same keys. Every session is opened now: a token that grants fewer gets fewer lanes
    /// and a warning; one that grants none is an error.
    pub fn over<H: Recoverable + 'static>(tokens: Vec<(Arc<H>, usize)>, rules: Rules) -> Result<Self, HsmError> {
        let counts: Vec<usize> = tokens.iter().map(|(_, count)| (*count).max(1)).collect();
        let seat = |(token, _): (Arc<H>, usize)| Seat { token, tally: Tally::default() };
        let hall = Arc::new(Hall::new(tokens.into_iter().map(seat).collect(), rules));
        let lanes = Self { hall }; // from here on, what fails is dropped in order
        for (pool, count) in counts.into_iter().enumerate() {
            lanes.open_pool(pool, count)?;
        }
        let modules: std::collections::BTreeSet<usize> =
            lanes.hall.seats.iter().map(|seat| seat.token.module()).collect();
        for module in modules {
            spawn_other(&lanes.hall, "hsm-recover", move |hall| recover::run(hall, module))?;
        }
        spawn_other(&lanes.hall, "hsm-watch", watch)?;
        Ok(lanes)
    }

    /// Hands digests over; all lanes share them.
    pub fn submit(&self, key: KeyRef, digests: Vec<[u8; 32]>) -> Ticket {
        submit_to(&self.hall, key, digests)
    }

    /// Lanes that run.
    pub fn count(&self) -> usize {
        self.health().pools.iter().map(|pool| pool.lanes).sum()
    }

    /// Signatures made since the start.
    pub fn signatures(&self) -> u64 {
        self.hall.seats.iter().map(|seat| seat.tally.signatures.load(Ordering::Relaxed)).sum()
    }

    /// How the tokens are.
    pub fn health(&self) -> Health {
        self.hall.health()
    }

    fn open_pool(&self, pool: usize, count: usize) -> Result<(), HsmError> {
        for number in 0..count {
            let session = match Open::of(&self.hall, pool) {
                Ok(session) => session,
                Err(error) if number == 0 => return Err(error),
                Err(error) => {
                    let token = self.hall.seats[pool].token.name();
                    tracing::warn!(%token, granted = number, asked = count, code = %error.code, "fewer HSM sessions than lanes");
                    break;
                }
            };
            self.hall.wants(pool, number + 1);
            spawn_lane(Lane::new(&self.hall, pool, Some(session)))?;
        }
        Ok(())
    }
}

/// Keys of the first token stand for those of all; sessions are [`Client`]s.
impl Hsm for Lanes {
    type Session = Client;

    fn open_session(&self) -> Result<Client, HsmError> {
        Ok(Client::of(&self.hall))
    }

    fn key(&self, role: &Role) -> Result<KeyRef, HsmError> {
        self.first()?.token.key(role)
    }

    fn key_at(&self, role: &Role, accepted: Timestamp) -> Result<KeyRef, HsmError> {
        self.first()?.token.key_at(role, accepted)
    }

    fn public_point(&self, key: KeyRef) -> Result<[u8; 65], HsmError> {
        self.first()?.token.public_point(key)
    }
}

impl Lanes {
    fn first(&self) -> Result<&Seat, HsmError> {
        self.hall.seats.first().ok_or_else(|| stopped("no token"))
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        let left = self.hall.stop(LAST_CALL.min(self.hall.rules.call_deadline));
        if left > 0 {
            tracing::warn!(threads = left, "calls of the token did not come back");
            LEFT_BEHIND.fetch_add(left, Ordering::SeqCst);
        }
    }
}

/// Threads that a module holds: the process must not run its exit handlers under them.
pub fn left_behind() -> usize {
    LEFT_BEHIND.load(Ordering::SeqCst)
}

impl Ticket {
    /// Waits for all of them; in the order of submission, one outcome for each digest.
    pub fn wait(self) -> Vec<Signed> {
        self.told().into_iter().map(|(signed, _)| signed).collect()
    }

    /// The outcomes, and which lane told each.
    fn told(self) -> Vec<(Signed, Option<LaneId>)> {
        let mut all: Vec<Option<(Signed, Option<LaneId>)>> = self.digests.iter().map(|_| None).collect();
        // Ends when the last job's sender is gone, answered or not.
        for Answer { start, signed, by } in self.answers {
            all[start..].iter_mut().zip(signed).for_each(|(slot, outcome)| *slot = Some((outcome, by)));
        }
        let told = |slot: Option<_>| slot.unwrap_or_else(|| (Err(stopped("the lane ended before it answered")), None));
        all.into_iter().map(told).collect()
    }
}

fn submit_to(hall: &Hall, key: KeyRef, digests: Vec<[u8; 32]>) -> Ticket {
    submit_tried(hall, key, digests, &[])
}

/// Digests that these lanes have refused.
fn submit_tried(hall: &Hall, key: KeyRef, digests: Vec<[u8; 32]>, tried: &[LaneId]) -> Ticket {
    let expected = digests.len();
    let digests = Arc::new(digests);
    let (answer, answers) = crossbeam_channel::unbounded();
    let together = digests_a_job(expected, hall.running(), hall.rules.verify_one_in);
    hall.submit((0..expected).step_by(together).map(|start| {
        let range = start..expected.min(start + together);
        let work = Work::Sign { key, digests: Arc::clone(&digests), range, answer: answer.clone() };
        Job { tried: tried.to_vec(), ..Job::new(work) }
    }));
    Ticket { key, digests, answers }
}

/// Of so many digests handed over at once.
fn digests_a_job(expected: usize, lanes: usize, most: usize) -> usize {
    (expected / (JOBS_A_LANE * lanes.max(1))).max(LEAST_DIGESTS).min(most)
}

fn spawn_lane(lane: Lane) -> Result<(), HsmError> {
    let slip = lane.slip();
    let hall = lane.hall();
    std::thread::Builder::new().name("hsm-lane".into()).spawn(move || lane.work()).map(drop).map_err(|e| {
        hall.leave(&slip);
        stopped(&e.to_string())
    })
}

/// A thread that is no lane.
fn spawn_other(hall: &Arc<Hall>, name: &str, work: impl FnOnce(&Arc<Hall>) + Send + 'static) -> Result<(), HsmError> {
    let own = Arc::clone(hall);
    hall.thread_begins();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        work(&own);
        own.thread_ends();
    });
    thread.map(drop).map_err(|e| {
        hall.thread_ends();
        stopped(&e.to_string())
    })
}

/// Finds lanes that wait too long and starts others in their place.
fn watch(hall: &Arc<Hall>) {
    let every = (hall.rules.call_deadline / 8).clamp(Duration::from_millis(1), WATCH_EVERY);
    while !hall.stopping() {
        for pool in hall.watch() {
            if let Err(error) = spawn_lane(Lane::new(hall, pool, None)) {
                tracing::warn!(code = %error.code, "a lane did not start");
            }
        }
        hall.rest(every);
    }
}

fn stopped(why: &str) -> HsmError {
    HsmError {
        what: "work on an HSM lane".into(),
        code: why.into(),
        class: FaultClass::Token,
        hint: "run again: nothing was issued for these records",
    }
}
