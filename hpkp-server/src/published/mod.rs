//! The directory with the records of published pins. The core interprets the records; this module ensures that the
//! directory is the right one, and that acknowledged events are on the disk.

mod append;
mod claim;
mod compact;
mod error;
mod heard;
mod held;
mod index;
mod own;
mod place;
mod reserve;
mod sys;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use hpkp_core::check::Concern;
use hpkp_core::published::file::Lines;
use hpkp_core::published::state::Standing;
use hpkp_core::published::{State, WriterName};

pub use append::{append, append_alone, can_append, last_seq};
pub(crate) use claim::rival;
pub use claim::{Claimant, claim, claimant, close_in_child, leave_to_parent_for_all_builds};
pub use compact::{Compacted, compact};
pub use error::DirectoryError;
pub use held::release;
pub use index::stamp;
pub use reserve::{RESERVE, Reserved};

use crate::owner::Unsafe;
use index::{Listed, Trouble};

/// The file that marks a directory for records and contains the version of the format.
pub const MARKER: &str = "hpkp-records";

/// The version of the format.
const VERSION: &str = "1";

/// The directory with copies of other machines' files.
pub const PEERS: &str = "peers";

/// The ending of the names of files with records.
pub const SUFFIX: &str = ".jsonl";

/// The most files with records that a server reads as a whole in one directory, and the most in its `peers`.
pub const MAX_FILES: usize = 1_000;

/// The most file names in either of them, including files without records.
pub const MAX_NAMES: usize = 100_000;

/// The most bytes that a server reads from all files of one directory, and the most from its `peers`.
pub const MAX_BYTES: usize = 512 << 20;

/// The limits for reading.
#[derive(Clone, Copy, Debug)]
struct Limits {
    files: usize,
    bytes: usize,
}

/// The limits for servers, which do nothing else while they read.
const OF_SERVERS: Limits = Limits { files: MAX_FILES, bytes: MAX_BYTES };

/// The limits for commands, whose user can wait.
const OF_COMMANDS: Limits = Limits { files: MAX_NAMES, bytes: 2_000_000_000 };

/// An open directory with records. Everything is read and written in this directory, even if its path changes.
#[derive(Debug)]
pub struct Directory {
    path: String,
    file: File,
}

/// The content of the files of a directory.
#[derive(Debug, Default)]
pub struct Contents {
    /// The state that follows from their events.
    pub state: State,
    /// Files with an incomplete last line, and the number of its bytes.
    pub torn: Vec<(String, usize)>,
    /// Copies with the name of a writer of this machine. They are ignored, because another machine must not write in
    /// its name.
    pub in_our_name: Vec<(String, WriterName)>,
    /// Files of this machine that another user may have changed, and why.
    pub unsafe_files: Vec<(String, Unsafe)>,
    /// Indexes of copies that cannot be used, and why.
    pub unusable_indexes: Vec<(String, String)>,
}

/// Creates a directory for records at `path`, with its marker and its `peers`. Existing parts stay. If this fails, or
/// if a server would not use the directory, everything that was created is removed again.
///
/// # Errors
/// [`DirectoryError::Init`] if it cannot be created; see [`Directory::read`] for the others.
pub fn init(path: &str) -> Result<(), DirectoryError> {
    let mut made = Made::default();
    let done = made.init(Path::new(path)).map_err(DirectoryError::Init);
    // Existing parts may be unsuitable, so the directory is read.
    let done = done.and_then(|()| Directory::open(path)?.read().map(drop));
    if done.is_err() {
        made.remove();
    }
    done
}

/// The parts of a directory that were created.
#[derive(Default)]
struct Made {
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

impl Made {
    fn init(&mut self, path: &Path) -> io::Result<()> {
        self.directory(path)?;
        let directory = sys::open_directory(&path.to_string_lossy())?;
        self.directory(&path.join(PEERS))?;
        self.file(&directory, path, RESERVE, &reserve::empty())?;
        // The marker comes last: a directory without it is not used.
        self.file(&directory, path, MARKER, format!("{VERSION}\n").as_bytes())?;
        directory.sync_all()
    }

