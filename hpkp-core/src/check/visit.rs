//! How clients come to a block, and where.

use super::routing::{Claim, HostSet};

/// The way to a block.
#[derive(Clone, Copy)]
pub(super) struct Visit<'b> {
    /// Whom clients ask for.
    pub(super) host_set: &'b HostSet,
    /// The block that answers.
    pub(super) host: usize,
    /// Why it does.
    pub(super) claim: Claim,
}

/// The ports where something is reached: 0 for a socket without one.
pub(super) fn ports_or_socket(ports: &[u16]) -> &[u16] {
    if ports.is_empty() { &[0] } else { ports }
}

/// A place at which clients come, as far as records tell places apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place<'b> {
    /// 0 where it is a socket without a port, which is reached through something in front of it.
    pub(super) port: u16,
    /// The address, where different certificates were presented on different ones.
    pub(super) address: Option<&'b str>,
}
