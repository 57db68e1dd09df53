//! What becomes of a configuration: the input of the check.

use hpkp_core::check::{Concern, Deployment};
use hpkp_core::finding::Check;

use super::address::ServerKey;
use crate::journal::Journal;

/// What the check compares, and where it comes from.
#[derive(Debug)]
pub struct Built<'a, H> {
    /// What the check compares.
    pub deployment: Deployment,
    /// Where the server writes what it publishes and presents, if that can be written to.
    pub journal: Option<Journal>,
    /// Which records were read for it.
    pub concern: Concern,
    /// For each of its contexts, how the reader knows the server.
    pub contexts: Vec<&'a H>,
    /// For each of its contexts, whether its last good certificate is kept where a directory for it is
    /// named.
    pub kept: Vec<bool>,
    /// For each host, what its directives say is done about a lock-out.
    pub checks: Vec<Check>,
    /// For each host, what it is known by, where there is something to compare it with.
    pub keys: Vec<Option<ServerKey>>,
}
