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

    /// Like [`Self::map_with`], of items that are cheaper `most` at a time: neighbours in one call, fewer where not every thread would
    /// have a full group.
    pub fn map_groups_with<T: Send, S, R: Send>(
        &self,
        (items, most): (Vec<T>, usize),
        scratch: impl Fn() -> S + Sync + Send,
        work: impl Fn(&mut S, Vec<T>) -> Vec<R> + Sync + Send,
    ) -> Vec<R> {
        let each = items.len().div_ceil(self.pool.current_num_threads()).clamp(1, most);
        self.pool.install(|| items.into_par_iter().chunks(each).map_init(scratch, work).flatten_iter().collect())
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
        for (len, largest) in [(10_000, 8), (9, 3), (1, 1), (0, 0)] {
            let sizes = |(): &mut (), group: Vec<u32>| group.iter().map(|n| (*n, group.len())).collect();
            let seen = fan_out.map_groups_with(((0..len).collect(), 8), || (), sizes);
            assert!(seen.iter().map(|(n, _)| *n).eq(0..len));
            assert_eq!(seen.iter().map(|(_, size)| *size).max().unwrap_or_default(), largest, "{len} items");
        }
    }
}
