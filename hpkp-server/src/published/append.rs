//! Appending to a writer's own file: all or nothing, and on the disk when it has been acknowledged.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::thread;
use std::time::{Duration, Instant};

use hpkp_core::published::file::MAX_FILE;
use hpkp_core::published::line::MAX_LINE;
use hpkp_core::published::{Body, Event, Identity, WriterName};

use super::{Directory, DirectoryError, MARKER, claim, sys};

/// How long to wait for the lock of a file. A server must not stand still for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Appends the events of one writer to its file in `directory`. They follow each other in number, and
/// the first follows the last that the file had when it was read. When this returns without an
/// error, they are on the disk; else, none of them counts.
///
/// A new file begins with a line that says which machine it belongs to.
///
/// # Errors
/// See [`DirectoryError`]. After [`DirectoryError::Changed`] the directory may be read anew, the
/// events worked out anew, and appended.
pub fn append(directory: &Directory, events: &[Event]) -> Result<(), DirectoryError> {
    append_when(directory, events, |_| Ok(()))
}

/// As [`append`], where no successor of this server has claimed the file.
///
/// # Errors
/// [`DirectoryError::Taken`] where one has; see [`append`] for the others.
pub fn append_alone(directory: &Directory, events: &[Event]) -> Result<(), DirectoryError> {
    append_when(directory, events, claim::has_no_successor)
}

/// `allowed` is asked under the file's lock.
fn append_when(
    directory: &Directory,
    events: &[Event],
    allowed: impl FnOnce(&str) -> Result<(), DirectoryError>,
) -> Result<(), DirectoryError> {
    let Some(first) = events.first() else { return Ok(()) };
    let writer = first.writer();
    let name = Directory::own(writer);
    let shown = directory.shown(&name);
    let write = |error| DirectoryError::Write(shown.clone(), error);

    // What could not be read again would keep every configuration from being accepted.
    for event in events {
        if let Err(error) = Event::from_line(event.line().as_bytes()) {
            return Err(DirectoryError::NoRecord(shown, error));
        }
    }
    let mut file = locked(&shown, || sys::append_at(&directory.file, &name))?;
    allowed(&shown)?;
    let machine = machine(directory);
    let end = whole_lines(&mut file).map_err(write)?;
    if file.metadata().map_err(write)?.len() > end {
        // What was never finished was never acknowledged.
        file.set_len(end).map_err(write)?;
    }
    let mut lines = String::new();
    if end == 0 {
        lines.push_str(identity(first, machine).map_err(write)?.line());
        lines.push('\n');
    } else {
        let identity = first_event(&mut file).map_err(write)?;
        is_of_this_machine(&shown, identity.as_ref(), &machine)?;
        let last = last_event(&mut file, end).map_err(write)?;
        if last.is_none_or(|last| last.writer() != writer || last.seq() >= first.seq()) {
            return Err(DirectoryError::Changed(shown));
        }
    }
    for event in events {
        lines.push_str(event.line());
        lines.push('\n');
    }
    if end.saturating_add(lines.len() as u64) > MAX_FILE as u64 {
        return Err(DirectoryError::Full(shown));
    }
    let written = file.write_all(lines.as_bytes()).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Where this fails too, what stands there is torn or unacknowledged: the next append, or
        // the next configuration, finds it.
        let _ = file.set_len(end).and_then(|()| file.sync_all());
        return Err(write(error));
    }
    if end == 0 {
        directory.file.sync_all().map_err(write)?;
    }
    Ok(())
}

/// Whether the file of `writer` is one that this process would append to, without a lock and without
/// making it: a configuration test writes nothing.
///
/// # Errors
/// See [`DirectoryError`].
pub fn can_append(directory: &Directory, writer: &WriterName) -> Result<(), DirectoryError> {
    let name = Directory::own(writer);
    let shown = directory.shown(&name);
    let mut file: File = match sys::open_at(&directory.file, &name) {
        Ok(file) => file.into(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(DirectoryError::File(shown, error)),
    };
    let metadata = file.metadata().map_err(|error| DirectoryError::File(shown.clone(), error))?;
    if let Some(what) = not_own(&metadata) {
        return Err(DirectoryError::NotOwn(shown, what));
    }
    is_own(directory, &mut file, &shown)
}

/// Why a file is none to append to.
fn not_own(metadata: &Metadata) -> Option<&'static str> {
    match () {
        () if !metadata.is_file() => Some("not a regular file"),
        () if metadata.nlink() > 1 => Some("the file has more than one hard link"),
        () if metadata.uid() != sys::effective_user() => Some("the file belongs to another user"),
        () => None,
    }
}

