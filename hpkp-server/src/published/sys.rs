//! Operations on files relative to an open directory, and on locks.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{Access, AtFlags, CWD, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// Opens a directory, unless its path ends in a symbolic link.
pub(super) fn open_directory(path: &str) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?.into())
}

/// Opens a directory in a directory.
pub(super) fn open_directory_at(directory: &File, name: &str) -> io::Result<File> {
    open(directory, name, OFlags::RDONLY | OFlags::DIRECTORY).map(File::from)
}

/// Opens a file in a directory for reading. Opening a FIFO does not wait for a writer.
pub(super) fn open_at(directory: &File, name: &str) -> io::Result<OwnedFd> {
    open(directory, name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
}

/// Opens a file in a directory for reading and appending; it is created if it is missing.
pub(super) fn append_at(directory: &File, name: &str) -> io::Result<OwnedFd> {
    let access = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
    open(directory, name, access | OFlags::NONBLOCK | OFlags::NOCTTY)
}

/// Opens a file in a directory for reading and writing in place.
pub(super) fn change_at(directory: &File, name: &str) -> io::Result<OwnedFd> {
    open(directory, name, OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY)
}

/// Creates a file in a directory; an error if it exists.
pub(super) fn new_at(directory: &File, name: &str) -> io::Result<OwnedFd> {
    open(directory, name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOCTTY)
}

fn open(directory: &File, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
    // The mode of a file that is created.
    let mode = Mode::from_raw_mode(0o644);
    Ok(rustix::fs::openat(directory, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode)?)
}

/// Removes a file from a directory, if it exists.
pub(super) fn remove_at(directory: &File, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Err(error) if error != Errno::NOENT => Err(error.into()),
        _ => Ok(()),
    }
}

/// Renames a file in a directory; a file with the new name is replaced.
pub(super) fn rename_at(directory: &File, from: &str, to: &str) -> io::Result<()> {
    Ok(rustix::fs::renameat(directory, from, directory, to)?)
}

/// Takes the lock for writing, which ends with the descriptor. Returns whether that succeeded.
pub(super) fn lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// How many servers may have a claim to one writer's file at a time: one that serves clients, and earlier ones that
/// finish their last requests.
pub(super) const CLAIMS: libc::off_t = 64;

// rustix has no locks of open file descriptions for a range of a file, so these functions call libc.

/// Takes the first free claim from the offset `first` of a file. The lock belongs to the open file description, so that
/// forked processes have it too, until all of them have closed it.
pub(super) fn claim(file: &File, first: libc::off_t) -> io::Result<bool> {
    for claim in 0..CLAIMS {
        let range = claims(first, claim, 1);
        // SAFETY: `file` keeps the descriptor open, and F_OFD_SETLK only reads the `flock`.
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

/// The first claim from `from` on that belongs to another open file description than `file`.
pub(super) fn next_claim(
    file: &File,
    first: libc::off_t,
    from: libc::off_t,
) -> io::Result<Option<libc::off_t>> {
    Ok(next_lock(file, first + from, CLAIMS - from)?.map(|at| at - first))
}

/// The first of `count` bytes from `first` on that is locked by another open file description than `file`.
pub(super) fn next_lock(
    file: &File,
    first: libc::off_t,
    count: libc::off_t,
) -> io::Result<Option<libc::off_t>> {
    if count <= 0 {
        return Ok(None);
    }
    let mut range = claims(first, 0, count);
    // SAFETY: `file` keeps the descriptor open; F_OFD_GETLK reads and writes the `flock`.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut range) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let is_free = range.l_type == libc::F_UNLCK as libc::c_short;
    Ok((!is_free).then(|| range.l_start.clamp(first, first + count - 1)))
}

/// Locks a byte of a file for reading, which needs no write permission. The lock belongs to the open file description,
/// and others may have it as well.
pub(super) fn share(file: &File, at: libc::off_t) -> io::Result<()> {
    let mut range = claims(at, 0, 1);
    range.l_type = libc::F_RDLCK as libc::c_short;
    // SAFETY: as in `claim`.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The claim in a line of `/proc` about a descriptor, if the line is about such a lock.
pub(super) fn claim_in(line: &str, first: libc::off_t) -> Option<libc::off_t> {
    if !line.starts_with("lock:") || !line.contains(" OFDLCK ") {
        return None;
    }
    let start: libc::off_t = line.split_ascii_whitespace().rev().nth(1)?.parse().ok()?;
    let claim = start.checked_sub(first)?;
    (0..CLAIMS).contains(&claim).then_some(claim)
}

/// The structure for locks of `count` claims.
fn claims(first: libc::off_t, claim: libc::off_t, count: libc::off_t) -> libc::flock {
    // SAFETY: `flock` has only numbers, for which zeros are valid. F_OFD_SETLK requires `l_pid` to be 0.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_WRLCK as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = first + claim;
    range.l_len = count;
    range
}

/// Fails if this user may not write to a file of the directory, because the file system is read-only or the file is
/// immutable, for example.
pub(super) fn is_writable(directory: &File, name: &str) -> io::Result<()> {
    Ok(rustix::fs::accessat(directory, name, Access::WRITE_OK, AtFlags::empty())?)
}

/// The names in a directory for which `is_wanted` is true, at most `limit`. Bytes that are not UTF-8 are replaced, so
/// that such a name is not that of a writer.
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
