//! The check against published pins: what clients may hold, from whomever, against what this
//! configuration presents, and its new pins against what others present.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::report::Scope as Place;
use super::routing::{Routing, Sample, Target};
use super::{
    Certificates, Checker, Context, HostVerdict, SeenName, Sending, records_report as text,
};
use crate::finding::{Class, Code, Location};
use crate::header::Kind;
use crate::pin::Pin;
use crate::policy::Policy;
use crate::published::state::{LastAccepted, Live, Record};
use crate::published::{
    HostName, Lifetime, Matching, Met, Origin, Presented, Presents, Scope, State, WriterName,
};

/// What the records say, and what is wrong with them.
#[derive(Debug)]
pub struct Records {
    /// The state that they come to.
    pub state: State,
    /// Under which name this server writes its own; none where it writes none.
    pub writer: Option<WriterName>,
    /// The directive that names them, or the place that findings name where there is none.
    pub at: Location,
    /// What is wrong with them: the code, the text, and the directive.
    pub problems: Vec<(Code, String, Location)>,
}

/// How a record binds a host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// By its name, or a pattern that it fits.
    Own,
    /// By the name of a domain above it, with `includeSubDomains`.
    Above,
}

/// What a host presents.
#[derive(Default)]
pub(super) struct Shown {
    /// In a fixed order, each once.
    pub(super) certificates: Vec<Presented>,
    /// Whether that is all.
    is_known: bool,
}

impl Shown {
    /// What its server sends, by which one presentation is told from another.
    fn served(&self) -> BTreeSet<&[Option<Pin>]> {
        served(&self.certificates)
    }

    fn meet(&self, scope: Scope, pins: &HashSet<Pin>) -> Met {
        meet(&self.certificates, scope, pins)
    }
}

fn served(certificates: &[Presented]) -> BTreeSet<&[Option<Pin>]> {
    certificates.iter().map(|certificate| certificate.served.as_slice()).collect()
}

/// How the pins are met by the certificate that meets them least: a client chooses which it gets.
fn meet(certificates: &[Presented], scope: Scope, pins: &HashSet<Pin>) -> Met {
    let meets = certificates.iter().map(|one| one.keys.meet(scope, |pin| pins.contains(&pin)));
    meets.min().unwrap_or(Met::Yes)
}

/// Whether nobody who notes `pins` from a host is refused where `theirs` is presented. Who is shown
/// the same there builds the path that met them here.
fn is_safe(ours: &Shown, theirs: &[Presented], pins: &HashSet<Pin>) -> bool {
    match meet(theirs, Scope::Chain, pins) {
        Met::Yes => true,
        Met::Partly => ours.served() == served(theirs),
        Met::No => false,
    }
}

/// A policy whose header is going to be sent.
struct Sent<'a> {
    host: usize,
    policy: &'a Policy,
    at: &'a Location,
    pins: HashSet<Pin>,
}

/// The records found to be unmet by a host, by the code and whether it is a warning only.
type Unmet<'a> = BTreeMap<(usize, Code, bool), Vec<Live<'a>>>;

/// All that the checks below look at.
pub(super) struct Published<'a> {
    routing: Routing<'a>,
    shown: Vec<Shown>,
    last: LastAccepted<'a>,
    live: Vec<Live<'a>>,
    live_by_host: HashMap<&'a str, Vec<usize>>,
    presents_by_host: HashMap<&'a str, Vec<&'a Record<Presents>>>,
}

impl<'a> Published<'a> {
    fn new(checker: &Checker<'a>, now: i64) -> Self {
        let deployment = checker.deployment;
        let routing = Routing::new(deployment);
        let shown = deployment.hosts.iter().map(|host| checker.shown(&host.contexts)).collect();
        let mut published = Self {
            routing,
            shown,
            last: LastAccepted::default(),
            live: Vec::new(),
            live_by_host: HashMap::new(),
            presents_by_host: HashMap::new(),
        };
        let Some(records) = &deployment.records else { return published };
        if let Some(writer) = &records.writer {
            published.last = records.state.last_accepted(writer);
        }
        published.live = records.state.live(now).collect();
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
        let named = (0..hosts).flat_map(|host| self.routing.names(host).keys().cloned());
        let mut samples: BTreeSet<Sample> = named.collect();
        for Live { record, .. } in &self.live {
            let said = &record.said;
            if said.matching != Matching::OneLabel {
                samples.insert((said.host.clone(), Matching::Exact));
            }
            if said.matching != Matching::Exact || said.include_subdomains {
                samples.insert((said.host.clone(), Matching::OneLabel));
            }
        }
        samples
    }

