//! A history: steps that concern one server, its peer, their records and their clients; and what
//! comes of it.

use std::fmt;

use hpkp_core::accepted::{accepted, stopped};
use hpkp_core::published::{
    Body, Ended, Event, EventId, Origin, Published, State, Waived, Why, WriterName,
};

use crate::client::{self, Sight};
use crate::core;
use crate::dane::Dane;
use crate::judge::{Case, From, Header, Memory, Opinion, judge};
use crate::nature::{self, By};
use crate::world::{Config, HOSTS, Outside, PORTS, STREAM};

pub const HOUR: i64 = 3_600;
pub const DAY: i64 = 24 * HOUR;
const START: i64 = 1_800_000_000;
const FOREVER: i64 = i64::MAX / 2;

/// What happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// The operator tests a configuration and reloads, if that passes. Old workers drain for some
    /// hours; with `is_unwritable` the records cannot be written.
    Deploy {
        config: Config,
        is_unwritable: bool,
        drains: i64,
    },
    /// The server stops; it comes back with the next configuration that passes.
    Stop,
    /// The server starts with what it stopped with.
    Start,
    /// The server starts with this, whatever the check finds in it.
    Force(Config),
    /// The records turn out to be those of a version that knew no certificates.
    Upgrade,
    Wait(i64),
    /// Pins held outside of headers are recorded on this machine.
    Import(Outside),
    /// The TLSA records of a host are recorded on this machine.
    Zone(Dane),
    /// The import with this number is over, and the operator says so.
    EndImport(usize),
    /// Another machine takes a configuration.
    Peer(Config),
    /// It stops.
    PeerStop,
    /// Its file is copied here.
    Copy,
    /// A peer's file claims something that is not its own to say.
    Lie(Lie),
    /// The clock of this machine is off by so much.
    Clock(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// That our pins have ended.
    Ends,
    /// That our pins are waived.
    Waives,
    /// A file under our name, with what the peer presents.
    OurName,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deploy { config, is_unwritable, drains } => {
                let unwritable = if *is_unwritable { " (records cannot be written)" } else { "" };
                write!(f, "deploy{unwritable}, drains {drains} h: {config}")
            }
            Self::Stop => f.write_str("stop"),
            Self::Start => f.write_str("start with the same"),
            Self::Force(config) => write!(f, "stop, and start in spite of all with {config}"),
            Self::Upgrade => f.write_str("the records are of an older version"),
            Self::PeerStop => f.write_str("the peer stops"),
            Self::Wait(seconds) if seconds % DAY == 0 => write!(f, "wait {} d", seconds / DAY),
            Self::Wait(seconds) => write!(f, "wait {} h", seconds / HOUR),
            Self::Import(outside) => write!(f, "import {outside}"),
            Self::Zone(dane) => write!(f, "import {dane}"),
            Self::EndImport(number) => write!(f, "import {number} has ended"),
            Self::Peer(config) => write!(f, "the peer deploys {config}"),
            Self::Copy => f.write_str("the peer's file is copied here"),
            Self::Lie(Lie::Ends) => f.write_str("the peer's file says that our pins have ended"),
            Self::Lie(Lie::Waives) => f.write_str("the peer's file says that our pins are waived"),
            Self::Lie(Lie::OurName) => f.write_str("a peer's file says it is ours"),
            Self::Clock(seconds) => write!(f, "our clock is {} d off", seconds / DAY),
        }
    }
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wrong {
    /// A lock-out passes.
    Missed,
    /// A lock-out that a word should have been said of passes in silence.
    Silent,
    /// A safe change is refused.
    Refused,
    /// What changes nothing is refused.
    UnchangedRefused,
}

/// Oracle and software disagree.
#[derive(Clone, Debug)]
pub struct Disagreement {
    pub wrong: Wrong,
    /// After which step.
    pub step: usize,
    pub reasons: Vec<String>,
    pub said: Vec<String>,
}

/// What an answer comes to.
#[derive(Debug)]
pub struct Reply {
    pub is_refused: bool,
    /// The findings, each in a line.
    pub said: Vec<String>,
}

/// What others have written on this machine.
#[derive(Clone, Debug, Default)]
pub struct Others {
    pub operator: Vec<Event>,
    pub copied: Vec<Event>,
    pub lies: Vec<Event>,
}

