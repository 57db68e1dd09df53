//! Which server block answers for a name. This module repeats the server's own choice, because at the time of the check
//! the server has not built its tables yet.

mod nameless;

pub(super) use nameless::Led;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::listener::{Choice, Listener};
use super::{Certificates, Deployment, NotServedHere};
use crate::path::Chain;
use crate::published::{ANY_HOST, ANY_LABEL, HostName, Matching};
use crate::text::glob_fits;

/// A host, or all hosts of one label below it for which there is no entry of their own.
pub(super) type HostSet = (HostName, Matching);

/// Why a block answers for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claim {
    /// The block has the name.
    Name,
    /// The block has a pattern that matches the name, and a certificate that is valid for it.
    Pattern,
    /// No block there has the name, but the default server's certificate is valid for it: the certificate contains the
    /// name itself, or a wildcard if the default server has no name of its own.
    Certificate,
    /// No block there has the name. The default server has other names, and only a wildcard in its certificate matches
    /// this one. Another machine may well serve the host.
    Wildcard,
    /// Clients choose the block by its port, and its certificate is valid for the name.
    Port,
    /// Clients choose the block by its port and ignore names; its certificate is for another name.
    PortOnly,
    /// No block there has the name, and the certificate is for another name: only clients who ignore names accept it.
    AnyName,
    /// The block has a pattern that matches, and its certificate is for another name: only clients who ignore names
    /// accept it.
    PatternOnly,
}

impl Claim {
    /// Whether the block serves the name, so that it sends and records a header for it.
    pub(super) fn is_served(self) -> bool {
        matches!(self, Self::Name | Self::Pattern | Self::Certificate)
    }

    /// Whether clients may come to the block only by chance: pins that it does not match lock out only clients that it
    /// let in before.
    pub(super) fn is_incidental(self) -> bool {
        matches!(self, Self::Wildcard | Self::PortOnly | Self::AnyName | Self::PatternOnly)
    }

    /// Whether only clients who ignore names accept the certificate.
    pub(super) fn is_nameless(self) -> bool {
        matches!(self, Self::PortOnly | Self::AnyName | Self::PatternOnly)
    }

    /// The claim as it applies to clients who ignore names, or to those who compare them.
    pub(super) fn of_clients(self, ignore_names: bool) -> Self {
        match self {
            // These clients got whatever was presented on the port.
            Self::Port if ignore_names => Self::PortOnly,
            Self::Wildcard if ignore_names => Self::AnyName,
            // Clients who compare names got in only with a certificate for the name.
            Self::PortOnly if !ignore_names => Self::Wildcard,
            _ => self,
        }
    }
}

/// The names in the certificates of a block.
#[derive(Default)]
struct Certified {
    exact: HashSet<String>,
    /// The domains of wildcards.
    domains: HashSet<String>,
}

impl Certified {
    fn of(deployment: &Deployment, host: usize) -> Self {
        let mut certified = Self::default();
        for (name, matching) in certified_host_sets(deployment, host) {
            match matching {
                Matching::OneLabel => certified.domains.insert(name.as_str().to_owned()),
                _ => certified.exact.insert(name.as_str().to_owned()),
            };
        }
        certified
    }

    /// Whether the certificates are valid for a set of hosts: by the exact name or by a wildcard.
    fn matching(&self, host_set: &HostSet) -> Option<Matching> {
        let name = host_set.0.as_str();
        let has = match host_set.1 {
            Matching::OneLabel => self.domains.contains(name),
            _ if self.exact.contains(name) => return Some(Matching::Exact),
            _ => host_set.0.parents().next().is_some_and(|domain| self.domains.contains(domain)),
        };
        has.then_some(Matching::OneLabel)
    }
}

/// The names of one listener.
struct Table<'a> {
    listener: &'a Listener,
    /// Exact names, with the position of the block in the listener's order.
    exact: HashMap<String, usize>,
    /// nginx: names `*.DOMAIN`, by the domain.
    wildcard_start: HashMap<String, usize>,
    /// nginx: names that no block has, because one block has `.NAME` after another's `*.NAME`.
    spoilt: HashSet<String>,
    /// nginx: names `START.*`, by the start.
    wildcard_end: HashMap<String, usize>,
    /// httpd: names with `*` or `?`, in the order of the configuration.
    globs: Vec<(usize, String)>,
    /// The names in the certificates of the default server, which answers for every name that no block has, whether or
    /// not it has names of its own.
    certified: Certified,
    /// Whether the default server has a name of its own.
    is_named: bool,
}

