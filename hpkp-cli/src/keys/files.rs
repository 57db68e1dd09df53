//! Writes new files completely or not at all, never over an existing file, and durably before a result is
//! printed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::output;

/// A file to create.
pub(super) struct New<'a> {
    pub(super) path: &'a Path,
    pub(super) content: &'a [u8],
    /// Whether other users may read the file.
    pub(super) is_public: bool,
}

/// Fails early if a file exists, before the user types a passphrase.
pub(super) fn must_be_new(path: &Path) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Ok(_) => Err(exists(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(cannot(path, &error)),
    }
}

/// Creates all of the files, or none.
pub(super) fn create(files: &[New<'_>]) -> Result<(), Failure> {
    let mut made = Made(Vec::new());
    // Creates all files before any is written, so that an existing file or a missing permission is detected
    // first.
    for New { path, is_public, .. } in files {
        let mode = if *is_public { 0o644 } else { 0o600 };
        let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        match opened {
            Ok(file) => made.0.push((path.to_path_buf(), file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(exists(path)),
            Err(error) => return Err(cannot(path, &error)),
        }
    }
    for (New { path, content, is_public }, (_, file)) in files.iter().zip(&mut made.0) {
        let written = match is_public {
            true => Ok(()),
            // A umask or a default access control list may have set another mode.
            false => file.set_permissions(Permissions::from_mode(0o600)),
        };
        written
            .and_then(|()| file.write_all(content))
            .and_then(|()| file.sync_all())
            .map_err(|error| cannot(path, &error))?;
        if !is_public
            && file.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
        {
            output::complain(&format!(
                "{}: others may read the file, since its file system keeps no permissions",
                output::path(path)
            ));
        }
    }
    for New { path, .. } in files {
        sync_directory(path).map_err(|error| cannot(path, &error))?;
    }
    made.0.clear();
    Ok(())
}

/// Makes a file's name durable, by syncing its directory. Some file systems do not support this, which is
/// no error.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match File::open(parent.unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all()) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// Files that were created. They are removed unless all of them were written.
struct Made(Vec<(PathBuf, File)>);

impl Drop for Made {
    fn drop(&mut self) {
        for (path, file) in self.0.drain(..) {
            // A part of a key may have been written. Truncating removes it from the file before the file is
            // unlinked.
            let _ = file.set_len(0);
            let _ = fs::remove_file(path);
        }
    }
}

fn exists(path: &Path) -> Failure {
    Failure::no(format!(
        "{}: exists already, and nothing is overwritten; choose another name",
        output::path(path)
    ))
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::undetermined(format!(
        "{}: cannot create the file: {}",
        output::path(path),
        output::os(error)
    ))
}

/// Inserts a word before the extension of a file name: `backup.key` becomes `backup.rsa.key`.
pub(super) fn with_kind(path: &Path, kind: &str) -> PathBuf {
    match path.extension() {
        Some(extension) => {
            let mut ending = std::ffi::OsString::from(kind);
            ending.push(".");
            ending.push(extension);
            path.with_extension(ending)
        }
        None => path.with_extension(kind),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_inserted_before_the_extension() {
        for (path, expected) in [
            ("backup.key", "backup.rsa.key"),
            ("/a.b/backup", "/a.b/backup.rsa"),
            ("www.example.com.key", "www.example.com.rsa.key"),
        ] {
            assert_eq!(with_kind(Path::new(path), "rsa"), Path::new(expected));
        }
    }

    #[test]
    fn all_files_are_made_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let files = |is_public| {
            [(&a, "one"), (&b, "two")].map(|(path, text)| New {
                path,
                content: text.as_bytes(),
                is_public,
            })
        };
        fs::write(&b, "old").unwrap();
        assert!(create(&files(false)).is_err());
        assert!(!a.exists());
        assert_eq!(fs::read(&b).unwrap(), b"old");
        fs::remove_file(&b).unwrap();
        create(&files(false)).unwrap();
        assert_eq!(fs::read(&b).unwrap(), b"two");
        assert_eq!(fs::metadata(&a).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(must_be_new(&a).is_err() && must_be_new(&dir.path().join("c")).is_ok());
    }
}
