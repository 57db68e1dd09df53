//! The digest of a configuration that a server cannot write anywhere, not even into the reserve, because the file
//! system is read-only.
//!
//! The running server publishes the digest by locks on the directory's marker, which need neither room nor write
//! permission: one lock for each four digits of the digest, at an offset that encodes these digits. The locks end with
//! the server. After that the digest is lost, but then only a start follows, and a start refuses nothing.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

use hpkp_core::check::Digest;
use hpkp_core::published::WriterName;

use super::place::place;
use super::{Directory, MARKER, sys};

/// The locks that this server holds. The file stays open as long as they are held.
static HELD: Mutex<Option<Held>> = Mutex::new(None);

/// The descriptor of that file, for a child that must not wait for the mutex. -1 if there is none.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);

/// The offset of the locks, before those of claims, which are below the largest offset of a file.
const FIRST: libc::off_t = 1 << 61;

/// How many writers have ranges of their own.
const WRITERS: libc::off_t = 1 << 40;

/// How many parts a digest has, and of how many values each is one.
const PARTS: libc::off_t = 8;
const VALUES: libc::off_t = 1 << 16;

/// The locks that publish a digest.
pub(super) struct Held(File);

impl Held {
    pub(super) fn new(
        directory: &Directory,
        writer: &WriterName,
        digest: Digest,
    ) -> io::Result<Self> {
        let file = File::from(sys::open_at(&directory.file, MARKER)?);
        let digits = digest.to_string();
        for (part, at) in (0..PARTS).zip((0..).step_by(4)) {
            let value = digits.get(at..at + 4);
            let value = value.and_then(|digits| libc::off_t::from_str_radix(digits, 16).ok());
            sys::share(&file, first(writer, part) + value.unwrap_or_default())?;
        }
        Ok(Self(file))
    }
}

/// The offset at which the values of a part begin.
fn first(writer: &WriterName, part: libc::off_t) -> libc::off_t {
    FIRST + (place(writer) % WRITERS * PARTS + part) * VALUES
}

impl Directory {
    /// Publishes the digest of the served configuration by locks, while this server runs.
    ///
    /// # Errors
    /// The system's.
    pub fn hold(&self, writer: &WriterName, digest: Digest) -> io::Result<()> {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Held::new(self, writer, digest)?;
        DESCRIPTOR.store(new.0.as_raw_fd(), Ordering::Relaxed);
        *held = Some(new);
        Ok(())
    }

    /// The digest that a running server with this writer name publishes by locks. If several servers publish different
    /// digests, it is not known which is the last, so the result is the digest of no configuration.
    ///
    /// # Errors
    /// The system's.
    pub fn held(&self, writer: &WriterName) -> io::Result<Option<Digest>> {
        let file = File::from(sys::open_at(&self.file, MARKER)?);
        let mut digits = String::new();
        for part in 0..PARTS {
            let first = first(writer, part);
            let Some(at) = sys::next_lock(&file, first, VALUES)? else { return Ok(None) };
            let value = at - first;
            if sys::next_lock(&file, at + 1, VALUES - value - 1)?.is_some() {
                return Ok(Some(Digest::NONE));
            }
            digits += &format!("{value:04x}");
        }
        Ok(Some(digits.parse().unwrap_or(Digest::NONE)))
    }
}

/// Releases the locks, because the served configuration is on record or in the reserve.
pub fn release() {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    DESCRIPTOR.store(-1, Ordering::Relaxed);
    *held = None;
}

/// Closes, in a child that has just been forked, its copy of the descriptor of its parent's locks.
///
/// # Safety
/// As for [`close_in_child`](super::close_in_child).
pub(super) unsafe fn close_in_child() {
    let descriptor = DESCRIPTOR.swap(-1, Ordering::Relaxed);
    if descriptor >= 0 {
        // SAFETY: `hold` opened the descriptor, whose owner is a static that is never dropped. By the caller's promise
        // nothing in this process uses the descriptor any more.
        unsafe { libc::close(descriptor) };
    }
}
