//! Compacts a writer's own file: a new file replaces it, complete and on the disk, or nothing changes.

use std::fs::File;
use std::io::{Read as _, Write as _};

use hpkp_core::published::{Event, WriterName, file};

use super::own::{is_of_this_machine, locked, machine};
use super::{Directory, DirectoryError, sys};

/// The result of compacting a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The number of lines before.
    pub before: usize,
    /// The number of lines now.
    pub after: usize,
}

/// Removes from the file of `writer` in `directory` the events that are not needed. `needed` is called with the events
/// while the file is locked, and returns for each whether it is needed. The first line, which identifies the file,
/// stays. With `dry_run` nothing is written.
///
/// # Errors
/// See [`DirectoryError`]; the file is then unchanged.
pub fn compact(
    directory: &Directory,
    writer: &WriterName,
    dry_run: bool,
    needed: impl FnOnce(&[Event]) -> Vec<bool>,
) -> Result<Compacted, DirectoryError> {
    let name = Directory::own(writer);
    let path = directory.path_text(&name);
    let write = |error| DirectoryError::Write(path.clone(), error);

    // The events are read from the locked file itself, not by its name.
    let mut own = locked(&path, || sys::open_at(&directory.file, &name))?;
    let mut bytes = Vec::new();
    let most = file::MAX_FILE as u64 + 1;
    std::io::Read::by_ref(&mut own)
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|error| DirectoryError::File(path.clone(), error))?;
    let events =
        file::read(&bytes).map_err(|error| DirectoryError::Records(path.clone(), error))?.events;
    is_of_this_machine(&path, events.first(), &machine(directory))?;
    let needed = std::iter::once(true).chain(needed(&events).into_iter().skip(1));
    let left = events.iter().zip(needed);
    let left: Vec<&Event> = left.filter_map(|(event, needed)| needed.then_some(event)).collect();
    let compacted = Compacted { before: events.len(), after: left.len() };
    if dry_run || left.len() == events.len() {
        return Ok(compacted);
    }

    let mut lines = String::new();
    for event in left {
        lines.push_str(event.line());
        lines.push('\n');
    }
    // Readers ignore a file with this name. One that is left from an interrupted attempt is overwritten.
    let new = format!(".{name}.new");
    let replaced = sys::remove_at(&directory.file, &new)
        .and_then(|()| sys::append_at(&directory.file, &new))
        .map(File::from)
        .and_then(|mut file| file.write_all(lines.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| sys::rename_at(&directory.file, &new, &name));
    if let Err(error) = replaced {
        let _ = sys::remove_at(&directory.file, &new);
        return Err(write(error));
    }
    directory.file.sync_all().map_err(write)?;
    Ok(compacted)
}
