//! Brings lost tokens back: one recoverer for each module, because C_Finalize is the module's and not the token's.
//!
//! A round: restart the module (with calls at rest), find the token, log in at most once, compare its keys, then one real
//! signature before it gets work. Between rounds it waits, longer each time, with jitter, so that many hosts do not come at once.

use std::sync::Arc;
use std::time::Duration;

use super::hall::{Hall, Lost};
use super::lane::Lane;
use super::{Rules, Seated, spawn_lane};
use crate::certs::Curve;
use crate::certs::signature_fits;
use crate::hsm::{FaultClass, HsmError, Role};

/// Rounds without a restart while another token of the module serves; then every power of two, for the restart costs that
/// token its sessions.
const GENTLE_ROUNDS: u32 = 4;

/// What the probe signs: a constant, because a digest from the random source of a doubtful token proves no more.
const PROBE: [u8; 32] = *b"bindery: is this token back? v.1";

/// The recoverer of one module; ends when the lanes stop.
pub(super) fn run(hall: &Arc<Hall>, module: usize) {
    let mut round = 0;
    while let Some(lost) = hall.lost(module) {
        round += 1;
        if one_round(hall, &lost, round) {
            round = 0;
        } else {
            hall.rest(pause(&hall.rules, round));
        }
    }
}

/// Whether every lost pool serves again or never will.
fn one_round(hall: &Arc<Hall>, lost: &Lost, round: u32) -> bool {
    let restarts = !lost.neighbour_serves || (round >= GENTLE_ROUNDS && round.is_power_of_two());
    if restarts && let Some(first) = lost.pools.first() {
        // A call that hangs forbids it; then the token gets its chance as it is.
        if let Err(error) = hall.seats[*first].token.restart_module() {
            tracing::debug!(code = %error.code, "the module was not restarted");
        }
    }
    let mut all = true;
    for pool in &lost.pools {
        if hall.stopping() {
            return false;
        }
        match bring_back(hall, *pool) {
            Ok(()) => resume(hall, *pool),
            Err(error) if matches!(error.class, FaultClass::Pin | FaultClass::Policy) => hall.out(*pool, error),
            Err(error) => {
                hall.still_lost(*pool, error);
                all = false;
            }
        }
    }
    all
}

/// Half-open: the token is there with its keys; one real signature with one of them decides.
fn bring_back(hall: &Hall, pool: usize) -> Result<(), HsmError> {
    let token = &*hall.seats[pool].token;
    token.revive()?;
    hall.half_open(pool);
    probe(token)
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
