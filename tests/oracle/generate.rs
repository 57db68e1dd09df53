//! Random histories. Each step is made for the state after the steps before it, but is complete in itself, so that a
//! history can be repeated without some of its steps.

use crate::core::Core;
use crate::dane::{Certified, Dane, Record};
use crate::history::{DAY, Disagreement, HOUR, Lie, Run, Site, Step};
use crate::world::{
    Block, CA_CERTS, CaCert, Config, Key, Kind, LEAVES, LeafCert, Matching, NAMED, Outside, Policy,
    RSAS, SPARES, STREAM, Scope, Sent,
};
use hpkp_tests::random::Random;

/// Chains that servers send: the issuer of the leaf, and positions in [`CA_CERTS`].
const CHAINS: [(Option<usize>, &[usize]); 15] = [
    (Some(2), &[2]),
    (Some(2), &[2]),
    (Some(2), &[3]),
    (Some(2), &[4]),
    (Some(2), &[2, 4]),
    (Some(2), &[4, 2]),
    (Some(2), &[2, 6]),
    (Some(3), &[5]),
    (Some(3), &[5, 2]),
    (Some(0), &[]),
    (Some(0), &[6]),
    (Some(4), &[7, 2]),
    (Some(4), &[7, 4]),
    (Some(4), &[7, 3, 4]),
    (None, &[]),
];

/// The names of certificates.
const SUBJECTS: [&[&str]; 9] = [
    &["*.example.com", "example.com"],
    &["*.example.com"],
    &["www.example.com", "example.com"],
    &["a.example.com"],
    &["b.example.com", "c.example.com"],
    &["*.a.example.com", "a.example.com"],
    &["x.a.example.com", "www.example.com"],
    &["other.test"],
    &["www.example.com", "a.example.com", "b.example.com"],
];

const PATTERNS: [&str; 2] = ["*.example.com", "*.a.example.com"];

pub fn config(random: &mut Random) -> Config {
    let kind = if random.chance(70) { Kind::Nginx } else { Kind::Httpd };
    let mut config = Config { kind, blocks: vec![], not_served_here: vec![] };
    for _ in 0..=random.below(3) {
        add_block(random, &mut config);
    }
    config
}

fn add_block(random: &mut Random, config: &mut Config) {
    let ports: Vec<u16> = match random.below(10) {
        0..6 => vec![443],
        6 => vec![8443],
        7 | 8 => vec![443, 8443],
        _ => vec![STREAM],
    };
    let mut names = Vec::new();
    if ports != [STREAM] {
        let count = match random.below(10) {
            0 if config.kind == Kind::Nginx => 0,
            0..8 => 1,
            _ => 2,
        };
        for _ in 0..count {
            names.push(if random.chance(20) {
                *random.one_of(&PATTERNS)
            } else {
                *random.one_of(&NAMED)
            });
        }
    }
    let subject = fitting(random, &names);
    let mut slots = vec![sent(random, subject)];
    slots[0].leaf.key = Key::Leaf(random.below(LEAVES));
    if random.chance(12) {
        let mut second = sent(random, slots[0].leaf.names.clone());
        second.leaf.key = Key::Rsa(random.below(RSAS));
        slots.push(second);
    }
    let is_default = random.chance(15);
    let mut block = Block { names, ports, slots, policy: None, is_default };
    if random.chance(60) {
        block.policy = Some(policy(random, &block));
    }
    config.blocks.push(block);
    tidy(config);
}

