//! The check against published pins: what clients may hold, from whomever, against what this
//! configuration presents, and its new pins against what others present.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::report::Scope as Place;
use super::routing::{Routing, Sample, Target};
use super::{
    Certificates, Checker, Context, Deployment, HostVerdict, SeenName, Sending,
    records_report as text,
};
use crate::finding::{Class, Code, Location};
use crate::header::Kind;
use crate::path::Paths;
use crate::pin::Pin;
use crate::policy::Policy;
use crate::published::state::{LastAccepted, Live, Record};
use crate::published::{
    HostName, Matching, Met, Origin, Presented, Presents, Scope, State, WriterName,
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
    pub(super) is_known: bool,
}

impl Shown {
    /// What the contexts present together.
    fn new(deployment: &Deployment, paths: &[Vec<Paths>], contexts: &[usize]) -> Self {
        let mut shown = Self { certificates: Vec::new(), is_known: true };
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
                        let identity = Some(chain.identity());
                        shown.certificates.push(Presented { served, keys, identity });
                    }
                    None => shown.is_known = false,
                }
            }
        }
        shown.certificates.sort();
        shown.certificates.dedup();
        shown
    }

    /// What its server sends, by which one presentation is told from another.
    pub(super) fn served(&self) -> BTreeSet<&[Option<Pin>]> {
        served(&self.certificates)
    }

    fn meet(&self, scope: Scope, pins: &[Pin]) -> Met {
        meet(&self.certificates, scope, pins)
    }
}

pub(super) fn served(certificates: &[Presented]) -> BTreeSet<&[Option<Pin>]> {
    certificates.iter().map(|certificate| certificate.served.as_slice()).collect()
}

/// How the pins, which are sorted, are met by the certificate that meets them least: a client chooses which it gets.
pub(super) fn meet(certificates: &[Presented], scope: Scope, pins: &[Pin]) -> Met {
    let meets =
        certificates.iter().map(|one| one.keys.meet(scope, |pin| pins.binary_search(&pin).is_ok()));
    meets.min().unwrap_or(Met::Yes)
}

/// The records found to be unmet by a host, by the code and whether it is a warning only.
type Unmet<'a> = BTreeMap<(usize, Code, bool), Vec<Live<'a>>>;

/// All that the checks below look at.
pub(super) struct Published<'a> {
    pub(super) routing: Routing<'a>,
    pub(super) shown: Vec<Shown>,
    pub(super) last: LastAccepted<'a>,
    live: Vec<Live<'a>>,
    live_by_host: HashMap<&'a str, Vec<usize>>,
    pub(super) presents_by_host: HashMap<&'a str, Vec<&'a Record<Presents>>>,
}

