//! When events happened, even if clocks were wrong.
//!
//! An event has the time of its writer's clock, and a number that gives its order among the events of that writer. If a
//! time cannot be right, other events limit it:
//!
//! - A time in the future cannot be right for an event that has been read already. The event happened before the next
//!   event of its writer whose time can be right, and before this machine wrote that it had read it (`seen`). These
//!   limits count only while the time is in the future: a machine that started in 1970, before it had the time from the
//!   network, must not shorten what clients remember.
//! - A time before that of an earlier event of the writer comes from a clock that was not set yet. The event happened
//!   before the next event whose time can be right; without such an event it may have happened just now.

use std::collections::HashMap;

use super::name::WriterName;
use crate::sorted::distinct;

/// How far back a clock may normally be set, in seconds. An event within that time counts as simultaneous with the one
/// before it. Old worker processes get the same time to end.
const STEP: i64 = 24 * 3_600;

/// The numbers and times of a writer's events.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    /// The events in the order of reading, in runs, because a configuration writes many events at one time.
    runs: Vec<Run>,
    /// Whether some event has a lower number or an earlier time than the one before it.
    is_unordered: bool,
    latest: i64,
}

/// Events with consecutive numbers and the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) at: i64,
}

/// Equal if they have the same events, whatever the order and however often each was read.
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

    /// Adds the events of `other` after these.
    pub(super) fn join(&mut self, other: &Self) {
        other.runs.iter().for_each(|run| self.add_run(*run));
    }

    /// Whether all times can be right at `now`.
    pub(super) fn is_regular(&self, now: i64) -> bool {
        !self.is_unordered && self.latest <= now
    }

    /// The latest time, up to `now`, of the events before number `seq`.
    pub(super) fn floor(&self, seq: u64, now: i64) -> i64 {
        let before = self.runs.iter().filter(|run| run.first < seq && run.at <= now);
        before.map(|run| run.at).max().unwrap_or(i64::MIN)
    }
}

/// When events happened, as far as that is known at one time.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    now: i64,
    /// For events whose time cannot be right, the latest time at which they happened; `None` if that is not known.
    corrected: HashMap<WriterName, HashMap<u64, Option<i64>>>,
    /// Writers with an event whose time is in the future and that no other event limits.
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

    /// When an event happened; `at` is its time by the clock of its writer. `None` if that is not known: it may have
    /// happened just now.
    #[must_use]
    pub fn time(&self, writer: &WriterName, seq: u64, at: i64) -> Option<i64> {
        let corrected = self.corrected.get(writer).and_then(|events| events.get(&seq));
        corrected.copied().unwrap_or(Some(at))
    }

    /// The writers with an event whose time is in the future and that no other event limits.
    pub(super) fn into_open(self) -> Vec<WriterName> {
        self.open
    }

    /// Adds the events of a writer. Each of `sights` is the number of an event, and a time at which it had been read.
    pub(super) fn add(
        &mut self,
        writer: &WriterName,
        written: &Written,
        mut sights: Vec<(u64, i64)>,
    ) {
        let now = self.now;
        let events = written.sorted();
        sights.sort_unstable();
        // For each event, the latest possible time of the events before it.
        let mut floors = Vec::with_capacity(events.len());
        let mut floor = i64::MIN;
        for (_, at) in &events {
            floors.push(floor);
            if *at <= now {
                floor = floor.max(*at);
            }
        }
        let mut corrected = HashMap::new();
        // Going backwards from the last event: the earliest time at which all earlier events had happened.
        let mut bound: Option<i64> = None;
        let earlier = |bound: Option<i64>, at: i64| Some(bound.map_or(at, |bound| bound.min(at)));
        for ((seq, at), floor) in events.iter().zip(floors).rev() {
            while sights.last().is_some_and(|(upto, _)| upto >= seq) {
                // A sight before the earlier events were written comes from a wrong clock.
                if let Some((_, read)) = sights.pop().filter(|(_, read)| *read >= floor) {
                    bound = earlier(bound, read);
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
    fn a_time_in_the_future_is_limited_by_later_events_and_by_sights() {
        let day = |days: i64| 10_000 * DAY + days * DAY;
        let ahead = day(15_000);
        // The next event has a possible time.
        let events = [(1, day(0)), (2, ahead), (3, day(1))];
        assert_eq!(times(&events, &[], day(2))[1], Some(day(1)));
        // Without a later event the time counts as it is.
        assert_eq!(times(&events[..2], &[], day(2))[1], Some(ahead));
        // A sight of the event limits its time, one of an earlier event does not.
        assert_eq!(times(&events[..2], &[(2, day(3))], day(4))[1], Some(day(3)));
        assert_eq!(times(&events[..2], &[(1, day(3))], day(4))[1], Some(ahead));
        // A sight in 1970, before the event can have happened, limits nothing.
        assert_eq!(times(&events[..2], &[(2, 60)], day(4))[1], Some(ahead));
        // The time is no longer in the future.
        assert_eq!(times(&events[..2], &[(2, day(3))], ahead + 1)[1], Some(ahead));
    }

    #[test]
    fn an_event_of_a_clock_that_was_not_set_yet_happened_later() {
        let day = |days: i64| 10_000 * DAY + days * DAY;
        let events = [(1, day(0)), (2, 60), (3, day(40))];
        assert_eq!(times(&events, &[], day(50))[1], Some(day(40)));
        assert_eq!(times(&events[..2], &[], day(50))[1], None);
        // A small step back counts as simultaneous.
        assert_eq!(times(&[(1, day(0)), (2, day(0) - 3)], &[], day(50))[1], Some(day(0)));
    }
}
