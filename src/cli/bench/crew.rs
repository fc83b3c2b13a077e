//! Threads that do the same thing for a while, each held to a core of its own: one thread means one core.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::failed;
use crate::error::Fault;
use crate::pipeline::cores::Cores;

pub(super) struct Crew {
    cores: Cores,
    threads: usize,
}

impl Crew {
    /// `None` when this process may use fewer CPUs than that.
    pub(super) fn of(threads: usize) -> Option<Self> {
        Cores::allowed().filter(|cores| threads <= cores.count()).map(|cores| Self { cores, threads })
    }

    /// More threads than CPUs: they share.
    pub(super) fn sharing(threads: usize) -> Option<Self> {
        Some(Self { cores: Cores::allowed()?, threads })
    }

    /// One for each CPU this process may use.
    pub(super) fn most_threads() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// Microseconds of a thread per operation. `make` prepares a thread's job outside the measured time; a job does some
    /// operations and says how many.
    pub(super) fn us_per_op<J>(
        &self,
        window: Duration,
        make: &(impl Fn() -> Result<J, Fault> + Sync),
    ) -> Result<f64, Fault>
    where
        J: FnMut() -> Result<u32, Fault>,
    {
        let start = Barrier::new(self.threads());
        let work = |at: usize| {
            let ready =
                self.cores.hold(at).map_err(failed).and_then(|()| make()).and_then(|mut job| job().map(|_| job));
            start.wait(); // whatever came out: the others wait too
            let mut job = ready?;
            let began = Instant::now();
            let mut done = 0;
            while began.elapsed() < window {
                done += job()?;
            }
            Ok::<_, Fault>(began.elapsed().as_secs_f64() * 1e6 / f64::from(done))
        };
        let each: Result<Vec<f64>, Fault> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads).map(|at| scope.spawn(move || work(at))).collect();
            let join =
                |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().map_err(|_| failed("a thread died"))?;
            threads.into_iter().map(join).collect()
        });
        each.map(|each| each.iter().sum::<f64>() / each.len() as f64)
    }
}
