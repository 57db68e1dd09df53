//! The state that follows from all records: which pins clients may still hold, and which server presents which keys.
//!
//! Events are facts, and a set of facts has no order: files may be read in any order, and several times, and give the
//! same state. Whether an event is trusted depends on where it was read ([`Standing`]). When an event happened depends
//! on the other events of its writer ([`clock`](super::clock)).

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
    /// In a file of this machine, written by its operator, its command or its servers.
    Own,
    /// In a copy of another machine's file. The event is trusted only about its own writer.
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
    /// Its content.
    pub body: T,
}

/// The end of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The time of the end, in seconds since 1970 UTC, by the clock of the writer that recorded it.
    pub at: i64,
    /// Whether the end is final, not only a stop of the server, which may start again with the same configuration. If
    /// there are several ends, one final end is enough: a server may be recorded as gone with a date before its stop.
    pub for_good: bool,
    /// The number of the event that recorded the end, among those of its writer.
    pub seq: u64,
    /// The writer of that event.
    pub by: WriterName,
    /// The id of that event.
    event: EventId,
    /// Whether that event gives a time of its own for the end.
    is_dated: bool,
    /// Whether a `gone` event caused the end: it ends everything that its writer had not ended itself.
    is_of_writer: bool,
    standing: Standing,
}

impl End {
    /// Whether `writer` itself replaced the ended event. If the writer is gone later, that must not end the event again
    /// at a later time: clients would seem to hold pins that they forgot long ago.
    fn is_replacement(&self, writer: &WriterName) -> bool {
        self.for_good && self.by == *writer && !self.is_of_writer
    }

    /// The same end, caused by a `gone` event.
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

/// A waiver, and who recorded it where.
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
    /// As long as a server sends the pins, and this number of seconds after that.
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

/// A record that a writer is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gone {
    upto: u64,
    instance: Option<String>,
    end: End,
}

/// The configuration with which a server stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// The `ended` events of the stop.
    pub(crate) by: Vec<EventId>,
    /// The events that they ended.
    pub(crate) of: HashMap<Body, EventId>,
    /// The events of earlier configurations that they ended.
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

/// Records by their ids. Ids have no order in time, so a tree moves its entries often: the box keeps them small.
type Records<T> = BTreeMap<EventId, Box<Record<T>>>;