impl<'a> Published<'a> {
    pub(super) fn new(deployment: &'a Deployment, paths: &[Vec<Paths>], now: i64) -> Self {
        let routing = Routing::new(deployment);
        let hosts = deployment.hosts.iter();
        let shown = hosts.map(|host| Shown::new(deployment, paths, &host.contexts)).collect();
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

    /// The default servers on the ports on which clients of a writer know a name.
    fn fallbacks(&self, writer: Option<&WriterName>, sample: &Sample) -> BTreeSet<Target> {
        let presents = self.presents_by_host.get(sample.0.as_str()).into_iter().flatten();
        let ports: BTreeSet<u16> = presents
            .filter(|record| Some(&record.writer) == writer && record.said.matching == sample.1)
            .flat_map(|record| &record.said.ports)
            .copied()
            .collect();
        // What is behind a socket without a port may be reached on any.
        let is_known =
            |target: &Target| ports.is_empty() || target.port == 0 || ports.contains(&target.port);
        self.routing.defaults().filter(is_known).collect()
    }

    /// Whether a host presents for `sample`, on each of `ports`, what the last accepted configuration
    /// did.
    pub(super) fn keys_are_as_before(
        &self,
        sample: &Sample,
        host: usize,
        ports: &BTreeSet<u16>,
    ) -> bool {
        // Without a port it is reached through something in front of it.
        let no_port = BTreeSet::from([0]);
        let ports = if ports.is_empty() { &no_port } else { ports };
        ports.iter().all(|port| {
            let is_same = self.is_as_recorded(sample, host, *port);
            is_same.unwrap_or_else(|| self.whole_host_is_as_before(sample, host, *port))
        })
    }

    /// Whether the last accepted configuration presented what a host presents and published this
    /// very policy, if there is one, for all its names.
    pub(super) fn is_as_before(&self, host: usize, policy: Option<&Policy>) -> bool {
        let names = self.routing.names(host);
        let is_same = |(sample, ports): (&Sample, &BTreeSet<u16>)| {
            self.keys_are_as_before(sample, host, ports)
                && policy.is_none_or(|policy| self.policy_is_as_before(sample, policy))
        };
        !names.is_empty() && names.iter().all(is_same)
    }

    /// A name that the records have for somebody else, and that a pattern of this host fits, is as
    /// before where the whole host is. One that the host has got since then is new.
    fn whole_host_is_as_before(&self, sample: &Sample, host: usize, port: u16) -> bool {
        let names = self.routing.names(host);
        let mut there = names.iter().filter(|(_, ports)| ports.contains(&port)).peekable();
        there.peek().is_some()
            && !names.contains_key(sample)
            && there.all(|(name, _)| self.is_as_recorded(name, host, port) == Some(true))
    }

    /// Whether a host presents what the last accepted configuration presented to those who visit
    /// `sample`, by that name or by the pattern that it fitted. `None` where it had neither.
    fn is_as_recorded(&self, sample: &Sample, host: usize, port: u16) -> Option<bool> {
        let presents = &self.last.presents;
        let parent = sample.0.parents().next().filter(|_| sample.1 == Matching::Exact);
        let parent: Option<HostName> = parent.and_then(|parent| parent.parse().ok());
        let by_pattern =
            || parent.as_ref().and_then(|parent| presents.get(&(parent, Matching::OneLabel)));
        let before = presents.get(&(&sample.0, sample.1)).or_else(by_pattern)?;
        // Where the port is a new one, the name may have moved.
        let is_there = |record: &Record<Presents>| record.said.ports.contains(&port);
        let has_port = before.iter().any(|record| is_there(record));
        let mut before = before.iter().filter(|record| !has_port || is_there(record));
        let shown = self.shown[host].served();
        Some(before.any(|record| served(&record.said.certificates) == shown))
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
    /// All checks that look beyond one host and its own policy. Headers that a lock-out was found
    /// for are taken out of `sending`.
    pub(super) fn check_published(
        &mut self,
        sending: &mut [Option<Sending>],
        now: i64,
    ) -> Vec<HostVerdict> {
        let deployment = self.deployment;
        let mut verdicts = vec![HostVerdict::default(); deployment.hosts.len()];
        let Some(published) = self.published else { return verdicts };
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
        self.describe(published, &mut verdicts);
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

    /// What is wrong with the files themselves.
    fn check_files(&mut self, records: &'a Records, published: &Published<'a>, now: i64) {
        let deployment = self.deployment;
        let on_tls =
            || (0..deployment.hosts.len()).filter(|position| deployment.hosts[*position].tls);
        for (code, text, at) in &records.problems {
            let scope = Place { policy: "", kind: Kind::Enforced, at, each_place: true };
            for host in on_tls() {
                // What is as it was locks nobody out who was not locked out before.
                let class = match code {
                    Code::PublishedPinsUnreadable if self.is_as_before(published, host) => {
                        Class::Warning
                    }
                    _ => code.class(),
                };
                self.find_as(scope, Kind::Enforced, host, (*code, class), || {
                    (text.clone(), vec![])
                });
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

    /// Whether a host presents what the last accepted configuration did, and publishes no other
    /// pins.
    fn is_as_before(&self, published: &Published<'a>, host: usize) -> bool {
        let Some(policy_use) = &self.deployment.hosts[host].enforced else {
            return published.is_as_before(host, None);
        };
        let policy = self.policies.get(policy_use.policy.as_str());
        policy.is_some_and(|policy| published.is_as_before(host, Some(policy)))
    }

    /// What clients may hold against what is presented.
    fn check_live(&mut self, records: &'a Records, published: &Published<'a>, now: i64) {
        let hosts = &self.deployment.hosts;
        let mut unmet: Unmet<'a> = BTreeMap::new();
        let mut unknown: BTreeSet<usize> = BTreeSet::new();
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
                let mut ports: BTreeMap<usize, BTreeSet<u16>> = BTreeMap::new();
                // A socket without a port may be reached at any, through something in front of it.
                let is_at = |at: &&Target| said.port.is_none_or(|p| at.port == 0 || p == at.port);
                for target in targets.iter().filter(is_at) {
                    ports.entry(target.host).or_default().insert(target.port);
                }
                for (host, ports) in ports.into_iter().filter(|(host, _)| hosts[*host].tls) {
                    let shown = &published.shown[host];
                    if !shown.is_known {
                        unknown.insert(host);
                        continue;
                    }
                    let met = shown.meet(said.scope, &said.pins);
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
                        && published.keys_are_as_before(&sample, host, &ports);
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
                    Certificates::NotKnown { why, remedy } => {
                        let code = Code::CertificateNotKnownAtLoad;
                        self.find(scope, Kind::Enforced, host, code, || {
                            (text::not_known(why, remedy), vec![])
                        });
                    }
                    Certificates::Later(why) => {
                        let code = Code::CertificateCheckedAtStart;
                        self.find(scope, Kind::Enforced, host, code, || {
                            (text::at_start(why), vec![])
                        });
                    }
                    Certificates::Unusable(code, text) => {
                        self.find(scope, Kind::Enforced, host, *code, || (text.clone(), vec![]));
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
                    ports: (port != 0).then_some(port).into_iter().collect(),
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
