//! The store: groups of reports in a database.
//!
//! Data flow: judged reports → [`Writer`] (one thread) → many reports in one transaction, on the disk when it ends → an
//! answer to each sender. Readers use a separate connection. The queries are the same for SQLite and PostgreSQL.

pub mod alarms;
pub mod backend;
mod error;
mod group;
mod pending;
mod postgres;
pub mod query;
mod retention;
mod schema;
mod sqlite;
mod writer;

use std::sync::Mutex;

use crate::configuration::StoreName;
use backend::Backend;

pub use error::StoreError;
pub use group::{Entry, Group, group_id};
pub use query::{Count, Filter};
pub use retention::Size;
pub use writer::{Writer, WriterSettings};

/// Opens the store, and brings its tables up to date.
///
/// # Errors
/// The store cannot be opened, or a newer version of the program created it.
pub fn open(name: &StoreName, size: u64) -> Result<Box<dyn Backend>, StoreError> {
    let mut backend: Box<dyn Backend> = match name {
        StoreName::File(path) => Box::new(sqlite::Sqlite::open(path, size)?),
        StoreName::Postgres(url) => Box::new(postgres::Postgres::open(url)?),
    };
    schema::migrate(&mut *backend)?;
    Ok(backend)
}

/// Opens the store only for reading: creates and changes nothing.
///
/// # Errors
/// The store cannot be opened.
pub fn open_to_read(name: &StoreName) -> Result<Box<dyn Backend>, StoreError> {
    match name {
        StoreName::File(path) => Ok(Box::new(sqlite::Sqlite::open_to_read(path)?)),
        StoreName::Postgres(url) => Ok(Box::new(postgres::Postgres::open(url)?)),
    }
}

/// The connection that all readers share, which is enough for the few pages. It is opened when needed, and again after
/// the database was unavailable.
#[derive(Debug)]
pub struct Reader {
    name: StoreName,
    backend: Mutex<Option<Box<dyn Backend>>>,
}

impl Reader {
    /// A reader of this store.
    #[must_use]
    pub fn new(name: &StoreName) -> Self {
        Self { name: name.clone(), backend: Mutex::default() }
    }

    /// Runs a query. If the database is unavailable, runs it once more on a new connection.
    ///
    /// # Errors
    /// The database's.
    pub fn ask<T>(
        &self,
        query: impl Fn(&mut dyn Backend) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut backend = match self.backend.lock() {
            Ok(backend) => backend,
            Err(poisoned) => poisoned.into_inner(),
        };
        if let Some(backend) = backend.as_deref_mut() {
            match backend.is_in_place().and_then(|()| query(backend)) {
                Err(StoreError::Away(_)) => {}
                answer => return answer,
            }
        }
        let answer = query(&mut **backend.insert(open_to_read(&self.name)?));
        if matches!(answer, Err(StoreError::Away(_))) {
            *backend = None;
        }
        answer
    }
}
