//! Writes a file with a private key completely or not at all: under another name, durably, and then
//! renamed. A replaced file is kept.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use hpkp_core::pin::Pin;
use hpkp_server::file::if_there;
use zeroize::Zeroizing;

use super::files::sync_directory;
use crate::failure::Failure;
use crate::input;
use crate::output;

/// The largest file with a key, in bytes.
const MAX_FILE: usize = 1 << 20;

/// Creates a new file. Only one process may do this for one path at a time.
pub(super) fn create(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    let beside = written_beside(path, content, mode, None)?;
    let linked = fs::hard_link(&beside, path);
    let _ = fs::remove_file(&beside);
    match linked {
        Ok(()) => sync_directory(path).map_err(|error| cannot(path, &error)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Failure::no(format!(
            "{}: exists already, and nothing is overwritten; choose another name",
            output::path(path)
        ))),
        Err(error) => Err(cannot(path, &error)),
    }
}

/// The result of an exchange.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Exchanged {
    /// The file already had this content.
    Same,
    /// The file did not exist.
    New,
    /// The previous file is kept under this name.
    Kept(PathBuf),
}

/// Replaces the content of a file, and keeps the previous file under another name. Other processes read
/// either the old or the new key. The owner of the file does not change.
pub(super) fn exchange(path: &Path, content: &[u8]) -> Result<Exchanged, Failure> {
    let present = match input::secret(path, MAX_FILE) {
        Ok(present) => Some(present),
        Err(input::InputError::Io(error)) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Failure::unread(&output::path(path), &error)),
    };
    let Some(present) = present else {
        return create(path, content, 0o600).map(|()| Exchanged::New);
    };
    if *present == *content {
        return Ok(Exchanged::Same);
    }
    let owner = fs::metadata(path).map_err(|error| cannot(path, &error))?;
    let kept = keep(path, &present)?;
    let beside = written_beside(path, content, 0o600, Some((owner.uid(), owner.gid())))?;
    let renamed = fs::rename(&beside, path).and_then(|()| sync_directory(path));
    renamed.map_err(|error| {
        let _ = fs::remove_file(&beside);
        cannot(path, &error)
    })?;
    Ok(Exchanged::Kept(kept))
}

/// Gives a file a second name: its own, with a part of the hash of its content.
fn keep(path: &Path, content: &Zeroizing<Vec<u8>>) -> Result<PathBuf, Failure> {
    let digits: String =
        Pin::of_spki(content).bytes()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let kept = beside(path, "", &format!(".before-{digits}"));
    match fs::hard_link(path, &kept) {
        Ok(()) => Ok(kept),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let is_same = input::secret(&kept, MAX_FILE).is_ok_and(|other| *other == **content);
            if is_same {
                return Ok(kept);
            }
            Err(Failure::no(format!("{}: exists already; move it away", output::path(&kept))))
        }
        Err(error) => Err(cannot(&kept, &error)),
    }
}

/// A file name with a prefix and a suffix.
fn beside(path: &Path, before: &str, behind: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(before);
    name.push(path.file_name().unwrap_or_default());
    name.push(behind);
    path.with_file_name(name)
}

/// Writes the content to a file with another name, durably. Replaces a file that an interrupted process has
/// left.
fn written_beside(
    path: &Path,
    content: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
) -> Result<PathBuf, Failure> {
    let other = beside(path, ".", ".hpkp-new");
    if_there(fs::remove_file(&other)).map_err(|error| cannot(&other, &error))?;
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&other);
    let written = written.and_then(|mut file| {
        let own = file.metadata()?;
        if let Some((user, group)) = owner.filter(|owner| *owner != (own.uid(), own.gid())) {
            fchown(&file, Some(user), Some(group))?;
        }
        // A umask or a default access control list may have set another mode.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()
    });
    written.map_err(|error| {
        let _ = fs::remove_file(&other);
        cannot(path, &error)
    })?;
    Ok(other)
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    let text = format!("{}: cannot create the file: {}", output::path(path), output::os(error));
    Failure::undetermined(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_previous_file_is_kept_and_no_temporary_file_remains() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("site.key");
        // An interrupted process has left an incomplete file.
        fs::write(dir.path().join(".site.key.hpkp-new"), "par").unwrap();
        create(&path, b"one", 0o600).unwrap();
        assert!(create(&path, b"two", 0o600).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let Exchanged::Kept(kept) = exchange(&path, b"two").unwrap() else { unreachable!() };
        assert_eq!(
            (fs::read(&path).unwrap(), fs::read(kept).unwrap()),
            (b"two".into(), b"one".into())
        );
        assert_eq!(exchange(&path, b"two").unwrap(), Exchanged::Same);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
