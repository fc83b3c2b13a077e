//! A library for LD_PRELOAD that ends a process at the n-th change it makes to files below a directory: a storage seam under the
//! real binary, SQLite included. Built as an example by `cargo test` (`libfile_cut.so`); no part of what is installed.
//!
//! In: BINDERY_CUT_ROOT (a site), BINDERY_CUT_EXCEPT (what below it is not ours: the token), BINDERY_CUT_KEEP (an empty directory
//! on the same file system, outside), BINDERY_CUT_REPORT (a file; a line for each point), BINDERY_CUT_AT (a number, `end`, or
//! nothing: count only), BINDERY_CUT_SEED (a number, of `torn`), BINDERY_CUT_HOW:
//!
//! - `stop`: the process dies (SIGKILL) before the n-th point; of a write half is done. What it did before stays: the kernel lives.
//! - `power`: the machine dies before the n-th point. Everything since the last sync is lost: octets of files, names in directories
//!   (created, linked, renamed, unlinked). A sync of a file is none of its name.
//! - `torn`: as `power`, but chance (of n and the seed) says which unsynced writes reached the disk, and how many of the unsynced changes of
//!   names, the first ones. So a name may be there and its octets not.
//!
//! `end` cuts the power when the process ends by itself: what it said it did has to be durable by then.
//!
//! A point is an open that creates or empties, a write of any kind, a truncation, a sync, a rename, link, unlink, mkdir or rmdir.
//!
//! Model, and its limits: a write is lost or kept whole, in `torn` too (a sector torn in two is not modelled; in `stop` a write ends
//! in the middle); what an earlier process left unsynced counts as durable; file systems that lose synced data are not modelled. A
//! file is followed from its opening for writing. Not seen: mapped memory (SQLite's `-shm` alone; it does not survive a power cut),
//! `copy_file_range`, `sendfile`, `fallocate`, permissions and times, calls inside libc itself (`fopen`). One lock holds all points, so they
//! come one behind the other, from all threads. Linux, 64 bits.
#![allow(unsafe_code)] // a C interface is nothing else

mod calls;
mod journal;
mod raw;

use std::collections::HashSet;
use std::fmt;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use journal::{Journal, Luck};

/// When the process is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Never,
    Point(u64),
    End,
}

/// What is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Stop,
    Power,
    /// With this seed.
    Torn(u64),
}

/// The cut of this process.
struct Cut {
    root: PathBuf,
    except: Option<PathBuf>,
    report: RawFd,
    at: At,
    how: How,
    state: Mutex<State>,
}

/// What the points have left so far.
struct State {
    points: u64,
    journal: Journal,
    /// Memory files of SQLite.
    mapped: HashSet<PathBuf>,
}

static CUT: OnceLock<Option<Cut>> = OnceLock::new();

fn cut() -> Option<&'static Cut> {
    CUT.get_or_init(Cut::load).as_ref()
}

impl Cut {
    fn load() -> Option<Self> {
        let variable = |name: &str| std::env::var_os(format!("BINDERY_CUT_{name}"));
        let root = PathBuf::from(variable("ROOT")?);
        let text = |name| variable(name).and_then(|text| text.into_string().ok()).unwrap_or_default();
        let at = match text("AT").as_str() {
            "" => At::Never,
            "end" => At::End,
            number => At::Point(number.parse().ok()?),
        };
        let how = match text("HOW").as_str() {
            "power" => How::Power,
            "torn" => How::Torn(text("SEED").parse().ok()?),
            _ => How::Stop,
        };
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND;
        let report = raw::open(Path::new(&variable("REPORT")?), flags, 0o600).ok()?;
        let journal = Journal::new(PathBuf::from(variable("KEEP")?));
        let state = State { points: 0, journal, mapped: HashSet::new() };
        // SAFETY: a function without arguments that lives as long as this library, which is never unloaded.
        unsafe { libc::atexit(at_end) };
        Some(Self { root, except: variable("EXCEPT").map(PathBuf::from), report, at, how, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what happens to this name is ours to count.
    fn covers(&self, path: &Path) -> bool {
        path.starts_with(&self.root)
            && !self.except.as_ref().is_some_and(|except| path.starts_with(except))
            && !is_mapped(path)
    }

    /// Counts a point; `true`: this is the one.
    fn point(&self, state: &mut State, what: &str, of: &dyn fmt::Display) -> bool {
        state.points += 1;
        self.tell(&format!("{} {what} {of}\n", state.points));
        self.at == At::Point(state.points)
    }

    /// The journal is kept for the cuts that need it.
    fn journals(&self) -> bool {
        self.how != How::Stop
    }

    /// The cut: takes away what would be lost, and dies.
    fn end(&self, state: &mut State) -> ! {
        self.lose(state);
        // SAFETY: a signal to this process; nothing of it goes on behind it.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        loop {
            // SAFETY: waits for the signal.
            unsafe { libc::pause() };
        }
    }

    fn lose(&self, state: &mut State) {
        if !self.journals() {
            return;
        }
        let mut luck: Box<dyn Luck> = match self.how {
            How::Torn(seed) => Box::new(Chance(seed << 32 | state.points)),
            _ => Box::new(NoLuck),
        };
        if let Err(e) = state.journal.undo(&mut *luck) {
            self.tell(&format!("broken {e}\n"));
        }
        state.mapped.iter().for_each(|path| drop(raw::unlink(path)));
    }

    /// A line of the report. When it cannot be written the test misses the point and fails.
    fn tell(&self, line: &str) {
        let _ = raw::append(self.report, line.as_bytes());
    }

    /// The journal could not be kept: the test must not believe what comes.
    fn noted(&self, result: std::io::Result<()>) {
        if let Err(e) = result {
            self.tell(&format!("broken {e}\n"));
        }
    }
}

extern "C" fn at_end() {
    if let Some(cut) = cut().filter(|cut| cut.at == At::End) {
        cut.lose(&mut cut.lock());
    }
}

/// SQLite's index of its log lives in mapped memory, and is made anew from the log when it is gone.
fn is_mapped(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"-shm")
}

/// Nothing unsynced survives.
struct NoLuck;

impl Luck for NoLuck {
    fn keeps_write(&mut self) -> bool {
        false
    }

    fn keeps_names(&mut self, _of: usize) -> usize {
        0
    }
}

/// The same chance for the same point (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

impl Luck for Chance {
    fn keeps_write(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }

    fn keeps_names(&mut self, of: usize) -> usize {
        (self.next() % (of as u64 + 1)) as usize
    }
}
