//! Threads that do the same thing for a while, each held to a core of its own: one thread means one core.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::failed;
use crate::error::Fault;

/// The calling thread, in the words of sched_setaffinity(2).
const THIS_THREAD: Pid = Pid::from_raw(0);

pub(super) struct Crew {
    cpus: Vec<usize>,
}

impl Crew {
    /// `None` when this process may use fewer CPUs than that.
    pub(super) fn of(threads: usize) -> Option<Self> {
        let allowed = sched_getaffinity(THIS_THREAD).ok()?;
        let usable = |cpu: &usize| allowed.is_set(*cpu).unwrap_or(false);
        let cpus: Vec<usize> = (0..CpuSet::count()).filter(usable).take(threads).collect();
        (cpus.len() == threads).then_some(Self { cpus })
    }

    /// More threads than CPUs: they share.
    pub(super) fn sharing(threads: usize) -> Option<Self> {
        let all = Self::of(Self::most_threads())?.cpus;
        Some(Self { cpus: all.into_iter().cycle().take(threads).collect() })
    }

    /// One for each CPU this process may use.
    pub(super) fn most_threads() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    pub(super) fn threads(&self) -> usize {
        self.cpus.len()
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
        let work = |cpu: usize| {
            let ready = pin(cpu).and_then(|()| make()).and_then(|mut job| job().map(|_| job));
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
            let threads: Vec<_> = self.cpus.iter().map(|cpu| scope.spawn(|| work(*cpu))).collect();
            let join =
                |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().map_err(|_| failed("a thread died"))?;
            threads.into_iter().map(join).collect()
        });
        each.map(|each| each.iter().sum::<f64>() / each.len() as f64)
    }
}

fn pin(cpu: usize) -> Result<(), Fault> {
    let mut only = CpuSet::new();
    only.set(cpu).and_then(|()| sched_setaffinity(THIS_THREAD, &only)).map_err(failed)
}
