//! The directory with the records of published pins. What stands in it is the core's matter; that it
//! is the right one, and that what was acknowledged is on the disk, is this module's.

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

/// The file that says that a directory is one for records, and in which version of the format.
pub const MARKER: &str = "hpkp-records";

/// The version of the format.
const VERSION: &str = "1";

/// The directory with copies of other machines' files.
pub const PEERS: &str = "peers";

/// How the names of files with records end.
pub const SUFFIX: &str = ".jsonl";

/// The most files with records of one directory that a server reads as a whole, and of its `peers`.
pub const MAX_FILES: usize = 1_000;

/// The most names of files for records in either, those included that have none.
pub const MAX_NAMES: usize = 100_000;

/// The most bytes that a server reads of all files of one directory, and of its `peers`.
pub const MAX_BYTES: usize = 512 << 20;

/// How much is read.
#[derive(Clone, Copy, Debug)]
struct Limits {
    files: usize,
    bytes: usize,
}

/// What a server reads: while it does, nothing is decided.
const OF_SERVERS: Limits = Limits { files: MAX_FILES, bytes: MAX_BYTES };

/// What a command reads, which somebody waits for who may wait.
const OF_COMMANDS: Limits = Limits { files: MAX_NAMES, bytes: 2_000_000_000 };

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
    /// Files whose last line was never finished, and how many bytes it has.
    pub torn: Vec<(String, usize)>,
    /// Copies under the name of a writer of this machine. They are not read: they would speak for it.
    pub in_our_name: Vec<(String, WriterName)>,
    /// Files of this machine that somebody else may have changed, and why.
    pub unsafe_files: Vec<(String, Unsafe)>,
    /// Indexes of copies that cannot be used, and why.
    pub unusable_indexes: Vec<(String, String)>,
}

/// Makes a directory for records at `path`, with its marker and its `peers`. What exists of it
/// already stays; where it fails, or a server would not use it, nothing is left of what it has made.
///
/// # Errors
/// [`DirectoryError::Init`] where it cannot be made; see [`Directory::read`] for the others.
pub fn init(path: &str) -> Result<(), DirectoryError> {
    let mut made = Made::default();
    let done = made.init(Path::new(path)).map_err(DirectoryError::Init);
    // What stood there before may be something else.
    let done = done.and_then(|()| Directory::open(path)?.read().map(drop));
    if done.is_err() {
        made.remove();
    }
    done
}

/// What has been made of a directory.
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
        // Last: what lacks it is none.
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
        // One that is empty could not be written to its end the last time.
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
    /// Opens the directory at `path`: no symbolic link, owned by root or by this user, writable by
    /// nobody else, and marked as one for records. An unmounted volume or a typing error must not
    /// read as "nobody holds pins".
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

    /// Its path, as the configuration has it.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is in a file that nobody else may have changed, up to one byte more than `limit`.
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

    /// Reads all its files: those of the writers of this machine, and the copies of others'.
    ///
    /// # Errors
    /// See [`DirectoryError`]. One file that cannot be used makes the whole directory so, since what
    /// it lacks may be what locks somebody out.
    pub fn read(&self) -> Result<Contents, DirectoryError> {
        let mut contents = Contents::default();
        self.read_each(&mut contents).into_iter().next().map_or(Ok(contents), Err)
    }

    /// Adds what its files say to what other directories say, past files that cannot be used; gives what is
    /// wrong with those.
    pub fn read_each(&self, contents: &mut Contents) -> Vec<DirectoryError> {
        let ours = self.writers().unwrap_or_default();
        self.read_beside(contents, &ours)
    }

    /// As [`Directory::read_each`], where `ours` are all writers of this machine, also those of other
    /// directories.
    pub fn read_beside(
        &self,
        contents: &mut Contents,
        ours: &HashSet<WriterName>,
    ) -> Vec<DirectoryError> {
        let mut errors = self.read_own_within(contents, OF_COMMANDS);
        errors.append(&mut self.read_copies(contents, ours, &Concern::all(), OF_COMMANDS));
        errors
    }

    /// Adds what the copies of others' files say, as far as it concerns a server.
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
            Err(error) => return vec![DirectoryError::File(self.shown(PEERS), error)],
        };
        let path = self.shown(PEERS);
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

    /// As [`Directory::read_each`], of the writers of this machine alone.
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

/// Whether a file of this name has records. Names that begin with a dot are of copies under way.
fn is_of_records(name: &str) -> bool {
    name.ends_with(SUFFIX) && !name.starts_with('.')
}

fn writer_of(name: &str) -> Option<WriterName> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

/// How much is read of a file at once.
const PIECE: usize = 1 << 20;

/// Files while they are read.
struct Reading<'a> {
    contents: &'a mut Contents,
    standing: Standing,
    /// Writers of this machine, for whom no copy speaks.
    ours: &'a HashSet<WriterName>,
    limits: Limits,
    files: usize,
    bytes: usize,
    piece: Vec<u8>,
    /// How many files with a torn line, and in our name, there were before.
    before: (usize, usize),
    /// Of single files.
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

    /// Forgets what was counted and found.
    fn begin_anew(&mut self) {
        (self.files, self.bytes) = (0, 0);
        self.errors.clear();
        self.contents.torn.truncate(self.before.0);
        self.contents.in_our_name.truncate(self.before.1);
    }

    /// An error is one after which the others are not read. What `listed` takes is read later.
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
            // One that is empty has no records: a copy that is under way.
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

    /// Who else may have written to a file of this machine.
    fn look_at(&mut self, file: &File, file_path: &str) {
        let Ok(metadata) = file.metadata() else { return };
        let is_unsafe = Unsafe::of(&metadata).map(|why| (file_path.to_owned(), why));
        self.contents.unsafe_files.extend(is_unsafe);
    }
}

/// A file that is nothing else.
fn regular(file: OwnedFd) -> io::Result<File> {
    let file = File::from(file);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}
