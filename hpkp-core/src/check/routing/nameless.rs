//! Routing of clients who ignore the names in a certificate.

use std::collections::{BTreeMap, BTreeSet};

use super::{Claim, HostSet, Routing, Table, any_of, is_certificate_for, is_pattern};
use crate::check::listener::Choice;
use crate::published::Matching;

impl Routing<'_> {
    fn by_names(&self) -> impl Iterator<Item = &Table<'_>> {
        self.tables.iter().filter(|table| !table.listener.by_port_alone)
    }

    /// The blocks to which the server leads clients of a name, whether or not they accept the certificate there.
    pub(in crate::check) fn led_to(&self, host_set: &HostSet) -> impl Iterator<Item = Led<'_>> {
        let name = any_of(host_set).into_owned();
        self.by_names().map(move |table| table.led(name.as_str()))
    }

    /// The blocks of [`Self::led_to`] whose certificate no client accepts for the name.
    pub(in crate::check) fn unanswered(&self, host_set: &HostSet) -> Vec<Led<'_>> {
        let name = any_of(host_set);
        let is_answered =
            |table: &&Table<'_>| table.answer(self.deployment, host_set, name.as_str()).is_some();
        let tables = self.by_names().filter(|table| !is_answered(table));
        tables.map(|table| table.led(name.as_str())).collect()
    }

    /// The ports on which a server listens at several addresses.
    pub(in crate::check) fn shared_ports(&self) -> BTreeSet<u16> {
        let (mut ports, mut shared) = (BTreeSet::new(), BTreeSet::new());
        for port in self.by_names().map(|table| table.listener.port).filter(|port| *port != 0) {
            if !ports.insert(port) {
                shared.insert(port);
            }
        }
        shared
    }

    /// Whether all addresses of a port lead to a block.
    pub(in crate::check) fn is_everywhere(
        &self,
        host_set: &HostSet,
        host: usize,
        port: u16,
    ) -> bool {
        let name = any_of(host_set);
        let mut there = self.by_names().filter(|table| table.listener.port == port);
        there.all(|table| table.led(name.as_str()).host == host)
    }

    /// The blocks that have a wildcard for all hosts below a domain, but no certificate that is valid for them, with
    /// the ports.
    pub(in crate::check) fn misnamed(&self) -> Vec<(usize, HostSet, u16)> {
        let mut misnamed = Vec::new();
        for table in self.by_names().filter(|table| table.has_patterns()) {
            for (order, &host) in table.listener.hosts.iter().enumerate() {
                for name in &self.deployment.hosts[host].names {
                    let Some(domain) = below(table.listener.choice, name) else { continue };
                    let Ok(domain) = domain.parse() else { continue };
                    let host_set = (domain, Matching::OneLabel);
                    let name = any_of(&host_set).into_owned();
                    let is_asked = table
                        .named(name.as_str())
                        .is_some_and(|(other, _)| other == table.listener.hosts[order]);
                    if is_asked && !is_certificate_for(self.deployment, host, &host_set) {
                        misnamed.push((host, host_set, table.listener.port));
                    }
                }
            }
        }
        misnamed
    }

    /// The ports on which some block differs from another.
    pub(in crate::check) fn ports_where(
        &self,
        is_other: impl Fn(usize, usize) -> bool,
    ) -> BTreeSet<u16> {
        let mut ports = BTreeSet::new();
        let mut firsts = std::collections::HashMap::new();
        for table in self.by_names() {
            let port = table.listener.port;
            for &host in &table.listener.hosts {
                let first = *firsts.entry(port).or_insert(host);
                if !ports.contains(&port) && is_other(first, host) {
                    ports.insert(port);
                }
            }
        }
        ports
    }

    /// The blocks that answer for names that a record cannot express, with the ports.
    pub(in crate::check) fn answering_any(&self) -> impl Iterator<Item = (usize, u16)> + '_ {
        self.by_names().flat_map(move |Table { listener, .. }| {
            let is_recordable = |name: &String| {
                !is_pattern(listener.choice, name) || below(listener.choice, name).is_some()
            };
            let answers = move |host: &usize| {
                *host == listener.default
                    || !self.deployment.hosts[*host].names.iter().all(is_recordable)
            };
            let hosts = listener.hosts.iter().copied();
            hosts.filter(answers).map(|host| (host, listener.port))
        })
    }

    /// The addresses of a port on which a block answers for a set of hosts.
    pub(in crate::check) fn addresses(
        &self,
        host_set: &HostSet,
        host: usize,
        port: u16,
    ) -> BTreeSet<&str> {
        let all = self.led_at(host_set, host, port);
        all.filter(|(_, is_led)| *is_led).map(|(address, _)| address).collect()
    }

    /// All addresses of a port, with whether a block answers there for a set of hosts.
    pub(in crate::check) fn all_addresses(
        &self,
        host_set: &HostSet,
        host: usize,
        port: u16,
    ) -> BTreeMap<String, bool> {
        let all = self.led_at(host_set, host, port);
        all.map(|(address, is_led)| (address.to_owned(), is_led)).collect()
    }

    fn led_at(
        &self,
        host_set: &HostSet,
        host: usize,
        port: u16,
    ) -> impl Iterator<Item = (&str, bool)> {
        let name = any_of(host_set).into_owned();
        let there = self.tables.iter().filter(move |table| table.listener.port == port);
        there.filter_map(move |table| {
            let is_led =
                table.listener.hosts.contains(&host) && table.led(name.as_str()).host == host;
            Some((table.listener.address.as_deref()?, is_led))
        })
    }

    /// The addresses on which a server listens.
    pub(in crate::check) fn all_listening(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().filter_map(|table| table.listener.address.as_deref())
    }

    /// Whether a server listens on an address.
    pub(in crate::check) fn listens_on(&self, address: &str) -> bool {
        self.all_listening().any(|one| one == address)
    }
}

/// A block to which the server leads clients of a name.
#[derive(Clone, Copy, Debug)]
pub(in crate::check) struct Led<'b> {
    pub(in crate::check) host: usize,
    pub(in crate::check) port: u16,
    /// Why clients who ignore names are led there.
    pub(in crate::check) claim: Claim,
    pub(in crate::check) address: Option<&'b str>,
}

impl Table<'_> {
    fn led(&self, name: &str) -> Led<'_> {
        let (host, claim) = match self.named(name) {
            Some((host, _)) => (host, Claim::PatternOnly),
            None => (self.listener.default, Claim::AnyName),
        };
        let address = self.listener.address.as_deref();
        Led { host, port: self.listener.port, claim, address }
    }
}

/// The domain of a name that is a wildcard for all hosts below that domain.
fn below(choice: Choice, name: &str) -> Option<&str> {
    let domain = match choice {
        Choice::Nginx => name.strip_prefix("*.").or_else(|| name.strip_prefix('.'))?,
        Choice::Httpd => name.strip_prefix("*.")?,
    };
    (!domain.contains(['*', '?'])).then_some(domain)
}
