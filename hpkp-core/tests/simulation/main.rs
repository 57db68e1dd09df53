//! Simulation of whole histories of servers, their records and their clients: the check must report a lock-out if and
//! only if some client could be locked out, and must never refuse an unchanged configuration.
//!
//! `clients` decides the same question as the check, but by enumerating connections and paths.
//! `HPKP_SEED` sets the first seed, `HPKP_HISTORIES` their number.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod clients;
#[allow(dead_code, reason = "what the fuzz targets need beyond this")]
#[path = "../../../tests/fuzz/src/der.rs"]
mod der;
mod pki;
#[allow(unreachable_pub, reason = "public where the other tests have it from")]
#[path = "../../../tests/support/random.rs"]
mod random;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clients::{By, Header, Place, Presented, Server, View};
use hpkp_core::accepted::{accepted, stopped, without_ends};
use hpkp_core::certificate::Certificate;
use hpkp_core::check::{
    Certificates, Choice, Context, Deployment, Host, Listener, PolicyUse, Records, TrustSetting,
    Verdict, check,
};
use hpkp_core::check::{Digest, digest};
use hpkp_core::finding::{Check, Class, Code, Finding, Location};
use hpkp_core::max_age::MaxAge;
use hpkp_core::path::{Chain, Trust, VerifySignature};
use hpkp_core::pin::Pin;
use hpkp_core::policy::{PinSetting, PinSource, PolicySpec};
use hpkp_core::published::state::Standing;
use hpkp_core::published::{
    Again, Body, Ended, Event, EventId, Gone, Lifetime, Matching, Origin, Published, Scope, State,
    Waived, Why, WriterName,
};
use pki::Cert;
use random::Random;

const HISTORIES: usize = 10_000;
const DAY: i64 = 86_400;
const START: i64 = 1_800_000_000;
/// The names that blocks have.
const NAMES: [&str; 4] = ["a.test", "b.a.test", "c.b.a.test", "d.a.test"];
/// A pattern that some blocks have. For nginx and httpd it also matches hosts several labels below.
const PATTERN: &str = "*.a.test";
/// The names to which clients connect: those of blocks, one that only apps pin, and one below each domain that is in no
/// configuration.
pub(crate) const CLIENT_NAMES: [&str; 8] = [
    "a.test",
    "b.a.test",
    "c.b.a.test",
    "d.a.test",
    "e.a.test",
    "z.a.test",
    "z.b.a.test",
    "z.e.a.test",
];
/// Names that represent the hosts of a pattern that are in no configuration.
const UNNAMED: [&str; 2] = ["z.a.test", "z.b.a.test"];
/// The times of wrong clocks: 1970, and 40 years from now.
const UNSET: i64 = 3_600;
const AHEAD: i64 = 40 * 365 * DAY;
/// Keys that no chain has: the backups.
const BACKUPS: [u32; 2] = [190, 191];

/// The pools of chains and keys, made once.
struct World {
    chains: Vec<(Vec<Cert>, Chain)>,
    trust: Arc<TrustSetting>,
    pins: HashMap<u32, Pin>,
    key_of: HashMap<Pin, u32>,
    at: Location,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Policy {
    keys: BTreeSet<u32>,
    max_age: u64,
    include_subdomains: bool,
}

/// A server block. It has one port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    names: BTreeSet<&'static str>,
    port: u16,
    /// Positions in the pool.
    chains: BTreeSet<usize>,
    policy: Option<Policy>,
}

type Config = Vec<Block>;

struct Machine {
    writer: String,
    log: Vec<Event>,
    /// How much of each other machine's log has arrived.
    arrived: Vec<usize>,
    config: Option<Config>,
    /// Whether its last configuration was served in spite of a refusal.
    forced: bool,
    /// Whether it has recorded a stop; at its next start it publishes its pins again.
    stopped: bool,
    /// The digest of a served configuration that could not be recorded.
    unrecorded: Option<Digest>,
    clock: Clock,
    /// Whether its earlier configuration is still on record, because old workers answer beside the new ones.
    drains: bool,
}

/// The state of a machine's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    Right,
    Unset,
    Ahead,
}

impl Clock {
    fn at(self, now: i64) -> i64 {
        match self {
            Self::Right => now,
            // A clock that is not set still runs.
            Self::Unset => UNSET + (now - START) / 1_000,
            Self::Ahead => now + AHEAD,
        }
    }
}

