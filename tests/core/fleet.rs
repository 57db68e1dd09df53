//! Simulation of a fleet: several servers of one host, one of which is cut off for days, and clients that connect to
//! all servers and note pins from each.
//!
//! The servers copy each other's records once an hour. When the cut has lasted longer than `max_staleness` plus 1 hour,
//! both sides try random changes. No client may be locked out then; without `max_staleness` many are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hpkp_core::accepted::accepted;
use hpkp_core::certificate::Certificate;
use hpkp_core::check::{
    Certificates, Choice, Context, Freshness, HeardFile, Host, Listener, PolicyUse, TrustSetting,
    check,
};
use hpkp_core::finding::{Check, Class};
use hpkp_core::path::{Anchor, Anchors, Chain, Trust};
use hpkp_core::pin::Pin;
use hpkp_core::policy::{PinSetting, PinSource, PolicySpec};
use hpkp_core::published::heard::{AllHeard, Heard};
use hpkp_core::published::state::Standing;
use hpkp_core::published::{Event, State, WriterName};

use hpkp_tests::random::Random;
use hpkp_tests::site::B;

use super::published::{DAY, Never, World, at};

const HOST: &str = "www.example.com";
const HOUR: i64 = 3_600;
const MAX_STALENESS: i64 = 6 * HOUR;
const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];
const NAMES: [&str; 3] = ["web-1", "web-2", "web-3"];
/// The hours during which one server is cut off.
const CUT: std::ops::Range<i64> = 20..60;

#[derive(Clone, Default)]
struct Server {
    key: usize,
    pins: BTreeSet<usize>,
    sends: bool,
    events: Vec<Event>,
    copies: BTreeMap<usize, Vec<Event>>,
    heard: AllHeard,
}

struct Fleet {
    world: World,
    certificates: Vec<Arc<Certificate>>,
    pins: Vec<Pin>,
    trust: Arc<TrustSetting>,
    servers: Vec<Server>,
    /// The sets of pins that clients hold, with expiry.
    notes: BTreeMap<BTreeSet<usize>, i64>,
    has_max_staleness: bool,
}

fn name(server: usize) -> WriterName {
    NAMES[server].parse().expect("a name")
}

impl Fleet {
    fn new(world: World, has_max_staleness: bool) -> Self {
        let first = Server { pins: BTreeSet::from([0, 1]), ..Server::default() };
        let servers = vec![first; NAMES.len()];
        let certificates: Vec<_> = KEYS.iter().map(|key| world.certificate(key)).collect();
        let pins = certificates.iter().map(|one| one.pin().expect("a pin")).collect();
        let anchor = Anchor { certificate: world.certificate("ca"), origin: "store".into() };
        let trust = Trust { system: Arc::new(Anchors::new([anchor])), added: None };
        let trust = Arc::new(TrustSetting { trust, ..TrustSetting::default() });
        let notes = BTreeMap::new();
        Self { world, certificates, pins, trust, servers, notes, has_max_staleness }
    }

    /// The servers that are not cut off copy each other's records and heartbeats.
    fn sync(&mut self, is_cut: bool) {
        let reached: Vec<usize> = (usize::from(is_cut)..self.servers.len()).collect();
        let last = "00112233445566778899aabbccddeeff".parse().expect("an id");
        for &to in &reached {
            for &from in reached.iter().filter(|from| **from != to) {
                let events = self.servers[from].events.clone();
                self.servers[to].copies.insert(from, events);
                let heard = Heard { number: 1, at: self.world.now, last };
                self.servers[to].heard.insert(name(from), heard);
            }
        }
    }