    /// The live records that bind the hosts of `sample`.
    fn binding(&self, sample: &Sample) -> Vec<(Live<'a>, Relation)> {
        let of = |name: &str| self.live_by_host.get(name).into_iter().flatten();
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
            binding.push((live, relation));
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
                binding.push((live, relation));
            }
            below = domain;
        }
        binding
    }

    /// Whether a block answers for a name.
    fn has(&self, host: usize, name: &str) -> bool {
        name.parse().is_ok_and(|name| {
            let named = self.routing.named(&(name, Matching::Exact));
            named.iter().any(|target| target.host == host)
        })
    }

    /// Whether `includeSubDomains` of what a host publishes for `sample` binds `visited`, which is
    /// below its domain; `under` is the name between them that is one label below the domain.
    fn binds_below(&self, host: usize, sample: &Sample, under: &str, visited: &Sample) -> bool {
        match sample.1 {
            // The pattern's own hosts are not above each other, and others' are not the pattern's.
            Matching::OneLabel => {
                !under.is_empty()
                    && (under, Matching::Exact) != (visited.0.as_str(), visited.1)
                    && self.has(host, under)
            }
            _ => true,
        }
    }

    /// The default servers on the ports on which clients of a writer know a name.
    fn fallbacks(&self, writer: Option<&WriterName>, sample: &Sample) -> BTreeSet<Target> {
        let presents = self.presents_by_host.get(sample.0.as_str()).into_iter().flatten();
        let ports: BTreeSet<u16> = presents
            .filter(|record| Some(&record.writer) == writer && record.said.matching == sample.1)
            .flat_map(|record| &record.said.ports)
            .copied()
            .collect();
        let is_known = |target: &Target| ports.is_empty() || ports.contains(&target.port);
        self.routing.defaults().filter(is_known).collect()
    }

    /// Whether a host presents for `sample` what the last accepted configuration did.
    fn keys_are_as_before(&self, sample: &Sample, host: usize) -> bool {
        let shown = self.shown[host].served();
        let is_same = |record: &&Record<Presents>| served(&record.said.certificates) == shown;
        match self.last.presents.get(&(&sample.0, sample.1)) {
            Some(before) => before.iter().any(is_same),
            // A name that the records have for somebody else, and that a pattern of this host fits.
            None => self.routing.names(host).keys().any(|(name, matching)| {
                self.last.presents.get(&(name, *matching)).into_iter().flatten().any(is_same)
            }),
        }
    }

    /// Whether the last accepted configuration published this very policy for `sample`.
    fn policy_is_as_before(&self, sample: &Sample, policy: &Policy) -> bool {
        let before = self.last.published.get(&(&sample.0, sample.1)).into_iter().flatten();
        let pins = sorted(policy);
        before.into_iter().any(|record| {
            let said = &record.said;
            said.pins == pins
                && said.include_subdomains == policy.binds_subdomains()
                && policy.max_age().map(Lifetime::MaxAge) == Some(said.lifetime)
        })
    }

    /// Whether every client that noted the record did so from just what the host presents now: it
    /// builds the path that it built then. `None` where nothing is known of what it saw.
    fn is_shown_as_then(&self, state: &State, live: &Live<'_>, host: usize) -> Option<bool> {
        let record = live.record;
        if record.said.origin != Origin::Header {
            return None;
        }
        let presents = self.presents_by_host.get(record.said.host.as_str())?;
        let shown = self.shown[host].served();
        let mut then = state.presented_with(record, presents).peekable();
        then.peek()?;
        Some(then.all(|record| served(&record.said.certificates) == shown))
    }
}

/// The pins of a policy as records have them.
pub(crate) fn sorted(policy: &Policy) -> Vec<Pin> {
    let mut pins = policy.distinct_pins();
    pins.sort_unstable();
    pins
}