/// An event about other writers' records, from an attacker who may write one file of the copies.
fn lie(random: &mut Random, machines: &[Machine], imports: &[Event], at: i64, seq: u64) -> Event {
    let all: Vec<&Event> = machines.iter().flat_map(|one| &one.log).chain(imports).collect();
    let ids: Vec<EventId> = all.iter().map(|event| event.id()).collect();
    let is_stop = |e: &&&Event| matches!(e.body(), Body::Ended(ended) if ended.why == Why::Stopped);
    let stops: Vec<EventId> = all.iter().filter(is_stop).map(|event| event.id()).collect();
    let body = match random.below(4) {
        0 => Body::Ended(Ended {
            ids,
            why: random.one_of(&[Why::Replaced, Why::Stopped, Why::Other("so".into())]).clone(),
            when: random.chance(50).then(|| at - 400 * DAY),
        }),
        1 => Body::Waived(Waived { ids, who: "nobody".into(), why: "so".into() }),
        2 => Body::Again(Again { ids: stops, except: ids }),
        _ => {
            let machine = random.one_of(machines);
            let upto = machine.log.last().map_or(0, Event::seq);
            let of: WriterName = machine.writer.parse().unwrap();
            Body::Gone(Gone {
                of,
                instance: None,
                upto,
                why: "so".into(),
                when: Some(at - 400 * DAY),
            })
        }
    };
    let at = if random.chance(30) { at + AHEAD } else { at };
    Event::new(at, seq, "liar".parse().unwrap(), body)
}

impl World {
    fn new() -> Self {
        let chains =
            pki::chains().into_iter().map(|certs| (certs.clone(), pki::chain(&certs))).collect();
        let pins: HashMap<u32, Pin> =
            pki::KEYS.iter().chain(&BACKUPS).map(|key| (*key, pki::pin(*key))).collect();
        let trust: Trust = pki::trust();
        Self {
            chains,
            trust: Arc::new(TrustSetting { trust, ..TrustSetting::default() }),
            key_of: pins.iter().map(|(key, pin)| (*pin, *key)).collect(),
            pins,
            at: Location { file: Arc::from("conf"), line: 1 },
        }
    }

    fn presented(&self, block: &Block) -> Presented {
        block.chains.iter().map(|index| self.chains[*index].0.clone()).collect()
    }

    fn pins(&self, keys: &BTreeSet<u32>) -> Vec<Pin> {
        let mut pins: Vec<Pin> = keys.iter().map(|key| self.pins[key]).collect();
        pins.sort_unstable();
        pins
    }

    fn deployment(
        &self,
        config: &Config,
        writer: &str,
        state: State,
        unrecorded: Option<Digest>,
    ) -> Deployment {
        let mut deployment = Deployment::default();
        for (position, block) in config.iter().enumerate() {
            let chains = block.chains.iter().map(|index| self.chains[*index].1.clone()).collect();
            deployment.contexts.push(Context {
                certificates: Certificates::Loaded(chains),
                trust: self.trust.clone(),
            });
            let name = format!("policy-{position}");
            if let Some(policy) = &block.policy {
                let mut spec = PolicySpec::new(name.clone(), self.at.clone());
                let pins = self.pins(&policy.keys).into_iter();
                spec.pins = pins
                    .map(|pin| PinSetting { source: PinSource::Literal(pin), at: self.at.clone() })
                    .collect();
                spec.max_age = MaxAge::from_seconds(policy.max_age);
                spec.include_subdomains = Some(policy.include_subdomains);
                deployment.policies.push(spec.resolve(|_| Err(String::new())));
            }
            let policy_use = PolicyUse { policy: name, at: self.at.clone(), own: true };
            deployment.hosts.push(Host {
                enforced: block.policy.as_ref().map(|_| policy_use),
                ..Host::new(
                    format!("block-{position}"),
                    block.names.iter().map(|name| (*name).to_owned()).collect(),
                    vec![position],
                )
            });
        }
        for port in [443, 8443] {
            let hosts: Vec<usize> =
                (0..config.len()).filter(|position| config[*position].port == port).collect();
            if let Some(&default) = hosts.first() {
                let choice = if port == 443 { Choice::Nginx } else { Choice::Httpd };
                let patterns = vec![];
                deployment
                    .listeners
                    .push(Listener { patterns, ..Listener::new(port, choice, hosts, default) });
            }
        }
        deployment.records = Some(Records {
            directories: vec!["/var/lib/hpkp".to_owned()],
            state,
            writer: Some(writer.parse().unwrap()),
            at: self.at.clone(),
            problems: vec![],
            unrecorded,
            freshness: Vec::new(),
        });
        deployment
    }

