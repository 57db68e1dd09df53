//! The ports by which clients reach a server behind a port mapping: a container, a load balancer, a firewall. Pins
//! with a port (TLSA, curl) are compared by these ports.

use std::collections::BTreeSet;

use hpkp_core::check::Noticed;
use hpkp_core::finding::{Code, Location, Text};
use hpkp_core::text::Excerpt;

use crate::setting_error::{SettingError, port};

/// The port or socket on which the server itself listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Listen {
    Port(u16),
    /// A Unix socket in nginx's form: `unix:` and its path.
    Socket(String),
}

/// One directive.
#[derive(Clone, Debug)]
struct PublicPort {
    listen: Listen,
    public: u16,
    at: Location,
}

/// All declarations of public ports in a configuration.
#[derive(Clone, Debug, Default)]
pub struct PublicPorts(Vec<PublicPort>);

impl PublicPorts {
    /// Reads the arguments of a directive: the port on which the server listens, or a Unix socket if the server
    /// supports these, and the port by which clients reach it.
    ///
    /// # Errors
    /// [`SettingError::Text`] for an invalid port and for a duplicate declaration.
    pub fn add(
        &mut self,
        listen: &str,
        public: &str,
        at: Location,
        has_sockets: bool,
    ) -> Result<(), SettingError> {
        let listen = match listen.strip_prefix("unix:") {
            Some(path) if has_sockets && !path.is_empty() => Listen::Socket(listen.to_owned()),
            _ => Listen::Port(port(listen)?),
        };
        let public = port(public)?;
        let is_same = |other: &&PublicPort| other.listen == listen && other.public == public;
        if let Some(earlier) = self.0.iter().find(is_same) {
            let text =
                format!("duplicate public port {public}, first configured at {}", earlier.at);
            return Err(SettingError::Text(text));
        }
        self.0.push(PublicPort { listen, public, at });
        Ok(())
    }

    /// The ports by which clients reach the address `text` with the number `port`: the number itself if nothing is
    /// declared. A Unix socket has port 0.
    #[must_use]
    pub fn of(&self, port: u16, text: &str) -> BTreeSet<u16> {
        let is_there = |declared: &&PublicPort| match &declared.listen {
            Listen::Port(number) => *number == port,
            Listen::Socket(socket) => socket == text,
        };
        let declared: BTreeSet<u16> =
            self.0.iter().filter(is_there).map(|declared| declared.public).collect();
        if declared.is_empty() { BTreeSet::from([port]) } else { declared }
    }

    /// A finding for each declaration of an address that is not among `listening`, the port numbers and texts of the
    /// addresses on TLS.
    pub fn unused<'a>(
        &'a self,
        listening: &'a [(u16, String)],
    ) -> impl Iterator<Item = Noticed> + 'a {
        let is_unused = |declared: &&PublicPort| {
            !listening.iter().any(|(port, text)| match &declared.listen {
                Listen::Port(number) => number == port,
                Listen::Socket(socket) => socket == text,
            })
        };
        self.0.iter().filter(is_unused).map(|PublicPort { listen, public, at }| {
            let label = match listen {
                Listen::Port(port) => format!("port {port}"),
                Listen::Socket(socket) => Excerpt::new(socket).to_string(),
            };
            let what = match listen {
                Listen::Port(_) => "port",
                Listen::Socket(_) => "socket",
            };
            let text = Text::new(format!(
                "no TLS server listens on this {what}, so its public port {public} has no effect"
            ))
            .fix("remove or correct the declaration");
            Noticed { code: Code::PublicPortUnused, label, text, at: at.clone() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Location {
        Location { file: "nginx.conf".into(), line: 7 }
    }

    fn declared(pairs: &[(&str, &str)]) -> PublicPorts {
        let mut ports = PublicPorts::default();
        for (listen, public) in pairs {
            ports.add(listen, public, at(), true).unwrap();
        }
        ports
    }

    #[test]
    fn a_declared_port_replaces_the_port_of_the_address() {
        let ports = declared(&[("8443", "443"), ("9443", "9443"), ("9443", "443")]);
        assert_eq!(ports.of(8443, "0.0.0.0:8443"), BTreeSet::from([443]));
        assert_eq!(ports.of(9443, "0.0.0.0:9443"), BTreeSet::from([443, 9443]));
        assert_eq!(ports.of(443, "0.0.0.0:443"), BTreeSet::from([443]));
        assert_eq!(ports.of(0, "unix:/run/a"), BTreeSet::from([0]));
    }

    #[test]
    fn a_unix_socket_may_have_a_public_port() {
        let ports = declared(&[("unix:/run/a", "443")]);
        assert_eq!(ports.of(0, "unix:/run/a"), BTreeSet::from([443]));
        assert_eq!(ports.of(0, "unix:/run/b"), BTreeSet::from([0]));
    }

    #[test]
    fn invalid_ports_are_refused() {
        let mut ports = PublicPorts::default();
        for (listen, public) in
            [("0", "443"), ("65536", "443"), ("8443", "0"), ("8443", "+443"), ("a", "1"), ("", "1")]
        {
            assert!(ports.add(listen, public, at(), true).is_err(), "{listen} {public}");
        }
        assert!(ports.add("unix:", "443", at(), true).is_err());
        assert!(ports.add("unix:/run/a", "443", at(), false).is_err());
        assert!(ports.add("8443", "443", at(), true).is_ok());
        assert!(ports.add("8443", "443", at(), true).is_err());
    }

    #[test]
    fn a_declaration_for_an_unused_address_is_reported() {
        let ports = declared(&[("8443", "443"), ("8444", "443"), ("unix:/run/a", "443")]);
        let listening = [(8443, "0.0.0.0:8443".to_owned()), (0, "unix:/run/b".to_owned())];
        let labels: Vec<String> = ports.unused(&listening).map(|noticed| noticed.label).collect();
        assert_eq!(labels, ["port 8444", "unix:/run/a"]);
    }
}
