//! The checks beyond one host and its own policy: compares the pins that clients may hold with what this
//! configuration presents, and reports problems of the record files.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::dane_check::Notes;
use super::messages::Scope as Place;
use super::presented::enough;
use super::records::{Published, Relation};
use super::route::Route;
use super::routing::{Claim, HostSet, any_of};
use super::{Alarm, Certificates, Checker, Context, Records, Sending, record_messages as text};
use crate::finding::{Class, Code, Location};
use crate::header::Kind;
use crate::path::Chain;
use crate::published::state::Live;
use crate::published::{Configuration, EventId, WriterName};

/// Records whose pins a host does not match, and the names concerned.
#[derive(Default)]
struct UnmetRecords<'a> {
    found: Vec<Live<'a>>,
    known: HashSet<EventId>,
    names: BTreeSet<(HostSet, u16)>,
}

impl<'a> UnmetRecords<'a> {
    fn add(&mut self, live: Live<'a>, host_set: &HostSet, ports: &BTreeSet<u16>) {
        if self.known.insert(live.record.id) {
            self.found.push(live);
        }
        self.names.extend(ports.iter().map(|port| (host_set.clone(), *port)));
    }
}

/// The result of comparing all records with all hosts.
#[derive(Default)]
struct Comparison<'a> {
    unmet: UnmetByHost<'a>,
    /// The hosts whose certificates are not known.
    unknown: BTreeSet<usize>,
    /// Names for which nothing listens on a port where clients hold pins.
    unlistened: BTreeSet<String>,
    /// Names whose pinned ports are closed.
    closed: BTreeSet<String>,
    dane: Notes<'a>,
}

/// Unmet records by the host, the code, the class, and why the host answers for the names.
type UnmetByHost<'a> = BTreeMap<(usize, Code, Class, Claim), UnmetRecords<'a>>;

impl<'a> Checker<'a> {
    /// Runs all checks beyond one host and its own policy, and removes the headers of hosts with a lock-out from
    /// `sending`.
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

    pub(super) fn withhold(&self, sending: &mut [Option<Sending>]) {
        for (host, sending) in sending.iter_mut().enumerate() {
            let is_withheld = self.withheld.contains(&(host, Kind::Enforced));
            if let Some(sending) = sending.as_mut().filter(|_| is_withheld) {
                sending.header = None;
            }
        }
    }