    /// A configuration in the form that the client model needs.
    fn server<'a>(&self, config: &Config, writer: &'a str) -> Server<'a> {
        let mut places: Vec<Place> = Vec::new();
        let mut strays: Vec<Place> = Vec::new();
        for port in [443, 8443] {
            for name in CLIENT_NAMES {
                let answer = self.answer(config, port, name);
                places.extend(answer.map(|(block, by)| {
                    let presented = self.presented(&config[block]);
                    let has_name = config[block].names.contains(name);
                    Place { name: name.to_owned(), port, presented, by, has_name, block }
                }));
                if let (None, Some((block, _))) = (answer, Self::chosen(config, port, name)) {
                    let (name, presented) = (name.to_owned(), self.presented(&config[block]));
                    strays.push(Place {
                        name,
                        port,
                        presented,
                        by: By::Default,
                        has_name: false,
                        block,
                    });
                }
            }
        }
        let headers = config.iter().enumerate().filter_map(|(position, block)| {
            let policy = block.policy.as_ref().filter(|policy| policy.max_age > 0)?;
            let is_met = block.chains.iter().all(|index| {
                pki::paths(&self.chains[*index].0)
                    .iter()
                    .flatten()
                    .any(|(cert, _)| policy.keys.contains(&cert.key))
            });
            let of_block = places.iter().filter(|p| p.block == position && p.by != By::Wildcard);
            is_met.then(|| Header {
                block: position,
                names: of_block.map(|place| place.name.clone()).collect(),
                presented: self.presented(block),
                keys: policy.keys.clone(),
                include_subdomains: policy.include_subdomains,
            })
        });
        Server { writer, headers: headers.collect(), places, strays }
    }

    /// The block that answers for a name on a port, and whether it has the name or a matching pattern.
    fn chosen(config: &Config, port: u16, name: &str) -> Option<(usize, bool)> {
        let there = || config.iter().enumerate().filter(|(_, block)| block.port == port);
        let fits = name.ends_with(&PATTERN[1..]);
        let has = |block: &Block| block.names.contains(name);
        let has_pattern = |block: &Block| fits && block.names.contains(PATTERN);
        let chosen = match port {
            // nginx: exact names first.
            443 => there()
                .find(|(_, block)| has(block))
                .or_else(|| there().find(|(_, block)| has_pattern(block))),
            // httpd: the first block that fits.
            _ => there().find(|(_, block)| has(block) || has_pattern(block)),
        };
        let (position, _) = chosen.or_else(|| there().next())?;
        Some((position, chosen.is_some()))
    }

    /// The block that answers for a name on a port with a certificate for it, and why.
    fn answer(&self, config: &Config, port: u16, name: &str) -> Option<(usize, By)> {
        let (position, is_chosen) = Self::chosen(config, port, name)?;
        let block = &config[position];
        let leaves = block.chains.iter().map(|index| self.chains[*index].0[0]);
        let certified: BTreeSet<Matching> = leaves.filter_map(|leaf| leaf.is_for(name)).collect();
        let is_named = block.names.iter().any(|name| *name != PATTERN);
        let by = match () {
            () if is_chosen && block.names.contains(name) => By::Name,
            () if certified.is_empty() => return None,
            () if is_chosen => By::Name,
            () if is_named && !certified.contains(&Matching::Exact) => By::Wildcard,
            () => By::Default,
        };
        Some((position, by))
    }

    fn random_keys(random: &mut Random, world: &Self, chains: &BTreeSet<usize>) -> BTreeSet<u32> {
        let mut keys: BTreeSet<u32> = BACKUPS.into();
        for index in chains {
            // Most policies pin a key of their own chains.
            if random.chance(90) {
                let certs = &world.chains[*index].0;
                keys.insert(random.one_of(certs).key);
            }
        }
        for _ in 0..random.below(3) {
            keys.insert(*random.one_of(&pki::KEYS));
        }
        keys
    }

    fn random_block(&self, random: &mut Random) -> Block {
        let mut chains = BTreeSet::from([random.below(self.chains.len())]);
        if random.chance(20) {
            chains.insert(random.below(self.chains.len()));
        }
        let mut names: BTreeSet<&str> =
            (0..1 + random.below(2)).map(|_| *random.one_of(&NAMES)).collect();
        if random.chance(20) {
            // A block without a name.
            names.clear();
        }
        if random.chance(20) {
            names.insert(PATTERN);
        }
        let keys = Self::random_keys(random, self, &chains);
        let policy = random.chance(70).then(|| Policy {
            keys,
            max_age: *random.one_of(&[0, 86_400, 3 * 86_400, 30 * 86_400]),
            include_subdomains: random.chance(30),
        });
        Block { names, port: if random.chance(85) { 443 } else { 8443 }, chains, policy }
    }

    /// A change that operators make, for better or worse.
    fn mutated(&self, random: &mut Random, config: &Config) -> Config {
        let mut config = config.clone();
        let position = random.below(config.len());
        match random.below(17) {
            0 => config.push(self.random_block(random)),
            1 if config.len() > 1 => drop(config.remove(position)),
            2 => config[position] = self.random_block(random),
            3 | 4 => {
                config[position].chains = BTreeSet::from([random.below(self.chains.len())]);
            }
            5 => {
                let keys = Self::random_keys(random, self, &config[position].chains);
                if let Some(policy) = &mut config[position].policy {
                    policy.keys = keys;
                }
            }
            6 => {
                let more = *random.one_of(&pki::KEYS);
                if let Some(policy) = &mut config[position].policy {
                    policy.keys.insert(more);
                }
            }
            7 => config[position].policy = None,
            8 => {
                if let Some(policy) = &mut config[position].policy {
                    policy.max_age = 0;
                }
            }
            9 => drop(config[position].names.insert(*random.one_of(&NAMES))),
            10 => config[position].chains = random.one_of(&config).chains.clone(),
            11 => drop(config[position].names.insert(PATTERN)),
            12 if config[position].names.len() > 1 => drop(config[position].names.pop_first()),
            // The same key with another certificate above it, or for other hosts.
            13 | 14 => {
                let key = |index: usize| self.chains[index].0[0].key;
                let of = config[position].chains.iter().next().map(|index| key(*index));
                let same = (0..self.chains.len()).filter(|index| Some(key(*index)) == of);
                let same: Vec<usize> = same.collect();
                config[position].chains = BTreeSet::from([*random.one_of(&same)]);
            }
            _ => {}
        }
        config
    }

    /// Pins that an app or a zone publishes.
    fn random_import(&self, random: &mut Random, now: i64) -> Body {
        let keys = (0..1 + random.below(2)).map(|_| *random.one_of(&pki::KEYS)).collect();
        Body::Published(Published {
            host: random.one_of(&CLIENT_NAMES[..5]).parse().unwrap(),
            matching: *random.one_of(&[Matching::Exact, Matching::OneLabel, Matching::AnyDepth]),
            except: vec![],
            include_subdomains: random.chance(30),
            scope: *random.one_of(&[Scope::Chain, Scope::Leaf, Scope::PathCa, Scope::SentCa]),
            port: *random.one_of(&[None, None, Some(443), Some(8443)]),
            pins: self.pins(&keys),
            lifetime: match random.below(3) {
                0 => Lifetime::Open,
                1 => Lifetime::ExpiresAt(now + i64::try_from(random.below(10)).unwrap() * DAY),
                _ => Lifetime::MaxAge(MaxAge::from_seconds(86_400).unwrap()),
            },
            origin: Origin::Other("an app".into()),
            since: None,
            configuration: None,
            exempt: Vec::new(),
            tlsa: None,
        })
    }
}