impl<'a> Checker<'a> {
    /// What the contexts present together.
    fn shown(&self, contexts: &[usize]) -> Shown {
        let mut shown = Shown { certificates: Vec::new(), is_known: true };
        for &context in contexts {
            let Context { certificates, trust } = &self.deployment.contexts[context];
            let Certificates::Loaded(chains) = certificates else {
                shown.is_known = false;
                continue;
            };
            shown.is_known &= trust.problem.is_none();
            for (chain, paths) in chains.iter().zip(&self.paths[context]) {
                let served = chain.certificates().iter().map(|one| one.pin()).collect();
                match paths.keys() {
                    Some(keys) => shown.certificates.push(Presented { served, keys }),
                    None => shown.is_known = false,
                }
            }
        }
        shown.certificates.sort();
        shown.certificates.dedup();
        shown
    }

    /// All checks that look beyond one host and its own policy. Headers that a lock-out was found
    /// for are taken out of `sending`.
    pub(super) fn check_published(
        &mut self,
        sending: &mut [Option<Sending>],
        now: i64,
    ) -> Vec<HostVerdict> {
        let deployment = self.deployment;
        let mut verdicts = vec![HostVerdict::default(); deployment.hosts.len()];
        if deployment.listeners.is_empty() && deployment.records.is_none() {
            return verdicts;
        }
        let published = Published::new(self, now);
        if let Some(records) = &deployment.records {
            self.check_files(records, now);
            self.check_live(records, &published, now);
        }
        self.withhold(sending);
        let sent = self.sent(sending);
        self.check_same_host(&published, &sent);
        if let Some(records) = &deployment.records {
            self.check_elsewhere(records, &published, &sent);
            self.check_kept(records, &sent);
        }
        self.withhold(sending);
        self.describe(&published, &mut verdicts);
        verdicts
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

    /// The policies whose pins clients are about to note.
    fn sent(&self, sending: &[Option<Sending>]) -> Vec<Sent<'a>> {
        let uses = self.uses(Kind::Enforced).filter(|(host, _)| {
            sending[*host].as_ref().is_some_and(|sending| sending.header.is_some())
        });
        uses.filter_map(|(host, policy_use)| {
            let policy = *self.policies.get(policy_use.policy.as_str())?;
            // Clients forget at once what has no age.
            policy.max_age().filter(|age| age.seconds() > 0)?;
            let pins = policy.distinct_pins().into_iter().collect();
            Some(Sent { host, policy, at: &policy_use.at, pins })
        })
        .collect()
    }

    /// What is wrong with the files themselves.
    fn check_files(&mut self, records: &'a Records, now: i64) {
        let deployment = self.deployment;
        let on_tls =
            || (0..deployment.hosts.len()).filter(|position| deployment.hosts[*position].tls);
        for (code, text, at) in &records.problems {
            let scope = Place { policy: "", kind: Kind::Enforced, at, each_place: true };
            for host in on_tls() {
                self.find(scope, Kind::Enforced, host, *code, || (text.clone(), vec![]));
            }
        }
        let newest = records.writer.as_ref().and_then(|writer| records.state.newest(writer));
        if let Some(newest) = newest.filter(|newest| *newest > now) {
            let at = &records.at;
            let scope = Place { policy: "", kind: Kind::Enforced, at, each_place: true };
            for host in on_tls() {
                self.find(scope, Kind::Enforced, host, Code::ClockBehindRecords, || {
                    (text::clock_behind(now, newest), vec![])
                });
            }
        }
    }