/// A block that answers on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) host: usize,
    pub(super) port: u16,
    pub(super) is_udp: bool,
    pub(super) claim: Claim,
}

/// A name under which clients reach a block.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    pub(super) claim: Claim,
    pub(super) ports: BTreeSet<u16>,
}

pub(super) struct Routing<'a> {
    deployment: &'a Deployment,
    tables: Vec<Table<'a>>,
    /// Tables by their exact names.
    by_name: HashMap<String, Vec<usize>>,
    /// Tables with names that are not exact.
    with_patterns: Vec<usize>,
    /// Tables by the names in the certificates of their default servers.
    by_certificate: HashMap<String, Vec<usize>>,
    /// Tables by the wildcards in the certificates of their default servers, without `*.`.
    by_wildcard: HashMap<String, Vec<usize>>,
    /// Blocks with a pattern that matches some hosts of their wildcard certificate, by table. It is not known which
    /// hosts, so the blocks count for all of them.
    partly: HashMap<HostSet, Vec<(usize, usize)>>,
    /// Names that are served elsewhere, with the ports concerned; none means all ports.
    elsewhere: HashMap<HostSet, Vec<Option<u16>>>,
    /// The ports of names that are served elsewhere over UDP.
    elsewhere_by_udp: BTreeSet<(HostSet, u16)>,
    /// The names of each host that clients may reach, with the ports: names that the host serves, and names of other
    /// blocks for which it answers because of a wildcard in its certificate.
    names: Vec<BTreeMap<HostSet, Reached>>,
    /// The other names by which clients reach each host, for which it sends no header.
    asides: Vec<BTreeMap<HostSet, Reached>>,
}

impl<'a> Routing<'a> {
    pub(super) fn new(deployment: &'a Deployment) -> Self {
        let tables: Vec<Table<'a>> =
            deployment.listeners.iter().map(|listener| Table::new(listener, deployment)).collect();
        let mut routing = Self {
            deployment,
            by_name: HashMap::new(),
            with_patterns: (0..tables.len()).filter(|at| tables[*at].has_patterns()).collect(),
            by_certificate: HashMap::new(),
            by_wildcard: HashMap::new(),
            partly: HashMap::new(),
            elsewhere: HashMap::new(),
            elsewhere_by_udp: BTreeSet::new(),
            names: vec![BTreeMap::new(); deployment.hosts.len()],
            asides: vec![BTreeMap::new(); deployment.hosts.len()],
            tables,
        };
        for (index, table) in routing.tables.iter().enumerate() {
            let sets = [
                (
                    &mut routing.by_name,
                    &mut table.exact.keys() as &mut dyn Iterator<Item = &String>,
                ),
                (&mut routing.by_certificate, &mut table.certified.exact.iter()),
                (&mut routing.by_wildcard, &mut table.certified.domains.iter()),
            ];
            for (map, names) in sets {
                for name in names {
                    match map.get_mut(name) {
                        Some(tables) => tables.push(index),
                        None => drop(map.insert(name.clone(), vec![index])),
                    }
                }
            }
        }
        for one in &deployment.not_served_here {
            let host_set = (one.host.clone(), one.matching);
            match one.port.filter(|_| one.udp) {
                Some(port) => drop(routing.elsewhere_by_udp.insert((host_set, port))),
                None => routing.elsewhere.entry(host_set).or_default().push(one.port),
            }
        }
        routing.find_names();
        routing
    }

