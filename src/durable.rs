//! Files that appear whole or not at all, and stay: temporary name, sync, rename, sync of the directory.
//! A name is durable only once the directory that holds it is. And the way in: only regular files are read, those that a file of
//! somebody else names only below its directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{self, OFlag};
use nix::sys::stat::Mode;

/// Octets gathered before they are written.
const BUFFER_OCTETS: usize = 256 * 1024;
const SUFFIX: &str = ".partial";

/// A file under its temporary name `.NAME.PROCESS.partial`; removed when it is dropped without [`Self::publish`]. Two processes
/// that write one target do not meet; the later one's file stays.
#[derive(Debug)]
pub struct Pending {
    out: BufWriter<File>,
    temporary: PathBuf,
    target: PathBuf,
    is_published: bool,
}

impl Pending {
    /// Begins `target`, with these permissions (less the umask) from its first moment on. What a killed process of our number
    /// left under the temporary name is taken away first: its permissions could be others.
    pub fn create(target: &Path, mode: u32) -> io::Result<Self> {
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{}{SUFFIX}", std::process::id()));
        let temporary = target.with_file_name(name);
        match fs::remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        let out = BufWriter::with_capacity(BUFFER_OCTETS, file);
        Ok(Self { out, temporary, target: target.to_owned(), is_published: false })
    }

    /// Puts what was written on the disk, still under the temporary name.
    pub fn sync(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_all()
    }

    /// Makes the file durable and gives it its name. Power lost before the rename: the old file stands, the rest is invisible and
    /// swept. Between rename and the directory's sync: the old file or the whole new one, whose octets were durable before its name.
    /// Once this returns: the new one.
    pub fn publish(self) -> io::Result<()> {
        self.publish_stamped().map(drop)
    }

    /// As [`Self::publish`]; the stamp tells later whether the file is still what was written.
    pub fn publish_stamped(mut self) -> io::Result<Stamp> {
        self.sync()?;
        fs::rename(&self.temporary, &self.target)?;
        self.is_published = true;
        // Behind the rename, which is a change of the file too; by the handle, so of our octets whatever stands under the name.
        let stamp = Stamp::of(&self.out.get_ref().metadata()?);
        sync_dir(parent(&self.target))?;
        Ok(stamp)
    }

    /// As [`Self::publish`], but never over another file: that is an error of kind `AlreadyExists`.
    pub fn publish_new(mut self) -> io::Result<()> {
        self.sync()?;
        // A hard link refuses to replace, where a rename would; the temporary name goes when this value does.
        fs::hard_link(&self.temporary, &self.target)?;
        sync_dir(parent(&self.target))
    }

    /// Where it will stand.
    pub fn target(&self) -> &Path {
        &self.target
    }
}

impl Write for Pending {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.out.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.is_published {
            // Best effort: a left file is invisible under its temporary name and the next writer takes it away.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Which file, and when it was last changed. No call sets the time of a change (ctime): whoever writes into the file, cuts it, sets its
/// other times or puts another under its name makes another stamp. Where the kernel's clock of changes is coarse (before Linux 6.13),
/// a change within the tick of the stamp itself, a few milliseconds, shows only if it changes the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    octets: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file under this name; a link is not followed.
    pub fn read(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|metadata| Self::of(&metadata))
    }

    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            octets: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A whole small file at once.
pub fn write(target: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut pending = Pending::create(target, mode)?;
    pending.write_all(content)?;
    pending.publish()
}

/// Makes a directory and those above it, each of them durable; `mode` holds for the new ones.
pub fn make_dirs(dir: &Path, mode: u32) -> io::Result<()> {
    let above = parent(dir);
    if dir.is_dir() {
        // Whoever made it may have been killed before its name was durable; what is above it was synced before it was made. A
        // directory that may not be read is nobody's who makes directories in it.
        return match sync_dir(above) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        };
    }
    make_dirs(above, mode)?;
    match DirBuilder::new().mode(mode).create(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => sync_dir(above),
    }
}

/// Takes away what killed writers left in a directory; nothing when it is not there. Only for who holds the lock that keeps
/// other writers out.
pub fn sweep(dir: &Path) -> io::Result<()> {
    sweep_if(dir, |_| true)
}

/// The same beside other writers: only what processes left that are gone.
pub fn sweep_dead(dir: &Path) -> io::Result<()> {
    sweep_if(dir, |process| !Path::new("/proc").join(process).exists())
}