/// The server under test: the core alone, or a real one.
pub trait Site {
    /// The time, where it cannot be chosen.
    fn now(&self) -> Option<i64>;
    /// The real port that stands for one of this world's.
    fn port(&self, port: u16) -> u16;
    /// Takes over what others have written.
    fn learn(&mut self, others: &Others);
    /// Tests a configuration.
    fn ask(&mut self, config: &Config, now: i64) -> Reply;
    /// The same, where all other machines have been silent for too long; `None` where nobody can ask that.
    fn ask_beside_silent(&mut self, _: &Config, _: i64) -> Option<Reply> {
        None
    }
    /// Serves what has passed: by a reload, or by a start where nothing is served.
    fn serve(&mut self, config: &Config, is_unwritable: bool, now: i64);
    /// Makes its records such as were written before they had certificates.
    fn forget_certificates(&mut self);
    /// Stops.
    fn stop(&mut self, now: i64);
    /// Whether visitors of `host` get the header of this block of what is served.
    fn sends(&self, block: usize, host: &str) -> bool;
    /// What it has written.
    fn written(&self) -> Vec<Event>;
}

/// The other machine: what it serves and what it has written.
struct Peer {
    writer: WriterName,
    config: Option<Config>,
    sends: Sends,
    events: Vec<Event>,
}

impl Peer {
    fn state(&self) -> State {
        let mut state = State::default();
        state.extend(self.events.iter().cloned());
        state
    }
}

/// Which blocks send their header to which hosts.
type Sends = Vec<Vec<bool>>;

fn place(host: &str) -> usize {
    HOSTS.iter().position(|own| *own == host).expect("a host of this world")
}

/// What has become of a world so far.
pub struct Run<S> {
    site: S,
    config: Option<Config>,
    is_running: bool,
    sends: Sends,
    /// Whether what is served is on record.
    is_recorded: bool,
    /// Whether the records have the certificates that were served, and not their keys alone.
    knows_certificates: bool,
    peer: Peer,
    others: Others,
    /// What of the peer's configuration the copy has.
    copied_config: Option<Config>,
    imports: Vec<EventId>,
    memories: Vec<Memory>,
    pub now: i64,
    clock: i64,
    /// Whether the clock was wrong when something was last written, and is right again.
    clock_was_wrong: bool,
    /// How many configurations were answered, and how many refused.
    pub asked: usize,
    pub refused: usize,
    /// How many of those had to be.
    pub rightly: usize,
}

impl<S: Site> Run<S> {
    pub fn new(site: S) -> Self {
        let now = site.now().unwrap_or(START);
        Self {
            site,
            config: None,
            is_running: false,
            sends: vec![],
            is_recorded: true,
            knows_certificates: true,
            peer: Peer {
                writer: "web-2".parse().expect("a name"),
                config: None,
                sends: vec![],
                events: vec![],
            },
            others: Others::default(),
            copied_config: None,
            imports: vec![],
            memories: vec![],
            now,
            clock: 0,
            clock_was_wrong: false,
            asked: 0,
            refused: 0,
            rightly: 0,
        }
    }

    pub fn site(&self) -> &S {
        &self.site
    }

    /// What is served now, or was before the stop.
    pub fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    pub fn peer_config(&self) -> Option<&Config> {
        self.peer.config.as_ref()
    }

    pub fn is_running(&self) -> bool {
        self.is_running
    }

    pub fn imports(&self) -> usize {
        self.imports.len()
    }

    pub fn clock(&self) -> i64 {
        self.clock
    }

    fn machine_time(&self) -> i64 {
        self.now + self.clock
    }

