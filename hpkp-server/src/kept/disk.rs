//! Writes files that contain private keys.

use std::fs::File;
use std::io::{self, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// The name of a file while it is written.
pub(crate) const NEW: &str = ".new";

/// How long to wait for another process that writes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens a directory.
pub(crate) fn open_directory(at: impl std::os::fd::AsFd, path: &str) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty()).map(File::from)
}

/// Waits for another process that writes.
pub(crate) fn lock(directory: &File) -> io::Result<()> {
    let started = Instant::now();
    loop {
        match rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK | Errno::INTR) if started.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => {
                return Err(io::Error::other("another process writes there"));
            }
            locked => return Ok(locked?),
        }
    }
}

/// Writes a file, which replaces an earlier one with the same name. Only the owner may use it, whatever the umask is.
/// If the write fails, no part of the file stays: it would be part of a key, and take the room that the next attempt
/// needs.
pub(crate) fn put(directory: &File, name: &str, text: &[u8]) -> io::Result<()> {
    let remove = || match rustix::fs::unlinkat(directory, NEW, AtFlags::empty()) {
        Err(error) if error != Errno::NOENT => Err(error),
        _ => Ok(()),
    };
    remove()?;
    let written = write_new(directory, text).and_then(|()| {
        rustix::fs::renameat(directory, NEW, directory, name)?;
        Ok(())
    });
    if written.is_err() {
        // The first error is the one to report.
        let _ = remove();
    }
    written
}

fn write_new(directory: &File, text: &[u8]) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o600);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(directory, NEW, flags, mode)?);
    rustix::fs::fchmod(&file, mode)?;
    file.write_all(text)?;
    file.sync_all()
}
