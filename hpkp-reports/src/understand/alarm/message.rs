//! What an alarm says.

use serde::Serialize;

/// What an alarm says: JSON for webhook and command.
#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    pub(super) v: u32,
    pub(super) finding: &'static str,
    pub(super) class: &'static str,
    pub(super) title: &'static str,
    pub(super) answer: &'static str,
    pub(super) advice: &'static str,
    pub(super) host: &'a str,
    pub(super) detail: &'a str,
    pub(super) client: &'a str,
    pub(super) mode: &'a str,
    pub(super) at: String,
    pub(super) group: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) page: Option<String>,
    /// Alarms that were left out before this one, for the limit.
    pub(super) left_out: u64,
}
