//! The counts: a file mapped into every process that uses the shim, named by BINDERY_SHIM_COUNTS. Counting is one atomic addition
//! to shared memory, so that not a call is lost, whatever kills the process. Shared with the tests, which read the same file.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use super::functions::COUNT;

/// Rows of the table: tokens by label. The first is for calls without a token.
const ROWS: usize = 16;
const NAME_WORDS: usize = 4;

/// The mapped file. All zero is an empty table.
#[repr(C)]
pub(crate) struct Table {
    /// Calls that met a C_Finalize, in any process.
    pub(crate) finalize_overlaps: AtomicU64,
    rows: [Row; ROWS],
}

/// One token's counts.
#[repr(C)]
pub(crate) struct Row {
    name: [AtomicU64; NAME_WORDS],
    /// Wrong user PINs since the last right one.
    pub(crate) wrong_pins: AtomicU64,
    /// The most calls that one process had in flight at a time.
    pub(crate) most_in_flight: AtomicU64,
    /// Sessions of one process that a call was answered on by a rule and not by the module, each counted once.
    pub(crate) struck_sessions: AtomicU64,
    /// Calls, by function.
    pub(crate) calls: [AtomicU64; COUNT],
    /// Of those, answered by a rule and not by the module.
    pub(crate) injected: [AtomicU64; COUNT],
}

/// A table, mapped for the rest of the process's life.
pub(crate) struct Counts {
    table: &'static Table,
    file: Option<File>,
    claiming: Mutex<()>,
}

impl Counts {
    /// Maps the file, made if it is missing; without a file, memory of this process alone.
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        let octets = size_of::<Table>();
        let open = |path| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = path.map(open).transpose()?;
        let (flags, descriptor) = match &file {
            Some(file) => {
                file.set_len(octets as u64)?; // the same length from everybody: a table in use keeps its content
                (libc::MAP_SHARED, file.as_raw_fd())
            }
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
        };
        // SAFETY: a new mapping at an address of the kernel's choice, of a file that is as long as the mapping; the result is
        // checked below.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), octets, libc::PROT_READ | libc::PROT_WRITE, flags, descriptor, 0)
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: page-aligned, as long as a Table, never unmapped; a Table is nothing but atomics, for which every content is
        // valid and which other processes may change at any time.
        let table = unsafe { &*at.cast::<Table>() };
        Ok(Self { table, file, claiming: Mutex::default() })
    }

    /// The table.
    pub(crate) fn table(&self) -> &'static Table {
        self.table
    }

    /// The row of a number that [`Self::claim`] gave.
    pub(crate) fn row(&self, number: usize) -> &'static Row {
        &self.table.rows[number]
    }

    /// The row of a label, if there is one.
    pub(crate) fn find(&self, label: &str) -> Option<usize> {
        let name = words(label);
        if name == [0; NAME_WORDS] { Some(0) } else { (1..ROWS).find(|number| self.table.rows[*number].is(name)) }
    }

    /// The row of a label, a free one if it is new; the first row when the table is full.
    pub(crate) fn claim(&self, label: &str) -> usize {
        // Two threads must not take the same row (the file's lock is the process's), nor two processes.
        let _one_thread = self.claiming.lock().unwrap_or_else(PoisonError::into_inner);
        let locked = self.file.as_ref().is_some_and(|file| file.lock().is_ok());
        let number = self.find(label).or_else(|| {
            let free = (1..ROWS).find(|number| self.table.rows[*number].is([0; NAME_WORDS]))?;
            let row = &self.table.rows[free];
            row.name.iter().zip(words(label)).for_each(|(word, value)| word.store(value, SeqCst));
            Some(free)
        });
        if locked {
            self.file.iter().for_each(|file| drop(file.unlock()));
        }
        number.unwrap_or(0)
    }
}

impl Row {
    fn is(&self, name: [u64; NAME_WORDS]) -> bool {
        self.name.iter().zip(name).all(|(word, value)| word.load(SeqCst) == value)
    }
}

fn words(label: &str) -> [u64; NAME_WORDS] {
    let mut octets = [0; 8 * NAME_WORDS]; // CK_TOKEN_INFO.label has 32
    octets.iter_mut().zip(label.trim_end().bytes()).for_each(|(octet, byte)| *octet = byte);
    let mut words = [0; NAME_WORDS];
    for (word, eight) in words.iter_mut().zip(octets.chunks_exact(8)) {
        *word = eight.iter().fold(0, |sum, octet| sum << 8 | u64::from(*octet));
    }
    words
}
