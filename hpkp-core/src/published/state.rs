//! The state that follows from all records: which pins clients may still hold, and who presents
//! which keys.
//!
//! Events are facts, and a set of facts has no order: files may be read in any order, and twice,
//! and give the same state. Which events are trusted depends on where they were read
//! ([`Standing`]), and when they happened on the other events of their writer
//! ([`clock`](super::clock)).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::clock::Clock;
use super::event::{
    self, Body, Event, Lifetime, Matching, Origin, Presents, Published, Sight, Why, Withheld,
};
use super::id::EventId;
use super::index::ByPort;
use super::name::{HostName, WriterName};
use super::summary::Summary;
use crate::pin::Pin;
use crate::sorted::distinct;

/// How long old worker processes may continue to send a header that has ended, in seconds.
pub const DRAINING: i64 = 24 * 3_600;

/// Where an event was read, which decides whether it is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In a file of this machine: its operator, its command and its servers wrote it.
    Own,
    /// In a copy of another machine's file. It is trusted only about its own writer.
    Peer,
}

/// The content of an event, its writer and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<T> {
    /// The id of the event.
    pub id: EventId,
    /// When it was written, in seconds since 1970 UTC, by the clock of its writer.
    pub at: i64,
    /// Its number among the events of its writer.
    pub seq: u64,
    /// Who wrote it.
    pub writer: WriterName,
    /// What it says.
    pub body: T,
}

/// The end of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// When, in seconds since 1970 UTC, by the clock of the writer of the end.
    pub at: i64,
    /// Whether it is more than a stop of the server, which may come back with the same
    /// configuration. If there are several ends, one such end is enough: a server may be recorded
    /// as gone with a date before its stop.
    pub for_good: bool,
    /// The number of the event that says so among those of its writer.
    pub seq: u64,
    /// That writer.
    pub by: WriterName,
    /// That event.
    event: EventId,
    /// Whether the event names another time than its own.
    is_dated: bool,
    /// Whether it is the end of all that its writer had not ended itself.
    is_of_writer: bool,
    standing: Standing,
}

impl End {
    /// Whether `writer` itself has put something else in the place of what it ends. That the writer is gone
    /// since then ends nothing again: clients would seem to hold what they forgot long ago.
    fn is_replacement(&self, writer: &WriterName) -> bool {
        self.for_good && self.by == *writer && !self.is_of_writer
    }

    /// The same, as the end of all that its writer had not ended itself.
    fn of_writer(self) -> Self {
        Self { is_of_writer: true, ..self }
    }
}

/// Who waived an event, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiver {
    /// Who decided it.
    pub who: String,
    /// Why.
    pub why: String,
}

/// A waiver, and whom it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Waived {
    waiver: Waiver,
    by: WriterName,
    standing: Standing,
}

/// For how long clients hold published pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retention {
    /// Up to this time, in seconds since 1970 UTC.
    Until(i64),
    /// They are still being sent; once that ends, for so many seconds.
    WhilePublished(i64),
    /// Until an `ended` event.
    Indefinite,
}

impl Retention {
    /// Whether they bind at `now`.
    #[must_use]
    pub fn holds(self, now: i64) -> bool {
        match self {
            Self::Until(time) => time > now,
            Self::WhilePublished(_) | Self::Indefinite => true,
        }
    }
}

/// Pins that clients may hold.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    /// Its record.
    pub record: &'a Record<Published>,
    /// For how long clients hold them.
    pub retention: Retention,
    /// Who waived them, where somebody did.
    pub waiver: Option<&'a Waiver>,
}

/// What is known of a writer besides its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Progress {
    summary: Summary,
    is_own: bool,
}

/// What was said of the end of a writer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gone {
    upto: u64,
    instance: Option<String>,
    end: End,
}

/// What a server stopped with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// The events that say so.
    pub(crate) by: Vec<EventId>,
    /// What they end.
    pub(crate) of: HashMap<Body, EventId>,
    /// What they end that was of an earlier configuration.
    pub(crate) left: Vec<EventId>,
}

/// Events of peers about the records of others, which have no effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overreach {
    /// How many live records they end.
    pub ends: usize,
    /// How many live records they waive.
    pub waives: usize,
    /// The writers that they declare gone.
    pub gone: Vec<WriterName>,
    /// The writers of these records.
    pub of: Vec<WriterName>,
}

/// By their ids. They come in no order, so that what a tree has to move shall be small.
type Records<T> = BTreeMap<EventId, Box<Record<T>>>;