    /// What clients may hold against what is presented.
    fn check_live(&mut self, records: &'a Records, published: &Published<'a>, now: i64) {
        let hosts = &self.deployment.hosts;
        let mut unmet: Unmet<'a> = BTreeMap::new();
        let mut unknown: BTreeSet<usize> = BTreeSet::new();
        let mut known: HashMap<(Scope, &'a [Pin], usize), Met> = HashMap::new();
        let mut of_pins: HashMap<&'a [Pin], HashSet<Pin>> = HashMap::new();
        for sample in published.samples(hosts.len()) {
            let binding = published.binding(&sample);
            if binding.is_empty() {
                continue;
            }
            let named = published.routing.named(&sample);
            let fallback = if named.is_empty() {
                published.fallbacks(records.writer.as_ref(), &sample)
            } else {
                BTreeSet::new()
            };
            for (live, relation) in binding {
                let record = live.record;
                let said = &record.said;
                let is_ours = said.origin == Origin::Header
                    && records.writer.as_ref() == Some(&record.writer);
                let targets = match named.is_empty() {
                    false => &named,
                    // Whoever published a name and has it no more sends its clients to the default
                    // server; what others publish may well be served by them.
                    true if is_ours && relation == Relation::Own && said.host == sample.0 => {
                        &fallback
                    }
                    true => continue,
                };
                let at_port = targets.iter().filter(|at| said.port.is_none_or(|p| p == at.port));
                let targets: BTreeSet<usize> = at_port.map(|target| target.host).collect();
                for host in targets.into_iter().filter(|host| hosts[*host].tls) {
                    let shown = &published.shown[host];
                    if !shown.is_known {
                        unknown.insert(host);
                        continue;
                    }
                    let pins = of_pins
                        .entry(&said.pins)
                        .or_insert_with(|| said.pins.iter().copied().collect());
                    let met = *known
                        .entry((said.scope, &said.pins, host))
                        .or_insert_with(|| shown.meet(said.scope, pins));
                    let code = match (met, relation) {
                        (Met::Yes, _) => continue,
                        (Met::Partly, _)
                            if published.is_shown_as_then(&records.state, &live, host)
                                != Some(false) =>
                        {
                            Code::PublishedPinsPartlyMet
                        }
                        (_, Relation::Own) => Code::PublishedPinsUnmet,
                        (_, Relation::Above) => Code::SuperdomainPinsUnmet,
                    };
                    let code = match live.waiver {
                        Some(_) if code.class() == Class::Lockout => Code::Waived,
                        Some(_) => continue,
                        None => code,
                    };
                    let before = code.class() == Class::Lockout
                        && published.keys_are_as_before(&sample, host);
                    let found = unmet.entry((host, code, before)).or_default();
                    if !found.iter().any(|other| other.record.id == record.id) {
                        found.push(live);
                    }
                }
            }
        }
        self.report_unknown(records, &unknown);
        self.report_unmet(records, published, &unmet, now);
    }

    fn report_unmet(
        &mut self,
        records: &'a Records,
        published: &Published<'a>,
        unmet: &Unmet<'a>,
        now: i64,
    ) {
        for ((host, code, before), found) in unmet {
            let class = if *before { Class::Warning } else { code.class() };
            let group = text::group(found);
            let at = self.place(*host, records);
            let scope = Place { policy: &group, kind: Kind::Enforced, at, each_place: false };
            let chains = self.chains(*host);
            let deployment = self.deployment;
            self.find_as(scope, Kind::Enforced, *host, (*code, class), || {
                let unmet = text::Unmet {
                    records,
                    found,
                    chains: &chains,
                    shown: &published.shown[*host],
                    serving: &deployment.hosts[*host].serving,
                    before: *before,
                    now,
                };
                unmet.text(*code)
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
                    self.find(scope, Kind::Enforced, host, *code, || (text.clone(), vec![]));
                }
                match certificates {
                    Certificates::Loaded(_) => {}
                    Certificates::NotKnown => {
                        let code = Code::CertificateNotKnownAtLoad;
                        self.find(scope, Kind::Enforced, host, code, || {
                            (text::NOT_KNOWN.to_owned(), vec![])
                        });
                    }
                    Certificates::Unusable(code, text) => {
                        self.find(scope, Kind::Enforced, host, *code, || (text.clone(), vec![]));
                    }
                }
            }
        }
    }

    /// A client that notes a policy from one server meets the other servers of this configuration
    /// that have the name, on whatever port, and those below it where the policy binds them.
    fn check_same_host(&mut self, published: &Published<'a>, sent: &[Sent<'a>]) {
        let mut including: HashMap<&str, Vec<(usize, &Sample)>> = HashMap::new();
        for (index, one) in sent.iter().enumerate() {
            for sample in published.routing.names(one.host).keys() {
                let others = published.routing.named(sample);
                for Target { host, .. } in others {
                    self.compare(published, one, sample, sample, host, Code::SameHostPinsUnmet);
                }
                if one.policy.binds_subdomains() {
                    including.entry(sample.0.as_str()).or_default().push((index, sample));
                }
            }
        }
        if including.is_empty() {
            return;
        }
        for host in 0..self.deployment.hosts.len() {
            for below in published.routing.names(host).keys() {
                for (domain, under) in domains_above(below) {
                    for (index, sample) in including.get(domain).into_iter().flatten() {
                        let one = &sent[*index];
                        if published.binds_below(one.host, sample, under, below) {
                            let code = Code::SuperdomainPinsUnmet;
                            self.compare(published, one, sample, below, host, code);
                        }
                    }
                }
            }
        }
    }