struct Always;

impl VerifySignature for Always {
    fn is_signed_by(&self, _: &Certificate, _: &Certificate) -> bool {
        true
    }
}

/// How often each event happened, so that a simulation in which nothing happens fails.
#[derive(Debug, Default)]
struct Counts {
    checks: usize,
    refused: usize,
    safe: usize,
    unchanged: usize,
    /// Lock-outs where the configuration before presented something else.
    new: usize,
    /// Events about other writers' records, configurations that were not recorded, and drains.
    lies: usize,
    unrecorded: usize,
    drained: usize,
    by_code: HashMap<Code, usize>,
}

fn found(verdict: &Verdict, codes: &[Code]) -> bool {
    verdict.findings.iter().any(|finding| codes.contains(&finding.code))
}

fn refused(verdict: &Verdict, codes: &[Code]) -> bool {
    // A lock-out that was accepted before is a warning.
    let is_refused = |f: &&Finding| f.class == Class::Lockout && f.check == Check::Refuse;
    verdict.findings.iter().filter(is_refused).any(|f| codes.contains(&f.code))
}

const ALL: [Code; 4] = [
    Code::PublishedPinsUnmet,
    Code::SuperdomainPinsUnmet,
    Code::SameHostPinMismatch,
    Code::PeerServerPinMismatch,
];

fn history(world: &World, seed: u64, counts: &mut Counts) {
    let mut fleet = Fleet::new(world, seed);
    for _ in 0..4 + fleet.random.below(8) {
        fleet.turn(counts);
    }
}

/// The machines, their records, and the history so far.
struct Fleet<'w> {
    world: &'w World,
    seed: u64,
    random: Random,
    now: i64,
    machines: Vec<Machine>,
    /// Most fleets have one configuration.
    common: Config,
    imports: Vec<Event>,
    lies: Vec<Event>,
    /// Whether a clock was wrong: from then on the check cannot know exactly when pins expire.
    was_wrong: bool,
    happened: HashMap<(WriterName, u64), i64>,
    presented: HashMap<EventId, Presented>,
}

impl<'w> Fleet<'w> {
    fn new(world: &'w World, seed: u64) -> Self {
        // Mixed, since seeds that follow each other must not give similar numbers.
        let mut random = Random::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let count = 1 + random.below(5);
        let machine = |number| Machine {
            writer: format!("web-{number}"),
            log: vec![],
            arrived: vec![0; count],
            config: None,
            forced: false,
            stopped: false,
            unrecorded: None,
            clock: Clock::Right,
            drains: false,
        };
        let machines = (0..count).map(machine).collect();
        let common = (0..1 + random.below(3)).map(|_| world.random_block(&mut random)).collect();
        Self {
            world,
            seed,
            random,
            now: START,
            machines,
            common,
            imports: Vec::new(),
            lies: Vec::new(),
            was_wrong: false,
            happened: HashMap::new(),
            presented: HashMap::new(),
        }
    }

