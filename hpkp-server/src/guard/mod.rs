//! The guard of certificates that are chosen during the handshake: a worker compares what it is given with
//! the pins that clients hold, and presents the last good certificate where they would refuse it.
//!
//! Data flow: `given` is what the server's variables say at a handshake; `judge` asks the core's check about
//! it, once for each certificate and host, with records that `sight` reads again when they change; `choose`
//! decides what is presented. What clients accept is kept in a `store` that all workers share, in the form of
//! `entry`, and in `files` for the start after this one. `before` brings what was kept
//! while the certificates were not chosen during the handshake. `words` is what the log says, and `told` how often.

mod before;
mod choose;
mod entry;
mod files;
mod given;
mod judge;
mod sight;
mod store;
mod told;
mod words;

pub use before::kept_before;
pub use choose::{Chosen, Guard, Question};
pub use entry::Entry;
pub use files::Files;
pub use given::{Given, Pair, PairText};
pub use judge::{GuardedHost, Judge};
pub use sight::Sight;
pub use store::{Kept, NoRoom, Store};
pub use told::Told;

/// What contains a private key: it is overwritten when it is given up.
pub type Text = zeroize::Zeroizing<Vec<u8>>;

/// Overwrites what contains a private key.
pub fn wipe(octets: &mut [u8]) {
    zeroize::Zeroize::zeroize(octets);
}