/// Removes parts that no operator would configure, or that servers refuse themselves.
fn tidy(config: &mut Config) {
    let mut known: Vec<(&str, u16)> = Vec::new();
    let mut default: Vec<u16> = Vec::new();
    let mut stream = false;
    let kind = config.kind;
    config.blocks.retain_mut(|block| {
        if block.ports.contains(&STREAM) {
            block.ports = vec![STREAM];
            block.names.clear();
            block.policy = None;
            block.is_default = false;
            block.slots.truncate(1);
            return kind == Kind::Nginx && !std::mem::replace(&mut stream, true);
        }
        block.names.dedup();
        if block.names.len() == 2 && block.names[0] == block.names[1] {
            block.names.pop();
        }
        let had_names = !block.names.is_empty();
        block.names.retain(|name| block.ports.iter().all(|port| !known.contains(&(name, *port))));
        for name in &block.names {
            known.extend(block.ports.iter().map(|port| (*name, *port)));
        }
        if block.is_default
            && (kind == Kind::Httpd || block.ports.iter().any(|p| default.contains(p)))
        {
            block.is_default = false;
        }
        if block.is_default {
            default.extend(&block.ports);
        }
        if block.names.is_empty() && !had_names {
            // Each port has at most one nameless server.
            let is_new = block.ports.iter().all(|port| !known.contains(&("", *port)));
            known.extend(block.ports.iter().map(|port| ("", *port)));
            return is_new && kind == Kind::Nginx;
        }
        !block.names.is_empty()
    });
    config
        .not_served_here
        .retain(|host| config.blocks.iter().all(|block| !block.names.contains(host)));
}