    /// Reports what is wrong with the record files themselves.
    fn check_files(&mut self, records: &'a Records, published: &Published<'a>, now: i64) {
        let deployment = self.deployment;
        let on_tls =
            || (0..deployment.hosts.len()).filter(|position| deployment.hosts[*position].tls);
        for (code, text, at) in &records.problems {
            // Each problem is a finding of its own, even if several have the same code.
            let scope = Place { policy: &text.what, kind: Kind::Enforced, at, each_place: true };
            for host in on_tls() {
                // An unchanged host locks out nobody who was not locked out before.
                let (class, why) = match code {
                    Code::RecordsUnreadable
                    | Code::RecordsUnsafePermissions
                    | Code::RecordsMissing => {
                        let class = self.class_of_files(records, published, *code, host);
                        (class, text::not_refused(class))
                    }
                    _ => (code.class(), None),
                };
                self.find_as(scope, Kind::Enforced, host, (*code, class), || {
                    text.clone().details(why.map(str::to_owned))
                });
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

    /// The class of a finding about unusable records, for one host.
    fn class_of_files(
        &self,
        records: &Records,
        published: &Published<'a>,
        code: Code,
        host: usize,
    ) -> Class {
        // If nobody knows what was published, the digest tells whether the policies are the same.
        let is_same = published.unrecorded == Some(true);
        let is_pinning = self.deployment.hosts[host].enforced.is_some();
        match is_same || self.is_host_unchanged(published, host) {
            // The server's own records cannot be read, so its pins cannot be recorded either.
            true if is_same && records.writer.is_none() && is_pinning => Class::Withhold,
            true => Class::Warning,
            false => code.class(),
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

    /// Compares the pins that clients may hold with what is presented.
    fn check_live(&mut self, records: &'a Records, published: &Published<'a>, now: i64) {
        let mut found = Comparison::default();
        for host_set in published.host_sets(self.deployment.hosts.len()) {
            let binding = published.binding(&host_set);
            if !binding.is_empty() {
                self.compare_name(records, published, &host_set, &binding, &mut found);
                self.report_still_sent(records, published, &host_set, &binding);
            }
        }
        self.report_unknown(records, &found.unknown);
        self.report_dane(records, found.dane);
        self.report_unmet(records, published, found.unmet, now);
        let directive = self.deployment.names.not_served_here;
        if !found.unlistened.is_empty() {
            let names: Vec<String> = found.unlistened.into_iter().collect();
            self.find_of_none(&records.at, Code::PublishedPinsPortNotServed, || {
                text::unlistened(&names, directive)
            });
        }
        if !found.closed.is_empty() {
            let names: Vec<String> = found.closed.into_iter().collect();
            self.find_of_none(&records.at, Code::PinnedPortClosed, || {
                text::closed(&names, directive)
            });
        }
    }

    /// Whether a TLS server has no certificate, so that it refuses every handshake.
    fn refuses_handshakes(&self, host: usize) -> bool {
        let host = &self.deployment.hosts[host];
        host.tls && host.contexts.is_empty()
    }

    /// Compares the records that bind `host_set` with the blocks to which their clients are led.
    fn compare_name(
        &self,
        records: &'a Records,
        published: &Published<'a>,
        host_set: &HostSet,
        binding: &[(Live<'a>, Relation)],
        found: &mut Comparison<'a>,
    ) {
        let targets = published.routing.targets(host_set);
        let entries = entries_of_configurations(binding);
        for &(live, relation) in binding {
            let record = &live.record.body;
            let same = record.configuration.and_then(|of| entries.get(&(of, &live.record.writer)));
            let enough = enough(record, &any_of(host_set), same.into_iter().flatten().copied());
            let mut led = published.led_to(&targets, host_set, live, relation);
            // A server that refuses the handshake lets nobody in.
            led.retain(|(host, _), _| !self.refuses_handshakes(*host));
            let mut is_gone = led.is_empty();
            if led.keys().all(|(_, claim)| matches!(claim, Claim::AnyName | Claim::PatternOnly)) {
                let names = published.unlistened(&targets, host_set, live, relation);
                is_gone &= names.is_none();
                found.unlistened.extend(names);
            }
            for ((host, claim), ports) in led {
                if !self.deployment.hosts[host].tls {
                    continue;
                }
                if !published.presented[host].is_known {
                    found.unknown.insert(host);
                    let route = Route { host_set, host, claim };
                    if published.loses_all(route, &ports, live, &enough) {
                        let code = relation.unmet();
                        let key = (host, code, code.class(), claim);
                        found.unmet.entry(key).or_default().add(live, host_set, &ports);
                    }
                    continue;
                }
                let held = (live, relation, &enough[..]);
                let fault = published.judge(records, host_set, held, (host, claim), &ports);
                found.dane.note(published, &live, fault, (host, host_set), &enough);
                if let Some((code, class)) = fault {
                    let unmet = found.unmet.entry((host, code, class, claim)).or_default();
                    unmet.add(live, host_set, &ports);
                }
            }
            let removed = published.removed(records, &targets, host_set, live, &enough);
            if relation == Relation::Own && is_gone && removed.is_empty() {
                found.closed.extend(published.closed(host_set, live, &enough));
            }
            for (host, port) in removed {
                if !published.presented[host].is_known {
                    found.unknown.insert(host);
                    continue;
                }
                let code = Code::RemovedHostPinsUnmet;
                let unmet = found.unmet.entry((host, code, code.class(), Claim::Name)).or_default();
                unmet.add(live, host_set, &BTreeSet::from([port]));
            }
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
        // All records of the hosts of one finding, for the command that it prints.
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
            // Clients that note the header now would refuse the certificate that the others accept, when it is put
            // back. So a header that was withheld for them stays so until their pins expire, they are given up, or the policy changes.
            let is_kept = before
                && code.class() == Class::Lockout
                && published.unrecorded.is_none()
                && self.is_withheld_before(host);
            let class = if is_kept { Class::Lockout } else { class };
            let at = self.place(host, records);
            let scope = Place { policy: &group, kind: Kind::Enforced, at, each_place: false };
            let chains: Vec<&Chain> = self.deployment.chains(host).collect();
            let deployment = self.deployment;
            let alarm = |(host_set, port): &(HostSet, u16)| Alarm {
                addresses: published.routing.all_addresses(host_set, host, *port),
                ..Alarm::new(code, Some((host_set.0.clone(), host_set.1, Some(*port))))
            };
            let alarms = unmet.names.iter().map(alarm).collect();
            self.find_for(scope, Kind::Enforced, host, (code, class, is_kept), alarms, || {
                let unmet = text::UnmetPins {
                    records,
                    found: &unmet.found,
                    all: together.get(&key).map_or(unmet.found.as_slice(), Vec::as_slice),
                    names: &unmet.names,
                    claim,
                    label: &deployment.hosts[host].label,
                    directives: &deployment.names,
                    chains: &chains,
                    presented: &published.presented[host],
                    serving: &deployment.hosts[host].serving,
                    before,
                    is_kept,
                    now,
                };
                unmet.text(code)
            });
        }
    }

    /// Reports hosts for which clients hold pins and whose certificates are not known. A host with a policy has a
    /// finding about that already.
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
                    Certificates::NotKnown { why, remedy }
                        if self.deployment.guarded.contains(&host) =>
                    {
                        let code = Code::CertificateCheckedAtHandshake;
                        self.find(scope, Kind::Enforced, host, code, || {
                            text::at_handshake(why, remedy)
                        });
                    }
                    Certificates::NotKnown { why, remedy }
                    | Certificates::Temporary { why, remedy } => {
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
}

/// The entries by client configuration and writer. A client may need only one entry of a configuration, but entries
/// of another writer never count for it.
pub(super) fn entries_of_configurations<'b>(
    binding: &'b [(Live<'_>, Relation)],
) -> HashMap<(Configuration, &'b WriterName), Vec<&'b crate::published::Published>> {
    let mut entries: HashMap<_, Vec<_>> = HashMap::new();
    for (live, _) in binding {
        if let Some(configuration) = live.record.body.configuration {
            let of = (configuration, &live.record.writer);
            entries.entry(of).or_default().push(&live.record.body);
        }
    }
    entries
}

/// What hosts must have in common to share a finding.
fn group_of(unmet: &UnmetRecords<'_>, code: Code, claim: Claim) -> String {
    let mut group = text::group(&unmet.found);
    if !matches!(claim, Claim::Name | Claim::Pattern) || code == Code::RemovedHostPinsUnmet {
        // The label does not contain the host names, so the text names them.
        unmet.names.iter().for_each(|(host_set, _)| group.push_str(host_set.0.as_str()));
    }
    group
}

/// Merges findings about the names in a default server's certificate into those about its own names.
fn merged(mut all: UnmetByHost<'_>) -> UnmetByHost<'_> {
    let is_by_certificate =
        |(.., claim): &&(usize, Code, Class, Claim)| *claim == Claim::Certificate;
    let keys: Vec<_> = all.keys().filter(is_by_certificate).copied().collect();
    for (host, code, class, claim) in keys {
        let own = (host, code, class, Claim::Name);
        let more = all.contains_key(&own).then(|| all.remove(&(host, code, class, claim)));
        if let (Some(more), Some(unmet)) = (more.flatten(), all.get_mut(&own)) {
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