    /// Time passes, events may be recorded by hand, and a machine gets a configuration.
    fn turn(&mut self, counts: &mut Counts) {
        let random = &mut self.random;
        self.now = match random.below(3) {
            0 => turning_point(random, &self.machines, &self.imports, self.now),
            _ => {
                self.now + *random.one_of(&[0, 0, 1, DAY / 2, DAY, 2 * DAY, 2 * DAY + 1, 40 * DAY])
            }
        };
        if random.chance(15) {
            self.import();
        }
        if self.random.chance(15) {
            let seq = self.lies.len() as u64 + 1;
            self.lies.push(lie(&mut self.random, &self.machines, &self.imports, self.now, seq));
            counts.lies += 1;
        }
        let at = self.random.below(self.machines.len());
        // Without records from a time when the clock was right, a machine cannot know that its clock is wrong.
        if self.random.chance(5) && !self.machines[at].log.is_empty() {
            self.machines[at].clock =
                *self.random.one_of(&[Clock::Right, Clock::Right, Clock::Unset, Clock::Ahead]);
        }
        self.was_wrong |= self.machines[at].clock != Clock::Right;
        self.copy_to(at);
        let random = &mut self.random;
        let config = match &self.machines[at].config {
            Some(config) if random.chance(25) => config.clone(),
            Some(config) => self.world.mutated(random, config),
            None if random.chance(70) => self.common.clone(),
            None => vec![self.world.random_block(random)],
        };
        self.configure(at, config, counts);
    }

    /// Records an event by hand: pins of an app, their end, or a waiver.
    fn import(&mut self) {
        let random = &mut self.random;
        let seq = self.imports.len() as u64 + 1;
        let known: Vec<EventId> = self.imports.iter().map(Event::id).collect();
        let body = match random.below(4) {
            0 if !known.is_empty() => Body::Ended(Ended {
                ids: vec![*random.one_of(&known)],
                why: Why::Other("lost support".into()),
                when: random.chance(50).then(|| self.now - DAY),
            }),
            1 if !known.is_empty() => Body::Waived(Waived {
                ids: vec![*random.one_of(&known)],
                who: "ops".into(),
                why: "so".into(),
            }),
            _ => self.world.random_import(random, self.now),
        };
        self.imports.push(Event::new(self.now, seq, "apps".parse().unwrap(), body));
    }

    /// Copies other machines' files to a machine: whole, in part, or not at all.
    fn copy_to(&mut self, at: usize) {
        for other in (0..self.machines.len()).filter(|other| *other != at) {
            let whole = self.machines[other].log.len();
            let arrived = self.machines[at].arrived[other];
            self.machines[at].arrived[other] = match self.random.below(3) {
                0 => whole,
                1 => arrived + self.random.below(whole - arrived + 1),
                _ => arrived,
            };
        }
    }

    /// The state that a machine reads from its files, and the files.
    fn read(&mut self, at: usize) -> (State, Vec<Vec<Event>>) {
        let (lies, machines) = (&self.lies, &self.machines);
        let files: Vec<&[Event]> = std::iter::once(self.imports.as_slice())
            .chain(machines.iter().enumerate().map(|(other, one)| {
                let end = if other == at { one.log.len() } else { machines[at].arrived[other] };
                &one.log[..end]
            }))
            .collect();
        let mut state = State::default();
        // The liar's file may be read first or last.
        let is_first = self.random.chance(50);
        let take_lies =
            |state: &mut State| lies.iter().for_each(|lie| state.take(lie.clone(), Standing::Peer));
        if is_first {
            take_lies(&mut state);
        }
        // First the file of imports, then one file for each machine.
        for (file, number) in files.iter().zip(0..) {
            let standing =
                if [0, at + 1].contains(&number) { Standing::Own } else { Standing::Peer };
            file.iter().for_each(|event| state.take(event.clone(), standing));
        }
        if !is_first {
            take_lies(&mut state);
        }
        (state, files.into_iter().map(with_stops_taken_back).collect())
    }

