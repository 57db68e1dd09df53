//! Appends to a writer's own file: all events or none, and on the disk before they are acknowledged.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use hpkp_core::published::file::MAX_FILE;
use hpkp_core::published::{Body, Event, Identity, WriterName};

use super::own::{
    first_event, is_of_this_machine, is_own, last_event, locked, machine, not_own, whole_lines,
};
use super::{Directory, DirectoryError, claim, sys};

/// Appends the events of one writer to its file in `directory`. Their numbers are consecutive, and the first follows
/// the last event that the file had when it was read. If this returns without an error, they are on the disk;
/// otherwise none of them counts.
///
/// A new file begins with a line that identifies the machine.
///
/// # Errors
/// See [`DirectoryError`]. After [`DirectoryError::Changed`] the caller may read the directory again, derive the events
/// again, and append them.
pub fn append(directory: &Directory, events: &[Event]) -> Result<(), DirectoryError> {
    append_when(directory, events, |_| Ok(()))
}

/// [`append`], unless a successor of this server has claimed the file.
///
/// # Errors
/// [`DirectoryError::Taken`] if a successor has; see [`append`] for the others.
pub fn append_alone(directory: &Directory, events: &[Event]) -> Result<(), DirectoryError> {
    append_when(directory, events, claim::has_no_successor)
}

/// `allowed` is called while the file is locked.
fn append_when(
    directory: &Directory,
    events: &[Event],
    allowed: impl FnOnce(&str) -> Result<(), DirectoryError>,
) -> Result<(), DirectoryError> {
    let Some(first) = events.first() else { return Ok(()) };
    let writer = first.writer();
    let name = Directory::own(writer);
    let path = directory.path_text(&name);
    let write = |error| DirectoryError::Write(path.clone(), error);

    // An event that cannot be read again would prevent every later configuration from being accepted.
    for event in events {
        if let Err(error) = Event::from_line(event.line().as_bytes()) {
            return Err(DirectoryError::NoRecord(path, error));
        }
    }
    let mut file = locked(&path, || sys::append_at(&directory.file, &name))?;
    allowed(&path)?;
    let machine = machine(directory);
    let end = whole_lines(&mut file).map_err(write)?;
    if file.metadata().map_err(write)?.len() > end {
        // An incomplete last line was never acknowledged, so it is removed.
        file.set_len(end).map_err(write)?;
    }
    let mut lines = String::new();
    if end == 0 {
        lines.push_str(identity(first, machine).map_err(write)?.line());
        lines.push('\n');
    } else {
        let identity = first_event(&mut file).map_err(write)?;
        is_of_this_machine(&path, identity.as_ref(), &machine)?;
        let last = last_event(&mut file, end).map_err(write)?;
        if last.is_none_or(|last| last.writer() != writer || last.seq() >= first.seq()) {
            return Err(DirectoryError::Changed(path));
        }
    }
    for event in events {
        lines.push_str(event.line());
        lines.push('\n');
    }
    if end.saturating_add(lines.len() as u64) > MAX_FILE as u64 {
        return Err(DirectoryError::Full(path));
    }
    let written = file.write_all(lines.as_bytes()).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // If this fails as well, the rest in the file is incomplete or not acknowledged: the next append or the next
        // configuration finds it.
        let _ = file.set_len(end).and_then(|()| file.sync_all());
        return Err(write(error));
    }
    if end == 0 {
        directory.file.sync_all().map_err(write)?;
    }
    Ok(())
}

/// Tests whether this process could append to the file of `writer`, without locking or creating it: a config test
/// writes nothing.
///
/// # Errors
/// See [`DirectoryError`].
pub fn can_append(directory: &Directory, writer: &WriterName) -> Result<(), DirectoryError> {
    let name = Directory::own(writer);
    let path = directory.path_text(&name);
    let can_write = |name: &str| {
        sys::is_writable(&directory.file, name)
            .map_err(|error| DirectoryError::Write(path.clone(), error))
    };
    let mut file: File = match sys::open_at(&directory.file, &name) {
        Ok(file) => file.into(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return can_write("."),
        Err(error) => return Err(DirectoryError::File(path, error)),
    };
    let metadata = file.metadata().map_err(|error| DirectoryError::File(path.clone(), error))?;
    if let Some(what) = not_own(&metadata) {
        return Err(DirectoryError::NotOwn(path, what));
    }
    is_own(directory, &mut file, &path)?;
    can_write(&name)
}

/// The number of the last event in the file of `writer`; 0 if it has none.
///
/// # Errors
/// See [`DirectoryError`].
pub fn last_seq(directory: &Directory, writer: &WriterName) -> Result<u64, DirectoryError> {
    let name = Directory::own(writer);
    let path = directory.path_text(&name);
    let failed = |error| DirectoryError::File(path.clone(), error);
    let mut file: File = sys::open_at(&directory.file, &name).map_err(failed)?.into();
    let end = whole_lines(&mut file).map_err(failed)?;
    let last = last_event(&mut file, end).map_err(failed)?;
    Ok(last.map_or(0, |last| last.seq()))
}

/// The first line of a new file.
fn identity(first: &Event, machine: String) -> io::Result<Event> {
    let mut random = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let instance = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let writer: WriterName = first.writer().clone();
    let number = first.seq().saturating_sub(1);
    Ok(Event::new(first.at(), number, writer, Body::Writer(Identity { instance, machine })))
}
