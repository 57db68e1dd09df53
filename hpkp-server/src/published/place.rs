//! The place that a writer has to itself in the directory's marker, where locks say what its server does.

use hpkp_core::published::{Fingerprint, WriterName};

/// How many places there are.
const PLACES: libc::off_t = 1 << 48;

/// The place of a writer among all that there may be; that two have one is beyond all odds.
pub(super) fn place(writer: &WriterName) -> libc::off_t {
    let digest = Fingerprint::of([writer.as_str().as_bytes()]).to_string();
    let digest = digest.get(..12).and_then(|digits| libc::off_t::from_str_radix(digits, 16).ok());
    digest.unwrap_or_default() % PLACES
}
