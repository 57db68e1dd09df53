//! The range of each writer in the directory's marker. Locks there tell what the writer's server does.

use hpkp_core::published::{Fingerprint, WriterName};

/// How many places there are.
const PLACES: libc::off_t = 1 << 48;

/// The place of a writer. It is a hash, so it is extremely unlikely that two writers have the same place.
pub(super) fn place(writer: &WriterName) -> libc::off_t {
    let digest = Fingerprint::of([writer.as_str().as_bytes()]).to_string();
    let digest = digest.get(..12).and_then(|digits| libc::off_t::from_str_radix(digits, 16).ok());
    digest.unwrap_or_default() % PLACES
}
