//! Compares the certificates that the server presents before and after an install. A reload command that
//! succeeds does not prove that the server has reloaded.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hpkp_core::certificate::Certificate;
use hpkp_core::ua::host::Host;

use super::report::{ServedView, Stop};
use crate::arguments::{InstallArguments, PortProtocol, Starttls};
use crate::presented::{self, Address};

/// The time limit of one connection.
const CONNECTION: Duration = Duration::from_secs(3);
/// The interval between two queries.
const PAUSE: Duration = Duration::from_millis(50);
/// How often in a row the server must present only new certificates. During a reload, old and new processes
/// respond for a moment.
const STEADY: u32 = 2;
/// The most names of the certificate that are queried.
const MAX_NAMES: usize = 16;

/// A server to query.
#[derive(Debug)]
pub(crate) struct Endpoint {
    address: Address,
    servername: Host,
    /// The protocol before TLS.
    starttls: Option<Starttls>,
    /// Whether the operator named the server.
    pub(crate) is_named: bool,
    /// The leaves that the server presented before the install, in DER.
    before: Vec<Vec<u8>>,
}

/// The old and the new leaves, in DER, in the order of the pairs.
#[derive(Debug, Default)]
pub(crate) struct Leaves {
    pub(crate) old: Vec<Vec<u8>>,
    pub(crate) new: Vec<Vec<u8>>,
}

/// The servers that the operator named.
///
/// # Errors
/// An argument is not a server.
pub(crate) fn named(
    arguments: &InstallArguments,
    leaf: &Certificate,
) -> Result<Vec<Endpoint>, Stop> {
    let of = |text: &String| {
        let address = Address::parse(text).ok_or_else(|| {
            Stop::usage(format!(
                "\"{}\" is not a server; --served takes HOST or HOST:PORT",
                hpkp_core::text::Excerpt::new(text)
            ))
        })?;
        let servername = match &address.host {
            Host::Name(name) if leaf.is_for(name.as_str()) => address.host.clone(),
            _ => server_name(leaf).unwrap_or_else(|| address.host.clone()),
        };
        let starttls = PortProtocol::of(&arguments.starttls, address.port);
        Ok(Endpoint { address, servername, starttls, is_named: true, before: Vec::new() })
    };
    arguments.served.iter().map(of).collect()
}

/// The servers on this machine that may present the certificate: its names, on the ports in the records and
/// on port 443. DNS is not queried, because it may lead to another machine.
pub(crate) fn derived(
    leaf: &Certificate,
    named: &[PortProtocol],
    ports: impl Fn(&str) -> Vec<u16>,
) -> impl Iterator<Item = Endpoint> {
    let names = leaf.accepted_names().iter().filter(|name| !name.starts_with("*.")).take(MAX_NAMES);
    let mut endpoints = Vec::new();
    for name in names {
        let Ok(servername @ Host::Name(_)) = Host::parse(name) else { continue };
        let mut all = ports(name);
        if !all.contains(&443) {
            all.push(443);
        }
        for port in all {
            endpoints.extend(local_addresses().into_iter().filter_map(|address| {
                let address = Address { host: Host::parse(&address.to_string()).ok()?, port };
                let (servername, starttls) = (servername.clone(), PortProtocol::of(named, port));
                Some(Endpoint {
                    address,
                    servername,
                    starttls,
                    is_named: false,
                    before: Vec::new(),
                })
            }));
        }
    }
    endpoints.into_iter()
}

impl Endpoint {
    /// Queries the server before the install. Says whether it presents one of the old certificates.
    pub(crate) fn look_before(&mut self, old: &[Vec<u8>]) -> bool {
        self.before = self.leaves().unwrap_or_default().0;
        self.before.iter().any(|leaf| old.contains(leaf))
    }

    /// Whether the server presents any of `leaves` now.
    pub(crate) fn presents_any(&self, leaves: &[Vec<u8>]) -> bool {
        self.leaves().is_some_and(|(presented, _)| presented.iter().any(|one| leaves.contains(one)))
    }

    /// Whether the server presented any of `leaves` before the install.
    pub(crate) fn presented_any(&self, leaves: &[Vec<u8>]) -> bool {
        self.before.iter().any(|one| leaves.contains(one))
    }