/// The state that follows from a set of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    published: Records<Published>,
    presents: Records<Presents>,
    withheld: Records<Withheld>,
    /// Of each event, of each that says so the last one of either kind.
    ends: HashMap<EventId, Vec<End>>,
    waived: HashMap<EventId, Vec<Waived>>,
    gone: HashMap<WriterName, Vec<Gone>>,
    /// Stops that a start took back, by whoever says so, and what stays ended all the same.
    again: HashMap<EventId, BTreeMap<WriterName, HashSet<EventId>>>,
    /// What each writer of this machine has seen last of others, with the number of the event.
    seen: HashMap<WriterName, (u64, Vec<Sight>)>,
    /// Who was seen up to which number, by whom, and when: the number and the time of that event.
    sights: HashMap<WriterName, BTreeSet<(u64, WriterName, u64, i64)>>,
    /// What is no longer of the last accepted configuration of the writer who says so, and has not ended.
    succeeded: HashMap<EventId, WriterName>,
    compromised: BTreeMap<Pin, String>,
    writers: BTreeMap<WriterName, Progress>,
    /// Whose files could be read in part alone.
    unread: BTreeSet<WriterName>,
}

impl State {
    /// Adds an event of a file of this machine. One that was added before changes nothing.
    pub fn add(&mut self, event: &Event) {
        self.take(event.clone(), Standing::Own);
    }

    /// Adds an event that was read where `standing` says.
    pub fn take(&mut self, event: Event, standing: Standing) {
        self.note_progress(&event, standing);
        self.take_body(event, standing);
    }

    fn take_body(&mut self, event: Event, standing: Standing) {
        let Event { id, at, seq, writer, body, .. } = event;
        let end = |when: Option<i64>, for_good| End {
            at: when.unwrap_or(at),
            for_good,
            seq,
            by: writer.clone(),
            event: id,
            is_dated: when.is_some(),
            is_of_writer: false,
            standing,
        };
        match body {
            // It is in the summary.
            Body::Writer(_) => {}
            Body::Published(body) => {
                let record = || Box::new(Record { id, at, seq, writer, body });
                self.published.entry(id).or_insert_with(record);
            }
            Body::Presents(body) => {
                let record = || Box::new(Record { id, at, seq, writer, body });
                self.presents.entry(id).or_insert_with(record);
            }
            Body::Withheld(body) => {
                let record = || Box::new(Record { id, at, seq, writer, body });
                self.withheld.entry(id).or_insert_with(record);
            }
            Body::Ended(ended) => {
                let end = end(ended.when, ended.why != Why::Stopped);
                for id in ended.ids {
                    // Most have one.
                    add_end(self.ends.entry(id).or_insert_with(|| Vec::with_capacity(1)), &end);
                }
            }
            Body::Waived(waived) => {
                let waiver = Waiver { who: waived.who, why: waived.why };
                let new = Waived { waiver, by: writer, standing };
                for id in waived.ids {
                    add_waiver(self.waived.entry(id).or_default(), &new);
                }
            }
            Body::Compromised(compromised) => {
                let why = self.compromised.entry(compromised.pin).or_default();
                if *why < compromised.why {
                    *why = compromised.why;
                }
            }
            Body::Gone(event::Gone { of, instance, upto, when, .. }) => {
                let gone = Gone { upto, instance, end: end(when, true).of_writer() };
                add_gone(self.gone.entry(of).or_default(), gone);
            }
            Body::Again(again) => {
                for id in again.ids {
                    let of = self.again.entry(id).or_default().entry(writer.clone()).or_default();
                    of.extend(again.except.iter().copied());
                }
            }
            // What others have seen is theirs to remember.
            Body::Seen(seen) if standing == Standing::Own => self.see(seen, writer, seq, at),
            Body::Seen(_) => {}
        }
    }

    /// Notes how far a writer's file has come.
    fn note_progress(&mut self, event: &Event, standing: Standing) {
        let progress = self.writers.entry(event.writer().clone()).or_default();
        progress.summary.note(event);
        progress.is_own |= standing == Standing::Own;
    }

    /// Notes how far the copy of another machine's file has come of which [`State::take_listed`] takes some
    /// events alone.
    pub fn take_summary(&mut self, writer: &WriterName, summary: &Summary) {
        self.writers.entry(writer.clone()).or_default().summary.join(summary);
    }

    /// Adds an event of a copy whose summary has been taken.
    pub fn take_listed(&mut self, event: Event) {
        self.take_body(event, Standing::Peer);
    }

