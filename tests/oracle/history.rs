//! Histories: steps of one server, its peer, their records and their clients. A run takes the steps and compares the
//! software's answers with the oracle's.

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

/// One step of a history.
#[derive(Clone, Debug)]
pub enum Step {
    /// The operator tests a configuration, and reloads if the test passes. Old workers answer for `drains` more hours.
    /// With `is_unwritable` the records cannot be written.
    Deploy {
        config: Config,
        is_unwritable: bool,
        drains: i64,
    },
    /// The server stops; the next configuration that passes starts it again.
    Stop,
    /// The server starts with the configuration that it had at its stop.
    Start,
    /// The server starts with this configuration in spite of all findings.
    Force(Config),
    /// The records become those of an older version, which did not record certificates.
    Upgrade,
    Wait(i64),
    /// Pins held outside of headers are recorded on this machine.
    Import(Outside),
    /// The TLSA records of a host are recorded on this machine.
    Zone(Dane),
    /// The operator records that the import with this number has ended.
    EndImport(usize),
    /// The peer deploys a configuration.
    Peer(Config),
    /// The peer stops.
    PeerStop,
    /// The peer's file is copied to this machine.
    Copy,
    /// A peer's file has events that it has no right to record.
    Lie(Lie),
    /// The clock of this machine is off by so many seconds.
    Clock(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// An event that our pins have ended.
    Ends,
    /// An event that our pins are waived.
    Waives,
    /// A file under our name, with the certificates that the peer presents.
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

/// The kind of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wrong {
    /// A lock-out passes.
    Missed,
    /// A lock-out passes without the warning that is due.
    Silent,
    /// A safe change is refused.
    Refused,
    /// An unchanged configuration is refused.
    UnchangedRefused,
}

/// Oracle and software disagree.
#[derive(Clone, Debug)]
pub struct Disagreement {
    pub wrong: Wrong,
    /// The step after which they disagree.
    pub step: usize,
    pub reasons: Vec<String>,
    pub findings: Vec<String>,
}

/// The answer of the software to a configuration.
#[derive(Debug)]
pub struct Reply {
    pub is_refused: bool,
    /// The findings, each in a line.
    pub findings: Vec<String>,
}

/// Events in the records of this machine that others have written.
#[derive(Clone, Debug, Default)]
pub struct Others {
    pub operator: Vec<Event>,
    pub copied: Vec<Event>,
    pub lies: Vec<Event>,
}

/// The server under test: the core alone, or a real one.
pub trait Site {
    /// The present time, if it cannot be chosen.
    fn now(&self) -> Option<i64>;
    /// The real port for a port of this world.
    fn port(&self, port: u16) -> u16;
    /// Takes over the events that others have written.
    fn learn(&mut self, others: &Others);
    /// Tests a configuration.
    fn ask(&mut self, config: &Config, now: i64) -> Reply;
    /// As `ask`, if all other machines have been silent for too long; `None` if the site cannot test that.
    fn ask_beside_silent(&mut self, _: &Config, _: i64) -> Option<Reply> {
        None
    }
    /// Serves a configuration that has passed, by a reload, or by a start if the server does not run.
    fn serve(&mut self, config: &Config, is_unwritable: bool, now: i64);
    /// Turns the records into those of an older version, without certificates.
    fn forget_certificates(&mut self);
    /// Stops.
    fn stop(&mut self, now: i64);
    /// Whether the served configuration sends the header of this block to clients of `host`.
    fn sends(&self, block: usize, host: &str) -> bool;
    /// The events that the server has written.
    fn written(&self) -> Vec<Event>;
}

/// The other machine: its served configuration and its records.
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

/// The state of a world after some steps.
pub struct Run<S> {
    site: S,
    config: Option<Config>,
    is_running: bool,
    sends: Sends,
    /// Whether the served configuration is on record.
    is_recorded: bool,
    /// Whether the records have the certificates that were served, and not their keys alone.
    knows_certificates: bool,
    peer: Peer,
    others: Others,
    /// The peer's configuration at the time of the last copy.
    copied_config: Option<Config>,
    imports: Vec<EventId>,
    memories: Vec<Memory>,
    pub now: i64,
    clock: i64,
    /// Whether the clock was wrong when records were last written, and is right again.
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

