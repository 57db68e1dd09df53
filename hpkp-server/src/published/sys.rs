//! Files relative to an open directory, and locks.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;

/// A directory, unless its path ends in a symbolic link.
pub(super) fn open_directory(path: &str) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?.into())
}

/// A directory in a directory.
pub(super) fn open_directory_at(directory: &File, name: &str) -> io::Result<File> {
    open(directory, name, OFlags::RDONLY | OFlags::DIRECTORY).map(File::from)
}

/// A file in a directory, to be read. Opening a FIFO does not wait for a writer.
pub(super) fn open_at(directory: &File, name: &str) -> io::Result<OwnedFd> {
    open(directory, name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
}

/// A file in a directory, to be read and appended to; it is made where it is missing.
pub(super) fn append_at(directory: &File, name: &str) -> io::Result<OwnedFd> {
    let access = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
    open(directory, name, access | OFlags::NONBLOCK | OFlags::NOCTTY)
}

/// A file of a directory, to be read and written in place.
pub(super) fn change_at(directory: &File, name: &str) -> io::Result<OwnedFd> {
    open(directory, name, OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY)
}

/// A new file of a directory; an error where there is one of that name.
pub(super) fn new_at(directory: &File, name: &str) -> io::Result<OwnedFd> {
    open(directory, name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOCTTY)
}

fn open(directory: &File, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
    // Of a file that is made.
    let mode = Mode::from_raw_mode(0o644);
    Ok(rustix::fs::openat(directory, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode)?)
}

/// Removes a file of a directory, where there is one.
pub(super) fn remove_at(directory: &File, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Err(error) if error != Errno::NOENT => Err(error.into()),
        _ => Ok(()),
    }
}

/// Gives a file of a directory another name there; a file of that name is gone then.
pub(super) fn rename_at(directory: &File, from: &str, to: &str) -> io::Result<()> {
    Ok(rustix::fs::renameat(directory, from, directory, to)?)
}

/// Whether the lock for writing could be had; it ends with the descriptor.
pub(super) fn lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// How many servers may have a claim to one writer's file at a time: one that serves, and those before it that
/// only answer their last requests.
pub(super) const CLAIMS: libc::off_t = 64;

// rustix has no locks of an open file for a part of it.

/// Takes the first free claim from the place `first` of a file on. It is of the open file, so that
/// processes made by a fork have it too, until all of them have closed it.
pub(super) fn claim(file: &File, first: libc::off_t) -> io::Result<bool> {
    for claim in 0..CLAIMS {
        let range = claims(first, claim, 1);
        // SAFETY: the descriptor is open as long as `file`, and the structure as long as the call.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) } == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        if !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) {
            return Err(error);
        }
    }
    Ok(false)
}

/// The first claim from `from` on that is another's: of whoever has not opened the very `file`.
pub(super) fn next_claim(
    file: &File,
    first: libc::off_t,
    from: libc::off_t,
) -> io::Result<Option<libc::off_t>> {
    Ok(next_lock(file, first + from, CLAIMS - from)?.map(|at| at - first))
}

/// The first place from `first` on, of `count`, that somebody has locked who has not opened the very `file`.
pub(super) fn next_lock(
    file: &File,
    first: libc::off_t,
    count: libc::off_t,
) -> io::Result<Option<libc::off_t>> {
    if count <= 0 {
        return Ok(None);
    }
    let mut range = claims(first, 0, count);
    // SAFETY: the descriptor is open as long as `file`; the call changes the structure.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut range) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let is_free = range.l_type == libc::F_UNLCK as libc::c_short;
    Ok((!is_free).then(|| range.l_start.clamp(first, first + count - 1)))
}

/// Locks a place of a file for reading, which its right to be written to is not needed for. The lock is of the open
/// file, and others may have it as well.
pub(super) fn share(file: &File, at: libc::off_t) -> io::Result<()> {
    let mut range = claims(at, 0, 1);
    range.l_type = libc::F_RDLCK as libc::c_short;
    // SAFETY: as for `claim`.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Which claim `/proc` shows in a line about a descriptor, if that is a lock for one.
pub(super) fn claim_in(line: &str, first: libc::off_t) -> Option<libc::off_t> {
    if !line.starts_with("lock:") || !line.contains(" OFDLCK ") {
        return None;
    }
    let start: libc::off_t = line.split_ascii_whitespace().rev().nth(1)?.parse().ok()?;
    let claim = start.checked_sub(first)?;
    (0..CLAIMS).contains(&claim).then_some(claim)
}

/// Locks of `count` claims.
fn claims(first: libc::off_t, claim: libc::off_t, count: libc::off_t) -> libc::flock {
    // SAFETY: a plain structure, of which all that is not set below is to be null.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_WRLCK as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = first + claim;
    range.l_len = count;
    range
}

/// An error where the file system is read-only.
pub(super) fn is_writable(directory: &File) -> io::Result<()> {
    match rustix::fs::fstatvfs(directory)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        true => Err(Errno::ROFS.into()),
        false => Ok(()),
    }
}

/// The names in a directory that `is_wanted` says yes to, at most `limit` of them. What is not UTF-8 in a
/// name is replaced, which makes it none of a writer's.
pub(super) fn names(
    directory: &File,
    limit: usize,
    is_wanted: impl Fn(&str) -> bool,
) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        if names.len() >= limit {
            break;
        }
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        names.extend(is_wanted(&name).then(|| name.into_owned()));
    }
    Ok(names)
}
