//! The reserve: a file that notes the digest of the served configuration. If a configuration could not be recorded, a
//! later config test does not take the last recorded one for the served one.
//!
//! The file has its full length from the beginning, and a slot for each writer. A slot is overwritten in place, which
//! needs no room on the disk: the disk may be full.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::thread;
use std::time::{Duration, Instant};

use hpkp_core::check::Digest;
use hpkp_core::published::WriterName;

use super::{Directory, regular, sys};
use crate::file::if_there;

/// The name of the file.
pub const RESERVE: &str = "hpkp-reserve";

/// The number of writers for which the file has room.
const SLOTS: usize = 64;

/// Bytes of a slot: the name, whether it is on record, the digest, the number of the last event, blanks, and a line
/// feed.
const SLOT: usize = 128;

/// The word before the digest of a configuration that is on record.
const RECORDED: &str = "recorded";

/// How long to wait for the lock. A server must not wait long for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// The content of a writer's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The writer has no slot: it has never recorded anything here.
    None,
    /// The configuration that was served last is on record; its digest, if the slot has it.
    Recorded(Option<Digest>),
    /// The served configuration is not on record; its digest.
    Unrecorded(Digest),
    /// The slot cannot be read.
    Damaged,
}

impl Reserved {
    /// The digest of the configuration that was served last.
    #[must_use]
    pub fn digest(self) -> Digest {
        match self {
            Self::Recorded(Some(digest)) | Self::Unrecorded(digest) => digest,
            // The configuration is not known, so none counts as unchanged.
            _ => Digest::NONE,
        }
    }
}

/// The content of the file in a new directory.
pub(super) fn empty() -> Vec<u8> {
    slot("").repeat(SLOTS)
}

fn slot(text: &str) -> Vec<u8> {
    format!("{text:<width$}\n", width = SLOT - 1).into_bytes()
}

impl Directory {
    /// The content of the slot of `writer`.
    ///
    /// # Errors
    /// The system's.
    pub fn reserved(&self, writer: &WriterName) -> io::Result<Reserved> {
        let Some(slots) = self.slots()? else { return Ok(Reserved::None) };
        let own = slots.iter().find(|slot| name_of(slot) == Some(writer.as_str()));
        // A damaged slot may have been this writer's.
        let is_whole = slots.iter().all(|slot| name_of(slot).is_some() || is_blank(slot));
        Ok(match own {
            Some(slot) => read(slot),
            None if is_whole => Reserved::None,
            None => Reserved::Damaged,
        })
    }

    /// The content of the slot of each writer, and the number of damaged slots.
    ///
    /// # Errors
    /// The system's.
    pub fn all_reserved(&self) -> io::Result<(Vec<(WriterName, Reserved)>, usize)> {
        let Some(slots) = self.slots()? else { return Ok((Vec::new(), 0)) };
        let named =
            slots.iter().filter_map(|slot| Some((name_of(slot)?.parse().ok()?, read(slot))));
        let damaged = slots.iter().filter(|slot| name_of(slot).is_none() && !is_blank(slot));
        Ok((named.collect(), damaged.count()))
    }

    /// The number of the last event that `writer` is known to have written, 0 if it has written none; `None` if it is
    /// not known. If the writer's file ends before that event, it has gone back to an earlier state.
    #[must_use]
    pub fn noted(&self, writer: &WriterName) -> Option<u64> {
        let slots = self.slots().ok()??;
        let own = slots.iter().find(|slot| name_of(slot) == Some(writer.as_str()));
        own.and_then(|slot| last_of(slot))
    }

    /// All slots; `None` if the file does not exist.
    fn slots(&self) -> io::Result<Option<Vec<Vec<u8>>>> {
        let file = if_there(sys::open_at(&self.file, RESERVE).and_then(regular))?;
        file.as_ref().map(slots).transpose()
    }

    /// Writes the state of the served configuration into the slot of `writer`. `last` is the number of its last event,
    /// `None` if that is not known. The file is created if it is missing.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::StorageFull`] if all slots are taken.
    pub fn reserve(
        &self,
        writer: &WriterName,
        served: Reserved,
        last: Option<u64>,
    ) -> io::Result<()> {
        let file = match if_there(sys::change_at(&self.file, RESERVE).and_then(regular))? {
            Some(file) => file,
            None => {
                let file = File::from(sys::new_at(&self.file, RESERVE)?);
                file.write_all_at(&empty(), 0)?;
                file
            }
        };
        lock(&file)?;
        let slots = slots(&file)?;
        let digest = match served {
            Reserved::Unrecorded(digest) => digest.to_string(),
            Reserved::Recorded(Some(digest)) => format!("{RECORDED}:{digest}"),
            _ => RECORDED.to_owned(),
        };
        let own = slots.iter().position(|slot| name_of(slot) == Some(writer.as_str()));
        // The number never goes back, so that lost events stay noticeable. A slot without a number does not tell
        // whether anything was written.
        let last = match own.map(|at| last_of(&slots[at])) {
            None => last,
            Some(known) => known.max(last.filter(|last| *last > 0)),
        };
        let last = last.map_or_else(String::new, |last| last.to_string());
        let new = slot(format!("{writer} {digest} {last}").trim_end());
        // A damaged slot is used last: until it is overwritten, readers notice that a slot is damaged.
        let blank = || slots.iter().position(|slot| is_blank(slot));
        let damaged = || slots.iter().position(|slot| name_of(slot).is_none());
        let Some(at) = own.or_else(blank).or_else(damaged) else {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "all of its slots are taken"));
        };
        if slots[at] != new {
            file.write_all_at(&new, (at * SLOT) as u64)?;
            file.sync_all()?;
        }
        Ok(())
    }
}

/// All slots. If the file is truncated, the missing slots count as damaged: they have null bytes.
fn slots(file: &File) -> io::Result<Vec<Vec<u8>>> {
    let mut slots = Vec::new();
    for at in 0..SLOTS {
        let mut slot = vec![0; SLOT];
        match file.read_exact_at(&mut slot, (at * SLOT) as u64) {
            Ok(()) => slots.push(slot),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => slots.push(vec![0; SLOT]),
            Err(error) => return Err(error),
        }
    }
    Ok(slots)
}

fn is_blank(slot: &[u8]) -> bool {
    slot.iter().all(|byte| matches!(byte, b' ' | b'\n'))
}

/// The writer of a slot; none if the slot is blank or damaged.
fn name_of(slot: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(slot).ok()?;
    let (name, more) = text.strip_suffix('\n')?.trim_end_matches(' ').split_once(' ')?;
    let (digest, last) = more.split_once(' ').unwrap_or((more, "0"));
    let is_whole = served(digest).is_some()
        && last.parse::<u64>().is_ok()
        && name.parse::<WriterName>().is_ok();
    is_whole.then_some(name)
}

/// The number of the last event in a valid slot, if it has one.
fn last_of(slot: &[u8]) -> Option<u64> {
    std::str::from_utf8(slot).ok()?.split_ascii_whitespace().nth(2)?.parse().ok()
}

fn read(slot: &[u8]) -> Reserved {
    let text = std::str::from_utf8(slot).unwrap_or_default();
    text.split_ascii_whitespace().nth(1).and_then(served).unwrap_or(Reserved::Damaged)
}

/// Reads the state in a slot.
fn served(text: &str) -> Option<Reserved> {
    match text.strip_prefix(RECORDED) {
        None => text.parse().ok().map(Reserved::Unrecorded),
        Some("") => Some(Reserved::Recorded(None)),
        Some(digest) => Some(Reserved::Recorded(Some(digest.strip_prefix(':')?.parse().ok()?))),
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