    /// A machine gets a configuration; fails unless its findings and its records are right.
    fn configure(&mut self, at: usize, config: Config, counts: &mut Counts) {
        let (mut state, files) = self.read(at);
        let (world, machine) = (self.world, &self.machines[at]);
        let writer = machine.writer.clone();
        let deployment = world.deployment(&config, &writer, state.clone(), machine.unrecorded);
        let clock = machine.clock.at(self.now);
        let mut verdict = check(&deployment, clock, &Always);
        let server = world.server(&config, &writer);
        let view = View {
            files: files.iter().map(Vec::as_slice).collect(),
            presented: &self.presented,
            key_of: &world.key_of,
            happened: &self.happened,
            now: self.now,
        };
        let (seed, deployment) = (self.seed, &deployment);
        let before = machine.config.as_ref().map(|before| world.server(before, &writer));
        let change = Change {
            seed,
            machine,
            config: &config,
            deployment,
            view,
            server: &server,
            before,
            was_wrong: self.was_wrong,
        };
        let is_refused = change.judge(&verdict, counts);
        let is_forced = is_refused && self.random.chance(30);
        if is_refused && !is_forced {
            return;
        }
        // A second server beside a running one, or records that cannot be written: only recorded headers are sent.
        let is_second = machine.config.is_some() && self.random.chance(5);
        let is_unwritable = self.random.chance(7);
        if is_second || is_unwritable {
            let digest = change.withhold(&mut verdict, &state, is_second);
            counts.unrecorded += 1;
            let machine = &mut self.machines[at];
            if !is_second {
                machine.unrecorded = Some(digest);
                machine.forced = true;
                machine.config = Some(config);
            }
            return;
        }
        let drains = machine.config.is_some() && !is_forced && self.random.chance(7);
        counts.drained += usize::from(drains);
        let events = change.accepted(&verdict, &mut state, drains);
        self.note(&events, &server);
        let machine = &mut self.machines[at];
        machine.log.extend(events.iter().cloned());
        if !is_refused && !found(&verdict, &ALL) && !drains {
            let recorded = recorded(world, &with_stops_taken_back(&machine.log));
            assert_eq!(recorded, published(&server), "what is on record: seed {seed}");
        }
        // A header that is withheld once more is not on record either.
        let is_withheld = verdict.findings.iter().any(|f| f.class == Class::Lockout);
        self.serve(at, config, &events, (is_forced || is_withheld, drains));
        if self.machines[at].stopped {
            self.stop(at, &state);
        }
    }

    /// A machine serves a configuration that was accepted or forced.
    fn serve(
        &mut self,
        at: usize,
        config: Config,
        events: &[Event],
        (forced, drains): (bool, bool),
    ) {
        let machine = &mut self.machines[at];
        let is_unchanged = machine.config.as_ref() == Some(&config);
        if is_unchanged && !machine.forced && !machine.stopped && !machine.drains {
            assert_eq!(events.iter().filter(|e| is_published(e)).count(), 0, "seed {}", self.seed);
        }
        machine.forced = forced || is_unchanged && machine.forced;
        machine.config = Some(config);
        machine.unrecorded = None;
        machine.drains = drains;
        machine.stopped = self.random.chance(10);
    }

    fn stop(&mut self, at: usize, state: &State) {
        let machine = &mut self.machines[at];
        let writer = machine.writer.parse().unwrap();
        let events = stopped(state, &writer, machine.clock.at(self.now));
        let happened = events.iter().map(|event| ((event.writer().clone(), event.seq()), self.now));
        self.happened.extend(happened);
        machine.log.extend(events);
    }

    /// Stores the real times of events, and the chains of the events of the kind `presents`.
    fn note(&mut self, events: &[Event], server: &Server<'_>) {
        let happened = events.iter().map(|event| ((event.writer().clone(), event.seq()), self.now));
        self.happened.extend(happened);
        for event in events {
            if let Body::Presents(presents) = event.body() {
                let name = presents.host.as_str();
                let port = presents.ports[0];
                let below = || UNNAMED.into_iter().find(|z| z.split_once('.').unwrap().1 == name);
                let reached = match presents.matching {
                    Matching::OneLabel => below().unwrap(),
                    _ => name,
                };
                let place = server.places.iter().find(|p| p.name == reached && p.port == port);
                // A certificate without the name is recorded for clients that ignore names.
                let presented = place.map(|place| place.presented.clone());
                assert!(presented.is_some() || presents.aside, "{}", event.line());
                self.presented.insert(event.id(), presented.unwrap_or_default());
            }
        }
    }
}

/// A configuration that a machine gets, with everything that the judgement depends on.
struct Change<'a> {
    seed: u64,
    machine: &'a Machine,
    config: &'a Config,
    deployment: &'a Deployment,
    view: View<'a>,
    server: &'a Server<'a>,
    before: Option<Server<'a>>,
    /// Whether a clock was wrong before.
    was_wrong: bool,
}

