//! Where the last good certificates are while a server runs.

use hpkp_core::published::Fingerprint;

use super::given::{Pair, PairText};
use crate::kept::index::HostPort;

/// A certificate that clients accepted, as a store lists it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Which it is.
    pub id: Fingerprint,
    /// For which hosts it is the last good one. A name may be a pattern of the certificate, or empty: for
    /// clients that name no host, or one that the certificate does not have.
    pub hosts: Vec<HostPort>,
    /// When it was first accepted, in seconds since 1970 UTC.
    pub accepted: i64,
    /// Whether it is kept in memory alone.
    pub in_memory: bool,
}

/// There is no room for one more.
#[derive(Clone, Copy, Debug)]
pub struct NoRoom;

/// The memory that all workers share.
pub trait Store {
    /// Changes whenever something else does.
    fn generation(&self) -> u64;

    /// All that it has.
    fn list(&self) -> Vec<Kept>;

    /// One of them.
    fn text(&self, id: Fingerprint) -> Option<PairText>;

    /// Makes `pair` the only last good certificate for `host`.
    ///
    /// # Errors
    /// [`NoRoom`].
    fn keep(&self, host: &HostPort, pair: &Pair, now: i64, in_memory: bool) -> Result<(), NoRoom>;

    /// Forgets one.
    fn forget(&self, id: Fingerprint);
}