    /// Notes what a writer of this machine has read of others.
    fn see(&mut self, seen: event::Seen, writer: WriterName, seq: u64, at: i64) {
        for sight in &seen.of {
            let all = self.sights.entry(sight.writer.clone()).or_default();
            all.insert((sight.seq, writer.clone(), seq, at));
        }
        let last = self.seen.entry(writer.clone()).or_default();
        if last.0 <= seq {
            *last = (seq, seen.of);
        }
        self.succeeded.extend(seen.succeeded.into_iter().map(|id| (id, writer.clone())));
    }

    /// Notes that the file of `writer` could be read only in part, so that missing events of it mean
    /// nothing.
    pub fn unread(&mut self, writer: WriterName) {
        self.unread.insert(writer);
    }

    /// Whether there are no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writers.is_empty()
    }

    /// When events happened, as far as that is known at `now`.
    #[must_use]
    pub fn clock(&self, now: i64) -> Clock {
        let mut clock = Clock::new(now);
        let own = |writer: &WriterName| {
            self.writers.get(writer).map(|progress| &progress.summary.written)
        };
        for (writer, progress) in &self.writers {
            if progress.summary.written.is_regular(now) {
                continue;
            }
            // A sight counts where its own time is one that its writer's clock may have shown.
            let sights = self.sights.get(writer).into_iter().flatten();
            let sights = sights.filter(|(_, by, seq, at)| {
                *at <= now && own(by).is_some_and(|written| written.floor(*seq, now) <= *at)
            });
            let sights: Vec<(u64, i64)> = sights.map(|(upto, _, _, at)| (*upto, *at)).collect();
            clock.add(writer, &progress.summary.written, sights);
        }
        clock
    }

    /// The pins that clients may hold at `now`, waived ones included.
    pub fn live(&self, now: i64) -> impl Iterator<Item = Live<'_>> {
        let clock = self.clock(now);
        self.published.values().filter_map(move |record| {
            let retention = self.retention(record, &clock)?;
            let waiver = self.waiver_of(record);
            retention.holds(now).then_some(Live { record, retention, waiver })
        })
    }

    /// The first bytes of the ids of all records.
    #[must_use]
    pub fn prefixes(&self) -> HashSet<u32> {
        let presents = self.presents.keys().chain(self.withheld.keys());
        self.published.keys().chain(presents).map(|id| id.prefix()).collect()
    }

    /// The hosts of all records, and who comes to them by a port alone.
    pub fn hosts(&self) -> impl Iterator<Item = (&HostName, ByPort)> {
        let published = self.published.values();
        let presents = self.presents.values().map(|one| &one.body.host);
        let hosts = presents.chain(self.withheld.values().map(|one| &one.body.host));
        published
            .map(|one| (&one.body.host, ByPort::of(&one.body)))
            .chain(hosts.map(|host| (host, ByPort::None)))
    }

    /// Everything that was ever published, in the order of ids.
    pub fn published(&self) -> impl Iterator<Item = &Record<Published>> {
        self.published.values().map(Box::as_ref)
    }

    /// Everything that was ever presented, in the order of ids.
    pub fn presents(&self) -> impl Iterator<Item = &Record<Presents>> {
        self.presents.values().map(Box::as_ref)
    }

    /// Every policy whose header was ever withheld, in the order of ids.
    pub fn withheld(&self) -> impl Iterator<Item = &Record<Withheld>> {
        self.withheld.values().map(Box::as_ref)
    }

    /// What was published by the event with this id.
    #[must_use]
    pub fn published_by(&self, id: EventId) -> Option<&Record<Published>> {
        self.published.get(&id).map(Box::as_ref)
    }

    /// What was presented by the event with this id.
    #[must_use]
    pub fn presents_by(&self, id: EventId) -> Option<&Record<Presents>> {
        self.presents.get(&id).map(Box::as_ref)
    }

    /// For how long clients hold the pins of a record, by `clock`; `None` if they never do.
    #[must_use]
    pub fn retention(&self, record: &Record<Published>, clock: &Clock) -> Option<Retention> {
        // Whoever has TLSA records holds them for their time to live.
        let wait = record.body.tlsa.as_ref().and_then(|set| set.wait()).unwrap_or(0);
        let end = || self.ended(record, clock).map(|end| end.saturating_add(wait));
        match record.body.lifetime {
            // Who comes back forgets; who stays away holds what was published before.
            Lifetime::MaxAge(age) if age.seconds() == 0 => None,
            Lifetime::MaxAge(age) => {
                let after = i64::from(age.seconds()) + DRAINING;
                Some(end().map_or(Retention::WhilePublished(after), |end| {
                    Retention::Until(end.saturating_add(after))
                }))
            }
            Lifetime::ExpiresAt(time) => {
                Some(Retention::Until(end().map_or(time, |end| time.min(end))))
            }
            Lifetime::Open => Some(end().map_or(Retention::Indefinite, Retention::Until)),
        }
    }

    /// When a record ended, by `clock`: of several ends the latest counts, and of those whose time
    /// cannot be told only where there is no other.
    fn ended(&self, record: &Record<Published>, clock: &Clock) -> Option<i64> {
        let is_of_server = is_of_server(&record.body);
        let ends = || self.ends_of(record.id, &record.writer, record.seq, is_of_server);
        ends().next()?;
        let time = |end: &End| match end.is_dated {
            true => Some(end.at),
            false => clock.time(&end.by, end.seq, end.at),
        };
        let is_replaced =
            ends().any(|end| end.is_replacement(&record.writer) && time(end).is_some());
        let known = ends().filter(|end| !(is_replaced && end.is_of_writer)).filter_map(time);
        Some(known.max().unwrap_or(clock.now()))
    }

    /// The ends of an event that count: its writer's own, and those that this machine's files have.
    fn ends_of<'a>(
        &'a self,
        id: EventId,
        writer: &'a WriterName,
        seq: u64,
        is_of_server: bool,
    ) -> impl Iterator<Item = &'a End> {
        let counts = move |end: &&End| end.standing == Standing::Own || end.by == *writer;
        let is_back = move |end: &End| {
            !end.for_good
                && self
                    .again
                    .get(&end.event)
                    .and_then(|all| all.get(&end.by))
                    .is_some_and(|except| !except.contains(&id))
        };
        let own = self.ends.get(&id).into_iter().flatten().filter(move |end| !is_back(end));
        let progress = self.writers.get(writer);
        let gone = self.gone.get(writer).into_iter().flatten().filter(move |gone| {
            is_of_server
                && seq <= gone.upto
                // Whoever writes is not gone.
                && progress.is_some_and(|progress| progress.summary.lives <= gone.upto)
                && progress.is_some_and(|progress| gone.is_of(progress.summary.instance.as_ref()))
        });
        own.chain(gone.map(|gone| &gone.end)).filter(counts)
    }

    /// When an event ended, and whether for good: the latest end by its writer's clock.
    #[must_use]
    pub fn end(&self, id: EventId) -> Option<&End> {
        let (writer, seq, is_of_server) = self.who(id)?;
        let ends = || self.ends_of(id, writer, seq, is_of_server);
        let is_replaced = ends().any(|end| end.is_replacement(writer));
        ends()
            .filter(|end| !(is_replaced && end.is_of_writer))
            .max_by(|a, b| (a.at, a.seq, &a.by).cmp(&(b.at, b.seq, &b.by)))
    }

    fn who(&self, id: EventId) -> Option<(&WriterName, u64, bool)> {
        let published = self.published.get(&id);
        let published = published.map(|one| (&one.writer, one.seq, is_of_server(&one.body)));
        let presents = || self.presents.get(&id).map(|one| (&one.writer, one.seq, true));
        let withheld = || self.withheld.get(&id).map(|one| (&one.writer, one.seq, true));
        published.or_else(presents).or_else(withheld)
    }

    fn host_of(&self, id: EventId) -> Option<(&HostName, ByPort)> {
        let published = self.published.get(&id);
        let published = published.map(|one| (&one.body.host, ByPort::of(&one.body)));
        let presents = || self.presents.get(&id).map(|one| (&one.body.host, ByPort::None));
        let withheld = || self.withheld.get(&id).map(|one| (&one.body.host, ByPort::None));
        published.or_else(presents).or_else(withheld)
    }

    /// Who waived an event.
    #[must_use]
    pub fn waiver(&self, id: EventId) -> Option<&Waiver> {
        self.waiver_of(self.published.get(&id)?)
    }

    fn waiver_of(&self, record: &Record<Published>) -> Option<&Waiver> {
        let waived = self.waived.get(&record.id)?.iter();
        let counts = |one: &&Waived| one.standing == Standing::Own || one.by == record.writer;
        waived.filter(counts).map(|one| &one.waiver).max()
    }

    /// Whether a key is recorded as compromised. Any file may record that, because it makes nothing
    /// pass.
    #[must_use]
    pub fn is_compromised(&self, pin: Pin) -> bool {
        self.compromised.contains_key(&pin)
    }

    /// Why a key is recorded as compromised; none if it is not.
    #[must_use]
    pub fn compromised(&self, pin: Pin) -> Option<&str> {
        self.compromised.get(&pin).map(String::as_str)
    }

    /// When the last event of a writer was written, in seconds since 1970 UTC. The last is the one with
    /// the highest number: a clock that stood wrong for a while and was set right has left later times.
    #[must_use]
    pub fn newest(&self, writer: &WriterName) -> Option<i64> {
        self.writers.get(writer).map(|progress| progress.summary.last.1)
    }

    /// All writers, in the order of their names, and whether each is one of this machine.
    pub fn writers(&self) -> impl Iterator<Item = (&WriterName, bool)> {
        self.writers.iter().map(|(name, progress)| (name, progress.is_own))
    }

    /// When the last configuration of a writer was recorded that differs from the one before it, in
    /// seconds since 1970 UTC. None of a writer that is no server.
    #[must_use]
    pub fn accepted_at(&self, writer: &WriterName) -> Option<i64> {
        self.writers.get(writer)?.summary.accepted.map(|(_, at)| at)
    }

    /// When the last event of this machine's writers was written, in seconds since 1970 UTC.
    #[must_use]
    pub fn latest(&self) -> Option<i64> {
        let own = self.writers.values().filter(|progress| progress.is_own);
        own.map(|progress| progress.summary.last.1).max()
    }

    /// The number of a writer's last event; 0 where it has none.
    #[must_use]
    pub fn last_seq(&self, writer: &WriterName) -> u64 {
        self.writers.get(writer).map_or(0, |progress| progress.summary.last.0)
    }

    /// Whether a writer has written something.
    #[must_use]
    pub fn knows(&self, writer: &WriterName) -> bool {
        self.writers.contains_key(writer)
    }

    /// The other servers of this machine's files that are of a last accepted configuration: those that
    /// run, and those that may come back.
    #[must_use]
    pub fn other_servers(&self, writer: &WriterName) -> Vec<&WriterName> {
        let is_own = |name: &WriterName| self.writers.get(name).is_some_and(|one| one.is_own);
        let others = self.presents.values();
        let others = others.filter(|record| record.writer != *writer && self.is_presented(record));
        distinct(others.map(|record| &record.writer).filter(|name| is_own(name)))
    }

    /// Whether a server has ended all that it presents.
    #[must_use]
    pub fn has_stopped(&self, writer: &WriterName) -> bool {
        let mut presents = self.presents.values().filter(|record| record.writer == *writer);
        presents.all(|record| self.end(record.id).is_some())
    }

    /// Whose records `writer` has read: what it wrote of that last, where those are still there and
    /// are not said to be gone, and all that are there now.
    #[must_use]
    pub fn sights(&self, writer: &WriterName) -> Vec<Sight> {
        let others = self.writers.iter();
        let others = others.filter(|(name, _)| *name != writer && !self.unread.contains(name));
        let now = others.map(|(name, progress)| Sight {
            writer: name.clone(),
            instance: progress.summary.instance.clone(),
            seq: progress.summary.last.0,
        });
        let before = self.last_seen(writer).iter();
        let unread = before.filter(|sight| self.unread.contains(&sight.writer));
        let kept = self.lost(writer).into_iter().chain(unread).cloned();
        let mut sights: Vec<Sight> = now.chain(kept).collect();
        // Of one that has gone back to an earlier state what was seen first counts.
        sights
            .sort_by(|a, b| (&a.writer, &a.instance, b.seq).cmp(&(&b.writer, &b.instance, a.seq)));
        sights.dedup_by(|b, a| (&a.writer, &a.instance) == (&b.writer, &b.instance));
        sights
    }

    /// The files of `writer` that a record of its end is to name: those whose records are missing, else
    /// the one that is there.
    #[must_use]
    pub fn sights_of(&self, writer: &WriterName) -> Vec<Sight> {
        let readers = self.seen.keys();
        let mut lost: Vec<Sight> = readers
            .flat_map(|reader| self.lost(reader))
            .filter(|sight| sight.writer == *writer)
            .cloned()
            .collect();
        if lost.is_empty() {
            lost.extend(self.writers.get(writer).map(|progress| Sight {
                writer: writer.clone(),
                instance: progress.summary.instance.clone(),
                seq: progress.summary.last.0,
            }));
        }
        distinct(lost)
    }

    /// What `writer` wrote last of what it has read.
    #[must_use]
    pub fn last_seen(&self, writer: &WriterName) -> &[Sight] {
        self.seen.get(writer).map_or(&[], |(_, sights)| sights)
    }

    /// The records that `writer` has read and that are not there now: their file has vanished, or has
    /// gone back to an earlier state.
    #[must_use]
    pub fn lost(&self, writer: &WriterName) -> Vec<&Sight> {
        let is_there = |sight: &&Sight| {
            self.writers.get(&sight.writer).is_some_and(|progress| {
                progress.summary.instance == sight.instance && progress.summary.last.0 >= sight.seq
            })
        };
        let seen = self.last_seen(writer).iter();
        seen.filter(|sight| !self.unread.contains(&sight.writer))
            .filter(|sight| !is_there(sight) && !self.is_given_up(sight))
            .collect()
    }

    /// Whether a writer is said to be gone, and has written nothing but ends since.
    #[must_use]
    pub fn is_gone(&self, writer: &WriterName) -> bool {
        let gone = self.gone.get(writer).into_iter().flatten();
        let counts = |gone: &&Gone| gone.end.standing == Standing::Own || gone.end.by == *writer;
        gone.filter(counts).any(|gone| self.is_silent_since(writer, gone))
    }

    /// Whether a writer has written nothing but ends since it was said to be gone: whoever writes is not gone.
    fn is_silent_since(&self, writer: &WriterName, gone: &Gone) -> bool {
        self.writers.get(writer).is_some_and(|progress| {
            progress.summary.lives <= gone.upto && gone.is_of(progress.summary.instance.as_ref())
        })
    }

    /// Whether this machine's operator has said that a writer of whom records are missing is gone.
    fn is_given_up(&self, sight: &Sight) -> bool {
        let gone = self.gone.get(&sight.writer).into_iter().flatten();
        gone.filter(|gone| gone.end.standing == Standing::Own)
            .any(|gone| gone.instance == sight.instance && gone.upto >= sight.seq)
    }

    /// The writers with an event of a time to come, where nothing says yet that it was read by `now`.
    #[must_use]
    pub fn unseen_future(&self, now: i64) -> Vec<WriterName> {
        self.clock(now).into_open()
    }

    /// What a writer has said of its configurations, with the ids.
    pub(crate) fn configured(&self, writer: &WriterName) -> impl Iterator<Item = (Body, EventId)> {
        let published = self
            .published
            .values()
            .filter(move |record| record.writer == *writer && record.body.origin == Origin::Header);
        let presents = self.presents.values().filter(move |record| record.writer == *writer);
        let withheld = self.withheld.values().filter(move |record| record.writer == *writer);
        published
            .map(|record| (Body::Published(record.body.clone()), record.id))
            .chain(presents.map(|record| (Body::Presents(record.body.clone()), record.id)))
            .chain(withheld.map(|record| (Body::Withheld(record.body.clone()), record.id)))
    }

    /// Whether the last accepted configuration of `writer` no longer has what another server, which that one
    /// has succeeded, may still run with.
    pub(crate) fn is_succeeded(&self, id: EventId, writer: &WriterName) -> bool {
        self.succeeded.get(&id).is_some_and(|by| by == writer)
    }

    /// What a server stopped with, where nothing has come after that and nothing but the stop ended it.
    pub(crate) fn stopped(&self, writer: &WriterName) -> Option<Stopped> {
        let configured = self.writers.get(writer)?.summary.configured;
        let mut stopped = Stopped::default();
        let mut by = BTreeSet::new();
        for (body, id) in self.configured(writer) {
            let Some((_, seq, is_of_server)) = self.who(id) else { continue };
            let ends: Vec<&End> = self.ends_of(id, writer, seq, is_of_server).collect();
            let [end] = ends.as_slice() else { continue };
            if !end.for_good && end.by == *writer && end.seq > configured {
                by.insert((end.seq, end.event));
                if self.is_succeeded(id, writer) {
                    stopped.left.push(id);
                } else {
                    stopped.of.insert(body, id);
                }
            }
        }
        stopped.by = by.into_iter().map(|(_, id)| id).collect();
        (!stopped.by.is_empty()).then_some(stopped)
    }

    /// What peers' files say of records that are not theirs, by those that say it. It has no effect. Of records of
    /// hosts nobody is told that `is_meant` does not hold for.
    #[must_use]
    pub fn overreach(
        &self,
        now: i64,
        is_meant: impl Fn(&HostName, ByPort) -> bool,
    ) -> BTreeMap<&WriterName, Overreach> {
        let mut all: BTreeMap<&WriterName, Overreach> = BTreeMap::new();
        let mut whose: BTreeMap<&WriterName, HashSet<&WriterName>> = BTreeMap::new();
        let clock = self.clock(now);
        for (id, ends) in &self.ends {
            for end in ends.iter().filter(|end| end.standing == Standing::Peer) {
                let Some((writer, ..)) = self.who(*id) else { continue };
                if !self.host_of(*id).is_some_and(|(host, by_port)| is_meant(host, by_port)) {
                    continue;
                }
                let is_over = self.end(*id).is_some();
                if *writer != end.by && !is_over {
                    all.entry(&end.by).or_default().ends += 1;
                    whose.entry(&end.by).or_default().insert(writer);
                }
            }
        }
        for (id, waived) in &self.waived {
            for one in waived.iter().filter(|one| one.standing == Standing::Peer) {
                let Some(record) = self.published.get(id) else { continue };
                if !is_meant(&record.body.host, ByPort::of(&record.body)) {
                    continue;
                }
                let is_held = || self.retention(record, &clock).is_some_and(|b| b.holds(now));
                if record.writer != one.by && self.waiver_of(record).is_none() && is_held() {
                    all.entry(&one.by).or_default().waives += 1;
                    whose.entry(&one.by).or_default().insert(&record.writer);
                }
            }
        }
        for (writer, gone) in &self.gone {
            for gone in gone.iter().filter(|gone| gone.end.standing == Standing::Peer) {
                // Where this machine says the same, or the writer has come back, there is nothing to decide.
                let is_open = self.is_silent_since(writer, gone) && !self.is_gone(writer);
                if *writer != gone.end.by && is_open {
                    all.entry(&gone.end.by).or_default().gone.push(writer.clone());
                }
            }
        }
        for (by, overreach) in &mut all {
            let mut of: Vec<WriterName> =
                whose.remove(*by).into_iter().flatten().cloned().collect();
            of.sort();
            overreach.of = of;
            overreach.gone.sort();
            overreach.gone.dedup();
        }
        all
    }

    /// The number of the event by which a writer ended a record, as far as it did.
    pub(super) fn last_number<T>(&self, record: &Record<T>) -> u64 {
        let ends = self.ends_of(record.id, &record.writer, record.seq, false);
        let own = ends.filter(|end| end.by == record.writer);
        own.map(|end| end.seq).max().unwrap_or(u64::MAX)
    }

    /// Whether the server that wrote this presents it, or has stopped and will when it comes back:
    /// it is of its last accepted configuration.
    #[must_use]
    pub fn is_presented(&self, record: &Record<Presents>) -> bool {
        !self.is_over(record)
    }

    /// The keys that servers of this machine present for one of `hosts`, as far as their last accepted
    /// configurations say.
    #[must_use]
    pub fn presented_keys(&self, hosts: &BTreeSet<&HostName>) -> BTreeSet<Pin> {
        let is_own = |name: &WriterName| self.writers.get(name).is_some_and(|one| one.is_own);
        let here = self.presents.values().filter(|record| {
            hosts.contains(&record.body.host) && is_own(&record.writer) && self.is_presented(record)
        });
        let certificates = here.flat_map(|record| &record.body.certificates);
        certificates.filter_map(|one| one.served.first().copied().flatten()).collect()
    }

    /// Whether an event is no longer of its writer's last accepted configuration.
    fn is_over<T>(&self, record: &Record<T>) -> bool {
        let writer = &record.writer;
        let configured = self.writers.get(writer).map_or(0, |progress| progress.summary.configured);
        let mut ends = self.ends_of(record.id, writer, record.seq, true);
        ends.any(|end| end.for_good || end.by != *writer || configured > end.seq)
    }

    /// What a writer's last accepted configuration published by its header and presented. It outlives
    /// the stop of the server, until the next configuration.
    #[must_use]
    pub fn last_accepted(&self, writer: &WriterName) -> LastAccepted<'_> {
        let mut last = LastAccepted::default();
        let is_of_it =
            |id: EventId, by: &WriterName| by == writer && !self.is_succeeded(id, writer);
        for record in self.published.values() {
            let body = &record.body;
            let is_sent = body.origin == Origin::Header;
            if is_of_it(record.id, &record.writer) && is_sent && !self.is_over(record) {
                last.published.entry((&body.host, body.matching)).or_default().push(record);
            }
        }
        for record in self.presents.values() {
            let body = &record.body;
            if is_of_it(record.id, &record.writer) && !self.is_over(record) {
                last.presents.entry((&body.host, body.matching)).or_default().push(record);
            }
        }
        for record in self.withheld.values() {
            let body = &record.body;
            if is_of_it(record.id, &record.writer) && !self.is_over(record) {
                last.withheld.entry((&body.host, body.matching)).or_default().push(record);
            }
        }
        last
    }
}

