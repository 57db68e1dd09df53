//! What the records say, and which names of the configuration lead where: what the checks against
//! published pins look at.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::dane;
use super::digest::digest;
use super::presented::{Fingerprints, PresentedKeys};
use super::routing::{HostSet, Routing, any_of};
use super::{Deployment, HostVerdict, NameSet, SeenName};
use crate::path::{Paths, Verified};
use crate::published::state::{Live, Record};
use crate::published::{self, HostName, Matching, Presents, Rrset, Withheld, WriterName};

/// How a record binds a host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// By its name, or a pattern that it fits.
    Own,
    /// By the name of a domain above it, with `includeSubDomains`.
    Above,
}

/// By the name and the matching.
type ByName<'a, T> = HashMap<(&'a str, Matching), Vec<&'a Record<T>>>;

/// All that the checks below look at.
pub(super) struct Published<'a> {
    pub(super) routing: Routing<'a>,
    pub(super) presented: Vec<PresentedKeys<'a>>,
    /// What the last accepted configuration presented, published and withheld.
    pub(super) presented_last: ByName<'a, Presents>,
    pub(super) published_last: ByName<'a, published::Published>,
    pub(super) withheld_last: ByName<'a, Withheld>,
    /// Of what it presented, what counts for clients who ignore names; made when it is needed.
    pub(super) nameless_last: OnceCell<[Vec<&'a Record<Presents>>; 2]>,
    /// Where that configuration is not on record: whether the one being checked is the very same.
    pub(super) unrecorded: Option<bool>,
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
            routing,
            presented,
            presented_last: HashMap::new(),
            published_last: HashMap::new(),
            withheld_last: HashMap::new(),
            nameless_last: OnceCell::new(),
            unrecorded: None,
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
        for record in records.state.presents() {
            published.presents_by_host.entry(record.body.host.as_str()).or_default().push(record);
        }
        published
    }

    /// Every name that the configuration or a record has.
    pub(super) fn host_sets(&self, hosts: usize) -> BTreeSet<HostSet> {
        let named = (0..hosts).flat_map(|host| {
            let asides = self.routing.asides(host).map(|(host_set, _)| host_set);
            self.routing.names(host).keys().chain(asides).cloned()
        });
        let mut host_sets: BTreeSet<HostSet> = named.collect();
        // A name whose block is gone may have fallen to another one.
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
        // The name one label below the domain that is looked at.
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
                Some(&record.writer) == writer && record.body.matching == matching
            })
        });
        of_name.flat_map(|record| &record.body.ports).copied().collect()
    }

    /// What is to be recorded of each host where the configuration is accepted, and for which names it
    /// sends a header.
    pub(super) fn describe(&mut self, deployment: &Deployment) -> Vec<HostVerdict> {
        let Self { routing, presented, .. } = self;
        let hosts = &deployment.hosts;
        let mut verdicts = vec![HostVerdict::default(); hosts.len()];
        let by_domain = by_domain(routing, hosts.len());
        for (host, verdict) in verdicts.iter_mut().enumerate().filter(|(host, _)| hosts[*host].tls)
        {
            let served = routing.served(host).map(|named| (named, false));
            let asides = routing.asides(host).map(|named| (named, true));
            for ((host_set, reached), aside) in served.chain(asides) {
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
        let unrecorded = deployment.records.as_ref().and_then(|records| records.unrecorded);
        self.unrecorded = unrecorded.map(|known| known == digest(deployment, &verdicts));
        verdicts
    }
}

/// The pins of a policy as records have them.
pub(crate) fn sorted(policy: &Policy) -> Vec<Pin> {
    let mut pins = policy.distinct_pins();
    pins.sort_unstable();
    pins
}

impl<'a> Checker<'a> {
    /// All checks that look beyond one host and its own policy. Headers that a lock-out was found
    /// for are taken out of `sending`.
    pub(super) fn check_published(&mut self, sending: &mut [Option<Sending>], now: i64) {
        let deployment = self.deployment;
        let Some(published) = self.published else { return };
        self.check_not_served_here(published);
        if let Some(records) = &deployment.records {
            self.check_files(records, published, now);
            self.check_live(records, published, now);
        }
        self.withhold(sending);
        let sent = self.sent(sending);
        self.check_same_host(published, &sent);
        if let Some(records) = &deployment.records {
            self.check_elsewhere(records, published, &sent);
        }
        self.withhold(sending);
        self.check_kept(&self.sent(sending));
    }

    fn withhold(&self, sending: &mut [Option<Sending>]) {
        for (host, sending) in sending.iter_mut().enumerate() {
            let is_withheld = self.withheld.contains(&(host, Kind::Enforced));
            if let Some(sending) = sending.as_mut().filter(|_| is_withheld) {
                sending.header = None;
            }
        }
    }

    /// What is wrong with the files themselves.
    fn check_files(&mut self, records: &'a Records, published: &Published<'a>, now: i64) {
        let deployment = self.deployment;
        let on_tls =
            || (0..deployment.hosts.len()).filter(|position| deployment.hosts[*position].tls);
        for (code, text, at) in &records.problems {
            // Several of one code are findings of their own.
            let scope = Place { policy: &text.what, kind: Kind::Enforced, at, each_place: true };
            for host in on_tls() {
                // What is as it was locks nobody out who was not locked out before.
                let class = match code {
                    Code::RecordsUnreadable
                    | Code::RecordsMissing
                    | Code::RecordsUnsafePermissions
                        if self.is_host_unchanged(published, host) =>
                    {
                        Class::Warning
                    }
                    _ => code.class(),
                };
                self.find_as(scope, Kind::Enforced, host, (*code, class), || text.clone());
            }
        }
        let newest = records.writer.as_ref().and_then(|writer| records.state.newest(writer));
        if let Some(newest) = newest.filter(|newest| *newest > now) {
            let at = &records.at;
            let scope = Place { policy: "", kind: Kind::Enforced, at, each_place: true };
            for host in on_tls() {
                self.find(scope, Kind::Enforced, host, Code::ClockBehindRecords, || {
                    text::clock_behind(now, newest)
                });
            }
        }
        if published.has_keys_alone() {
            let code = Code::RecordsEarlierFormat;
            self.find_of_none(&records.at, code, text::earlier_format);
        }
    }

    /// Whether a host presents what the last accepted configuration did, and publishes no other
    /// pins.
    fn is_host_unchanged(&self, published: &Published<'a>, host: usize) -> bool {
        let Some(policy_use) = &self.deployment.hosts[host].enforced else {
            return published.is_host_unchanged(host, None);
        };
        let policy = self.policies.get(policy_use.policy.as_str());
        policy.is_some_and(|policy| published.is_host_unchanged(host, Some(policy)))
    }

    /// What clients may hold against what is presented.
    fn check_live(&mut self, records: &'a Records, published: &Published<'a>, now: i64) {
        let mut all: UnmetByHost<'a> = BTreeMap::new();
        let mut unknown: BTreeSet<usize> = BTreeSet::new();
        let mut unlistened: BTreeSet<String> = BTreeSet::new();
        let mut closed: BTreeSet<String> = BTreeSet::new();
        let mut dane = dane::Notes::default();
        for host_set in published.host_sets(self.deployment.hosts.len()) {
            let binding = published.binding(&host_set);
            if binding.is_empty() {
                continue;
            }
            let targets = published.routing.targets(&host_set);
            // Of one configuration a client may need one entry only.
            // What another writer says suffices for the same client counts for nothing.
            let mut entries: HashMap<
                (Configuration, &WriterName),
                Vec<&crate::published::Published>,
            > = HashMap::new();
            for (live, _) in &binding {
                if let Some(configuration) = live.record.body.configuration {
                    let of = (configuration, &live.record.writer);
                    entries.entry(of).or_default().push(&live.record.body);
                }
            }
            for (live, relation) in binding {
                let said = &live.record.body;
                let same =
                    said.configuration.and_then(|of| entries.get(&(of, &live.record.writer)));
                let enough = enough(said, &any_of(&host_set), same.into_iter().flatten().copied());
                let led = published.led_to(&targets, &host_set, live, relation);
                let mut is_gone = led.is_empty();
                if led.keys().all(|(_, claim)| *claim == Claim::AnyName) {
                    let names = published.unlistened(&targets, &host_set, live, relation);
                    is_gone &= names.is_none();
                    unlistened.extend(names);
                }
                for ((host, claim), ports) in led {
                    if !self.deployment.hosts[host].tls {
                        continue;
                    }
                    if !published.shown[host].is_known {
                        unknown.insert(host);
                        continue;
                    }
                    let found = published.judge(
                        records,
                        &host_set,
                        (live, relation, &enough),
                        (host, claim),
                        &ports,
                    );
                    dane.note(published, &live, found, (host, &host_set), &enough);
                    if let Some((code, class)) = found {
                        let unmet = all.entry((host, code, class, claim)).or_default();
                        unmet.add(live, &host_set, &ports);
                    }
                }
                let removed = published.removed(records, &targets, &host_set, live, &enough);
                if relation == Relation::Own && is_gone && removed.is_empty() {
                    closed.extend(published.closed(&host_set, live, &enough));
                }
                for (host, port) in removed {
                    if !published.shown[host].is_known {
                        unknown.insert(host);
                        continue;
                    }
                    let code = Code::RemovedHostPinsUnmet;
                    let unmet = all.entry((host, code, code.class(), Claim::Name)).or_default();
                    unmet.add(live, &host_set, &BTreeSet::from([port]));
                }
            }
        }
        self.report_unknown(records, &unknown);
        self.report_dane(records, dane);
        self.report_unmet(records, published, all, now);
        if !unlistened.is_empty() {
            let names: Vec<String> = unlistened.into_iter().collect();
            let directive = self.deployment.names.not_served_here;
            self.find_of_none(&records.at, Code::PublishedPinsPortNotServed, || {
                text::unlistened(&names, directive)
            });
        }
        if !closed.is_empty() {
            let names: Vec<String> = closed.into_iter().collect();
            let directive = self.deployment.names.not_served_here;
            self.find_of_none(&records.at, Code::PinnedPortClosed, || {
                text::closed(&names, directive)
            });
        }
    }

    fn report_unmet(
        &mut self,
        records: &'a Records,
        published: &Published<'a>,
        all: UnmetByHost<'a>,
        now: i64,
    ) {
        let all = merged(all);
        // What the hosts of one finding hold, for the command that it prints.
        let mut together: HashMap<(Code, Class, String), Vec<Live<'a>>> = HashMap::new();
        for ((_, code, class, claim), unmet) in &all {
            let group = group_of(unmet, *code, *claim);
            together.entry((*code, *class, group)).or_default().extend(&unmet.found);
        }
        for of in together.values_mut() {
            of.sort_by_key(|live| live.record.id);
            of.dedup_by_key(|live| live.record.id);
        }
        for ((host, code, class, claim), unmet) in all {
            let before = class != code.class();
            let group = group_of(&unmet, code, claim);
            let key = (code, class, group.clone());
            let at = self.place(host, records);
            let scope = Place { policy: &group, kind: Kind::Enforced, at, each_place: false };
            let chains = self.chains(host);
            let deployment = self.deployment;
            let alarm = |((host, matching), port): &(HostSet, u16)| Alarm {
                code,
                name: Some((host.clone(), *matching, Some(*port))),
            };
            let alarms = unmet.names.iter().map(alarm).collect();
            self.find_for(scope, Kind::Enforced, host, (code, class), alarms, || {
                let unmet = text::UnmetPins {
                    records,
                    found: &unmet.found,
                    all: together.get(&key).map_or(unmet.found.as_slice(), Vec::as_slice),
                    names: &unmet.names,
                    claim,
                    directives: &deployment.names,
                    chains: &chains,
                    shown: &published.shown[host],
                    serving: &deployment.hosts[host].serving,
                    before,
                    now,
                };
                unmet.text(code)
            });
        }
    }

    /// A host whose certificates cannot be compared, where there is something to compare them with.
    /// One with a policy has its finding already.
    fn report_unknown(&mut self, records: &'a Records, unknown: &BTreeSet<usize>) {
        for &host in unknown {
            if self.deployment.hosts[host].enforced.is_some() {
                continue;
            }
            let scope =
                Place { policy: "", kind: Kind::Enforced, at: &records.at, each_place: true };
            for &context in &self.deployment.hosts[host].contexts {
                let Context { certificates, trust } = &self.deployment.contexts[context];
                if let Some((code, text, at)) = &trust.problem {
                    let scope = Place { at, ..scope };
                    self.find(scope, Kind::Enforced, host, *code, || text.clone());
                }
                match certificates {
                    Certificates::Loaded(_) => {}
                    Certificates::NotKnown { why, remedy } => {
                        let code = Code::CertificateNotKnownAtLoad;
                        self.find(scope, Kind::Enforced, host, code, || {
                            text::not_known(why, remedy, records)
                        });
                    }
                    Certificates::Later(why) => {
                        let code = Code::CertificateCheckedAtStart;
                        self.find(scope, Kind::Enforced, host, code, || text::at_start(why));
                    }
                    Certificates::Unusable(code, text) => {
                        self.find(scope, Kind::Enforced, host, *code, || text.clone());
                    }
                }
            }
        }
    }

    /// The directive that a finding about a host names.
    fn place<'b>(&self, host: usize, records: &'b Records) -> &'b Location
    where
        'a: 'b,
    {
        let host = &self.deployment.hosts[host];
        host.enforced.as_ref().map_or(&records.at, |policy_use| &policy_use.at)
    }

    pub(super) fn chains(&self, host: usize) -> Vec<&'a crate::path::Chain> {
        let contexts = self.deployment.hosts[host].contexts.iter();
        contexts
            .filter_map(|context| match &self.deployment.contexts[*context].certificates {
                Certificates::Loaded(chains) => Some(chains),
                _ => None,
            })
            .flatten()
            .collect()
    }
}