    /// Finds the names by which clients reach the blocks: exact names, and for blocks that also answer for other names
    /// those in their certificates, since a client can note pins for no others.
    fn find_names(&mut self) {
        let deployment = self.deployment;
        let parse = |names: &mut dyn Iterator<Item = &String>, matching| -> Vec<HostSet> {
            names.filter_map(|name| Some((name.parse().ok()?, matching))).collect()
        };
        let mut host_sets: BTreeSet<HostSet> = BTreeSet::new();
        host_sets.extend(parse(&mut self.by_name.keys(), Matching::Exact));
        host_sets.extend(parse(&mut self.by_certificate.keys(), Matching::Exact));
        host_sets.extend(parse(&mut self.by_wildcard.keys(), Matching::OneLabel));
        for &index in &self.with_patterns {
            let table = &self.tables[index];
            let choice = table.listener.choice;
            for (order, &host) in table.listener.hosts.iter().enumerate() {
                let names = &deployment.hosts[host].names;
                if !names.iter().any(|name| is_pattern(choice, name)) {
                    continue;
                }
                for host_set in certified_host_sets(deployment, host) {
                    if host_set.1 == Matching::OneLabel {
                        let fits =
                            names.iter().filter_map(|name| fitting(choice, name, &host_set.0));
                        let fits: BTreeSet<HostSet> = fits.collect();
                        if fits.contains(&host_set) && table.may_lead_to(order, &host_set) {
                            self.partly.entry(host_set.clone()).or_default().push((index, host));
                        }
                        host_sets.extend(fits);
                    }
                    host_sets.insert(host_set);
                }
            }
        }
        for host_set in host_sets {
            let answering = self.answering(&host_set);
            let is_ours = is_ours(&answering);
            for (table, host, claim) in answering {
                let names = match claim {
                    Claim::Wildcard if is_ours => &mut self.names[host],
                    // The wildcard itself is among the names.
                    Claim::Wildcard if host_set.1 != Matching::OneLabel => continue,
                    Claim::Wildcard
                    | Claim::Port
                    | Claim::PortOnly
                    | Claim::AnyName
                    | Claim::PatternOnly => &mut self.asides[host],
                    Claim::Name | Claim::Pattern | Claim::Certificate => &mut self.names[host],
                };
                reach(names, &host_set, claim, self.tables[table].listener.port);
                // A wildcard that another block has as well is also one of the default server's other names.
                if claim == Claim::Wildcard && is_ours && host_set.1 == Matching::OneLabel {
                    let port = self.tables[table].listener.port;
                    reach(&mut self.asides[host], &host_set, claim, port);
                }
            }
        }
        self.find_any_names();
    }

    /// Finds default servers that have no name, neither their own nor in a certificate, and answer for any name.
    fn find_any_names(&mut self) {
        for table in &self.tables {
            let host = table.listener.default;
            let is_any = (table.listener.by_port_alone || !table.is_named)
                && table.certified.exact.is_empty()
                && table.certified.domains.is_empty();
            if let Some(Ok(name)) = is_any.then(|| ANY_HOST.parse()) {
                let host_set = (name, Matching::Exact);
                reach(&mut self.asides[host], &host_set, Claim::Port, table.listener.port);
            }
        }
    }

    /// The names of a host, with its ports.
    pub(super) fn names(&self, host: usize) -> &BTreeMap<HostSet, Reached> {
        &self.names[host]
    }

    /// The names that a host serves, with its ports.
    pub(super) fn served(&self, host: usize) -> impl Iterator<Item = (&HostSet, &Reached)> {
        self.names[host].iter().filter(|(_, reached)| reached.claim.is_served())
    }

    /// The names for which a host answers without a header, with its ports.
    pub(super) fn asides(&self, host: usize) -> &BTreeMap<HostSet, Reached> {
        &self.asides[host]
    }

    /// Whether the operator declared that a name is served elsewhere on this port.
    pub(super) fn is_elsewhere(&self, host_set: &HostSet, port: u16) -> bool {
        if self.elsewhere.is_empty() {
            return false;
        }
        let ports = and_domain(host_set).filter_map(|host_set| self.elsewhere.get(&host_set));
        ports.flatten().any(|only| only.is_none_or(|only| only == port))
    }

    /// The same for clients that come over UDP.
    pub(super) fn is_elsewhere_by_udp(&self, host_set: &HostSet, port: u16) -> bool {
        self.is_elsewhere(host_set, port)
            || and_domain(host_set)
                .any(|host_set| self.elsewhere_by_udp.contains(&(host_set, port)))
    }

