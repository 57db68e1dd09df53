//! The input of the checks against published pins: the records, and which block answers for which name.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::iter;
use std::sync::Arc;

use super::addresses::add_addresses;
use super::dane;
use super::digesting::digest;
use super::nameless::{Nameless, NamelessLast, nameless};
use super::presented::{Fingerprints, PresentedKeys};
use super::routing::{HostSet, Routing, any_of};
use super::{Deployment, HostVerdict, NameSet, SeenName};
use crate::finding::Code;
use crate::path::{Paths, Verified};
use crate::pin::Pin;
use crate::published::state::{Live, Record, State};
use crate::published::timeline::Timelines;
use crate::published::{self, HostName, Matching, Presents, Rrset, Withheld, WriterName};

/// How a record binds a host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// The record is for the host's name, or for a pattern that matches it.
    Own,
    /// The record is for a domain above the host, with `includeSubDomains`.
    Above,
}

impl Relation {
    /// The code of a finding that the pins of such a record match nothing.
    pub(super) const fn unmet(self) -> Code {
        match self {
            Self::Own => Code::PublishedPinsUnmet,
            Self::Above => Code::SuperdomainPinsUnmet,
        }
    }
}

/// Records by the name and the matching.
type ByName<'a, T> = HashMap<(&'a str, Matching), Vec<&'a Record<T>>>;

/// The input of the checks against published pins.
pub(super) struct Published<'a> {
    pub(super) routing: Routing<'a>,
    pub(super) presented: Vec<PresentedKeys<'a>>,
    /// What the last accepted configuration presented, published and withheld.
    pub(super) presented_last: ByName<'a, Presents>,
    pub(super) published_last: ByName<'a, published::Published>,
    pub(super) withheld_last: ByName<'a, Withheld>,
    /// By port, the part of `presented_last` that concerns clients who ignore names; computed when needed.
    pub(super) nameless_last: OnceCell<HashMap<u16, NamelessLast<'a>>>,
    /// The addresses that the records of the last accepted configuration name.
    pub(super) addresses_last: BTreeSet<&'a str>,
    /// The ports on which this server listens at several addresses.
    pub(super) shared_ports: BTreeSet<u16>,
    /// By block, the names for which it answers only clients who ignore names.
    pub(super) nameless: Nameless,
    /// What was presented while pins were published; computed when needed.
    pub(super) timelines: OnceCell<Timelines<'a>>,
    /// When each pin was first published for a host; computed when needed.
    first_published: OnceCell<HashMap<(Pin, &'a str), i64>>,
    /// If the last accepted configuration is not on record: whether the checked one has the same keys.
    pub(super) unrecorded: Option<bool>,
    /// The same for the leaf certificates.
    pub(super) unrecorded_leaves: Option<bool>,
    live: Vec<Live<'a>>,
    live_by_host: HashMap<&'a str, Vec<usize>>,
    pub(super) presents_by_host: HashMap<&'a str, Vec<&'a Record<Presents>>>,
}

impl<'a> Published<'a> {
    pub(super) fn new(
        deployment: &'a Deployment,
        paths: &[Vec<Paths>],
        verified: &Verified<'_>,
        now: i64,
    ) -> Self {
        let routing = Routing::new(deployment);
        let mut known = Fingerprints::default();
        let hosts = deployment.hosts.iter();
        let presented = hosts
            .map(|host| PresentedKeys::new(deployment, paths, &host.contexts, &mut known))
            .collect();
        let mut published = Self {
            shared_ports: routing.shared_ports(),
            routing,
            presented,
            presented_last: HashMap::new(),
            published_last: HashMap::new(),
            withheld_last: HashMap::new(),
            nameless_last: OnceCell::new(),
            addresses_last: BTreeSet::new(),
            nameless: vec![BTreeMap::new(); deployment.hosts.len()],
            timelines: OnceCell::new(),
            first_published: OnceCell::new(),
            unrecorded: None,
            unrecorded_leaves: None,
            live: Vec::new(),
            live_by_host: HashMap::new(),
            presents_by_host: HashMap::new(),
        };
        let Some(records) = &deployment.records else { return published };
        if let Some(writer) = &records.writer {
            let last = records.state.last_accepted(writer);
            published.presented_last = by_name(last.presents);
            published.published_last = by_name(last.published);
            published.withheld_last = by_name(last.withheld);
            let presented = published.presented_last.values().flatten();
            let addresses = presented.flat_map(|record| &record.body.addresses);
            published.addresses_last = addresses.map(String::as_str).collect();
        }
        published.live = records.state.live(now).collect();
        let sets = published.live.iter().filter_map(|live| live.record.body.tlsa.as_deref());
        let sets: Vec<&Rrset> = sets.collect();
        if !sets.is_empty() {
            let anchors = dane::anchors(&sets);
            for (host, presented) in deployment.hosts.iter().zip(&mut published.presented) {
                presented.evidence = dane::evidence(deployment, paths, host, &anchors, verified);
            }
        }
        for (index, live) in published.live.iter().enumerate() {
            published.live_by_host.entry(live.record.body.host.as_str()).or_default().push(index);
        }
        let Self { routing, presented, live, .. } = &published;
        published.nameless = nameless(deployment, routing, presented, live);
        for record in records.state.presents() {
            published.presents_by_host.entry(record.body.host.as_str()).or_default().push(record);
        }
        published
    }

