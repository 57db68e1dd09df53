//! The content of an alarm.

use hpkp_core::date;
use serde::Serialize;

use crate::store::Group;
use crate::understand::finding::Finding;

/// The content of an alarm, as JSON for webhook and command.
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
    /// The number of alarms that were left out before this one because of the limit.
    pub(super) left_out: u64,
    /// A reminder that reports are not authenticated.
    pub(super) note: &'static str,
}

impl<'a> Message<'a> {
    pub(super) fn new(
        finding: Finding,
        group: &'a Group,
        page: Option<String>,
        left_out: u64,
    ) -> Self {
        Self {
            v: 1,
            finding: finding.code(),
            class: finding.class().name(),
            title: finding.title(),
            answer: finding.answer(),
            advice: finding.advice(),
            host: &group.host,
            detail: &group.detail,
            client: &group.client,
            mode: &group.mode,
            at: date::format(group.first_seen),
            group: &group.id,
            page,
            left_out,
            note: "Reports are not authenticated: anybody can make one up.",
        }
    }
}
