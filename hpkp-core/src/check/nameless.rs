//! What clients get who ignore names, where no certificate is for the name that they ask for: those of a
//! port that compare nothing but the leaf (RFC 7671 section 5.1). It is on record, so that a later change
//! of it is noticed.

use std::collections::{BTreeMap, BTreeSet};

use super::Deployment;
use super::live::ignores_names;
use super::presented::PresentedKeys;
use super::records::{Published, Relation, names_of};
use super::routing::{ANY_HOST, Claim, HostSet, Led, Reached, Routing};
use super::unchanged::Visit;
use crate::published::state::{Live, Record};
use crate::published::{HostName, Matching, Presents};

/// By block, the names for which it answers only those who ignore names.
pub(super) type Nameless = Vec<BTreeMap<HostSet, Reached>>;

/// What all blocks answer for so.
///
/// A pattern stands for itself. Where blocks on a port present different certificates, what stands for
/// any name is recorded of default servers, and of blocks with patterns that no record can say; and of the
/// names that somebody holds pins of, each by itself.
pub(super) fn nameless(
    deployment: &Deployment,
    routing: &Routing<'_>,
    shown: &[PresentedKeys<'_>],
    live: &[Live<'_>],
) -> Nameless {
    let mut all = vec![BTreeMap::new(); shown.len()];
    let mut add = |host: usize, host_set: HostSet, claim: Claim, port: u16| {
        if deployment.hosts[host].tls && shown[host].is_known {
            let new = || Reached { claim, ports: BTreeSet::new() };
            let reached: &mut Reached = all[host].entry(host_set).or_insert_with(new);
            reached.ports.extend((port != 0).then_some(port));
        }
    };
    for (host, host_set, port) in routing.misnamed() {
        add(host, host_set, Claim::PatternOnly, port);
    }
    let is_other = |one: usize, other: usize| shown[one].certificates != shown[other].certificates;
    let ambiguous = routing.ports_where(is_other);
    if ambiguous.is_empty() {
        return all;
    }
    let any = ANY_HOST.parse::<HostName>();
    for (host, port) in routing.answering_any().filter(|(_, port)| ambiguous.contains(port)) {
        if let Ok(any) = &any {
            add(host, (any.clone(), Matching::Exact), Claim::AnyName, port);
        }
    }
    for live in live {
        let said = &live.record.body;
        if !ignores_names(said, Relation::Own) || said.matching != Matching::Exact {
            continue;
        }
        let host_set = (said.host.clone(), said.matching);
        for Led { host, port, claim, .. } in routing.led_to(&host_set) {
            if said.is_on(port)
                && ambiguous.contains(&port)
                && !routing.is_elsewhere(&host_set, port)
            {
                add(host, host_set.clone(), claim, port);
            }
        }
    }
    // What is on record with names is known.
    for (host, all) in all.iter_mut().enumerate() {
        all.retain(|host_set, reached| {
            let mut named = [routing.names(host), routing.asides(host)].into_iter();
            !named.any(|named| {
                named.get(host_set).is_some_and(|other| other.ports.is_superset(&reached.ports))
            })
        });
    }
    all
}

/// A place at which clients come, as far as records tell places apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place<'b> {
    /// 0 where it is a socket without a port, which is reached through something in front of it.
    pub(super) port: u16,
    /// The address, where different certificates were presented on different ones.
    pub(super) address: Option<&'b str>,
}

impl Published<'_> {
    /// The places of a block's ports, for those who visit `host_set`. One that is on no record is like
    /// those that it replaces: an address of all interfaces stands for each of them.
    pub(super) fn places<'b>(&'b self, visit: Visit<'_>, ports: &BTreeSet<u16>) -> Vec<Place<'b>> {
        let no_port = BTreeSet::from([0]);
        let ports = if ports.is_empty() { &no_port } else { ports };
        let mut places = Vec::new();
        for &port in ports {
            let before = places.len();
            if !self.addresses_last.is_empty() {
                for address in self.routing.addresses(visit.host_set, visit.host, port) {
                    let known = self.known_addresses(address);
                    places.extend(known.map(|one| Place { port, address: Some(one) }));
                }
            }
            if places.len() == before {
                places.push(Place { port, address: None });
            }
        }
        places
    }

    /// The addresses on record that an address stands for.
    fn known_addresses<'b>(&'b self, address: &'b str) -> impl Iterator<Item = &'b str> {
        let is_known = self.addresses_last.contains(address);
        let all = self.addresses_last.iter().copied();
        all.filter(move |one| {
            *one == address
                || stands_for(address, one) && !self.routing.listens_on(one)
                || !is_known && stands_for(one, address)
        })
    }

    /// Whether the last accepted configuration presented something for `host_set`, by its name or a
    /// pattern, at an address of a port.
    pub(super) fn was_at(&self, host_set: &HostSet, port: u16, address: Option<&str>) -> bool {
        let is_it =
            |one: &str| address.is_none_or(|address| one == address || stands_for(one, address));
        // Nobody came to an address at which nothing listened.
        let is_new = || address.is_some() && !self.addresses_last.iter().any(|one| is_it(one));
        let is_there = |record: &&Record<Presents>| {
            let addresses = &record.body.addresses;
            !record.body.aside
                && record.body.ports.contains(&port)
                && match addresses.is_empty() {
                    true => !is_new(),
                    false => addresses.iter().any(|one| is_it(one)),
                }
        };
        let mut before = names_of(host_set).filter_map(|name| self.presented_last.get(&name));
        before.any(|records| records.iter().any(is_there))
    }
}

/// Whether an address is that of all interfaces of the kind that another one has, with the same port.
fn stands_for(all: &str, one: &str) -> bool {
    let (Some((all, port)), Some((one, other))) = (all.rsplit_once(':'), one.rsplit_once(':'))
    else {
        return false;
    };
    port == other
        && match all {
            "0.0.0.0" => !one.starts_with('['),
            "[::]" => one.starts_with('['),
            all => all == "*",
        }
}
