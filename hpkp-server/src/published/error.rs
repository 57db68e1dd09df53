//! Why records cannot be read or written.

use std::io;

use hpkp_core::finding::Text;
use hpkp_core::published::file::{FileError, MAX_FILE};
use hpkp_core::published::line::LineError;
use hpkp_core::text::{Excerpt, ShellWord};

use super::MARKER;
use super::claim::Claimant;
use crate::file::reason;

/// Why a directory with records cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The directory cannot be opened, or is a symbolic link or not a directory.
    #[error("{}", cannot_open(.0))]
    Open(io::Error),
    /// The directory belongs to a user who is neither root nor the user of this process; the user's id.
    #[error("the directory belongs to user {0}, not to root or the user of the server")]
    Owner(u32),
    /// The directory cannot be created.
    #[error("{}", reason(.0))]
    Init(io::Error),
    /// Other users may write to the directory; its path and mode.
    #[error(
        "other users can write to the directory (mode {:o}); to fix: chmod go-w {}; if a volume is \
         always mounted so, make a directory inside it, as the user of the server: hpkp published init {}",
        .1, ShellWord::new(.0), ShellWord::new(&inside(.0))
    )]
    Mode(String, u32),
    /// The directory has no marker, so it may be the mount point of a volume that is missing.
    #[error(
        "no file \"{MARKER}\", so a volume may not be mounted there; only for a new installation: hpkp published init"
    )]
    NoMarker,
    /// Its marker cannot be read.
    #[error("cannot read the file \"{MARKER}\": {}", reason(.0))]
    Marker(io::Error),
    /// The directory has another version of the format; the version in the marker.
    #[error("unsupported format version \"{}\", update this software", Excerpt::new(.0))]
    Version(String),
    /// A file cannot be read; its path and the reason.
    #[error("cannot read \"{}\": {}", Excerpt::new(.0), reason(.1))]
    File(String, io::Error),
    /// A file contains something that is not a record; its path and the error.
    #[error("cannot use the records in \"{}\": {}", Excerpt::new(.0), .1)]
    Records(String, FileError),
    /// A file with records whose name is not that of a writer.
    #[error("\"{}\" does not have the name of a writer (WRITER.jsonl)", Excerpt::new(.0))]
    Unnamed(String),
    /// A directory has too many files that are read as a whole; its path and the limit.
    #[error("\"{}\" has more than {} files with records that are not indexed", Excerpt::new(.0), .1)]
    TooManyFiles(String, usize),
    /// The records to read in a directory have too many bytes; its path and the limit.
    #[error("the records in \"{}\" that are to be read have more than {} bytes", Excerpt::new(.0), .1)]
    TooLarge(String, usize),
    /// The file of the writer is not a file of its own; its path and what is wrong.
    #[error("cannot append to \"{}\": {}", Excerpt::new(.0), .1)]
    NotOwn(String, &'static str),
    /// The file of the writer was made on another machine: it is a copy.
    #[error(
        "cannot append to \"{}\": the file was made on another machine; move a copy to peers/, or set writer= to a \
         name that only this server has",
        Excerpt::new(.0)
    )]
    Copied(String),
    /// Another process has appended to the file of the writer since it was read.
    #[error(
        "another process has appended to \"{}\"; each server needs a writer name of its own (writer=)",
        Excerpt::new(.0)
    )]
    Changed(String),
    /// Another process holds the lock of the writer's file for too long.
    #[error("another process has locked \"{}\"", Excerpt::new(.0))]
    Locked(String),
    /// A record was not written, because it could not be read again; the file and the error.
    #[error("cannot append to \"{}\": the new record would be unreadable: {}", Excerpt::new(.0), .1)]
    NoRecord(String, LineError),
    /// The file of the writer would become too large to be read.
    #[error(
        "cannot append to \"{}\": it would exceed {MAX_FILE} bytes; remove records that have expired: hpkp published \
         -d {} compact",
        Excerpt::new(.0), ShellWord::new(directory(.0))
    )]
    Full(String),
    /// The file of the writer belongs to another running server; its path and that server.
    #[error(
        "\"{}\" is in use by another running server, {}; if that is an earlier instance of this server, stop it and \
         reload this one; if it is another server, give one of the two another name (writer=)",
        Excerpt::new(.0), .1
    )]
    Taken(String, Claimant),
    /// The records could not be written; the file and the reason.
    #[error("cannot write \"{}\": {}", Excerpt::new(.0), reason(.1))]
    Write(String, io::Error),
}

