//! The software under test: translates a configuration of the world into the core's input, and returns its answer.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use hpkp_core::accepted::{accepted, stopped};
use hpkp_core::certificate::Certificate;
use hpkp_core::check::{
    Certificates, Choice, Context, Deployment, Freshness, HeardFile, Host, Listener, NotServedHere,
    PolicyUse, Records, TrustSetting, Verdict, check,
};
use hpkp_core::check::{Digest, digest};
use hpkp_core::finding::{Check, Class, Code, Finding, Location};
use hpkp_core::max_age::MaxAge;
use hpkp_core::path::{Anchor, Anchors, Chain, Trust, VerifySignature};
use hpkp_core::policy::{PinSetting, PinSource, PolicySpec};
use hpkp_core::published::heard::Heard;
use hpkp_core::published::state::Standing;
use hpkp_core::published::tlsa::Protocol;
use hpkp_core::published::{
    Body, Event, EventId, HostName, Lifetime, Matching, Origin, Published, Rrset, Scope, State,
    Tlsa, WriterName,
};
use hpkp_tests::listed;

use crate::dane::{Dane, Record};
use crate::history::{Others, Reply, Site};
use crate::world::{self, Block, Config, Kind, Outside, PORTS, ROOTS, STREAM, Sent};
use crate::{nature, pki};

/// Key identifiers decide in this world; no signature needs to be verified.
struct Never;

impl VerifySignature for Never {
    fn is_signed_by(&self, _: &Certificate, _: &Certificate) -> bool {
        false
    }
}

fn at() -> Location {
    Location { file: "oracle.conf".into(), line: 1 }
}

/// The answer to one configuration.
#[derive(Debug)]
pub struct Answer {
    pub deployment: Deployment,
    pub verdict: Verdict,
}

impl Answer {
    /// Whether a reload would be refused.
    pub fn is_refused(&self) -> bool {
        self.verdict.findings.iter().any(|finding| match finding.class {
            Class::Invalid => true,
            // A mismatch that the running server already has passes.
            Class::Lockout | Class::Unsure => finding.check == Check::Refuse,
            Class::Withhold | Class::Warning => false,
        })
    }

    /// The findings: their first lines, or all of them with `HPKP_ORACLE_VERBOSE`.
    pub fn findings(&self) -> Vec<String> {
        let count = if std::env::var_os("HPKP_ORACLE_VERBOSE").is_some() { usize::MAX } else { 1 };
        self.verdict.findings.iter().flat_map(|finding| finding.lines().take(count)).collect()
    }

    /// Whether a block sends its header to clients of `host`, on its own connections.
    pub fn sends(&self, block: usize, host: &str) -> bool {
        let Some(verdict) = self.verdict.hosts.get(block) else { return false };
        let is_sent = verdict
            .enforced
            .as_ref()
            .is_some_and(|sending| sending.header.is_some() && sending.contexts.contains(&block));
        is_sent && verdict.header_names.as_ref().is_none_or(|names| names.has(host.as_bytes()))
    }
}

thread_local! {
    static TRUST: Arc<TrustSetting> = {
        let anchor = |root: usize| Anchor {
            certificate: pki::ca(world::CA_CERTS[root]),
            origin: "store".into(),
        };
        let system = Arc::new(Anchors::new(ROOTS.map(anchor)));
        Arc::new(TrustSetting { trust: Trust { system, added: None }, problem: None, skipped: vec![] })
    };
}

fn chain(sent: &Sent) -> Chain {
    let cas = sent.cas.iter().map(|ca| pki::ca(*ca));
    Chain::new(std::iter::once(pki::leaf(&sent.leaf)).chain(cas).collect()).expect("a chain")
}

