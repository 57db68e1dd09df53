//! What is served and could not be recorded, so that a later test does not take an older configuration
//! for the last one.
//!
//! The file has its whole length from the beginning, and a slot for each writer. A slot is overwritten in
//! place, which needs no room: the disk may be full.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::thread;
use std::time::{Duration, Instant};

use hpkp_core::published::{Fingerprint, WriterName};

use super::{Directory, regular, sys};

/// The name of the file.
pub const RESERVE: &str = "hpkp-reserve";

/// How many writers it has room for.
const SLOTS: usize = 64;

/// Octets of a slot: the name, a blank, the digest, blanks, and a line feed.
const SLOT: usize = 128;

/// What stands in place of a digest where everything is on record.
const RECORDED: &str = "recorded";

/// How long to wait for the lock. A server must not stand still for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the slot of a writer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// It has none: it has never recorded anything here.
    None,
    /// What it served last is on record.
    Recorded,
    /// What it serves is not on record; what tells it from others.
    Unrecorded(Fingerprint),
    /// It cannot be read.
    Damaged,
}

/// The file of a new directory.
pub(super) fn empty() -> Vec<u8> {
    slot("").repeat(SLOTS)
}

fn slot(text: &str) -> Vec<u8> {
    format!("{text:<width$}\n", width = SLOT - 1).into_bytes()
}

impl Directory {
    /// What the slot of `writer` says.
    ///
    /// # Errors
    /// The system's.
    pub fn reserved(&self, writer: &WriterName) -> io::Result<Reserved> {
        let file = match sys::open_at(&self.file, RESERVE).and_then(regular) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Reserved::None),
            Err(error) => return Err(error),
        };
        let slots = slots(&file)?;
        let own = slots.iter().find(|slot| name_of(slot) == Some(writer.as_str()));
        Ok(own.map_or(Reserved::None, |slot| read(slot)))
    }

    /// Writes into the slot of `writer` what it serves and what is not on record; nothing where all of it
    /// is. The file is made where it is missing.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::StorageFull`] where all slots are taken.
    pub fn reserve(&self, writer: &WriterName, unrecorded: Option<Fingerprint>) -> io::Result<()> {
        let file = match sys::change_at(&self.file, RESERVE).and_then(regular) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = File::from(sys::new_at(&self.file, RESERVE)?);
                file.write_all_at(&empty(), 0)?;
                file
            }
            other => other?,
        };
        lock(&file)?;
        let slots = slots(&file)?;
        let digest = unrecorded.map_or_else(|| RECORDED.to_owned(), |digest| digest.to_string());
        let new = slot(&format!("{writer} {digest}"));
        let own = slots.iter().position(|slot| name_of(slot) == Some(writer.as_str()));
        let free = || slots.iter().position(|slot| name_of(slot).is_none());
        let Some(at) = own.or_else(free) else {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "all of its slots are taken"));
        };
        if slots[at] != new {
            file.write_all_at(&new, (at * SLOT) as u64)?;
            file.sync_all()?;
        }
        Ok(())
    }
}

fn slots(file: &File) -> io::Result<Vec<Vec<u8>>> {
    let mut slots = Vec::new();
    for at in 0..SLOTS {
        let mut slot = vec![0; SLOT];
        match file.read_exact_at(&mut slot, (at * SLOT) as u64) {
            Ok(()) => slots.push(slot),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    Ok(slots)
}

fn name_of(slot: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(slot).ok()?;
    text.split(' ').next().filter(|name| !name.trim().is_empty())
}

fn read(slot: &[u8]) -> Reserved {
    let text = std::str::from_utf8(slot).unwrap_or_default();
    match text.split_ascii_whitespace().collect::<Vec<_>>().as_slice() {
        [_, RECORDED] => Reserved::Recorded,
        [_, digest] => digest.parse().map_or(Reserved::Damaged, Reserved::Unrecorded),
        _ => Reserved::Damaged,
    }
}

fn lock(file: &File) -> io::Result<()> {
    let started = Instant::now();
    while !sys::lock(file)? {
        if started.elapsed() > PATIENCE {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "another process has locked it"));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
