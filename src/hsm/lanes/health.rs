//! What the lanes tell about themselves: counters that cost an addition a call, and the plain figures made of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

/// Buckets of the histogram: four for each doubling of a microsecond, up to more than an hour.
const BUCKETS: usize = 128;

/// Everything at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    /// Pieces of work that no lane has taken yet.
    pub queue_depth: usize,
    /// One for each token.
    pub pools: Vec<PoolHealth>,
}

/// One token's pool of lanes.
#[derive(Clone, Debug, Serialize)]
pub struct PoolHealth {
    /// Which token.
    pub name: String,
    /// Whether it gets work.
    pub breaker: Breaker,
    /// Lanes that take work.
    pub lanes: usize,
    /// Lanes that wait for an answer beyond the deadline.
    pub stuck: usize,
    /// Calls in flight.
    pub in_flight: usize,
    /// Calls that were answered, well or badly.
    pub calls: u64,
    /// Signatures made.
    pub signatures: u64,
    /// Bad answers by code.
    pub faults: BTreeMap<String, u64>,
    /// Half of the calls took no longer.
    pub p50_us: u64,
    /// 99 of 100 calls took no longer.
    pub p99_us: u64,
    /// How often the breaker opened.
    pub opened: u64,
    /// Answers that came after their deadline and were thrown away.
    pub late: u64,
}

/// State of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Breaker {
    /// Serves.
    Closed,
    /// Gets no work; is being recovered.
    Open,
    /// Back, but one real signature has to prove it.
    HalfOpen,
    /// Not to be used in this process any more: PIN refused, other keys.
    Out,
}

impl Breaker {
    /// The word that people and programs read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
            Self::Out => "out",
        }
    }
}

/// Counters of one pool.
pub(super) struct Tally {
    pub(super) signatures: AtomicU64,
    /// Calls that went well.
    pub(super) served: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) opened: AtomicU64,
    latency: [AtomicU64; BUCKETS],
    faults: Mutex<BTreeMap<String, u64>>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            signatures: AtomicU64::new(0),
            served: AtomicU64::new(0),
            late: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            latency: [const { AtomicU64::new(0) }; BUCKETS],
            faults: Mutex::default(),
        }
    }
}

impl Tally {
    pub(super) fn answered(&self, took: Duration) {
        self.latency[bucket(took.as_micros())].fetch_add(1, Relaxed);
    }

    pub(super) fn fault(&self, code: &str) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner).entry(code.to_owned()).or_insert(0) += 1;
    }

    pub(super) fn faults(&self) -> BTreeMap<String, u64> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls, and the upper bounds of the median's and the 99th percentile's buckets in microseconds.
    pub(super) fn latency(&self) -> (u64, u64, u64) {
        let counts = self.latency.each_ref().map(|count| count.load(Relaxed));
        let all: u64 = counts.iter().sum();
        let below = |hundredths: u64| {
            let mut left = (all * hundredths).div_ceil(100);
            let found = counts.iter().position(|count| {
                let is_here = left <= *count;
                left = left.saturating_sub(*count);
                is_here
            });
            if all == 0 { 0 } else { upper_us(found.unwrap_or(BUCKETS - 1)) }
        };
        (all, below(50), below(99))
    }
}

/// The two bits behind the leading one choose the quarter of the doubling.
fn bucket(us: u128) -> usize {
    let us = us.max(4);
    let doubling = us.ilog2() as usize;
    let quarter = (us >> (doubling - 2)) as usize & 3;
    ((doubling - 2) * 4 + quarter).min(BUCKETS - 1)
}

/// The first microsecond that falls into the next bucket.
fn upper_us(bucket: usize) -> u64 {
    (4 + (bucket as u64 & 3) + 1) << (bucket / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_falls_below_the_bound_of_its_bucket_and_above_the_bound_before() {
        for us in (4..5_000).chain([30_000_000, 3_600_000_000]) {
            let bucket = bucket(us.into());
            assert!(us < upper_us(bucket), "{us}");
            assert!(bucket == 0 || us >= upper_us(bucket - 1), "{us}");
        }
    }

    #[test]
    fn percentiles_are_those_of_the_calls() {
        let tally = Tally::default();
        assert_eq!(tally.latency(), (0, 0, 0));
        (0..98).for_each(|_| tally.answered(Duration::from_micros(41)));
        (0..2).for_each(|_| tally.answered(Duration::from_millis(9)));
        let (calls, p50_us, p99_us) = tally.latency();
        assert_eq!(calls, 100);
        assert!((42..=48).contains(&p50_us), "{p50_us}");
        assert!((9_000..=11_000).contains(&p99_us), "{p99_us}");
    }
}
