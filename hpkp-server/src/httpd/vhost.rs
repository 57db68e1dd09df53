//! The main server and the virtual hosts, and which of them clients can reach.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hpkp_core::check::{Choice, Listener};
use hpkp_core::finding::Check;
use hpkp_core::sorted::distinct;
use hpkp_core::text::glob_fits;

use crate::setting::ServerSettings;

/// A server.
#[derive(Debug)]
pub struct Server<H> {
    /// The handle of its reader.
    pub handle: H,
    /// Its name in messages.
    pub label: String,
    /// Its name and its aliases, each once.
    pub names: Vec<String>,
    /// The names with wildcards in `ServerAlias`, which are also in `names`.
    patterns: Vec<String>,
    addresses: Vec<Address>,
    /// What the server does about a lock-out or an unsure answer.
    pub check: Check,
    /// Its directives.
    pub settings: ServerSettings,
    /// Whether any client can reach it. None can if earlier servers have all of its names.
    pub is_asked: bool,
}

/// The wildcard address that stands for all of them.
const ANY: &str = "0.0.0.0";

/// An address and port of `<VirtualHost>`. httpd chooses among the virtual hosts with the same address and port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The IP address without brackets.
    pub ip: String,
    /// 0 for all ports.
    pub port: u16,
}

impl Address {
    /// Whether it is a wildcard address.
    fn is_any(&self) -> bool {
        matches!(self.ip.as_str(), "0.0.0.0" | "::" | "255.255.255.255")
    }

    /// The address by which httpd chooses: it makes no difference between wildcard addresses.
    fn chosen(self) -> Self {
        if self.is_any() { Self { ip: ANY.to_owned(), ..self } } else { self }
    }

    /// The address in text form, with this port.
    fn on(&self, port: u16) -> String {
        match self.ip.as_str() {
            _ if self.is_any() => format!("*:{port}"),
            ip if ip.contains(':') => format!("[{ip}]:{port}"),
            ip => format!("{ip}:{port}"),
        }
    }
}

impl<H> Server<H> {
    /// A server with its name (`ServerName`; empty if it has none), its aliases, and its aliases with wildcards.
    #[must_use]
    pub fn new(
        handle: H,
        name: String,
        aliases: Vec<String>,
        patterns: Vec<String>,
        addresses: Vec<Address>,
        settings: ServerSettings,
    ) -> Self {
        let mut names: Vec<String> = Vec::new();
        for name in [name].into_iter().chain(aliases).chain(patterns.iter().cloned()) {
            if !name.is_empty() && !names.contains(&name) {
                names.push(name);
            }
        }
        let label = names.first().cloned().unwrap_or_else(|| {
            addresses.first().map_or_else(
                || "main server".to_owned(),
                |address| format!("{}:{}", address.ip, address.port),
            )
        });
        let check = settings.check.unwrap_or_default();
        let addresses = distinct(addresses.into_iter().map(Address::chosen));
        Self { handle, label, names, patterns, addresses, check, settings, is_asked: true }
    }