    /// Takes a step; the disagreement that it brings, if any.
    pub fn take(&mut self, number: usize, step: &Step) -> Result<(), Disagreement> {
        if let Some(now) = self.site.now() {
            self.now = now;
        }
        match step {
            Step::Deploy { config, is_unwritable, drains } => {
                self.deploy(number, config, *is_unwritable, *drains)?;
            }
            Step::Stop => self.stop(),
            Step::Start => {
                if let Some(config) = self.config.clone().filter(|_| !self.is_running) {
                    let now = self.machine_time();
                    let _ = self.site.ask(&config, now);
                    self.serve(&config, false, 0);
                }
            }
            Step::Wait(seconds) => self.now += seconds,
            Step::Import(outside) => {
                let published = core::outside(outside, self.now);
                self.import(From::Outside(outside.clone()), published, outside.days);
            }
            Step::Zone(dane) => {
                let published = core::zone(dane, self.now);
                self.import(From::Dane(dane.clone()), published, dane.days);
            }
            Step::EndImport(number) => self.end_import(*number),
            Step::Force(config) => {
                self.stop();
                let _ = self.site.ask(config, self.machine_time());
                self.serve(config, false, 0);
            }
            Step::Upgrade => {
                self.site.forget_certificates();
                self.knows_certificates = false;
            }
            Step::PeerStop => {
                let state = self.peer.state();
                let events = stopped(&state, &self.peer.writer, self.now);
                self.peer.events.extend(events);
                self.peer.sends.iter_mut().flatten().for_each(|sends| *sends = false);
            }
            Step::Peer(config) => self.deploy_peer(config),
            Step::Copy => self.copy(),
            Step::Lie(lie) => self.lie(*lie),
            Step::Clock(seconds) => {
                self.clock_was_wrong |= self.clock != 0;
                self.clock = *seconds;
            }
        }
        self.site.learn(&self.others);
        self.visit();
        self.unchanged(number)
    }

    fn stop(&mut self) {
        if std::mem::take(&mut self.is_running) {
            self.site.stop(self.machine_time());
        }
    }

    fn end_import(&mut self, number: usize) {
        let Some(id) = self.imports.get(number).copied() else { return };
        let why = Why::Other("nobody has it any more".to_owned());
        let event = self.event_of_operator(Body::Ended(Ended { ids: vec![id], why, when: None }));
        self.others.operator.push(event);
        let outside = |memory: &&mut Memory| !matches!(memory.from, From::Header(_));
        if let Some(memory) = self.memories.iter_mut().filter(outside).nth(number) {
            memory.must_until = self.now;
            memory.may_until = self.now;
        }
    }

    fn import(&mut self, from: From, published: Published, days: Option<i64>) {
        // The operator's command runs while the clock is what it is.
        let port = published.port.map(|port| self.site.port(port));
        let event = self.event_of_operator(Body::Published(Published { port, ..published }));
        self.imports.push(event.id());
        self.others.operator.push(event);
        let until = days.map_or(FOREVER, |days| self.now + days * DAY);
        let may_until = until.saturating_add(HOUR);
        self.memories.push(Memory { from, must_until: until, may_until, is_known: true });
    }

    fn event_of_operator(&self, body: Body) -> Event {
        let seq = self.others.operator.len() as u64 + 1;
        Event::new(self.machine_time(), seq, "operator".parse().expect("a name"), body)
    }

    fn deploy(
        &mut self,
        number: usize,
        config: &Config,
        is_unwritable: bool,
        drains: i64,
    ) -> Result<(), Disagreement> {
        let Reply { is_refused, said } = self.site.ask(config, self.machine_time());
        self.asked += 1;
        let is_unchanged = self.config.as_ref() == Some(config);
        let old = self.config.clone();
        let sent_before = self.sends.clone();
        let memories = self.memories.clone();
        let was_recorded = self.is_recorded;
        let knew_certificates = self.knows_certificates;
        if !is_refused {
            self.serve(config, is_unwritable, drains);
        }
        let peers: Vec<Config> = self.copied_config.iter().cloned().collect();
        let get = |sends: &Sends, at: usize, host: &str| {
            sends.get(at).is_some_and(|hosts| hosts[place(host)])
        };
        let case = Case {
            old: old.as_ref(),
            sent_before: &|at, host| get(&sent_before, at, host),
            new: config,
            sends: &|at, host| is_refused || get(&self.sends, at, host),
            peers: &peers,
            memories: &memories,
            now: self.now,
            has_predecessor: was_recorded,
            knows_certificates: knew_certificates,
        };
        let Opinion { mut must, may, mut say } = judge(&case);
        if is_unchanged {
            // Its header may have waited for a disk with room: the same configuration is never
            // refused, also when it sends it now. A word is due.
            say.append(&mut must);
        }
        let is_silent = said.is_empty();
        let wrong = |wrong, reasons| Err(Disagreement { wrong, step: number, reasons, said });
        if is_refused {
            self.refused += 1;
            self.rightly += usize::from(!must.is_empty());
            if is_unchanged {
                return wrong(Wrong::UnchangedRefused, vec![]);
            }
            // With a clock that is wrong, or was, it is not known what has expired.
            if may.is_empty() && self.clock == 0 && !self.clock_was_wrong {
                return wrong(Wrong::Refused, vec![]);
            }
            return Ok(());
        }
        if !must.is_empty() && self.clock <= 0 {
            return wrong(Wrong::Missed, must);
        }
        if !say.is_empty() && is_silent && self.clock <= 0 {
            return wrong(Wrong::Silent, say);
        }
        Ok(())
    }

