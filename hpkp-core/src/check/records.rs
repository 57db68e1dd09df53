//! The check against published pins: what clients may hold, from whomever, against what this
//! configuration presents, and its new pins against what others present.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::dane::{self, Evidence};
use super::report::Scope as Place;
use super::routing::{Claim, Reached, Routing, Sample, any_of, is_leaf_for};
use super::unchanged::{Got, lets_in};
use super::{
    Alarm, Certificates, Checker, Context, Deployment, HostVerdict, NameSet, SeenName, Sending,
    records_report as text,
};
use crate::certificate::Certificate;
use crate::finding::{Class, Code, Location, Text};
use crate::header::Kind;
use crate::path::{Chain, Paths, Verified};
use crate::pin::Pin;
use crate::policy::Policy;
use crate::published::accepted::digest;
use crate::published::client::united;
use crate::published::state::{Live, Record};
use crate::published::{
    self, CertificateIdentity, Configuration, EventId, Fingerprint, HostName, Matching, Met,
    Presented, Presents, Rrset, Scope, State, Withheld, WriterName,
};

/// What the records say, and what is wrong with them.
#[derive(Debug)]
pub struct Records {
    /// The state that they come to.
    pub state: State,
    /// Under which name this server writes its own; none where it writes none.
    pub writer: Option<WriterName>,
    /// A directory to which `hpkp published` can add what the operator decides.
    pub directory: String,
    /// The directive that names them, or the place that findings name where there is none.
    pub at: Location,
    /// What is wrong with them: the code, the text, and the directive.
    pub problems: Vec<(Code, Text, Location)>,
    /// What tells the configuration that was accepted last from others
    /// ([`crate::published::accepted::digest`]), where it is served and could not be recorded. The records
    /// are of one before it, so only the very same is unchanged. None where it is on record.
    pub unrecorded: Option<Fingerprint>,
}

/// How a record binds a host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// By its name, or a pattern that it fits.
    Own,
    /// By the name of a domain above it, with `includeSubDomains`.
    Above,
}

/// What a host presents.
#[derive(Default)]
pub(super) struct Shown<'a> {
    /// In a fixed order, each once.
    pub(super) certificates: Vec<Presented>,
    /// What they were made of, each with its position.
    chains: Vec<(usize, &'a Chain)>,
    /// Whether that is all.
    pub(super) is_known: bool,
    /// What TLSA records are compared with, where there are some.
    pub(super) evidence: Vec<Evidence>,
}