    /// When a pin was first published for one of a block's names or a domain above it, by the clocks of the
    /// writers.
    pub(super) fn first_published(&self, state: &'a State, host: usize, pin: Pin) -> Option<i64> {
        let all = self.first_published.get_or_init(|| {
            let mut all: HashMap<(Pin, &'a str), i64> = HashMap::new();
            for set in state.published() {
                for pin in &set.body.pins {
                    let first = all.entry((*pin, set.body.host.as_str())).or_insert(set.at);
                    *first = set.at.min(*first);
                }
            }
            all
        });
        let names = self.routing.names(host).keys().map(|(name, _)| name);
        let above: HashSet<&str> =
            names.flat_map(|name| iter::once(name.as_str()).chain(name.parents())).collect();
        above.into_iter().filter_map(|name| all.get(&(pin, name)).copied()).min()
    }

    /// Every name that the configuration or a record has.
    pub(super) fn host_sets(&self, hosts: usize) -> BTreeSet<HostSet> {
        let named = (0..hosts).flat_map(|host| {
            self.routing.names(host).keys().chain(self.routing.asides(host).keys()).cloned()
        });
        let mut host_sets: BTreeSet<HostSet> = named.collect();
        // If the block of a name is gone, another block may answer for the name.
        let before = self.presented_last.values().filter_map(|records| records.first());
        host_sets.extend(before.map(|record| (record.body.host.clone(), record.body.matching)));
        for indices in self.live_by_host.values() {
            let all = || indices.iter().map(|index| &self.live[*index].record.body);
            let Some(host) = all().next().map(|body| &body.host) else { continue };
            if all().any(|body| body.matching != Matching::OneLabel) {
                host_sets.insert((host.clone(), Matching::Exact));
            }
            if all().any(|body| body.matching != Matching::Exact || body.include_subdomains) {
                host_sets.insert((host.clone(), Matching::OneLabel));
            }
        }
        host_sets
    }

    /// The live records that bind the hosts of `host_set`.
    pub(super) fn binding(&self, host_set: &HostSet) -> Vec<(Live<'a>, Relation)> {
        let of = |name: &str| self.live_by_host.get(name).into_iter().flatten();
        let name = any_of(host_set);
        let mut binding = Vec::new();
        for index in of(host_set.0.as_str()) {
            let live = self.live[*index];
            let body = &live.record.body;
            let relation = match (host_set.1, body.matching) {
                (Matching::Exact, Matching::Exact) | (_, Matching::AnyDepth) => Relation::Own,
                (Matching::Exact, _) => continue,
                (_, Matching::OneLabel) => Relation::Own,
                (_, Matching::Exact) if body.include_subdomains => Relation::Above,
                (_, Matching::Exact) => continue,
            };
            if body.binds(&name) {
                binding.push((live, relation));
            }
        }
        // The name one label below `domain`.
        let mut below = host_set.0.as_str();
        for domain in host_set.0.parents() {
            for index in of(domain) {
                let live = self.live[*index];
                let body = &live.record.body;
                let is_child = below == host_set.0.as_str() && host_set.1 == Matching::Exact;
                let is_excepted = body.except.iter().any(|name| name.as_str() == below);
                let relation = match body.matching {
                    Matching::AnyDepth => Relation::Own,
                    Matching::OneLabel if is_excepted => continue,
                    Matching::OneLabel if is_child => Relation::Own,
                    _ if body.include_subdomains => Relation::Above,
                    _ => continue,
                };
                if body.binds(&name) {
                    binding.push((live, relation));
                }
            }
            below = domain;
        }
        binding
    }

    /// The ports on which clients of a writer know a name, or the pattern that it fits.
    pub(super) fn known_ports(
        &self,
        writer: Option<&WriterName>,
        host_set: &HostSet,
    ) -> BTreeSet<u16> {
        let of_name = names_of(host_set).flat_map(|(host, matching)| {
            let presents = self.presents_by_host.get(host).into_iter().flatten();
            presents.filter(move |record| {
                Some(&record.writer) == writer
                    && record.body.matching == matching
                    && !record.body.nameless
            })
        });
        of_name.flat_map(|record| &record.body.ports).copied().collect()
    }

    /// What the server records for each host when it accepts the configuration, and for which names the host sends
    /// a header.
    pub(super) fn describe(&mut self, deployment: &Deployment) -> Vec<HostVerdict> {
        let Self { routing, presented, nameless, shared_ports, .. } = &*self;
        let hosts = &deployment.hosts;
        let mut verdicts = vec![HostVerdict::default(); hosts.len()];
        let by_domain = by_domain(routing, hosts.len());
        for (host, verdict) in verdicts.iter_mut().enumerate().filter(|(host, _)| hosts[*host].tls)
        {
            let served = routing.served(host).map(|named| (named, false));
            let asides = routing.asides(host).iter().map(|named| (named, true));
            let nameless = nameless[host].iter().map(|named| (named, true));
            for ((host_set, reached), aside) in served.chain(asides).chain(nameless) {
                let except = match host_set.1 {
                    Matching::OneLabel if !aside => excepted(routing, &by_domain, host_set, host),
                    _ => Vec::new(),
                };
                verdict.names.push(SeenName {
                    host: host_set.0.clone(),
                    matching: host_set.1,
                    except,
                    ports: reached.ports.iter().copied().collect(),
                    aside,
                    nameless: reached.claim.is_nameless(),
                    addresses: vec![],
                });
            }
            if presented[host].is_known && !presented[host].certificates.is_empty() {
                verdict.presented = Some(presented[host].certificates.clone());
            }
        }
        for host in routing.needing_names() {
            if hosts[host].tls && hosts[host].enforced.is_some() {
                let set = NameSet::new(&verdicts[host].names, routing.elsewhere());
                verdicts[host].header_names = Some(Arc::new(set));
            }
        }
        add_addresses(routing, shared_ports, &mut verdicts);
        let unrecorded = deployment.records.as_ref().and_then(|records| records.unrecorded);
        if let Some(known) = unrecorded {
            let now = digest(deployment, &verdicts);
            self.unrecorded = Some(known.has_same_keys(now));
            self.unrecorded_leaves = Some(known.has_same_leaves(now));
        }
        verdicts
    }
}

/// The host set itself, and for a single name also the pattern one label below its domain.
pub(super) fn names_of(host_set: &HostSet) -> impl Iterator<Item = (&str, Matching)> {
    let parent = host_set.0.parents().next().filter(|_| host_set.1 == Matching::Exact);
    let parent = parent.map(|parent| (parent, Matching::OneLabel));
    std::iter::once((host_set.0.as_str(), host_set.1)).chain(parent)
}

/// The records of a writer's last accepted configuration, by the name and the matching.
fn by_name<'a, T>(all: BTreeMap<published::state::Names<'a>, Vec<&'a Record<T>>>) -> ByName<'a, T> {
    all.into_iter().map(|((host, matching), all)| ((host.as_str(), matching), all)).collect()
}

/// The names one label below a domain, with the hosts that serve them.
type ByDomain<'a> = HashMap<&'a str, Vec<(&'a HostName, usize)>>;

fn by_domain<'b>(routing: &'b Routing<'_>, hosts: usize) -> ByDomain<'b> {
    let served = || (0..hosts).flat_map(|host| routing.served(host).map(move |one| (host, one.0)));
    let mut by_domain = HashMap::new();
    for (_, domain) in served().filter(|(_, host_set)| host_set.1 == Matching::OneLabel) {
        by_domain.insert(domain.0.as_str(), Vec::new());
    }
    if by_domain.is_empty() {
        return by_domain;
    }
    for (host, (name, matching)) in served() {
        let domain = name.parents().next().filter(|_| *matching == Matching::Exact);
        if let Some(below) = domain.and_then(|domain| by_domain.get_mut(domain)) {
            below.push((name, host));
        }
    }
    by_domain
}

/// The names one label below a pattern's domain that other blocks have, or that the operator declared to be served
/// elsewhere.
fn excepted(
    routing: &Routing<'_>,
    by_domain: &ByDomain<'_>,
    host_set: &HostSet,
    host: usize,
) -> Vec<HostName> {
    let below = by_domain.get(host_set.0.as_str()).into_iter().flatten();
    let others = below.filter(|(_, other)| *other != host).map(|(name, _)| *name);
    let elsewhere =
        routing.elsewhere().filter(|name| name.parents().next() == Some(host_set.0.as_str()));
    let names: BTreeSet<&HostName> = others.chain(elsewhere).collect();
    names.into_iter().cloned().collect()
}
