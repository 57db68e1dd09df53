//! Compares new pins with the other certificates that clients who note them will get: from other blocks of this
//! configuration, and from other servers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::messages::Scope as Place;
use super::presented::{Enough, PresentedKeys, meet};
use super::records::Published;
use super::route::Route;
use super::routing::{Claim, HostSet, Reached};
use super::slots::Got;
use super::unchanged::lets_in;
use super::{Alarm, Checker, Records, Sending, record_messages as text};
use crate::finding::{Class, Code, Location};
use crate::header::Kind;
use crate::path::Chain;
use crate::pin::Pin;
use crate::policy::Policy;
use crate::published::state::Record;
use crate::published::{EventId, Matching, PinValidation, Presented, Presents, Scope, WriterName};

/// A policy whose header is going to be sent.
pub(super) struct Sent<'a> {
    pub(super) host: usize,
    pub(super) policy: &'a Policy,
    at: &'a Location,
    /// Sorted.
    pins: Vec<Pin>,
}

/// The certificates in `theirs` that a client may refuse after it noted `pins` from a host. A client that gets the same
/// certificates from both builds the path that matched the pins.
fn refusing<'b>(
    ours: &'b PresentedKeys<'_>,
    theirs: &'b [Presented],
    pins: &'b [Pin],
) -> impl Iterator<Item = Got<'b>> {
    Got::each(theirs).filter(move |got| {
        match meet(std::slice::from_ref(got.one), Scope::Chain, pins) {
            PinValidation::Succeeds => false,
            PinValidation::DependsOnPath => !got.is_slot_unchanged(&ours.certificates, |_| true),
            PinValidation::Fails => true,
        }
    })
}

impl Published<'_> {
    /// Whether a block answers for a name.
    fn has(&self, host: usize, name: &str) -> bool {
        name.parse().is_ok_and(|name| {
            let targets = self.routing.targets(&(name, Matching::Exact));
            targets.iter().any(|target| target.host == host && target.claim.is_served())
        })
    }

    /// Whether `includeSubDomains` in the policy that a host publishes for `host_set` binds `visited`, which is below
    /// its domain. `under` is the name on the way to `visited` that is one label below the domain.
    pub(super) fn binds_below(
        &self,
        host: usize,
        host_set: &HostSet,
        under: &str,
        visited: &HostSet,
    ) -> bool {
        match host_set.1 {
            // A pattern binds only what is below one of its own hosts, not these hosts and not those of other blocks.
            Matching::OneLabel => {
                !under.is_empty()
                    && (under, Matching::Exact) != (visited.0.as_str(), visited.1)
                    && self.has(host, under)
            }
            _ => true,
        }
    }
}