    fn serve(&mut self, config: &Config, is_unwritable: bool, drains: i64) {
        self.drain(drains);
        self.site.serve(config, is_unwritable, self.machine_time());
        let sends = |at| HOSTS.iter().map(|host| self.site.sends(at, host)).collect();
        self.sends = (0..config.blocks.len()).map(sends).collect();
        self.is_recorded = !is_unwritable;
        self.knows_certificates |= !is_unwritable;
        self.config = Some(config.clone());
        self.is_running = true;
        // What ends and cannot be recorded has not ended for the records.
        let now = self.now;
        for memory in &mut self.memories {
            let From::Header(Header { policy, peer: false, .. }) = &memory.from else { continue };
            if is_unwritable && memory.may_until > now {
                memory.may_until = FOREVER;
            } else if !is_unwritable && memory.may_until == FOREVER {
                memory.may_until = now + (policy.days + 1) * DAY + HOUR;
            }
        }
        if self.clock == 0 && self.clock_was_wrong && !is_unwritable {
            self.clock_was_wrong = false;
            let now = self.now;
            for memory in &mut self.memories {
                if let From::Header(Header { policy, peer: false, .. }) = &memory.from {
                    memory.may_until = memory.may_until.max(now + (policy.days + 1) * DAY + HOUR);
                }
            }
        }
    }

    /// Old workers go on answering for a while.
    fn drain(&mut self, hours: i64) {
        let now = self.now;
        let Some(config) = self.config.clone().filter(|_| self.is_running) else { return };
        let sends = self.sends.clone();
        self.note(&config, &sends, false, now + hours * HOUR);
    }

    /// Everybody visits what is served, whoever can.
    fn visit(&mut self) {
        let now = self.now;
        if let Some(config) = self.config.clone().filter(|_| self.is_running) {
            let sends = self.sends.clone();
            self.note(&config, &sends, false, now);
        }
        if let Some(config) = self.peer.config.clone() {
            let sends = self.peer.sends.clone();
            self.note(&config, &sends, true, now);
        }
    }

    fn note(&mut self, config: &Config, sends: &Sends, is_peer: bool, now: i64) {
        for host in HOSTS {
            for port in PORTS.into_iter().filter(|port| *port != STREAM) {
                let Some((at, by)) = nature::route(config, host, port) else { continue };
                let block = &config.blocks[at];
                let is_sent = sends[at][place(host)];
                let Some(policy) = block.policy.as_ref().filter(|_| is_sent) else { continue };
                if policy.days == 0 {
                    continue;
                }
                for taste in 0..nature::TASTES {
                    let sent = nature::chosen(block, taste);
                    // Who turns back for the name notes nothing; the records cannot know that.
                    let is_for_it = nature::is_for(sent, host);
                    if !is_for_it && by != By::Name {
                        continue;
                    }
                    let seen = Sight::of(sent);
                    for above in seen.paths() {
                        let is_noted = client::notes(&policy.pins, sent.leaf.key, &above);
                        let header = Header {
                            host,
                            policy: policy.clone(),
                            taste,
                            leaf: sent.leaf.key,
                            sight: seen.clone(),
                            above,
                            peer: is_peer,
                        };
                        self.remember(header, is_noted && is_for_it, now);
                    }
                }
            }
        }
    }

    fn remember(&mut self, header: Header, is_noted: bool, now: i64) {
        let until = now + header.policy.days * DAY;
        let (may_until, is_known) =
            if header.peer { (FOREVER, false) } else { (until + DAY + HOUR, true) };
        let must_until = if is_noted { until } else { 0 };
        let same = self
            .memories
            .iter_mut()
            .find(|memory| matches!(&memory.from, From::Header(noted) if *noted == header));
        match same {
            Some(memory) => {
                memory.must_until = memory.must_until.max(must_until);
                memory.may_until = memory.may_until.max(may_until);
            }
            None => {
                let from = From::Header(header);
                self.memories.push(Memory { from, must_until, may_until, is_known });
            }
        }
    }

