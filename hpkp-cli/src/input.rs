//! Reads files and standard input, with a limit of size.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, StdinLock};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::exit::Exit;
use crate::output;

/// Why an input was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("{}", output::os(.0))]
    Io(#[from] io::Error),
    /// Larger than it may be.
    #[error("larger than {} MiB, the limit for this kind of file", .limit >> 20)]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A directory entry that is not a regular file, or no longer one.
    #[error("not a regular file")]
    NotAFile,
}

impl InputError {
    /// The exit code of a command that needs the input. An input that is too large contains no key, so the
    /// answer is no; an unreadable one may contain a key.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::TooLarge { .. } => Exit::No,
            Self::Io(_) | Self::NotAFile => Exit::Undetermined,
        }
    }
}

/// Reads a file that the user named. A FIFO is accepted, because a shell's `<(...)` is one.
pub(crate) fn named(path: &Path, limit: usize) -> Result<Vec<u8>, InputError> {
    all(File::open(path)?, limit)
}

/// Reads a file that was found in a directory. A FIFO is refused there, because the command would wait for
/// its writer. The buffer is wiped, since the file may contain a private key.
pub(crate) fn found(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, InputError> {
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(InputError::NotAFile);
    }
    // The size is known, so a file that is too large is not read at all.
    if metadata.len() > limit as u64 {
        return Err(InputError::TooLarge { limit });
    }
    wiped(file, usize::try_from(metadata.len()).unwrap_or(limit), limit)
}

/// The content of standard input.
pub(crate) fn standard(limit: usize) -> Result<Vec<u8>, InputError> {
    all(io::stdin().lock(), limit)
}

/// Reads a file that may contain a private key, into a buffer that is wiped.
pub(crate) fn secret(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, InputError> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    if metadata.is_file() && length > limit {
        return Err(InputError::TooLarge { limit });
    }
    wiped(file, length.min(limit), limit)
}

/// Reads standard input, which may contain a private key, into a buffer that is wiped.
pub(crate) fn secret_standard(limit: usize) -> Result<Zeroizing<Vec<u8>>, InputError> {
    wiped(Unbuffered::new(), 0, limit)
}

/// Standard input without Rust's buffer, which is not wiped before the process ends.
pub(crate) struct Unbuffered(StdinLock<'static>);

impl Unbuffered {
    pub(crate) fn new() -> Self {
        Self(io::stdin().lock())
    }
}

impl Read for Unbuffered {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.0, into)?)
    }
}

/// Reads into a buffer that is wiped. A growing `Vec` would leave unwiped copies behind, so a full buffer
/// is replaced by a new one.
fn wiped(
    mut source: impl Read,
    expected: usize,
    limit: usize,
) -> Result<Zeroizing<Vec<u8>>, InputError> {
    // One byte more than expected, so that the end of the input is found without a larger buffer.
    let first = if expected == 0 { 4096 } else { expected + 1 };
    let mut all = Zeroizing::new(vec![0; first]);
    let mut end = 0;
    loop {
        match source.read(&mut all[end..]) {
            Ok(0) => {
                all.truncate(end);
                return Ok(all);
            }
            Ok(read) => end += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        if end > limit {
            return Err(InputError::TooLarge { limit });
        }
        if end == all.len() {
            let mut larger = Zeroizing::new(vec![0; 2 * end]);
            larger[..end].copy_from_slice(&all);
            all = larger;
        }
    }
}

fn all(source: impl Read, limit: usize) -> Result<Vec<u8>, InputError> {
    let mut bytes = Vec::new();
    source.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(InputError::TooLarge { limit });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_above_the_limit_is_refused() {
        assert_eq!(all(&[0; 8][..], 8).ok().map(|bytes| bytes.len()), Some(8));
        assert!(matches!(all(&[0; 9][..], 8), Err(InputError::TooLarge { limit: 8 })));
    }
}
