//! Reads files that a configuration names. Every file has a size limit, and none can make the server wait: a FIFO is
//! refused, so that the server does not wait for a writer.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system's error.
    #[error("{}", reason(.0))]
    Io(#[from] io::Error),
    /// Not a regular file; the kind of file.
    #[error("is a {0}, not a file")]
    NotAFile(&'static str),
}

/// The result of an operation on a file; `None` if the file does not exist.
///
/// # Errors
/// The system's other errors.
pub fn if_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The text of an operating-system error, without its number: "connection refused".
#[must_use]
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut letters = text.chars();
    // The first letter becomes lower case, except in abbreviations: "No such file" but "EOF".
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

/// A directory that contains the file `key`, and earlier keys: if the file is a symbolic link, as
/// certbot makes them, the directory above the link and its target. None if the key is not in a
/// file.
#[must_use]
pub fn directory_of_keys(key: &str) -> Option<String> {
    let named = Path::new(key).parent().filter(|parent| parent.is_absolute())?;
    let real = std::fs::canonicalize(key).ok();
    let real = real.as_deref().and_then(Path::parent).unwrap_or(named);
    let above = named.ancestors().find(|above| real.starts_with(above))?;
    let is_root = above.parent().is_none();
    let directory = if is_root { real } else { above };
    directory.to_str().map(str::to_owned)
}

/// The bytes of the regular file at `path`: all of them, or the first `limit + 1` of a larger
/// one, so that the caller sees that it is too large.
///
/// # Errors
/// See [`FileError`].
pub fn read(path: &str, limit: usize) -> Result<Vec<u8>, FileError> {
    let file = OpenOptions::new()
        .read(true)
        // Opening a FIFO must not wait for a writer, nor a terminal become the controlling one.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() {
        return Err(FileError::NotAFile(if kind.is_dir() {
            "directory"
        } else if kind.is_fifo() {
            "FIFO"
        } else if kind.is_socket() {
            "socket"
        } else {
            "device"
        }));
    }
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_system_error_has_no_number() {
        for (number, text) in [
            (libc::ENOENT, "no such file or directory"),
            (libc::ECONNREFUSED, "connection refused"),
            (libc::EIO, "input/output error"),
        ] {
            assert_eq!(reason(&io::Error::from_raw_os_error(number)), text);
        }
        assert_eq!(reason(&io::Error::other("DNS failed")), "DNS failed");
    }

    /// The files of certbot: links in live/NAME to numbered files in archive/NAME.
    #[test]
    fn earlier_keys_are_beside_the_file_or_behind_a_link() {
        let root = std::env::temp_dir().join(format!("hpkp-keys-{}", std::process::id()));
        let (live, archive) = (root.join("live/a"), root.join("archive/a"));
        std::fs::create_dir_all(&live).expect("a directory");
        std::fs::create_dir_all(&archive).expect("a directory");
        std::fs::write(archive.join("privkey1.pem"), "").expect("a file");
        let link = live.join("privkey.pem");
        std::os::unix::fs::symlink("../../archive/a/privkey1.pem", &link).expect("a link");
        let root_text = root.canonicalize().expect("a path");
        let of = |path: &Path| directory_of_keys(path.to_str().expect("UTF-8"));
        let found = of(&root_text.join("live/a/privkey.pem"));
        assert_eq!(found.as_deref().map(Path::new), Some(root_text.as_path()));
        let plain = root_text.join("archive/a/privkey1.pem");
        assert_eq!(of(&plain).as_deref().map(Path::new), plain.parent());
        assert_eq!(directory_of_keys("engine:pkcs11:key"), None);
        assert_eq!(directory_of_keys("data:..."), None);
        std::fs::remove_dir_all(&root).expect("removed");
    }
}