    /// The single names that are served elsewhere.
    pub(super) fn elsewhere(&self) -> impl Iterator<Item = &'a HostName> {
        let exact = self.deployment.not_served_here.iter();
        exact.filter(|one| one.matching == Matching::Exact && !one.udp).map(|one| &one.host)
    }

    /// The blocks that have a name although the operator declared that it is served elsewhere: on the declared port or
    /// on any port, and for UDP only on UDP listeners.
    pub(super) fn having(&self, one: &NotServedHere) -> BTreeSet<usize> {
        let name = one.host.as_str();
        let is_there = |table: &&Table<'_>| {
            one.port.is_none_or(|port| port == table.listener.port)
                && (!one.udp || table.listener.is_udp())
        };
        if one.matching == Matching::OneLabel {
            let tables = self.tables.iter().filter(is_there);
            return tables.filter_map(|table| table.wildcard(name)).collect();
        }
        let tables = self.by_name.get(name).into_iter().flatten();
        let tables = tables.map(|index| &self.tables[*index]);
        tables
            .filter(is_there)
            .filter_map(|table| table.named(name).filter(|(_, is_exact)| *is_exact))
            .map(|(host, _)| host)
            .collect()
    }

    /// The blocks that answer for a name, each with the reason.
    pub(super) fn targets(&self, host_set: &HostSet) -> Vec<Target> {
        let target = |(table, host, claim): (usize, usize, Claim)| {
            let listener = self.tables[table].listener;
            Target { host, port: listener.port, is_udp: listener.is_udp(), claim }
        };
        self.answering(host_set).into_iter().map(target).collect()
    }

    /// The other blocks that clients of `host` reach by the name. Listeners where `host` itself answers for some hosts
    /// of a pattern are left out, since its clients are led to no other block there.
    pub(super) fn beside(&self, host: usize, host_set: &HostSet) -> BTreeSet<usize> {
        let all = self.answering(host_set);
        let own: BTreeSet<usize> =
            all.iter().filter(|(_, other, _)| *other == host).map(|(table, ..)| *table).collect();
        let is_ours = is_ours(&all);
        let others = all.into_iter().filter(|(table, _, claim)| {
            !own.contains(table) && (claim.is_served() || is_ours && *claim == Claim::Wildcard)
        });
        others.map(|(_, other, _)| other).collect()
    }

    /// The default servers that clients of `host` reach by the name on other listeners only because of a wildcard in a
    /// certificate, if no block has the name.
    pub(super) fn aside(&self, host: usize, host_set: &HostSet) -> BTreeSet<usize> {
        let all = self.answering(host_set);
        if is_ours(&all) {
            return BTreeSet::new();
        }
        let asides =
            all.into_iter().filter(|(_, other, claim)| *other != host && *claim == Claim::Wildcard);
        asides.map(|(_, other, _)| other).collect()
    }

    /// Whether no name leads to a host on any of its listeners, because other blocks have all of its names.
    pub(super) fn is_unreached(&self, host: usize) -> bool {
        let names = &self.deployment.hosts[host].names;
        let mut tables =
            self.tables.iter().filter(|table| table.listener.hosts.contains(&host)).peekable();
        let is_led_to = |table: &Table<'_>, name: &String| {
            let name = name.to_ascii_lowercase().replace('*', ANY_LABEL).replace('?', "x");
            let name = name.strip_prefix('.').unwrap_or(&name);
            table.named(name).is_some_and(|(other, _)| other == host)
        };
        tables.peek().is_some()
            && tables.all(|table| {
                table.listener.default != host
                    && !table.listener.patterns.iter().any(|(other, _)| *other == host)
                    && !names.iter().any(|name| is_led_to(table, name))
            })
    }

    /// The blocks that answer for a name, each with its table and the reason.
    fn answering(&self, host_set: &HostSet) -> Vec<(usize, usize, Claim)> {
        let name = any_of(host_set);
        let of = |map: &'_ HashMap<String, Vec<usize>>, name: &str| -> Vec<usize> {
            map.get(name).cloned().unwrap_or_default()
        };
        let mut tables = self.with_patterns.clone();
        tables.extend(of(&self.by_name, name.as_str()));
        let domain = match host_set.1 {
            Matching::OneLabel => Some(host_set.0.as_str()),
            _ => {
                tables.extend(of(&self.by_certificate, name.as_str()));
                host_set.0.parents().next()
            }
        };
        tables.extend(domain.into_iter().flat_map(|domain| of(&self.by_wildcard, domain)));
        tables.sort_unstable();
        tables.dedup();
        let mut answering = Vec::with_capacity(tables.len());
        for index in tables {
            let answer = self.tables[index].answer(self.deployment, host_set, name.as_str());
            answering.extend(answer.map(|(host, claim)| (index, host, claim)));
        }
        let partly = self.partly.get(host_set).into_iter().flatten();
        answering.extend(
            partly.map(|(table, host)| (*table, *host, self.tables[*table].claim(Claim::Pattern))),
        );
        if !self.elsewhere.is_empty() {
            answering.retain(|(table, _, claim)| {
                let port = self.tables[*table].listener.port;
                *claim == Claim::Name || !self.is_elsewhere(host_set, port)
            });
        }
        answering
    }

    /// The blocks that clients choose by the port, and whether their certificates contain a name.
    pub(super) fn by_port(&self, port: u16) -> impl Iterator<Item = (usize, bool)> + '_ {
        let there = self.tables.iter().filter(move |table| {
            table.listener.by_port_alone
                && (table.listener.port == port || table.listener.port == 0)
        });
        there.map(|Table { listener, certified, .. }| {
            let has_names = !certified.exact.is_empty() || !certified.domains.is_empty();
            (listener.default, has_names)
        })
    }

    /// The hosts that must compare each request with a set of names, because clients also reach them by names for which
    /// they send no header: default servers with names of their own and a wildcard in their certificates, and blocks
    /// that answer for names that are served elsewhere.
    pub(super) fn needing_names(&self) -> BTreeSet<usize> {
        let mut hosts = BTreeSet::new();
        for table in self.tables.iter().filter(|table| !table.listener.by_port_alone) {
            let is_wild = table.is_named && !table.certified.domains.is_empty();
            if is_wild || !self.elsewhere.is_empty() {
                hosts.insert(table.listener.default);
            }
            if !self.elsewhere.is_empty() && table.has_patterns() {
                hosts.extend(&table.listener.hosts);
            }
        }
        hosts
    }
}

