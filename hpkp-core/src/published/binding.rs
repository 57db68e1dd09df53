//! Which hosts and ports an entry of a client configuration binds, and which entries of one configuration a client
//! combines.

use super::client::Client;
use super::event::Published;
use super::keys::Scope;
use super::name::HostName;
use super::tlsa::{Protocol, Rrset};
use crate::pin::Pin;

impl Published {
    /// Whether this entry applies to `host`.
    #[must_use]
    pub fn binds(&self, host: &HostName) -> bool {
        self.stands_for(host) && !self.exempts(host)
    }

    fn stands_for(&self, host: &HostName) -> bool {
        use super::event::Matching::{AnyDepth, Exact, OneLabel};
        if *host == self.host {
            return self.matching != OneLabel;
        }
        // The name on the way to the host that is one label below the domain.
        let names = std::iter::once(host.as_str()).chain(host.parents());
        let mut names = names.zip(host.parents());
        let Some((below, _)) = names.find(|(_, domain)| *domain == self.host.as_str()) else {
            return false;
        };
        match self.matching {
            AnyDepth => true,
            // Apple's subdomains are one label deep.
            Exact if self.is_of(Client::Apple) => self.include_subdomains && below == host.as_str(),
            Exact => self.include_subdomains,
            OneLabel if self.except.iter().any(|name| name.as_str() == below) => false,
            OneLabel => below == host.as_str() || self.include_subdomains,
        }
    }

    /// Whether clients compare the pins on a port. Port 0 is a Unix socket, which clients may reach through any port.
    #[must_use]
    pub fn is_on(&self, port: u16) -> bool {
        let is_excepted = |set: &Rrset| set.except_ports.contains(&port);
        port == 0
            || self.port.is_none_or(|only| only == port)
                && !self.tlsa.as_deref().is_some_and(is_excepted)
    }

    /// Whether clients compare the pins over UDP, or over TCP. Clients that look up `_853._udp` connect over UDP,
    /// where another program may answer (RFC 7671 section 3).
    #[must_use]
    pub fn is_over(&self, udp: bool) -> bool {
        match self.tlsa.as_ref().and_then(|set| set.protocol) {
            Some(Protocol::Udp) => udp,
            Some(Protocol::Sctp) => false,
            Some(Protocol::Tcp) | None => true,
        }
    }

    /// The name of TLSA records in DNS, without the root dot; none for pins.
    #[must_use]
    pub fn owner(&self) -> Option<String> {
        let set = self.tlsa.as_ref()?;
        let protocol = set.protocol.map_or("", Protocol::as_str);
        Some(match (self.port, set.protocol) {
            (Some(port), _) => format!("_{port}._{protocol}.{}", self.host),
            (None, Some(_)) => format!("*._{protocol}.{}", self.host),
            (None, None) => format!("*.{}", self.host),
        })
    }

    /// Whether the entry may match the leaf key with this pin. TLSA records may have the key in another form, so for
    /// them the usage decides.
    #[must_use]
    pub fn may_pin_leaf(&self, pin: Pin) -> bool {
        match &self.tlsa {
            Some(set) => set.names_leaf(),
            None => self.pins.binary_search(&pin).is_ok(),
        }
    }

    /// Whether some client with this entry ignores names (RFC 7671 section 5.1): it compares only the leaf.
    #[must_use]
    pub fn ignores_names(&self) -> bool {
        match &self.tlsa {
            Some(set) => set.ignores_names(),
            None => self.scope == Scope::Leaf,
        }
    }

    fn is_of(&self, client: Client) -> bool {
        self.configuration.is_some_and(|configuration| configuration.client == client)
    }

    /// Whether `host` is among [`Published::exempt`].
    #[must_use]
    pub fn exempts(&self, host: &HostName) -> bool {
        self.exempt.iter().any(|exempt| {
            exempt.host == *host
                || exempt.include_subdomains
                    && host.parents().any(|parent| parent == exempt.host.as_str())
        })
    }

    /// Whether a client needs only one of both entries, where both bind a host.
    #[must_use]
    pub fn unites_with(&self, other: &Self) -> bool {
        match (self.configuration, other.configuration) {
            // An entry with TLSA records has all records of the owner, so no other entry belongs to it.
            _ if self.tlsa.is_some() || other.tlsa.is_some() => false,
            (Some(one), Some(two)) => {
                one == two && self.port == other.port && one.client.unites(self.scope, other.scope)
            }
            _ => false,
        }
    }
}

/// The sets of pins of which one is enough for the client that holds `held`, each with its scope. `entries` are the
/// entries of its configuration that apply to the host. The pins are sorted as in records.
#[must_use]
pub fn united<'a>(
    held: &Published,
    entries: impl Iterator<Item = &'a Published>,
) -> Vec<(Scope, Vec<Pin>)> {
    let mut united = vec![(held.scope, held.pins.clone())];
    for entry in entries.filter(|entry| held.unites_with(entry)) {
        match united.iter_mut().find(|(scope, _)| *scope == entry.scope) {
            Some((_, pins)) => pins.extend(&entry.pins),
            None => united.push((entry.scope, entry.pins.clone())),
        }
    }
    for (_, pins) in &mut united {
        pins.sort_unstable();
        pins.dedup();
    }
    united
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::published::{Lifetime, Matching, Origin};

    #[test]
    fn each_matching_binds_its_hosts() {
        let held = |matching, include_subdomains| Published {
            matching,
            except: vec!["free.example.com".parse().unwrap()],
            include_subdomains,
            ..Published::of_one(
                "example.com".parse().unwrap(),
                vec![Pin::from_bytes([1; 32])],
                Lifetime::Open,
                Origin::Header,
            )
        };
        let hosts = [
            "example.com",
            "a.example.com",
            "free.example.com",
            "b.a.example.com",
            "b.free.example.com",
            "notexample.com",
        ];
        for (matching, include_subdomains, bound) in [
            (Matching::Exact, false, [true, false, false, false, false, false]),
            (Matching::Exact, true, [true, true, true, true, true, false]),
            (Matching::OneLabel, false, [false, true, false, false, false, false]),
            (Matching::OneLabel, true, [false, true, false, true, false, false]),
            (Matching::AnyDepth, false, [true, true, true, true, true, false]),
        ] {
            let held = held(matching, include_subdomains);
            let found = hosts.map(|host| held.binds(&host.parse().unwrap()));
            assert_eq!(found, bound, "{matching:?} {include_subdomains}");
        }
    }
}
