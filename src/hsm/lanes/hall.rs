//! Where lanes, recoverers and callers meet: the queue, the state of every pool, one lock and one bell for all of it.
//! A piece of work is a millisecond of signing or one bulk call, so the lock is no bottleneck.
//!
//! Rule: a lane takes work while its pool's breaker is closed. What others have
//! refused goes first, then calls, then signatures: a chunk waits for them in that order.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::health::{Breaker, Health, PoolHealth, Tally};
use super::lane::Slip;
use super::state::State;
use super::work::Job;
use super::{Rules, Seated, stopped};
use crate::hsm::{FaultClass, HsmError};

/// A pool whose stuck lanes are more than so many full sets of lanes is not used any more. Each holds a thread and a session. One
/// set may hang in an outage; after each of the next the token had proved itself by a signature and hung all the same: it is
/// the calls, and a fourth set would hang in them as well.
const STUCK_SETS: usize = 3;

/// The meeting place.
pub(super) struct Hall {
    pub(super) rules: Rules,
    pub(super) seats: Vec<Seat>,
    state: Mutex<State>,
    bell: Condvar,
}

/// One token and its counters.
pub(super) struct Seat {
    pub(super) token: Arc<dyn Seated>,
    pub(super) tally: Tally,
}

/// What the recoverer of a module finds when it is woken.
pub(super) struct Lost {
    /// Pools to bring back.
    pub(super) pools: Vec<usize>,
    /// Another pool of the same module serves: a restart would hurt it.
    pub(super) neighbour_serves: bool,
}

impl Hall {
    pub(super) fn new(seats: Vec<Seat>, rules: Rules) -> Self {
        let state = State::of(seats.len());
        Self { rules, seats, state: Mutex::new(state), bell: Condvar::new() }
    }

    /// Lanes that are there.
    pub(super) fn running(&self) -> usize {
        self.state().pools.iter().map(|pool| pool.running).sum()
    }

    /// Hands work over; it fails at once when no token is to be hoped for, or when the lanes have stopped.
    pub(super) fn submit(&self, jobs: impl IntoIterator<Item = Job>) {
        let mut state = self.state();
        let refused = state.given_up.clone().or(state.stopping.then(|| stopped("the lanes have stopped")));
        match refused {
            Some(error) => {
                drop(state);
                jobs.into_iter().for_each(|job| job.fail(&error));
            }
            None => {
                jobs.into_iter().for_each(|job| state.queue(&job).push_back(job));
                drop(state);
                self.bell.notify_all();
            }
        }
    }

    /// The next job for a lane; `None` when it is to end.
    pub(super) fn take(&self, slip: &Slip) -> Option<Job> {
        let pool = slip.id.pool;
        let mut state = self.state();
        loop {
            let out = state.pools[pool].breaker == Breaker::Out;
            let served = state.pools[pool].breaker == Breaker::Closed;
            let empty = state.queued() == 0;
            if out || (state.stopping && (empty || !served)) {
                return None;
            }
            if served
                && !empty
                && let Some(job) = state.next(slip)
            {
                state.pools[pool].busy += 1;
                let others_may = state.pools.len() > 1 && state.queued() > 0;
                drop(state);
                if others_may {
                    self.bell.notify_all(); // lanes that stood back for this one look again
                }
                return Some(job);
            }
            state.pools[pool].waiting += 1;
            state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.pools[pool].waiting -= 1;
        }
    }

    /// A lane has put its job down. `false`: the watch gave it up in the last moment and has counted it out; it must not take
    /// another job on this slip. One lock decides between the two.
    pub(super) fn done(&self, slip: &Arc<Slip>) -> bool {
        let mut state = self.state();
        let is_listed = state.slips.iter().any(|other| Arc::ptr_eq(other, slip));
        if is_listed {
            let busy = &mut state.pools[slip.id.pool].busy;
            *busy = busy.saturating_sub(1);
        }
        is_listed
    }