/// A host set, and for a single name also the set of all hosts one label below its domain.
fn and_domain(host_set: &HostSet) -> impl Iterator<Item = HostSet> {
    let parent = host_set.0.parents().next().filter(|_| host_set.1 == Matching::Exact);
    let parent = parent.and_then(|parent| Some((parent.parse().ok()?, Matching::OneLabel)));
    [Some(host_set.clone()), parent].into_iter().flatten()
}

/// Whether a block of this server has the name, and not only a certificate for it.
fn is_ours(answering: &[(usize, usize, Claim)]) -> bool {
    answering.iter().any(|(.., claim)| matches!(claim, Claim::Name | Claim::Pattern))
}

fn reach(names: &mut BTreeMap<HostSet, Reached>, host_set: &HostSet, claim: Claim, port: u16) {
    let new = || Reached { claim, ports: BTreeSet::new() };
    let reached = names.entry(host_set.clone()).or_insert_with(new);
    reached.ports.extend((port != 0).then_some(port));
}

impl<'a> Table<'a> {
    fn new(listener: &'a Listener, deployment: &Deployment) -> Self {
        let names = &deployment.hosts[listener.default].names;
        let mut table = Self {
            listener,
            exact: HashMap::new(),
            wildcard_start: HashMap::new(),
            spoilt: HashSet::new(),
            wildcard_end: HashMap::new(),
            globs: Vec::new(),
            certified: Certified::of(deployment, listener.default),
            is_named: names.iter().any(|name| name.parse::<HostName>().is_ok()),
        };
        if listener.by_port_alone && listener.hosts.len() == 1 {
            return table;
        }
        for (order, host) in listener.hosts.iter().enumerate() {
            for name in &deployment.hosts[*host].names {
                table.add(order, &name.to_ascii_lowercase());
            }
        }
        table
    }

