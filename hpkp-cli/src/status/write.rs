//! Writes the result to standard output, or to a file that is replaced as a whole.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Writes to standard output.
pub(super) fn standard(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes a file that other users may read. Readers get either the old or the new text, never a part: the
/// new text is written to another file, whose name the textfile collector ignores, and renamed.
pub(super) fn file(path: &Path, text: &str) -> io::Result<()> {
    // A file of another kind, such as /dev/stdout, is written directly.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return std::fs::write(path, text);
    }
    // A symbolic link is kept; its target is replaced.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let directory =
        path.parent().filter(|parent| *parent != OsStr::new("")).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".hpkp-").suffix(".tmp").permissions(Permissions::from_mode(0o644));
    let mut file = builder.tempfile_in(directory).map_err(without_name)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(())
}

/// The error without the name of the temporary file, which would not help the user.
fn without_name(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(std::error::Error::source);
    let number = inner.and_then(|inner| inner.downcast_ref::<io::Error>()?.raw_os_error());
    number.or(error.raw_os_error()).map_or(error, io::Error::from_raw_os_error)
}
