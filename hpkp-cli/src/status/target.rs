//! Parses hosts and addresses on the command line.

use hpkp_core::published::HostName;
use hpkp_core::text::Excerpt;
use hpkp_core::ua::host::Host;

use crate::presented::Address;

/// A host to query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: HostName,
    /// The only port to query; `None` for all ports on record.
    pub(super) port: Option<u16>,
}

/// An address to which to connect instead of a host's own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connect {
    pub(super) host: Host,
    /// The port; `None` for the port of the host.
    pub(super) port: Option<u16>,
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Connect { host, port } = Connect::of(text)
            .ok_or_else(|| format!("\"{}\": expected HOST or HOST:PORT", Excerpt::new(text)))?;
        let host = host
            .as_str()
            .parse()
            .map_err(|error| format!("\"{}\": {error}", Excerpt::new(text)))?;
        Ok(Self { host, port })
    }
}

impl Connect {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Self::of(text).ok_or_else(|| {
            format!("--connect \"{}\": expected ADDRESS or ADDRESS:PORT", Excerpt::new(text))
        })
    }

    fn of(text: &str) -> Option<Self> {
        let Address { host, port } = Address::parse(text)?;
        let rest =
            Address::after_scheme(text).map_or(text, |rest| rest.split('/').next().unwrap_or(rest));
        let inside = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(rest);
        let port = Host::parse(inside).is_err().then_some(port);
        Some(Self { host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_parsed_with_and_without_a_port() {
        for (text, host, port) in [
            ("www.example.com", "www.example.com", None),
            ("WWW.example.com:8443", "www.example.com", Some(8443)),
            ("https://www.example.com/", "www.example.com", None),
            ("127.0.0.1", "127.0.0.1", None),
            ("[::1]:8443", "::1", Some(8443)),
            ("::1", "::1", None),
            ("[::1]", "::1", None),
        ] {
            let connect = Connect::parse(text).expect(text);
            assert_eq!((connect.host.as_str(), connect.port), (host, port), "{text}");
        }
        assert!(Target::parse("127.0.0.1").is_err(), "clients do not pin addresses");
        assert!(Target::parse("").is_err() && Connect::parse("a:b").is_err());
    }
}
