//! What all records come to: which pins clients may still hold, and who presents which keys.
//!
//! Events are facts, and a set of facts has no order: files may be read in any order, and twice,
//! and give the same state.

use std::collections::{BTreeMap, HashMap};

use super::event::{Body, Event, EventId, Lifetime, Matching, Origin, Presents, Published, Why};
use super::name::{HostName, WriterName};
use crate::pin::Pin;

/// How long old worker processes may go on sending what has ended, in seconds.
pub const DRAINING: i64 = 24 * 3_600;

/// What was said, by whom and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<T> {
    /// The id of the event.
    pub id: EventId,
    /// When it was written, in seconds since 1970 UTC.
    pub at: i64,
    /// Its number among the events of its writer.
    pub seq: u64,
    /// Who wrote it.
    pub writer: WriterName,
    /// What it says.
    pub said: T,
}

/// The end of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// When, in seconds since 1970 UTC.
    pub at: i64,
    /// Whether it took more than the stop of the server, which may come back as it was. Of several
    /// ends, one is enough: that a server is gone may be said of a day before it stopped.
    pub for_good: bool,
    /// The number of the event that says so among those of its writer.
    pub seq: u64,
    /// That writer.
    pub by: WriterName,
}

/// Who waived an event, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiver {
    /// Who decided it.
    pub who: String,
    /// Why.
    pub why: String,
}

/// For how long published pins bind the hosts they stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Binding {
    /// Up to this time, in seconds since 1970 UTC.
    Until(i64),
    /// They are still being sent; once that ends, for so many seconds.
    Served(i64),
    /// Until somebody says that they have ended.
    Open,
}

impl Binding {
    /// Whether they bind at `now`.
    #[must_use]
    pub fn holds(self, now: i64) -> bool {
        match self {
            Self::Until(time) => time > now,
            Self::Served(_) | Self::Open => true,
        }
    }
}

/// Pins that clients may hold.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    /// Where it was said.
    pub record: &'a Record<Published>,
    /// For how long they bind.
    pub binding: Binding,
    /// Who waived them, where somebody did.
    pub waiver: Option<&'a Waiver>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Progress {
    seq: u64,
    newest: i64,
    /// The number of the last event that came from a configuration.
    configured: u64,
}

/// The state that a set of events comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    published: BTreeMap<EventId, Record<Published>>,
    presents: BTreeMap<EventId, Record<Presents>>,
    ends: HashMap<EventId, End>,
    waivers: HashMap<EventId, Waiver>,
    compromised: BTreeMap<Pin, String>,
    writers: BTreeMap<WriterName, Progress>,
}

impl State {
    /// Adds an event. One that was added before changes nothing.
    pub fn add(&mut self, event: &Event) {
        self.take(event.clone());
    }

    fn take(&mut self, event: Event) {
        let progress = self.writers.entry(event.writer().clone()).or_insert(Progress {
            seq: 0,
            newest: i64::MIN,
            configured: 0,
        });
        if is_of_a_configuration(event.body()) {
            progress.configured = progress.configured.max(event.seq());
        }
        progress.seq = progress.seq.max(event.seq());
        progress.newest = progress.newest.max(event.at());
        let Event { id, at, seq, writer, body, .. } = event;
        match body {
            Body::Writer(_) => {}
            Body::Published(said) => {
                self.published.entry(id).or_insert(Record { id, at, seq, writer, said });
            }
            Body::Presents(said) => {
                self.presents.entry(id).or_insert(Record { id, at, seq, writer, said });
            }
            Body::Ended(ended) => {
                let (at, for_good) = (ended.when.unwrap_or(at), ended.why != Why::Stopped);
                let end = End { at, for_good, seq, by: writer };
                for id in ended.ids {
                    let known = self.ends.entry(id).or_insert_with(|| end.clone());
                    let for_good = known.for_good || end.for_good;
                    if (known.at, known.seq, &known.by) < (end.at, end.seq, &end.by) {
                        known.clone_from(&end);
                    }
                    known.for_good = for_good;
                }
            }
            Body::Waived(waived) => {
                let waiver = Waiver { who: waived.who, why: waived.why };
                for id in waived.ids {
                    let known = self.waivers.entry(id).or_insert_with(|| waiver.clone());
                    if *known < waiver {
                        known.clone_from(&waiver);
                    }
                }
            }
            Body::Compromised(compromised) => {
                let why = self.compromised.entry(compromised.pin).or_default();
                if *why < compromised.why {
                    *why = compromised.why;
                }
            }
        }
    }

