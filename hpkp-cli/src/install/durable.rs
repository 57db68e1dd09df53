//! Makes writes survive a crash.

use std::fs::File;
use std::io;
use std::path::Path;

/// Waits until the entries of a directory are on disk.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
