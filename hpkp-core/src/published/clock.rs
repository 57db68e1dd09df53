//! When events happened, if clocks were wrong.
//!
//! An event has the time that its writer's clock showed, and its number tells its place among the
//! events of that writer. If a time cannot be right, other events limit it:
//!
//! - A time to come cannot be that of what was read already. It happened before the next event of its
//!   writer whose time can be right, and before this machine wrote that it had read it (`seen`). That
//!   counts only as long as the time is to come: a machine that was started in 1970, before it had the
//!   time from the network, must not shorten what clients remember.
//! - A time before that of an earlier event of the writer is of a clock that had not been set yet. It
//!   happened before the next event whose time can be right; where there is none, it may have
//!   happened just now.

use std::collections::HashMap;

use super::name::WriterName;
use crate::sorted::distinct;

/// How far a clock may be set back in the course of things, in seconds. An event of within that time
/// counts as having happened with the one before it: old worker processes are given as long.
const STEP: i64 = 24 * 3_600;

/// The numbers and times of a writer's events.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    /// In the order of reading. A configuration writes many events at one time.
    runs: Vec<Run>,
    /// Whether numbers and times have not grown together.
    is_unordered: bool,
    latest: i64,
}

/// Events with numbers that follow each other, of one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) at: i64,
}

/// In whatever order they were read, and how often.
impl PartialEq for Written {
    fn eq(&self, other: &Self) -> bool {
        self.sorted() == other.sorted()
    }
}

impl Eq for Written {}

impl Written {
    fn sorted(&self) -> Vec<(u64, i64)> {
        let events = |run: &Run| {
            let at = run.at;
            (run.first..=run.last).map(move |seq| (seq, at))
        };
        distinct(self.runs.iter().flat_map(events))
    }

    /// In the order of reading.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub(super) fn add(&mut self, seq: u64, at: i64) {
        self.add_run(Run { first: seq, last: seq, at });
    }

    pub(super) fn add_run(&mut self, new: Run) {
        let Some(run) = self.runs.last_mut() else {
            self.runs.push(new);
            self.latest = new.at;
            return;
        };
        if new == (Run { first: run.last, ..*run }) {
            return;
        }
        self.is_unordered |= new.first <= run.last || new.at < run.at;
        self.latest = self.latest.max(new.at);
        match run.last.checked_add(1) == Some(new.first) && run.at == new.at {
            true => run.last = new.last,
            false => self.runs.push(new),
        }
    }

    /// As if the events of `other` came after.
    pub(super) fn join(&mut self, other: &Self) {
        other.runs.iter().for_each(|run| self.add_run(*run));
    }

    /// Whether all times can be right at `now`.
    pub(super) fn is_regular(&self, now: i64) -> bool {
        !self.is_unordered && self.latest <= now
    }

    /// The latest time up to `now` of an event before number `seq`.
    pub(super) fn floor(&self, seq: u64, now: i64) -> i64 {
        let before = self.runs.iter().filter(|run| run.first < seq && run.at <= now);
        before.map(|run| run.at).max().unwrap_or(i64::MIN)
    }
}

/// When events happened, as far as that is known at one time.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    now: i64,
    /// Of events whose time cannot be right: when they happened, at the latest; `None` where it is not
    /// known.
    corrected: HashMap<WriterName, HashMap<u64, Option<i64>>>,
    /// Writers with an event of a time to come, and nothing that bounds it.
    open: Vec<WriterName>,
}

impl Clock {
    pub(super) fn new(now: i64) -> Self {
        Self { now, ..Self::default() }
    }

