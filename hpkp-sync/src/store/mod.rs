//! Stores: systems that operators already run (directory, git, PostgreSQL, buckets), with the records of all machines.
//!
//! For each writer a store has the lines of its file and one heartbeat. Lines are only added; each sync replaces the
//! heartbeat. Only the writer itself writes both. `docs/how-to/fleet.md` describes what else a store guarantees.

mod bucket;
mod contract;
mod directory;
mod error;
mod git;
mod lease;
mod objects;
mod place;
mod postgres;

pub(crate) use contract::{Extent, Options, Outgoing, Piece, Remote, Store, Wanted};
pub(crate) use error::StoreError;
pub(crate) use lease::{Lease, Term};
pub(crate) use place::{Place, PlaceError};

/// Opens a store. Some stores connect only at the first operation.
///
/// # Errors
/// See [`StoreError`].
pub(crate) fn open(place: &Place, options: &Options) -> Result<Box<dyn Store>, StoreError> {
    Ok(match place {
        Place::Directory(path) => Box::new(directory::DirectoryStore::new(path, options)),
        Place::Git(url) => Box::new(git::GitStore::open(url, options)?),
        Place::Postgres(url) => Box::new(postgres::PostgresStore::connect(url, options)?),
        Place::Objects(url) => Box::new(objects::ObjectsStore::open(url, options)?),
    })
}
