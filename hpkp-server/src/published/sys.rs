//! Calls that the standard library lacks: files relative to an open directory, and locks.

use std::ffi::{CStr, CString, c_int};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::ptr;

/// A directory, unless its path ends in a symbolic link.
pub(super) fn open_directory(path: &str) -> io::Result<File> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// A directory in a directory.
pub(super) fn open_directory_at(directory: &File, name: &str) -> io::Result<File> {
    open(directory, name, libc::O_RDONLY | libc::O_DIRECTORY, 0).map(File::from)
}

/// A file in a directory, to be read. Opening a FIFO does not wait for a writer.
pub(super) fn open_at(directory: &File, name: &str) -> io::Result<OwnedFd> {
    open(directory, name, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY, 0)
}

/// A file in a directory, to be read and appended to; it is made where it is missing.
pub(super) fn append_at(directory: &File, name: &str) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_APPEND | libc::O_CREAT | libc::O_NONBLOCK | libc::O_NOCTTY;
    open(directory, name, flags, 0o644)
}

fn open(directory: &File, name: &str, flags: c_int, mode: libc::mode_t) -> io::Result<OwnedFd> {
    let name = CString::new(name)?;
    let flags = flags | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the descriptor is open as long as `directory`, and the name ends with a null.
    let file = unsafe {
        libc::openat(directory.as_raw_fd(), name.as_ptr(), flags, libc::c_uint::from(mode))
    };
    if file < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

/// A file of a directory, to be read and written in place.
pub(super) fn change_at(directory: &File, name: &str) -> io::Result<OwnedFd> {
    open(directory, name, libc::O_RDWR | libc::O_NONBLOCK | libc::O_NOCTTY, 0)
}

/// A new file of a directory; an error where there is one of that name.
pub(super) fn new_at(directory: &File, name: &str) -> io::Result<OwnedFd> {
    open(directory, name, libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOCTTY, 0o644)
}

/// Removes a file of a directory, where there is one.
pub(super) fn remove_at(directory: &File, name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: the descriptor is open as long as `directory`, and the name ends with a null.
    if unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), 0) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Gives a file of a directory another name there; a file of that name is gone then.
pub(super) fn rename_at(directory: &File, from: &str, to: &str) -> io::Result<()> {
    let (from, to) = (CString::new(from)?, CString::new(to)?);
    let place = directory.as_raw_fd();
    // SAFETY: the descriptor is open as long as `directory`, and the names end with a null.
    match unsafe { libc::renameat(place, from.as_ptr(), place, to.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the lock for writing could be had; it ends with the descriptor.
pub(super) fn lock(file: &File) -> io::Result<bool> {
    // SAFETY: the descriptor is open as long as `file`.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(false),
        _ => Err(error),
    }
}

/// How many servers may have a claim to one writer's file at a time: one that serves, and those before it that
/// only answer their last requests.
pub(super) const CLAIMS: libc::off_t = 64;

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
    if from >= CLAIMS {
        return Ok(None);
    }
    let mut range = claims(first, from, CLAIMS - from);
    // SAFETY: as above; the call changes the structure.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut range) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let is_free = range.l_type == libc::F_UNLCK as libc::c_short;
    Ok((!is_free).then(|| (range.l_start - first).clamp(from, CLAIMS - 1)))
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

/// The user that this process acts as.
pub(super) fn effective_user() -> u32 {
    // SAFETY: it has no conditions and cannot fail.
    unsafe { libc::geteuid() }
}

/// The names in a directory that `is_wanted` says yes to, at most `limit` of them. What is not UTF-8 in a
/// name is replaced, which makes it none of a writer's.
pub(super) fn names(
    directory: &File,
    limit: usize,
    is_wanted: impl Fn(&str) -> bool,
) -> io::Result<Vec<String>> {
    // A descriptor of its own, since closing the stream closes it.
    let own = open_directory_at(directory, ".")?.into_raw_fd();
    let stream = Stream::of(own)?;
    let mut names = Vec::new();
    while names.len() < limit {
        // SAFETY: errno belongs to this thread.
        unsafe { *libc::__errno_location() = 0 };
        // SAFETY: the stream is open, and nobody else reads it.
        let entry = unsafe { libc::readdir64(stream.0) };
        if entry.is_null() {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(0) { Ok(names) } else { Err(error) };
        }
        // SAFETY: the entry is valid until the next call, and its name ends with a null.
        let name = unsafe { CStr::from_ptr(ptr::addr_of!((*entry).d_name).cast()) };
        let name = name.to_string_lossy();
        names.extend(is_wanted(&name).then(|| name.into_owned()));
    }
    Ok(names)
}

/// An open directory stream.
struct Stream(*mut libc::DIR);

impl Stream {
    fn of(descriptor: RawFd) -> io::Result<Self> {
        // SAFETY: the descriptor is open and the caller's to give away.
        let stream = unsafe { libc::fdopendir(descriptor) };
        if stream.is_null() {
            let error = io::Error::last_os_error();
            // SAFETY: the call has failed, so the descriptor is still ours.
            drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
            return Err(error);
        }
        Ok(Self(stream))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: it is open and closed only here.
        unsafe { libc::closedir(self.0) };
    }
}
