//! The same program as a process of its own, on a demo site in a scratch directory: what it prints, how long it takes, how much
//! memory it held at most.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::failed;
use crate::error::Fault;

/// Between two looks at a process.
const STEP: Duration = Duration::from_millis(2);

/// A demo site of its own, removed in the end.
pub(super) struct Sandbox {
    dir: TempDir,
    program: PathBuf,
}

/// A command that ended well.
pub(super) struct Ran {
    /// What it printed as JSON.
    pub(super) json: Value,
    pub(super) took: Duration,
    pub(super) peak: Peak,
}

/// Resident memory of a process at most, in KiB (VmHWM of proc(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Peak(pub(super) u64);

impl Sandbox {
    /// Below `scratch`, which should be on the kind of disk that a site is on.
    pub(super) fn create(scratch: &Path) -> Result<Self, Fault> {
        let dir = tempfile::Builder::new().prefix("bindery-bench-").tempdir_in(scratch);
        let dir = dir.map_err(|e| Fault::file(scratch, &e))?;
        let program = std::env::current_exe().map_err(|e| failed(format!("the program's own file: {e}")))?;
        let sandbox = Self { dir, program };
        sandbox.run(["init".as_ref(), sandbox.site().as_os_str(), "--demo".as_ref()])?;
        Ok(sandbox)
    }

    pub(super) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub(super) fn site(&self) -> PathBuf {
        self.path("site")
    }

    /// To its end, which must be a good one.
    pub(super) fn run<'a>(&self, args: impl IntoIterator<Item = &'a OsStr>) -> Result<Ran, Fault> {
        self.start(args)?.wait()
    }

    pub(super) fn start<'a>(&self, args: impl IntoIterator<Item = &'a OsStr>) -> Result<Running, Fault> {
        let [out, err] = ["out.json", "err.txt"].map(|name| self.path(name));
        let open = |path: &Path| File::create(path).map_err(|e| Fault::file(path, &e));
        let mut command = Command::new(&self.program);
        command.arg("--site").arg(self.site()).args(["--json", "--progress", "off"]).args(args);
        // What the environment says of another site's token is not for this one.
        for name in ["SOFTHSM2_CONF", "BINDERY_PIN", "BINDERY_PIN_FILE", "BINDERY_PIN_FD", "BINDERY_SITE"] {
            command.env_remove(name);
        }
        command.stdin(std::process::Stdio::null()).stdout(open(&out)?).stderr(open(&err)?);
        let begun = Instant::now();
        let child = command.spawn().map_err(|e| Fault::file(&self.program, &e))?;
        Ok(Running { child, begun, peak: Peak::default(), out, err })
    }
}

/// A command under way; dropping it kills it.
pub(super) struct Running {
    child: Child,
    begun: Instant,
    pub(super) peak: Peak,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    pub(super) fn wait(mut self) -> Result<Ran, Fault> {
        while !self.has_ended()? {
            std::thread::sleep(STEP);
        }
        let took = self.begun.elapsed();
        let status = self.child.wait().map_err(failed)?;
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        if !status.success() {
            return Err(failed(format!(
                "a command on the scratch site ended with {status}: {}",
                read(&self.err).trim()
            )));
        }
        let json = serde_json::from_str(read(&self.out).trim()).unwrap_or_default();
        Ok(Ran { json, took, peak: self.peak })
    }

    /// Until `there` says so; an error when the command ends before.
    pub(super) fn until(&mut self, mut there: impl FnMut() -> Result<bool, Fault>) -> Result<Duration, Fault> {
        while !there()? {
            if self.has_ended()? {
                return Err(failed("the order was done before it could be stopped: take more lines"));
            }
            std::thread::sleep(STEP);
        }
        Ok(self.begun.elapsed())
    }

    /// SIGKILL.
    pub(super) fn kill(mut self) -> Result<Peak, Fault> {
        self.child.kill().and_then(|()| self.child.wait()).map_err(failed)?;
        Ok(self.peak)
    }

    fn has_ended(&mut self) -> Result<bool, Fault> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        self.peak = self.peak.max(Peak(high_water_kib(&status).unwrap_or_default()));
        Ok(self.child.try_wait().map_err(failed)?.is_some())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it has usually ended
        let _ = self.child.wait();
    }
}

fn high_water_kib(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok())
}

/// Words of a command.
pub(super) fn words<const N: usize>(words: [&str; N]) -> [&OsStr; N] {
    words.map(OsStr::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read_in_kib() {
        assert_eq!(high_water_kib("Name:\tbindery\nVmHWM:\t   87656 kB\nVmRSS:\t 1 kB\n"), Some(87_656));
        assert_eq!(high_water_kib("Name:\tbindery\n"), None);
    }
}
