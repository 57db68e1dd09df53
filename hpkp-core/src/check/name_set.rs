//! The names by which clients reach a host, and the set of names for which it sends its header. Each request looks up
//! its host name there.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::published::{HostName, Matching};

/// A name by which clients reach a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenName {
    /// The host, or the domain above the hosts.
    pub host: HostName,
    /// Which hosts are meant.
    pub matching: Matching,
    /// Hosts to which the pattern does not apply, because other blocks have them.
    pub except: Vec<HostName>,
    /// The ports; none if clients reach the host only on a Unix socket.
    pub ports: Vec<u16>,
    /// Whether no header is sent for the name: the block answers for it only because of a wildcard in its
    /// certificate, or by the port alone.
    pub aside: bool,
    /// Whether only clients that ignore names accept the certificate.
    pub nameless: bool,
    /// The addresses, if another block presents different certificates for the name on the same port.
    pub addresses: Vec<String>,
}

/// A set of host names: single ones, and all that are one label below a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameSet {
    exact: HashSet<Box<str>>,
    /// Names that are one label below one of `domains` and do not belong to the set.
    except: HashSet<Box<str>>,
    domains: HashSet<Box<str>>,
}

impl NameSet {
    /// The names for which a header is sent, without those that are `elsewhere`.
    pub(super) fn new<'a>(
        names: impl IntoIterator<Item = &'a SeenName>,
        elsewhere: impl IntoIterator<Item = &'a HostName>,
    ) -> Self {
        let mut set = Self::default();
        set.except.extend(elsewhere.into_iter().map(|name| name.as_str().into()));
        for name in names.into_iter().filter(|name| !name.aside) {
            let host = name.host.as_str().into();
            match name.matching {
                Matching::OneLabel => set.domains.insert(host),
                Matching::Exact | Matching::AnyDepth => set.exact.insert(host),
            };
        }
        set
    }

    /// Whether the set contains the host of a request. `host` has no port and may be in upper case.
    #[must_use]
    pub fn has(&self, host: &[u8]) -> bool {
        let Ok(host) = std::str::from_utf8(host) else { return false };
        let host = host.strip_suffix('.').unwrap_or(host);
        let host = match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(host.to_ascii_lowercase()),
            false => Cow::Borrowed(host),
        };
        let host = &*host;
        if self.exact.contains(host) {
            return true;
        }
        let domain = host.split_once('.').map(|(_, domain)| domain);
        domain.is_some_and(|domain| self.domains.contains(domain)) && !self.except.contains(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(host: &str, matching: Matching, aside: bool) -> SeenName {
        let host = host.parse().unwrap();
        let (except, addresses) = (vec![], vec![]);
        SeenName { host, matching, except, ports: vec![443], aside, nameless: false, addresses }
    }

    #[test]
    fn a_wildcard_has_the_names_one_label_below() {
        let names = [
            name("www.example.com", Matching::Exact, false),
            name("shop.example", Matching::OneLabel, false),
            name("example.com", Matching::OneLabel, true),
        ];
        let elsewhere: HostName = "old.shop.example".parse().unwrap();
        let set = NameSet::new(&names, [&elsewhere]);
        for (host, expected) in [
            ("www.example.com", true),
            ("WWW.Example.com.", true),
            ("d.example.com", false),
            ("a.shop.example", true),
            ("b.a.shop.example", false),
            ("old.shop.example", false),
            ("shop.example", false),
            ("", false),
            (".", false),
        ] {
            assert_eq!(set.has(host.as_bytes()), expected, "{host}");
        }
        assert!(!set.has(b"\xff.shop.example"));
    }
}