    /// What a lane could not finish, for another to take: first in its queue, for it has waited longest.
    pub(super) fn put_back(&self, mut job: Job, error: &HsmError) {
        let failing_since = *job.failing_since.get_or_insert_with(Instant::now);
        let mut state = self.state();
        let nobody = state.stopping && !state.some_serve();
        let hopeless = nobody || failing_since.elapsed() > self.rules.recover_for;
        match state.given_up.clone().or(hopeless.then(|| error.clone())) {
            Some(error) => {
                drop(state);
                job.fail(&error);
            }
            None => {
                state.queue(&job).push_front(job);
                drop(state);
                self.bell.notify_all();
            }
        }
    }

    /// A fault that a fresh session did not cure, or by which no session is to be had: no work for this pool until its recoverer has brought it back. A lane that
    /// speaks of a session from before the last recovery is not believed.
    pub(super) fn fault(&self, pool: usize, generation: u64, error: &HsmError) {
        let mut state = self.state();
        let lost = &mut state.pools[pool];
        if lost.breaker != Breaker::Closed || lost.generation != generation {
            return;
        }
        let name = self.seats[pool].token.name();
        self.seats[pool].tally.opened.fetch_add(1, Relaxed);
        if is_final(error) {
            tracing::error!(token = %name, what = %error.what, code = %error.code, "the token is not used any more");
            lost.breaker = Breaker::Out;
        } else {
            tracing::warn!(token = %name, code = %error.code, "breaker open: the token gets no work until it is back");
            lost.breaker = Breaker::Open;
        }
        lost.last = Some(error.clone());
        state.look_for_light();
        drop(state);
        self.bell.notify_all();
    }

