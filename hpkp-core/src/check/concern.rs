//! Which records can concern a configuration: with thousands of other machines, most records are about hosts
//! that have nothing to do with those that are served here.
//!
//! The selection may include a record that concerns nothing, and never leaves out one that does. It is therefore
//! coarse: it ignores on which port or address a name is served, and takes every name of any block or certificate.

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

use super::Deployment;
use super::listener::{Choice, NamePattern};
use super::routing::certified_host_sets;
use crate::published::index::{ByPort, Index, IndexError};
use crate::published::{ANY_LABEL, Matching, State};
use crate::text::glob_fits;

/// The names that concern a configuration, and the ports of clients that come by a port alone.
#[derive(Clone, Debug, Default)]
pub struct Concern {
    /// Whether all records concern the configuration.
    is_all: bool,
    /// Hosts, and the domains above them.
    hosts: HashSet<String>,
    /// The names of blocks, certificates and records, without the domains above.
    names: HashSet<String>,
    /// Domains for which all hosts below are included.
    domains: HashSet<String>,
    /// nginx: names ending in `.*`, without that ending.
    starts: HashSet<String>,
    /// httpd: names with `*` and `?`.
    globs: BTreeSet<String>,
    patterns: Vec<Rc<dyn NamePattern>>,
    /// None if all ports.
    ports: Option<BTreeSet<u16>>,
}

impl Concern {
    /// All records.
    #[must_use]
    pub fn all() -> Self {
        Self { is_all: true, ..Self::default() }
    }

