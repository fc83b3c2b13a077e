//! Looks at files that others write: what one look sees, and for how long the looks have been the same.
//!
//! Polling, because network file systems tell nobody of changes. The clock is monotonic and an argument: one that jumps makes
//! no file finished.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use serde::{Deserialize, Serialize};

/// What one look at a file sees; of a symbolic link the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Look {
    device: u64,
    inode: u64,
    octets: u64,
    modified: (i64, i64),
    /// Last change of what the file system notes of it: a tool that sets times back moves it all the same.
    changed: (i64, i64),
}

impl Look {
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::of(&fs::symlink_metadata(path)?))
    }

    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            octets: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    pub(super) fn modified(&self) -> (i64, i64) {
        self.modified
    }

    /// The same content under whatever name: renaming changes what the file system notes.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode, self.octets, self.modified)
            == (other.device, other.inode, other.octets, other.modified)
    }
}

/// Every file that was looked at, and since when it is as it is.
#[derive(Debug, Default)]
pub(super) struct Looks {
    seen: HashMap<PathBuf, Seen>,
}

#[derive(Debug)]
struct Seen {
    /// None: not there.
    look: Option<Look>,
    since: Instant,
    sweep: Instant,
}

impl Looks {
    /// Looks again; gives what is there and for how long it has been so. A first look gives no time at all.
    pub(super) fn again(&mut self, path: &Path, now: Instant) -> (Option<Look>, Duration) {
        let look = Look::at(path).ok();
        let seen = self.seen.entry(path.to_owned()).or_insert(Seen { look, since: now, sweep: now });
        if seen.look != look {
            (seen.look, seen.since) = (look, now);
        }
        seen.sweep = now;
        (look, now.saturating_duration_since(seen.since))
    }

    /// Whether it was looked at and not forgotten.
    pub(super) fn knows(&self, path: &Path) -> bool {
        self.seen.contains_key(path)
    }

    /// Forgets what was not looked at in the sweep that began at `now`.
    pub(super) fn forget_others(&mut self, now: Instant) {
        self.seen.retain(|_, seen| seen.sweep >= now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_as_old_as_its_last_change_and_another_file_under_its_name_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let (mut looks, start) = (Looks::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut age = |seconds| looks.again(&path, after(seconds)).1.as_secs();
        assert_eq!((age(0), age(3)), (0, 3), "what is not there has an age, too");
        fs::write(&path, b"{").unwrap();
        assert_eq!((age(4), age(6)), (0, 2));
        fs::write(&path, b"{}").unwrap();
        assert_eq!((age(7), age(8)), (0, 1));
        fs::write(dir.path().join("b"), b"{}").unwrap();
        fs::rename(dir.path().join("b"), &path).unwrap();
        assert_eq!((age(9), age(10)), (0, 1));
        looks.forget_others(after(11));
        assert_eq!(looks.again(&path, after(12)).1, Duration::ZERO);
    }
}