    /// Whether it is the main server, which alone has no addresses: httpd chooses it where no virtual host listens.
    pub(super) fn is_main(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Whether `name` leads to this server.
    #[must_use]
    pub fn answers_to(&self, name: &str) -> bool {
        self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
            || self.patterns.iter().any(|pattern| matches(pattern, name))
    }
}

/// Marks the servers that clients can reach. On each address httpd chooses the first server that has the name, or the
/// first of all servers for any other name. A server that is neither on any address is never chosen.
pub fn mark_asked<H>(all: &mut [Server<H>]) {
    let mut on_address: HashMap<Address, Vec<usize>> = HashMap::new();
    for (position, server) in all.iter().enumerate() {
        for address in &server.addresses {
            on_address.entry(address.clone()).or_default().push(position);
        }
    }
    let mut asked = vec![false; all.len()];
    for positions in on_address.values() {
        // The first server of each name. Without a table, many hosts on one address would take long.
        let mut taken: HashMap<String, usize> = HashMap::new();
        let mut with_patterns: Vec<usize> = Vec::new();
        for (order, &position) in positions.iter().enumerate() {
            let server = &all[position];
            let is_taken = |name: &String| {
                taken.contains_key(&name.to_ascii_lowercase())
                    || with_patterns.iter().any(|before| all[*before].answers_to(name))
            };
            let mut names = server.names.iter().filter(|name| Choice::Httpd.finds(name));
            if order == 0 || !names.all(is_taken) {
                asked[position] = true;
            }
            for name in &server.names {
                taken.entry(name.to_ascii_lowercase()).or_insert(position);
            }
            if !server.patterns.is_empty() {
                with_patterns.push(position);
            }
        }
    }
    for (server, asked) in all.iter_mut().zip(asked) {
        server.is_asked = asked || server.is_main();
    }
}

/// For each server, the servers whose certificates its clients get: the server itself, or if it has no TLS, the first
/// server on each of its addresses that is on TLS.
#[must_use]
pub fn presenting<H>(servers: &[Server<H>], is_tls: &[bool]) -> Vec<Vec<usize>> {
    let mut first: HashMap<&Address, usize> = HashMap::new();
    for (position, server) in servers.iter().enumerate() {
        for address in &server.addresses {
            first.entry(address).or_insert(position);
        }
    }
    let of = |(position, server): (usize, &Server<H>)| {
        if is_tls[position] {
            return vec![position];
        }
        let firsts = server.addresses.iter().map(|address| first[address]);
        distinct(firsts.filter(|first| is_tls[*first]))
    };
    servers.iter().enumerate().map(of).collect()
}

/// The addresses on TLS, each with the servers among which httpd chooses there. The settings of the first server decide
/// whether an address is on TLS. `listening` are the addresses of all `Listen` directives.
#[must_use]
pub fn listeners<H>(
    servers: &[Server<H>],
    is_tls: &[bool],
    listening: &BTreeSet<Address>,
) -> Vec<Listener> {
    let ports: BTreeSet<u16> = listening.iter().map(|one| one.port).collect();
    let mut on_address: BTreeMap<&Address, Vec<usize>> = BTreeMap::new();
    for (position, server) in servers.iter().enumerate() {
        for address in &server.addresses {
            on_address.entry(address).or_default().push(position);
        }
    }
    let mut listeners = Vec::new();
    let mut add = |address: &Address, port: u16, positions: &[usize]| {
        let Some(&default) = positions.first().filter(|first| is_tls[**first]) else { return };
        let receives = |one: &Address| {
            one.port == port && (one.is_any() || address.is_any() || one.ip == address.ip)
        };
        if !listening.iter().any(receives) {
            return;
        }
        listeners.push(Listener {
            address: Some(address.on(port)),
            ..Listener::new(port, Choice::Httpd, positions.to_vec(), default)
        });
    };
    // If each listening address has virtual hosts of its own, those with a wildcard address and the main server are
    // never chosen.
    let has_own = |one: &Address| {
        let has = |port| on_address.contains_key(&Address { ip: one.ip.clone(), port });
        !one.is_any() && (has(one.port) || has(0))
    };
    let is_hidden = |port: u16| {
        let mut there = listening.iter().filter(|one| one.port == port).peekable();
        there.peek().is_some() && there.all(has_own)
    };
    for (address, positions) in &on_address {
        match address.port {
            port if address.is_any() && is_hidden(port) => {}
            // A virtual host for all ports answers on the ports without virtual hosts of their own.
            0 => ports
                .iter()
                .filter(|port| {
                    !on_address.keys().any(|other| other.ip == address.ip && other.port == **port)
                })
                .filter(|port| !(address.is_any() && is_hidden(**port)))
                .for_each(|port| add(address, *port, positions)),
            port => add(address, port, positions),
        }
    }
    // The main server answers if no virtual host does.
    let is_covered = |port: &u16| {
        let covers =
            |address: &&Address| address.is_any() && (address.port == 0 || address.port == *port);
        is_hidden(*port) || on_address.keys().any(covers)
    };
    let any = Address { ip: ANY.to_owned(), port: 0 };
    ports.iter().filter(|port| !is_covered(port)).for_each(|port| add(&any, *port, &[0]));
    listeners
}

/// Whether `name` matches `pattern`, in which `*` stands for any bytes and `?` for one.
fn matches(pattern: &str, name: &str) -> bool {
    glob_fits(&pattern.to_ascii_lowercase(), &name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ip: &str, port: u16) -> Address {
        Address { ip: ip.to_owned(), port }
    }

    /// The addresses of the listeners, each with its default server, for virtual hosts with these addresses and a main
    /// server without TLS.
    fn asked(hosts: &[Address], listening: &[Address]) -> Vec<(String, usize)> {
        let server = |addresses| {
            let settings = ServerSettings::default();
            Server::new((), "a.example".to_owned(), vec![], vec![], addresses, settings)
        };
        let mut servers = vec![server(vec![])];
        servers.extend(hosts.iter().map(|address| server(vec![address.clone()])));
        let is_tls: Vec<bool> = (0..servers.len()).map(|position| position > 0).collect();
        let listeners = listeners(&servers, &is_tls, &listening.iter().cloned().collect());
        listeners.into_iter().map(|one| (one.address.unwrap_or_default(), one.default)).collect()
    }

    #[test]
    fn wildcard_hosts_are_chosen_on_addresses_without_hosts_of_their_own() {
        let any = || ("*:443".to_owned(), 2);
        let own = || ("127.0.0.1:443".to_owned(), 1);
        for port in [443, 0] {
            let hosts = [at("127.0.0.1", 443), at("0.0.0.0", port)];
            for (listening, is_hidden) in [
                (&[at("127.0.0.1", 443)][..], true),
                (&[at("127.0.0.1", 443), at("127.0.0.2", 443)], false),
                (&[at("::", 443)], false),
            ] {
                let mut found = asked(&hosts, listening);
                found.sort();
                let wanted = if is_hidden { vec![own()] } else { vec![any(), own()] };
                assert_eq!(found, wanted, "{port} {listening:?}");
            }
        }
    }
}