    /// The configuration that is served now, or was before the stop.
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

    /// Takes a step; fails if oracle and software disagree after it.
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
        self.connect_clients();
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
        // The operator's command uses the machine's clock, which may be wrong.
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
        let Reply { is_refused, findings } = self.site.ask(config, self.machine_time());
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
        let Opinion { mut must, may, mut warn } = judge(&case);
        if is_unchanged {
            // The header may have waited until the records could be written. The same configuration is never refused,
            // also if it sends the header now; a warning is due.
            warn.append(&mut must);
        }
        let is_silent = findings.is_empty();
        let wrong = |wrong, reasons| Err(Disagreement { wrong, step: number, reasons, findings });
        if is_refused {
            self.refused += 1;
            self.rightly += usize::from(!must.is_empty());
            if is_unchanged {
                return wrong(Wrong::UnchangedRefused, vec![]);
            }
            // With a clock that is or was wrong, the server does not know which pins have expired.
            if may.is_empty() && self.clock == 0 && !self.clock_was_wrong {
                return wrong(Wrong::Refused, vec![]);
            }
            return Ok(());
        }
        if !must.is_empty() && self.clock <= 0 {
            return wrong(Wrong::Missed, must);
        }
        if !warn.is_empty() && is_silent && self.clock <= 0 {
            return wrong(Wrong::Silent, warn);
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
        // Pins whose end cannot be recorded have not ended by the records.
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

    /// Old workers answer for some more hours.
    fn drain(&mut self, hours: i64) {
        let now = self.now;
        let Some(config) = self.config.clone().filter(|_| self.is_running) else { return };
        let sends = self.sends.clone();
        self.note(&config, &sends, false, now + hours * HOUR);
    }

    /// All clients connect to both servers and note their headers.
    fn connect_clients(&mut self) {
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
                for preference in 0..nature::PREFERENCES {
                    let sent = nature::chosen(block, preference);
                    // A client that rejects the name notes nothing, but the records cannot know that.
                    let is_for_it = nature::is_for(sent, host);
                    if !is_for_it && by != By::Name {
                        continue;
                    }
                    let sight = Sight::of(sent);
                    for above in sight.paths() {
                        let is_noted = client::notes(&policy.pins, sent.leaf.key, &above);
                        let header = Header {
                            host,
                            policy: policy.clone(),
                            preference,
                            leaf: sent.leaf.key,
                            sight: sight.clone(),
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
                // The certificates of the peer, as if this server had presented them.
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

    /// Fails unless the served configuration passes, whatever records were added meanwhile.
    fn unchanged(&mut self, number: usize) -> Result<(), Disagreement> {
        let Some(config) = self.config.clone() else { return Ok(()) };
        let Reply { is_refused, findings } = self.site.ask(&config, self.machine_time());
        self.asked += 1;
        if is_refused {
            let wrong = Wrong::UnchangedRefused;
            return Err(Disagreement { wrong, step: number, reasons: vec![], findings });
        }
        // It also passes if all other machines are silent.
        let beside = self.site.ask_beside_silent(&config, self.machine_time());
        if let Some(Reply { findings, .. }) = beside.filter(|reply| reply.is_refused) {
            let wrong = Wrong::UnchangedRefused;
            return Err(Disagreement { wrong, step: number, reasons: vec![], findings });
        }
        Ok(())
    }
}

/// Takes all steps, until oracle and software disagree.
pub fn run<S: Site>(site: S, steps: &[Step]) -> (Run<S>, Option<Disagreement>) {
    let mut run = Run::new(site);
    for (number, step) in steps.iter().enumerate() {
        if let Err(disagreement) = run.take(number, step) {
            return (run, Some(disagreement));
        }
    }
    (run, None)
}
