//! The two files of a fleet, written line by line under temporary names and put in place together.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::FleetLine;
use crate::error::{Exit, Fault};

const EUICC: &str = "euicc.jsonl";
const SECRETS: &str = "secrets.jsonl";

/// Writes a fleet; nothing is visible under the final names before [`FleetFiles::finish`].
pub struct FleetFiles {
    dir: PathBuf,
    euicc: Pending,
    secrets: Pending,
}

impl FleetFiles {
    /// Opens both files in `dir`, which is created. Refuses to replace a fleet unless `is_forced`.
    pub fn create(dir: &Path, is_forced: bool) -> Result<Self, Fault> {
        fs::create_dir_all(dir).map_err(|e| Fault::file(dir, &e))?;
        for path in [EUICC, SECRETS].map(|name| dir.join(name)) {
            if !is_forced && path.symlink_metadata().is_ok() {
                let what = format!("{} is already there", path.display());
                return Err(Fault::new(Exit::Usage, what)
                    .hint("choose another directory, or replace the fleet with --force: its one-time keys are lost"));
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            euicc: Pending::create(dir.join(EUICC), 0o644)?,
            // Readable for its owner from the first octet on, not only at the end.
            secrets: Pending::create(dir.join(SECRETS), 0o600)?,
        })
    }

    /// Appends one key to both files.
    pub fn write(&mut self, line: &FleetLine) -> Result<(), Fault> {
        self.euicc.line(&line.euicc)?;
        self.secrets.line(&line.secret)
    }

    /// Makes both durable, then visible: the secrets first, so a key file never stands there without them.
    pub fn finish(mut self) -> Result<(), Fault> {
        self.euicc.sync()?;
        self.secrets.sync()?;
        self.secrets.publish()?;
        self.euicc.publish()?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(|e| Fault::file(&self.dir, &e))
    }
}

/// A file under its temporary name; removed when it is not published.
struct Pending {
    out: BufWriter<File>,
    temporary: PathBuf,
    path: PathBuf,
}

impl Pending {
    fn create(path: PathBuf, mode: u32) -> Result<Self, Fault> {
        let temporary = path.with_extension(format!("jsonl.{}.tmp", std::process::id()));
        let open = || -> io::Result<File> {
            // A leftover of a killed run with our process id: its mode could be another.
            match fs::remove_file(&temporary) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)
        };
        let file = open().map_err(|e| Fault::file(&temporary, &e))?;
        Ok(Self { out: BufWriter::with_capacity(1 << 18, file), temporary, path })
    }

    fn line(&mut self, text: &str) -> Result<(), Fault> {
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.write_all(b"\n"));
        written.map_err(|e| Fault::file(&self.temporary, &e))
    }

    fn sync(&mut self) -> Result<(), Fault> {
        let synced = self.out.flush().and_then(|()| self.out.get_ref().sync_all());
        synced.map_err(|e| Fault::file(&self.temporary, &e))
    }

    fn publish(&self) -> Result<(), Fault> {
        fs::rename(&self.temporary, &self.path).map_err(|e| Fault::file(&self.path, &e))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Gone already when it was published.
        let _ = fs::remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use zeroize::Zeroizing;

    use super::*;

    fn line(n: u8) -> FleetLine {
        FleetLine { euicc: format!("public {n}"), secret: Zeroizing::new(format!("secret {n}")) }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn both_files_appear_whole_and_the_secrets_are_their_owners() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = FleetFiles::create(dir.path(), false).unwrap();
        files.write(&line(1)).unwrap();
        assert!(!dir.path().join(EUICC).exists());
        files.write(&line(2)).unwrap();
        files.finish().unwrap();
        assert_eq!(names(dir.path()), [EUICC, SECRETS]);
        assert_eq!(fs::read_to_string(dir.path().join(EUICC)).unwrap(), "public 1\npublic 2\n");
        assert_eq!(fs::read_to_string(dir.path().join(SECRETS)).unwrap(), "secret 1\nsecret 2\n");
        let mode = fs::metadata(dir.path().join(SECRETS)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_unfinished_fleet_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = FleetFiles::create(dir.path(), false).unwrap();
        files.write(&line(1)).unwrap();
        drop(files);
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn a_fleet_is_replaced_only_by_force() {
        let dir = tempfile::tempdir().unwrap();
        FleetFiles::create(dir.path(), false).unwrap().finish().unwrap();
        let fault = FleetFiles::create(dir.path(), false).err().unwrap();
        assert!(fault.exit == Exit::Usage && fault.hint.unwrap().contains("--force"));
        let mut files = FleetFiles::create(dir.path(), true).unwrap();
        files.write(&line(3)).unwrap();
        files.finish().unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(EUICC)).unwrap(), "public 3\n");
    }
}
