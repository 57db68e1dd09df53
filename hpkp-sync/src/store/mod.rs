//! A store: an engine that operators already run, which keeps the records of all machines.
//!
//! A store has, for each writer, the lines of its file, to which lines are only ever added, and one heartbeat,
//! which each sync replaces. Only the writer itself writes both. What a store guarantees beyond that is in
//! `docs/how-to/fleet.md`.

mod directory;
mod git;
mod lease;
mod objects;
mod place;
mod postgres;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hpkp_core::published::WriterName;

use crate::heartbeat::Heartbeat;
pub(crate) use lease::{Lease, Term};
pub(crate) use place::{Place, PlaceError};

/// The version of what a store contains, in its marker.
const VERSION: u32 = 1;

/// The name of the marker, which says that a place is a store for records: a directory that is not mounted
/// must not read as "no machine has records".
const MARKER: &str = "hpkp-store";

/// The most writers of a store.
pub(crate) const MAX_WRITERS: usize = 100_000;

/// The largest heartbeat, in bytes.
const MAX_BEAT: usize = 64 << 10;

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
    /// Their lines.
    pub(crate) lines: Vec<u8>,
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
    /// [`StoreError::Leased`] where it is another's by now.
    fn release(&mut self, lease: &Lease) -> Result<(), StoreError>;

    /// Whether it may stay open between passes, since it keeps no other process from using it.
    fn stays_open(&self) -> bool {
        false
    }

    /// Waits until another machine may have written, at most so long.
    fn wait(&mut self, most: Duration) {
        std::thread::sleep(most);
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

/// Opens a store. Some connect only when they are used.
///
/// # Errors
/// See [`StoreError`].
pub(crate) fn open(place: &Place, options: &Options) -> Result<Box<dyn Store>, StoreError> {
    Ok(match place {
        Place::Directory(path) => Box::new(directory::DirectoryStore::new(path)),
        Place::Git(url) => Box::new(git::GitStore::open(url, options)?),
        Place::Postgres(url) => Box::new(postgres::PostgresStore::connect(url, options)?),
        Place::Objects(url) => Box::new(objects::ObjectsStore::open(url, options)?),
    })
}

/// Why a store did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreError {
    /// It cannot be reached, or fails: what it says.
    Failed(String),
    /// It is not one, or not yet.
    NotInitialised,
    /// It is of another version.
    Version(String),
    /// It lets this machine not do that: what it says.
    Denied(String),
    /// The records of a writer have changed since they were read.
    Changed(WriterName),
    /// A lease is another machine's: whose, and for how many more seconds.
    Leased { name: String, holder: String, seconds: i64 },
    /// More than a limit allows: what.
    TooMuch(String),
}

impl StoreError {
    /// The code of the finding.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Failed(_) => "store-unavailable",
            Self::NotInitialised => "store-not-initialised",
            Self::Version(_) => "store-version",
            Self::Denied(_) => "store-denied",
            Self::Changed(_) => "store-records-changed",
            Self::Leased { .. } => "lease-held",
            Self::TooMuch(_) => "store-limit",
        }
    }

    /// An error of the system, at a file.
    fn io(path: &std::path::Path, error: &std::io::Error) -> Self {
        let text = format!("{}: {}", path.display(), hpkp_cli::sync::os(error));
        match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied(text)
            }
            _ => Self::Failed(text),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) => write!(f, "the store is not available: {text}"),
            Self::NotInitialised => f.write_str(
                "no store for records there, so a volume may not be mounted or the name may be wrong; only for \
                 a new store: hpkp sync --init STORE",
            ),
            Self::Version(found) => write!(
                f,
                "the store has version {found}, this software version {VERSION}; if the store is older: hpkp \
                 sync --init STORE; else update this software"
            ),
            Self::Denied(text) => write!(f, "the store refuses that: {text}"),
            Self::Changed(writer) => write!(
                f,
                "{writer}: another machine writes records under this name into the store; each server needs a \
                 writer name of its own (writer=)"
            ),
            Self::Leased { name, holder, seconds } => write!(
                f,
                "{name}: {holder} has the lease, for at most {seconds} seconds more; nothing was changed; try \
                 again then"
            ),
            Self::TooMuch(text) => f.write_str(text),
        }
    }
}

/// Whether a marker has the version of this software.
///
/// # Errors
/// [`StoreError::Version`].
fn check_marker(text: &[u8]) -> Result<(), StoreError> {
    let text = String::from_utf8_lossy(text);
    match text.trim() {
        found if found.parse() == Ok(VERSION) => Ok(()),
        found => Err(StoreError::Version(hpkp_core::text::Excerpt::new(found).to_string())),
    }
}

/// A heartbeat as a store has it.
fn heartbeat(writer: &WriterName, text: &[u8]) -> Result<Heartbeat, String> {
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