impl DirectoryError {
    /// Whether the file of the writer contains another server's records.
    #[must_use]
    pub fn is_of_another_server(&self) -> bool {
        matches!(self, Self::Copied(_) | Self::Taken(..))
    }

    /// The file with the error, or the directory whose files were not read.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::File(file, _)
            | Self::Records(file, _)
            | Self::Unnamed(file)
            | Self::TooManyFiles(file, _)
            | Self::TooLarge(file, _) => Some(file),
            _ => None,
        }
    }

    /// The text of the error for the directory at `path`, with its remedy.
    #[must_use]
    pub fn text(&self, path: &str) -> Text {
        let excerpt = Excerpt::new(path);
        let word = ShellWord::new(path);
        let only_if_new = format!("only for a new installation: hpkp published init {word}");
        let text = match self {
            Self::Open(error) if error.kind() == io::ErrorKind::NotFound => {
                return Text::new(format!("\"{excerpt}\" does not exist"))
                    .fix(format!("mount or restore {word}"))
                    .fix(only_if_new);
            }
            Self::NoMarker => {
                return Text::new(format!(
                    "\"{excerpt}\" has no file \"{MARKER}\", so a volume may not be mounted there"
                ))
                .fix(format!("mount the volume, or restore {word}"))
                .fix(only_if_new);
            }
            Self::Mode(_, mode) => {
                return Text::new(format!(
                    "\"{excerpt}\": other users can write to the directory (mode {mode:o})"
                ))
                .fix(format!("chmod go-w {word}"))
                .fix(format!(
                    "if a volume is always mounted so, make a directory inside it, as the user of the \
                     server, and configure that directory: hpkp published init {}",
                    ShellWord::new(&inside(path))
                ));
            }
            Self::Open(_) | Self::Owner(_) | Self::Marker(_) | Self::Version(_) => {
                Text::new(format!("\"{excerpt}\": {self}"))
            }
            _ => Text::new(self.to_string()),
        };
        match self {
            Self::Owner(_) => text.fix(format!("chown root {word}")),
            Self::Version(_) => text.fix("update this software"),
            Self::File(..) | Self::Records(..) => {
                text.fix("restore the file from a backup").fix(verify(path))
            }
            Self::Unnamed(file) => {
                text.fix(format!("move the file out of the directory: {}", ShellWord::new(file)))
            }
            // Compacting is no remedy for files that cannot be read.
            Self::TooManyFiles(directory, _) | Self::TooLarge(directory, _) => text
                .fix(format!(
                    "for copies of other machines' records in peers/: let hpkp sync index them: hpkp sync -d {} STORE",
                    ShellWord::new(path)
                ))
                .fix(format!(
                "move the files of servers that are gone, and whose pins have expired, to another directory; \
                 the oldest first: ls -tr {}",
                ShellWord::new(directory)
            )),
            _ => text,
        }
    }
}

/// A directory inside the one at `path`.
fn inside(path: &str) -> String {
    format!("{}/hpkp", path.trim_end_matches('/'))
}

/// The command that lists what is wrong with records.
fn verify(path: &str) -> String {
    format!("list all problems: hpkp published -d {} verify", ShellWord::new(path))
}

/// Why the directory cannot be opened.
fn cannot_open(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "the directory does not exist: mount or restore it; only for a new installation: \
            hpkp published init"
                .to_owned()
        }
        _ => format!("cannot open as a directory: {}", reason(error)),
    }
}

/// The directory that the file is in.
fn directory(file: &str) -> &str {
    file.rsplit_once('/').map_or(".", |(directory, _)| directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that had records must not begin without them because a volume is missing.
    #[test]
    fn a_missing_directory_is_mounted_before_it_is_made() {
        let missing = || io::Error::from_raw_os_error(libc::ENOENT);
        for error in [DirectoryError::Open(missing()), DirectoryError::NoMarker] {
            let text = error.text("/srv/my pins");
            assert!(text.what.starts_with("\"/srv/my pins\" "), "{text:?}");
            assert!(text.fix[0].starts_with("mount "), "{text:?}");
            let last = text.fix.last().expect("a way out");
            assert_eq!(
                last, "only for a new installation: hpkp published init '/srv/my pins'",
                "{text:?}"
            );
        }
        let text = DirectoryError::File("/srv/a".into(), missing()).text("/srv");
        assert_eq!(text.what, "cannot read \"/srv/a\": no such file or directory");
        // A server that only reads the directory cannot repair it.
        assert_eq!(text.fix[0], "restore the file from a backup");
    }
}
