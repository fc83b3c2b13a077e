//! Package objects: many packages one behind the other in one file, found by object, offset and length.
//!
//! Rule: an object is visible under its name only when it is whole and durable (temporary name, sync, rename, sync of the
//! directory). Making an object again replaces it: that is what the rerun of a crashed chunk does.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{ObjectFacts, StoreError};
use crate::durable::{self, Pending, Stamp};
use crate::formats::digest::Sha256OfPieces;

/// Where packages lie.
pub trait Packages: Send + Sync {
    /// Starts an object.
    fn create(&self, object: &str) -> Result<Box<dyn PackageWriter>, StoreError>;
    /// One package of a finished object.
    fn read(&self, object: &str, offset: u64, length: u64) -> Result<Vec<u8>, StoreError>;
}

/// An object being written; dropped unfinished, nothing of it stays.
pub trait PackageWriter: Send {
    /// Appends a package; returns where it lies now.
    fn append(&mut self, package: &[u8]) -> Result<Placed, StoreError>;
    /// Makes the object durable and visible; returns what was written.
    fn finish(self: Box<Self>) -> Result<Written, StoreError>;
}

/// A package in its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Where it begins.
    pub offset: u64,
    /// Octets.
    pub length: u64,
    /// Of its octets.
    pub sha256: [u8; 32],
}

/// An object that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// What went into it.
    pub facts: ObjectFacts,
    /// How it looked then; none when an earlier process wrote it.
    pub stamp: Option<Stamp>,
}

/// Package objects as files of one directory.
#[derive(Clone, Debug)]
pub struct LocalFiles {
    directory: PathBuf,
}

impl LocalFiles {
    /// Uses `directory`, creates it if needed.
    pub fn new(directory: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let directory = directory.into();
        durable::make_dirs(&directory, 0o755).map_err(file_error(&directory))?;
        Ok(Self { directory })
    }

    /// The file of an object. Names come from the ledger, but a name that leaves the directory is refused all the same.
    fn path(&self, object: &str) -> Result<PathBuf, StoreError> {
        let plain = !object.is_empty() && !object.starts_with('.') && !object.contains(['/', '\\', '\0']);
        let path = self.directory.join(object);
        if plain { Ok(path) } else { Err(file_error(&path)(std::io::ErrorKind::InvalidInput.into())) }
    }
}

impl Packages for LocalFiles {
    fn create(&self, object: &str) -> Result<Box<dyn PackageWriter>, StoreError> {
        let target = self.path(object)?;
        let pending = Pending::create(&target, 0o644).map_err(file_error(&target))?;
        Ok(Box::new(LocalWriter { pending, hash: Sha256OfPieces::new(), length: 0 }))
    }

    fn read(&self, object: &str, offset: u64, length: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(object)?;
        read_at(&path, offset, length).map_err(file_error(&path))
    }
}

struct LocalWriter {
    pending: Pending,
    hash: Sha256OfPieces,
    length: u64,
}

impl PackageWriter for LocalWriter {
    fn append(&mut self, package: &[u8]) -> Result<Placed, StoreError> {
        self.pending.write_all(package).map_err(file_error(self.pending.target()))?;
        let placed = Placed { offset: self.length, length: package.len() as u64, sha256: self.hash.add(package) };
        self.length += placed.length;
        Ok(placed)
    }

    fn finish(self: Box<Self>) -> Result<Written, StoreError> {
        let target = self.pending.target().to_owned();
        let stamp = self.pending.publish_stamped().map_err(file_error(&target))?;
        let facts = ObjectFacts { sha256: self.hash.finish(), bytes: self.length };
        Ok(Written { facts, stamp: Some(stamp) })
    }
}

/// The length is checked against the file first: a damaged ledger must not make us reserve gigabytes.
fn read_at(path: &Path, offset: u64, length: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let inside = offset.checked_add(length).is_some_and(|end| end <= size);
    let length = usize::try_from(length).ok().filter(|_| inside).ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let mut package = vec![0; length];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut package)?;
    Ok(package)
}

fn file_error(path: &Path) -> impl Fn(std::io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::File { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn packages_are_read_back_by_offset_and_length() {
        let directory = tempfile::tempdir().unwrap();
        let files = LocalFiles::new(directory.path().join("new")).unwrap();
        let mut writer = files.create("packages-00001.bpp").unwrap();
        let sha256 = openssl::sha::sha256;
        assert_eq!(writer.append(b"first").unwrap(), Placed { offset: 0, length: 5, sha256: sha256(b"first") });
        assert_eq!(writer.append(b"second").unwrap(), Placed { offset: 5, length: 6, sha256: sha256(b"second") });
        let written = writer.finish().unwrap();
        let content = std::fs::read(directory.path().join("new/packages-00001.bpp")).unwrap();
        assert_eq!(written.facts, ObjectFacts { sha256: sha256(&content), bytes: 11 });
        assert_eq!(written.stamp, Stamp::read(&directory.path().join("new/packages-00001.bpp")).ok());
        assert_eq!(files.read("packages-00001.bpp", 5, 6).unwrap(), b"second");
        assert_eq!(names(&directory.path().join("new")), ["packages-00001.bpp"]);
    }

    #[test]
    fn an_unfinished_object_is_never_visible_and_a_finished_one_is_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let files = LocalFiles::new(directory.path()).unwrap();
        let mut writer = files.create("a").unwrap();
        writer.append(b"old").unwrap();
        writer.finish().unwrap();
        let mut writer = files.create("a").unwrap();
        writer.append(b"newer").unwrap();
        assert_eq!(files.read("a", 0, 3).unwrap(), b"old");
        drop(writer);
        assert_eq!(names(directory.path()), ["a"]);
        let mut writer = files.create("a").unwrap();
        writer.append(b"newer").unwrap();
        writer.finish().unwrap();
        assert_eq!(files.read("a", 0, 5).unwrap(), b"newer");
    }

    #[test]
    fn reading_past_the_end_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let files = LocalFiles::new(directory.path()).unwrap();
        files.create("a").unwrap().finish().unwrap();
        for (offset, length) in [(0, 1), (u64::MAX, 2), (0, u64::MAX)] {
            assert!(matches!(files.read("a", offset, length), Err(StoreError::File { .. })));
        }
    }

    #[test]
    fn a_name_that_leaves_the_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let files = LocalFiles::new(directory.path()).unwrap();
        for name in ["", "..", "../a", "a/b", ".hidden"] {
            assert!(files.create(name).is_err(), "{name:?}");
        }
    }
}
