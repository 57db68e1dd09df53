//! A store: an engine that operators already run, which keeps the records of all machines.
//!
//! A store has, for each writer, the lines of its file, to which lines are only ever added, and one heartbeat,
//! which each sync replaces. Only the writer itself writes both. What a store guarantees beyond that is in
//! `docs/how-to/fleet.md`.

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

/// Opens a store. Some connect only when they are used.
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