    fn deploy_peer(&mut self, config: &Config) {
        let state = self.peer.state();
        let answer = core::ask(config, &state, None, &self.peer.writer, self.now);
        let events =
            accepted(&answer.deployment, &answer.verdict, &state, &self.peer.writer, self.now);
        self.peer.events.extend(events);
        let sends = |at| HOSTS.iter().map(|host| answer.sends(at, host)).collect();
        self.peer.sends = (0..config.blocks.len()).map(sends).collect();
        self.peer.config = Some(config.clone());
    }

    fn copy(&mut self) {
        self.others.copied = self.peer.events.clone();
        self.copied_config = self.peer.config.clone();
        let config = self.peer.config.clone();
        let sends = self.peer.sends.clone();
        for memory in &mut self.memories {
            let From::Header(Header { host, policy, peer: true, .. }) = &memory.from else {
                continue;
            };
            memory.is_known = true;
            let still = config.as_ref().is_some_and(|config| {
                PORTS.into_iter().filter_map(|port| nature::route(config, host, port)).any(
                    |(at, _)| {
                        sends[at][place(host)] && config.blocks[at].policy.as_ref() == Some(policy)
                    },
                )
            });
            memory.may_until =
                if still { FOREVER } else { memory.must_until.saturating_add(DAY + HOUR) };
        }
    }

    fn lie(&mut self, lie: Lie) {
        let ours = |event: &&Event| match event.body() {
            Body::Published(published) => published.origin == Origin::Header,
            Body::Presents(_) => true,
            _ => false,
        };
        let written = self.site.written();
        let ids: Vec<EventId> = written.iter().filter(ours).map(Event::id).collect();
        let seq = 1_000_000 + self.others.lies.len() as u64;
        let liar: WriterName = "liar".parse().expect("a name");
        let now = self.machine_time();
        let text = "a lie".to_owned();
        match lie {
            Lie::Ends if !ids.is_empty() => {
                let ended = Ended { ids, why: Why::Other(text), when: None };
                self.others.lies.push(Event::new(now, seq, liar, Body::Ended(ended)));
            }
            Lie::Waives if !ids.is_empty() => {
                let waived = Waived { ids, who: "liar".to_owned(), why: text };
                self.others.lies.push(Event::new(now, seq, liar, Body::Waived(waived)));
            }
            Lie::OurName => {
                // What the peer presents, as if this server had been presenting it.
                let bodies = self.peer.events.iter().map(Event::body);
                let bodies = bodies.filter(|body| matches!(body, Body::Presents(_)));
                let numbered = (seq..).zip(bodies);
                let own: WriterName = "web-1".parse().expect("a name");
                let events =
                    numbered.map(|(seq, body)| Event::new(now, seq, own.clone(), body.clone()));
                self.others.lies.extend(events.collect::<Vec<_>>());
            }
            _ => {}
        }
    }

    /// What is served passes at any time, whatever has been learned meanwhile.
    fn unchanged(&mut self, number: usize) -> Result<(), Disagreement> {
        let Some(config) = self.config.clone() else { return Ok(()) };
        let Reply { is_refused, said } = self.site.ask(&config, self.machine_time());
        self.asked += 1;
        if is_refused {
            let wrong = Wrong::UnchangedRefused;
            return Err(Disagreement { wrong, step: number, reasons: vec![], said });
        }
        // Nor does the silence of others refuse it.
        let beside = self.site.ask_beside_silent(&config, self.machine_time());
        if let Some(Reply { said, .. }) = beside.filter(|reply| reply.is_refused) {
            let wrong = Wrong::UnchangedRefused;
            return Err(Disagreement { wrong, step: number, reasons: vec![], said });
        }
        Ok(())
    }
}

/// Takes all the steps.
pub fn run<S: Site>(site: S, steps: &[Step]) -> (Run<S>, Option<Disagreement>) {
    let mut run = Run::new(site);
    for (number, step) in steps.iter().enumerate() {
        if let Err(disagreement) = run.take(number, step) {
            return (run, Some(disagreement));
        }
    }
    (run, None)
}