/// The state that follows from a set of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    published: Records<Published>,
    presents: Records<Presents>,
    withheld: Records<Withheld>,
    /// The ends of each event: of each writer that ended it, the last stop and the last final end.
    ends: HashMap<EventId, Vec<End>>,
    waived: HashMap<EventId, Vec<Waived>>,
    gone: HashMap<WriterName, Vec<Gone>>,
    /// Stops that a start has revoked, by the writer of the start, and the events that stay ended nevertheless.
    again: HashMap<EventId, BTreeMap<WriterName, HashSet<EventId>>>,
    /// The last `seen` event of each writer of this machine: its number, and what it had read of others.
    seen: HashMap<WriterName, (u64, Vec<Sight>)>,
    /// For each writer, all records that it was read: up to which number, by whom, and the number and the time of that
    /// `seen` event.
    sights: HashMap<WriterName, BTreeSet<(u64, WriterName, u64, i64)>>,
    /// Events that do not belong to the last accepted configuration of this writer any more, although they have not
    /// ended.
    succeeded: HashMap<EventId, WriterName>,
    compromised: BTreeMap<Pin, String>,
    writers: BTreeMap<WriterName, Progress>,
    /// Writers whose files could be read only in part.
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
            // The summary has the identity.
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
                    // Most events have only one end.
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
            // What other machines have read does not matter here.
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

    /// Notes how far the copy of another machine's file has come, if only some of its events are added by
    /// [`State::take_listed`].
    pub fn take_summary(&mut self, writer: &WriterName, summary: &Summary) {
        self.writers.entry(writer.clone()).or_default().summary.join(summary);
    }

    /// Adds an event of a copy whose summary was added by [`State::take_summary`].
    pub fn take_listed(&mut self, event: Event) {
        self.take_body(event, Standing::Peer);
    }

    /// Adds a `seen` event: what a writer of this machine has read of others.
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

    /// Notes that the file of `writer` could be read only in part, so that its missing events do not count as lost.
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
            // A sight counts only if its own time can be right.
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

    /// The hosts of all records, and whether clients come to them by a port alone.
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
        // After the end, clients hold TLSA records for their TTL.
        let wait = record.body.tlsa.as_ref().and_then(|set| set.wait()).unwrap_or(0);
        let end = || self.ended(record, clock).map(|end| end.saturating_add(wait));
        match record.body.lifetime {
            // Clients that return forget the pins at once; clients that stay away hold those of an earlier record.
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

    /// When a record ended, by `clock`. The latest of several ends counts. An end whose time is not known counts only
    /// if there is no other end.
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

    /// The ends of an event that count: those from its own writer, and those in this machine's files.
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
                // A writer with later events is not gone.
                && progress.is_some_and(|progress| progress.summary.lives <= gone.upto)
                && progress.is_some_and(|progress| gone.is_of(progress.summary.instance.as_ref()))
        });
        own.chain(gone.map(|gone| &gone.end)).filter(counts)
    }

    /// The end of an event: the latest one, by the clock of the end's writer.
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

    /// Whether a key is recorded as compromised. The files of all machines count, because such a record lets nothing
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

    /// When the last event of a writer was written, in seconds since 1970 UTC. The last event is the one with the
    /// highest number: earlier events may have later times if the clock was wrong for a while.
    #[must_use]
    pub fn newest(&self, writer: &WriterName) -> Option<i64> {
        self.writers.get(writer).map(|progress| progress.summary.last.1)
    }

    /// All writers, in the order of their names, and whether each is one of this machine.
    pub fn writers(&self) -> impl Iterator<Item = (&WriterName, bool)> {
        self.writers.iter().map(|(name, progress)| (name, progress.is_own))
    }

    /// When a writer last recorded a changed configuration, in seconds since 1970 UTC. None for a writer that is not a
    /// server.
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

    /// The number of a writer's last event; 0 if it has none.
    #[must_use]
    pub fn last_seq(&self, writer: &WriterName) -> u64 {
        self.writers.get(writer).map_or(0, |progress| progress.summary.last.0)
    }

    /// Whether a writer has written something.
    #[must_use]
    pub fn knows(&self, writer: &WriterName) -> bool {
        self.writers.contains_key(writer)
    }

    /// The other servers in this machine's files that present something in their last accepted configuration: servers
    /// that run, and stopped ones that may start again.
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

    /// How far `writer` has read the records of others: all records that exist now, and those in its last `seen` event
    /// that cannot be read now and whose writer is not recorded as gone.
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
        // If a file has gone back to an earlier state, the higher number counts.
        sights
            .sort_by(|a, b| (&a.writer, &a.instance, b.seq).cmp(&(&b.writer, &b.instance, a.seq)));
        sights.dedup_by(|b, a| (&a.writer, &a.instance) == (&b.writer, &b.instance));
        sights
    }

    /// The files that a `gone` event for `writer` must name: those whose records are missing, or if none are missing,
    /// the file that exists.
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

    /// What `writer` had read according to its last `seen` event.
    #[must_use]
    pub fn last_seen(&self, writer: &WriterName) -> &[Sight] {
        self.seen.get(writer).map_or(&[], |(_, sights)| sights)
    }

    /// The records that `writer` has read and that are missing now: their file has vanished, or has gone back to an
    /// earlier state.
    #[must_use]
    pub fn lost(&self, writer: &WriterName) -> Vec<&Sight> {
        let is_there = |sight: &&Sight| {
            self.writers.get(&sight.writer).is_some_and(|progress| {
                progress.summary.instance == sight.instance && progress.summary.last.0 >= sight.seq
            })
        };
        let sights = self.last_seen(writer).iter();
        sights
            .filter(|sight| !self.unread.contains(&sight.writer))
            .filter(|sight| !is_there(sight) && !self.is_given_up(sight))
            .collect()
    }

    /// Whether a writer is recorded as gone, and has written nothing but ends since.
    #[must_use]
    pub fn is_gone(&self, writer: &WriterName) -> bool {
        let gone = self.gone.get(writer).into_iter().flatten();
        let counts = |gone: &&Gone| gone.end.standing == Standing::Own || gone.end.by == *writer;
        gone.filter(counts).any(|gone| self.is_silent_since(writer, gone))
    }

    /// Whether a writer has written nothing but ends since it was recorded as gone. A writer of other events is not
    /// gone.
    fn is_silent_since(&self, writer: &WriterName, gone: &Gone) -> bool {
        self.writers.get(writer).is_some_and(|progress| {
            progress.summary.lives <= gone.upto && gone.is_of(progress.summary.instance.as_ref())
        })
    }

    /// Whether this machine's files record that the writer of these missing records is gone.
    fn is_given_up(&self, sight: &Sight) -> bool {
        let gone = self.gone.get(&sight.writer).into_iter().flatten();
        gone.filter(|gone| gone.end.standing == Standing::Own)
            .any(|gone| gone.instance == sight.instance && gone.upto >= sight.seq)
    }

    /// The writers with an event whose time is in the future and that no other event limits, so that a `seen` event
    /// must record that it was read by `now`.
    #[must_use]
    pub fn unseen_future(&self, now: i64) -> Vec<WriterName> {
        self.clock(now).into_open()
    }

    /// The events of a writer about its configurations, with their ids.
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

    /// Whether an event does not belong to the last accepted configuration of `writer` any more, although the server
    /// that a new one succeeded may still run with it.
    pub(crate) fn is_succeeded(&self, id: EventId, writer: &WriterName) -> bool {
        self.succeeded.get(&id).is_some_and(|by| by == writer)
    }

    /// The configuration with which a server stopped, if there is no later one. Events with another end are left out.
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

    /// The events in peers' files about other writers' records, by the peer. They have no effect. Records of hosts for
    /// which `is_meant` is false are left out.
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
                // If this machine recorded the same, or the writer is back, the operator has nothing to decide.
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

    /// The number of the event by which a writer ended its record, or the highest number if it did not.
    pub(super) fn last_number<T>(&self, record: &Record<T>) -> u64 {
        let ends = self.ends_of(record.id, &record.writer, record.seq, false);
        let own = ends.filter(|end| end.by == record.writer);
        own.map(|end| end.seq).max().unwrap_or(u64::MAX)
    }

    /// Whether the record belongs to the last accepted configuration of its writer: the server presents it now, or
    /// will when it starts again.
    #[must_use]
    pub fn is_presented(&self, record: &Record<Presents>) -> bool {
        !self.is_over(record)
    }

    /// The leaf keys that servers of this machine present for one of `hosts`, according to their last accepted
    /// configurations.
    #[must_use]
    pub fn presented_keys(&self, hosts: &BTreeSet<&HostName>) -> BTreeSet<Pin> {
        let is_own = |name: &WriterName| self.writers.get(name).is_some_and(|one| one.is_own);
        let here = self.presents.values().filter(|record| {
            hosts.contains(&record.body.host) && is_own(&record.writer) && self.is_presented(record)
        });
        let certificates = here.flat_map(|record| &record.body.certificates);
        certificates.filter_map(|one| one.served.first().copied().flatten()).collect()
    }

    /// Whether a record does not belong to its writer's last accepted configuration any more.
    fn is_over<T>(&self, record: &Record<T>) -> bool {
        let writer = &record.writer;
        let configured = self.writers.get(writer).map_or(0, |progress| progress.summary.configured);
        let mut ends = self.ends_of(record.id, writer, record.seq, true);
        ends.any(|end| end.for_good || end.by != *writer || configured > end.seq)
    }

    /// A writer's last accepted configuration: what it published by its header, presented and withheld. It outlives a
    /// stop of the server, until the next configuration.
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