impl Gone {
    fn is_of(&self, instance: Option<&String>) -> bool {
        self.instance.is_none() || self.instance.as_ref() == instance
    }
}

/// Whether a server says it of itself, and it ends with the server. Pins that clients have from
/// somewhere else do not end with the machine that recorded them.
fn is_of_server(published: &Published) -> bool {
    published.origin == Origin::Header
}

/// Adds that a writer is gone for good, which may be on record in several copies.
fn add_gone(all: &mut Vec<Gone>, new: Gone) {
    match all.iter_mut().find(|known| known.end.event == new.end.event) {
        Some(known) if new.end.standing == Standing::Own => known.end.standing = Standing::Own,
        Some(_) => {}
        None => {
            let at = all.partition_point(|known| known.end.event < new.end.event);
            all.insert(at, new);
        }
    }
}

/// Adds an end of an event. Of a stop the last one counts, of other ends the latest.
fn add_end(ends: &mut Vec<End>, new: &End) {
    let same = |end: &&mut End| end.by == new.by && end.for_good == new.for_good;
    let Some(known) = ends.iter_mut().find(same) else {
        let place = |end: &End| (&end.by, end.for_good) < (&new.by, new.for_good);
        let at = ends.partition_point(place);
        ends.insert(at, new.clone());
        return;
    };
    if known.event == new.event {
        if new.standing == Standing::Own {
            known.standing = Standing::Own;
        }
        return;
    }
    let order = |end: &End| match end.for_good {
        true => (end.at, end.seq, end.event),
        false => (0, end.seq, end.event),
    };
    if order(known) < order(new) {
        known.clone_from(new);
    }
}

