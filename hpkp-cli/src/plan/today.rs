//! What the configuration and the records say today.

use super::future::Future;
use super::model::{InUse, Policy};

/// The certificates of one server: one for each kind of key.
pub(super) type Server = Vec<InUse>;

/// What holds today.
#[derive(Debug)]
pub(super) struct Today {
    pub(super) future: Future,
    /// In seconds since 1970 UTC.
    pub(super) now: i64,
    /// The directories with records, for commands.
    pub(super) directories: Vec<String>,
    /// The certificates that the configuration has for the host; none without a configuration.
    pub(super) presented: Option<Vec<Server>>,
    pub(super) policy_name: Option<String>,
    /// The configuration and its policy, where it has what is not on record.
    pub(super) not_loaded: Option<(String, Option<Policy>)>,
    pub(super) notes: Vec<String>,
}

/// A path that works wherever a command with it is pasted.
pub(super) fn absolute(path: &str) -> String {
    let full = std::path::absolute(path);
    full.map_or_else(|_| path.to_owned(), |full| full.to_string_lossy().into_owned())
}
