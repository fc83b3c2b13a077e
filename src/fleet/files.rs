//! The two files of a fleet, written line by line under temporary names and put in place together.

use std::io::Write;
use std::path::Path;

use super::FleetLine;
use crate::durable::{self, Pending};
use crate::error::{Exit, Fault};

const EUICC: &str = "euicc.jsonl";
const SECRETS: &str = "secrets.jsonl";

/// Writes a fleet; nothing is visible under the final names before [`FleetFiles::finish`].
pub struct FleetFiles {
    euicc: Pending,
    secrets: Pending,
}

impl FleetFiles {
    /// Opens both files in `dir`, which is created. Refuses to replace a fleet unless `is_forced`.
    pub fn create(dir: &Path, is_forced: bool) -> Result<Self, Fault> {
        durable::make_dirs(dir, 0o755).map_err(|e| Fault::file(dir, &e))?;
        for path in [EUICC, SECRETS].map(|name| dir.join(name)) {
            if !is_forced && path.symlink_metadata().is_ok() {
                let what = format!("{} is already there", path.display());
                return Err(Fault::new(Exit::Usage, what)
                    .hint("choose another directory, or replace the fleet with --force: its one-time keys are lost"));
            }
        }
        let create = |name, mode| {
            let path = dir.join(name);
            Pending::create(&path, mode).map_err(|e| Fault::file(&path, &e))
        };
        // Readable for its owner from the first octet on, not only at the end.
        Ok(Self { euicc: create(EUICC, 0o644)?, secrets: create(SECRETS, 0o600)? })
    }

    /// Appends one key to both files.
    pub fn write(&mut self, line: &FleetLine) -> Result<(), Fault> {
        append(&mut self.euicc, &line.euicc)?;
        append(&mut self.secrets, &line.secret)
    }

    /// Makes both durable, then visible: the secrets first, so a key file never stands there without them.
    pub fn finish(mut self) -> Result<(), Fault> {
        self.euicc.sync().map_err(|e| Fault::file(self.euicc.target(), &e))?;
        for file in [self.secrets, self.euicc] {
            let path = file.target().to_owned();
            file.publish().map_err(|e| Fault::file(&path, &e))?;
        }
        Ok(())
    }
}

fn append(file: &mut Pending, text: &str) -> Result<(), Fault> {
    let written = file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n"));
    written.map_err(|e| Fault::file(file.target(), &e))
}

#[cfg(test)]
mod tests {
    use std::fs;
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