    fn compare(
        &mut self,
        published: &Published<'a>,
        one: &Sent<'a>,
        noted: &Sample,
        visited: &Sample,
        other: usize,
        code: Code,
    ) {
        let (ours, theirs) = (&published.shown[one.host], &published.shown[other]);
        if one.host == other || !theirs.is_known || !self.deployment.hosts[other].tls {
            return;
        }
        if is_safe(ours, &theirs.certificates, &one.pins) {
            return;
        }
        let before = published.policy_is_as_before(noted, one.policy)
            && published.keys_are_as_before(visited, other);
        let class = if before { Class::Warning } else { code.class() };
        let scope = Place {
            policy: one.policy.name(),
            kind: Kind::Enforced,
            at: one.at,
            each_place: false,
        };
        let chains = self.chains(other);
        let label = self.deployment.hosts[other].label.as_str();
        self.find_as(scope, Kind::Enforced, one.host, (code, class), || {
            text::other_block(one.policy, noted, visited, label, &chains)
        });
    }

    /// New pins against the keys that other servers of the host present.
    fn check_elsewhere(
        &mut self,
        records: &'a Records,
        published: &Published<'a>,
        sent: &[Sent<'a>],
    ) {
        let is_other = |record: &&Record<Presents>| {
            records.state.end(record.id).is_none()
                && records.writer.as_ref() != Some(&record.writer)
        };
        let mut including: HashMap<&str, Vec<(usize, &Sample)>> = HashMap::new();
        for (index, one) in sent.iter().enumerate() {
            for sample in published.routing.names(one.host).keys() {
                let of = |name: &str| {
                    let all = published.presents_by_host.get(name).into_iter().flatten();
                    all.copied().filter(is_other)
                };
                let same: Vec<_> =
                    of(sample.0.as_str()).filter(|r| r.said.matching == sample.1).collect();
                let exact: HashSet<&WriterName> =
                    same.iter().map(|record| &record.writer).collect();
                // A writer that has the name by a pattern alone.
                let parent = sample.0.parents().next().filter(|_| sample.1 == Matching::Exact);
                let by_pattern = parent.into_iter().flat_map(of).filter(|record| {
                    record.said.matching == Matching::OneLabel && !exact.contains(&record.writer)
                });
                for record in same.iter().copied().chain(by_pattern) {
                    self.compare_elsewhere(published, one, sample, record);
                }
                if sample.1 == Matching::OneLabel || one.policy.binds_subdomains() {
                    including.entry(sample.0.as_str()).or_default().push((index, sample));
                }
            }
        }
        for record in published.presents_by_host.values().flatten().copied().filter(is_other) {
            let name = &record.said.host;
            let visited = (name.clone(), record.said.matching);
            for (domain, under) in domains_above(&visited) {
                for (index, sample) in including.get(domain).into_iter().flatten() {
                    let one = &sent[*index];
                    let is_below = one.policy.binds_subdomains()
                        && published.binds_below(one.host, sample, under, &visited);
                    // A host that we have by a pattern and they by its name.
                    let is_in_pattern = sample.1 == Matching::OneLabel
                        && visited.1 == Matching::Exact
                        && under == name.as_str()
                        && published.has(one.host, under);
                    if is_below || is_in_pattern {
                        self.compare_elsewhere(published, one, sample, record);
                    }
                }
            }
        }
    }

    fn compare_elsewhere(
        &mut self,
        published: &Published<'a>,
        one: &Sent<'a>,
        sample: &Sample,
        record: &'a Record<Presents>,
    ) {
        if is_safe(&published.shown[one.host], &record.said.certificates, &one.pins) {
            return;
        }
        let before = published.policy_is_as_before(sample, one.policy);
        let class = if before { Class::Warning } else { Class::Lockout };
        let scope = Place {
            policy: one.policy.name(),
            kind: Kind::Enforced,
            at: one.at,
            each_place: false,
        };
        self.find_as(scope, Kind::Enforced, one.host, (Code::ServedElsewhereUnmet, class), || {
            text::elsewhere(one.policy, record)
        });
    }

    /// A header that nobody remembers having sent.
    fn check_kept(&mut self, records: &Records, sent: &[Sent<'a>]) {
        if records.writer.is_some() {
            return;
        }
        for one in sent {
            let scope = Place {
                policy: one.policy.name(),
                kind: Kind::Enforced,
                at: one.at,
                each_place: false,
            };
            self.find(scope, Kind::Enforced, one.host, Code::PublishedPinsNotKept, || {
                (text::not_kept(one.policy), vec![])
            });
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

    fn chains(&self, host: usize) -> Vec<&'a crate::path::Chain> {
        let contexts = self.deployment.hosts[host].contexts.iter();
        contexts
            .filter_map(|context| match &self.deployment.contexts[*context].certificates {
                Certificates::Loaded(chains) => Some(chains),
                _ => None,
            })
            .flatten()
            .collect()
    }

    /// What is to be recorded of each host where the configuration is accepted.
    fn describe(&self, published: &Published<'a>, verdicts: &mut [HostVerdict]) {
        let Published { routing, shown, live, .. } = published;
        for (host, verdict) in verdicts.iter_mut().enumerate() {
            if !self.deployment.hosts[host].tls {
                continue;
            }
            for (sample, ports) in routing.names(host) {
                verdict.names.push(SeenName {
                    host: sample.0.clone(),
                    matching: sample.1,
                    except: excepted(routing, sample, host, self.deployment.hosts.len()),
                    ports: ports.iter().copied().collect(),
                    has_name: true,
                });
            }
        }
        // Names that clients know from this server and that the default server answers for now.
        let writer = self.deployment.records.as_ref().and_then(|records| records.writer.as_ref());
        let orphans: BTreeSet<Sample> = live
            .iter()
            .map(|live| live.record)
            .filter(|record| record.said.origin == Origin::Header && Some(&record.writer) == writer)
            .map(|record| (record.said.host.clone(), record.said.matching))
            .filter(|sample| routing.named(sample).is_empty())
            .collect();
        for sample in orphans {
            for Target { host, port } in published.fallbacks(writer, &sample) {
                verdicts[host].names.push(SeenName {
                    host: sample.0.clone(),
                    matching: sample.1,
                    except: Vec::new(),
                    ports: vec![port],
                    has_name: false,
                });
            }
        }
        for (verdict, shown) in verdicts.iter_mut().zip(shown) {
            if shown.is_known && !shown.certificates.is_empty() {
                verdict.presented = Some(shown.certificates.clone());
            }
        }
    }
}

/// The domains above the hosts of `sample`, each with the name one label below it on the way there;
/// that is empty for the hosts of a pattern below its own domain.
fn domains_above(sample: &Sample) -> impl Iterator<Item = (&str, &str)> {
    let name = sample.0.as_str();
    let itself = (sample.1 == Matching::OneLabel).then_some((name, ""));
    let unders = std::iter::once(name).chain(sample.0.parents());
    itself.into_iter().chain(sample.0.parents().zip(unders))
}

/// The names one label below a pattern's domain that other hosts have.
fn excepted(routing: &Routing<'_>, sample: &Sample, host: usize, hosts: usize) -> Vec<HostName> {
    if sample.1 != Matching::OneLabel {
        return Vec::new();
    }
    let others = (0..hosts).filter(|other| *other != host);
    let names: BTreeSet<&HostName> = others
        .flat_map(|other| routing.names(other).keys())
        .filter(|(name, matching)| {
            *matching == Matching::Exact && name.parents().next() == Some(sample.0.as_str())
        })
        .map(|(name, _)| name)
        .collect();
    names.into_iter().cloned().collect()
}
