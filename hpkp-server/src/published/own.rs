//! A writer's own file: locks it, distinguishes it from a copy, and reads its first and last line.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::thread;
use std::time::{Duration, Instant};

use hpkp_core::published::line::MAX_LINE;
use hpkp_core::published::{Body, Event, Identity};

use super::{Directory, DirectoryError, MARKER, sys};
use crate::owner::effective_user;

/// How long to wait for the lock of a file. A server must not wait long for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why it is not allowed to append to a file.
pub(super) fn not_own(metadata: &Metadata) -> Option<&'static str> {
    match () {
        () if !metadata.is_file() => Some("not a regular file"),
        () if metadata.nlink() > 1 => Some("the file has more than one hard link"),
        () if metadata.uid() != effective_user() => Some("the file belongs to another user"),
        () => None,
    }
}

/// Opens and locks a writer's own file. The previous holder of the lock may have replaced the file; it is then opened
/// again.
pub(super) fn locked(
    path: &str,
    open: impl Fn() -> io::Result<OwnedFd>,
) -> Result<File, DirectoryError> {
    let write = |error| DirectoryError::Write(path.to_owned(), error);
    let started = Instant::now();
    loop {
        let file: File = open().map_err(write)?.into();
        let metadata = file.metadata().map_err(write)?;
        if let Some(what) = not_own(&metadata) {
            return Err(DirectoryError::NotOwn(path.to_owned(), what));
        }
        let is_locked = sys::lock(&file).map_err(write)?;
        if is_locked && file.metadata().map_err(write)?.nlink() == 1 {
            return Ok(file);
        }
        if started.elapsed() > PATIENCE {
            return Err(DirectoryError::Locked(path.to_owned()));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Fails if a file was made on another machine. An empty file is new.
pub(super) fn is_own(
    directory: &Directory,
    file: &mut File,
    path: &str,
) -> Result<(), DirectoryError> {
    let failed = |error| DirectoryError::Write(path.to_owned(), error);
    if whole_lines(file).map_err(failed)? == 0 {
        return Ok(());
    }
    let first = first_event(file).map_err(failed)?;
    is_of_this_machine(path, first.as_ref(), &machine(directory))
}

/// Whether a file with this first line was made on `machine`, as [`machine`] gives it.
pub(super) fn is_of_this_machine(
    path: &str,
    first: Option<&Event>,
    machine: &str,
) -> Result<(), DirectoryError> {
    match first.map(Event::body) {
        Some(Body::Writer(identity)) if identity.machine == machine => Ok(()),
        Some(Body::Writer(_)) => Err(DirectoryError::Copied(path.to_owned())),
        _ => Err(DirectoryError::NotOwn(path.to_owned(), "the file does not name its writer")),
    }
}

/// The offset at which the last complete line ends.
pub(super) fn whole_lines(file: &mut File) -> io::Result<u64> {
    let len = file.metadata()?.len();
    let tail = tail(file, len)?;
    match tail.iter().rposition(|byte| *byte == b'\n') {
        Some(last) => Ok(len - (tail.len() - last - 1) as u64),
        None if tail.len() as u64 == len => Ok(0),
        None => Err(damaged("the last line is longer than any record")),
    }
}

/// The bytes before `end`: at most the longest record and a line feed on either side.
fn tail(file: &mut File, end: u64) -> io::Result<Vec<u8>> {
    let start = end.saturating_sub(MAX_LINE as u64 + 2);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    io::Read::by_ref(file).take(end - start).read_to_end(&mut tail)?;
    Ok(tail)
}

pub(super) fn first_event(file: &mut File) -> io::Result<Option<Event>> {
    file.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    io::Read::by_ref(file).take(MAX_LINE as u64 + 1).read_to_end(&mut head)?;
    let line = head.split(|byte| *byte == b'\n').next();
    Ok(line.and_then(|line| Event::from_line(line).ok()))
}

pub(super) fn last_event(file: &mut File, end: u64) -> io::Result<Option<Event>> {
    let tail = tail(file, end)?;
    let line =
        tail.strip_suffix(b"\n").and_then(|lines| lines.rsplit(|byte| *byte == b'\n').next());
    Ok(line.and_then(|line| Event::from_line(line).ok()))
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The identification of this machine. Machines from one image with the same machine id count as one. Most containers
/// have no machine id; then the directory identifies the machine, since it stays when the container is replaced. If
/// the directory is copied, its marker has another inode number.
pub(super) fn machine(directory: &Directory) -> String {
    let ids = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
    let id = ids.iter().find_map(|path| {
        let id = std::fs::read(path).ok()?;
        let id = id.trim_ascii();
        (!id.is_empty()).then(|| id.to_owned())
    });
    Identity::machine_of(&id.unwrap_or_else(|| place(directory)))
}

/// An identification that distinguishes the directory from its copies.
fn place(directory: &Directory) -> Vec<u8> {
    let marker = sys::open_at(&directory.file, MARKER).map(File::from);
    let metadata = marker.and_then(|marker| marker.metadata());
    metadata.map_or_else(|_| Vec::new(), |found| format!("place {}", found.ino()).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_distinguished_from_its_copies() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| {
            let path = dir.path().join(name).to_str().unwrap().to_owned();
            crate::published::init(&path).unwrap();
            Directory::open(&path).unwrap()
        });
        assert_eq!(place(&one), place(&Directory::open(one.path()).unwrap()));
        assert_ne!(place(&one), place(&two));
    }
}