/// The names that the server's own configuration has for a block.
fn names(block: &Block) -> Vec<String> {
    if !block.ports.contains(&STREAM) {
        return block.names.iter().map(|name| (*name).to_owned()).collect();
    }
    let mut names: Vec<String> =
        block.slots.iter().flat_map(|sent| &sent.leaf.names).map(|n| (*n).to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

fn listener(config: &Config, port: u16) -> Option<Listener> {
    let hosts: Vec<usize> = config
        .blocks
        .iter()
        .enumerate()
        .filter(|(_, block)| block.ports.contains(&port))
        .map(|(at, _)| at)
        .collect();
    let (default, _) = nature::route(config, "nobody.invalid", port)?;
    let choice = match config.kind {
        Kind::Nginx => Choice::Nginx,
        Kind::Httpd => Choice::Httpd,
    };
    let (address, patterns, by_port_alone) = (None, vec![], port == STREAM);
    Some(Listener { port, address, choice, hosts, default, patterns, by_port_alone })
}

fn deployment(config: &Config) -> Deployment {
    let mut deployment = Deployment::default();
    for (position, block) in config.blocks.iter().enumerate() {
        let chains = block.slots.iter().map(chain).collect();
        let trust = TRUST.with(Arc::clone);
        deployment.contexts.push(Context { certificates: Certificates::Loaded(chains), trust });
        let name = format!("policy-{position}");
        if let Some(policy) = &block.policy {
            let mut spec = PolicySpec::new(name.clone(), at());
            let setting = |key: &world::Key| PinSetting {
                source: PinSource::Literal(pki::pin(*key)),
                at: at(),
            };
            spec.pins = policy.pins.iter().map(setting).collect();
            spec.max_age = MaxAge::from_seconds(policy.days as u64 * 86_400);
            spec.include_subdomains = Some(policy.include_subdomains);
            deployment.policies.push(spec.resolve(|_| Err(String::new())));
        }
        deployment.hosts.push(Host {
            enforced: block.policy.as_ref().map(|_| PolicyUse {
                policy: name,
                at: at(),
                own: true,
            }),
            ..Host::new(
                block.names.first().map_or_else(|| format!("#{position}"), |n| (*n).to_owned()),
                names(block),
                vec![position],
            )
        });
    }
    deployment.listeners = PORTS.iter().filter_map(|port| listener(config, *port)).collect();
    let not_served = config.not_served_here.iter().map(|host| NotServedHere {
        host: host.parse().expect("a host"),
        matching: Matching::Exact,
        port: None,
        udp: false,
        at: at(),
    });
    deployment.not_served_here = not_served.collect();
    deployment
}

/// Checks `config` against `state`.
pub fn ask(
    config: &Config,
    state: &State,
    unrecorded: Option<Digest>,
    writer: &WriterName,
    now: i64,
) -> Answer {
    ask_beside(config, state, unrecorded, writer, (now, None))
}

/// As [`ask`], with `max_staleness` of 1 hour if there is a time `heard` at which all other machines were heard from.
fn ask_beside(
    config: &Config,
    state: &State,
    unrecorded: Option<Digest>,
    writer: &WriterName,
    (now, heard): (i64, Option<i64>),
) -> Answer {
    let freshness = heard.map(|at| everybody_heard(state, at));
    let mut deployment = deployment(config);
    deployment.records = Some(Records {
        directories: vec!["/var/lib/hpkp".to_owned()],
        state: state.clone(),
        writer: Some(writer.clone()),
        at: at(),
        problems: vec![],
        unrecorded,
        freshness: freshness.into_iter().collect(),
    });
    let verdict = check(&deployment, now, &Never);
    Answer { deployment, verdict }
}

fn everybody_heard(state: &State, at_time: i64) -> Freshness {
    let peers = state.writers().filter(|(_, own)| !own).map(|(writer, _)| writer.clone());
    let peers: BTreeSet<WriterName> = peers.collect();
    let last = "00112233445566778899aabbccddeeff".parse().expect("an id");
    let heard = Heard { number: 1, at: at_time, last };
    Freshness {
        max_staleness: 3_600,
        at: at(),
        file: "hpkp-heard".to_owned(),
        heard: HeardFile::Read(peers.iter().map(|peer| (peer.clone(), heard)).collect()),
        peers,
        at_handshake: false,
    }
}

/// The record that `hpkp published import` writes.
pub fn outside(outside: &Outside, now: i64) -> Published {
    let mut pins: Vec<_> = outside.pins.iter().map(|key| pki::pin(*key)).collect();
    pins.sort_unstable();
    pins.dedup();
    Published {
        matching: match outside.matching {
            world::Matching::Exact => Matching::Exact,
            world::Matching::OneLabel => Matching::OneLabel,
            world::Matching::AnyDepth => Matching::AnyDepth,
        },
        include_subdomains: outside.include_subdomains,
        scope: match outside.scope {
            world::Scope::Chain => Scope::Chain,
            world::Scope::Leaf => Scope::Leaf,
            world::Scope::PathCa => Scope::PathCa,
            world::Scope::SentCa => Scope::SentCa,
        },
        port: outside.port,
        ..Published::of_one(
            outside.host.parse().expect("a host"),
            pins,
            outside.days.map_or(Lifetime::Open, |days| Lifetime::ExpiresAt(now + days * 86_400)),
            Origin::Other("an app".to_owned()),
        )
    }
}

/// The record that `hpkp published import` writes for a zone.
pub fn zone(dane: &Dane, now: i64) -> Published {
    let record = |record: &Record| Tlsa {
        usage: record.usage,
        selector: record.selector,
        matching: record.matching,
        data: pki::tlsa_data(record),
    };
    let records = dane.records.iter().map(record).collect();
    let set = Rrset::new(Some(Protocol::Tcp), None, records).expect("some records");
    let published = Published::of_one(
        dane.host.parse().expect("a host"),
        set.pins(),
        dane.days.map_or(Lifetime::Open, |days| Lifetime::ExpiresAt(now + days * 86_400)),
        Origin::Other("a zone".to_owned()),
    );
    Published { port: Some(dane.port), ..published }.with_tlsa(set)
}

/// The core without a server: its check, and the events that a server would have written.
#[derive(Debug)]
pub struct Core {
    writer: WriterName,
    others: Others,
    events: Vec<Event>,
    /// The state of the records, until an event is added.
    state: Option<State>,
    /// The last answer, to the configuration that is served next.
    answer: Option<Answer>,
    /// The answer to the served configuration.
    served: Option<Answer>,
    /// The digest of the served configuration if it was not recorded.
    unrecorded: Option<Digest>,
    /// Whether each answer is compared with that of a server with an index.
    is_compared: bool,
}

impl Core {
    pub fn new() -> Self {
        Self {
            writer: "web-1".parse().expect("a name"),
            others: Others::default(),
            events: vec![],
            state: None,
            answer: None,
            served: None,
            unrecorded: None,
            is_compared: false,
        }
    }

    /// A core whose answers are each compared with those of a server with an index.
    pub fn compared() -> Self {
        Self { is_compared: true, ..Self::new() }
    }

    fn state(&mut self) -> &State {
        let Others { operator, copied, lies } = &self.others;
        let own = self.events.iter().chain(operator);
        // A peer's file under this server's own name is not read; the tests with real servers prove that.
        let lies = lies.iter().filter(|event| *event.writer() != self.writer);
        self.state.get_or_insert_with(|| {
            let mut state = State::default();
            own.for_each(|event| state.add(event));
            copied.iter().chain(lies).for_each(|event| state.take(event.clone(), Standing::Peer));
            state
        })
    }

    /// Fails unless a server that reads other machines' records by an index has the same findings.
    fn compare_listed(&self, config: &Config, answer: &Answer, now: i64) {
        let Others { operator, copied, lies } = &self.others;
        let own: Vec<&Event> = self.events.iter().chain(operator).collect();
        let lies = lies.iter().filter(|event| *event.writer() != self.writer);
        let peers: Vec<&Event> = copied.iter().chain(lies).collect();
        let Some(full) = answer.deployment.records.as_ref() else { return };
        let listed = listed::read(&own, &peers, &deployment(config));
        let overreach = |state: &State| {
            let is_meant = |host: &HostName, by_port| listed.concern.has(host.as_str(), by_port);
            format!("{:?}", state.overreach(now, is_meant))
        };
        assert_eq!(
            overreach(&listed.state),
            overreach(&full.state),
            "what peers have no right to say"
        );
        let mut beside = |at| {
            let of = |state| ask_beside(config, state, self.unrecorded, &self.writer, (now, at));
            let (full, listed) = (of(&full.state), of(&listed.state));
            let lines = |answer: &Answer| -> Vec<String> {
                answer.verdict.findings.iter().flat_map(Finding::lines).collect()
            };
            assert_eq!(lines(&listed), lines(&full), "by the index, and by all records");
            let events = |answer: &Answer| {
                let records = answer.deployment.records.as_ref().expect("some");
                accepted(&answer.deployment, &answer.verdict, &records.state, &self.writer, now)
            };
            assert_eq!(events(&listed), events(&full), "what is to be recorded");
        };
        [None, Some(now - 3_600), Some(now - 3_601)].into_iter().for_each(&mut beside);
    }

    fn write(&mut self, events: Vec<Event>) {
        self.events.extend(events);
        self.state = None;
    }
}

impl Site for Core {
    fn now(&self) -> Option<i64> {
        None
    }

    fn port(&self, port: u16) -> u16 {
        port
    }

    fn learn(&mut self, others: &Others) {
        let count =
            |others: &Others| (others.operator.len(), others.copied.len(), others.lies.len());
        if count(others) != count(&self.others) {
            self.others = others.clone();
            self.state = None;
        }
    }

    fn ask(&mut self, config: &Config, now: i64) -> Reply {
        let writer = self.writer.clone();
        let unrecorded = self.unrecorded;
        let answer = ask(config, self.state(), unrecorded, &writer, now);
        if self.is_compared {
            self.compare_listed(config, &answer, now);
        }
        let reply = Reply { is_refused: answer.is_refused(), findings: answer.findings() };
        self.answer = Some(answer);
        reply
    }

    fn ask_beside_silent(&mut self, config: &Config, now: i64) -> Option<Reply> {
        let (writer, unrecorded) = (self.writer.clone(), self.unrecorded);
        let plain = ask(config, self.state(), unrecorded, &writer, now);
        let mut of = |at| ask_beside(config, self.state(), unrecorded, &writer, (now, Some(at)));
        let (fresh, silent) = (of(now - 3_600), of(now - 3_601));
        assert_eq!(fresh.verdict.findings, plain.verdict.findings, "all are heard from");
        let is_other = |finding: &&Finding| finding.code != Code::PeerSilent;
        let rest: Vec<&Finding> = silent.verdict.findings.iter().filter(is_other).collect();
        let all: Vec<&Finding> = plain.verdict.findings.iter().collect();
        assert_eq!(rest, all, "silence takes nothing away");
        let is_refused = silent.is_refused();
        Some(Reply { is_refused, findings: silent.findings() })
    }

    fn serve(&mut self, _: &Config, is_unwritable: bool, now: i64) {
        let mut answer = self.answer.take().expect("an answer");
        let _ = answer.verdict.withhold_unrecordable(&answer.deployment);
        let writer = self.writer.clone();
        self.unrecorded = is_unwritable.then(|| digest(&answer.deployment, &answer.verdict.hosts));
        if is_unwritable {
            let state = self.state();
            let verdict = &mut answer.verdict;
            let _ = verdict.withhold_unrecorded(&answer.deployment, state, &writer, "full");
        } else {
            let state = self.state();
            let events = accepted(&answer.deployment, &answer.verdict, state, &writer, now);
            self.write(events);
        }
        self.served = Some(answer);
    }

    fn forget_certificates(&mut self) {
        // Without certificates the events have other ids, so later events must name the new ids.
        let mut ids: HashMap<EventId, EventId> = HashMap::new();
        for event in &mut self.events {
            let renamed = |names: &mut Vec<EventId>| {
                names.iter_mut().for_each(|id| *id = ids.get(id).copied().unwrap_or(*id));
            };
            let mut body = event.body().clone();
            match &mut body {
                Body::Presents(presents) => {
                    presents.certificates.iter_mut().for_each(|one| one.identity = None);
                }
                Body::Ended(ended) => renamed(&mut ended.ids),
                Body::Again(again) => {
                    renamed(&mut again.ids);
                    renamed(&mut again.except);
                }
                _ => {}
            }
            let new = Event::new(event.at(), event.seq(), event.writer().clone(), body);
            ids.insert(event.id(), new.id());
            *event = new;
        }
        self.state = None;
    }

    fn stop(&mut self, now: i64) {
        let writer = self.writer.clone();
        let events = stopped(self.state(), &writer, now);
        self.write(events);
    }

    fn sends(&self, block: usize, host: &str) -> bool {
        self.served.as_ref().is_some_and(|answer| answer.sends(block, host))
    }

    fn written(&self) -> Vec<Event> {
        self.events.clone()
    }
}
