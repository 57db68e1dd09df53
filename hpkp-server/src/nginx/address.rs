//! The addresses of a configuration, and the key that identifies a server.

use super::guard::GuardUse;

/// The key that identifies a server from one configuration to the next: its names and its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerKey {
    /// Its names.
    pub names: Vec<String>,
    /// The addresses on which it listens.
    pub addresses: Vec<String>,
}

/// What the directives of a server tell about its certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Whether the certificates have variables in their names.
    pub variables: bool,
    /// Whether the server refuses all handshakes, so that the certificates are never sent.
    pub rejects: bool,
    /// Whether the guard provides the certificates.
    pub guard: GuardUse,
}

/// An address, with the servers (by position) among which nginx chooses there.
#[derive(Clone, Debug)]
pub struct Address {
    /// The address in nginx's text form.
    pub text: String,
    /// The port; 0 for a Unix socket.
    pub port: u16,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Whether it speaks HTTP/3.
    pub quic: bool,
    /// The servers, in the order of the configuration.
    pub servers: Vec<usize>,
    /// The server that answers if no server has the name.
    pub default: usize,
}

impl Address {
    /// The address in the form of records. HTTP/3 has the same addresses as TCP but other clients, so it is marked.
    pub(super) fn on_record(&self) -> String {
        if self.quic { format!("{}/udp", self.text) } else { self.text.clone() }
    }
}
