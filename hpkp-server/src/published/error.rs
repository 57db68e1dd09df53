//! Why records cannot be read or written.

use std::fmt;
use std::io;

use hpkp_core::published::file::{FileError, MAX_FILE};
use hpkp_core::published::line::LineError;
use hpkp_core::text::{Excerpt, ShellWord};

use super::claim::Claimant;
use super::{MARKER, MAX_FILES, MAX_OCTETS};

/// Why a directory with records cannot be used.
#[derive(Debug)]
pub enum DirectoryError {
    /// It cannot be opened, or is a symbolic link or no directory.
    Open(io::Error),
    /// It belongs to a user, held here, who is neither root nor the one that runs this.
    Owner(u32),
    /// It cannot be made.
    Init(io::Error),
    /// Others may write to it: its path and mode.
    Mode(String, u32),
    /// It has no marker, so it may be the mount point of a volume that is missing.
    NoMarker,
    /// Its marker cannot be read.
    Marker(io::Error),
    /// It is of another version of the format, held here as the marker has it.
    Version(String),
    /// A file cannot be read: which, and why.
    File(String, io::Error),
    /// A file holds something that is no record: which, and what.
    Records(String, FileError),
    /// A file with records whose name is not that of a writer.
    Unnamed(String),
    /// A directory, held here, has more files than [`MAX_FILES`].
    TooManyFiles(String),
    /// A directory, held here, has more octets than [`MAX_OCTETS`].
    TooLarge(String),
    /// The file of the writer is not its own: what it is instead.
    NotOwn(String, &'static str),
    /// The file of the writer was made on another machine: it is a copy.
    Copied(String),
    /// Somebody has appended to the file of the writer since it was read.
    Changed(String),
    /// Somebody else holds the lock of the writer's file, and does not let it go.
    Locked(String),
    /// A record that could not be read again is not written: for which file, and what is wrong.
    NoRecord(String, LineError),
    /// The file of the writer would become larger than one that can be read.
    Full(String),
    /// The file of the writer is that of another server which serves: whose.
    Taken(String, Claimant),
    /// The records could not be written: to which file, and why.
    Write(String, io::Error),
}

impl DirectoryError {
    /// Whether the file of the writer has another server's records.
    #[must_use]
    pub fn is_of_another_server(&self) -> bool {
        matches!(self, Self::Copied(_) | Self::Taken(..))
    }
}

impl DirectoryError {
    /// The file that is wrong, or the directory of those that were not read.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::File(file, _)
            | Self::Records(file, _)
            | Self::Unnamed(file)
            | Self::TooManyFiles(file)
            | Self::TooLarge(file) => Some(file),
            _ => None,
        }
    }
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => write!(
                f,
                "it cannot be opened as a directory ({error}); make it with: hpkp published init"
            ),
            Self::Owner(user) => {
                write!(f, "it belongs to the user {user}, not to root nor to the server's")
            }
            Self::Init(error) => write!(f, "{error}"),
            Self::Mode(path, mode) => write!(
                f,
                "others may write to it (mode {mode:o}); take that from them: chmod go-w {}; if it is \
                 a volume that is mounted so, make a directory in it, as the server's user, and name \
                 that: hpkp published init {}",
                ShellWord::new(path),
                ShellWord::new(&format!("{}/hpkp", path.trim_end_matches('/')))
            ),
            Self::NoMarker => write!(
                f,
                "it has no file \"{MARKER}\", so it may be the place of a volume that is not \
                 mounted; if it is new, make it with: hpkp published init"
            ),
            Self::Marker(error) => write!(f, "its file \"{MARKER}\" cannot be read: {error}"),
            Self::Version(version) => write!(
                f,
                "its format is of version \"{}\", which this software does not know; update it",
                Excerpt::new(version)
            ),
            Self::File(file, error) => {
                write!(f, "\"{}\" cannot be read: {error}", Excerpt::new(file))
            }
            Self::Records(file, error) => {
                write!(f, "the records in \"{}\" cannot be used: {error}", Excerpt::new(file))
            }
            Self::Unnamed(file) => {
                write!(f, "\"{}\" is not called after a writer (WRITER.jsonl)", Excerpt::new(file))
            }
            Self::TooManyFiles(path) => {
                write!(f, "\"{}\" has more than {MAX_FILES} files with records", Excerpt::new(path))
            }
            Self::TooLarge(path) => write!(
                f,
                "the records in \"{}\" have more than {MAX_OCTETS} octets",
                Excerpt::new(path)
            ),
            Self::NotOwn(file, what) => {
                write!(f, "\"{}\" is not appended to: {what}", Excerpt::new(file))
            }
            Self::Copied(file) => write!(
                f,
                "\"{}\" was made on another machine, so it is not appended to; copies belong into \
                 peers/, or give this server a name of its own (writer=)",
                Excerpt::new(file)
            ),
            Self::Changed(file) => write!(
                f,
                "\"{}\" has been appended to by somebody else meanwhile; each server needs a name \
                 of its own (writer=)",
                Excerpt::new(file)
            ),
            Self::Locked(file) => {
                write!(f, "\"{}\" is locked by another process", Excerpt::new(file))
            }
            Self::NoRecord(file, error) => write!(
                f,
                "\"{}\" is not appended to: what there is to record could not be read again: {error}",
                Excerpt::new(file)
            ),
            Self::Full(file) => write!(
                f,
                "\"{}\" would become larger than {MAX_FILE} octets; take out of it what nobody \
                 needs any more: hpkp published compact",
                Excerpt::new(file)
            ),
            Self::Taken(file, Claimant::Process(pid)) => write!(
                f,
                "\"{}\" belongs to another running server, process {pid}; if that is an earlier \
                 instance of this server, stop it and reload this one; if it is another server, \
                 give one of the two another name (writer=)",
                Excerpt::new(file)
            ),
            Self::Taken(file, Claimant::Unseen) => write!(
                f,
                "\"{}\" belongs to another running server, whose process cannot be seen from here \
                 (in another container, or another user's); if that is an earlier instance of this \
                 server, stop it and reload this one; if it is another server, give one of the two \
                 another name (writer=)",
                Excerpt::new(file)
            ),
            Self::Write(file, error) => {
                write!(f, "\"{}\" cannot be written: {error}", Excerpt::new(file))
            }
        }
    }
}

impl std::error::Error for DirectoryError {}