    /// The block that answers for a set of hosts, of which `name` is one, and why. None if clients refuse its
    /// certificate for the name.
    fn answer(
        &self,
        deployment: &Deployment,
        host_set: &HostSet,
        name: &str,
    ) -> Option<(usize, Claim)> {
        match self.named(name) {
            Some((host, true)) => Some((host, self.claim(Claim::Name))),
            Some((host, false)) => is_certificate_for(deployment, host, host_set)
                .then_some((host, self.claim(Claim::Pattern))),
            None => {
                let claim = match self.certified.matching(host_set)? {
                    _ if self.listener.by_port_alone => Claim::Port,
                    Matching::OneLabel if self.is_named => Claim::Wildcard,
                    _ => Claim::Certificate,
                };
                Some((self.listener.default, claim))
            }
        }
    }

    /// The claim of a block on this listener. Clients of a server without HTTP come by the port, and hold no pins from
    /// a header.
    fn claim(&self, claim: Claim) -> Claim {
        if self.listener.by_port_alone { Claim::Port } else { claim }
    }

    fn add(&mut self, order: usize, name: &str) {
        if !self.listener.choice.finds(name) {
            return;
        }
        let mut exact = |name: &str| {
            if !self.spoilt.contains(name) {
                self.exact.entry(name.to_owned()).or_insert(order);
            }
        };
        if self.listener.choice == Choice::Httpd {
            if name.contains(['*', '?']) {
                self.globs.push((order, name.to_owned()));
            } else {
                exact(name);
            }
        } else if name.starts_with('~') {
            // Regular expressions are in the listener's `patterns`.
        } else if let Some(domain) = name.strip_prefix("*.") {
            self.wildcard_start.entry(domain.to_owned()).or_insert(order);
        } else if let Some(domain) = name.strip_prefix('.') {
            // nginx reports a conflict if an earlier block has either half of the name, and then ignores both halves.
            let is_had = self.exact.contains_key(domain);
            if !is_had && self.wildcard_start.contains_key(domain) {
                self.spoilt.insert(domain.to_owned());
            } else if !is_had {
                self.exact.insert(domain.to_owned(), order);
                self.wildcard_start.insert(domain.to_owned(), order);
            }
        } else if let Some(start) = name.strip_suffix(".*") {
            self.wildcard_end.entry(start.to_owned()).or_insert(order);
        } else {
            exact(name);
        }
    }

    fn has_patterns(&self) -> bool {
        !(self.wildcard_start.is_empty()
            && self.wildcard_end.is_empty()
            && self.globs.is_empty()
            && self.listener.patterns.is_empty())
    }

    /// The block that has `name`, and whether it has it exactly, not by a pattern.
    fn named(&self, name: &str) -> Option<(usize, bool)> {
        let exact = self.exact.get(name).copied();
        if self.listener.choice == Choice::Httpd {
            let fits = |(_, glob): &&(usize, String)| glob_fits(glob, name);
            let glob = self.globs.iter().find(fits).map(|(order, _)| *order);
            let exact = exact.filter(|exact| glob.is_none_or(|glob| *exact <= glob));
            let order = exact.or(glob);
            return order.map(|order| (self.listener.hosts[order], exact.is_some()));
        }
        if let Some(order) = exact {
            return Some((self.listener.hosts[order], true));
        }
        let dots = || name.match_indices('.').map(|(dot, _)| dot);
        let start = || self.below_wildcard(name);
        let end = || dots().rev().find_map(|dot| self.wildcard_end.get(&name[..dot]).copied());
        let host = start().or_else(end).map(|order| self.listener.hosts[order]).or_else(|| {
            let patterns = &self.listener.patterns;
            patterns.iter().find(|(_, pattern)| pattern.fits(name)).map(|(host, _)| *host)
        });
        host.map(|host| (host, false))
    }

    /// The block that has the wildcard for all names one label below `domain`.
    fn wildcard(&self, domain: &str) -> Option<usize> {
        let is_it = |(_, glob): &&(usize, String)| glob.strip_prefix("*.") == Some(domain);
        let glob = || self.globs.iter().find(is_it).map(|(order, _)| *order);
        let order = self.wildcard_start.get(domain).copied().or_else(glob)?;
        Some(self.listener.hosts[order])
    }