    /// Whether it is all records.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.is_all
    }

    /// Only what concerns every configuration, and the state of the writers.
    #[must_use]
    pub fn none() -> Self {
        Self { ports: Some(BTreeSet::new()), ..Self::default() }
    }

    /// What concerns a configuration, whatever its records are.
    #[must_use]
    pub fn of(deployment: &Deployment) -> Self {
        let mut concern = Self::none();
        for listener in &deployment.listeners {
            concern.add_port(listener.port);
            concern.patterns.extend(listener.patterns.iter().map(|(_, pattern)| pattern.clone()));
            for host in &listener.hosts {
                for name in &deployment.hosts[*host].names {
                    concern.add_pattern(listener.choice, &name.to_ascii_lowercase());
                }
            }
            // A guarded default server chooses its certificates for names that are not known before the handshake.
            concern.is_all |= deployment.guarded.contains(&listener.default);
        }
        let policies = deployment.policies_by_name();
        for (position, host) in deployment.hosts.iter().enumerate() {
            let binds_below = [&host.enforced, &host.report_only].into_iter().flatten().any(|of| {
                policies.get(of.policy.as_str()).is_some_and(|policy| policy.binds_subdomains())
            });
            for name in &host.names {
                concern.add_name(name, binds_below);
            }
            for (name, matching) in certified_host_sets(deployment, position) {
                concern.add(name.as_str(), binds_below || matching != Matching::Exact);
            }
        }
        for one in &deployment.not_served_here {
            concern.add(one.host.as_str(), one.matching != Matching::Exact);
        }
        for uri in deployment.policies.iter().filter_map(|policy| policy.spec.report_uri.as_ref()) {
            concern.add(uri.host(), false);
        }
        concern
    }

    /// Adds the names of this machine's own records: a host that answered for a name before may
    /// have matched pins of that name.
    pub fn add_recorded(&mut self, state: &State) {
        for record in state.published() {
            self.add(record.body.host.as_str(), record.body.matching != Matching::Exact);
            record.body.port.into_iter().for_each(|port| self.add_port(port));
        }
        for record in state.withheld() {
            self.add(record.body.host.as_str(), record.body.matching != Matching::Exact);
        }
        for record in state.presents() {
            self.add(record.body.host.as_str(), record.body.matching != Matching::Exact);
            record.body.ports.iter().for_each(|port| self.add_port(*port));
            // Clients may reach a Unix socket through any port of a proxy in front of it.
            if record.body.ports.is_empty() {
                self.add_port(0);
            }
        }
    }

    /// Also includes all hosts below its names.
    pub fn add_all_below(&mut self) {
        self.domains.extend(self.names.iter().cloned());
    }

    /// Adds a name of a certificate or of a server, which may be a wildcard.
    pub fn add_name(&mut self, name: &str, is_domain: bool) {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
            Some(domain) => self.add(domain, true),
            None => self.add(&name, is_domain),
        }
    }

    fn add(&mut self, name: &str, is_domain: bool) {
        if is_domain {
            self.domains.insert(name.to_owned());
        }
        self.names.insert(name.to_owned());
        let mut rest = name;
        // If a name is already in the set, so are the domains above it.
        while self.hosts.insert(rest.to_owned()) {
            let Some((_, above)) = rest.split_once('.') else { break };
            rest = above;
        }
    }

    fn add_pattern(&mut self, choice: Choice, name: &str) {
        match choice {
            Choice::Nginx => {
                if let Some(start) = name.strip_suffix(".*").filter(|_| !name.starts_with('~')) {
                    self.starts.insert(start.to_owned());
                }
            }
            Choice::Httpd if name.contains(['*', '?']) => {
                self.globs.insert(name.to_owned());
            }
            Choice::Httpd => {}
        }
    }

    fn add_port(&mut self, port: u16) {
        match &mut self.ports {
            _ if port == 0 => self.ports = None,
            Some(ports) => ports.extend([port]),
            None => {}
        }
    }

    /// Whether records of a host may concern the configuration; `by_port` describes clients that
    /// come by a port alone.
    #[must_use]
    pub fn has(&self, host: &str, by_port: ByPort) -> bool {
        self.is_all || self.has_port(by_port) || self.has_host(host)
    }

    fn has_port(&self, by_port: ByPort) -> bool {
        match (by_port, &self.ports) {
            (ByPort::None, _) => false,
            (ByPort::Any, Some(ports)) => !ports.is_empty(),
            (ByPort::Port(port), Some(ports)) => ports.contains(&port),
            (_, None) => true,
        }
    }

    fn has_host(&self, host: &str) -> bool {
        if self.hosts.contains(host) {
            return true;
        }
        let dots = || host.match_indices('.').map(|(dot, _)| dot);
        (!self.domains.is_empty() && dots().any(|dot| self.domains.contains(&host[dot + 1..])))
            || self.fits(host)
    }

    /// Adds the hosts in `state` and `index` that concern the configuration only by a pattern or a port, so that
    /// records of the domains above them are included as well.
    ///
    /// # Errors
    /// Those of the index.
    pub fn complete(&mut self, state: &State, index: Index<'_>) -> Result<(), IndexError> {
        let has_ports = self.ports.as_ref().is_none_or(|all| !all.is_empty());
        if self.is_all || !has_ports && !self.has_patterns() {
            return Ok(());
        }
        for (host, by_port) in state.hosts() {
            self.add_found(host.as_str(), by_port);
        }
        index.for_each_host(|host, by_port| self.add_found(host, by_port))
    }

    fn add_found(&mut self, host: &str, by_port: ByPort) {
        if !self.hosts.contains(host) && (self.has_port(by_port) || self.fits(host)) {
            self.add(host, false);
        }
    }

    fn has_patterns(&self) -> bool {
        !(self.starts.is_empty() && self.globs.is_empty() && self.patterns.is_empty())
    }

    /// Whether a pattern matches the host, or some host one label below it.
    fn fits(&self, host: &str) -> bool {
        if !self.has_patterns() {
            return false;
        }
        let is_start = |dot: usize| self.starts.contains(&host[..dot]);
        if host.match_indices('.').any(|(dot, _)| is_start(dot)) {
            return true;
        }
        let below = format!("{ANY_LABEL}.{host}");
        [host, &below].into_iter().any(|name| {
            self.globs.iter().any(|glob| glob_fits(glob, name))
                || self.patterns.iter().any(|pattern| pattern.fits(name))
        })
    }

    /// Whether all records that concern `other` also concern this configuration, as far as names tell.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let has_ports = match (&self.ports, &other.ports) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => own.is_superset(other),
        };
        self.is_all
            || !other.is_all
                && has_ports
                && self.hosts.is_superset(&other.hosts)
                && self.domains.is_superset(&other.domains)
                && self.starts.is_superset(&other.starts)
                && self.globs.is_superset(&other.globs)
                && self.patterns.len() >= other.patterns.len()
    }
}
