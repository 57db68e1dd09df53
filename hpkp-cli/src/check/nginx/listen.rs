//! Parses the addresses of `listen`, and writes them as nginx does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hpkp_core::text::Excerpt;

/// A `listen` directive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listen {
    /// Each address in nginx's notation, with its port; the port of a Unix socket is 0.
    pub(super) addresses: Vec<(String, u16)>,
    /// `ssl`.
    pub(super) ssl: bool,
    /// `quic`.
    pub(super) quic: bool,
    /// `udp`.
    pub(super) udp: bool,
    /// `default_server`.
    pub(super) is_default: bool,
}

/// Why a `listen` directive cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ListenError {
    /// nginx refuses the directive; the text is nginx's.
    Invalid(String),
    /// The address is a host name, which nginx looks up in DNS.
    HostName(String),
}

/// Parameters without a value.
const FLAGS: [&str; 9] =
    ["deferred", "reuseport", "proxy_protocol", "bind", "http2", "spdy", "multipath", "on", "off"];

/// The first letters of parameters with a value.
const VALUES: [&str; 9] = [
    "backlog=",
    "rcvbuf=",
    "sndbuf=",
    "accept_filter=",
    "ipv6only=",
    "so_keepalive=",
    "setfib=",
    "fastopen=",
    "protocol=",
];

impl Listen {
    /// Parses the arguments. An address without a port gets `default_port`; if that is `None`, nginx
    /// requires a port.
    pub(super) fn parse(
        arguments: &[String],
        default_port: Option<u16>,
    ) -> Result<Self, ListenError> {
        let Some((url, parameters)) = arguments.split_first() else {
            let text = "invalid number of arguments in \"listen\" directive".to_owned();
            return Err(ListenError::Invalid(text));
        };
        let mut listen = Self { addresses: addresses(url, default_port)?, ..Self::default() };
        for parameter in parameters {
            match parameter.as_str() {
                "ssl" => listen.ssl = true,
                "quic" => listen.quic = true,
                "udp" => listen.udp = true,
                "default_server" | "default" => listen.is_default = true,
                other if FLAGS.contains(&other) => {}
                other if VALUES.iter().any(|start| other.starts_with(start)) => {}
                other => {
                    let text = format!("invalid parameter \"{}\"", Excerpt::new(other));
                    return Err(ListenError::Invalid(text));
                }
            }
        }
        Ok(listen)
    }
}

fn addresses(url: &str, default_port: Option<u16>) -> Result<Vec<(String, u16)>, ListenError> {
    let invalid = |what: &str| {
        let shown = Excerpt::new(url);
        ListenError::Invalid(format!("{what} in \"{shown}\" of the \"listen\" directive"))
    };
    if let Some(path) = url.strip_prefix("unix:") {
        return match path.is_empty() {
            true => Err(invalid("no path in the unix domain socket")),
            false => Ok(vec![(url.to_owned(), 0)]),
        };
    }
    let (host, ports) = if let Some(rest) = url.strip_prefix('[') {
        let (host, behind) = rest.split_once(']').ok_or_else(|| invalid("invalid host"))?;
        let ip: Ipv6Addr = host.parse().map_err(|_| invalid("invalid IPv6 address"))?;
        let ports = match behind {
            "" => None,
            _ => Some(behind.strip_prefix(':').ok_or_else(|| invalid("invalid host"))?),
        };
        (IpAddr::V6(ip), ports)
    } else {
        match url.split_once(':') {
            Some((host, ports)) => (ip_v4(host, url)?, Some(ports)),
            None if is_ports(url) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), Some(url)),
            None => (ip_v4(url, url)?, None),
        }
    };
    let (first, last) = match ports {
        None => {
            let port = default_port.ok_or_else(|| invalid("no port"))?;
            (port, port)
        }
        Some(ports) => {
            let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
            let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
            let range = number(first).zip(number(last)).filter(|(first, last)| first <= last);
            range.ok_or_else(|| invalid("invalid port"))?
        }
    };
    Ok((first..=last).map(|port| (SocketAddr::new(host, port).to_string(), port)).collect())
}

fn is_ports(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

fn ip_v4(host: &str, url: &str) -> Result<IpAddr, ListenError> {
    if host == "*" {
        return Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok(IpAddr::V4(ip));
    }
    match host {
        "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        "" => {
            let shown = Excerpt::new(url);
            Err(ListenError::Invalid(format!("no host in \"{shown}\" of the \"listen\" directive")))
        }
        _ => Err(ListenError::HostName(host.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Listen, ListenError> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        Listen::parse(&words, Some(80))
    }

    #[test]
    fn addresses_are_written_as_nginx_writes_them() {
        for (text, address, port) in [
            ("443", "0.0.0.0:443", 443),
            ("*:443", "0.0.0.0:443", 443),
            ("127.0.0.1", "127.0.0.1:80", 80),
            ("localhost:8443", "127.0.0.1:8443", 8443),
            ("[::]:443", "[::]:443", 443),
            ("[2001:DB8::1]", "[2001:db8::1]:80", 80),
            ("unix:/run/a.sock", "unix:/run/a.sock", 0),
        ] {
            let listen = parsed(&format!("{text} ssl default_server backlog=4")).expect(text);
            assert_eq!(listen.addresses, [(address.to_owned(), port)], "{text}");
            assert!(listen.ssl && listen.is_default);
        }
        assert_eq!(parsed("127.0.0.1:1-3").expect("a range").addresses.len(), 3);
    }

    #[test]
    fn invalid_addresses_and_host_names_are_reported() {
        for text in ["0", "70000", "a:0", "[::", "[x]:1", "443 sll", ":443", "unix:", "3-1"] {
            assert!(parsed(text).is_err(), "{text}");
        }
        let name = ListenError::HostName("www.example.com".to_owned());
        assert_eq!(parsed("www.example.com:443"), Err(name));
        assert!(Listen::parse(&["127.0.0.1".to_owned()], None).is_err());
    }
}
