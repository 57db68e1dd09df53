//! A directory that all machines mount, or that other programs synchronise: one file for each writer, replaced as a
//! whole.
//!
//! ```text
//! DIR/hpkp-store               the marker
//! DIR/records/WRITER.jsonl
//! DIR/heartbeats/WRITER.json
//! DIR/leases/HOST.json
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hpkp_core::published::WriterName;
use hpkp_core::published::file::MAX_FILE;
use hpkp_server::file::if_there;

use super::contract::{
    Extent, MARKER, MAX_BEAT, Options, Outgoing, Piece, Remote, Store, Wanted, check_count,
    check_marker, heartbeat,
};
use super::error::{StoreError, VERSION};
use super::lease::{Lease, Term, Written};
use crate::{disk, now};

const RECORDS: &str = "records";
const BEATS: &str = "heartbeats";
const LEASES: &str = "leases";

/// A store in a directory.
#[derive(Debug)]
pub(super) struct DirectoryStore {
    path: PathBuf,
    /// How long to wait for a lock of another machine.
    timeout: Duration,
}

impl DirectoryStore {
    pub(super) fn new(path: &Path, options: &Options) -> Self {
        Self { path: path.to_owned(), timeout: options.timeout }
    }

    fn is_store(&self) -> Result<(), StoreError> {
        match read(&self.path.join(MARKER), 64)? {
            Some(text) => check_marker(&text)?,
            None => return Err(StoreError::NotInitialised),
        }
        // Links are refused: a machine that may write to the store could make one to a directory of this machine.
        let mut parts = [RECORDS, BEATS, LEASES].into_iter().map(|name| self.path.join(name));
        match parts.find(|path| !fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())) {
            Some(path) => Err(StoreError::Failed(format!("{}: not a directory", path.display()))),
            None => Ok(()),
        }
    }

    fn records(&self, writer: &WriterName) -> PathBuf {
        self.path.join(RECORDS).join(format!("{writer}.jsonl"))
    }

    fn beat(&self, writer: &WriterName) -> PathBuf {
        self.path.join(BEATS).join(format!("{writer}.json"))
    }

    fn lease_path(&self, name: &str) -> PathBuf {
        self.path.join(LEASES).join(format!("{name}.json"))
    }

    /// Takes a lock that keeps other machines from writing until it is dropped.
    fn lock(&self, name: &Path) -> Result<File, StoreError> {
        let failed = |error: &io::Error| StoreError::io(name, error);
        // Other machines may run hpkp sync as another user.
        let file = disk::open_shared_lock(name).map_err(|error| failed(&error))?;
        disk::lock(&file, self.timeout).map_err(|error| failed(&error))?;
        Ok(file)
    }

    /// Writes the records and the heartbeat of a writer, if its records are in the expected state.
    fn write_one(&self, one: &Outgoing<'_>) -> Result<(), StoreError> {
        let path = self.records(one.writer);
        if !one.fresh.is_empty() {
            let lock = self.path.join(RECORDS).join(format!(".{}.lock", one.writer));
            let _lock = self.lock(&lock)?;
            if mark_of(&path)? != one.mark {
                return Err(StoreError::Changed(one.writer.clone()));
            }
            disk::replace(&path, one.whole, disk::Access::All)
                .map_err(|error| StoreError::io(&path, &error))?;
        }
        let path = self.beat(one.writer);
        let beat = serde_json::to_vec(&one.beat).unwrap_or_default();
        disk::replace(&path, &beat, disk::Access::All)
            .map_err(|error| StoreError::io(&path, &error))
    }
}

