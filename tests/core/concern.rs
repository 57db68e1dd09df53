//! A server that reads only the lines of other machines' records that concern it must report and write the same as a
//! server that reads all lines.
//!
//! `HPKP_FLEETS` is the number of random fleets, `HPKP_SEED` the number of the first one.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hpkp_core::accepted::{accepted, stopped};
use hpkp_core::check::{
    Certificates, Choice, Concern, Deployment, Freshness, HeardFile, NamePattern, NotServedHere,
    Records, check,
};
use hpkp_core::finding::Finding;
use hpkp_core::published::heard::Heard;
use hpkp_core::published::state::Standing;
use hpkp_core::published::tlsa::Protocol;
use hpkp_core::published::{
    Body, Client, Compromised, Configuration, Ended, Event, Gone, HostName, Lifetime, Matching,
    Published, Rrset, Scope, State, Tlsa, Waived, Why, WriterName,
};
use hpkp_tests::listed;
use hpkp_tests::random::Random;
use hpkp_tests::recorded::held;

use crate::published::{Block, DAY, Never, World, at};

/// Names of server blocks.
const NAMES: [&str; 18] = [
    "a.one.test",
    "b.one.test",
    "*.one.test",
    "one.test",
    ".two.test",
    "x.two.test",
    "www.*",
    "www.three.test",
    "three.test",
    "y.x.two.test",
    "four.test",
    "z.four.test",
    "*.z.four.test",
    "api.five.test",
    "_",
    "mail.five.test",
    "five.test",
    "six.test",
];
/// Hosts of records; some of them are in no configuration.
const HOSTS: [&str; 26] = [
    "a.one.test",
    "b.one.test",
    "c.one.test",
    "one.test",
    "two.test",
    "x.two.test",
    "y.x.two.test",
    "w.two.test",
    "www.three.test",
    "www.seven.test",
    "three.test",
    "seven.test",
    "four.test",
    "z.four.test",
    "q.z.four.test",
    "api.five.test",
    "api.eight.test",
    "eight.test",
    "five.test",
    "mail.five.test",
    "six.test",
    "nine.test",
    "n.nine.test",
    "ten.test",
    "t.ten.test",
    "test",
];
const CERTIFICATES: [(&str, &str); 8] = [
    ("k0", "a.one.test,DNS:b.one.test"),
    ("k1", "*.one.test,DNS:one.test"),
    ("k2", "two.test,DNS:*.two.test"),
    ("k3", "www.three.test,DNS:three.test"),
    ("k4", "z.four.test,DNS:*.four.test,DNS:four.test"),
    ("k5", "api.five.test"),
    ("k6", "mail.five.test,DNS:*.five.test,DNS:y.x.two.test"),
    ("k7", "nine.test"),
];
const PORTS: [u16; 3] = [443, 8443, 25];