impl<'a> Shown<'a> {
    /// What the contexts present together.
    fn new(
        deployment: &'a Deployment,
        paths: &[Vec<Paths>],
        contexts: &[usize],
        known: &mut Fingerprints,
    ) -> Self {
        let mut shown = Self { is_known: true, ..Self::default() };
        let mut all: Vec<(Presented, &'a Chain)> = Vec::new();
        for &context in contexts {
            let Context { certificates, trust } = &deployment.contexts[context];
            let Certificates::Loaded(chains) = certificates else {
                shown.is_known = false;
                continue;
            };
            shown.is_known &= trust.problem.is_none();
            for (chain, paths) in chains.iter().zip(&paths[context]) {
                let served = chain.certificates().iter().map(|one| one.pin()).collect();
                match paths.keys() {
                    Some(keys) => {
                        let identity = Some(known.identity(chain));
                        all.push((Presented { served, keys, identity }, chain));
                    }
                    None => shown.is_known = false,
                }
            }
        }
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (one, chain) in all {
            if shown.certificates.last() != Some(&one) {
                shown.certificates.push(one);
            }
            shown.chains.push((shown.certificates.len() - 1, chain));
        }
        shown
    }

    /// Whether one of its certificates is for the hosts of `sample`, so that clients accept it.
    pub(super) fn is_for(&self, got: Got<'_>, sample: &Sample) -> bool {
        let chains = self.chains.iter();
        let of_it = chains
            .filter(|(position, _)| std::ptr::eq(&raw const self.certificates[*position], got.one));
        of_it.into_iter().any(|(_, chain)| is_leaf_for(chain, sample))
    }

    /// How one of its certificates meets the pins of a client that needs one of several sets alone.
    pub(super) fn meet_by(&self, got: Got<'_>, enough: &[Enough]) -> Met {
        match enough {
            [Enough::Tlsa(set, host)] => {
                dane::meet(set, host, self.evidence.iter().filter(|one| one.is_of(got.one)))
            }
            _ => meet_any(std::slice::from_ref(got.one), enough),
        }
    }

    /// How a client's pins are met that needs one of several sets alone.
    pub(super) fn meet(&self, enough: &[Enough]) -> Met {
        match enough {
            [Enough::Tlsa(set, host)] => dane::meet(set, host, self.evidence.iter()),
            _ => meet_any(&self.certificates, enough),
        }
    }
}

/// Fingerprints of CA certificates, each worked out once: most hosts send the same few.
#[derive(Default)]
struct Fingerprints(HashMap<*const Certificate, Fingerprint>);

impl Fingerprints {
    /// As [`Chain::identity`], of a chain that stays where it is while a check runs.
    fn identity(&mut self, chain: &Chain) -> CertificateIdentity {
        let mut of = |certificate: &Arc<Certificate>| {
            let known = self.0.entry(Arc::as_ptr(certificate));
            *known.or_insert_with(|| certificate.fingerprint())
        };
        CertificateIdentity {
            slot: chain.leaf().slot(),
            issuer: chain.leaf().issuer_fingerprint(),
            authorities: chain.certificates()[1..].iter().map(&mut of).collect(),
            leaf: Some(chain.leaf().fingerprint()),
        }
    }
}

/// What suffices for a client.
pub(super) enum Enough {
    /// One of these pins, sorted, of what it compares with them.
    Pins(Scope, Vec<Pin>),
    /// What these TLSA records ask for at this host.
    Tlsa(Arc<Rrset>, HostName),
}

/// What suffices for the client that holds `said`, of whose configuration these are the entries that bind
/// `host`.
fn enough<'a>(
    said: &published::Published,
    host: &HostName,
    entries: impl Iterator<Item = &'a published::Published>,
) -> Vec<Enough> {
    match &said.tlsa {
        Some(set) => vec![Enough::Tlsa(set.clone(), host.clone())],
        None => {
            let united = united(said, entries).into_iter();
            united.map(|(scope, pins)| Enough::Pins(scope, pins)).collect()
        }
    }
}

/// How the certificates meet the one of several sets that they meet best.
pub(super) fn meet_any(certificates: &[Presented], enough: &[Enough]) -> Met {
    let met = enough.iter().map(|one| match one {
        Enough::Pins(scope, pins) => meet(certificates, *scope, pins),
        Enough::Tlsa(set, _) => dane::meet_recorded(set, certificates),
    });
    met.max().unwrap_or(Met::Yes)
}

/// How the pins, which are sorted, are met by the certificate that meets them least: a client chooses which it gets.
pub(super) fn meet(certificates: &[Presented], scope: Scope, pins: &[Pin]) -> Met {
    let meets =
        certificates.iter().map(|one| one.keys.meet(scope, |pin| pins.binary_search(&pin).is_ok()));
    meets.min().unwrap_or(Met::Yes)
}

/// Records that a host does not meet, and the names for which it does not.
#[derive(Default)]
struct Unmet<'a> {
    found: Vec<Live<'a>>,
    known: HashSet<EventId>,
    names: BTreeSet<(Sample, u16)>,
}

impl<'a> Unmet<'a> {
    fn add(&mut self, live: Live<'a>, sample: &Sample, ports: &BTreeSet<u16>) {
        if self.known.insert(live.record.id) {
            self.found.push(live);
        }
        self.names.extend(ports.iter().map(|port| (sample.clone(), *port)));
    }
}

/// By the host, the code, the class, and why the host answers for the names.
type AllUnmet<'a> = BTreeMap<(usize, Code, Class, Claim), Unmet<'a>>;

/// By the name and the matching.
type ByName<'a, T> = HashMap<(&'a str, Matching), Vec<&'a Record<T>>>;