/// The number of the last event in the file of `writer`; 0 where it has none.
///
/// # Errors
/// See [`DirectoryError`].
pub fn last_seq(directory: &Directory, writer: &WriterName) -> Result<u64, DirectoryError> {
    let name = Directory::own(writer);
    let shown = directory.shown(&name);
    let failed = |error| DirectoryError::File(shown.clone(), error);
    let mut file: File = sys::open_at(&directory.file, &name).map_err(failed)?.into();
    let end = whole_lines(&mut file).map_err(failed)?;
    let last = last_event(&mut file, end).map_err(failed)?;
    Ok(last.map_or(0, |last| last.seq()))
}

/// A writer's own file, locked. Whoever has the lock may put another file in its place; then it is
/// opened anew.
pub(super) fn locked(
    shown: &str,
    open: impl Fn() -> io::Result<OwnedFd>,
) -> Result<File, DirectoryError> {
    let write = |error| DirectoryError::Write(shown.to_owned(), error);
    let started = Instant::now();
    loop {
        let file: File = open().map_err(write)?.into();
        let metadata = file.metadata().map_err(write)?;
        if let Some(what) = not_own(&metadata) {
            return Err(DirectoryError::NotOwn(shown.to_owned(), what));
        }
        let is_locked = sys::lock(&file).map_err(write)?;
        if is_locked && file.metadata().map_err(write)?.nlink() == 1 {
            return Ok(file);
        }
        if started.elapsed() > PATIENCE {
            return Err(DirectoryError::Locked(shown.to_owned()));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Fails where a file was made on another machine; an empty one has yet to be.
pub(super) fn is_own(
    directory: &Directory,
    file: &mut File,
    shown: &str,
) -> Result<(), DirectoryError> {
    let failed = |error| DirectoryError::Write(shown.to_owned(), error);
    if whole_lines(file).map_err(failed)? == 0 {
        return Ok(());
    }
    let first = first_event(file).map_err(failed)?;
    is_of_this_machine(shown, first.as_ref(), &machine(directory))
}

/// Whether a file with this first line was made on `machine`, as [`machine`] gives it.
pub(super) fn is_of_this_machine(
    shown: &str,
    first: Option<&Event>,
    machine: &str,
) -> Result<(), DirectoryError> {
    match first.map(Event::body) {
        Some(Body::Writer(identity)) if identity.machine == machine => Ok(()),
        Some(Body::Writer(_)) => Err(DirectoryError::Copied(shown.to_owned())),
        _ => Err(DirectoryError::NotOwn(shown.to_owned(), "the file does not name its writer")),
    }
}

/// Where the last whole line ends.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let len = file.metadata()?.len();
    let tail = tail(file, len)?;
    match tail.iter().rposition(|octet| *octet == b'\n') {
        Some(last) => Ok(len - (tail.len() - last - 1) as u64),
        None if tail.len() as u64 == len => Ok(0),
        None => Err(damaged("the last line is longer than any record")),
    }
}

/// The octets before `end`, as many as one record may have and a line feed on either side.
fn tail(file: &mut File, end: u64) -> io::Result<Vec<u8>> {
    let start = end.saturating_sub(MAX_LINE as u64 + 2);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    io::Read::by_ref(file).take(end - start).read_to_end(&mut tail)?;
    Ok(tail)
}

fn first_event(file: &mut File) -> io::Result<Option<Event>> {
    file.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    io::Read::by_ref(file).take(MAX_LINE as u64 + 1).read_to_end(&mut head)?;
    let line = head.split(|octet| *octet == b'\n').next();
    Ok(line.and_then(|line| Event::from_line(line).ok()))
}

fn last_event(file: &mut File, end: u64) -> io::Result<Option<Event>> {
    let tail = tail(file, end)?;
    let line = tail.strip_suffix(b"\n").and_then(|lines| lines.rsplit(|o| *o == b'\n').next());
    Ok(line.and_then(|line| Event::from_line(line).ok()))
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The first line of a new file.
fn identity(first: &Event, machine: String) -> io::Result<Event> {
    let mut random = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let instance = random.iter().map(|octet| format!("{octet:02x}")).collect();
    let writer: WriterName = first.writer().clone();
    let number = first.seq().saturating_sub(1);
    Ok(Event::new(first.at(), number, writer, Body::Writer(Identity { instance, machine })))
}

/// What tells this machine from others. Machines made from one image that have the same id count as
/// one. Without an id, as in most containers, the place of the directory is what stays when the container
/// is made anew: its marker has another number where the directory was copied.
pub(super) fn machine(directory: &Directory) -> String {
    let ids = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
    let id = ids.iter().find_map(|path| {
        let id = std::fs::read(path).ok()?;
        let id = id.trim_ascii();
        (!id.is_empty()).then(|| id.to_owned())
    });
    Identity::machine_of(&id.unwrap_or_else(|| place(directory)))
}

/// What tells the directory from its copies.
fn place(directory: &Directory) -> Vec<u8> {
    let marker = sys::open_at(&directory.file, MARKER).map(File::from);
    let metadata = marker.and_then(|marker| marker.metadata());
    metadata.map_or_else(|_| Vec::new(), |found| format!("place {}", found.ino()).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_told_from_its_copies() {
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