    /// nginx: the block with the longest wildcard at the start that fits.
    fn below_wildcard(&self, name: &str) -> Option<usize> {
        let mut dots = name.match_indices('.').map(|(dot, _)| dot);
        dots.find_map(|dot| self.wildcard_start.get(&name[dot + 1..]).copied())
    }

    /// Whether clients of some hosts may reach the block by a pattern: the block does not answer for all of the hosts,
    /// and no pattern that the server tries earlier matches all of them.
    fn may_lead_to(&self, order: usize, host_set: &HostSet) -> bool {
        let name = any_of(host_set);
        let name = name.as_str();
        if self.named(name).is_some_and(|(host, _)| host == self.listener.hosts[order]) {
            return false;
        }
        match self.listener.choice {
            Choice::Nginx => self.below_wildcard(name).is_none(),
            Choice::Httpd => {
                let mut before = self.globs.iter().take_while(|(other, _)| *other < order);
                !before.any(|(_, glob)| {
                    let rest = glob.strip_prefix('*');
                    rest.is_some_and(|rest| {
                        (rest.is_empty() || rest.starts_with('.'))
                            && !rest.contains(['*', '?'])
                            && name.ends_with(rest)
                    })
                })
            }
        }
    }
}

/// One host of a set of hosts.
pub(super) fn any_of(host_set: &HostSet) -> Cow<'_, HostName> {
    host_set.1.any_of(&host_set.0)
}

/// Whether a configured name is a pattern, not the name of a single host.
fn is_pattern(choice: Choice, name: &str) -> bool {
    match choice {
        Choice::Nginx => {
            name.starts_with(['~', '.']) || name.starts_with("*.") || name.ends_with(".*")
        }
        Choice::Httpd => name.contains(['*', '?']),
    }
}

/// The hosts one label below `domain` that a pattern may match: a single host, or the whole set if it is not known
/// which.
fn fitting(choice: Choice, name: &str, domain: &HostName) -> Option<HostSet> {
    let some = || (domain.clone(), Matching::OneLabel);
    let name = name.to_ascii_lowercase();
    if choice == Choice::Nginx {
        if name.starts_with('~') {
            return Some(some());
        }
        let start = name.strip_suffix(".*")?;
        let host = format!("{}.{domain}", start.split('.').next()?);
        let is_fit = host.strip_prefix(start).is_some_and(|rest| rest.starts_with('.'));
        return Some((host.parse().ok().filter(|_| is_fit)?, Matching::Exact));
    }
    let wildcard = name.rfind(['*', '?'])?;
    let label = name.split('.').next()?;
    if !label.contains(['*', '?']) {
        let host = format!("{label}.{domain}");
        let is_fit = glob_fits(&name, &host);
        return Some((host.parse().ok().filter(|_| is_fit)?, Matching::Exact));
    }
    let (tail, domain) = (&name[wildcard + 1..], format!(".{domain}"));
    // A host one label below has no dot before the domain.
    let is_one_label = tail.strip_suffix(&*domain).is_some_and(|rest| !rest.contains('.'));
    (is_one_label || domain.ends_with(tail)).then(some)
}

/// The names in the certificates that a host presents.
pub(super) fn certified_host_sets(
    deployment: &Deployment,
    host: usize,
) -> impl Iterator<Item = HostSet> + '_ {
    let names = deployment.chains(host).flat_map(|chain| {
        let leaf = chain.leaf();
        // A common name without a dot is seldom a host name.
        let is_meant = |name: &&String| !leaf.dns_names().is_empty() || name.contains('.');
        leaf.accepted_names().iter().filter(is_meant)
    });
    names.filter_map(|name| match name.strip_prefix("*.") {
        Some(domain) => Some((domain.parse().ok()?, Matching::OneLabel)),
        None => Some((name.parse().ok()?, Matching::Exact)),
    })
}

/// Whether a certificate of a host is valid for `host_set`. A certificate that is not known counts as valid.
fn is_certificate_for(deployment: &Deployment, host: usize, host_set: &HostSet) -> bool {
    let is_unknown = |context: &usize| {
        !matches!(deployment.contexts[*context].certificates, Certificates::Loaded(_))
    };
    if deployment.hosts[host].contexts.iter().any(is_unknown) {
        return true;
    }
    deployment.chains(host).any(|chain| is_leaf_for(chain, host_set))
}

