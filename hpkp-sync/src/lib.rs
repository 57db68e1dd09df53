//! `hpkp sync`: copies the records of this machine's writers into a store, and the records of all other machines into
//! the directory `peers`. Servers and config tests read only files; this program is the one that uses the network.
//!
//! Data flow: `own` reads this machine's files, a `store` lists its content, `records` compares and joins the two,
//! `peers` puts the copies in place, `memory` remembers what has been copied, and `heartbeat`s say which writers
//! run. `mismatch` reports servers whose keys do not match the pins of another server. `index` says where in the
//! copies the records of a host are, so that servers need not read all of them. `pass` does all this once, `command`
//! runs the passes and the command of `--then`.

#![forbid(unsafe_code)]

mod allowed;
mod command;
mod disk;
mod heartbeat;
mod index;
mod memory;
mod mismatch;
mod own;
mod pass;
mod peers;
mod records;
mod report;
pub mod signature;
mod signed;
mod store;

use std::io::Read as _;
use std::time::SystemTime;

pub use command::run;

/// The time in seconds since 1970 UTC; 0 if the clock is before 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Some random bytes, at most 32.
fn random(count: usize) -> Vec<u8> {
    let mut bytes = [0; 32];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    if read.is_err() {
        // The bytes only distinguish machines and runs, so the process id is a sufficient replacement.
        bytes[..4].copy_from_slice(&std::process::id().to_be_bytes());
    }
    bytes[..count.min(32)].to_vec()
}