/// All that the checks below look at.
pub(super) struct Published<'a> {
    pub(super) routing: Routing<'a>,
    pub(super) shown: Vec<Shown<'a>>,
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
        let shown =
            hosts.map(|host| Shown::new(deployment, paths, &host.contexts, &mut known)).collect();
        let mut published = Self {
            routing,
            shown,
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
        let sets = published.live.iter().filter_map(|live| live.record.said.tlsa.as_deref());
        let sets: Vec<&Rrset> = sets.collect();
        if !sets.is_empty() {
            let anchors = dane::anchors(&sets);
            for (host, shown) in deployment.hosts.iter().zip(&mut published.shown) {
                shown.evidence = dane::evidence(deployment, paths, host, &anchors, verified);
            }
        }
        for (index, live) in published.live.iter().enumerate() {
            published.live_by_host.entry(live.record.said.host.as_str()).or_default().push(index);
        }
        for record in records.state.presents() {
            published.presents_by_host.entry(record.said.host.as_str()).or_default().push(record);
        }
        published
    }

    /// Every name that the configuration or a record has.
    fn samples(&self, hosts: usize) -> BTreeSet<Sample> {
        let named = (0..hosts).flat_map(|host| {
            let asides = self.routing.asides(host).map(|(sample, _)| sample);
            self.routing.names(host).keys().chain(asides).cloned()
        });
        let mut samples: BTreeSet<Sample> = named.collect();
        // A name whose block is gone may have fallen to another one.
        let before = self.presented_last.values().filter_map(|records| records.first());
        samples.extend(before.map(|record| (record.said.host.clone(), record.said.matching)));
        for indices in self.live_by_host.values() {
            let all = || indices.iter().map(|index| &self.live[*index].record.said);
            let Some(host) = all().next().map(|said| &said.host) else { continue };
            if all().any(|said| said.matching != Matching::OneLabel) {
                samples.insert((host.clone(), Matching::Exact));
            }
            if all().any(|said| said.matching != Matching::Exact || said.include_subdomains) {
                samples.insert((host.clone(), Matching::OneLabel));
            }
        }
        samples
    }

    /// The live records that bind the hosts of `sample`.
    fn binding(&self, sample: &Sample) -> Vec<(Live<'a>, Relation)> {
        let of = |name: &str| self.live_by_host.get(name).into_iter().flatten();
        let name = any_of(sample);
        let mut binding = Vec::new();
        for index in of(sample.0.as_str()) {
            let live = self.live[*index];
            let said = &live.record.said;
            let relation = match (sample.1, said.matching) {
                (Matching::Exact, Matching::Exact) | (_, Matching::AnyDepth) => Relation::Own,
                (Matching::Exact, _) => continue,
                (_, Matching::OneLabel) => Relation::Own,
                (_, Matching::Exact) if said.include_subdomains => Relation::Above,
                (_, Matching::Exact) => continue,
            };
            if said.binds(&name) {
                binding.push((live, relation));
            }
        }
        // The name one label below the domain that is looked at.
        let mut below = sample.0.as_str();
        for domain in sample.0.parents() {
            for index in of(domain) {
                let live = self.live[*index];
                let said = &live.record.said;
                let is_child = below == sample.0.as_str() && sample.1 == Matching::Exact;
                let is_excepted = said.except.iter().any(|name| name.as_str() == below);
                let relation = match said.matching {
                    Matching::AnyDepth => Relation::Own,
                    Matching::OneLabel if is_excepted => continue,
                    Matching::OneLabel if is_child => Relation::Own,
                    _ if said.include_subdomains => Relation::Above,
                    _ => continue,
                };
                if said.binds(&name) {
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
        sample: &Sample,
    ) -> BTreeSet<u16> {
        let of_name = names_of(sample).flat_map(|(host, matching)| {
            let presents = self.presents_by_host.get(host).into_iter().flatten();
            presents.filter(move |record| {
                Some(&record.writer) == writer && record.said.matching == matching
            })
        });
        of_name.flat_map(|record| &record.said.ports).copied().collect()
    }

    /// Whether the last accepted configuration had this very policy for a host, presented what does not
    /// meet it, and did not send its header for a lock-out. A refusal would then protect nobody.
    pub(super) fn is_withheld_as_before(&self, host: usize, policy: &Policy) -> bool {
        if let Some(is_same) = self.unrecorded {
            // What has no names is in no digest.
            return is_same && self.routing.served(host).next().is_some();
        }
        let pins = sorted(policy);
        let mut served = self.routing.served(host).peekable();
        served.peek().is_some()
            && served.all(|(sample, reached)| {
                let before = self.withheld_last.get(&(sample.0.as_str(), sample.1));
                before.into_iter().flatten().any(|record| {
                    record.said.pins == pins
                        && record.said.include_subdomains == policy.binds_subdomains()
                }) && self.keeps_refusing(host, &pins, sample, reached)
            })
    }

    /// Whether what does not meet the pins of a host's own policy is what the last accepted configuration
    /// presented for a name.
    fn keeps_refusing(
        &self,
        host: usize,
        pins: &[Pin],
        sample: &Sample,
        Reached { claim, ports }: &Reached,
    ) -> bool {
        let Shown { certificates, is_known, .. } = &self.shown[host];
        if !is_known {
            return self.is_unchanged(sample, (host, *claim), ports);
        }
        let enough = [Enough::Pins(Scope::Chain, pins.to_vec())];
        let let_in = lets_in(&enough);
        let mut refusing = Got::each(certificates).filter(|got| !let_in(got.one));
        refusing.all(|got| self.is_kept((sample, *claim), ports, got, &let_in))
    }

    /// Whether the last accepted configuration published this very policy for all names of a host, and
    /// presented what does not meet it.
    pub(super) fn is_unmet_as_before(&self, host: usize, policy: &Policy) -> bool {
        let pins = sorted(policy);
        let mut served = self.routing.served(host).peekable();
        served.peek().is_some()
            && served.all(|(sample, reached)| {
                self.was_published(sample, policy)
                    && self.keeps_refusing(host, &pins, sample, reached)
            })
    }

    /// What is to be recorded of each host where the configuration is accepted, and for which names it
    /// sends a header.
    pub(super) fn describe(&mut self, deployment: &Deployment) -> Vec<HostVerdict> {
        let Self { routing, shown, .. } = self;
        let hosts = &deployment.hosts;
        let mut verdicts = vec![HostVerdict::default(); hosts.len()];
        let by_domain = by_domain(routing, hosts.len());
        for (host, verdict) in verdicts.iter_mut().enumerate().filter(|(host, _)| hosts[*host].tls)
        {
            let served = routing.served(host).map(|named| (named, false));
            let asides = routing.asides(host).map(|named| (named, true));
            for ((sample, reached), aside) in served.chain(asides) {
                let except = match sample.1 {
                    Matching::OneLabel if !aside => excepted(routing, &by_domain, sample, host),
                    _ => Vec::new(),
                };
                verdict.names.push(SeenName {
                    host: sample.0.clone(),
                    matching: sample.1,
                    except,
                    ports: reached.ports.iter().copied().collect(),
                    aside,
                });
            }
            if shown[host].is_known && !shown[host].certificates.is_empty() {
                verdict.presented = Some(shown[host].certificates.clone());
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
            if let Some(sending) = sending
                && self.withheld.contains(&(host, Kind::Enforced))
            {
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
        let mut all: AllUnmet<'a> = BTreeMap::new();
        let mut unknown: BTreeSet<usize> = BTreeSet::new();
        let mut unlistened: BTreeSet<String> = BTreeSet::new();
        let mut closed: BTreeSet<String> = BTreeSet::new();
        let mut dane = dane::Notes::default();
        for sample in published.samples(self.deployment.hosts.len()) {
            let binding = published.binding(&sample);
            if binding.is_empty() {
                continue;
            }
            let targets = published.routing.targets(&sample);
            // Of one configuration a client may need one entry only.
            // What another writer says suffices for the same client counts for nothing.
            let mut entries: HashMap<
                (Configuration, &WriterName),
                Vec<&crate::published::Published>,
            > = HashMap::new();
            for (live, _) in &binding {
                if let Some(configuration) = live.record.said.configuration {
                    let of = (configuration, &live.record.writer);
                    entries.entry(of).or_default().push(&live.record.said);
                }
            }
            for (live, relation) in binding {
                let said = &live.record.said;
                let same =
                    said.configuration.and_then(|of| entries.get(&(of, &live.record.writer)));
                let enough = enough(said, &any_of(&sample), same.into_iter().flatten().copied());
                let led = published.led_to(&targets, &sample, live, relation);
                let mut is_gone = led.is_empty();
                if led.keys().all(|(_, claim)| *claim == Claim::AnyName) {
                    let names = published.unlistened(&targets, &sample, live, relation);
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
                        &sample,
                        (live, relation, &enough),
                        (host, claim),
                        &ports,
                    );
                    dane.note(published, &live, found, (host, &sample), &enough);
                    if let Some((code, class)) = found {
                        let unmet = all.entry((host, code, class, claim)).or_default();
                        unmet.add(live, &sample, &ports);
                    }
                }
                let removed = published.removed(records, &targets, &sample, live, &enough);
                if relation == Relation::Own && is_gone && removed.is_empty() {
                    closed.extend(published.closed(&sample, live, &enough));
                }
                for (host, port) in removed {
                    if !published.shown[host].is_known {
                        unknown.insert(host);
                        continue;
                    }
                    let code = Code::RemovedHostPinsUnmet;
                    let unmet = all.entry((host, code, code.class(), Claim::Name)).or_default();
                    unmet.add(live, &sample, &BTreeSet::from([port]));
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
        all: AllUnmet<'a>,
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
            let alarm = |((host, matching), port): &(Sample, u16)| Alarm {
                code,
                name: Some((host.clone(), *matching, Some(*port))),
            };
            let alarms = unmet.names.iter().map(alarm).collect();
            self.find_for(scope, Kind::Enforced, host, (code, class), alarms, || {
                let unmet = text::Unmet {
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
                            text::not_known(why, remedy)
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
fn group_of(unmet: &Unmet<'_>, code: Code, claim: Claim) -> String {
    let mut group = text::group(&unmet.found);
    if !matches!(claim, Claim::Name | Claim::Pattern) || code == Code::RemovedHostPinsUnmet {
        // The text names the hosts, since none of them is in the label.
        unmet.names.iter().for_each(|(sample, _)| group.push_str(sample.0.as_str()));
    }
    group
}

/// A name as records have it, and the pattern that it fits.
pub(super) fn names_of(sample: &Sample) -> impl Iterator<Item = (&str, Matching)> {
    let parent = sample.0.parents().next().filter(|_| sample.1 == Matching::Exact);
    let parent = parent.map(|parent| (parent, Matching::OneLabel));
    std::iter::once((sample.0.as_str(), sample.1)).chain(parent)
}

/// What a writer's last accepted configuration said, by the name and the matching.
fn by_name<'a, T>(all: BTreeMap<published::state::Names<'a>, Vec<&'a Record<T>>>) -> ByName<'a, T> {
    all.into_iter().map(|((host, matching), all)| ((host.as_str(), matching), all)).collect()
}

/// What a default server does not meet for its own names it has not to be told of those in its
/// certificate besides.
fn merged(mut all: AllUnmet<'_>) -> AllUnmet<'_> {
    let is_by_certificate =
        |(.., claim): &&(usize, Code, Class, Claim)| *claim == Claim::Certificate;
    let keys: Vec<_> = all.keys().filter(is_by_certificate).copied().collect();
    for (host, code, class, claim) in keys {
        let own = (host, code, class, Claim::Name);
        if all.contains_key(&own)
            && let Some(more) = all.remove(&(host, code, class, claim))
            && let Some(unmet) = all.get_mut(&own)
        {
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
    for (_, domain) in served().filter(|(_, sample)| sample.1 == Matching::OneLabel) {
        by_domain.insert(domain.0.as_str(), Vec::new());
    }
    if by_domain.is_empty() {
        return by_domain;
    }
    for (host, (name, matching)) in served() {
        if *matching == Matching::Exact
            && let Some(below) = name.parents().next().and_then(|domain| by_domain.get_mut(domain))
        {
            below.push((name, host));
        }
    }
    by_domain
}

/// The names one label below a pattern's domain that other hosts have, or other machines.
fn excepted(
    routing: &Routing<'_>,
    by_domain: &ByDomain<'_>,
    sample: &Sample,
    host: usize,
) -> Vec<HostName> {
    let below = by_domain.get(sample.0.as_str()).into_iter().flatten();
    let others = below.filter(|(_, other)| *other != host).map(|(name, _)| *name);
    let elsewhere =
        routing.elsewhere().filter(|name| name.parents().next() == Some(sample.0.as_str()));
    let names: BTreeSet<&HostName> = others.chain(elsewhere).collect();
    names.into_iter().cloned().collect()
}
