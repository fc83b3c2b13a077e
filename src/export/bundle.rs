//! The bundle's directory: every file is written under a temporary name, hashed on its way, synced and renamed; the
//! directory is synced before the manifest says that the bundle is complete.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use openssl::sha::Sha256;

use super::manifest::FileEntry;
use crate::durable::{self, Pending};

/// Permissions of what leaves the house, less the umask.
const MODE: u32 = 0o644;
/// Name of the manifest; with [`SIGNATURE`] the last to appear.
pub const MANIFEST: &str = "manifest.json";
/// Name of the manifest's signature.
pub const SIGNATURE: &str = "manifest.sig";

/// Directory of the certificates in a bundle, its only one.
pub const CERTIFICATES: &str = "certs";

/// Octets of a file that are hashed at once.
const GATHERED_OCTETS: usize = 32 * 1024;

/// A bundle being written.
#[derive(Debug)]
pub struct Bundle {
    dir: PathBuf,
    files: BTreeMap<String, FileEntry>,
}

impl Bundle {
    /// In this directory, which may hold package files already.
    pub fn create(dir: &Path) -> io::Result<Self> {
        durable::make_dirs(&dir.join(CERTIFICATES), 0o755)?;
        Ok(Self { dir: dir.to_owned(), files: BTreeMap::new() })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file of the bundle, to be written and handed back to [`Self::keep`]. `name` may hold one `/`.
    pub fn start(&self, name: &str) -> io::Result<BundleFile> {
        BundleFile::create(&self.dir, name)
    }

    /// Makes a written file durable and notes it.
    pub fn keep(&mut self, file: BundleFile) -> io::Result<()> {
        let name = file.name.clone();
        let entry = file.finish()?;
        self.files.insert(name, entry);
        Ok(())
    }

    /// A small file at once.
    pub fn write(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut file = self.start(name)?;
        file.write_all(content)?;
        self.keep(file)
    }

    /// Notes a file that is durable already, such as a package file.
    pub fn note(&mut self, name: &str, entry: FileEntry) {
        self.files.insert(name.to_owned(), entry);
    }

    /// The files so far.
    pub fn files(&self) -> &BTreeMap<String, FileEntry> {
        &self.files
    }

    /// Takes away the seal of an earlier, interrupted closing, so that no reader takes a mixture for a bundle.
    pub fn unseal(&self) -> io::Result<()> {
        for name in [SIGNATURE, MANIFEST] {
            match fs::remove_file(self.dir.join(name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        durable::sync_dir(&self.dir)
    }

    /// Writes manifest and signature, in this order. After it the bundle is durable and complete.
    pub fn seal(self, manifest: &[u8], signature_der: &[u8]) -> io::Result<()> {
        durable::write(&self.dir.join(MANIFEST), manifest, MODE)?;
        durable::write(&self.dir.join(SIGNATURE), signature_der, MODE)
    }
}

/// Hash and size of a file as it lies on disk.
pub fn file_entry(path: &Path) -> io::Result<FileEntry> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(FileEntry { sha256: hex(&hash.finish()), bytes }),
            read => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// A file under its temporary name, hashed as it is written. Dropped without [`Bundle::keep`] it never appears.
pub struct BundleFile {
    name: String,
    /// Not hashed yet: what is written comes in pieces of some octets, which one by one cost more than their hash.
    gathered: Vec<u8>,
    pending: Pending,
    hash: Sha256,
    bytes: u64,
}

impl BundleFile {
    fn create(dir: &Path, name: &str) -> io::Result<Self> {
        let pending = Pending::create(&dir.join(name), MODE)?;
        let gathered = Vec::with_capacity(GATHERED_OCTETS);
        Ok(Self { name: name.to_owned(), gathered, pending, hash: Sha256::new(), bytes: 0 })
    }

    /// Puts what was written so far on the disk, under the temporary name: [`Bundle::keep`] has less to wait for.
    pub fn sync(&mut self) -> io::Result<()> {
        self.pass_on()?;
        self.pending.sync()
    }

    fn pass_on(&mut self) -> io::Result<()> {
        self.pending.write_all(&self.gathered)?;
        self.hash.update(&self.gathered);
        self.bytes += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<FileEntry> {
        self.pass_on()?;
        self.pending.publish()?;
        Ok(FileEntry { sha256: hex(&self.hash.finish()), bytes: self.bytes })
    }
}

impl Write for BundleFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(data);
        if self.gathered.len() >= GATHERED_OCTETS {
            self.pass_on()?;
        }
        Ok(data.len())
    }

    /// All of it is taken in one call: lines come in pieces of some octets.
    fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        self.write(data).map(drop)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass_on()?;
        self.pending.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_what_lies_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut bundle = Bundle::create(dir.path()).unwrap();
        bundle.write("certs/a.pem", b"hello").unwrap();
        assert_eq!(bundle.files()["certs/a.pem"], file_entry(&dir.path().join("certs/a.pem")).unwrap());
        bundle.seal(b"{}", b"sig").unwrap();
        assert_eq!(fs::read(dir.path().join(MANIFEST)).unwrap(), b"{}");
    }

    #[test]
    fn a_file_that_was_not_kept_never_appears_under_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = Bundle::create(dir.path()).unwrap();
        let mut file = bundle.start("core.csv").unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert!(!dir.path().join("core.csv").exists());
        assert!(bundle.files().is_empty());
    }
}