/// Whether the pins come from the header of the writer, so that they end with it. Pins that clients have from another
/// source do not end with the machine that recorded them.
fn is_of_server(published: &Published) -> bool {
    published.origin == Origin::Header
}

/// Adds a record that a writer is gone. The same event may be in several copies.
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

/// Adds an end of an event. Of several stops the one with the highest number counts, of final ends the latest.
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

/// The hosts of a record.
pub type Names<'a> = (&'a HostName, Matching);

/// A writer's last accepted configuration, by name. A name may have several entries, for servers on different ports.
#[derive(Clone, Debug, Default)]
pub struct LastAccepted<'a> {
    /// The pins that it published.
    pub published: BTreeMap<Names<'a>, Vec<&'a Record<Published>>>,
    /// The certificates that it presents.
    pub presents: BTreeMap<Names<'a>, Vec<&'a Record<Presents>>>,
    /// The policies whose headers it withheld.
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
    fn each_lifetime_ends_according_to_its_kind() {
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
    fn a_stopped_server_will_present_its_keys_again() {
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
        // The writer is recorded as gone, with a date before it stopped.
        let gone = Ended { ids: vec![one.id()], why: Why::Other("sold".into()), when: Some(1_500) };
        let gone = Event::new(3_000, 1, "ops".parse().unwrap(), Body::Ended(gone));
        for events in [[&one, &stop, &gone], [&gone, &stop, &one]] {
            assert_eq!(count(&events), 0);
        }
    }

    /// Events about few hosts and ids, so that many of them concern the same record.
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