impl Change<'_> {
    fn is_unchanged(&self) -> bool {
        self.machine.config.as_ref() == Some(self.config)
    }

    fn holders(&self, in_doubt: bool) -> bool {
        clients::holders_are_locked_out(&self.view, self.server, self.before.as_ref(), in_doubt)
    }

    fn noters(&self, asides: bool) -> bool {
        clients::noters_are_locked_out(&self.view, self.server, asides)
    }

    fn description(&self, verdict: &Verdict) -> String {
        let Self { seed, machine, config, view, .. } = self;
        let lines = verdict.findings.iter().flat_map(|finding| finding.lines());
        let lines: Vec<String> = lines.collect();
        let log: Vec<&str> = view.files.iter().flat_map(|f| f.iter()).map(Event::line).collect();
        let (holders, noters) = (self.holders(false), self.noters(false));
        format!(
            "seed {seed}, {} at {}: holders locked out {holders}, noters {noters}\n{config:#?}\n{}\n{}",
            machine.writer,
            view.now,
            log.join("\n"),
            lines.join("\n")
        )
    }

    /// Whether the change is refused; fails unless that is right.
    fn judge(&self, verdict: &Verdict, counts: &mut Counts) -> bool {
        let description = || self.description(verdict);
        let machine = self.machine;
        let (holders, noters) = (self.holders(false), self.noters(false));
        counts.checks += 1;
        for finding in &verdict.findings {
            *counts.by_code.entry(finding.code).or_default() += 1;
        }
        self.is_exact(verdict, holders, noters);
        counts.safe += usize::from(!holders && !noters);
        if self.is_unchanged() {
            counts.unchanged += 1;
            // A forced configuration was refused before, so its pins are not on record.
            let codes = if machine.forced { &ALL[..1] } else { &ALL[..] };
            assert!(!refused(verdict, codes), "unchanged and refused: {}", description());
        }
        let is_ahead = machine.clock == Clock::Ahead;
        let is_refused = refused(verdict, &ALL);
        // Without an accepted configuration, every lock-out must be refused.
        let had = machine.config.iter().flatten().any(|block| block.policy.is_some());
        if machine.config.is_none() && (holders || noters) || !had && noters && !holders {
            assert!(is_ahead || is_refused, "a lock-out that is new passes: {}", description());
        }
        let is_new =
            |before| clients::holders_are_newly_locked_out(&self.view, self.server, before);
        if self.before.as_ref().is_some_and(is_new) {
            counts.new += 1;
            assert!(
                is_ahead || is_refused,
                "keys that are not as before pass: {}\nbefore: {:#?}",
                description(),
                machine.config
            );
        }
        counts.refused += usize::from(is_refused);
        is_refused
    }

    /// Fails unless every lock-out is found and nothing else.
    fn is_exact(&self, verdict: &Verdict, holders: bool, noters: bool) {
        let description = || self.description(verdict);
        let Machine { unrecorded, clock, drains, .. } = *self.machine;
        if holders {
            // For a configuration that is not on record, the path that clients took is not known.
            let is_same = unrecorded == Some(digest(self.deployment, &verdict.hosts));
            let is_partly = is_same && found(verdict, &[Code::PublishedPinsPartlyMet]);
            let is_found = clock == Clock::Ahead || is_partly || found(verdict, &ALL[..2]);
            assert!(is_found, "a lock-out is not found: {}", description());
            return;
        }
        // If no information is missing or wrong, the answer must be exact.
        if !self.was_wrong && unrecorded.is_none() && !drains && !self.holders(true) {
            // A header that is withheld is not noted by any client.
            let is_found = found(verdict, &ALL);
            assert!(is_found || !noters, "a lock-out is not found: {}", description());
            let asides = || self.noters(true);
            assert!(!refused(verdict, &ALL) || noters, "nobody is locked out: {}", description());
            assert!(!is_found || noters || asides(), "nobody is locked out: {}", description());
            assert!(!found(verdict, &ALL[..1]), "nobody is locked out: {}", description());
        }
    }

    /// Withholds headers that cannot be recorded; returns the digest of the served configuration.
    fn withhold(&self, verdict: &mut Verdict, state: &State, is_second: bool) -> Digest {
        let digest = digest(self.deployment, &verdict.hosts);
        let on_record = if is_second { State::default() } else { state.clone() };
        let description = self.description(verdict);
        let writer = self.machine.writer.parse().unwrap();
        let _ = verdict.withhold_unrecorded(self.deployment, &on_record, &writer, "full");
        for (host, block) in verdict.hosts.iter().zip(self.config) {
            let is_named = host.names.iter().any(|name| !name.aside);
            let sending = host.enforced.as_ref().filter(|_| is_named);
            let is_sent = sending.is_some_and(|one| one.header.is_some());
            let is_noted = block.policy.as_ref().is_some_and(|policy| policy.max_age > 0);
            assert!(!(is_sent && is_noted && is_second), "it is on no record: {description}");
        }
        digest
    }

    /// The events that the machine records; adds them to `state`.
    fn accepted(&self, verdict: &Verdict, state: &mut State, drains: bool) -> Vec<Event> {
        let writer = self.machine.writer.parse().unwrap();
        let clock = self.machine.clock.at(self.view.now);
        let mut events = accepted(self.deployment, verdict, state, &writer, clock);
        if drains {
            events = without_ends(events, state, &writer);
        }
        events.iter().for_each(|event| state.add(event));
        if !drains {
            let again = accepted(self.deployment, verdict, state, &writer, clock);
            assert!(
                again.iter().all(|event| matches!(event.body(), Body::Seen(_))),
                "nothing has changed: {}",
                self.description(verdict)
            );
        }
        events
    }
}

