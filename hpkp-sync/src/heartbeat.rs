//! Heartbeats: each says that a writer runs, and which event is the newest of its records. A heartbeat is not an event
//! in the writer's file, since that file would then grow by a line every few minutes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::signature::Signed;

/// A heartbeat, as a store has it. Unknown members are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    /// The writer that runs.
    pub(crate) writer: String,
    /// The number of the heartbeat, which only grows.
    pub(crate) number: u64,
    /// When the heartbeat was written, in seconds since 1970 UTC, by the clock of the writer.
    pub(crate) at: i64,
    /// How many events the writer's file has.
    pub(crate) events: u64,
    /// The id of the newest of these events.
    pub(crate) last: String,
    /// The newest event that the writer has of each other writer; left out in a large fleet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) seen: BTreeMap<String, String>,
    /// The signature by the writer's key; none where the writer has no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signed: Option<Signed>,
}

/// The most writers in [`Heartbeat::seen`]: with thousands of writers, all heartbeats together would be larger than
/// the records.
pub(crate) const MAX_SEEN: usize = 200;
