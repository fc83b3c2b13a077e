//! System calls past the library's own interposed names: what the cut itself does is not counted, journalled or cut.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_long};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A file or directory, whatever its names: device and inode number.
pub(crate) type Inode = (u64, u64);

/// One system call; -1 and errno as from libc's own function.
macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {
        // SAFETY: the caller's own arguments, or those of this module: live buffers and strings that end in NUL.
        unsafe { libc::syscall(libc::$number $(, $argument)*) }
    };
}
pub(crate) use call;

/// A path for the kernel; one with a NUL cannot have come from it.
pub(crate) fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

pub(crate) fn open(path: &Path, flags: c_int, mode: libc::mode_t) -> io::Result<RawFd> {
    checked(call!(SYS_openat, libc::AT_FDCWD, c_path(path).as_ptr(), flags | libc::O_CLOEXEC, mode))
        .map(|fd| fd as RawFd)
}

pub(crate) fn append(fd: RawFd, octets: &[u8]) -> io::Result<()> {
    checked(call!(SYS_write, fd, octets.as_ptr(), octets.len())).map(drop)
}

/// Up to `len` octets; fewer at the end of the file.
pub(crate) fn read_at(fd: RawFd, at: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut octets = vec![0; len as usize];
    let mut done = 0;
    while done < octets.len() {
        let rest = &mut octets[done..];
        match checked(call!(SYS_pread64, fd, rest.as_mut_ptr(), rest.len(), at + done as u64))? {
            0 => break,
            read => done += read as usize,
        }
    }
    octets.truncate(done);
    Ok(octets)
}

pub(crate) fn write_at(fd: RawFd, at: u64, octets: &[u8]) -> io::Result<()> {
    let mut done = 0;
    while done < octets.len() {
        let rest = &octets[done..];
        done += checked(call!(SYS_pwrite64, fd, rest.as_ptr(), rest.len(), at + done as u64))? as usize;
    }
    Ok(())
}

pub(crate) fn resize(fd: RawFd, len: u64) -> io::Result<()> {
    checked(call!(SYS_ftruncate, fd, len)).map(drop)
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (c_path(from), c_path(to));
    checked(call!(SYS_renameat2, libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), 0)).map(drop)
}

pub(crate) fn link(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (c_path(from), c_path(to));
    checked(call!(SYS_linkat, libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), 0)).map(drop)
}

pub(crate) fn unlink(path: &Path) -> io::Result<()> {
    checked(call!(SYS_unlinkat, libc::AT_FDCWD, c_path(path).as_ptr(), 0)).map(drop)
}

pub(crate) fn mkdir(path: &Path) -> io::Result<()> {
    checked(call!(SYS_mkdirat, libc::AT_FDCWD, c_path(path).as_ptr(), 0o755)).map(drop)
}

/// What an open descriptor stands for; `None` when it is not open.
pub(crate) fn of_fd(fd: RawFd) -> Option<libc::stat> {
    let mut found = MaybeUninit::uninit();
    // SAFETY: a place for the answer; it is read only when the call says that it was written.
    unsafe { (libc::fstat(fd, found.as_mut_ptr()) == 0).then(|| found.assume_init()) }
}

/// What a name stands for, a symbolic link itself; `None` when there is no such name.
pub(crate) fn of_path(path: &Path) -> Option<libc::stat> {
    let mut found = MaybeUninit::uninit();
    // SAFETY: as above, and the string ends in NUL.
    unsafe { (libc::lstat(c_path(path).as_ptr(), found.as_mut_ptr()) == 0).then(|| found.assume_init()) }
}

pub(crate) fn inode(stat: &libc::stat) -> Inode {
    (stat.st_dev, stat.st_ino)
}

pub(crate) fn is_kind(stat: &libc::stat, kind: libc::mode_t) -> bool {
    stat.st_mode & libc::S_IFMT == kind
}

/// Where a descriptor of a directory points.
pub(crate) fn path_of_fd(fd: RawFd) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()
}

/// A path as an interposed call got it: relative to a directory's descriptor or to the working directory.
pub(crate) fn absolute(directory: RawFd, path: *const c_char) -> Option<PathBuf> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller of the interposed function gives it a string that ends in NUL, as libc demands.
    let octets = unsafe { std::ffi::CStr::from_ptr(path) }.to_bytes();
    let path = Path::new(std::ffi::OsStr::from_bytes(octets));
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    let base = if directory == libc::AT_FDCWD { std::env::current_dir().ok() } else { path_of_fd(directory) };
    base.map(|base| base.join(path))
}

fn checked(answer: c_long) -> io::Result<c_long> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
