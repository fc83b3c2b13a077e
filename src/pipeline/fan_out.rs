//! The one place where CPU work spreads over cores: rayon, results in the order of their inputs.

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Exit, Fault};

/// Items that one thread takes at once at most. Items of a batch cost the same, some tens of microseconds: more of them in one piece,
/// and at its end one core waits for the other's last piece.
const PIECE: usize = 4;

/// A pool of CPU threads; HSM lanes are apart (`hsm::lanes`).
pub struct FanOut {
    pool: ThreadPool,
}

impl FanOut {
    /// `threads` of them; 0: one a core.
    pub fn new(threads: usize) -> Result<Self, Fault> {
        let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("cpu-{i}")).build();
        pool.map(|pool| Self { pool }).map_err(|e| Fault::new(Exit::Bug, format!("CPU threads do not start: {e}")))
    }

    /// `work` on every item; the results in the items' order.
    pub fn map<T: Sync, R: Send>(&self, items: &[T], work: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
        self.pool.install(|| items.par_iter().with_max_len(PIECE).map(work).collect())
    }

    /// `work` on every item with a scratch value that a thread makes once and keeps for the items it takes.
    pub fn map_with<T: Send, S, R: Send>(
        &self,
        items: Vec<T>,
        scratch: impl Fn() -> S + Sync + Send,
        work: impl Fn(&mut S, T) -> R + Sync + Send,
    ) -> Vec<R> {
        self.pool.install(|| items.into_par_iter().map_init(scratch, work).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_their_inputs() {
        let fan_out = FanOut::new(4).unwrap();
        let doubled = fan_out.map(&(0..10_000).collect::<Vec<u32>>(), |n| n * 2);
        assert!(doubled.iter().enumerate().all(|(i, n)| *n as usize == 2 * i));
    }
}