/// What hosts must have in common to share a finding.
fn group_of(unmet: &UnmetRecords<'_>, code: Code, claim: Claim) -> String {
    let mut group = text::group(&unmet.found);
    if !matches!(claim, Claim::Name | Claim::Pattern) || code == Code::RemovedHostPinsUnmet {
        // The text names the hosts, since none of them is in the label.
        unmet.names.iter().for_each(|(host_set, _)| group.push_str(host_set.0.as_str()));
    }
    group
}

/// A name as records have it, and the pattern that it fits.
pub(super) fn names_of(host_set: &HostSet) -> impl Iterator<Item = (&str, Matching)> {
    let parent = host_set.0.parents().next().filter(|_| host_set.1 == Matching::Exact);
    let parent = parent.map(|parent| (parent, Matching::OneLabel));
    std::iter::once((host_set.0.as_str(), host_set.1)).chain(parent)
}

/// What a writer's last accepted configuration said, by the name and the matching.
fn by_name<'a, T>(all: BTreeMap<published::state::Names<'a>, Vec<&'a Record<T>>>) -> ByName<'a, T> {
    all.into_iter().map(|((host, matching), all)| ((host.as_str(), matching), all)).collect()
}

/// What a default server does not meet for its own names it has not to be told of those in its
/// certificate besides.
fn merged(mut all: UnmetByHost<'_>) -> UnmetByHost<'_> {
    let is_by_certificate =
        |(.., claim): &&(usize, Code, Class, Claim)| *claim == Claim::Certificate;
    let keys: Vec<_> = all.keys().filter(is_by_certificate).copied().collect();
    for (host, code, class, claim) in keys {
        let own = (host, code, class, Claim::Name);
        let more =
            all.contains_key(&own).then(|| all.remove(&(host, code, class, claim))).flatten();
        if let (Some(more), Some(unmet)) = (more, all.get_mut(&own)) {
            unmet.names.extend(more.names);
            for live in more.found {
                if unmet.known.insert(live.record.id) {
                    unmet.found.push(live);
                }
            }
        }
    }
    all
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

/// The names one label below a pattern's domain that other hosts have, or other machines.
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
