//! The present state according to the configuration and the records.

use super::future::Future;
use super::model::{InUse, Policy};

/// The certificates of one server: one for each kind of key.
pub(super) type Server = Vec<InUse>;

/// The present state.
#[derive(Debug)]
pub(super) struct Today {
    pub(super) future: Future,
    /// The time, in seconds since 1970 UTC.
    pub(super) now: i64,
    /// The directories with records, for commands.
    pub(super) directories: Vec<String>,
    /// The certificates that the configuration contains for the host; `None` without a configuration.
    pub(super) presented: Option<Vec<Server>>,
    pub(super) policy_name: Option<String>,
    /// The configuration and its policy, if its contents are not on record yet.
    pub(super) not_loaded: Option<(String, Option<Policy>)>,
    pub(super) notes: Vec<String>,
}

/// An absolute path, so that a command can be pasted in any directory.
pub(super) fn absolute(path: &str) -> String {
    let full = std::path::absolute(path);
    full.map_or_else(|_| path.to_owned(), |full| full.to_string_lossy().into_owned())
}
