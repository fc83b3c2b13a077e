//! Which core a thread works on. Left to itself, Linux (6.18) lets a core idle for milliseconds while threads wait for the other: a core
//! that ran out of work looks for some elsewhere only if it is used to long breaks, and where threads hand work to each other breaks are
//! short.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread, in the words of sched_setaffinity(2).
const THIS_THREAD: Pid = Pid::from_raw(0);

/// Cores that this process may use, at least one.
#[derive(Clone, Debug)]
pub struct Cores(Vec<usize>);

impl Cores {
    /// As the process was started: `taskset` and cpusets leave some out. None where the kernel does not say.
    pub fn allowed() -> Option<Self> {
        let allowed = sched_getaffinity(THIS_THREAD).ok()?;
        let cores: Vec<usize> = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false)).collect();
        (!cores.is_empty()).then_some(Self(cores))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Holds the calling thread to the `at`-th of them, and round again behind the last; threads that it starts inherit that.
    pub fn hold(&self, at: usize) -> nix::Result<()> {
        let mut only = CpuSet::new();
        only.set(self.0[at % self.0.len()])?;
        sched_setaffinity(THIS_THREAD, &only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_held_to_the_core_it_was_told_and_its_starter_is_not() {
        let cores = Cores::allowed().unwrap();
        for at in [0, cores.count() - 1, cores.count()] {
            let held = std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    cores.hold(at).unwrap();
                    Cores::allowed().unwrap()
                });
                thread.join().unwrap()
            });
            assert_eq!(held.0, [cores.0[at % cores.count()]]);
        }
        assert_eq!(Cores::allowed().unwrap().0, cores.0);
    }
}
