//! The ports and addresses at which clients reach a block, as far as the records distinguish addresses.

use std::collections::BTreeSet;

use super::Alarm;
use super::records::{Published, names_of};
use super::route::{Place, Route};
use super::routing::HostSet;
use crate::published::Presents;
use crate::published::state::Record;

impl Published<'_> {
    /// The places at which clients of `host_set` reach a block on `ports`. An address without a record counts as the
    /// recorded addresses that it replaces: a wildcard address replaces each address of its port, and the reverse.
    pub(super) fn places<'b>(&'b self, route: Route<'_>, ports: &BTreeSet<u16>) -> Vec<Place<'b>> {
        let no_port = BTreeSet::from([0]);
        let ports = if ports.is_empty() { &no_port } else { ports };
        let mut places = Vec::new();
        for &port in ports {
            let before = places.len();
            if !self.addresses_last.is_empty() {
                for address in self.routing.addresses(route.host_set, route.host, port) {
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

    /// The recorded addresses that an address replaces.
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
        let known = address.map(|address| self.known_addresses(address).collect::<Vec<_>>());
        let is_it = |one: &str| known.as_ref().is_none_or(|known| known.contains(&one));
        // No client came to an address on which nothing listened. If no addresses are on record, a wildcard address
        // that still listens was probably there before.
        let is_new = || {
            address.is_some_and(|address| match self.addresses_last.is_empty() {
                true => !self.routing.all_listening().any(|all| stands_for(all, address)),
                false => known.as_ref().is_some_and(Vec::is_empty),
            })
        };
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

impl Alarm {
    /// Whether the alarm is one of those with which the running configuration serves the host: the same finding, for
    /// clients who reached the host before.
    pub(super) fn is_among(&self, accepted: &[Self]) -> bool {
        accepted.iter().any(|before| {
            before.code == self.code
                && before.name == self.name
                && self.addresses.iter().all(|(address, is_here)| {
                    let is_gone = |one: &&String| !self.addresses.contains_key(*one);
                    let absorbed = before.addresses.keys().filter(is_gone);
                    let mut all = absorbed.filter(|one| stands_for(address, one)).chain([address]);
                    !is_here || all.all(|one| before.is_at(one))
                })
        })
    }

    /// Whether clients who connect to an address reach the host.
    fn is_at(&self, address: &str) -> bool {
        let is_any = |(all, is_here): (&String, &bool)| *is_here && stands_for(all, address);
        match self.addresses.get(address) {
            Some(is_here) => *is_here,
            None => self.addresses.iter().any(is_any),
        }
    }
}

/// Whether `all` is the wildcard address for the address family and the port of `one`.
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
