//! Brings lost tokens back: one recoverer for each module, because C_Finalize is the module's and not the token's.
//!
//! A round: restart the module (with calls at rest), find the token, log in at most once, compare its keys, then one real
//! signature before it gets work. Between rounds it waits, longer each time, with jitter, so that many hosts do not come at once.
//! Rule: the recoverer makes no call of a token itself but the restart, under which nothing else of the module could run anyway. An
//! attempt to bring a token back has a thread of its own, so that one that hangs holds up no other token of the module.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::hall::{Hall, Lost, is_final, overdue};
use super::lane::Lane;
use super::{Rules, Seated, spawn_lane, spawn_other};
use crate::certs::Curve;
use crate::certs::signature_fits;
use crate::hsm::{FaultClass, HsmError, Role};

/// Rounds without a restart while another token of the module serves; then every power of two, for the restart costs that
/// token its sessions.
const GENTLE_ROUNDS: u32 = 4;

/// Attempts on one token at most, with those that were given up and still hang: each holds a thread and a session.
const MOST_ATTEMPTS: usize = 3;

/// What the probe signs: a constant, because a digest from the random source of a doubtful token proves no more.
pub(super) const PROBE: [u8; 32] = *b"bindery: is this token back? v.1";

/// The recoverer of one module; ends when the lanes stop.
pub(super) fn run(hall: &Arc<Hall>, module: usize) {
    let mut round = 0;
    let mut attempts = Attempts::default();
    let mut served_then: Option<u64> = None;
    while let Some(lost) = hall.lost(module) {
        // A token that proves itself with a signature and fails in the next call is as good as lost: the pauses go on growing.
        match served_then.take() {
            Some(then) if served(hall, &lost) > then => round = 0,
            Some(_) => hall.rest(pause(&hall.rules, round)),
            None => {}
        }
        round += 1;
        if one_round(hall, &lost, round, &mut attempts) {
            served_then = Some(served(hall, &lost));
        } else {
            hall.rest(pause(&hall.rules, round));
        }
    }
}

/// Calls of the work that went well on these pools; the recoverer's own do not count.
fn served(hall: &Hall, lost: &Lost) -> u64 {
    lost.pools.iter().map(|pool| hall.seats[*pool].tally.served.load(Relaxed)).sum()
}

/// Whether every lost pool serves again or never will.
fn one_round(hall: &Arc<Hall>, lost: &Lost, round: u32, attempts: &mut Attempts) -> bool {
    let restarts = !lost.neighbour_serves || (round >= GENTLE_ROUNDS && round.is_power_of_two());
    if restarts
        && attempts.under_way.is_empty()
        && let Some(first) = lost.pools.first()
    {
        // A call that hangs forbids it; then the token gets its chance as it is.
        if let Err(error) = hall.seats[*first].token.restart_module() {
            tracing::debug!(code = %error.code, "the module was not restarted");
        }
    }
    attempts.begin(hall, &lost.pools);
    let first_look = Instant::now() + hall.rules.call_deadline.min(hall.rules.pause_to);
    let mut all = true;
    for pool in &lost.pools {
        if hall.stopping() {
            return false;
        }
        match attempts.outcome(hall, *pool, first_look) {
            Some(Ok(())) => resume(hall, *pool),
            Some(Err(error)) if is_final(&error) => hall.out(*pool, error),
            Some(Err(error)) => {
                hall.still_lost(*pool, error);
                all = false;
            }
            None => all = false,
        }
    }
    all
}

/// Attempts to bring tokens back, one a pool.
#[derive(Default)]
struct Attempts {
    under_way: BTreeMap<usize, Attempt>,
    /// By pool, held by every thread of an attempt, given up or not: their number is the count of those that have not ended.
    threads: BTreeMap<usize, Arc<()>>,
}

/// One attempt: its thread tells how each of its two steps went, the revival and the probe.
struct Attempt {
    began: Instant,
    steps: Receiver<Result<(), HsmError>>,
    /// A later round looks in passing and does not wait.
    is_new: bool,
    revived: bool,
}