    fn directory(&mut self, path: &Path) -> io::Result<()> {
        match fs::DirBuilder::new().mode(0o755).create(path) {
            Ok(()) => self.directories.push(path.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn file(&mut self, at: &File, path: &Path, name: &str, text: &[u8]) -> io::Result<()> {
        let mut file = match sys::new_at(at, name) {
            Ok(file) => {
                self.files.push(path.join(name));
                File::from(file)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                File::from(sys::append_at(at, name)?)
            }
            Err(error) => return Err(error),
        };
        // An empty file is left from an earlier attempt that could not write it.
        if file.metadata()?.len() == 0 {
            file.write_all(text)?;
            file.sync_all()?;
        }
        Ok(())
    }

    fn remove(self) {
        for file in self.files.iter().rev() {
            let _ = fs::remove_file(file);
        }
        for directory in self.directories.iter().rev() {
            let _ = fs::remove_dir(directory);
        }
    }
}

impl Directory {
    /// Opens the directory at `path`. It must not be a symbolic link, must belong to root or this user, must not be
    /// writable by others, and must have the marker. Otherwise an unmounted volume or a typing error would read as "no
    /// client holds pins".
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn open(path: &str) -> Result<Self, DirectoryError> {
        let file = sys::open_directory(path).map_err(DirectoryError::Open)?;
        let metadata = file.metadata().map_err(DirectoryError::Open)?;
        match Unsafe::of(&metadata) {
            Some(Unsafe::Owner) => return Err(DirectoryError::Owner(metadata.uid())),
            Some(Unsafe::Mode) => {
                return Err(DirectoryError::Mode(path.to_owned(), metadata.mode() & 0o7777));
            }
            None => {}
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

    /// Its configured path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The content of a file that no other user may have changed, up to one byte more than `limit`.
    fn trusted(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        let file = regular(sys::open_at(&self.file, name)?)?;
        let metadata = file.metadata()?;
        if let Some(why) = Unsafe::of(&metadata) {
            return Err(io::Error::other(why.to_string()));
        }
        let mut bytes = Vec::with_capacity(metadata.size().min(limit as u64) as usize + 1);
        file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads all its files: those of this machine's writers, and the copies of other machines' files.
    ///
    /// # Errors See [`DirectoryError`]. One unusable file makes the whole directory unusable, since a missing record
    /// may be the one that shows a lock-out.
    pub fn read(&self) -> Result<Contents, DirectoryError> {
        let mut contents = Contents::default();
        self.read_each(&mut contents).into_iter().next().map_or(Ok(contents), Err)
    }

    /// Adds the events of its files to `contents`. Skips files that cannot be used, and returns their errors.
    pub fn read_each(&self, contents: &mut Contents) -> Vec<DirectoryError> {
        let ours = self.writers().unwrap_or_default();
        self.read_beside(contents, &ours)
    }

    /// [`Directory::read_each`], where `ours` are all writers of this machine, including those of other directories.
    pub fn read_beside(
        &self,
        contents: &mut Contents,
        ours: &HashSet<WriterName>,
    ) -> Vec<DirectoryError> {
        let mut errors = self.read_own_within(contents, OF_COMMANDS);
        errors.append(&mut self.read_copies(contents, ours, &Concern::all(), OF_COMMANDS));
        errors
    }

    /// Adds the events of the copies that are in `concern`.
    pub fn read_peers(
        &self,
        contents: &mut Contents,
        ours: &HashSet<WriterName>,
        concern: &Concern,
    ) -> Vec<DirectoryError> {
        self.read_copies(contents, ours, concern, OF_SERVERS)
    }

    fn read_copies(
        &self,
        contents: &mut Contents,
        ours: &HashSet<WriterName>,
        concern: &Concern,
        limits: Limits,
    ) -> Vec<DirectoryError> {
        let peers = match sys::open_directory_at(&self.file, PEERS) {
            Ok(peers) => peers,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => return vec![DirectoryError::File(self.path_text(PEERS), error)],
        };
        let path = self.path_text(PEERS);
        let unusable = |why: String| (self.index_path(), why);
        let bytes = if concern.is_all() { Ok(None) } else { self.index() };
        let mut reading = Reading::new(contents, (Standing::Peer, ours), limits);
        let bytes = bytes.unwrap_or_else(|why| {
            reading.contents.unusable_indexes.push(unusable(why));
            None
        });
        if let Some(bytes) = &bytes {
            let listed = Listed::new(bytes, concern.clone()).map_err(Trouble::from);
            let read = listed.and_then(|mut listed| {
                reading.read(&peers, &path, Some(&mut listed))?;
                reading.read_listed(&peers, &path, listed)
            });
            match read {
                Ok(()) => return reading.errors,
                Err(Trouble::Directory(error)) => {
                    reading.errors.push(error);
                    return reading.errors;
                }
                Err(Trouble::Index(error)) => {
                    reading.contents.unusable_indexes.push(unusable(error.to_string()));
                    reading.begin_anew();
                }
            }
        }
        let read = reading.read(&peers, &path, None);
        reading.errors.extend(read.err());
        reading.errors
    }

    /// [`Directory::read_each`], only for this machine's writers.
    pub fn read_own(&self, contents: &mut Contents) -> Vec<DirectoryError> {
        self.read_own_within(contents, OF_SERVERS)
    }

    fn read_own_within(&self, contents: &mut Contents, limits: Limits) -> Vec<DirectoryError> {
        let none = HashSet::new();
        let mut reading = Reading::new(contents, (Standing::Own, &none), limits);
        let read = reading.read(&self.file, &self.path, None);
        let mut errors = reading.errors;
        errors.extend(read.err());
        errors
    }

    /// The writers of this machine: those with a file in the directory itself.
    ///
    /// # Errors
    /// The system's.
    pub fn writers(&self) -> io::Result<HashSet<WriterName>> {
        let names = sys::names(&self.file, MAX_NAMES, is_of_records)?;
        Ok(names.iter().filter_map(|name| writer_of(name)).collect())
    }

    /// The path of a writer's own file, as in errors.
    #[must_use]
    pub fn own_path(&self, writer: &WriterName) -> String {
        self.path_text(&Self::own(writer))
    }

    /// The name of a writer's own file.
    fn own(writer: &WriterName) -> String {
        format!("{writer}{SUFFIX}")
    }

    fn path_text(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }
}

/// Whether a file with this name has records. Names that begin with a dot belong to copies in progress.
fn is_of_records(name: &str) -> bool {
    name.ends_with(SUFFIX) && !name.starts_with('.')
}

fn writer_of(name: &str) -> Option<WriterName> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

/// How many bytes are read from a file at once.
const PIECE: usize = 1 << 20;

/// The state of reading files.
struct Reading<'a> {
    contents: &'a mut Contents,
    standing: Standing,
    /// Writers of this machine; copies with their names are ignored.
    ours: &'a HashSet<WriterName>,
    limits: Limits,
    files: usize,
    bytes: usize,
    piece: Vec<u8>,
    /// The numbers of files with an incomplete line, and with the name of a writer of this machine, before this
    /// reading.
    before: (usize, usize),
    /// The errors of single files.
    errors: Vec<DirectoryError>,
}

impl<'a> Reading<'a> {
    fn new(
        contents: &'a mut Contents,
        (standing, ours): (Standing, &'a HashSet<WriterName>),
        limits: Limits,
    ) -> Self {
        let before = (contents.torn.len(), contents.in_our_name.len());
        let (files, bytes, piece, errors) = (0, 0, vec![0; PIECE], Vec::new());
        Self { contents, standing, ours, limits, files, bytes, piece, before, errors }
    }

    /// Resets the counts and the problems found.
    fn begin_anew(&mut self) {
        (self.files, self.bytes) = (0, 0);
        self.errors.clear();
        self.contents.torn.truncate(self.before.0);
        self.contents.in_our_name.truncate(self.before.1);
    }

    /// Reads files. After an error the others are not read. Copies that `listed` takes are read later.
    fn read(
        &mut self,
        directory: &File,
        path: &str,
        mut listed: Option<&mut Listed<'_>>,
    ) -> Result<(), DirectoryError> {
        let mut names = sys::names(directory, MAX_NAMES + 1, is_of_records)
            .map_err(|error| DirectoryError::File(path.to_owned(), error))?;
        if names.len() > MAX_NAMES {
            return Err(DirectoryError::TooManyFiles(path.to_owned(), MAX_NAMES));
        }
        names.sort();
        for name in names {
            let file_path = format!("{path}/{name}");
            let Some(writer) = writer_of(&name) else {
                self.errors.push(DirectoryError::Unnamed(file_path));
                continue;
            };
            if self.ours.contains(&writer) {
                self.contents.in_our_name.push((file_path, writer));
                continue;
            }
            let file = match sys::open_at(directory, &name).and_then(regular) {
                Ok(file) => file,
                Err(error) => {
                    self.errors.push(DirectoryError::File(file_path, error));
                    self.contents.state.unread(writer);
                    continue;
                }
            };
            if self.standing == Standing::Own {
                self.look_at(&file, &file_path);
            }
            if listed.as_mut().is_some_and(|listed| listed.takes(&file, &name, &writer)) {
                continue;
            }
            self.file(file, file_path, writer, path)?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        mut file: File,
        file_path: String,
        writer: WriterName,
        path: &str,
    ) -> Result<(), DirectoryError> {
        let mut lines = Lines::of(writer.clone());
        let mut is_first = true;
        loop {
            let read = match file.read(&mut self.piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.errors.push(DirectoryError::File(file_path, error));
                    self.contents.state.unread(writer);
                    return Ok(());
                }
            };
            // An empty file does not count: it is a copy in progress.
            self.files += usize::from(std::mem::replace(&mut is_first, false));
            if self.files > self.limits.files {
                return Err(DirectoryError::TooManyFiles(path.to_owned(), self.limits.files));
            }
            self.bytes += read;
            if self.bytes > self.limits.bytes {
                return Err(DirectoryError::TooLarge(path.to_owned(), self.limits.bytes));
            }
            let (state, standing) = (&mut self.contents.state, self.standing);
            let pushed = lines.push(&self.piece[..read], &mut |event| state.take(event, standing));
            match pushed {
                Ok(()) => {}
                Err(error) => {
                    self.errors.push(DirectoryError::Records(file_path, error));
                    self.contents.state.unread(writer);
                    return Ok(());
                }
            }
        }
        match lines.finish() {
            0 => {}
            torn => self.contents.torn.push((file_path, torn)),
        }
        Ok(())
    }

    /// Notes a file of this machine that another user may have written.
    fn look_at(&mut self, file: &File, file_path: &str) {
        let Ok(metadata) = file.metadata() else { return };
        let is_unsafe = Unsafe::of(&metadata).map(|why| (file_path.to_owned(), why));
        self.contents.unsafe_files.extend(is_unsafe);
    }
}

/// The file, if it is a regular file.
fn regular(file: OwnedFd) -> io::Result<File> {
    let file = File::from(file);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}
