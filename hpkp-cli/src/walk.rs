//! The files below a directory, with limits.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The most entries that are looked at.
pub(crate) const MAX_ENTRIES: usize = 1_000_000;

/// The most directories within one another.
pub(crate) const MAX_DEPTH: usize = 128;

/// What a walk ran into.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The system's error.
    Io(io::Error),
    /// Directories are nested too deeply.
    TooDeep,
    /// There is too much in the directory; the rest was not looked at.
    TooMany,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::TooDeep => write!(f, "it is more than {MAX_DEPTH} directories deep"),
            Self::TooMany => write!(
                f,
                "there are more than {MAX_ENTRIES} files and directories; the rest was not looked at"
            ),
        }
    }
}

/// Visits every regular file in `directory` and below, those of a directory in the order of their
/// names, and what could not be looked at, with the reason. Links to files are followed, since certbot's `live` has nothing else; links to
/// directories are not, so no walk comes back to where it was or leaves the directory.
///
/// # Errors
/// Where `directory` itself cannot be read.
pub(crate) fn files(
    directory: &Path,
    mut visit: impl FnMut(&Path, Result<(), Trouble>),
) -> io::Result<()> {
    let mut left = MAX_ENTRIES;
    let mut open: Vec<(PathBuf, usize)> = vec![(directory.to_owned(), 0)];
    while let Some((path, depth)) = open.pop() {
        // One more than is left tells that there are too many.
        let listed = fs::read_dir(&path).and_then(|entries| entries.take(left + 1).collect());
        let mut entries: Vec<fs::DirEntry> = match listed {
            Ok(entries) => entries,
            Err(error) if depth == 0 => return Err(error),
            Err(error) => {
                visit(&path, Err(Trouble::Io(error)));
                continue;
            }
        };
        if entries.len() > left {
            visit(&path, Err(Trouble::TooMany));
            return Ok(());
        }
        left -= entries.len();
        entries.sort_by_key(fs::DirEntry::file_name);
        let mut below = Vec::new();
        for entry in entries {
            let path = entry.path();
            match what(&entry) {
                Ok(What::File) => visit(&path, Ok(())),
                Ok(What::Directory) if depth == MAX_DEPTH => {
                    visit(&path, Err(Trouble::TooDeep));
                }
                Ok(What::Directory) => below.push((path, depth + 1)),
                Ok(What::Other) => {}
                Err(error) => visit(&path, Err(Trouble::Io(error))),
            }
        }
        open.extend(below.into_iter().rev());
    }
    Ok(())
}

/// What an entry of a directory is.
enum What {
    /// A regular file or a link to one.
    File,
    Directory,
    Other,
}

fn what(entry: &fs::DirEntry) -> io::Result<What> {
    let kind = entry.file_type()?;
    if kind.is_dir() {
        return Ok(What::Directory);
    }
    if !kind.is_symlink() {
        return Ok(if kind.is_file() { What::File } else { What::Other });
    }
    match fs::metadata(entry.path()) {
        Ok(target) if target.is_file() => Ok(What::File),
        Ok(_) => Ok(What::Other),
        // A link to nowhere or in a circle holds nothing.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(What::Other)
        }
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => Ok(What::Other),
        Err(error) => Err(error),
    }
}
