//! The guard of certificates that are chosen during the handshake: a worker compares the given certificate
//! with the pins that clients hold, and presents the last good certificate if they would refuse it.
//!
//! Data flow: `given` reads the server's variables at a handshake; `judge` asks the core's check about the
//! certificate, once for each certificate and host, with records that `sight` reads again when they change;
//! `choose` decides which certificate is presented. Accepted certificates are kept in a `store` that all workers
//! share, in the form of `entry`, and in `files` for the next start. `before` adds those that were kept while the
//! certificates were not chosen during the handshake. `words` has the messages of the log, and `notice` how often
//! they are repeated.

mod before;
mod choose;
mod entry;
mod files;
mod given;
mod judge;
mod notice;
mod sight;
mod store;
mod words;

pub use before::kept_before;
pub use choose::{Chosen, Guard, Question};
pub use entry::Entry;
pub use files::Files;
pub use given::{Given, Pair, PairText};
pub use judge::{GuardedHost, Judge};
pub use notice::Notice;
pub use sight::Sight;
pub use store::{Kept, NoRoom, Store};

/// A text that contains a private key: it is overwritten when it is dropped.
pub type Text = zeroize::Zeroizing<Vec<u8>>;

/// Overwrites bytes that contain a private key.
pub fn wipe(bytes: &mut [u8]) {
    zeroize::Zeroize::zeroize(bytes);
}
