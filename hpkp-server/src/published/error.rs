//! Why records cannot be read or written.

use std::fmt;
use std::io;

use hpkp_core::finding::Text;
use hpkp_core::published::file::{FileError, MAX_FILE};
use hpkp_core::published::line::LineError;
use hpkp_core::text::{Excerpt, ShellWord};

use super::MARKER;
use super::claim::Claimant;
use crate::file::reason;

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
    /// A directory, held here, has more files than so many, which are read as a whole.
    TooManyFiles(String, usize),
    /// More bytes than so many are to be read in a directory, held here.
    TooLarge(String, usize),
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
            | Self::TooManyFiles(file, _)
            | Self::TooLarge(file, _) => Some(file),
            _ => None,
        }
    }
}

impl DirectoryError {
    /// What is wrong with the directory at `path`, and how it is put right.
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
            // What cannot be read cannot be compacted either.
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

/// A directory in the one at `path`.
fn inside(path: &str) -> String {
    format!("{}/hpkp", path.trim_end_matches('/'))
}

/// The command that lists what is wrong with records.
fn verify(path: &str) -> String {
    format!("list all problems: hpkp published -d {} verify", ShellWord::new(path))
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => cannot_open(f, error),
            Self::Owner(user) => {
                write!(
                    f,
                    "the directory belongs to user {user}, not to root or the user of the server"
                )
            }
            Self::Init(error) => write!(f, "{}", reason(error)),
            Self::Mode(path, mode) => writable_by_others(f, path, *mode),
            Self::NoMarker => write!(
                f,
                "no file \"{MARKER}\", so a volume may not be mounted there; only for a new \
                 installation: hpkp published init"
            ),
            Self::Marker(error) => {
                write!(f, "cannot read the file \"{MARKER}\": {}", reason(error))
            }
            Self::Version(version) => write!(
                f,
                "unsupported format version \"{}\", update this software",
                Excerpt::new(version)
            ),
            Self::File(file, error) => {
                write!(f, "cannot read \"{}\": {}", Excerpt::new(file), reason(error))
            }
            Self::Records(file, error) => {
                write!(f, "cannot use the records in \"{}\": {error}", Excerpt::new(file))
            }
            Self::Unnamed(file) => write!(
                f,
                "\"{}\" does not have the name of a writer (WRITER.jsonl)",
                Excerpt::new(file)
            ),
            Self::TooManyFiles(path, most) => write!(
                f,
                "\"{}\" has more than {most} files with records that are not indexed",
                Excerpt::new(path)
            ),
            Self::TooLarge(path, most) => write!(
                f,
                "the records in \"{}\" that are to be read have more than {most} bytes",
                Excerpt::new(path)
            ),
            Self::NotOwn(file, what) => cannot_append(f, file, what),
            Self::Copied(file) => cannot_append(f, file, &COPIED),
            Self::Changed(file) => changed(f, file),
            Self::Locked(file) => {
                write!(f, "another process has locked \"{}\"", Excerpt::new(file))
            }
            Self::NoRecord(file, error) => {
                cannot_append(f, file, &format_args!("the new record would be unreadable: {error}"))
            }
            Self::Full(file) => full(f, file),
            Self::Taken(file, claimant) => in_use(f, file, *claimant),
            Self::Write(file, error) => {
                write!(f, "cannot write \"{}\": {}", Excerpt::new(file), reason(error))
            }
        }
    }
}

/// Why a copy of another machine's file is not appended to.
const COPIED: &str = "the file was made on another machine; move a copy to peers/, or set writer= to a name \
                      that only this server has";

fn cannot_open(f: &mut fmt::Formatter<'_>, error: &io::Error) -> fmt::Result {
    match error.kind() {
        io::ErrorKind::NotFound => f.write_str(
            "the directory does not exist: mount or restore it; only for a new installation: hpkp \
             published init",
        ),
        _ => write!(f, "cannot open as a directory: {}", reason(error)),
    }
}

fn writable_by_others(f: &mut fmt::Formatter<'_>, path: &str, mode: u32) -> fmt::Result {
    write!(
        f,
        "other users can write to the directory (mode {mode:o}); to fix: chmod go-w {}; if a volume is \
         always mounted so, make a directory inside it, as the user of the server: hpkp published init {}",
        ShellWord::new(path),
        ShellWord::new(&inside(path))
    )
}

fn cannot_append(f: &mut fmt::Formatter<'_>, file: &str, why: &dyn fmt::Display) -> fmt::Result {
    write!(f, "cannot append to \"{}\": {why}", Excerpt::new(file))
}

fn changed(f: &mut fmt::Formatter<'_>, file: &str) -> fmt::Result {
    write!(
        f,
        "another process has appended to \"{}\"; each server needs a writer name of its own (writer=)",
        Excerpt::new(file)
    )
}

fn full(f: &mut fmt::Formatter<'_>, file: &str) -> fmt::Result {
    let directory = file.rsplit_once('/').map_or(".", |(directory, _)| directory);
    let command = format!("hpkp published -d {} compact", ShellWord::new(directory));
    let why =
        format!("it would exceed {MAX_FILE} bytes; remove records that have expired: {command}");
    cannot_append(f, file, &why)
}

fn in_use(f: &mut fmt::Formatter<'_>, file: &str, claimant: Claimant) -> fmt::Result {
    write!(f, "\"{}\" is in use by another running server, ", Excerpt::new(file))?;
    match claimant {
        Claimant::Process(pid) => write!(f, "process {pid}")?,
        Claimant::Unseen => f.write_str(
            "whose process is not visible from here (another container or another user's)",
        )?,
    }
    f.write_str(
        "; if that is an earlier instance of this server, stop it and reload this one; if it is another \
         server, give one of the two another name (writer=)",
    )
}

impl std::error::Error for DirectoryError {}

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
        // What only reads repairs nothing.
        assert_eq!(text.fix[0], "restore the file from a backup");
    }
}
