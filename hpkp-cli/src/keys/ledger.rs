//! A file in a directory of records that servers do not read: one line of JSON for each event, in
//! chronological order. Older versions of this software ignore the file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hpkp_server::file::if_there;
use rustix::fs::{FlockOperation, flock};

/// The largest file, in bytes.
pub(super) const MAX_FILE: u64 = 16 << 20;

/// Why such a file cannot be read or written. Each error names the file.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// An error of the operating system.
    #[error("{}: {}", crate::output::path(.0), crate::output::os(.1))]
    Io(PathBuf, io::Error),
    /// Larger than [`MAX_FILE`].
    #[error("{}: larger than {} MiB", crate::output::path(.0), MAX_FILE >> 20)]
    TooLarge(PathBuf),
    /// The file is of another kind than the command creates.
    #[error("{}: {}", crate::output::path(.0), .1)]
    NotOwn(PathBuf, &'static str),
    /// The line with this number is invalid or of a newer version.
    #[error("{}:{}: not the record of a {}", crate::output::path(.0), .1, .2)]
    Damaged(PathBuf, usize, &'static str),
}

/// Parses each line of the file `path`; empty if there is no such file. `what` is the kind of event, for
/// messages.
///
/// # Errors
/// See [`LedgerError`].
pub(super) fn read<T>(
    path: &Path,
    what: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, LedgerError> {
    let io = |error| LedgerError::Io(path.to_owned(), error);
    let Some(file) = if_there(open(path, false)).map_err(io)? else { return Ok(Vec::new()) };
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(LedgerError::NotOwn(path.to_owned(), "not a regular file"));
    }
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > MAX_FILE {
        return Err(LedgerError::TooLarge(path.to_owned()));
    }
    // A last line without a line feed was not written completely.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let damaged = |number| LedgerError::Damaged(path.to_owned(), number, what);
    lines.map(|(line, number)| parse(line).ok_or_else(|| damaged(number))).collect()
}

/// Appends the result of `line`, if there is one, durably, and then calls `then`. Holds a lock meanwhile,
/// so that no other process appends.
///
/// # Errors
/// See [`LedgerError`].
pub(super) fn append<E: From<LedgerError>>(
    path: &Path,
    line: impl FnOnce() -> Result<Option<String>, E>,
    then: impl FnOnce() -> Result<(), E>,
) -> Result<(), E> {
    let io = |error| LedgerError::Io(path.to_owned(), error);
    let not_own = |what| LedgerError::NotOwn(path.to_owned(), what);
    let mut file = open(path, true).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(not_own("not a regular file").into());
    }
    if metadata.nlink() > 1 {
        return Err(not_own("the file has more than one hard link").into());
    }
    flock(&file, FlockOperation::LockExclusive).map_err(|error| io(error.into()))?;
    let Some(line) = line()? else { return Ok(()) };
    match write(&mut file, path, &line).map_err(io)? {
        None => then(),
        Some(what) => Err(not_own(what).into()),
    }
}

fn write(file: &mut File, path: &Path, line: &str) -> io::Result<Option<&'static str>> {
    let length = file.metadata()?.len();
    if length + line.len() as u64 + 2 > MAX_FILE {
        return Ok(Some("the file is full; move it away"));
    }
    let end = whole_lines(file, length)?;
    if end < length {
        file.set_len(end)?;
    }
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_all()?;
    if length == 0 {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(None)
}

/// The end of the last complete line.
fn whole_lines(file: &mut File, length: u64) -> io::Result<u64> {
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(length).read_to_end(&mut text)?;
    Ok(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last as u64 + 1))
}

/// Opens the file. Does not follow a symbolic link, and does not wait for the writer of a FIFO.
fn open(path: &Path, to_write: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    if to_write {
        options.append(true).create(true);
    }
    options.open(path)
}
