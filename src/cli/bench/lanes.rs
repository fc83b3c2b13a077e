//! Binding before a simulated network HSM: CPU threads agree, hand digests to the lanes, seal the segments while the token signs,
//! and have enough packages in flight that every lane has work. Rule: the rate is held against what the HSM can sign.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bound::Desk;
use super::crew::Crew;
use super::distant::{Distance, Distant};
use super::{Effort, Template, failed};
use crate::bind::{Agreement, Draft};
use crate::error::Fault;
use crate::formats::curve::Curve;
use crate::hsm::lanes::{Lanes, Ticket};
use crate::hsm::pkcs11::Token;
use crate::hsm::{Hsm, KeyRef, Role};

/// The network HSM of the target.
const NETWORK: Distance =
    Distance { round_trip: Duration::from_micros(500), engines: 4, service: Duration::from_micros(200) };
const LANES: usize = 32;
/// Of the sweep, in microseconds.
const ROUND_TRIPS: [u64; 4] = [0, 100, 500, 2_000];
const SWEEP: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Digests handed over at once; a lane takes no more at a time.
const TOGETHER: usize = 16;
/// Windows of one rate: answers come back by the sixteen.
const WINDOWS: u32 = 10;

/// A point of the sweep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) round_trip_us: u64,
    pub(super) lanes: usize,
    /// Bound profiles a second.
    pub(super) per_s: f64,
    /// What the HSM can sign.
    pub(super) hsm_per_s: f64,
}

/// The target's figure: bound profiles a second over what the HSM can sign.
pub(super) fn ratio(token: &Token, workload: &Template, effort: Effort) -> Result<f64, Fault> {
    Ok(rate(token, workload, NETWORK, LANES, effort.window() * WINDOWS)? / NETWORK.per_s(LANES))
}

/// Round trips by lanes; the engines stay as they are.
pub(super) fn sweep(token: &Token, workload: &Template, effort: Effort) -> Result<Vec<Point>, Fault> {
    let mut points = Vec::new();
    for round_trip_us in ROUND_TRIPS {
        let distance = Distance { round_trip: Duration::from_micros(round_trip_us), ..NETWORK };
        for lanes in SWEEP {
            let per_s = rate(token, workload, distance, lanes, effort.window() * WINDOWS / 2)?;
            points.push(Point { round_trip_us, lanes, per_s, hsm_per_s: distance.per_s(lanes) });
        }
    }
    Ok(points)
}

/// Bound profiles a second of all cores, W3 under session keys.
fn rate(token: &Token, workload: &Template, distance: Distance, count: usize, window: Duration) -> Result<f64, Fault> {
    let role = Role::DpPb(Curve::P256);
    let lanes = Lanes::start(&Arc::new(Distant::new(token.clone(), &role, distance)?), count)?;
    let key = lanes.key(&role)?;
    let threads = Crew::most_threads();
    let depth = (count * TOGETHER).div_ceil(threads * TOGETHER) + 1;
    let each: Result<Vec<f64>, Fault> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let desk = Desk::new(workload)?;
                    Conveyor { desk, lanes: &lanes, key, flying: VecDeque::new() }.per_s(workload, depth, window)
                })
            })
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().map_err(|_| failed("a thread died"))?;
        threads.into_iter().map(join).collect()
    });
    each.map(|each| each.iter().sum())
}

/// Packages of one CPU thread on their way.
struct Conveyor<'a> {
    desk: Desk,
    lanes: &'a Lanes,
    key: KeyRef,
    flying: VecDeque<(Vec<Draft>, Ticket)>,
}

impl Conveyor<'_> {
    /// Measured between the first signatures that came back and the last.
    fn per_s(mut self, workload: &Template, depth: usize, window: Duration) -> Result<f64, Fault> {
        while self.flying.len() < depth {
            self.send(workload)?;
        }
        self.receive()?;
        let (began, mut done) = (Instant::now(), 0);
        while began.elapsed() < window {
            self.send(workload)?;
            done += self.receive()?;
        }
        Ok(done as f64 / began.elapsed().as_secs_f64())
    }

    fn send(&mut self, workload: &Template) -> Result<(), Fault> {
        let agreed = self.desk.agree_all(TOGETHER).map_err(failed)?;
        let ticket = self.lanes.submit(self.key, agreed.iter().map(Agreement::digest).collect());
        let drafts = self.desk.seal_all(&workload.upp, agreed).map_err(failed)?;
        self.flying.push_back((drafts, ticket));
        Ok(())
    }

    fn receive(&mut self) -> Result<usize, Fault> {
        let Some((drafts, ticket)) = self.flying.pop_front() else { return Ok(0) };
        let signatures: Vec<_> = ticket.wait().into_iter().collect::<Result<_, _>>()?;
        let done = drafts.len();
        for (draft, signature) in drafts.into_iter().zip(&signatures) {
            black_box(draft.sign(signature));
        }
        Ok(done)
    }
}
