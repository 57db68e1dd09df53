//! The addresses on which a server speaks TLS.

use hpkp_core::finding::Location;

/// Addresses on which a server speaks TLS, and the files of the certificates from which it chooses there.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) at: Location,
    /// The addresses in the notation of the configuration, with their ports.
    pub(super) addresses: Vec<(String, u16)>,
    pub(super) files: Vec<String>,
    /// Whether clients use HTTP here. To HTTP clients, pins apply on every port.
    pub(super) is_http: bool,
}

/// The port at the end of an address: `:443`, `*:443`, `[::]:443`, `443`.
pub(super) fn port_of(address: &str) -> Option<u16> {
    let port = address.rsplit(':').next().unwrap_or(address);
    port.parse().ok().filter(|port| *port != 0)
}