/// A file in which stops that an `again` event takes back are removed, as the client model reads it: the server
/// continued with the configuration that it had at its stop.
fn with_stops_taken_back(file: &[Event]) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    for event in file {
        events.push(event.clone());
        let Body::Again(again) = event.body() else { continue };
        for stop in events.iter_mut().filter(|stop| again.ids.contains(&stop.id())) {
            let Body::Ended(ended) = stop.body() else { panic!("{}", stop.line()) };
            let ids = ended.ids.iter().filter(|id| again.except.contains(id)).copied().collect();
            let ended = Body::Ended(Ended { ids, ..ended.clone() });
            *stop = Event::new(stop.at(), stop.seq(), stop.writer().clone(), ended);
        }
    }
    events
}

/// The publication of a header: a name, the keys, and whether hosts below are bound.
type Publication = (String, BTreeSet<u32>, bool);

/// The publications of a server by its log.
fn recorded(world: &World, log: &[Event]) -> BTreeSet<Publication> {
    let mut current: HashMap<EventId, Vec<Publication>> = HashMap::new();
    for event in log {
        match event.body() {
            Body::Published(one) if one.lifetime != Lifetime::MaxAge(no_time()) => {
                let keys: BTreeSet<u32> = one.pins.iter().map(|pin| world.key_of[pin]).collect();
                let is_meant = |name: &&&str| clients::is_meant(one, name);
                let of = |name: &&str| ((*name).to_owned(), keys.clone(), one.include_subdomains);
                current.insert(event.id(), CLIENT_NAMES.iter().filter(is_meant).map(of).collect());
            }
            Body::Ended(ended) => current.retain(|id, _| !ended.ids.contains(id)),
            _ => {}
        }
    }
    current.into_values().flatten().collect()
}

fn no_time() -> MaxAge {
    MaxAge::from_seconds(0).unwrap()
}

/// The publications that a server really sends.
fn published(server: &Server<'_>) -> BTreeSet<Publication> {
    let each = server.headers.iter().flat_map(|header| {
        let publication =
            |name: &String| (name.clone(), header.keys.clone(), header.include_subdomains);
        header.names.iter().map(publication)
    });
    each.collect()
}

/// A time at which pins end, or 1 second before it; not before `now`.
fn turning_point(random: &mut Random, machines: &[Machine], imports: &[Event], now: i64) -> i64 {
    let events = machines.iter().flat_map(|machine| &machine.log).chain(imports);
    let mut points = Vec::new();
    for event in events {
        match event.body() {
            Body::Published(Published { lifetime: Lifetime::ExpiresAt(time), .. }) => {
                points.push(*time);
            }
            Body::Ended(ended) => {
                let end = ended.when.unwrap_or(event.at());
                points.extend([end + 2 * DAY, end + 4 * DAY, end + 31 * DAY]);
            }
            _ => {}
        }
    }
    points.retain(|point| *point > now);
    if points.is_empty() {
        return now;
    }
    *random.one_of(&points) - i64::from(random.chance(50))
}

fn is_published(event: &Event) -> bool {
    matches!(event.body(), Body::Published(_))
}

#[test]
fn the_check_finds_every_lock_out_and_no_other() {
    let setting = |name, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let first: usize = setting("HPKP_SEED", 1);
    let histories: usize = setting("HPKP_HISTORIES", HISTORIES);
    println!("seeds {first} to {}", first + histories - 1);
    let world = World::new();
    let next = AtomicUsize::new(first);
    let all = std::thread::scope(|scope| {
        let run = || {
            let mut counts = Counts::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + histories {
                    return counts;
                }
                history(&world, seed as u64, &mut counts);
            }
        };
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(run)).collect();
        let mut all = Counts::default();
        for counts in threads.into_iter().map(|thread| thread.join().unwrap()) {
            all.checks += counts.checks;
            all.refused += counts.refused;
            all.safe += counts.safe;
            all.unchanged += counts.unchanged;
            all.new += counts.new;
            all.lies += counts.lies;
            all.unrecorded += counts.unrecorded;
            all.drained += counts.drained;
            for (code, count) in counts.by_code {
                *all.by_code.entry(code).or_default() += count;
            }
        }
        all
    });
    println!("{all:#?}");
    // A simulation in which an event never happens proves nothing about it.
    if histories >= 1_000 {
        for code in ALL.into_iter().chain([Code::PublishedPinsPartlyMet, Code::Waived]) {
            assert!(all.by_code.get(&code).is_some_and(|count| *count > 20), "{code}: {all:?}");
        }
        assert!(all.refused > all.checks / 20 && all.safe > all.checks / 20, "{all:?}");
        assert!(all.unchanged > all.checks / 50 && all.new > all.checks / 50, "{all:?}");
        let least = all.checks / 100;
        assert!(all.lies > least && all.unrecorded > least && all.drained > least, "{all:?}");
    }
}
