//! The writers that have been silent for too long.

use std::collections::{BTreeMap, BTreeSet};

use super::{Freshness, HeardFile, Records};
use crate::finding::Code;
use crate::published::WriterName;

/// How many seconds a receipt may be in the future and still count as new: the file may be written while
/// the check runs.
const TOLERANCE: i64 = 60;

/// Why a writer counts as silent. If several reasons apply, the first one in this list is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Silence<'a> {
    /// It was heard from at this time, which is longer ago than the limit, both in seconds.
    Since { at: i64, limit: i64 },
    /// It was heard from at a time in the future: the clock was set back, and the age is not known.
    Ahead { at: i64 },
    /// The file that says it cannot be used; why.
    Unreadable { file: &'a str, why: &'a str },
    /// It was never heard from.
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

/// The writers that are silent, each with the directive by which it is.
pub(super) type Silent<'a> = BTreeMap<&'a WriterName, (Silence<'a>, &'a Freshness)>;

/// What a configuration changes for hosts that a silent machine has too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    /// Keys, not all of which satisfy all pins on record, or of which there are none.
    Keys,
    /// Pins.
    Pins,
    /// Pins that the last accepted configuration had too, and did not publish.
    PinsWithheld,
    /// Keys that satisfy all pins on record.
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

/// Why one writer counts as silent, by the file of one directory. None if it was heard from in time, or if the
/// file as a whole cannot say.
fn of_writer<'a>(freshness: &'a Freshness, writer: &WriterName, now: i64) -> Option<Silence<'a>> {
    let all = match &freshness.heard {
        HeardFile::Read(all) => all,
        HeardFile::Missing => return None,
        HeardFile::Unusable(why) => {
            return Some(Silence::Unreadable { file: &freshness.file, why });
        }
    };
    let Some(heard) = all.get(writer) else { return Some(Silence::Never) };
    // Of a time to come nobody knows how long ago it was. To wait for it would be to trust it.
    if heard.at.saturating_sub(now) > TOLERANCE {
        return Some(Silence::Ahead { at: heard.at });
    }
    let limit = freshness.max_staleness;
    (heard.age(now) > limit).then_some(Silence::Since { at: heard.at, limit })
}
