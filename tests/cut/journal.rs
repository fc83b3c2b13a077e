//! What a power cut would take: for every file what was written since its last sync, for every directory the names since its
//! last sync, each with what undoes it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use crate::raw::{self, Inode};

/// Changes that no sync has made durable.
#[derive(Default)]
pub(crate) struct Journal {
    files: HashMap<Inode, Tracked>,
    names: Vec<Renaming>,
    /// Where what was unlinked is kept: on the same file system, outside the root.
    keep: PathBuf,
    kept: u64,
}

/// A file that was opened for writing.
struct Tracked {
    /// Our own handle, never closed: closing any handle of a file frees the process's fcntl locks on it, SQLite's too.
    handle: RawFd,
    changes: Vec<Change>,
}

/// A write or truncation.
struct Change {
    at: u64,
    /// What stood from `at` on, as far as it was overwritten or cut off.
    old: Vec<u8>,
    old_len: u64,
    end: u64,
}

/// A change of names in a directory.
struct Renaming {
    directory: Option<Inode>,
    name: Name,
}

/// What happened to a name.
pub(crate) enum Name {
    /// A file appeared: created or linked.
    Appeared(PathBuf),
    /// A file went; kept as this.
    Went(PathBuf, PathBuf),
    /// Renamed; what it replaced is kept as this.
    Renamed(PathBuf, PathBuf, Option<PathBuf>),
    /// A directory appeared.
    Made(PathBuf),
    /// An empty directory went.
    Unmade(PathBuf),
}

/// What of the changes survives a cut.
pub(crate) trait Luck {
    /// Whether this write reached the disk.
    fn keeps_write(&mut self) -> bool;
    /// How many of so many name changes, the first ones, reached it: a file system's own journal keeps their order.
    fn keeps_names(&mut self, of: usize) -> usize;
}

impl Journal {
    pub(crate) fn new(keep: PathBuf) -> Self {
        Self { keep, ..Self::default() }
    }

    /// A file was opened for writing: from now on its changes are noted.
    pub(crate) fn track(&mut self, fd: RawFd, inode: Inode) -> io::Result<()> {
        if let Entry::Vacant(place) = self.files.entry(inode) {
            // A new open file, with its own access mode: the caller's may be for writing alone.
            let handle = raw::open(Path::new(&format!("/proc/self/fd/{fd}")), libc::O_RDWR, 0)?;
            place.insert(Tracked { handle, changes: Vec::new() });
        }
        Ok(())
    }

    pub(crate) fn is_tracked(&self, inode: &Inode) -> bool {
        self.files.contains_key(inode)
    }

    /// `len` octets are about to be written at `at`.
    pub(crate) fn writing(&mut self, inode: &Inode, at: u64, len: u64) -> io::Result<()> {
        let Some(file) = self.files.get_mut(inode) else { return Ok(()) };
        let old_len = len_of(file.handle);
        let old = raw::read_at(file.handle, at, len.min(old_len.saturating_sub(at)))?;
        file.changes.push(Change { at, old, old_len, end: at + len });
        Ok(())
    }

    /// The file is about to get this length.
    pub(crate) fn resizing(&mut self, inode: &Inode, len: u64) -> io::Result<()> {
        let Some(file) = self.files.get_mut(inode) else { return Ok(()) };
        let old_len = len_of(file.handle);
        let old = raw::read_at(file.handle, len, old_len.saturating_sub(len))?;
        file.changes.push(Change { at: len, old, old_len, end: len });
        Ok(())
    }

    /// Keeps a file's content beside before its name goes or is replaced.
    pub(crate) fn keep(&mut self, path: &Path) -> io::Result<PathBuf> {
        let kept = self.next_kept();
        raw::link(path, &kept)?;
        Ok(kept)
    }

    /// A name has changed. It is durable with what holds it, of a rename what holds the new name.
    pub(crate) fn named(&mut self, name: Name) {
        let directory = name.path().parent().and_then(raw::of_path).as_ref().map(raw::inode);
        self.names.push(Renaming { directory, name });
    }

    /// A file or directory was synced: its changes are durable.
    pub(crate) fn synced(&mut self, inode: &Inode) {
        if let Some(file) = self.files.get_mut(inode) {
            file.changes.clear();
        }
        let (durable, names): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.names).into_iter().partition(|entry| entry.directory == Some(*inode));
        self.names = names;
        for entry in &durable {
            if let Name::Renamed(from, to, _) = &entry.name {
                self.names.iter_mut().for_each(|entry| entry.name.moved(from, to));
            }
        }
    }

    /// Takes away what is not durable, as far as luck does not keep it.
    pub(crate) fn undo(&mut self, luck: &mut dyn Luck) -> io::Result<()> {
        for file in self.files.values_mut() {
            let mut kept_end = 0;
            for change in file.changes.drain(..).rev() {
                if luck.keeps_write() {
                    kept_end = kept_end.max(change.end);
                } else {
                    change.undo(file.handle, kept_end)?;
                }
            }
        }
        let keeps = luck.keeps_names(self.names.len());
        for entry in self.names.split_off(keeps).into_iter().rev() {
            let aside = self.next_kept();
            match entry.name.undo(&aside) {
                // In a directory that went with a durable change.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(())
    }

    fn next_kept(&mut self) -> PathBuf {
        self.kept += 1;
        self.keep.join(format!("{}-{}", std::process::id(), self.kept))
    }
}

impl Change {
    /// `kept_end`: a later write that survived reaches to here, so the file cannot become shorter; where nothing came, zeros stand.
    fn undo(&self, handle: RawFd, kept_end: u64) -> io::Result<()> {
        raw::write_at(handle, self.at, &self.old)?;
        if kept_end <= self.old_len {
            return raw::resize(handle, self.old_len);
        }
        let hole = self.at.max(self.old_len)..self.end;
        raw::write_at(handle, hole.start, &vec![0; hole.end.saturating_sub(hole.start) as usize])
    }
}

impl Name {
    fn path(&self) -> &Path {
        match self {
            Self::Renamed(_, path, _)
            | Self::Appeared(path)
            | Self::Went(path, _)
            | Self::Made(path)
            | Self::Unmade(path) => path,
        }
    }

    fn undo(&self, aside: &Path) -> io::Result<()> {
        match self {
            Self::Appeared(path) => raw::unlink(path),
            Self::Went(path, kept) => raw::rename(kept, path),
            Self::Renamed(from, to, replaced) => {
                raw::rename(to, from)?;
                replaced.as_ref().map_or(Ok(()), |kept| raw::rename(kept, to))
            }
            // With everything in it: what no durable name leads to is lost.
            Self::Made(path) => raw::rename(path, aside),
            Self::Unmade(path) => raw::mkdir(path),
        }
    }

    /// A directory above it has another name for good.
    fn moved(&mut self, from: &Path, to: &Path) {
        let paths = match self {
            Self::Renamed(old, new, _) => vec![old, new],
            Self::Appeared(path) | Self::Went(path, _) | Self::Made(path) | Self::Unmade(path) => vec![path],
        };
        for path in paths {
            if let Ok(rest) = path.strip_prefix(from)
                && rest != Path::new("")
            {
                *path = to.join(rest);
            }
        }
    }
}

fn len_of(fd: RawFd) -> u64 {
    raw::of_fd(fd).map_or(0, |stat| stat.st_size as u64)
}
