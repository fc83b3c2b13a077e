//! What keeps secrets of this process out of core files, other processes' hands and the swap.
//!
//! Core dumps: RLIMIT_CORE 0 for files, and not dumpable for core handlers behind a pipe, `ptrace` and `/proc/PID/mem`. Memory:
//! locked as it is touched (`MCL_ONFAULT`), where nothing limits how much; under a limit a locked process would die of an ordinary
//! allocation, so there it stays unlocked and `doctor` says so.

use nix::libc::MCL_ONFAULT;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::{prctl, stat};

use crate::error::{Exit, Fault};

/// Bit of CapEff in `/proc/self/status`: memory may be locked without limit (linux/capability.h).
const CAP_IPC_LOCK: u32 = 14;

/// How this process and its machine stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hardening {
    /// A crash writes no core file and hands none to a handler.
    pub(super) are_dumps_off: bool,
    /// Octets of memory that are locked.
    pub(super) locked_octets: u64,
    /// Octets that may be locked; none: no limit.
    pub(super) lock_limit: Option<u64>,
    /// Octets of swap that the machine has.
    pub(super) swap_octets: u64,
}

/// Hardens this process; to be called before it knows a secret. What it writes is for its owner and group at most.
pub(super) fn harden() -> Result<(), Fault> {
    stat::umask(stat::Mode::S_IWGRP | stat::Mode::S_IRWXO);
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
        .and_then(|()| prctl::set_dumpable(false))
        .map_err(|e| Fault::new(Exit::Config, format!("core dumps cannot be switched off: {e}")))?;
    lock_memory();
    Ok(())
}

/// How things stand now.
pub(super) fn state() -> Hardening {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let core = getrlimit(Resource::RLIMIT_CORE);
    Hardening {
        are_dumps_off: core == Ok((0, 0)) && prctl::get_dumpable() == Ok(false),
        locked_octets: kib(&status, "VmLck:"),
        lock_limit: lock_limit(&status),
        swap_octets: kib(&memory, "SwapTotal:"),
    }
}

/// Best effort: without it everything works, and `doctor` tells.
fn lock_memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(limit) = lock_limit(&status) {
        tracing::debug!("memory is not locked: at most {} KiB may be, which a batch outgrows", limit >> 10);
        return;
    }
    // With the capability alone the hard limit may be a small one: then it does not matter that this fails.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | MlockAllFlags::from_bits_retain(MCL_ONFAULT);
    match mlockall(flags) {
        Ok(()) => tracing::debug!("memory is locked as it is touched"),
        Err(e) => tracing::debug!("memory is not locked: {e}"),
    }
}

/// Octets that may be locked: the hard limit, to which everybody may raise the soft one; a capability lifts both.
fn lock_limit(status: &str) -> Option<u64> {
    let capabilities = line(status, "CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
    if capabilities >> CAP_IPC_LOCK & 1 == 1 {
        return None;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap_or((0, 0));
    (hard != RLIM_INFINITY).then_some(hard)
}

/// A line of `/proc` in kB, as octets; 0 when there is none.
fn kib(text: &str, name: &str) -> u64 {
    let number = line(text, name).and_then(|rest| rest.strip_suffix("kB")?.trim().parse::<u64>().ok());
    number.unwrap_or(0) << 10
}

fn line<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_read_and_a_capability_lifts_the_limit() {
        let text = "VmPeak:\t  10 kB\nVmLck:\t    2048 kB\nCapEff:\t0000000000004000\n";
        assert_eq!((kib(text, "VmLck:"), kib(text, "VmSwap:")), (2 << 20, 0));
        assert_eq!(lock_limit(text), None);
    }
}
