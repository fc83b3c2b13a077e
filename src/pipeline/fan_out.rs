//! The one place where CPU work spreads over cores: rayon, results in the order of their inputs.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::cores::Cores;
use crate::error::{Exit, Fault};

/// Items that one thread takes at once at most. Items of a batch cost the same, some tens of microseconds: more of them in one piece,
/// and at its end one core waits for the other's last piece.
const PIECE: usize = 4;

/// A pool of CPU threads; HSM lanes are apart (`hsm::lanes`).
pub struct FanOut {
    pool: ThreadPool,
    /// Where its threads have a core each.
    cores: Option<Cores>,
}

impl FanOut {
    /// `threads` of them; 0: one a core.
    pub fn new(threads: usize) -> Result<Self, Fault> {
        let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("cpu-{i}")).build();
        pool.map(|pool| Self { pool, cores: None }).map_err(not_started)
    }

    /// For a long run of many threads: these, the signers, and those that [`Self::hold_beside`] holds. Each thread here has a core of its
    /// own, unless the site wants fewer or more of them than there are cores: then it shares the machine.
    pub fn on_cores(threads: usize) -> Result<Self, Fault> {
        let Some(cores) = Cores::allowed().filter(|cores| threads == 0 || threads == cores.count()) else {
            return Self::new(threads);
        };
        let own = cores.clone();
        let hold = move |at| {
            own.hold(at).unwrap_or_else(|error| tracing::debug!(%error, "a CPU thread has no core of its own"))
        };
        let pool = ThreadPoolBuilder::new().num_threads(cores.count()).thread_name(|i| format!("cpu-{i}"));
        let pool = pool.start_handler(hold).build().map_err(not_started)?;
        Ok(Self { pool, cores: Some(cores) })
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Holds the calling thread, the `at`-th of its kind, to the last third of the cores. For threads that have less than a third of
    /// the work: the pool's threads share theirs so that it comes out even, and what those have in common, the ledger first of all,
    /// goes from core to core less often.
    pub fn hold_beside(&self, at: usize) {
        let Some(cores) = &self.cores else { return };
        let last = cores.count() - 1 - at % cores.count().div_ceil(3);
        cores.hold(last).unwrap_or_else(|error| tracing::debug!(%error, "a driver goes from core to core"));
    }

    /// `work` on every item; the results in the items' order.
    pub fn map<T: Sync, R: Send>(&self, items: &[T], work: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
        self.pool.install(|| items.par_iter().with_max_len(PIECE).map(work).collect())
    }

    /// `work` on every item with a scratch value that a thread makes once and keeps for all the items it takes, so that small pieces
    /// cost no new one each. It is gone when this returns: what a record left in it does not outlive its batch. `work` spreads
    /// nothing itself.
    pub fn map_with<T: Send, S: Send, R: Send>(
        &self,
        items: Vec<T>,
        scratch: impl Fn() -> S + Sync + Send,
        work: impl Fn(&mut S, T) -> R + Sync + Send,
    ) -> Vec<R> {
        self.spread((items, PIECE), scratch, work)
    }

    /// Like [`Self::map_with`], of items that are cheaper `most` at a time: neighbours in one call, fewer where not every thread would
    /// have a full group.
    pub fn map_groups_with<T: Send, S: Send, R: Send>(
        &self,
        (items, most): (Vec<T>, usize),
        scratch: impl Fn() -> S + Sync + Send,
        work: impl Fn(&mut S, Vec<T>) -> Vec<R> + Sync + Send,
    ) -> Vec<R> {
        let each = items.len().div_ceil(self.pool.current_num_threads()).clamp(1, most);
        let mut items = items.into_iter();
        let groups =
            std::iter::from_fn(|| Some(items.by_ref().take(each).collect()).filter(|group: &Vec<T>| !group.is_empty()));
        self.spread((groups.collect(), 1), scratch, work).into_iter().flatten().collect()
    }

    /// `piece`: items that one thread takes at once at most.
    fn spread<T: Send, S: Send, R: Send>(
        &self,
        (items, piece): (Vec<T>, usize),
        scratch: impl Fn() -> S + Sync + Send,
        work: impl Fn(&mut S, T) -> R + Sync + Send,
    ) -> Vec<R> {
        let threads = self.threads();
        let scratches: Vec<Mutex<Option<S>>> = std::iter::repeat_with(Mutex::default).take(threads).collect();
        let on_thread = |item| {
            // A thread of the pool meets its own place only, so that no lock is waited for.
            let Some(place) = rayon::current_thread_index().and_then(|at| scratches.get(at)) else {
                return work(&mut scratch(), item);
            };
            // A panic ends the batch whatever is in the scratch value.
            work(place.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(&scratch), item)
        };
        self.pool.install(|| items.into_par_iter().with_max_len(piece).map(on_thread).collect())
    }
}

fn not_started(error: rayon::ThreadPoolBuildError) -> Fault {
    Fault::new(Exit::Bug, format!("CPU threads do not start: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

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

    #[test]
    fn threads_have_a_core_each_where_the_site_leaves_their_number_open() {
        let cores = Cores::allowed().unwrap().count();
        let allowed = |fan_out: &FanOut| fan_out.map(&[(); 100], |()| Cores::allowed().unwrap().count());
        for threads in [0, cores] {
            let fan_out = FanOut::on_cores(threads).unwrap();
            assert_eq!(fan_out.threads(), cores);
            assert!(allowed(&fan_out).into_iter().all(|allowed| allowed == 1));
            let beside = |at| {
                std::thread::scope(|scope| {
                    let thread = scope.spawn(|| {
                        fan_out.hold_beside(at);
                        Cores::allowed().unwrap().count()
                    });
                    thread.join().unwrap()
                })
            };
            assert!((0..cores + 1).all(|at| beside(at) == 1));
        }
        for fan_out in [FanOut::on_cores(cores + 1).unwrap(), FanOut::new(0).unwrap()] {
            assert!(allowed(&fan_out).into_iter().all(|allowed| allowed == cores));
            fan_out.hold_beside(0);
            assert_eq!(Cores::allowed().unwrap().count(), cores);
        }
    }

    #[test]
    fn scratch_values_go_from_item_to_item() {
        let fan_out = FanOut::new(4).unwrap();
        let doubled = fan_out.map_with((0..10_000).collect(), || 2_u32, |two, n: u32| n * *two);
        assert!(doubled.iter().enumerate().all(|(i, n)| *n as usize == 2 * i));
    }

    #[test]
    fn a_thread_makes_one_scratch_value_for_a_batch_however_many_pieces_it_takes() {
        let fan_out = FanOut::new(3).unwrap();
        let made = AtomicUsize::new(0);
        let scratch = || made.fetch_add(1, Ordering::Relaxed);
        let counted = fan_out.map_with(vec![(); 10_000], scratch, |of_thread, ()| *of_thread);
        assert!((1..=3).contains(&made.load(Ordering::Relaxed)));
        assert!(counted.iter().all(|of_thread| *of_thread < 3));
    }
}
