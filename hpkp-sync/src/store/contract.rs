//! The trait that all engines implement, and the data that they exchange with a pass.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hpkp_core::published::WriterName;

use super::error::{StoreError, VERSION};
use super::lease::{Lease, Term};
use crate::heartbeat::Heartbeat;

/// The name of the marker, which identifies a store for records: a directory that is not mounted must not be taken for
/// an empty store.
pub(super) const MARKER: &str = "hpkp-store";

/// The most writers of a store.
pub(crate) const MAX_WRITERS: usize = 100_000;

/// The largest heartbeat, in bytes.
pub(super) const MAX_BEAT: usize = 64 << 10;

/// The state of a writer in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remote {
    /// Identifies the state of the writer's records; changes with each write. Empty without records.
    pub(crate) mark: String,
    /// The writer's newest heartbeat, or what is wrong with it.
    pub(crate) beat: Option<Result<Heartbeat, String>>,
    /// What is wrong with the records, if the listing alone reveals it.
    pub(crate) fault: Option<String>,
}

/// A request to read the records of a writer.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The writer.
    pub(crate) writer: WriterName,
    /// Read only records with this number or a higher one, if the store can select them.
    pub(crate) from: Option<u64>,
    /// The state of the records that [`Store::list`] gave.
    pub(crate) mark: String,
    /// The state of the records that was read last; empty where none was.
    pub(crate) known: String,
}

/// Records of a writer that have been read.
#[derive(Debug)]
pub(crate) struct Piece {
    /// The writer.
    pub(crate) writer: WriterName,
    /// The lines, or what is wrong with them in the store.
    pub(crate) lines: Result<Vec<u8>, String>,
    /// Which of the writer's lines in the store these are.
    pub(crate) extent: Extent,
}

/// Which lines of a writer were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All.
    Whole,
    /// Those from [`Wanted::from`] on.
    From,
    /// Those after [`Wanted::known`].
    Behind,
}

/// What a writer of this machine writes.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    /// The writer.
    pub(crate) writer: &'a WriterName,
    /// The state that [`Store::list`] gave; empty where the store had no records. If the store has another state,
    /// nothing is written.
    pub(crate) mark: &'a str,
    /// The whole file of the writer.
    pub(crate) whole: &'a [u8],
    /// The lines that the store lacks: for each, its number, its id and the line.
    pub(crate) fresh: Vec<(u64, String, &'a str)>,
    /// The new heartbeat.
    pub(crate) beat: Heartbeat,
}

/// A store for records.
pub(crate) trait Store {
    /// Creates an empty store, or updates an old one. A store that is up to date is not changed.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn init(&mut self) -> Result<(), StoreError>;

    /// The state of each writer in the store.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn list(&mut self) -> Result<BTreeMap<WriterName, Remote>, StoreError>;

    /// Adds the signatures to heartbeats, if the listing does not include them.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn complete(&mut self, _: &mut [&mut Heartbeat]) -> Result<(), StoreError> {
        Ok(())
    }

    /// Reads records, and passes all records of a writer to one call of `take`.
    ///
    /// # Errors
    /// See [`StoreError`]; records that were read before the error have been passed to `take`.
    fn read(
        &mut self,
        wanted: &[Wanted],
        take: &mut dyn FnMut(Piece) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// Adds records and replaces heartbeats. When this returns, the store has acknowledged all of them.
    ///
    /// # Errors
    /// [`StoreError::Changed`] if the records of a writer are not in the expected state.
    fn write(&mut self, outgoing: &[Outgoing<'_>]) -> Result<(), StoreError>;

    /// Takes the lease of a name for `term`, if nobody has the lease or it has expired.
    ///
    /// # Errors
    /// [`StoreError::Leased`] if another machine has it.
    fn lease(&mut self, name: &str, term: &Term) -> Result<Lease, StoreError>;

    /// Gives a lease back.
    ///
    /// # Errors
    /// [`StoreError::Leased`] if another machine has the lease by now, [`StoreError::LeaseLost`] if nobody has it.
    fn release(&mut self, lease: &Lease) -> Result<(), StoreError>;

    /// Whether the store may stay open between passes: an open store must not lock out other processes.
    fn stays_open(&self) -> bool {
        false
    }

    /// Waits until another machine may have written, at most `_most`. Returns false at once if the store cannot wait:
    /// then it must be opened again.
    fn wait(&mut self, _most: Duration) -> bool {
        false
    }
}

/// The options to open a store with.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The time limit of each operation.
    pub(crate) timeout: Duration,
    /// The directory with the copies of repositories.
    pub(crate) cache: PathBuf,
}

/// Returns an error for a store with too many writers.
pub(super) fn check_count(writers: usize) -> Result<(), StoreError> {
    match writers > MAX_WRITERS {
        true => Err(StoreError::TooMuch(format!("the store has more than {MAX_WRITERS} writers"))),
        false => Ok(()),
    }
}

/// Checks that a marker has the version of this software.
///
/// # Errors
/// [`StoreError::Version`].
pub(super) fn check_marker(text: &[u8]) -> Result<(), StoreError> {
    let text = String::from_utf8_lossy(text);
    match text.trim() {
        found if found.parse() == Ok(VERSION) => Ok(()),
        found => Err(StoreError::Version(hpkp_core::text::Excerpt::new(found).to_string())),
    }
}

/// Reads a heartbeat as it is in a store, and checks that it belongs to the writer.
pub(super) fn heartbeat(writer: &WriterName, text: &[u8]) -> Result<Heartbeat, String> {
    if text.len() > MAX_BEAT {
        return Err(format!("its heartbeat has more than {MAX_BEAT} bytes"));
    }
    let beat: Heartbeat =
        serde_json::from_slice(text).map_err(|_| "its heartbeat is invalid".to_owned())?;
    if beat.writer == writer.as_str() {
        Ok(beat)
    } else {
        Err("its heartbeat is of another writer".to_owned())
    }
}