    /// Waits until the server presents the old certificate again, at most for `patience`.
    pub(crate) fn wait_back(&self, patience: Duration, back: &Leaves) -> (bool, ServedView) {
        let forgetful = Self {
            before: Vec::new(),
            address: self.address.clone(),
            servername: self.servername.clone(),
            starttls: self.starttls,
            is_named: self.is_named,
        };
        forgetful.wait(patience, back, || true)
    }

    /// Waits until the server presents the new certificates, at most for `patience`. Gives what it
    /// presents.
    pub(crate) fn wait(
        &self,
        patience: Duration,
        leaves: &Leaves,
        go_on: impl Fn() -> bool,
    ) -> (bool, ServedView) {
        let end = Instant::now() + patience;
        let mut steady = 0;
        loop {
            let presented = self.leaves();
            let is_new =
                presented.as_ref().is_some_and(|(leaves_now, _)| self.is_new(leaves_now, leaves));
            // A query that failed may succeed in the next round, so the result does not count.
            let is_whole = presented.as_ref().is_some_and(|(_, unknown)| unknown.is_empty());
            steady = if is_new && is_whole { steady + 1 } else { 0 };
            if steady == STEADY || Instant::now() >= end || !go_on() {
                let presents = match &presented {
                    None => "none",
                    Some(_) if is_new => "new",
                    Some((now, _)) if now.iter().any(|leaf| leaves.old.contains(leaf)) => "old",
                    Some(_) => "other",
                };
                let unknown = presented.map(|(_, unknown)| unknown).unwrap_or_default();
                return (is_new, ServedView { unknown, ..self.view(presents) });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Whether the server presents new leaves and no old one. Each old leaf that it presented before must
    /// have been replaced by its successor.
    fn is_new(&self, presented: &[Vec<u8>], leaves: &Leaves) -> bool {
        let has = |leaf: &Vec<u8>| presented.contains(leaf);
        let replaced = leaves.old.iter().zip(&leaves.new);
        leaves.new.iter().any(has)
            && !leaves.old.iter().filter(|old| !leaves.new.contains(old)).any(has)
            && replaced.filter(|(old, _)| self.before.contains(old)).all(|(_, new)| has(new))
    }

    /// The leaves that the server presents, and the queries that failed.
    fn leaves(&self) -> Option<(Vec<Vec<u8>>, Vec<String>)> {
        let answer =
            presented::ask(&self.address, &self.servername, CONNECTION, self.starttls).ok()?;
        let leaves =
            answer.chains.into_iter().filter_map(|chain| chain.certificates.into_iter().next());
        Some((leaves.collect(), answer.unknown))
    }

    pub(crate) fn view(&self, presents: &'static str) -> ServedView {
        ServedView {
            server: self.server(),
            servername: self.servername.as_str().to_owned(),
            presents,
            unknown: Vec::new(),
        }
    }

    /// The server as `HOST:PORT`.
    pub(crate) fn server(&self) -> String {
        self.address.shown()
    }
}

/// A name in the certificate. The asterisk of a wildcard is replaced by a label.
fn server_name(leaf: &Certificate) -> Option<Host> {
    let exact = leaf.accepted_names().iter().find(|name| !name.starts_with("*."));
    let any = || leaf.accepted_names().first().map(|name| name.replacen('*', "www", 1));
    Host::parse(&exact.cloned().or_else(any)?).ok()
}

/// The addresses of this machine: loopback, and the source addresses of its routes. Connecting a UDP socket
/// sends nothing.
fn local_addresses() -> Vec<IpAddr> {
    let mut all = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    // Addresses for documentation (RFC 5737, RFC 3849).
    let towards: [(SocketAddr, SocketAddr); 2] = [
        ((Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::new(192, 0, 2, 1), 9).into()),
        (
            (Ipv6Addr::UNSPECIFIED, 0).into(),
            (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into(),
        ),
    ];
    for (from, to) in towards {
        let address = UdpSocket::bind(from).and_then(|socket| {
            socket.connect(to)?;
            socket.local_addr()
        });
        all.extend(address.ok().map(|address| address.ip()).filter(|ip| !all.contains(ip)).iter());
    }
    all
}

/// The leaf of each pair, in DER.
pub(crate) fn der(leaf: &Arc<Certificate>) -> Vec<u8> {
    leaf.der().to_vec()
}
