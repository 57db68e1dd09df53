//! How clients reach a server block: by which name, and at which port and address.

use super::routing::{Claim, HostSet};

/// A name by which clients reach a block.
#[derive(Clone, Copy)]
pub(super) struct Route<'b> {
    /// The hosts that clients ask for.
    pub(super) host_set: &'b HostSet,
    /// The block that answers.
    pub(super) host: usize,
    /// Why it answers.
    pub(super) claim: Claim,
}

/// The ports, or port 0 for a Unix socket.
pub(super) fn ports_or_socket(ports: &[u16]) -> &[u16] {
    if ports.is_empty() { &[0] } else { ports }
}

/// A port at which clients reach a block, with the address if records distinguish addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place<'b> {
    /// The port; 0 for a Unix socket, which clients reach through a proxy in front of it.
    pub(super) port: u16,
    /// The address, if different certificates were presented on different addresses.
    pub(super) address: Option<&'b str>,
}
