//! What the hall's one lock protects: the queues, and of every pool its breaker and its lanes. No waiting and no calls here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::health::Breaker;
use super::lane::Slip;
use super::work::{Job, Work};
use crate::hsm::HsmError;

/// All of it.
pub(super) struct State {
    pub(super) calls: VecDeque<Job>,
    pub(super) signs: VecDeque<Job>,
    /// What lanes have refused as its data, for others to try; mostly empty.
    pub(super) again: VecDeque<Job>,
    pub(super) pools: Vec<Pool>,
    /// One for each lane that is not stuck.
    pub(super) slips: Vec<Arc<Slip>>,
    /// Threads that have not ended.
    pub(super) threads: usize,
    pub(super) stopping: bool,
    /// Since when no pool serves.
    pub(super) dark_since: Option<Instant>,
    /// Set when that lasted too long: what is handed over fails at once.
    pub(super) given_up: Option<HsmError>,
}

/// One token's pool of lanes.
pub(super) struct Pool {
    pub(super) breaker: Breaker,
    /// Grows with each recovery: a fault of a session from before says nothing about the token of today.
    pub(super) generation: u64,
    /// Lanes it should have.
    pub(super) wanted: usize,
    pub(super) running: usize,
    pub(super) stuck: usize,
    /// Lanes started in place of stuck ones since the breaker last closed.
    pub(super) replaced: usize,
    /// Lanes with a job in hand, and lanes waiting for one.
    pub(super) busy: usize,
    pub(super) waiting: usize,
    pub(super) last: Option<HsmError>,
}

impl State {
    /// Nothing to do yet, and nobody to do it.
    pub(super) fn of(pools: usize) -> Self {
        Self {
            calls: VecDeque::new(),
            signs: VecDeque::new(),
            again: VecDeque::new(),
            pools: (0..pools).map(|_| Pool::new()).collect(),
            slips: Vec::new(),
            threads: 0,
            stopping: false,
            dark_since: None,
            given_up: None,
        }
    }

    pub(super) fn queue(&mut self, job: &Job) -> &mut VecDeque<Job> {
        match job.work {
            _ if !job.tried.is_empty() => &mut self.again,
            Work::Call { .. } => &mut self.calls,
            Work::Sign { .. } => &mut self.signs,
        }
    }

    /// Some pool gets work.
    pub(super) fn some_serve(&self) -> bool {
        self.pools.iter().any(|pool| pool.breaker == Breaker::Closed)
    }

    /// Pieces of work that no lane has taken.
    pub(super) fn queued(&self) -> usize {
        self.again.len() + self.calls.len() + self.signs.len()
    }

    /// The next job for a lane of a pool that serves.
    pub(super) fn next(&mut self, slip: &Slip) -> Option<Job> {
        self.next_again(slip).or_else(|| {
            let may_take = self.is_least_loaded(slip.id.pool);
            may_take.then(|| self.calls.pop_front().or_else(|| self.signs.pop_front())).flatten()
        })
    }

    /// All that is queued.
    pub(super) fn drain(&mut self) -> Vec<Job> {
        self.again.drain(..).chain(self.calls.drain(..)).chain(self.signs.drain(..)).collect()
    }

    /// Counts a lane out that is in a call; gives the work it had in hand. From here on its answer is nobody's: `snatch` and the
    /// lane's own hand exclude each other.
    pub(super) fn give_up_lane(&mut self, at: usize) -> Option<Job> {
        let slip = self.slips.swap_remove(at);
        let pool = &mut self.pools[slip.id.pool];
        pool.running -= 1;
        pool.stuck += 1;
        pool.busy = pool.busy.saturating_sub(1); // one that ends has none
        slip.snatch()
    }

    /// No serving pool with an idle lane has less outstanding for its size.
    pub(super) fn is_least_loaded(&self, pool: usize) -> bool {
        let own = &self.pools[pool];
        let idle = |other: &&Pool| other.breaker == Breaker::Closed && other.waiting > 0;
        // own.busy / own.running > other.busy / other.running, without the divisions
        !self.pools.iter().filter(idle).any(|other| own.busy * other.running > other.busy * own.running)
    }

    /// Notes since when no pool serves.
    pub(super) fn look_for_light(&mut self) {
        if !self.some_serve() {
            self.dark_since.get_or_insert_with(Instant::now);
        }
    }
}

impl Pool {
    fn new() -> Self {
        Self {
            breaker: Breaker::Closed,
            generation: 0,
            wanted: 0,
            running: 0,
            stuck: 0,
            replaced: 0,
            busy: 0,
            waiting: 0,
            last: None,
        }
    }
}