/// Whether a certificate is valid for `host_set`.
pub(super) fn is_leaf_for(chain: &Chain, host_set: &HostSet) -> bool {
    let same = |name: &str, other: &str| name.trim_end_matches('.').eq_ignore_ascii_case(other);
    chain.leaf().accepted_names().iter().any(|name| match (name.strip_prefix("*."), host_set.1) {
        (Some(domain), Matching::OneLabel) => same(domain, host_set.0.as_str()),
        (Some(domain), _) => host_set.0.parents().next().is_some_and(|parent| same(domain, parent)),
        (None, Matching::OneLabel) => false,
        (None, _) => same(name, host_set.0.as_str()),
    })
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::listener::NamePattern;
    use super::*;
    use crate::check::Host;

    fn host(names: &[&str]) -> Host {
        Host::new(
            names.first().copied().unwrap_or_default().to_owned(),
            names.iter().map(|name| (*name).to_owned()).collect(),
            vec![],
        )
    }

    #[derive(Debug)]
    struct Contains(&'static str);

    impl NamePattern for Contains {
        fn fits(&self, name: &str) -> bool {
            name.contains(self.0)
        }
    }

    fn deployment(choice: Choice, names: &[&[&str]]) -> Deployment {
        Deployment {
            hosts: names.iter().map(|names| host(names)).collect(),
            listeners: vec![Listener {
                patterns: vec![(5, Rc::new(Contains("api")))],
                ..Listener::new(443, choice, (0..names.len()).collect(), 0)
            }],
            ..Deployment::default()
        }
    }

    fn chosen(deployment: &Deployment, name: &str) -> Option<usize> {
        let routing = Routing::new(deployment);
        routing.tables[0].named(name).map(|(host, _)| host)
    }

    #[test]
    fn nginx_takes_the_exact_name_then_the_longest_wildcard_then_a_regular_expression() {
        let deployment = deployment(
            Choice::Nginx,
            &[
                &["_"],
                &["*.example.com"],
                &["*.a.example.com", "www.*"],
                &["x.a.Example.com", "www.example.*"],
                &[".dot.example"],
                &["~api"],
                &["other.test.", "*.other.test.", ".third.test."],
            ],
        );
        for (name, host) in [
            ("x.a.example.com", Some(3)),
            ("y.a.example.com", Some(2)),
            ("z.y.a.example.com", Some(2)),
            ("a.example.com", Some(1)),
            ("example.com", None),
            ("www.example.com", Some(1)),
            ("www.example.net", Some(3)),
            ("www.other.net", Some(2)),
            ("dot.example", Some(4)),
            ("b.a.dot.example", Some(4)),
            ("my-api.test", Some(5)),
            ("my-api.example.com", Some(1)),
            ("other.test", None),
            ("www.other.test", Some(2)),
            ("a.other.test", None),
            ("third.test", None),
        ] {
            assert_eq!(chosen(&deployment, name), host, "{name}");
        }
    }

    #[test]
    fn httpd_takes_the_first_block_that_fits() {
        let mut deployment = deployment(
            Choice::Httpd,
            &[
                &["first.example"],
                &["a.example", "*.b.example"],
                &["x.b.example", "?.c.example"],
                &["d.example.", "*.d.example."],
            ],
        );
        deployment.listeners[0].patterns.clear();
        for (name, host) in [
            ("first.example", Some(0)),
            ("x.b.example", Some(1)),
            ("y.x.b.example", Some(1)),
            ("b.example", None),
            ("z.c.example", Some(2)),
            ("zz.c.example", None),
            ("d.example", None),
            ("x.d.example", None),
        ] {
            assert_eq!(chosen(&deployment, name), host, "{name}");
        }
    }

    #[test]
    fn a_glob_below_a_host_fits_no_host_of_the_wildcard_above() {
        let domain: HostName = "example.com".parse().unwrap();
        let fits = |glob| fitting(Choice::Httpd, glob, &domain).is_some();
        assert!(!fits("*.a.example.com"));
        assert!(fits("*a.example.com") && fits("*.example.com") && fits("*.com"));
    }
}
