//! The trait of all engines, and the data that they exchange with a pass.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hpkp_core::published::WriterName;

use super::error::{StoreError, VERSION};
use super::lease::{Lease, Term};
use crate::heartbeat::Heartbeat;

/// The name of the marker, which says that a place is a store for records: a directory that is not mounted
/// must not read as "no machine has records".
pub(super) const MARKER: &str = "hpkp-store";

/// The most writers of a store.
pub(crate) const MAX_WRITERS: usize = 100_000;

/// The largest heartbeat, in bytes.
pub(super) const MAX_BEAT: usize = 64 << 10;

/// What a store has of a writer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remote {
    /// Which state of its records the store has; another one after each write. Empty where there are none.
    pub(crate) mark: String,
    /// Its newest heartbeat, or what is wrong with it.
    pub(crate) beat: Option<Result<Heartbeat, String>>,
    /// What the store itself shows to be wrong with its records.
    pub(crate) fault: Option<String>,
}

/// Records that are to be read.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Whose.
    pub(crate) writer: WriterName,
    /// Only those with this number or a higher one, where the store can tell.
    pub(crate) from: Option<u64>,
    /// The state of the records that [`Store::list`] gave.
    pub(crate) mark: String,
    /// The state up to which they have been read; empty where they have not.
    pub(crate) known: String,
}

/// Records that have been read.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Whose.
    pub(crate) writer: WriterName,
    /// Their lines, or what is wrong with them in the store.
    pub(crate) lines: Result<Vec<u8>, String>,
    /// Which lines that the store has of the writer these are.
    pub(crate) extent: Extent,
}

/// Which lines of a writer were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All.
    Whole,
    /// Those from [`Wanted::from`] on.
    From,
    /// Those behind [`Wanted::known`].
    Behind,
}

/// What a writer of this machine writes.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    /// Which.
    pub(crate) writer: &'a WriterName,
    /// The state that [`Store::list`] gave; empty where the store had nothing of it. In any other state nothing
    /// is written.
    pub(crate) mark: &'a str,
    /// Its whole file.
    pub(crate) whole: &'a [u8],
    /// Its lines that the store lacks: the number and the id of each, and the line.
    pub(crate) fresh: Vec<(u64, String, &'a str)>,
    /// Its heartbeat.
    pub(crate) beat: Heartbeat,
}

/// A store for records.
pub(crate) trait Store {
    /// Makes an empty store, or updates an old one. One that is up to date stays as it is.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn init(&mut self) -> Result<(), StoreError>;

    /// What the store has of each writer.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn list(&mut self) -> Result<BTreeMap<WriterName, Remote>, StoreError>;

    /// Adds to heartbeats what the listing has left out: their signatures.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn complete(&mut self, _: &mut [&mut Heartbeat]) -> Result<(), StoreError> {
        Ok(())
    }

    /// Reads records, and hands over each writer's at once.
    ///
    /// # Errors
    /// See [`StoreError`]; what was read before has been handed over.
    fn read(
        &mut self,
        wanted: &[Wanted],
        take: &mut dyn FnMut(Piece) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// Adds records and replaces heartbeats. When this returns, the store has acknowledged all of them.
    ///
    /// # Errors
    /// [`StoreError::Changed`] where the records of a writer are not in the state that was expected.
    fn write(&mut self, outgoing: &[Outgoing<'_>]) -> Result<(), StoreError>;

    /// Takes the lease of a name for `term`, if nobody has it or its time is over.
    ///
    /// # Errors
    /// [`StoreError::Leased`] where somebody has it.
    fn lease(&mut self, name: &str, term: &Term) -> Result<Lease, StoreError>;

    /// Gives a lease back.
    ///
    /// # Errors
    /// [`StoreError::Leased`] where it is another's by now, [`StoreError::LeaseLost`] where it is nobody's.
    fn release(&mut self, lease: &Lease) -> Result<(), StoreError>;

    /// Whether it may stay open between passes, since it keeps no other process from using it.
    fn stays_open(&self) -> bool {
        false
    }

    /// Waits until another machine may have written, at most so long. False at once where it cannot tell: then it has
    /// to be opened anew.
    fn wait(&mut self, _most: Duration) -> bool {
        false
    }
}

/// What a store is opened with, besides its place.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// For each operation.
    pub(crate) timeout: Duration,
    /// Where copies of repositories are.
    pub(crate) cache: PathBuf,
}

/// Refuses a store with too many writers.
pub(super) fn check_count(writers: usize) -> Result<(), StoreError> {
    match writers > MAX_WRITERS {
        true => Err(StoreError::TooMuch(format!("the store has more than {MAX_WRITERS} writers"))),
        false => Ok(()),
    }
}

/// Whether a marker has the version of this software.
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

/// A heartbeat as a store has it.
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