/// The names of a certificate that usually fit a block with `names`.
fn fitting(random: &mut Random, names: &[&'static str]) -> Vec<&'static str> {
    if names.is_empty() || random.chance(6) {
        return random.one_of(&SUBJECTS).to_vec();
    }
    if random.chance(50) {
        return names.to_vec();
    }
    let covers = |subject: &&[&str]| {
        names.iter().all(|name| {
            let above = name.split_once('.').map_or("", |(_, above)| above);
            subject.iter().any(|s| s == name || s.strip_prefix("*.") == Some(above))
        })
    };
    let all: Vec<&[&str]> = SUBJECTS.iter().filter(|s| covers(s)).copied().collect();
    if all.is_empty() { names.to_vec() } else { random.one_of(&all).to_vec() }
}

fn sent(random: &mut Random, names: Vec<&'static str>) -> Sent {
    let (issuer, cas) = *random.one_of(&CHAINS);
    let cas: Vec<CaCert> = cas.iter().map(|ca| CA_CERTS[*ca]).collect();
    Sent { leaf: LeafCert { key: Key::Leaf(0), issuer, names, edition: 0 }, cas }
}

fn some_pin(random: &mut Random, block: &Block) -> Key {
    let sent = random.one_of(&block.slots);
    match random.below(10) {
        0..5 => sent.leaf.key,
        5..7 => sent.leaf.issuer.map_or(sent.leaf.key, Key::Ca),
        7..9 => sent.cas.last().map_or(sent.leaf.key, |ca| Key::Ca(ca.issuer)),
        _ => Key::Ca(random.below(5)),
    }
}

fn some_backup(random: &mut Random) -> Key {
    match random.below(3) {
        0 => Key::Leaf(random.below(LEAVES)),
        1 => Key::Spare(random.below(SPARES)),
        _ => Key::Spare(0),
    }
}

fn policy(random: &mut Random, block: &Block) -> Policy {
    let mut pins = vec![some_pin(random, block)];
    if block.slots.len() > 1 {
        pins = block.slots.iter().map(|sent| sent.leaf.key).collect();
    }
    if random.chance(30) {
        pins.push(some_pin(random, block));
    }
    pins.push(some_backup(random));
    if random.chance(30) {
        pins.push(some_backup(random));
    }
    pins.sort();
    pins.dedup();
    if pins.len() < 2 {
        pins.push(Key::Spare(0));
        pins.dedup();
    }
    if pins.len() < 2 {
        pins.push(Key::Spare(1));
    }
    let days = *random.one_of(&[1, 1, 7, 30]);
    Policy { pins, days, include_subdomains: random.chance(30) }
}

/// Changes the key to any key, or to a pinned one.
fn another_key(random: &mut Random, block: &mut Block, slot: usize) {
    let pins = block.policy.iter().flat_map(|policy| &policy.pins);
    let pinned: Vec<Key> = pins.filter(|key| matches!(key, Key::Leaf(_))).copied().collect();
    let leaf = &mut block.slots[slot].leaf;
    leaf.key = if matches!(leaf.key, Key::Rsa(_)) {
        Key::Rsa(random.below(RSAS))
    } else if pinned.is_empty() || random.chance(30) {
        Key::Leaf(random.below(LEAVES))
    } else {
        *random.one_of(&pinned)
    };
}

/// Adds a certificate of a second kind of key, or removes one of two.
fn another_kind_of_key(random: &mut Random, block: &mut Block, slot: usize) {
    if block.slots.len() > 1 {
        block.slots.remove(slot);
        return;
    }
    let mut other = sent(random, block.slots[0].leaf.names.clone());
    if matches!(block.slots[0].leaf.key, Key::Rsa(_)) {
        other.leaf.key = Key::Leaf(random.below(LEAVES));
        block.slots.insert(0, other);
    } else {
        other.leaf.key = Key::Rsa(random.below(RSAS));
        block.slots.push(other);
    }
}

/// Adds a pin or removes one.
fn another_pin(random: &mut Random, block: &mut Block) {
    let pin = if random.chance(50) { some_pin(random, block) } else { some_backup(random) };
    let Some(policy) = &mut block.policy else { return };
    match policy.pins.iter().position(|key| *key == pin) {
        Some(there) if policy.pins.len() > 2 => drop(policy.pins.remove(there)),
        Some(_) => {}
        None => policy.pins.push(pin),
    }
    policy.pins.sort();
}

/// Changes the max-age of a policy, or whether it includes subdomains.
fn other_settings(random: &mut Random, block: &mut Block) {
    let Some(policy) = &mut block.policy else { return };
    match random.below(3) {
        0 => policy.include_subdomains = !policy.include_subdomains,
        1 => policy.days = *random.one_of(&[1, 7, 30]),
        _ => policy.days = 0,
    }
}

/// Adds a host to those that are not served here, or removes one.
fn another_host_of_others(random: &mut Random, config: &mut Config) {
    let host = *random.one_of(&NAMED);
    match config.not_served_here.iter().position(|own| *own == host) {
        Some(there) => drop(config.not_served_here.remove(there)),
        None => config.not_served_here.push(host),
    }
}

/// One change to a configuration.
fn change(random: &mut Random, config: &mut Config) {
    if config.blocks.is_empty() {
        return add_block(random, config);
    }
    let at = random.below(config.blocks.len());
    let kind = random.below(26);
    let block = &mut config.blocks[at];
    let slot = random.below(block.slots.len());
    match kind {
        0..4 => another_key(random, block, slot),
        // Other CA certificates above the same leaf.
        4..7 => {
            let issuer = block.slots[slot].leaf.issuer;
            let same: Vec<&[usize]> =
                CHAINS.iter().filter(|(by, _)| *by == issuer).map(|(_, cas)| *cas).collect();
            block.slots[slot].cas = random.one_of(&same).iter().map(|ca| CA_CERTS[*ca]).collect();
        }
        // Another issuer.
        7 => {
            let (issuer, cas) = *random.one_of(&CHAINS);
            block.slots[slot].leaf.issuer = issuer;
            block.slots[slot].cas = cas.iter().map(|ca| CA_CERTS[*ca]).collect();
        }
        // A renewal.
        8 => block.slots[slot].leaf.edition += 1,
        9..12 => add_block(random, config),
        12..15 => {
            config.blocks.remove(at);
        }
        15 | 16 => {
            block.policy = if block.policy.is_some() && random.chance(50) {
                None
            } else {
                Some(policy(random, &block.clone()))
            };
        }
        17 => another_pin(random, block),
        18 => other_settings(random, block),
        23 | 24 => another_kind_of_key(random, block, slot),
        19 => block.is_default = !block.is_default,
        20 => block.ports = random.one_of(&[vec![443], vec![8443], vec![443, 8443]]).clone(),
        21 => {
            let names = block.names.clone();
            block.slots[slot].leaf.names = fitting(random, &names);
        }
        22 => {
            let block = config.blocks.remove(at);
            config.blocks.push(block);
        }
        _ => another_host_of_others(random, config),
    }
    tidy(config);
    if config.blocks.is_empty() {
        add_block(random, config);
    }
}

fn outside(random: &mut Random, config: &Config) -> Outside {
    let host = *random.one_of(&NAMED);
    let matching =
        *random.one_of(&[Matching::Exact, Matching::Exact, Matching::OneLabel, Matching::AnyDepth]);
    let scope =
        *random.one_of(&[Scope::Chain, Scope::Chain, Scope::Leaf, Scope::PathCa, Scope::SentCa]);
    let port = random.chance(30).then(|| *random.one_of(&[443, 443, 8443, STREAM]));
    let mut pins = Vec::new();
    // Usually a key that a block uses.
    for _ in 0..=random.below(2) {
        let pin = if config.blocks.is_empty() || random.chance(15) {
            Key::Leaf(random.below(LEAVES))
        } else {
            let block = random.one_of(&config.blocks);
            match scope {
                Scope::Leaf => block.slots[0].leaf.key,
                Scope::PathCa | Scope::SentCa => {
                    block.slots[0].leaf.issuer.map_or(Key::Ca(0), Key::Ca)
                }
                Scope::Chain => some_pin(random, block),
            }
        };
        if !pins.contains(&pin) {
            pins.push(pin);
        }
    }
    let days = random.chance(40).then(|| *random.one_of(&[3, 20, 100]));
    let include_subdomains = matching == Matching::Exact && random.chance(15);
    Outside { host, matching, include_subdomains, scope, port, pins, days }
}

/// The TLSA records of a host: usually of certificates that are served, and rarely ones that clients cannot use.
fn zone(random: &mut Random, config: &Config) -> Dane {
    let host = *random.one_of(&NAMED);
    let port = *random.one_of(&[443, 443, 8443, STREAM]);
    let mut records = Vec::new();
    for _ in 0..=random.below(3) {
        let usage = *random.one_of(&[0, 1, 2, 2, 3, 3, 3]);
        let selector = random.below(2) as u8;
        let mut record = Record {
            usage,
            selector,
            matching: random.below(3) as u8,
            of: Certified::Key(Key::Spare(0)),
        };
        let block = (!config.blocks.is_empty()).then(|| random.one_of(&config.blocks));
        let sent = block.map(|block| random.one_of(&block.slots).clone());
        let is_served = random.chance(90);
        match sent.filter(|_| is_served) {
            Some(sent) if [1, 3].contains(&usage) => record.of = Certified::Leaf(sent.leaf),
            Some(sent) => {
                let own: Vec<CaCert> = match random.chance(80) && !sent.cas.is_empty() {
                    true => sent.cas,
                    false => CA_CERTS.to_vec(),
                };
                record.of = Certified::Ca(*random.one_of(&own));
            }
            None => record.selector = 1,
        }
        match random.below(20) {
            0 => record.usage = 4,
            1 => record.matching = 3,
            _ => {}
        }
        if !records.contains(&record) {
            records.push(record);
        }
    }
    let days = random.chance(40).then(|| *random.one_of(&[3, 20, 100]));
    Dane { host, port, records, days }
}

/// The kinds of steps and features that are left out of histories, so that other errors can be found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Without {
    pub lies: bool,
    pub clocks: bool,
    pub failures: bool,
    pub stream: bool,
    pub chains: bool,
    pub httpd: bool,
    pub defaults: bool,
    pub force: bool,
    pub upgrade: bool,
    pub not_served_here: bool,
    /// TLSA records.
    pub zones: bool,
    /// Steps that wait, for real servers whose clock cannot be set.
    pub waits: bool,
    /// nginx; `httpd` leaves httpd out.
    pub nginx: bool,
}

impl Without {
    /// Removes the features that are left out from a configuration.
    fn simplify(self, config: &mut Config) {
        if self.httpd {
            config.kind = Kind::Nginx;
        }
        if self.nginx {
            config.kind = Kind::Httpd;
            config.blocks.retain(|block| !block.names.is_empty());
        }
        if self.not_served_here {
            config.not_served_here.clear();
        }
        if self.stream {
            config.blocks.retain(|block| block.ports != [STREAM]);
        }
        if self.chains {
            for sent in config.blocks.iter_mut().flat_map(|block| &mut block.slots) {
                sent.leaf.issuer = Some(2);
                sent.cas = vec![CA_CERTS[2]];
            }
        }
        if self.defaults {
            for block in &mut config.blocks {
                block.slots.iter_mut().for_each(|sent| sent.leaf.names = block.names.clone());
                block.names.retain(|name| !name.starts_with('*'));
            }
            config.blocks.retain(|block| !block.names.is_empty());
            for block in &mut config.blocks {
                block.slots.iter_mut().for_each(|sent| sent.leaf.names = block.names.clone());
            }
        }
    }
}

pub fn step(random: &mut Random, run: &Run<impl Site>, without: Without) -> Step {
    let mut step = any_step(random, run);
    let plain = config(random);
    let simple = |config: &mut Config| {
        without.simplify(config);
        tidy(config);
        if config.blocks.is_empty() {
            // No block is left: take a web server instead.
            *config = plain.clone();
            config.blocks.truncate(1);
            config.blocks.iter_mut().for_each(|block| block.ports = vec![443]);
            without.simplify(config);
            tidy(config);
        }
    };
    match &mut step {
        Step::Deploy { config, is_unwritable, .. } => {
            simple(config);
            *is_unwritable &= !without.failures;
        }
        Step::Peer(config) => simple(config),
        Step::Wait(_) if without.waits => step = Step::Copy,
        Step::Force(config) if !without.force => simple(config),
        Step::Force(_) => step = Step::Copy,
        Step::Zone(_) if without.zones => step = Step::Copy,
        Step::Upgrade if without.upgrade => step = Step::Copy,
        Step::Lie(_) if without.lies => step = Step::Copy,
        Step::Clock(_) if without.clocks => step = Step::Copy,
        _ => {}
    }
    step
}

fn any_step(random: &mut Random, run: &Run<impl Site>) -> Step {
    let Some(current) = run.config() else {
        if random.chance(25) {
            let config = config(random);
            return Step::Import(outside(random, &config));
        }
        return Step::Deploy { config: config(random), is_unwritable: false, drains: 0 };
    };
    match random.below(100) {
        0..55 => {
            let mut config = current.clone();
            for _ in 0..=random.below(3) / 2 {
                change(random, &mut config);
            }
            let is_unwritable = random.chance(8);
            let drains = if random.chance(50) { 0 } else { random.below(24) as i64 };
            Step::Deploy { config, is_unwritable, drains }
        }
        55..67 => Step::Wait(*random.one_of(&[HOUR, 5 * HOUR, DAY, 3 * DAY, 10 * DAY, 33 * DAY])),
        67..74 => Step::Import(outside(random, current)),
        74..78 => Step::Zone(zone(random, current)),
        78..81 => Step::EndImport(random.below(run.imports().max(1))),
        81..87 => {
            let mut config = run.peer_config().map_or_else(|| config(random), Config::clone);
            if run.peer_config().is_some() || random.chance(50) {
                change(random, &mut config);
            }
            config.kind = Kind::Nginx;
            config.not_served_here.clear();
            tidy(&mut config);
            Step::Peer(config)
        }
        87 => Step::PeerStop,
        88..91 => Step::Copy,
        91..93 => Step::Lie(*random.one_of(&[Lie::Ends, Lie::Waives, Lie::OurName])),
        93..96 if run.clock() != 0 => Step::Clock(0),
        93..94 => Step::Clock(*random.one_of(&[40 * 365 * DAY, -20 * 365 * DAY])),
        94..97 if run.is_running() => Step::Stop,
        97 => {
            let mut config = current.clone();
            change(random, &mut config);
            Step::Force(config)
        }
        98 => Step::Upgrade,
        _ => Step::Start,
    }
}

/// The steps of a whole history, up to a disagreement.
pub fn history(seed: u64, without: Without) -> Vec<Step> {
    grow(&mut Run::new(Core::new()), seed, without).0
}

/// Takes random steps in a world, until the history ends or oracle and software disagree.
pub fn grow<S: Site>(
    run: &mut Run<S>,
    seed: u64,
    without: Without,
) -> (Vec<Step>, Option<Disagreement>) {
    let mut random = Random::new(seed);
    let mut steps = Vec::new();
    for number in 0..6 + random.below(12) {
        let step = step(&mut random, run, without);
        let taken = run.take(number, &step);
        steps.push(step);
        if let Err(disagreement) = taken {
            return (steps, Some(disagreement));
        }
    }
    (steps, None)
}