    /// The present time.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.now
    }

    /// When an event happened that was written `at` this time, by the clock of its writer. `None` if
    /// that is not known; it may have happened just now.
    #[must_use]
    pub fn time(&self, writer: &WriterName, seq: u64, at: i64) -> Option<i64> {
        let corrected = self.corrected.get(writer).and_then(|events| events.get(&seq));
        corrected.copied().unwrap_or(Some(at))
    }

    /// The writers with an event of a time to come that nothing bounds.
    pub(super) fn into_open(self) -> Vec<WriterName> {
        self.open
    }

    /// Takes in the events of a writer. Each of `sights` has the number of an event that had been read
    /// at a time.
    pub(super) fn add(
        &mut self,
        writer: &WriterName,
        written: &Written,
        mut sights: Vec<(u64, i64)>,
    ) {
        let now = self.now;
        let events = written.sorted();
        sights.sort_unstable();
        // Of the events before each one, the latest time that can be right.
        let mut floors = Vec::with_capacity(events.len());
        let mut floor = i64::MIN;
        for (_, at) in &events {
            floors.push(floor);
            if *at <= now {
                floor = floor.max(*at);
            }
        }
        let mut corrected = HashMap::new();
        // From the last one on: the earliest time by which what stands before had happened.
        let mut bound: Option<i64> = None;
        let earlier = |bound: Option<i64>, at: i64| Some(bound.map_or(at, |bound| bound.min(at)));
        for ((seq, at), floor) in events.iter().zip(floors).rev() {
            while sights.last().is_some_and(|(upto, _)| upto >= seq) {
                // What was seen before the events before it were written was seen by a wrong clock.
                if let Some((_, seen)) = sights.pop().filter(|(_, seen)| *seen >= floor) {
                    bound = earlier(bound, seen);
                }
            }
            if *at > now {
                if let Some(known) = bound {
                    corrected.insert(*seq, Some(known));
                } else if !self.open.contains(writer) {
                    self.open.push(writer.clone());
                }
            } else if *at < floor {
                let step = floor.saturating_sub(*at) <= STEP;
                corrected.insert(*seq, if step { Some(floor) } else { bound });
            } else {
                bound = earlier(bound, *at);
            }
        }
        if !corrected.is_empty() {
            self.corrected.insert(writer.clone(), corrected);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(events: &[(u64, i64)], sights: &[(u64, i64)], now: i64) -> Vec<Option<i64>> {
        let writer: WriterName = "web-1".parse().unwrap();
        let mut written = Written::default();
        events.iter().for_each(|(seq, at)| written.add(*seq, *at));
        let mut clock = Clock::new(now);
        clock.add(&writer, &written, sights.to_vec());
        events.iter().map(|(seq, at)| clock.time(&writer, *seq, *at)).collect()
    }

    const DAY: i64 = 86_400;

    #[test]
    fn a_time_to_come_is_bounded_by_what_follows_and_by_who_has_seen_it() {
        let day = |days: i64| 10_000 * DAY + days * DAY;
        let ahead = day(15_000);
        // The next event whose time can be right.
        let events = [(1, day(0)), (2, ahead), (3, day(1))];
        assert_eq!(times(&events, &[], day(2))[1], Some(day(1)));
        // Without one it is what it says.
        assert_eq!(times(&events[..2], &[], day(2))[1], Some(ahead));
        // Somebody has read it; one who read only what is before it has not.
        assert_eq!(times(&events[..2], &[(2, day(3))], day(4))[1], Some(day(3)));
        assert_eq!(times(&events[..2], &[(1, day(3))], day(4))[1], Some(ahead));
        // A machine that was started in 1970 has seen it before it can have happened.
        assert_eq!(times(&events[..2], &[(2, 60)], day(4))[1], Some(ahead));
        // What was to come has come.
        assert_eq!(times(&events[..2], &[(2, day(3))], ahead + 1)[1], Some(ahead));
    }

    #[test]
    fn a_clock_that_was_not_set_yet_shortens_nothing() {
        let day = |days: i64| 10_000 * DAY + days * DAY;
        let events = [(1, day(0)), (2, 60), (3, day(40))];
        assert_eq!(times(&events, &[], day(50))[1], Some(day(40)));
        assert_eq!(times(&events[..2], &[], day(50))[1], None);
        // A step in the course of things is none.
        assert_eq!(times(&[(1, day(0)), (2, day(0) - 3)], &[], day(50))[1], Some(day(0)));
    }
}
