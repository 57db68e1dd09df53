//! The result of building a configuration: the input of the check.

use hpkp_core::check::{Concern, Deployment};
use hpkp_core::finding::Check;

use super::address::ServerKey;
use crate::journal::Journal;

/// The input of the check, and its origin in the configuration.
#[derive(Debug)]
pub struct Built<'a, H> {
    /// The input of the check.
    pub deployment: Deployment,
    /// The journal to which the server writes its records, if it can be written.
    pub journal: Option<Journal>,
    /// Which records were read for it.
    pub concern: Concern,
    /// For each of its contexts, the reader's handle of the server.
    pub contexts: Vec<&'a H>,
    /// For each of its contexts, whether its last good certificate is kept if a directory is configured.
    pub kept: Vec<bool>,
    /// For each host, the configured answer to a lock-out.
    pub checks: Vec<Check>,
    /// For each host, the key that identifies it, if there is something to compare its certificates with.
    pub keys: Vec<Option<ServerKey>>,
}
