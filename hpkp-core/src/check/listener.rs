//! Where a server answers on TLS, and how it chooses a block there.

use std::fmt;
use std::rc::Rc;

/// An address on which a server answers TLS.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its port, 0 where it has none: a Unix socket.
    pub port: u16,
    /// Where it listens, as the server writes it: an address with its port, or a socket. None where
    /// that is not known.
    pub address: Option<String>,
    /// How the server chooses.
    pub choice: Choice,
    /// The blocks (positions in [`Deployment::hosts`](super::Deployment::hosts)) among which it chooses, in
    /// its own order.
    pub hosts: Vec<usize>,
    /// The block that answers where none has the name.
    pub default: usize,
    /// Names that are regular expressions, in the order in which the server tries them, with their
    /// blocks.
    pub patterns: Vec<(usize, Rc<dyn NamePattern>)>,
    /// Whether clients choose the server by its port and speak no HTTP: a TLS server of nginx's `stream` or `mail`. If
    /// it is the only one on the address, its names are those in its certificates.
    pub by_port_alone: bool,
}

impl Listener {
    /// A port on which blocks are chosen by their names alone.
    #[must_use]
    pub fn new(port: u16, choice: Choice, hosts: Vec<usize>, default: usize) -> Self {
        Self {
            port,
            address: None,
            choice,
            hosts,
            default,
            patterns: Vec::new(),
            by_port_alone: false,
        }
    }

    /// Whether it is a UDP listener (QUIC), whose address ends in `/udp`.
    pub(super) fn is_udp(&self) -> bool {
        self.address.as_deref().is_some_and(is_udp)
    }
}

/// Whether an address, as the server writes it, is a UDP address.
pub(super) fn is_udp(address: &str) -> bool {
    address.ends_with("/udp")
}

/// How a server chooses a block by its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Choice {
    /// nginx: the exact name, the longest wildcard at the start, the longest at the end, the first
    /// regular expression. `.example.com` is a name and a wildcard.
    Nginx,
    /// Apache httpd: the first block with a name or alias that fits; `*` and `?` stand for any
    /// characters and for one.
    Httpd,
}

impl Choice {
    /// Whether a client can reach a block by this configured name. Both servers remove the trailing dot from the name
    /// that a client asks for, but not from configured names, so a configured name with a trailing dot never matches.
    #[must_use]
    pub fn finds(self, name: &str) -> bool {
        self == Self::Nginx && name.starts_with('~') || !name.ends_with('.')
    }
}

/// A name that is a regular expression. The core has no engine of its own and uses the server's.
pub trait NamePattern: fmt::Debug {
    /// Whether it fits `name`, which is in lower case.
    fn fits(&self, name: &str) -> bool;
}