    /// Whether nothing was ever said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writers.is_empty()
    }

    /// The pins that clients may hold at `now`, waived ones included.
    pub fn live(&self, now: i64) -> impl Iterator<Item = Live<'_>> {
        self.published.values().filter_map(move |record| {
            let binding = self.binding(record)?;
            let waiver = self.waivers.get(&record.id);
            binding.holds(now).then_some(Live { record, binding, waiver })
        })
    }

    /// Everything that was ever published, in the order of ids.
    pub fn published(&self) -> impl Iterator<Item = &Record<Published>> {
        self.published.values()
    }

    /// Everything that was ever presented, in the order of ids.
    pub fn presents(&self) -> impl Iterator<Item = &Record<Presents>> {
        self.presents.values()
    }

    /// What was published by the event with this id.
    #[must_use]
    pub fn published_by(&self, id: EventId) -> Option<&Record<Published>> {
        self.published.get(&id)
    }

    /// What was presented by the event with this id.
    #[must_use]
    pub fn presents_by(&self, id: EventId) -> Option<&Record<Presents>> {
        self.presents.get(&id)
    }

    /// For how long a record binds; `None` where it never does.
    #[must_use]
    pub fn binding(&self, record: &Record<Published>) -> Option<Binding> {
        let end = self.ends.get(&record.id).map(|end| end.at);
        match record.said.lifetime {
            // Who comes back forgets; who stays away holds what was published before.
            Lifetime::MaxAge(age) if age.seconds() == 0 => None,
            Lifetime::MaxAge(age) => {
                let after = i64::from(age.seconds()) + DRAINING;
                Some(end.map_or(Binding::Served(after), |end| {
                    Binding::Until(end.saturating_add(after))
                }))
            }
            Lifetime::ExpiresAt(time) => {
                Some(Binding::Until(end.map_or(time, |end| time.min(end))))
            }
            Lifetime::Open => Some(end.map_or(Binding::Open, Binding::Until)),
        }
    }

    /// When an event ended, and whether for good.
    #[must_use]
    pub fn end(&self, id: EventId) -> Option<&End> {
        self.ends.get(&id)
    }

    /// Who waived an event.
    #[must_use]
    pub fn waiver(&self, id: EventId) -> Option<&Waiver> {
        self.waivers.get(&id)
    }

    /// Whether a key is no longer its owner's alone.
    #[must_use]
    pub fn is_compromised(&self, pin: Pin) -> bool {
        self.compromised.contains_key(&pin)
    }

    /// When the newest event of a writer was written, in seconds since 1970 UTC.
    #[must_use]
    pub fn newest(&self, writer: &WriterName) -> Option<i64> {
        self.writers.get(writer).map(|progress| progress.newest)
    }

    /// When the newest of all events was written, in seconds since 1970 UTC.
    #[must_use]
    pub fn latest(&self) -> Option<i64> {
        self.writers.values().map(|progress| progress.newest).max()
    }

    /// The number of a writer's last event; 0 where it has none.
    #[must_use]
    pub fn last_seq(&self, writer: &WriterName) -> u64 {
        self.writers.get(writer).map_or(0, |progress| progress.seq)
    }

    /// What the writer of `published` presented for the same hosts while it was published.
    pub fn presented_with<'a>(
        &self,
        published: &'a Record<Published>,
        presents: &'a [&'a Record<Presents>],
    ) -> impl Iterator<Item = &'a Record<Presents>> {
        // Numbers of events, not times: within one second a configuration may take another's place.
        let last = self.last_number(published.id, &published.writer);
        presents.iter().copied().filter(move |record| {
            record.writer == published.writer
                && record.said.matching == published.said.matching
                && record.seq < last
                && published.seq < self.last_number(record.id, &record.writer)
        })
    }

    fn last_number(&self, id: EventId, writer: &WriterName) -> u64 {
        let end = self.ends.get(&id).filter(|end| end.by == *writer);
        end.map_or(u64::MAX, |end| end.seq)
    }

    /// Whether the server that wrote this presents it, or has stopped and will when it comes back:
    /// it is of its last accepted configuration.
    #[must_use]
    pub fn is_presented(&self, record: &Record<Presents>) -> bool {
        !self.is_over(record.id, &record.writer)
    }

    /// Whether an event of `writer` is no longer of its last accepted configuration.
    fn is_over(&self, id: EventId, writer: &WriterName) -> bool {
        let configured = self.writers.get(writer).map_or(0, |progress| progress.configured);
        let end = self.ends.get(&id);
        end.is_some_and(|end| end.for_good || end.by != *writer || configured > end.seq)
    }

    /// What a writer's last accepted configuration published by its header and presented. It outlives
    /// the stop of the server, until the next configuration.
    #[must_use]
    pub fn last_accepted(&self, writer: &WriterName) -> LastAccepted<'_> {
        let mut last = LastAccepted::default();
        for record in self.published.values() {
            let said = &record.said;
            if record.writer == *writer
                && said.origin == Origin::Header
                && !self.is_over(record.id, writer)
            {
                last.published.entry((&said.host, said.matching)).or_default().push(record);
            }
        }
        for record in self.presents.values() {
            let said = &record.said;
            if record.writer == *writer && !self.is_over(record.id, writer) {
                last.presents.entry((&said.host, said.matching)).or_default().push(record);
            }
        }
        last
    }
}