    /// Waits until pools of this module are lost, half-open ones too; `None` when the lanes stop.
    pub(super) fn lost(&self, module: usize) -> Option<Lost> {
        let mut state = self.state();
        loop {
            if state.stopping {
                return None;
            }
            let mine = |pool: &usize| self.seats[*pool].token.module() == module;
            let of = |wanted: &[Breaker]| -> Vec<usize> {
                (0..state.pools.len())
                    .filter(mine)
                    .filter(|pool| wanted.contains(&state.pools[*pool].breaker))
                    .collect()
            };
            let pools = of(&[Breaker::Open, Breaker::HalfOpen]);
            if !pools.is_empty() {
                return Some(Lost { neighbour_serves: !of(&[Breaker::Closed]).is_empty(), pools });
            }
            state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits between two rounds of a recoverer, or until the lanes stop.
    pub(super) fn rest(&self, for_this: Duration) {
        let until = Instant::now() + for_this;
        let mut state = self.state();
        while !state.stopping {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The token answers again; one signature has to prove it.
    pub(super) fn half_open(&self, pool: usize) {
        let mut state = self.state();
        if state.pools[pool].breaker == Breaker::Open {
            state.pools[pool].breaker = Breaker::HalfOpen;
        }
    }

    /// The token is still lost.
    pub(super) fn still_lost(&self, pool: usize, error: HsmError) {
        self.seats[pool].tally.fault(&error.code);
        let mut state = self.state();
        tracing::debug!(token = %self.seats[pool].token.name(), code = %error.code, "the token is not back yet");
        if state.pools[pool].breaker != Breaker::Out {
            state.pools[pool].breaker = Breaker::Open;
            state.pools[pool].last = Some(error);
        }
    }

    /// The token must not be used again in this process.
    pub(super) fn out(&self, pool: usize, error: HsmError) {
        self.seats[pool].tally.fault(&error.code);
        let name = self.seats[pool].token.name();
        tracing::error!(token = %name, what = %error.what, code = %error.code, "the token is not used any more");
        let mut state = self.state();
        state.pools[pool].breaker = Breaker::Out;
        state.pools[pool].last = Some(error);
        state.look_for_light();
        drop(state);
        self.bell.notify_all();
    }

    /// The token proved itself: it gets work again. Gives the number of lanes to start anew.
    pub(super) fn close(&self, pool: usize) -> usize {
        let mut state = self.state();
        let back = &mut state.pools[pool];
        if back.breaker == Breaker::Out {
            return 0; // put out while it was being recovered
        }
        tracing::warn!(token = %self.seats[pool].token.name(), "breaker closed: the token serves again");
        back.breaker = Breaker::Closed;
        back.generation += 1;
        back.replaced = 0;
        let missing = back.wanted.saturating_sub(back.running);
        state.dark_since = None;
        if !state.stopping {
            state.given_up = None;
        }
        drop(state);
        self.bell.notify_all();
        missing
    }

    pub(super) fn generation(&self, pool: usize) -> u64 {
        self.state().pools[pool].generation
    }

    /// A lane begins: from now on it is watched.
    pub(super) fn enter(&self, slip: &Arc<Slip>) {
        let mut state = self.state();
        state.slips.push(Arc::clone(slip));
        state.threads += 1;
        state.pools[slip.id.pool].running += 1;
    }

    /// A pool should have so many lanes. One that took a stuck one's place while a recovery started others is one too many for a
    /// while: that is no reason to want more.
    pub(super) fn wants(&self, pool: usize, lanes: usize) {
        self.state().pools[pool].wanted = lanes;
    }

    /// A lane ends.
    pub(super) fn leave(&self, slip: &Arc<Slip>) {
        let mut state = self.state();
        let before = state.slips.len();
        state.slips.retain(|other| !Arc::ptr_eq(other, slip));
        if state.slips.len() < before {
            state.pools[slip.id.pool].running -= 1;
        } else if slip.is_stuck() {
            state.pools[slip.id.pool].stuck -= 1; // given up while it closed its session for the last time
        }
        state.threads -= 1;
        drop(state);
        self.bell.notify_all();
    }

    /// A lane may end for want of a session as long as another one of its pool runs. It is counted out then; its job is still in
    /// its hand.
    pub(super) fn may_retire(&self, slip: &Arc<Slip>) -> bool {
        let mut state = self.state();
        let Some(at) = state.slips.iter().position(|other| Arc::ptr_eq(other, slip)) else { return false };
        let pool = &mut state.pools[slip.id.pool];
        if pool.running < 2 {
            return false;
        }
        pool.running -= 1;
        pool.busy = pool.busy.saturating_sub(1);
        pool.wanted = pool.running; // what was granted; a recovery does not ask for more either
        let granted = pool.wanted;
        state.slips.swap_remove(at);
        tracing::warn!(token = %self.seats[slip.id.pool].token.name(), granted, "no session for every lane: fewer lanes");
        true
    }

    /// A lane that was stuck has its answer at last. It goes on if its pool has too few, under the new slip.
    pub(super) fn came_back(&self, slip: &Arc<Slip>) -> bool {
        self.seats[slip.id.pool].tally.late.fetch_add(1, Relaxed);
        let mut state = self.state();
        let stopping = state.stopping;
        let pool = &mut state.pools[slip.id.pool];
        pool.stuck -= 1;
        let goes_on = !stopping && pool.running < pool.wanted;
        if goes_on {
            pool.running += 1;
            state.slips.push(Arc::clone(slip));
        }
        goes_on
    }

    /// Looks for lanes past their deadline and for a darkness that lasts too long. Gives the pools that want a new lane.
    pub(super) fn watch(&self) -> Vec<usize> {
        let past: Vec<Arc<Slip>> =
            self.state().slips.iter().filter(|slip| slip.in_call_for() > self.rules.call_deadline).cloned().collect();
        let mut replace = Vec::new();
        for slip in past {
            let mut state = self.state();
            let at = state.slips.iter().position(|other| Arc::ptr_eq(other, &slip));
            let Some(at) = at.filter(|_| slip.in_call_for() > self.rules.call_deadline) else {
                continue; // it answered or ended meanwhile
            };
            let job = state.give_up_lane(at);
            let pool = &mut state.pools[slip.id.pool];
            let most_are_stuck = 2 * pool.stuck > pool.wanted;
            let too_many = pool.stuck > STUCK_SETS * pool.wanted && pool.breaker != Breaker::Out;
            if !most_are_stuck && pool.replaced < pool.wanted {
                pool.replaced += 1;
                replace.push(slip.id.pool);
            }
            let generation = pool.generation;
            drop(state);
            let error = overdue(self.rules.call_deadline);
            self.seats[slip.id.pool].tally.fault(&error.code);
            tracing::warn!(token = %self.seats[slip.id.pool].token.name(), "a call of the token is past its deadline");
            if too_many {
                self.out(slip.id.pool, HsmError { code: format!("{}, again and again", error.code), ..error.clone() });
            } else if most_are_stuck {
                self.fault(slip.id.pool, generation, &error);
            }
            if let Some(job) = job {
                self.put_back(job, &error);
            }
            self.bell.notify_all(); // lanes that stood back for this one look again
        }
        self.give_up_in_time();
        replace
    }

    /// Ends the waiting for tokens that do not come back.
    fn give_up_in_time(&self) {
        let mut state = self.state();
        let all_out = state.pools.iter().all(|pool| pool.breaker == Breaker::Out);
        let too_long = state.dark_since.is_some_and(|since| since.elapsed() > self.rules.recover_for);
        if state.given_up.is_none() && (all_out || too_long) {
            let last = state.pools.iter().rev().find_map(|pool| pool.last.clone());
            state.given_up = Some(last.unwrap_or_else(|| super::stopped("no token serves")));
        }
        let Some(error) = state.given_up.clone() else { return };
        let left = state.drain();
        drop(state);
        left.into_iter().for_each(|job| job.fail(&error));
    }

    pub(super) fn stopping(&self) -> bool {
        self.state().stopping
    }

    /// Another thread that is no lane begins.
    pub(super) fn thread_begins(&self) {
        self.state().threads += 1;
    }

    pub(super) fn thread_ends(&self) {
        self.state().threads -= 1;
        self.bell.notify_all();
    }

    /// Tells everybody to end and waits for it, as long as a call in flight may last. Gives the number of those that did not. What
    /// is queued is finished by pools that serve; whatever is left has failed when this returns.
    pub(super) fn stop(&self, patience: Duration) -> usize {
        let until = Instant::now() + patience;
        let error = stopped("the lanes have stopped");
        let mut state = self.state();
        state.stopping = true;
        if !state.some_serve() {
            let left = state.drain();
            drop(state);
            left.into_iter().for_each(|job| job.fail(&error));
            state = self.state();
        }
        self.bell.notify_all();
        while state.threads > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        // Nobody is left to answer: neither for the queue nor for what is in the hands of lanes that hang.
        state.given_up.get_or_insert_with(|| error.clone());
        let mut left = state.drain();
        while !state.slips.is_empty() {
            left.extend(state.give_up_lane(0));
        }
        let threads = state.threads;
        drop(state);
        left.into_iter().for_each(|job| job.fail(&error));
        threads
    }

    /// The figures.
    pub(super) fn health(&self) -> Health {
        let state = self.state();
        let pools = state.pools.iter().zip(&self.seats).enumerate().map(|(number, (pool, seat))| {
            let (calls, p50_us, p99_us) = seat.tally.latency();
            PoolHealth {
                name: seat.token.name(),
                breaker: pool.breaker,
                lanes: pool.running,
                stuck: pool.stuck,
                in_flight: pool.stuck
                    + state.slips.iter().filter(|slip| slip.id.pool == number && !slip.in_call_for().is_zero()).count(),
                calls,
                signatures: seat.tally.signatures.load(Relaxed),
                faults: seat.tally.faults(),
                p50_us,
                p99_us,
                opened: seat.tally.opened.load(Relaxed),
                late: seat.tally.late.load(Relaxed),
            }
        });
        Health { queue_depth: state.queued(), pools: pools.collect() }
    }

    #[cfg(test)]
    pub(super) fn busy(&self, pool: usize) -> usize {
        self.state().pools[pool].busy
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Another try would get the same answer, or cost the token a try of its PIN.
pub(super) fn is_final(error: &HsmError) -> bool {
    matches!(error.class, FaultClass::Pin | FaultClass::Policy)
}

pub(super) fn overdue(deadline: Duration) -> HsmError {
    HsmError {
        what: "wait for the token".into(),
        code: format!("no answer within {} ms", deadline.as_millis()),
        class: FaultClass::Token,
        hint: "look at the HSM and its connection, then run again: finished work is kept",
    }
}
