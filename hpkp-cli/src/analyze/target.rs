//! A target of the analysis: a host, a port, a protocol and a path.

use std::fmt;

use hpkp_core::ua::host::Host;

use crate::arguments::Starttls;
use crate::presented::Address;

/// The protocol that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    /// HTTP without TLS. A target may begin with it, and a header sent over it is reported.
    Http,
    /// HTTP over TLS.
    Https,
    /// TLS without an application protocol.
    Tls,
    /// TLS after the plain-text beginning of another protocol.
    Starttls(Starttls),
}

/// Ports on which TLS begins at once, with another application protocol than HTTP.
const TLS_PORTS: [u16; 9] = [465, 563, 636, 853, 989, 990, 993, 995, 5223];

impl Protocol {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tls => "tls",
            Self::Starttls(starttls) => starttls.name(),
        }
    }

    pub(super) const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https | Self::Tls => 443,
            Self::Starttls(starttls) => starttls.port(),
        }
    }
}

/// A server: protocol, host and port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Site {
    pub(super) protocol: Protocol,
    pub(super) host: Host,
    pub(super) port: u16,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = bracketed(&self.host);
        write!(f, "{}://{host}:{}", self.protocol.name(), self.port)
    }
}

/// A host in the notation before a port.
fn bracketed(host: &Host) -> String {
    match host {
        Host::Address(address) if address.contains(':') && !address.starts_with('[') => {
            format!("[{address}]")
        }
        host => host.to_string(),
    }
}

/// A resource on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) site: Site,
    /// The path and the query; begins with `/`.
    pub(super) path: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.site.protocol {
            Protocol::Http | Protocol::Https => write!(f, "{}{}", self.origin(), self.path),
            _ => self.site.fmt(f),
        }
    }
}

/// Whether a text is allowed in the first line of a request.
fn is_path(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Target {
    /// Parses `HOST`, `HOST:PORT` or a URL with `http` or `https`. A host or an address gets the protocol
    /// `otherwise`.
    pub(super) fn parse(text: &str, otherwise: Protocol) -> Option<Self> {
        let http = Self::after_scheme(text, "http://");
        let (protocol, rest) = match (http, Self::after_scheme(text, "https://")) {
            (Some(rest), _) => (Protocol::Http, rest),
            (_, Some(rest)) => (Protocol::Https, rest),
            _ => {
                let address = Address::parse_with(text, otherwise.port())?;
                let protocol = match otherwise {
                    Protocol::Https if TLS_PORTS.contains(&address.port) => Protocol::Tls,
                    protocol => protocol,
                };
                return Some(Self::new(protocol, address, "/"));
            }
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = path.split('#').next().unwrap_or_default();
        if authority.contains('@') || !is_path(path) {
            return None;
        }
        let address = Address::parse_with(authority, protocol.port())?;
        Some(Self::new(protocol, address, path))
    }

    fn after_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
        let begin = text.get(..scheme.len())?;
        begin.eq_ignore_ascii_case(scheme).then(|| &text[scheme.len()..])
    }

    fn new(protocol: Protocol, address: Address, path: &str) -> Self {
        let slash = if path.starts_with('/') { "" } else { "/" };
        let site = Site { protocol, host: address.host, port: address.port };
        Self { site, path: format!("{slash}{path}") }
    }

    /// Scheme, host and port in a browser's notation: without the default port of the scheme.
    fn origin(&self) -> String {
        let Site { protocol, host, port } = &self.site;
        match *port == protocol.port() {
            true => format!("{}://{}", protocol.name(), bracketed(host)),
            false => self.site.to_string(),
        }
    }

    /// The value of the `Host` field.
    pub(super) fn authority(&self) -> String {
        let origin = self.origin();
        origin.split_once("://").map_or_else(String::new, |(_, host)| host.to_owned())
    }

    /// Resolves a `Location` (RFC 3986 section 5.2, as far as redirects need it). `None` if the result is
    /// no HTTP URL.
    pub(super) fn follow(&self, location: &str) -> Option<Self> {
        let location = location.trim();
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(
                &format!("{}://{rest}", self.site.protocol.name()),
                Protocol::Https,
            );
        }
        let scheme = location.split(['/', '?', '#']).next().unwrap_or_default();
        if scheme.contains(':') {
            let is_http = ["http:", "https:"].iter().any(|known| {
                scheme.len() >= known.len() && scheme[..known.len()].eq_ignore_ascii_case(known)
            });
            return is_http.then(|| Self::parse(location, Protocol::Https)).flatten();
        }
        let location = location.split('#').next().unwrap_or_default();
        if !is_path(location) {
            return None;
        }
        let here = self.path.split('?').next().unwrap_or("/");
        let path = match location.chars().next() {
            None => self.path.clone(),
            Some('/') => location.to_owned(),
            Some('?') => format!("{here}{location}"),
            Some(_) => {
                let directory = here.rfind('/').map_or("/", |end| &here[..=end]);
                format!("{directory}{location}")
            }
        };
        Some(Self { site: self.site.clone(), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        Target::parse(text, Protocol::Https).map(|target| target.to_string())
    }

    #[test]
    fn a_target_is_a_host_or_a_url() {
        for (text, expected) in [
            ("www.Example.com", "https://www.example.com/"),
            ("www.example.com:8443", "https://www.example.com:8443/"),
            ("https://www.example.com:443/a?b#c", "https://www.example.com/a?b"),
            ("HTTP://www.example.com?x", "http://www.example.com/?x"),
            ("http://www.example.com:443", "http://www.example.com:443/"),
            ("[::1]:8443", "https://[::1]:8443/"),
            ("::1", "https://[::1]/"),
            ("mail.example.com:993", "tls://mail.example.com:993"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "a b", "https://", "https://user@host/", "https://host/a b", "ftp://host/"]
        {
            assert_eq!(shown(text), None, "{text}");
        }
        let smtp = Target::parse("mx.example.com", Protocol::Starttls(Starttls::Smtp));
        let smtp = smtp.map(|target| target.to_string());
        assert_eq!(smtp.as_deref(), Some("smtp://mx.example.com:25"));
    }

    #[test]
    fn redirects_are_resolved_against_the_target() {
        let here = Target::parse("https://a.example/b/c?d", Protocol::Https).expect("a target");
        for (location, expected) in [
            ("https://x.example/y", Some("https://x.example/y")),
            ("HTTP://x.example", Some("http://x.example/")),
            ("//x.example:8443/y", Some("https://x.example:8443/y")),
            ("/y", Some("https://a.example/y")),
            ("y", Some("https://a.example/b/y")),
            ("?y", Some("https://a.example/b/c?y")),
            ("", Some("https://a.example/b/c?d")),
            ("y#z", Some("https://a.example/b/y")),
            ("mailto:x@y", None),
            ("ftp://x/", None),
            ("https://", None),
            ("/a\u{e9}", None),
        ] {
            let there = here.follow(location).map(|target| target.to_string());
            assert_eq!(there.as_deref(), expected, "{location}");
        }
    }
}
