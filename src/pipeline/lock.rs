//! One runner a site, one watcher an inbox. The lock is the kernel's: a killed process frees it by dying.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Exit, Fault};

/// How long a runner waits for the lock: changes of an order's rows hold it for one transaction.
const PATIENCE: Duration = Duration::from_millis(500);
/// The runner's, in the site.
const FILE: &str = "run.lock";
const HELD: &str = "another runner holds this site";
/// Between two tries.
const STEP: Duration = Duration::from_millis(20);

/// Held as long as this value lives.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

/// One watcher a directory; held as long as this value lives.
#[derive(Debug)]
pub struct WatchLock {
    _lock: RunLock,
}

impl WatchLock {
    /// Takes `DIR/.watch.lock`, or says who holds it and since when (exit 10).
    pub fn take(directory: &Path, now: jiff::Timestamp) -> Result<Self, Fault> {
        let held = format!("another watcher takes the orders of {}", directory.display());
        Ok(Self { _lock: RunLock::ask(&directory.join(".watch.lock"), &held, now)?? })
    }
}

impl RunLock {
    /// Takes `DIR/run.lock`, or says who holds it and since when (exit 10).
    pub fn take(site: &Path, now: jiff::Timestamp) -> Result<Self, Fault> {
        let (path, began) = (site.join(FILE), Instant::now());
        loop {
            match Self::ask(&path, HELD, now)? {
                Ok(lock) => return Ok(lock),
                Err(_) if began.elapsed() < PATIENCE => std::thread::sleep(STEP),
                Err(held) => return Err(held),
            }
        }
    }

    /// The lock, unless somebody holds it.
    pub(super) fn take_if_free(site: &Path, now: jiff::Timestamp) -> Result<Option<Self>, Fault> {
        Ok(Self::ask(&site.join(FILE), HELD, now)?.ok())
    }

    /// One try; the inner error says who holds the lock.
    fn ask(path: &Path, held: &str, now: jiff::Timestamp) -> Result<Result<Self, Fault>, Fault> {
        let open = File::options().create(true).read(true).write(true).truncate(false).open(path);
        let mut file = open.map_err(|e| Fault::file(path, &e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // What it says is a courtesy; that the lock is held is certain either way.
                let _ = file.read_to_string(&mut owner);
                let what = format!("{held}: {}", owner.trim());
                let hint = "wait for it, or stop it; its lock frees itself when it ends";
                return Ok(Err(Fault::new(Exit::Locked, what).hint(hint)));
            }
            Err(TryLockError::Error(e)) => return Err(Fault::file(path, &e)),
        }
        let owner = format!("process {}, since {now}\n", std::process::id());
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(owner.as_bytes()));
        written.map_err(|e| Fault::file(path, &e))?;
        Ok(Ok(Self { _file: file }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_runner_is_told_who_holds_the_site_and_the_lock_frees_itself() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunLock::take(dir.path(), jiff::Timestamp::UNIX_EPOCH).unwrap();
        let fault = RunLock::take(dir.path(), jiff::Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(fault.exit, Exit::Locked);
        assert!(fault.what.contains(&format!("process {}, since 1970", std::process::id())));
        drop(first);
        RunLock::take(dir.path(), jiff::Timestamp::UNIX_EPOCH).unwrap();
    }
}