#[derive(Debug)]
struct Starts(&'static str);

impl NamePattern for Starts {
    fn fits(&self, name: &str) -> bool {
        name.starts_with(self.0)
    }
}

/// A configuration with one to four blocks.
fn deployment(world: &World, random: &mut Random) -> Deployment {
    let mut blocks = Vec::new();
    let all: Vec<Vec<&str>> = (0..1 + random.below(3))
        .map(|_| (0..1 + random.below(2)).map(|_| *random.one_of(&NAMES)).collect())
        .collect();
    let pins: [&[&str]; 4] = [
        &["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "backup"],
        &["ca", "backup"],
        &["k1", "backup"],
        &[],
    ];
    for names in &all {
        blocks.push(Block {
            names,
            port: *random.one_of(&PORTS),
            certificate: random.one_of(&CERTIFICATES).0,
            pins: pins[random.below(pins.len())],
            include_subdomains: random.chance(30),
        });
    }
    let mut deployment = world.deployment(&blocks);
    let count = deployment.hosts.len();
    for listener in &mut deployment.listeners {
        if random.chance(20) {
            listener.choice = Choice::Httpd;
        }
        if random.chance(15) {
            listener
                .patterns
                .push((*random.one_of(&listener.hosts.clone()), Rc::new(Starts("api."))));
        }
        listener.by_port_alone = listener.port == 25;
    }
    for context in &mut deployment.contexts {
        if random.chance(15) {
            context.certificates = Certificates::NotKnown { why: "so".into(), remedy: "nothing" };
        }
    }
    if random.chance(5) {
        deployment.guarded.insert(random.below(count));
    }
    if random.chance(10) {
        deployment.not_served_here.push(NotServedHere {
            host: random.one_of(&HOSTS).parse().unwrap(),
            matching: *random.one_of(&[Matching::Exact, Matching::OneLabel]),
            port: None,
            udp: false,
            at: at(),
        });
    }
    deployment
}

/// Pins of an app or of TLSA records, not of a header.
fn outside(world: &World, random: &mut Random, now: i64) -> Published {
    let keys = ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "ca", "backup"];
    let pins =
        (0..1 + random.below(3)).map(|_| world.pin(keys[random.below(keys.len())])).collect();
    let mut published = held(HOSTS[random.below(HOSTS.len())], pins);
    published.pins.dedup();
    published.matching =
        *random.one_of(&[Matching::Exact, Matching::Exact, Matching::OneLabel, Matching::AnyDepth]);
    published.include_subdomains = random.chance(40);
    published.scope = *random.one_of(&[Scope::Chain, Scope::Chain, Scope::Leaf, Scope::PathCa]);
    published.port = random.chance(30).then(|| *random.one_of(&PORTS));
    published.lifetime = match random.below(3) {
        0 => Lifetime::Open,
        1 => Lifetime::ExpiresAt(now + 5 * DAY),
        _ => Lifetime::MaxAge("30d".parse().unwrap()),
    };
    match random.below(4) {
        0 => {
            let record = Tlsa {
                usage: *random.one_of(&[2, 3]),
                selector: 1,
                matching: 1,
                data: published.pins[0].bytes().to_vec(),
            };
            let set = Rrset::new(Some(Protocol::Tcp), None, vec![record]).unwrap();
            published.matching = Matching::Exact;
            published.include_subdomains = false;
            published.scope = set.scope().unwrap_or(Scope::Chain);
            published.pins = set.pins();
            published.tlsa = Some(Arc::new(set));
        }
        1 => {
            let number = ["00112233445566778899aabbccddeeff", "10112233445566778899aabbccddeeff"];
            published.configuration = Some(Configuration {
                client: *random.one_of(&[Client::OkHttp, Client::DnsOverTls, Client::Curl]),
                id: random.one_of(&number).parse().unwrap(),
            });
        }
        _ => {}
    }
    published
}

/// An event that an operator records by hand.
fn recorded_by_hand(
    kind: usize,
    world: &World,
    random: &mut Random,
    (writer, known, own): (&WriterName, &[Event], &[Event]),
    (at, now): (i64, i64),
) -> Body {
    let ids = |random: &mut Random| {
        let from = if random.chance(15) { known } else { own };
        let count = 1 + random.below(4);
        (0..count)
            .filter(|_| !from.is_empty())
            .map(|_| from[random.below(from.len())].id())
            .collect::<Vec<_>>()
    };
    match kind {
        6 | 7 => Body::Published(outside(world, random, now)),
        8 => Body::Ended(Ended {
            ids: ids(random),
            why: match random.below(3) {
                0 => Why::Replaced,
                1 => Why::Stopped,
                _ => Why::Other("so".into()),
            },
            when: random.chance(30).then_some(at - DAY),
        }),
        9 => Body::Waived(Waived { ids: ids(random), who: "me".into(), why: "so".into() }),
        10 => Body::Compromised(Compromised {
            pin: world.pin(random.one_of(&CERTIFICATES).0),
            why: "so".into(),
        }),
        _ => Body::Gone(Gone {
            of: if random.chance(50) {
                writer.clone()
            } else {
                random.one_of(&["web-1", "m0", "m1"]).parse().unwrap()
            },
            instance: None,
            upto: random.below(40) as u64,
            why: "so".into(),
            when: None,
        }),
    }
}

/// The records of a machine: accepted configurations, stops, and events recorded by hand.
fn file(
    world: &World,
    random: &mut Random,
    writer: &WriterName,
    known: &[Event],
    now: i64,
) -> Vec<Event> {
    let (mut state, mut events) = (State::default(), Vec::<Event>::new());
    let mut clock = now - 200 * DAY;
    for _ in 0..1 + random.below(6) {
        clock += *random.one_of(&[0, DAY, 30 * DAY]) + if random.chance(5) { -3 * DAY } else { 0 };
        let at = if random.chance(4) { clock + 15_000 * DAY } else { clock };
        let seq = events.last().map_or(1, |event| event.seq() + 1);
        let body = match random.below(12) {
            0..=4 => {
                let mut deployment = deployment(world, random);
                deployment.records = deployment.records.map(|records| Records {
                    state: state.clone(),
                    writer: Some(writer.clone()),
                    ..records
                });
                let verdict = check(&deployment, at, &Never);
                let new = accepted(&deployment, &verdict, &state, writer, at);
                new.iter().for_each(|event| state.add(event));
                events.extend(new);
                continue;
            }
            5 => {
                let new = stopped(&state, writer, at);
                new.iter().for_each(|event| state.add(event));
                events.extend(new);
                continue;
            }
            kind => recorded_by_hand(kind, world, random, (writer, known, &events), (at, now)),
        };
        if matches!(&body, Body::Ended(Ended { ids, .. }) | Body::Waived(Waived { ids, .. }) if ids.is_empty())
        {
            continue;
        }
        let event = Event::new(at, seq, writer.clone(), body);
        state.add(&event);
        events.push(event);
    }
    events
}

fn freshness(state: &State, at_time: i64) -> Freshness {
    let peers = state.writers().filter(|(_, own)| !own).map(|(writer, _)| writer.clone());
    let heard =
        Heard { number: 1, at: at_time, last: "00112233445566778899aabbccddeeff".parse().unwrap() };
    let peers: std::collections::BTreeSet<WriterName> = peers.collect();
    Freshness {
        max_staleness: 3_600,
        at: at(),
        file: "hpkp-heard".into(),
        heard: HeardFile::Read(peers.iter().map(|peer| (peer.clone(), heard)).collect()),
        peers,
        at_handshake: false,
    }
}

/// All findings and records of a server, as text.
fn output(
    world: &World,
    deployment: Deployment,
    state: &State,
    concern: &Concern,
    is_silent: bool,
) -> Vec<String> {
    let writer: WriterName = "web-1".parse().unwrap();
    let mut deployment = deployment;
    deployment.records = deployment.records.map(|records| Records {
        freshness: if is_silent { vec![freshness(state, world.now - 3_601)] } else { vec![] },
        state: state.clone(),
        writer: Some(writer.clone()),
        ..records
    });
    let verdict = check(&deployment, world.now, &Never);
    let events = accepted(&deployment, &verdict, state, &writer, world.now);
    let mut lines: Vec<String> = verdict.findings.iter().flat_map(Finding::lines).collect();
    lines.extend(events.iter().map(|event| event.line().to_owned()));
    lines.extend(verdict.hosts.iter().map(|host| format!("{:?} {:?}", host.alarms, host.enforced)));
    let is_meant = |host: &HostName, by_port| concern.has(host.as_str(), by_port);
    lines.push(format!("{:?}", state.overreach(world.now, is_meant)));
    lines.push(format!("{:?}", state.lost(&writer)));
    lines
}

fn fleet(world: &World, seed: u64) {
    let random = &mut Random::new(seed);
    let name = |name: &str| name.parse::<WriterName>().unwrap();
    let mut own = file(world, random, &name("web-1"), &[], world.now);
    let mut peers: Vec<Event> = Vec::new();
    for number in 0..1 + random.below(7) {
        let known: Vec<Event> = own.iter().chain(&peers).cloned().collect();
        peers.extend(file(world, random, &name(&format!("m{number}")), &known, world.now));
    }
    if random.chance(50) {
        // The decisions that the operator recorded on this machine.
        let known = peers.clone();
        own.extend(file(world, random, &name("web-1.command"), &known, world.now));
    }
    let deployment = deployment(world, random);
    let is_silent = random.chance(30);
    let own: Vec<&Event> = own.iter().collect();
    let others: Vec<&Event> = peers.iter().collect();
    let listed = listed::read(&own, &others, &deployment);
    let mut full = State::default();
    own.iter().for_each(|event| full.add(event));
    peers.iter().for_each(|event| full.take(event.clone(), Standing::Peer));
    let by_all = output(world, copy(&deployment), &full, &listed.concern, is_silent);
    let by_index = output(world, deployment, &listed.state, &listed.concern, is_silent);
    let lacking = |of: &[String], other: &[String]| -> Vec<String> {
        of.iter().filter(|line| !other.contains(line)).cloned().collect()
    };
    let (more, less) = (lacking(&by_index, &by_all), lacking(&by_all, &by_index));
    assert!(by_index == by_all, "fleet {seed}: by the index {more:#?}\nby all {less:#?}");
}

/// A copy of a configuration.
fn copy(of: &Deployment) -> Deployment {
    use hpkp_core::check::{Context, Host};
    let context = |context: &Context| Context {
        certificates: match &context.certificates {
            Certificates::Loaded(chains) => Certificates::Loaded(chains.clone()),
            Certificates::NotKnown { why, remedy } => {
                Certificates::NotKnown { why: why.clone(), remedy }
            }
            _ => Certificates::Loaded(vec![]),
        },
        trust: context.trust.clone(),
    };
    let host = |host: &Host| Host {
        label: host.label.clone(),
        names: host.names.clone(),
        tls: host.tls,
        contexts: host.contexts.clone(),
        check: host.check,
        enforced: host.enforced.clone(),
        report_only: host.report_only.clone(),
        accepted: host.accepted.clone(),
        serving: host.serving.clone(),
    };
    let records = of.records.as_ref().unwrap();
    Deployment {
        contexts: of.contexts.iter().map(context).collect(),
        policies: of.policies.clone(),
        hosts: of.hosts.iter().map(host).collect(),
        names: of.names,
        listeners: of.listeners.clone(),
        records: Some(Records {
            state: State::default(),
            writer: records.writer.clone(),
            directories: records.directories.clone(),
            at: at(),
            problems: vec![],
            unrecorded: None,
            freshness: vec![],
        }),
        not_served_here: of.not_served_here.clone(),
        guarded: of.guarded.clone(),
        ..Deployment::default()
    }
}

#[test]
fn lines_left_out_by_the_index_change_no_finding() {
    let number = |name: &str, otherwise: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let (first, count) = (number("HPKP_SEED", 1), number("HPKP_FLEETS", 1_000));
    let world = World::new(&CERTIFICATES);
    for seed in first..first + count {
        fleet(&world, seed);
    }
    let of = |count: &std::sync::atomic::AtomicUsize| count.load(Ordering::Relaxed);
    let (read, all) = (of(&listed::READ), of(&listed::ALL));
    println!("{count} fleets: {read} of {all} lines read");
    assert!(count < 1_000 || read < all / 100 * 95, "hardly anything is left out: {read} of {all}");
}
