//! The store of last good certificates while a server runs.

use hpkp_core::published::Fingerprint;

use super::given::{Pair, PairText};
use crate::kept::index::HostPort;

/// A certificate that clients accepted, as a store lists it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its id.
    pub id: Fingerprint,
    /// The hosts for which it is the last good certificate. A name may be a pattern of the certificate. An empty name
    /// is for clients that name no host, or one that the certificate does not have.
    pub hosts: Vec<HostPort>,
    /// When it was first accepted, in seconds since 1970 UTC.
    pub accepted: i64,
    /// Whether it is kept only in memory.
    pub in_memory: bool,
}

/// The store has no room for another certificate.
#[derive(Clone, Copy, Debug)]
pub struct NoRoom;

/// The memory that all workers share.
pub trait Store {
    /// A number that changes with every change of the store.
    fn generation(&self) -> u64;

    /// All certificates in the store.
    fn list(&self) -> Vec<Kept>;

    /// One certificate with its key.
    fn text(&self, id: Fingerprint) -> Option<PairText>;

    /// Makes `pair` the only last good certificate for `host`.
    ///
    /// # Errors
    /// [`NoRoom`].
    fn keep(&self, host: &HostPort, pair: &Pair, now: i64, in_memory: bool) -> Result<(), NoRoom>;

    /// Removes a certificate.
    fn forget(&self, id: Fingerprint);
}