impl Store for DirectoryStore {
    fn init(&mut self) -> Result<(), StoreError> {
        let failed = |path: &Path, error: &io::Error| StoreError::io(path, error);
        for directory in
            [&self.path, &self.path.join(RECORDS), &self.path.join(BEATS), &self.path.join(LEASES)]
        {
            match fs::create_dir(directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(directory, &error));
                }
                _ => {}
            }
        }
        let marker = self.path.join(MARKER);
        if let Some(text) = read(&marker, 64)? {
            return check_marker(&text);
        }
        let text = format!("{VERSION}\n");
        disk::replace(&marker, text.as_bytes(), disk::Access::All)
            .map_err(|error| failed(&marker, &error))
    }

    fn list(&mut self) -> Result<BTreeMap<WriterName, Remote>, StoreError> {
        self.is_store()?;
        let mut all = BTreeMap::<WriterName, Remote>::new();
        // Heartbeats are read first, so that the records are at least as new.
        for writer in names(&self.path.join(BEATS), ".json")? {
            // An error of one file affects only its writer.
            let beat = match read(&self.beat(&writer), MAX_BEAT) {
                Ok(text) => text.map(|text| heartbeat(&writer, &text)),
                Err(error) => Some(Err(error.reason())),
            };
            all.entry(writer).or_default().beat = beat;
        }
        for writer in names(&self.path.join(RECORDS), ".jsonl")? {
            let mark = mark_of(&self.records(&writer))?;
            all.entry(writer).or_default().mark = mark;
        }
        Ok(all)
    }

    fn read(
        &mut self,
        wanted: &[Wanted],
        take: &mut dyn FnMut(Piece) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for one in wanted {
            let lines = match read(&self.records(&one.writer), MAX_FILE + 1) {
                Ok(Some(lines)) => Ok(lines),
                // The next listing reports a file that has vanished meanwhile.
                Ok(None) => continue,
                Err(error) => Err(error.reason()),
            };
            take(Piece { writer: one.writer.clone(), lines, extent: Extent::Whole })?;
        }
        Ok(())
    }

    fn write(&mut self, outgoing: &[Outgoing<'_>]) -> Result<(), StoreError> {
        self.is_store()?;
        outgoing.iter().try_for_each(|one| self.write_one(one))
    }

    fn lease(&mut self, name: &str, term: &Term) -> Result<Lease, StoreError> {
        self.is_store()?;
        let path = self.lease_path(name);
        let _lock = self.lock(&self.path.join(LEASES).join(".lock"))?;
        if let Some(text) = read(&path, MAX_BEAT)? {
            Written::held(name, &text, now())?;
        }
        let written = Written::new(term, now());
        disk::replace(&path, written.json().as_bytes(), disk::Access::All)
            .map_err(|error| StoreError::io(&path, &error))?;
        Ok(Lease { name: name.to_owned(), token: term.token.clone() })
    }

    fn release(&mut self, lease: &Lease) -> Result<(), StoreError> {
        self.is_store()?;
        let path = self.lease_path(&lease.name);
        let _lock = self.lock(&self.path.join(LEASES).join(".lock"))?;
        let text = read(&path, MAX_BEAT)?.unwrap_or_default();
        match serde_json::from_slice::<Written>(&text) {
            Ok(written) if written.token == lease.token => {
                fs::remove_file(&path).map_err(|error| StoreError::io(&path, &error))
            }
            Ok(written) => Err(written.error(&lease.name, now())),
            Err(_) => Err(StoreError::LeaseLost(lease.name.clone())),
        }
    }
}

/// The writers whose files are in a directory. Names with a leading dot are temporary files.
fn names(directory: &Path, suffix: &str) -> Result<Vec<WriterName>, StoreError> {
    let failed = |error: &io::Error| StoreError::io(directory, error);
    let mut writers = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| failed(&error))? {
        let name = entry.map_err(|error| failed(&error))?.file_name();
        let name = name.to_string_lossy();
        if let Some(Ok(writer)) = name.strip_suffix(suffix).map(str::parse) {
            writers.push(writer);
        }
        check_count(writers.len())?;
    }
    writers.sort();
    Ok(writers)
}

/// Identifies the state of a file. Files are only replaced, so each write gives another state.
fn mark_of(path: &Path) -> Result<String, StoreError> {
    let found =
        if_there(fs::symlink_metadata(path)).map_err(|error| StoreError::io(path, &error))?;
    Ok(found.map_or_else(String::new, |found| {
        let (length, seconds) = (found.len(), found.mtime());
        format!("{}-{length}-{seconds}.{:09}", found.ino(), found.mtime_nsec())
    }))
}

/// The content of a regular file, up to a limit; none where the file does not exist.
fn read(path: &Path, most: usize) -> Result<Option<Vec<u8>>, StoreError> {
    if_there(disk::read(path, most)).map_err(|error| StoreError::io(path, &error))
}