fn sweep_if(dir: &Path, is_left: impl Fn(&str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let process = name.strip_prefix('.').and_then(|name| name.strip_suffix(SUFFIX)?.rsplit('.').next());
        if process.is_some_and(&is_left) && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether a name is a temporary one of [`Pending`].
pub fn is_pending(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(SUFFIX)
}

/// Opens a regular file; its length is the handle's, which no rename can change. A pipe or a device does not make us wait.
pub fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    regular(File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?)
}

/// As [`open_regular`], a file that somebody else named relative to `directory`; `None` when it leaves that directory, by its
/// words or by symbolic links.
pub fn open_below(directory: &Path, name: &str) -> io::Result<Option<(File, u64)>> {
    let relative = Path::new(name);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if name.is_empty() || !plain {
        return Ok(None);
    }
    let base = directory.canonicalize()?;
    let target = base.join(relative).canonicalize()?;
    match target.strip_prefix(&base) {
        Err(_) => Ok(None),
        Ok(below) => open_unlinked(&base, below).map(Some),
    }
}

/// Opens step by step what was found to hold no links: one that was put there since is an error and leads nowhere.
fn open_unlinked(base: &Path, below: &Path) -> io::Result<(File, u64)> {
    let way = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut dir = fcntl::open(base, way, Mode::empty())?;
    for step in below.parent().into_iter().flat_map(Path::components) {
        dir = fcntl::openat(&dir, step.as_os_str(), way, Mode::empty())?;
    }
    let last = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let name = below.file_name().ok_or_else(not_regular)?;
    regular(fcntl::openat(&dir, name, last, Mode::empty())?.into())
}

fn regular(file: File) -> io::Result<(File, u64)> {
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata.len())) } else { Err(not_regular()) }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file")
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The directory that holds `path`; of a bare name the working directory.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_appears_whole_with_its_permissions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let mut pending = Pending::create(&path, 0o600).unwrap();
        pending.write_all(b"whole").unwrap();
        assert!(!path.exists());
        pending.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_not_published_leaves_nothing_and_the_old_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, b"old", 0o644).unwrap();
        Pending::create(&path, 0o644).unwrap().write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_stamp_is_that_of_the_file_until_somebody_touches_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let published = || {
            let mut pending = Pending::create(&path, 0o644).unwrap();
            pending.write_all(b"whole").unwrap();
            let stamp = pending.publish_stamped().unwrap();
            assert_eq!(Stamp::read(&path).unwrap(), stamp);
            std::thread::sleep(std::time::Duration::from_millis(20)); // more than a tick of a coarse clock
            stamp
        };
        let in_place = |octets: &[u8]| {
            let old = path.metadata().unwrap().modified().unwrap();
            let mut file = File::options().write(true).open(&path).unwrap();
            file.write_all(octets).unwrap();
            file.set_modified(old).unwrap();
        };
        let touches: [&dyn Fn(); 5] = [
            &|| in_place(b"w"),
            &|| in_place(b"hole "),
            &|| File::options().write(true).open(&path).unwrap().set_len(4).unwrap(),
            &|| write(&path, b"whole", 0o644).unwrap(),
            &|| {
                fs::rename(&path, dir.path().join("b")).unwrap();
                std::os::unix::fs::symlink("b", &path).unwrap();
            },
        ];
        for (at, touch) in touches.iter().enumerate() {
            let stamp = published();
            touch();
            assert_ne!(Stamp::read(&path).unwrap(), stamp, "{at}");
        }
        fs::remove_file(&path).unwrap();
        Stamp::read(&path).unwrap_err();
    }

    #[test]
    fn a_new_file_never_replaces_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for (content, is_new) in [(b"one", true), (b"two", false)] {
            let mut pending = Pending::create(&path, 0o644).unwrap();
            pending.write_all(content).unwrap();
            let published = pending.publish_new().map_err(|e| e.kind());
            assert_eq!(published, if is_new { Ok(()) } else { Err(io::ErrorKind::AlreadyExists) });
        }
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_left_file_does_not_lend_its_permissions_or_its_target() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        let temporary = format!(".a.{}.partial", std::process::id());
        std::os::unix::fs::symlink(&elsewhere, dir.path().join(temporary)).unwrap();
        write(&dir.path().join("a"), b"mine", 0o600).unwrap();
        assert!(!elsewhere.exists());
    }

    #[test]
    fn sweeping_takes_what_killed_writers_left_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".a.1.partial", "a", ".hidden"] {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        sweep(dir.path()).unwrap();
        sweep(&dir.path().join("missing")).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".hidden", "a"]);
    }

    #[test]
    fn beside_others_only_what_the_dead_left_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let [dead, living] = [child.id(), std::process::id()].map(|id| dir.path().join(format!(".a.{id}.partial")));
        fs::write(&dead, b"").unwrap();
        fs::write(&living, b"").unwrap();
        sweep_dead(dir.path()).unwrap();
        assert!(!dead.exists() && living.exists());
    }

    #[test]
    fn directories_are_made_down_to_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        make_dirs(&deep, 0o700).unwrap();
        make_dirs(&deep, 0o700).unwrap();
        assert_eq!(dir.path().join("a").metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn pipes_devices_and_directories_are_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [&pipe, Path::new("/dev/zero"), dir.path()] {
            assert_eq!(open_regular(path).unwrap_err().to_string(), "is not a regular file", "{}", path.display());
        }
    }

    #[test]
    fn what_is_named_stays_below_its_directory_links_included() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        make_dirs(&base.join("sub"), 0o755).unwrap();
        fs::write(dir.path().join("outside"), b"no").unwrap();
        fs::write(base.join("sub/inside"), b"yes").unwrap();
        symlink("../outside", base.join("out")).unwrap();
        symlink(dir.path(), base.join("up")).unwrap();
        symlink("sub/inside", base.join("in")).unwrap();
        for name in ["in", "sub/inside", "./sub/inside"] {
            assert_eq!(open_below(&base, name).unwrap().unwrap().1, 3, "{name}");
        }
        for name in ["out", "up/outside", "../outside", "sub/../../outside", "/etc/passwd", ""] {
            assert!(open_below(&base, name).unwrap().is_none(), "{name}");
        }
        // Put there after the look, on the way and at its end.
        assert_eq!(open_unlinked(&base, Path::new("sub/inside")).unwrap().1, 3);
        for name in ["out", "up/outside", ""] {
            assert!(open_unlinked(&base, Path::new(name)).is_err(), "{name}");
        }
    }
}
