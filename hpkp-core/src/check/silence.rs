//! The writers that have been silent for too long.

use std::collections::{BTreeMap, BTreeSet};

use super::{Freshness, HeardFile, Records};
use crate::finding::Code;
use crate::published::WriterName;

/// How many seconds in the future a receipt may be and still count: the file may be written while the check runs.
const TOLERANCE: i64 = 60;

/// Why a writer counts as silent. If several reasons apply, the first one in this list is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Silence<'a> {
    /// The writer was last heard from at this time, which is longer ago than the limit, both in seconds.
    Since { at: i64, limit: i64 },
    /// The writer was last heard from at a time in the future: the clock was set back, so the age is not known.
    Ahead { at: i64 },
    /// The file of heartbeats cannot be used; its path and the reason.
    Unreadable { file: &'a str, why: &'a str },
    /// The writer was never heard from.
    Never,
}

impl Silence<'_> {
    pub(super) const fn code(self) -> Code {
        match self {
            Self::Since { .. } | Self::Ahead { .. } => Code::PeerSilent,
            Self::Unreadable { .. } => Code::HeartbeatsUnreadable,
            Self::Never => Code::PeerNeverHeard,
        }
    }
}

/// The silent writers, each with the directory whose limit it exceeds.
pub(super) type Silent<'a> = BTreeMap<&'a WriterName, (Silence<'a>, &'a Freshness)>;

/// What a configuration changes for hosts that a silent machine also serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    /// The keys; they do not satisfy all pins on record, or there are no pins on record.
    Keys,
    /// The pins.
    Pins,
    /// The pins, which the last accepted configuration withheld as well.
    PinsWithheld,
    /// The keys; they satisfy all pins on record.
    KeysThatSatisfy,
    /// Nothing.
    None,
}

/// The writers that have been silent for too long and are not recorded as gone.
pub(super) fn silent(records: &Records, now: i64) -> Silent<'_> {
    let own: BTreeSet<&WriterName> =
        records.state.writers().filter(|(_, own)| *own).map(|(writer, _)| writer).collect();
    let mut silent = Silent::new();
    let mut heard: BTreeSet<&WriterName> = BTreeSet::new();
    for freshness in &records.freshness {
        for writer in &freshness.peers {
            match of_writer(freshness, writer, now) {
                None => drop(heard.insert(writer)),
                Some(silence) => {
                    let known = silent.entry(writer).or_insert((silence, freshness));
                    if silence < known.0 {
                        *known = (silence, freshness);
                    }
                }
            }
        }
    }
    silent.retain(|writer, _| {
        !heard.contains(writer)
            && !own.contains(writer)
            && records.writer.as_ref() != Some(*writer)
            && !records.state.is_gone(writer)
    });
    silent
}

/// Why one writer counts as silent, according to the file of one directory. None if it was heard from in time, or if
/// the directory has no such file.
fn of_writer<'a>(freshness: &'a Freshness, writer: &WriterName, now: i64) -> Option<Silence<'a>> {
    let all = match &freshness.heard {
        HeardFile::Read(all) => all,
        HeardFile::Missing => return None,
        HeardFile::Unusable(why) => {
            return Some(Silence::Unreadable { file: &freshness.file, why });
        }
    };
    let Some(heard) = all.get(writer) else { return Some(Silence::Never) };
    // A time in the future does not tell the age. To accept it until it has passed would be to trust it.
    if heard.at.saturating_sub(now) > TOLERANCE {
        return Some(Silence::Ahead { at: heard.at });
    }
    let limit = freshness.max_staleness;
    (heard.age(now) > limit).then_some(Silence::Since { at: heard.at, limit })
}
