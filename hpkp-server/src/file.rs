//! Files that a configuration names. Every one has a size limit, and none can make the server
//! wait: a FIFO is refused, not opened for reading until somebody writes.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};

/// Why a file was not read.
#[derive(Debug)]
pub enum FileError {
    /// The system's error.
    Io(io::Error),
    /// Not a regular file; what it is.
    NotAFile(&'static str),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::NotAFile(what) => write!(f, "it is a {what}, not a file"),
        }
    }
}

impl std::error::Error for FileError {}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The octets of the regular file at `path`: all of them, or the first `limit + 1` of a larger
/// one, so that the caller sees that it is too large.
///
/// # Errors
/// See [`FileError`].
pub fn read(path: &str, limit: usize) -> Result<Vec<u8>, FileError> {
    let file = OpenOptions::new()
        .read(true)
        // Opening a FIFO must not wait for a writer, nor a terminal become the controlling one.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() {
        return Err(FileError::NotAFile(if kind.is_dir() {
            "directory"
        } else if kind.is_fifo() {
            "FIFO"
        } else if kind.is_socket() {
            "socket"
        } else {
            "device"
        }));
    }
    let mut octets = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut octets)?;
    Ok(octets)
}
