//! Copies of other machines' files: replaced as a whole, synced to the disk before they are used, and never with fewer
//! records than before.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use hpkp_core::published::WriterName;
use hpkp_core::published::file::MAX_FILE;
use hpkp_server::file::if_there;
use hpkp_server::published::{MAX_NAMES, PEERS, SUFFIX};

use crate::disk;
use crate::records::Records;

/// With more files than this, one syncfs of the whole file system replaces a sync of each file.
const MANY: usize = 16;

/// The most bytes of all copies together, which is also the most that the commands read. A machine that may write into
/// the store must not be able to fill the disk on which the server keeps its own records.
const MAX_BYTES: u64 = 2_000_000_000;

/// Why a copy was not written.
#[derive(Debug)]
pub(crate) enum PutError {
    /// The copies together would exceed this limit.
    Limit(String),
    /// An error of the system.
    Io(io::Error),
}

impl From<io::Error> for PutError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The directory `peers`, and the new files there that do not have their final names yet.
#[derive(Debug)]
pub(crate) struct Peers {
    path: PathBuf,
    waiting: Vec<PathBuf>,
    /// The first of the waiting files, open.
    first: Vec<File>,
    /// The number of copies and their total bytes; none until they are needed.
    total: Option<(usize, u64)>,
}

impl Peers {
    /// Opens the directory, or creates it.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(PEERS);
        match fs::DirBuilder::new().mode(0o755).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if !fs::symlink_metadata(&path)?.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "peers is not a directory"));
        }
        Ok(Self { path, waiting: Vec::new(), first: Vec::new(), total: None })
    }

    fn file(&self, writer: &WriterName) -> PathBuf {
        self.path.join(format!("{writer}{SUFFIX}"))
    }

    /// The length of the writer's copy; none without a copy.
    pub(crate) fn len(&self, writer: &WriterName) -> Option<u64> {
        fs::symlink_metadata(self.file(writer)).ok().map(|found| found.len())
    }

    /// The records of the writer's copy; none where the copy is missing or empty.
    pub(crate) fn read(&self, writer: &WriterName) -> Result<Option<Records>, String> {
        let bytes = if_there(disk::read(&self.file(writer), MAX_FILE));
        let bytes = bytes.map_err(|error| hpkp_cli::sync::os(&error))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let records = Records::read(bytes, writer).map_err(|error| error.to_string())?;
        Ok((!records.lines.is_empty()).then_some(records))
    }

    /// Writes a copy under a temporary name. [`Peers::commit`] renames it.
    pub(crate) fn put(&mut self, writer: &WriterName, records: &Records) -> Result<(), PutError> {
        let path = self.file(writer);
        let before = self.len(writer);
        let (files, bytes) = self.total()?;
        let files = files + usize::from(before.is_none());
        let bytes = bytes.saturating_sub(before.unwrap_or(0)) + records.bytes.len() as u64;
        if files > MAX_NAMES {
            return Err(PutError::Limit(format!("more than {MAX_NAMES} files")));
        }
        if bytes > MAX_BYTES {
            return Err(PutError::Limit(format!("more than {MAX_BYTES} bytes")));
        }
        let file = disk::write_beside(&path, &records.bytes, disk::Access::All)?;
        self.total = Some((files, bytes));
        self.waiting.push(path);
        // The system limits how many files a process may have open.
        if self.first.len() < MANY {
            self.first.push(file);
        }
        Ok(())
    }

    /// The number of all copies and their total bytes.
    fn total(&mut self) -> io::Result<(usize, u64)> {
        if let Some(total) = self.total {
            return Ok(total);
        }
        let mut total = (0, 0);
        for entry in fs::read_dir(&self.path)? {
            total = (total.0 + 1, total.1 + entry?.metadata().map_or(0, |found| found.len()));
        }
        self.total = Some(total);
        Ok(total)
    }

    /// Renames all written copies to their final names. On success they are on the disk.
    pub(crate) fn commit(&mut self) -> io::Result<()> {
        let (waiting, files) = (std::mem::take(&mut self.waiting), std::mem::take(&mut self.first));
        let (Some(path), Some(file)) = (waiting.first(), files.first()) else { return Ok(()) };
        if waiting.len() == files.len() {
            files.iter().try_for_each(File::sync_all)?;
        } else {
            rustix::fs::syncfs(file)?;
        }
        waiting.iter().try_for_each(|path| disk::commit(path))?;
        disk::sync_directory(path)
    }
}
