//! Writes files atomically: after a crash a file is complete or does not exist.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use hpkp_server::file::if_there;
use rustix::fs::{FlockOperation, OFlags};

/// Flags for `open`: do not follow a symbolic link, and do not wait for a FIFO.
const NO_LINK_NO_WAIT: i32 = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits() as i32;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody.
    All,
    /// Its owner.
    Owner,
}

/// Opens a regular file for reading. Refuses symbolic links, and does not wait for a FIFO.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    regular(File::options().read(true).custom_flags(NO_LINK_NO_WAIT).open(path)?)
}

/// The bytes of a regular file, cut after `most` + 1, so that the caller can recognise a file that is too large.
pub(crate) fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn regular(file: File) -> io::Result<File> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// Opens or creates a lock file that processes of other users lock as well. Refuses links: everyone who may write to
/// the directory could make one that leads to any file of this machine.
pub(crate) fn open_shared_lock(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.append(true).mode(0o666).custom_flags(NO_LINK_NO_WAIT);
    match options.create_new(true).open(path) {
        Ok(file) => {
            // Independent of the umask. Only the process that creates the file can set its mode.
            file.set_permissions(fs::Permissions::from_mode(0o666))?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            regular(options.create_new(false).open(path)?)
        }
        Err(error) => Err(error),
    }
}

/// Creates a file or replaces it as a whole.
pub(crate) fn replace(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let file = write_beside(path, bytes, access)?;
    file.sync_all()?;
    commit(path)?;
    sync_directory(path)
}

/// Writes the new content of a file under a temporary name, which readers ignore.
pub(crate) fn write_beside(path: &Path, bytes: &[u8], access: Access) -> io::Result<File> {
    let new = beside(path);
    // A file under that name is left over from an attempt that was cut off, or is a link that somebody made.
    if_there(fs::remove_file(&new))?;
    let mode = if access == Access::All { 0o644 } else { 0o600 };
    let mut file = File::options().write(true).create_new(true).mode(mode).open(&new)?;
    // Independent of the umask: a server that runs as another user reads the copies.
    let allowed = file.set_permissions(fs::Permissions::from_mode(mode));
    let written = allowed.and_then(|()| file.write_all(bytes));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written.map(|()| file)
}

/// Takes an exclusive lock, which lasts until the file is closed. Waits at most `most` while another process has it.
pub(crate) fn lock(file: &File, most: Duration) -> io::Result<()> {
    let started = Instant::now();
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if started.elapsed() > most {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "another hpkp sync is still running",
            ));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Renames what [`write_beside`] wrote to its final name.
pub(crate) fn commit(path: &Path) -> io::Result<()> {
    fs::rename(beside(path), path)
}

/// Waits until the entries of the directory that contains a file are on the disk.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}