impl<'a> Checker<'a> {
    /// The policies whose pins clients are about to note.
    pub(super) fn sent(&self, sending: &[Option<Sending>]) -> Vec<Sent<'a>> {
        let uses = self.uses(Kind::Enforced).filter(|(host, _)| {
            sending[*host].as_ref().is_some_and(|sending| sending.header.is_some())
        });
        uses.filter_map(|(host, policy_use)| {
            let policy = *self.policies.get(policy_use.policy.as_str())?;
            // Clients forget pins with max-age=0 at once.
            policy.max_age().filter(|age| age.seconds() > 0)?;
            let pins = policy.sorted_pins();
            Some(Sent { host, policy, at: &policy_use.at, pins })
        })
        .collect()
    }

    /// Compares policies with the other blocks of this configuration that have the same name on any port, or a name
    /// that the policy binds by `includeSubDomains`.
    pub(super) fn check_same_host(&mut self, published: &Published<'a>, sent: &[Sent<'a>]) {
        let mut including: HashMap<&str, Vec<(usize, &HostSet)>> = HashMap::new();
        for (index, one) in sent.iter().enumerate() {
            for (host_set, _) in published.routing.served(one.host) {
                let was_published = published.was_published(host_set, one.policy);
                let code = (Code::SameHostPinMismatch, was_published);
                for host in published.routing.beside(one.host, host_set) {
                    self.compare(published, one, (host_set, host_set), (host, false), code);
                }
                for host in published.routing.aside(one.host, host_set) {
                    self.compare(published, one, (host_set, host_set), (host, true), code);
                }
                if one.policy.binds_subdomains() {
                    including.entry(host_set.0.as_str()).or_default().push((index, host_set));
                }
            }
        }
        if including.is_empty() {
            return;
        }
        for host in 0..self.deployment.hosts.len() {
            let names = published.routing.names(host).keys().map(|below| (below, false));
            let asides = published.routing.asides(host).iter();
            let asides = asides.filter(|(_, reached)| reached.claim == Claim::Wildcard);
            let asides = asides.map(|(below, _)| (below, true));
            for (below, is_aside) in names.chain(asides) {
                for (domain, under) in domains_above(below) {
                    for (index, host_set) in including.get(domain).into_iter().flatten() {
                        let one = &sent[*index];
                        if published.binds_below(one.host, host_set, under, below) {
                            // If the policy is published for a pattern, the host above may be new in the pattern.
                            let noted = under.parse().ok().map(|name| (name, Matching::Exact));
                            let noted = noted.filter(|_| host_set.1 == Matching::OneLabel);
                            let noted = noted.as_ref().unwrap_or(host_set);
                            let was_published = published.was_published(noted, one.policy);
                            let code = (Code::SuperdomainPinsUnmet, was_published);
                            self.compare(published, one, (host_set, below), (host, is_aside), code);
                        }
                    }
                }
            }
        }
    }

    /// Compares a policy that clients noted for the name `noted` with the certificates that the block `other` presents
    /// for `visited`. `was_published` says whether the last accepted configuration published the policy for `noted`.
    /// If `is_aside`, clients may not come to that block: it gets a warning once, while the policy is new, because
    /// afterwards the pins are on record.
    fn compare(
        &mut self,
        published: &Published<'a>,
        one: &Sent<'a>,
        (noted, visited): (&HostSet, &HostSet),
        (other, is_aside): (usize, bool),
        (code, was_published): (Code, bool),
    ) {
        let (ours, theirs) = (&published.presented[one.host], &published.presented[other]);
        if one.host == other || !theirs.is_known || !self.deployment.hosts[other].tls {
            return;
        }
        let reached = published.routing.names(other).get(visited);
        // If the block does not have the name, clients refuse a certificate that is not valid for it anyway.
        let has_name = reached.is_some_and(|reached| reached.claim == Claim::Name);
        let mut refusing = refusing(ours, &theirs.certificates, &one.pins)
            .filter(|got| has_name || theirs.is_for(*got, visited))
            .peekable();
        if refusing.peek().is_none() || is_aside && was_published {
            return;
        }
        let enough = [Enough::Pins(Scope::Chain, one.pins.clone())];
        let is_kept = |Reached { claim, ports }: &Reached| {
            let let_in = lets_in(&enough);
            let route = Route { host_set: visited, host: other, claim: *claim };
            refusing.all(|got| published.is_kept(route, ports, got, &let_in))
        };
        let before = is_aside || was_published && reached.is_some_and(is_kept);
        let class = if before { Class::Warning } else { code.class() };
        let scope = Place {
            policy: one.policy.name(),
            kind: Kind::Enforced,
            at: one.at,
            each_place: false,
        };
        let chains: Vec<&Chain> = self.deployment.chains(other).collect();
        let label = self.deployment.hosts[other].label.as_str();
        let alarm = Alarm::new(code, Some((visited.0.clone(), visited.1, None)));
        self.find_for(scope, Kind::Enforced, one.host, (code, class, false), vec![alarm], || {
            text::other_block(one.policy, noted, visited, label, &chains)
        });
    }

    /// Compares new pins with the keys that other servers present for the host, including stopped servers that may
    /// return.
    pub(super) fn check_elsewhere(
        &mut self,
        records: &'a Records,
        published: &Published<'a>,
        sent: &[Sent<'a>],
    ) {
        let mut unmet: Elsewhere<'a> = BTreeMap::new();
        let is_other = |record: &&Record<Presents>| {
            records.state.is_presented(record)
                && records.writer.as_ref() != Some(&record.writer)
                // That server warns by itself, once it has read the record of these pins.
                && !record.body.aside
        };
        let mut including: HashMap<&str, Vec<(usize, &HostSet)>> = HashMap::new();
        for (index, one) in sent.iter().enumerate() {
            for (host_set, _) in published.routing.served(one.host) {
                let of = |name: &str| {
                    let all = published.presents_by_host.get(name).into_iter().flatten();
                    all.copied().filter(is_other)
                };
                let same: Vec<_> =
                    of(host_set.0.as_str()).filter(|r| r.body.matching == host_set.1).collect();
                let exact: HashSet<&WriterName> =
                    same.iter().map(|record| &record.writer).collect();
                // Records of writers that have the name only by a pattern.
                let parent = host_set.0.parents().next().filter(|_| host_set.1 == Matching::Exact);
                let by_pattern = parent.into_iter().flat_map(of).filter(|record| {
                    record.body.matching == Matching::OneLabel && !exact.contains(&record.writer)
                });
                for record in same.iter().copied().chain(by_pattern) {
                    compare_elsewhere(published, index, one, host_set, record, &mut unmet);
                }
                if host_set.1 == Matching::OneLabel || one.policy.binds_subdomains() {
                    including.entry(host_set.0.as_str()).or_default().push((index, host_set));
                }
            }
        }
        for record in published.presents_by_host.values().flatten().copied().filter(is_other) {
            let name = &record.body.host;
            let visited = (name.clone(), record.body.matching);
            for (domain, under) in domains_above(&visited) {
                for (index, host_set) in including.get(domain).into_iter().flatten() {
                    let one = &sent[*index];
                    let is_below = one.policy.binds_subdomains()
                        && published.binds_below(one.host, host_set, under, &visited);
                    // The other server has the host by its name, this one by a pattern.
                    let is_in_pattern = host_set.1 == Matching::OneLabel
                        && visited.1 == Matching::Exact
                        && under == name.as_str()
                        && published.has(one.host, under);
                    // The pattern may be published already, and this name of it be new.
                    let noted = if is_in_pattern { &visited } else { *host_set };
                    if is_below || is_in_pattern {
                        compare_elsewhere(published, *index, one, noted, record, &mut unmet);
                    }
                }
            }
        }
        self.report_elsewhere(records, sent, &unmet);
    }

    /// Reports one finding for each policy, with all records that it does not match.
    fn report_elsewhere(&mut self, records: &Records, sent: &[Sent<'a>], unmet: &Elsewhere<'a>) {
        let mut all: BTreeMap<(&str, bool), BTreeMap<EventId, &Record<Presents>>> = BTreeMap::new();
        for ((index, before), (found, _)) in unmet {
            let name = sent[*index].policy.name();
            all.entry((name, *before)).or_default().extend(found);
        }
        for ((index, before), (_, noted)) in unmet {
            let one = &sent[*index];
            let class = if *before { Class::Warning } else { Class::Lockout };
            let scope = Place {
                policy: one.policy.name(),
                kind: Kind::Enforced,
                at: one.at,
                each_place: false,
            };
            let code = Code::PeerServerPinMismatch;
            let alarm =
                |host_set: &HostSet| Alarm::new(code, Some((host_set.0.clone(), host_set.1, None)));
            let alarms = noted.iter().map(alarm).collect();
            self.find_for(scope, Kind::Enforced, one.host, (code, class, false), alarms, || {
                let found = all.get(&(one.policy.name(), *before));
                let found: Vec<_> = found.into_iter().flat_map(BTreeMap::values).copied().collect();
                text::elsewhere(one.policy, records, &found)
            });
        }
    }

    /// Reports headers whose pins no record will remember.
    pub(super) fn check_kept(&mut self, sent: &[Sent<'a>]) {
        if self.deployment.records.as_ref().is_some_and(|records| records.writer.is_some()) {
            return;
        }
        let directive = self.deployment.names.published_pins;
        for one in sent {
            let scope = Place {
                policy: one.policy.name(),
                kind: Kind::Enforced,
                at: one.at,
                each_place: false,
            };
            self.find(scope, Kind::Enforced, one.host, Code::PublishedPinsNoWriter, || {
                text::no_writer(one.policy, directive)
            });
        }
    }
}

/// What other servers present that a policy does not match, and the names for which clients note the policy. The key is
/// the position of the policy, and whether it was published before.
type Elsewhere<'a> =
    BTreeMap<(usize, bool), (BTreeMap<EventId, &'a Record<Presents>>, BTreeSet<HostSet>)>;

fn compare_elsewhere<'a>(
    published: &Published<'a>,
    index: usize,
    one: &Sent<'a>,
    host_set: &HostSet,
    record: &'a Record<Presents>,
    unmet: &mut Elsewhere<'a>,
) {
    let ours = &published.presented[one.host];
    if refusing(ours, &record.body.certificates, &one.pins).next().is_some() {
        let before = published.was_published(host_set, one.policy);
        let (found, noted) = unmet.entry((index, before)).or_default();
        found.insert(record.id, record);
        noted.insert(host_set.clone());
    }
}

/// The domains above the hosts of `host_set`, each with the name one label below it on the way to these hosts. That
/// name is empty for a pattern and its own domain.
pub(super) fn domains_above(host_set: &HostSet) -> impl Iterator<Item = (&str, &str)> {
    let name = host_set.0.as_str();
    let itself = (host_set.1 == Matching::OneLabel).then_some((name, ""));
    let unders = std::iter::once(name).chain(host_set.0.parents());
    itself.into_iter().chain(host_set.0.parents().zip(unders))
}
