//! The directory with the records of published pins. What stands in it is the core's matter; that it
//! is the right one, and that what was acknowledged is on the disk, is this module's.

mod append;
mod claim;
mod compact;
mod error;
mod sys;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use hpkp_core::published::{State, WriterName, file};

pub use append::{append, append_alone, last_seq};
pub use claim::{Claimant, claim, claimant, leave_to_parent, leave_to_parent_for_all_builds};
pub use compact::{Compacted, compact};
pub use error::DirectoryError;

/// The file that says that a directory is one for records, and in which version of the format.
pub const MARKER: &str = "hpkp-records";

/// The version of the format.
const VERSION: &str = "1";

/// The directory with copies of other machines' files.
pub const PEERS: &str = "peers";

/// How the names of files with records end.
pub const SUFFIX: &str = ".jsonl";

/// The most files of one directory, its `peers` included.
pub const MAX_FILES: usize = 1_000;

/// The most octets of all of them.
pub const MAX_OCTETS: usize = 256 << 20;

/// A directory with records, held open: what is read and written is in it, whatever becomes of its
/// path.
#[derive(Debug)]
pub struct Directory {
    path: String,
    file: File,
}

/// What the files of a directory say.
#[derive(Debug, Default)]
pub struct Contents {
    /// What their events come to.
    pub state: State,
    /// Files whose last line was never finished, and how many octets it has.
    pub torn: Vec<(String, usize)>,
}

/// Makes a directory for records at `path`, with its marker and its `peers`. What exists of it
/// already stays.
///
/// # Errors
/// The system's.
pub fn init(path: &str) -> io::Result<()> {
    let made = fs::DirBuilder::new().mode(0o755).create(path);
    made.or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Ok(()),
        _ => Err(error),
    })?;
    let directory = sys::open_directory(path)?;
    let peers = Path::new(path).join(PEERS);
    match fs::DirBuilder::new().mode(0o755).create(peers) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mut marker = File::from(sys::append_at(&directory, MARKER)?);
    // One that is empty could not be written to its end the last time.
    if marker.metadata()?.len() == 0 {
        marker.write_all(format!("{VERSION}\n").as_bytes())?;
        marker.sync_all()?;
    }
    directory.sync_all()
}

impl Directory {
    /// Opens the directory at `path`: no symbolic link, owned by root or by this user, writable by
    /// nobody else, and marked as one for records. An unmounted volume or a typing error must not
    /// read as "nobody holds pins".
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn open(path: &str) -> Result<Self, DirectoryError> {
        let file = sys::open_directory(path).map_err(DirectoryError::Open)?;
        let metadata = file.metadata().map_err(DirectoryError::Open)?;
        if metadata.uid() != 0 && metadata.uid() != sys::effective_user() {
            return Err(DirectoryError::Owner(metadata.uid()));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(DirectoryError::Mode(metadata.mode() & 0o7777));
        }
        let directory = Self { path: path.to_owned(), file };
        let mut version = String::new();
        let marker = sys::open_at(&directory.file, MARKER).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => DirectoryError::NoMarker,
            _ => DirectoryError::Marker(error),
        })?;
        let marker = regular(marker).map_err(DirectoryError::Marker)?;
        marker.take(64).read_to_string(&mut version).map_err(DirectoryError::Marker)?;
        if version.trim_end() != VERSION {
            return Err(DirectoryError::Version(version.trim_end().to_owned()));
        }
        Ok(directory)
    }

    /// Its path, as the configuration has it.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Reads all its files: those of the writers of this machine, and the copies of others'.
    ///
    /// # Errors
    /// See [`DirectoryError`]. One file that cannot be used makes the whole directory so, since what
    /// it lacks may be what locks somebody out.
    pub fn read(&self) -> Result<Contents, DirectoryError> {
        let mut contents = Contents::default();
        self.read_into(&mut contents)?;
        Ok(contents)
    }

    /// As [`Directory::read`], with what other directories say. After an error, `contents` has
    /// some of what this one says.
    ///
    /// # Errors
    /// See [`Directory::read`].
    pub fn read_into(&self, contents: &mut Contents) -> Result<(), DirectoryError> {
        self.read_each(contents).into_iter().next().map_or(Ok(()), Err)
    }

    /// As [`Directory::read_into`], past files that cannot be used; gives what is wrong with those.
    pub fn read_each(&self, contents: &mut Contents) -> Vec<DirectoryError> {
        let mut reading = Reading { contents, files: 0, octets: 0, errors: Vec::new() };
        let mut read = reading.read(&self.file, &self.path);
        if read.is_ok() {
            read = match sys::open_directory_at(&self.file, PEERS) {
                Ok(peers) => reading.read(&peers, &self.shown(PEERS)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(DirectoryError::File(self.shown(PEERS), error)),
            };
        }
        let mut errors = reading.errors;
        errors.extend(read.err());
        errors
    }

    /// The path of a writer's own file, as errors name it.
    #[must_use]
    pub fn own_path(&self, writer: &WriterName) -> String {
        self.shown(&Self::own(writer))
    }

    /// The name of a writer's own file.
    fn own(writer: &WriterName) -> String {
        format!("{writer}{SUFFIX}")
    }

    fn shown(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }
}

/// Files while they are read.
struct Reading<'a> {
    contents: &'a mut Contents,
    files: usize,
    octets: usize,
    /// Of single files.
    errors: Vec<DirectoryError>,
}

impl Reading<'_> {
    /// An error is one after which the others are not read.
    fn read(&mut self, directory: &File, path: &str) -> Result<(), DirectoryError> {
        let names = sys::names(directory, MAX_FILES + 16)
            .map_err(|error| DirectoryError::File(path.to_owned(), error))?;
        let mut names: Vec<String> = names
            .into_iter()
            .filter(|name| name.ends_with(SUFFIX) && !name.starts_with('.'))
            .collect();
        names.sort();
        for name in names {
            self.files += 1;
            if self.files > MAX_FILES {
                return Err(DirectoryError::TooManyFiles);
            }
            let shown = format!("{path}/{name}");
            let mut octets = Vec::new();
            let read = sys::open_at(directory, &name)
                .and_then(regular)
                .and_then(|file| file.take(file::MAX_FILE as u64 + 1).read_to_end(&mut octets));
            if let Err(error) = read {
                self.errors.push(DirectoryError::File(shown, error));
                continue;
            }
            self.octets += octets.len();
            if self.octets > MAX_OCTETS {
                return Err(DirectoryError::TooLarge);
            }
            let state = &mut self.contents.state;
            match file::for_each(&octets, |event| state.extend([event])) {
                Ok(0) => {}
                Ok(torn) => self.contents.torn.push((shown, torn)),
                Err(error) => self.errors.push(DirectoryError::Records(shown, error)),
            }
        }
        Ok(())
    }
}

/// A file that is nothing else.
fn regular(file: OwnedFd) -> io::Result<File> {
    let file = File::from(file);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
    }
}