fn add_waiver(all: &mut Vec<Waived>, new: &Waived) {
    let Some(known) = all.iter_mut().find(|known| known.by == new.by) else {
        let at = all.partition_point(|known| known.by < new.by);
        all.insert(at, new.clone());
        return;
    };
    if new.standing == Standing::Own {
        known.standing = Standing::Own;
    }
    if known.waiver < new.waiver {
        known.waiver.clone_from(&new.waiver);
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
    /// Policies that it had, and did not send.
    pub withheld: BTreeMap<Names<'a>, Vec<&'a Record<Withheld>>>,
}

impl Extend<Event> for State {
    fn extend<I: IntoIterator<Item = Event>>(&mut self, events: I) {
        events.into_iter().for_each(|event| self.take(event, Standing::Own));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::max_age::MaxAge;
    use crate::published::Ended;
    use proptest::prelude::*;

    fn published(seq: u64, lifetime: Lifetime, origin: Origin) -> Event {
        let body = Body::Published(Published::of_one(
            "www.example.com".parse().unwrap(),
            vec![Pin::from_bytes([1; 32])],
            lifetime,
            origin,
        ));
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

    fn only_binding(state: &State) -> Option<Retention> {
        let record = state.published().next().unwrap();
        state.retention(record, &state.clock(1_000_000))
    }

    #[test]
    fn each_lifetime_ends_in_its_way() {
        let zero = Lifetime::MaxAge(MaxAge::from_seconds(0).unwrap());
        for (lifetime, served, ended_at_5_000) in [
            (zero, None, None),
            (day(), Some(Retention::WhilePublished(172_800)), Some(Retention::Until(177_800))),
            (
                Lifetime::ExpiresAt(9_000),
                Some(Retention::Until(9_000)),
                Some(Retention::Until(5_000)),
            ),
            (
                Lifetime::ExpiresAt(2_000),
                Some(Retention::Until(2_000)),
                Some(Retention::Until(2_000)),
            ),
            (Lifetime::Open, Some(Retention::Indefinite), Some(Retention::Until(5_000))),
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
            assert_eq!(only_binding(&state(events)), Some(Retention::Until(178_800)));
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
            let body =
                Body::Presents(Presents::of_one("www.example.com".parse().unwrap(), 443, vec![]));
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
                let pin = Pin::from_bytes([number; 32]);
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
