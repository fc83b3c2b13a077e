//! The interposed functions, under libc's names. `open` is variadic in C; its mode stands in the same register either way.
//!
//! Each does: is it ours, is it the point, note what undoes it, do it. The lock is held from the first to the last, so the journal
//! and the disk agree.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::RawFd;
use std::path::PathBuf;

use libc::{
    AT_FDCWD, AT_REMOVEDIR, O_ACCMODE, O_CREAT, O_RDONLY, O_TRUNC, S_IFDIR, S_IFREG, mode_t, off_t, size_t, ssize_t,
};

use crate::journal::Name;
use crate::raw::{self, Inode, absolute, call, inode, is_kind, of_fd, of_path};
use crate::{Cut, State, cut, is_mapped};

/// Exports functions under libc's names.
macro_rules! interposed {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty $body:block)*) => {$(
        /// libc's function of this name.
        // SAFETY: libc's own name and types; the arguments are the caller's promise to libc.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> $answer $body
    )*};
}

interposed! {
    fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int { open_at(AT_FDCWD, path, flags, mode) }
    fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int { open_at(AT_FDCWD, path, flags, mode) }
    fn openat(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int { open_at(at, path, flags, mode) }
    fn openat64(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int { open_at(at, path, flags, mode) }
    fn creat(path: *const c_char, mode: mode_t) -> c_int { open_at(AT_FDCWD, path, CREAT, mode) }
    fn creat64(path: *const c_char, mode: mode_t) -> c_int { open_at(AT_FDCWD, path, CREAT, mode) }
    fn write(fd: c_int, from: *const c_void, len: size_t) -> ssize_t { write_octets(fd, None, octets(from, len)) }
    fn pwrite(fd: c_int, from: *const c_void, len: size_t, at: off_t) -> ssize_t { write_octets(fd, Some(at), octets(from, len)) }
    fn pwrite64(fd: c_int, from: *const c_void, len: size_t, at: off_t) -> ssize_t { write_octets(fd, Some(at), octets(from, len)) }
    fn writev(fd: c_int, parts: *const libc::iovec, count: c_int) -> ssize_t { write_octets(fd, None, &gathered(parts, count)) }
    fn pwritev(fd: c_int, parts: *const libc::iovec, count: c_int, at: off_t) -> ssize_t {
        write_octets(fd, Some(at), &gathered(parts, count))
    }
    fn pwritev64(fd: c_int, parts: *const libc::iovec, count: c_int, at: off_t) -> ssize_t {
        write_octets(fd, Some(at), &gathered(parts, count))
    }
    fn ftruncate(fd: c_int, len: off_t) -> c_int { resize(fd, len) }
    fn ftruncate64(fd: c_int, len: off_t) -> c_int { resize(fd, len) }
    fn fsync(fd: c_int) -> c_int { sync(fd, "fsync", || call!(SYS_fsync, fd) as c_int) }
    fn fdatasync(fd: c_int) -> c_int { sync(fd, "fdatasync", || call!(SYS_fdatasync, fd) as c_int) }
    fn rename(from: *const c_char, to: *const c_char) -> c_int { rename_at((AT_FDCWD, from), (AT_FDCWD, to), 0) }
    fn renameat(from_at: c_int, from: *const c_char, to_at: c_int, to: *const c_char) -> c_int {
        rename_at((from_at, from), (to_at, to), 0)
    }
    fn renameat2(from_at: c_int, from: *const c_char, to_at: c_int, to: *const c_char, flags: libc::c_uint) -> c_int {
        rename_at((from_at, from), (to_at, to), flags)
    }
    fn link(from: *const c_char, to: *const c_char) -> c_int { link_at((AT_FDCWD, from), (AT_FDCWD, to), 0) }
    fn linkat(from_at: c_int, from: *const c_char, to_at: c_int, to: *const c_char, flags: c_int) -> c_int {
        link_at((from_at, from), (to_at, to), flags)
    }
    fn unlink(path: *const c_char) -> c_int { unlink_at(AT_FDCWD, path, 0) }
    fn unlinkat(at: c_int, path: *const c_char, flags: c_int) -> c_int { unlink_at(at, path, flags) }
    fn rmdir(path: *const c_char) -> c_int { unlink_at(AT_FDCWD, path, AT_REMOVEDIR) }
    fn mkdir(path: *const c_char, mode: mode_t) -> c_int { mkdir_at(AT_FDCWD, path, mode) }
    fn mkdirat(at: c_int, path: *const c_char, mode: mode_t) -> c_int { mkdir_at(at, path, mode) }
}

const CREAT: c_int = libc::O_WRONLY | O_CREAT | O_TRUNC;

/// A path that is ours to count.
fn ours(at: c_int, path: *const c_char) -> Option<(&'static Cut, PathBuf)> {
    let cut = cut()?;
    absolute(at, path).filter(|path| cut.covers(path)).map(|path| (cut, path))
}

fn open_at(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let perform = || call!(SYS_openat, at, path, flags, mode) as c_int;
    if flags & O_ACCMODE == O_RDONLY && flags & O_CREAT == 0 {
        return perform();
    }
    let Some((cut, path)) = ours(at, path) else {
        note_mapped(at, path);
        return perform();
    };
    let mut state = cut.lock();
    let before = of_path(&path);
    let creates = before.is_none() && flags & O_CREAT != 0;
    let empties = flags & O_TRUNC != 0 && before.is_some_and(|stat| stat.st_size > 0);
    if (creates || empties) && cut.point(&mut state, if creates { "create" } else { "empty" }, &path.display()) {
        cut.end(&mut state);
    }
    if empties && let Some(stat) = &before {
        // Its content is noted before it goes.
        let reading = raw::open(&path, libc::O_RDWR, 0);
        cut.noted(reading.and_then(|fd| state.journal.track(fd, inode(stat))));
        cut.noted(state.journal.resizing(&inode(stat), 0));
    }
    let fd = perform();
    if let Some(stat) = of_fd(fd).filter(|stat| fd >= 0 && is_kind(stat, S_IFREG)) {
        cut.noted(state.journal.track(fd, inode(&stat)));
        if creates {
            state.journal.named(Name::Appeared(path));
        }
    }
    fd
}

/// SQLite's memory file does not survive a power cut.
fn note_mapped(at: c_int, path: *const c_char) {
    if let (Some(cut), Some(path)) = (cut(), absolute(at, path))
        && is_mapped(&path)
        && path.starts_with(&cut.root)
    {
        cut.lock().mapped.insert(path);
    }
}

/// A regular file that is followed.
fn followed(fd: RawFd) -> Option<(&'static Cut, Inode)> {
    let cut = cut()?;
    let stat = of_fd(fd).filter(|stat| is_kind(stat, S_IFREG))?;
    Some((cut, inode(&stat)))
}

fn write_octets(fd: RawFd, at: Option<off_t>, octets: &[u8]) -> ssize_t {
    let perform = |octets: &[u8]| match at {
        None => call!(SYS_write, fd, octets.as_ptr(), octets.len()) as ssize_t,
        Some(at) => call!(SYS_pwrite64, fd, octets.as_ptr(), octets.len(), at) as ssize_t,
    };
    let Some((cut, inode)) = followed(fd) else { return perform(octets) };
    let mut state = cut.lock();
    if !state.journal.is_tracked(&inode) {
        drop(state);
        return perform(octets);
    }
    let place = at.unwrap_or_else(|| position(fd)) as u64;
    if cut.point(&mut state, &format!("write {}@{place}", octets.len()), &fd_name(fd)) {
        if cut.journals() {
            cut.noted(state.journal.writing(&inode, place, octets.len() as u64));
        }
        perform(&octets[..octets.len() / 2]);
        cut.end(&mut state);
    }
    if cut.journals() {
        cut.noted(state.journal.writing(&inode, place, octets.len() as u64));
    }
    perform(octets)
}

fn resize(fd: RawFd, len: off_t) -> c_int {
    let perform = || call!(SYS_ftruncate, fd, len) as c_int;
    let Some((cut, inode)) = followed(fd) else { return perform() };
    let mut state = cut.lock();
    if !state.journal.is_tracked(&inode) {
        drop(state);
        return perform();
    }
    if cut.point(&mut state, "truncate", &fd_name(fd)) {
        cut.end(&mut state);
    }
    if cut.journals() {
        cut.noted(state.journal.resizing(&inode, len as u64));
    }
    perform()
}

fn sync(fd: RawFd, what: &str, perform: impl FnOnce() -> c_int) -> c_int {
    let Some(cut) = cut() else { return perform() };
    let Some(stat) = of_fd(fd) else { return perform() };
    let is_ours = |state: &State| match is_kind(&stat, S_IFDIR) {
        true => raw::path_of_fd(fd).is_some_and(|path| cut.covers(&path)),
        false => state.journal.is_tracked(&inode(&stat)),
    };
    let mut state = cut.lock();
    if !is_ours(&state) {
        drop(state);
        return perform();
    }
    if cut.point(&mut state, what, &fd_name(fd)) {
        cut.end(&mut state);
    }
    // The machine is not going to die: the disk need not be waited for.
    state.journal.synced(&inode(&stat));
    0
}

fn rename_at(from: (c_int, *const c_char), to: (c_int, *const c_char), flags: libc::c_uint) -> c_int {
    let perform = || call!(SYS_renameat2, from.0, from.1, to.0, to.1, flags) as c_int;
    let (Some((cut, old)), Some(new)) = (ours(from.0, from.1), absolute(to.0, to.1)) else { return perform() };
    let mut state = cut.lock();
    if cut.point(&mut state, "rename", &format_args!("{} {}", old.display(), new.display())) {
        cut.end(&mut state);
    }
    let replaces = of_path(&new).is_some_and(|stat| is_kind(&stat, S_IFREG)) && cut.journals();
    let replaced = replaces.then(|| state.journal.keep(&new)).transpose();
    let answer = perform();
    match replaced {
        Err(e) => cut.noted(Err(e)),
        Ok(replaced) if answer == 0 => state.journal.named(Name::Renamed(old, new, replaced)),
        Ok(_) => {}
    }
    answer
}

fn link_at(from: (c_int, *const c_char), to: (c_int, *const c_char), flags: c_int) -> c_int {
    let perform = || call!(SYS_linkat, from.0, from.1, to.0, to.1, flags) as c_int;
    let Some((cut, new)) = ours(to.0, to.1) else { return perform() };
    let mut state = cut.lock();
    if cut.point(&mut state, "link", &new.display()) {
        cut.end(&mut state);
    }
    let answer = perform();
    if answer == 0 {
        state.journal.named(Name::Appeared(new));
    }
    answer
}

fn unlink_at(at: c_int, path: *const c_char, flags: c_int) -> c_int {
    let perform = || call!(SYS_unlinkat, at, path, flags) as c_int;
    let Some((cut, path)) = ours(at, path) else { return perform() };
    let mut state = cut.lock();
    // What is not there is no change, and std asks like this whether a name is a directory.
    let Some(stat) = of_path(&path).filter(|stat| is_kind(stat, S_IFDIR) == (flags & AT_REMOVEDIR != 0)) else {
        return perform();
    };
    let is_directory = is_kind(&stat, S_IFDIR);
    if cut.point(&mut state, if is_directory { "rmdir" } else { "unlink" }, &path.display()) {
        cut.end(&mut state);
    }
    let kept = (!is_directory && cut.journals()).then(|| state.journal.keep(&path)).transpose();
    let answer = perform();
    match kept {
        Err(e) => cut.noted(Err(e)),
        Ok(_) if answer != 0 => {}
        Ok(None) if is_directory => state.journal.named(Name::Unmade(path)),
        Ok(None) => {}
        Ok(Some(kept)) => state.journal.named(Name::Went(path, kept)),
    }
    answer
}

fn mkdir_at(at: c_int, path: *const c_char, mode: mode_t) -> c_int {
    let perform = || call!(SYS_mkdirat, at, path, libc::c_uint::from(mode)) as c_int;
    let Some((cut, path)) = ours(at, path) else { return perform() };
    let mut state = cut.lock();
    if of_path(&path).is_none() && cut.point(&mut state, "mkdir", &path.display()) {
        cut.end(&mut state);
    }
    let answer = perform();
    if answer == 0 {
        state.journal.named(Name::Made(path));
    }
    answer
}

/// Where the next plain write goes.
fn position(fd: RawFd) -> off_t {
    // SAFETY: two questions about a descriptor.
    let (flags, at) = unsafe { (libc::fcntl(fd, libc::F_GETFL), libc::lseek(fd, 0, libc::SEEK_CUR)) };
    if flags & libc::O_APPEND != 0 { of_fd(fd).map_or(0, |stat| stat.st_size) } else { at }
}

fn fd_name(fd: RawFd) -> String {
    raw::path_of_fd(fd).map_or_else(|| fd.to_string(), |path| path.display().to_string())
}

fn octets<'a>(from: *const c_void, len: size_t) -> &'a [u8] {
    if from.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: the caller's promise to write(2): so many octets can be read there, until the call comes back.
    unsafe { std::slice::from_raw_parts(from.cast(), len) }
}

/// All parts in one piece: a writev is one write.
fn gathered(parts: *const libc::iovec, count: c_int) -> Vec<u8> {
    if parts.is_null() || count <= 0 {
        return Vec::new();
    }
    // SAFETY: the caller's promise to writev(2): so many parts, each of so many octets.
    let parts = unsafe { std::slice::from_raw_parts(parts, count as usize) };
    parts.iter().flat_map(|part| octets(part.iov_base, part.iov_len)).copied().collect()
}