/// The names for which something was said.
pub type Names<'a> = (&'a HostName, Matching);

/// What a writer's last accepted configuration said, by the names. A name may have several entries:
/// servers on different ports.
#[derive(Clone, Debug, Default)]
pub struct LastAccepted<'a> {
    /// What it published.
    pub published: BTreeMap<Names<'a>, Vec<&'a Record<Published>>>,
    /// What it presents.
    pub presents: BTreeMap<Names<'a>, Vec<&'a Record<Presents>>>,
}

pub(super) fn is_of_a_configuration(body: &Body) -> bool {
    match body {
        Body::Presents(_) => true,
        Body::Published(published) => published.origin == Origin::Header,
        _ => false,
    }
}

impl Extend<Event> for State {
    fn extend<I: IntoIterator<Item = Event>>(&mut self, events: I) {
        events.into_iter().for_each(|event| self.take(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::max_age::MaxAge;
    use crate::published::{Ended, Scope};
    use proptest::prelude::*;

    fn published(seq: u64, lifetime: Lifetime, origin: Origin) -> Event {
        let body = Body::Published(Published {
            host: "www.example.com".parse().unwrap(),
            matching: Matching::Exact,
            except: vec![],
            include_subdomains: false,
            scope: Scope::Chain,
            port: None,
            pins: vec![Pin::from_octets([1; 32])],
            lifetime,
            origin,
            since: None,
        });
        Event::new(1_000, seq, "web-1".parse().unwrap(), body)
    }

    fn ended(at: i64, seq: u64, why: Why, id: EventId) -> Event {
        let body = Body::Ended(Ended { ids: vec![id], why, when: None });
        Event::new(at, seq, "web-1".parse().unwrap(), body)
    }

    fn day() -> Lifetime {
        Lifetime::MaxAge(MaxAge::from_seconds(86_400).unwrap())
    }

    fn state<'a>(events: impl IntoIterator<Item = &'a Event>) -> State {
        let mut state = State::default();
        events.into_iter().for_each(|event| state.add(event));
        state
    }

    fn only_binding(state: &State) -> Option<Binding> {
        let record = state.published().next().unwrap();
        state.binding(record)
    }

    #[test]
    fn each_lifetime_ends_in_its_way() {
        let zero = Lifetime::MaxAge(MaxAge::from_seconds(0).unwrap());
        for (lifetime, served, ended_at_5_000) in [
            (zero, None, None),
            (day(), Some(Binding::Served(172_800)), Some(Binding::Until(177_800))),
            (Lifetime::ExpiresAt(9_000), Some(Binding::Until(9_000)), Some(Binding::Until(5_000))),
            (Lifetime::ExpiresAt(2_000), Some(Binding::Until(2_000)), Some(Binding::Until(2_000))),
            (Lifetime::Open, Some(Binding::Open), Some(Binding::Until(5_000))),
        ] {
            let event = published(1, lifetime, Origin::Header);
            assert_eq!(only_binding(&state([&event])), served, "{lifetime:?}");
            let end = ended(5_000, 2, Why::Replaced, event.id());
            assert_eq!(only_binding(&state([&event, &end])), ended_at_5_000, "{lifetime:?}");
        }
    }

    #[test]
    fn of_several_ends_the_latest_counts() {
        let event = published(1, day(), Origin::Header);
        let early = ended(5_000, 2, Why::Replaced, event.id());
        let late = ended(6_000, 3, Why::Stopped, event.id());
        for events in [[&event, &early, &late], [&late, &event, &early]] {
            assert_eq!(only_binding(&state(events)), Some(Binding::Until(178_800)));
        }
    }

    #[test]
    fn the_last_accepted_configuration_outlives_a_stop_and_not_the_next() {
        let writer: WriterName = "web-1".parse().unwrap();
        let count = |events: &[&Event]| {
            let state = state(events.iter().copied());
            state.last_accepted(&writer).published.values().flatten().count()
        };
        let (one, two) = (published(1, day(), Origin::Header), published(9, day(), Origin::Header));
        let other = published(2, day(), Origin::Other("an app".into()));
        assert_eq!(count(&[&one, &other]), 1);
        assert_eq!(count(&[&one, &ended(2_000, 3, Why::Stopped, one.id())]), 1);
        assert_eq!(count(&[&one, &ended(2_000, 3, Why::Stopped, one.id()), &two]), 1);
        assert_eq!(count(&[&one, &two]), 2);
        assert_eq!(count(&[&one, &ended(2_000, 3, Why::Replaced, one.id())]), 0);
    }

    #[test]
    fn what_a_stopped_server_presented_it_will_present_again() {
        let presents = |seq| {
            let body = Body::Presents(Presents {
                host: "www.example.com".parse().unwrap(),
                matching: Matching::Exact,
                ports: vec![443],
                certificates: vec![],
                aside: false,
            });
            Event::new(1_000, seq, "web-1".parse().unwrap(), body)
        };
        let count = |events: &[&Event]| {
            let state = state(events.iter().copied());
            state.presents().filter(|record| state.is_presented(record)).count()
        };
        let one = presents(1);
        let stop = ended(2_000, 2, Why::Stopped, one.id());
        assert_eq!(count(&[&one]), 1);
        assert_eq!(count(&[&one, &stop]), 1);
        assert_eq!(count(&[&one, &stop, &presents(3)]), 1, "the new one alone");
        assert_eq!(count(&[&one, &ended(2_000, 2, Why::Replaced, one.id())]), 0);
        // Somebody says that it was gone before it stopped.
        let gone = Ended { ids: vec![one.id()], why: Why::Other("sold".into()), when: Some(1_500) };
        let gone = Event::new(3_000, 1, "ops".parse().unwrap(), Body::Ended(gone));
        for events in [[&one, &stop, &gone], [&gone, &stop, &one]] {
            assert_eq!(count(&events), 0);
        }
    }

    /// Events about a few things, so that they meet.
    fn events() -> impl Strategy<Value = Vec<Event>> {
        let target = |number: u64| published(number, day(), Origin::Header).id();
        let text = || prop::sample::select(vec!["a", "b"]).prop_map(str::to_owned);
        let body = prop_oneof![
            (0_u64..3, 0_i64..4, any::<bool>()).prop_map(move |(number, when, stopped)| {
                let why = if stopped { Why::Stopped } else { Why::Replaced };
                Body::Ended(Ended { ids: vec![target(number)], why, when: Some(when) })
            }),
            (0_u64..3, text(), text()).prop_map(move |(number, who, why)| {
                Body::Waived(super::super::Waived { ids: vec![target(number)], who, why })
            }),
            (0_u8..2, text()).prop_map(|(number, why)| {
                let pin = Pin::from_octets([number; 32]);
                Body::Compromised(super::super::Compromised { pin, why })
            }),
        ];
        let other = (body, 0_i64..4, 0_u64..9)
            .prop_map(|(body, at, seq)| Event::new(at, seq, "web-1".parse().unwrap(), body));
        let served = (0_u64..3).prop_map(|number| published(number, day(), Origin::Header));
        prop::collection::vec(prop_oneof![other, served], 0..12)
    }

    proptest! {
        #[test]
        fn neither_order_nor_repetition_matters(
            (events, shuffled) in events().prop_flat_map(|events| {
                (Just(events.clone()), Just(events).prop_shuffle())
            }),
            again in any::<prop::sample::Index>(),
        ) {
            let folded = state(&events);
            prop_assert_eq!(&state(&shuffled), &folded);
            let repeated = again.index(events.len() + 1);
            prop_assert_eq!(&state(shuffled.iter().chain(&events[..repeated])), &folded);
        }
    }
}
