//! A heartbeat: says that a writer runs, and up to which event its records go. It is not an event in the writer's
//! file, which would grow by a line every few minutes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::signature::Signed;

/// A heartbeat, as a store has it. Unknown members are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    /// Who lives.
    pub(crate) writer: String,
    /// It only grows.
    pub(crate) number: u64,
    /// When it was written, in seconds since 1970 UTC, by the clock of the writer. Nothing depends on it.
    pub(crate) at: i64,
    /// How many events the writer's file has.
    pub(crate) events: u64,
    /// The id of the newest of them.
    pub(crate) last: String,
    /// The newest event that the writer has of each other writer; left out in a large fleet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) seen: BTreeMap<String, String>,
    /// What the writer's key signs; none where it has no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signed: Option<Signed>,
}

/// The most writers that a heartbeat says this of: with thousands of writers, all heartbeats together would be
/// larger than the records.
pub(crate) const MAX_SEEN: usize = 200;