impl Attempts {
    /// Starts one for each of these pools that has none.
    fn begin(&mut self, hall: &Arc<Hall>, pools: &[usize]) {
        for pool in pools {
            let threads = self.threads.entry(*pool).or_default();
            if self.under_way.contains_key(pool) || Arc::strong_count(threads) > MOST_ATTEMPTS {
                continue;
            }
            let (mark, (tell, steps), at) = (Arc::clone(threads), crossbeam_channel::bounded(2), *pool);
            let spawned = spawn_other(hall, "hsm-revive", move |hall| {
                let token = &*hall.seats[at].token;
                let revived = token.revive();
                let goes_on = revived.is_ok();
                if tell.send(revived).is_ok() && goes_on {
                    let _ = tell.send(probe(token));
                }
                drop(mark);
            });
            match spawned {
                Ok(()) => _ = self.under_way.insert(*pool, Attempt::of(steps)),
                Err(error) => tracing::warn!(code = %error.code, "a recovery did not start"),
            }
        }
    }

    /// How the attempt on this pool ended, waiting until then if it is new; none while it lasts.
    fn outcome(&mut self, hall: &Hall, pool: usize, until: Instant) -> Option<Result<(), HsmError>> {
        let attempt = self.under_way.get_mut(&pool)?;
        let until = if std::mem::take(&mut attempt.is_new) { until } else { Instant::now() };
        let ended = loop {
            match attempt.steps.recv_deadline(until) {
                // The token is there with its keys; one real signature with one of them decides.
                Ok(Ok(())) if !attempt.revived => {
                    attempt.revived = true;
                    hall.half_open(pool);
                }
                Ok(outcome) => break outcome,
                Err(RecvTimeoutError::Timeout) if attempt.began.elapsed() < patience(&hall.rules) => {
                    return None;
                }
                Err(RecvTimeoutError::Timeout) => break Err(overdue(patience(&hall.rules))),
                Err(RecvTimeoutError::Disconnected) => {
                    break Err(super::stopped("the recovery ended without a result"));
                }
            }
        };
        self.under_way.remove(&pool);
        Some(ended)
    }
}

impl Attempt {
    fn of(steps: Receiver<Result<(), HsmError>>) -> Self {
        Self { began: Instant::now(), steps, is_new: true, revived: false }
    }
}

fn probe(token: &dyn Seated) -> Result<(), HsmError> {
    let key = token.key(&Role::DpPb(Curve::P256))?;
    let signature = token.open()?.sign(key, &PROBE)?;
    if signature_fits(&token.public_point(key)?, &PROBE, &signature) {
        return Ok(());
    }
    Err(HsmError {
        what: format!("probe {}", token.name()),
        code: "its signature does not verify".into(),
        class: FaultClass::Token,
        hint: "the HSM signs with another key or wrongly: do not use it before its maker has explained it",
    })
}

fn resume(hall: &Arc<Hall>, pool: usize) {
    for _ in 0..hall.close(pool) {
        if let Err(error) = spawn_lane(Lane::new(hall, pool, None)) {
            tracing::warn!(code = %error.code, "a lane did not start");
        }
    }
}

/// How long an attempt may take: some hundred calls, of which one may be slow. With a short deadline it gets the longest pause: who
/// gets on slowly should not begin anew for ever.
fn patience(rules: &Rules) -> Duration {
    (2 * rules.call_deadline).max(rules.pause_to)
}

/// Doubles from round to round up to its end; half to three halves of that, at random.
fn pause(rules: &Rules, round: u32) -> Duration {
    let full = rules.pause_from.saturating_mul(1 << round.saturating_sub(1).min(16)).min(rules.pause_to);
    let mut octet = [128];
    // Without random the pause is the full one: jitter is a courtesy.
    let _ = openssl::rand::rand_bytes(&mut octet);
    full / 2 + full * u32::from(octet[0]) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_end_and_differ() {
        let rules =
            Rules { pause_from: Duration::from_millis(100), pause_to: Duration::from_secs(5), ..Rules::default() };
        for (round, full_ms) in [(1, 100), (2, 200), (3, 400), (7, 5_000), (60, 5_000), (u32::MAX, 5_000)] {
            for _ in 0..20 {
                let pause = pause(&rules, round).as_millis();
                assert!((full_ms / 2..=full_ms * 3 / 2).contains(&pause), "round {round}: {pause} ms");
            }
        }
        let some: std::collections::BTreeSet<_> = (0..20).map(|_| pause(&rules, 7)).collect();
        assert!(some.len() > 5);
    }
}
