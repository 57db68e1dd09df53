//! A writer's file belongs to one running server. A second one under the same name would end what
//! the first has published and still publishes.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, PoisonError};

use hpkp_core::published::WriterName;

use super::{Directory, DirectoryError, sys};

/// The file that this process, or the one that it was forked from, has claimed. It stays open as
/// long as they live, over all reloads.
static CLAIMED: Mutex<Option<File>> = Mutex::new(None);

/// Claims the file of `writer` in `directory` for this server, until it ends or claims another one.
/// The file is made where it is missing.
///
/// # Errors
/// [`DirectoryError::Taken`] where another server has it; see [`DirectoryError`] for the others.
pub fn claim(directory: &Directory, writer: &WriterName) -> Result<(), DirectoryError> {
    let name = Directory::own(writer);
    let shown = directory.shown(&name);
    let failed = |error| DirectoryError::Write(shown.clone(), error);
    let file: File = sys::append_at(&directory.file, &name).map_err(failed)?.into();
    let identity = |file: &File| file.metadata().map(|found| (found.dev(), found.ino()));
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = identity(&file).map_err(failed)?;
    if claimed.as_ref().is_some_and(|claimed| identity(claimed).is_ok_and(|it| it == wanted)) {
        return Ok(());
    }
    if !sys::claim(&file).map_err(failed)? {
        return Err(DirectoryError::Taken(shown));
    }
    *claimed = Some(file);
    Ok(())
}
