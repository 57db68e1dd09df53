//! The addresses of a configuration, and what a server is known by.

use super::guard::GuardUse;

/// What a server is known by from one configuration to the next: its names and its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerKey {
    /// Its names.
    pub names: Vec<String>,
    /// Where it listens.
    pub addresses: Vec<String>,
}

/// The certificates of a server, as far as its directives say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Whether the certificates have variables in their names.
    pub variables: bool,
    /// Whether the server refuses all handshakes, so that the certificates are never sent.
    pub rejects: bool,
    /// Whether the certificates are those that a guard gives.
    pub guard: GuardUse,
}

/// An address, with the servers (by position) among which nginx chooses there.
#[derive(Clone, Debug)]
pub struct Address {
    /// As nginx writes it.
    pub text: String,
    /// 0 for a Unix socket.
    pub port: u16,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Whether it speaks HTTP/3.
    pub quic: bool,
    /// The servers, in the order of the configuration.
    pub servers: Vec<usize>,
    /// The one that answers where none has the name.
    pub default: usize,
}

impl Address {
    /// As records have it: HTTP/3 has the same addresses as TCP, and other clients.
    pub(super) fn on_record(&self) -> String {
        if self.quic { format!("{}/udp", self.text) } else { self.text.clone() }
    }
}
