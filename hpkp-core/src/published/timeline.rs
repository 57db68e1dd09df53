//! What servers presented for a host while they published its pins. A host may have many records of both kinds, so a
//! tree of spans finds those that overlap.

use std::collections::HashMap;

use super::event::{Matching, Presents, Published};
use super::name::{HostName, WriterName};
use super::state::{Record, State};

/// A host set and a writer.
type Key<'a> = (&'a HostName, Matching, &'a WriterName);

/// What every writer presented, by host and in time.
#[derive(Debug)]
pub struct Timelines<'a> {
    state: &'a State,
    by_host: HashMap<Key<'a>, Timeline<'a>>,
}

/// Spans of numbers of one writer's events, from the record to its end. Times would not do: within one second a
/// configuration may replace another.
#[derive(Debug, Default)]
struct Timeline<'a> {
    /// The spans, sorted by their first numbers.
    spans: Vec<Span<'a>>,
    /// A binary tree over the spans: each node has the highest last number of the spans below it. The root is 1, and
    /// the children of `n` are `2n` and `2n + 1`.
    latest: Vec<u64>,
}

#[derive(Debug)]
struct Span<'a> {
    first: u64,
    last: u64,
    record: &'a Record<Presents>,
}

impl<'a> Timelines<'a> {
    /// The timelines of all writers.
    #[must_use]
    pub fn new(state: &'a State) -> Self {
        let mut by_host: HashMap<Key<'a>, Timeline<'a>> = HashMap::new();
        for record in state.presents() {
            let key = (&record.body.host, record.body.matching, &record.writer);
            let last = state.last_number(record);
            let span = Span { first: record.seq, last, record };
            by_host.entry(key).or_default().spans.push(span);
        }
        by_host.values_mut().for_each(Timeline::plant);
        Self { state, by_host }
    }

    /// What the writer of `published` presented for the same hosts while it was published.
    #[must_use]
    pub fn presented_with(&self, published: &Record<Published>) -> Vec<&'a Record<Presents>> {
        let key = (&published.body.host, published.body.matching, &published.writer);
        let mut found = Vec::new();
        if let Some(timeline) = self.by_host.get(&key) {
            let last = self.state.last_number(published);
            let begun = timeline.spans.partition_point(|span| span.first < last);
            let whole = (1, 0, timeline.spans.len());
            timeline.collect(whole, begun, published.seq, &mut found);
        }
        found
    }
}

impl<'a> Timeline<'a> {
    fn plant(&mut self) {
        self.spans.sort_by_key(|span| (span.first, span.record.id));
        self.latest = vec![0; 4 * self.spans.len()];
        self.grow((1, 0, self.spans.len()));
    }

    /// Fills in a node for the spans `from..to`, and returns its value.
    fn grow(&mut self, (node, from, to): (usize, usize, usize)) -> u64 {
        let middle = from.midpoint(to);
        self.latest[node] = match to - from {
            1 => self.spans[from].last,
            _ => self.grow((2 * node, from, middle)).max(self.grow((2 * node + 1, middle, to))),
        };
        self.latest[node]
    }

    /// Collects those of the first `begun` spans that are below a node and end after the event with the number `seq`.
    fn collect(
        &self,
        (node, from, to): (usize, usize, usize),
        begun: usize,
        seq: u64,
        found: &mut Vec<&'a Record<Presents>>,
    ) {
        if from >= begun || self.latest[node] <= seq {
            return;
        }
        if to - from == 1 {
            found.push(self.spans[from].record);
            return;
        }
        let middle = from.midpoint(to);
        self.collect((2 * node, from, middle), begun, seq, found);
        self.collect((2 * node + 1, middle, to), begun, seq, found);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::max_age::MaxAge;
    use crate::pin::Pin;
    use crate::published::{Body, Ended, Event, EventId, Lifetime, Origin, Why};

    fn published(pin: u8) -> Body {
        Body::Published(Published::of_one(
            "a.example".parse().unwrap(),
            vec![Pin::from_bytes([pin; 32])],
            Lifetime::MaxAge(MaxAge::from_seconds(60).unwrap()),
            Origin::Header,
        ))
    }

    fn presents(port: u16) -> Body {
        Body::Presents(Presents::of_one("a.example".parse().unwrap(), port, vec![]))
    }

    /// A history in which records begin and end, and the number at which each of them ended.
    fn history(steps: &[(bool, u8)]) -> (State, HashMap<EventId, u64>) {
        let (mut state, mut open, mut ends) = (State::default(), Vec::new(), HashMap::new());
        for (seq, (begins, which)) in (1..).zip(steps) {
            let body = match begins {
                true if which % 2 == 0 => published(*which),
                true => presents(u16::from(*which)),
                false if open.is_empty() => continue,
                false => {
                    let id = open.remove(usize::from(*which) % open.len());
                    ends.insert(id, seq);
                    Body::Ended(Ended { ids: vec![id], why: Why::Replaced, when: None })
                }
            };
            let event = Event::new(1_000, seq, "web-1".parse().unwrap(), body);
            if *begins {
                open.push(event.id());
            }
            state.add(&event);
        }
        (state, ends)
    }

    proptest! {
        #[test]
        fn the_tree_finds_the_same_as_comparing_all_pairs(
            steps in prop::collection::vec(any::<(bool, u8)>(), 0..60),
        ) {
            let (state, ends) = history(&steps);
            let end = |id| ends.get(&id).copied().unwrap_or(u64::MAX);
            let timelines = Timelines::new(&state);
            for record in state.published() {
                let overlaps = |other: &&Record<Presents>| {
                    other.seq < end(record.id) && record.seq < end(other.id)
                };
                let mut all: Vec<EventId> =
                    state.presents().filter(overlaps).map(|other| other.id).collect();
                let found = timelines.presented_with(record).into_iter();
                let mut found: Vec<EventId> = found.map(|other| other.id).collect();
                all.sort_unstable();
                found.sort_unstable();
                prop_assert_eq!(found, all);
            }
        }
    }
}