    /// Deploys a key and pins on a server; returns whether the server accepts and then serves them.
    fn deploy(&mut self, server: usize, key: usize, pins: &BTreeSet<usize>) -> bool {
        let own = &self.servers[server];
        let mut state = State::default();
        own.events.iter().for_each(|event| state.add(event));
        for event in own.copies.values().flatten() {
            state.take(event.clone(), Standing::Peer);
        }
        // The world's certificates are reused, because making new ones with openssl takes long.
        let mut deployment = self.world.deployment(&[]);
        let chain = Chain::new(vec![self.certificates[key].clone()]).expect("a chain");
        let certificates = Certificates::Loaded(vec![chain]);
        deployment.contexts = vec![Context { certificates, trust: self.trust.clone() }];
        let mut spec = PolicySpec::new("site".to_owned(), at());
        let literal = |pin| PinSetting { source: PinSource::Literal(pin), at: at() };
        spec.pins = pins.iter().map(|key| literal(self.pins[*key])).collect();
        spec.pins.push(literal(B.parse().expect("a pin")));
        spec.max_age = Some("1d".parse().expect("a time"));
        deployment.policies = vec![spec.resolve(|_| Err(String::new()))];
        deployment.hosts = vec![Host {
            enforced: Some(PolicyUse { policy: "site".to_owned(), at: at(), own: true }),
            ..Host::new(HOST.to_owned(), vec![HOST.to_owned()], vec![0])
        }];
        deployment.listeners = vec![Listener::new(443, Choice::Nginx, vec![0], 0)];
        if let Some(records) = &mut deployment.records {
            (records.state, records.writer) = (state.clone(), Some(name(server)));
        }
        if self.has_max_staleness {
            let records = deployment.records.as_mut().expect("records");
            records.freshness = vec![Freshness {
                max_staleness: MAX_STALENESS,
                at: at(),
                file: "hpkp-heard".to_owned(),
                peers: own.copies.keys().map(|from| name(*from)).collect(),
                heard: HeardFile::Read(own.heard.clone()),
                at_handshake: false,
            }];
        }
        let verdict = check(&deployment, self.world.now, &Never);
        let is_refused = verdict.findings.iter().any(|finding| {
            matches!(finding.class, Class::Invalid | Class::Lockout | Class::Unsure)
                && finding.check == Check::Refuse
        });
        if is_refused {
            return false;
        }
        let events = accepted(&deployment, &verdict, &state, &name(server), self.world.now);
        let sending = verdict.hosts[0].enforced.as_ref();
        let server = &mut self.servers[server];
        server.events.extend(events);
        server.sends = sending.is_some_and(|sending| sending.header.is_some());
        (server.key, server.pins) = (key, pins.clone());
        true
    }

    /// Clients connect to all servers; returns how many of their sets of pins refuse a server.
    fn connect_clients(&mut self) -> usize {
        let now = self.world.now;
        for server in self.servers.iter().filter(|server| server.sends) {
            self.notes.insert(server.pins.clone(), now + DAY);
        }
        self.notes.retain(|_, until| *until >= now);
        let refused =
            |pins: &&BTreeSet<usize>| self.servers.iter().any(|server| !pins.contains(&server.key));
        self.notes.keys().filter(refused).count()
    }

    /// Simulates 80 hours; returns how many refusals there were, and how many changes were accepted during the cut.
    fn run(&mut self, random: &mut Random) -> (usize, usize) {
        let (mut refused, mut accepted) = (0, 0);
        for server in 0..self.servers.len() {
            let Server { key, pins, .. } = self.servers[server].clone();
            assert!(self.deploy(server, key, &pins), "the first configuration");
            self.sync(false);
        }
        for hour in 0..80 {
            self.world.now += HOUR;
            let is_cut = CUT.contains(&hour);
            self.sync(is_cut);
            let is_window = is_cut && hour <= CUT.start + MAX_STALENESS / HOUR + 1;
            for server in (0..self.servers.len()).filter(|_| !is_window) {
                let Server { key, pins, .. } = self.servers[server].clone();
                assert!(
                    !is_cut || self.deploy(server, key, &pins),
                    "{hour}: what is served passes"
                );
                let new_key = if random.below(3) == 0 { random.below(KEYS.len()) } else { key };
                let mut new_pins = pins;
                if random.below(3) == 0 {
                    let changed = random.below(KEYS.len());
                    if !new_pins.remove(&changed) {
                        new_pins.insert(changed);
                    }
                }
                if self.deploy(server, new_key, &new_pins) && is_cut && new_key != key {
                    accepted += 1;
                }
                // The servers change one after the other, as with a lease.
                self.sync(is_cut);
            }
            refused += self.connect_clients();
        }
        (refused, accepted)
    }
}

fn run(has_max_staleness: bool) -> (usize, usize) {
    let certificates = KEYS.map(|key| (key, HOST));
    let mut sum = (0, 0);
    let mut world = Some(World::new(&certificates));
    for seed in 1..=3 {
        let mut fleet = Fleet::new(world.take().expect("a world"), has_max_staleness);
        let mut random = Random::new(seed);
        let (refused, accepted) = fleet.run(&mut random);
        assert!(!has_max_staleness || refused == 0, "seed {seed}: {refused} refused");
        sum = (sum.0 + refused, sum.1 + accepted);
        world = Some(fleet.world);
    }
    sum
}

#[test]
fn nobody_is_locked_out_while_a_machine_is_silent() {
    let (refused, accepted) = run(true);
    assert_eq!(refused, 0);
    // Some keys were replaced during the cut by keys that match all pins.
    assert!(accepted > 0);
}

#[test]
fn without_max_staleness_a_cut_locks_out() {
    assert!(run(false).0 > 0);
}
