//! What becomes of a configuration: the input of the check.

use hpkp_core::check::Deployment;

use super::address::ServerKey;

/// What the check compares, and where it comes from.
#[derive(Debug)]
pub struct Built<'a, H> {
    /// What the check compares.
    pub deployment: Deployment,
    /// For each of its contexts, how the reader knows the server.
    pub contexts: Vec<&'a H>,
    /// For each host, what it is known by, where there is something to compare it with.
    pub keys: Vec<Option<ServerKey>>,
}
