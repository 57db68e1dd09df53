//! Files and standard input, each with a limit.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::exit::Exit;
use crate::output;

/// Why something was not read.
#[derive(Debug)]
pub(crate) enum InputError {
    /// The system's error.
    Io(io::Error),
    /// Larger than it may be.
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// Something in a directory that is no regular file any more.
    NotAFile,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => f.write_str(&output::os(error)),
            Self::TooLarge { limit } => {
                write!(f, "larger than {} MiB, the limit for this kind of file", limit >> 20)
            }
            Self::NotAFile => f.write_str("not a regular file"),
        }
    }
}

impl InputError {
    /// How a command ends that needs the input: what is too large is no key, what cannot be read may
    /// be one.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::TooLarge { .. } => Exit::No,
            Self::Io(_) | Self::NotAFile => Exit::Undetermined,
        }
    }
}

impl From<io::Error> for InputError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What stands in the file that somebody named: a FIFO is read too, since a shell's `<(...)` is
/// one.
pub(crate) fn named(path: &Path, limit: usize) -> Result<Vec<u8>, InputError> {
    all(File::open(path)?, limit)
}

/// What stands in a file that was found in a directory. Nobody asked for a FIFO there, so the
/// command does not wait for one.
pub(crate) fn found(path: &Path, limit: usize) -> Result<Vec<u8>, InputError> {
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(InputError::NotAFile);
    }
    // Nothing of a large file is read for nothing.
    if metadata.len() > limit as u64 {
        return Err(InputError::TooLarge { limit });
    }
    all(file, limit)
}

/// What comes on standard input.
pub(crate) fn standard(limit: usize) -> Result<Vec<u8>, InputError> {
    all(io::stdin().lock(), limit)
}

fn all(source: impl Read, limit: usize) -> Result<Vec<u8>, InputError> {
    let mut octets = Vec::new();
    source.take(limit as u64 + 1).read_to_end(&mut octets)?;
    if octets.len() > limit {
        return Err(InputError::TooLarge { limit });
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_octet_too_many_is_too_many() {
        assert_eq!(all(&[0; 8][..], 8).ok().map(|octets| octets.len()), Some(8));
        assert!(matches!(all(&[0; 9][..], 8), Err(InputError::TooLarge { limit: 8 })));
    }
}
