//! The data of the store: entries go in, groups come out.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::backend::{Row, Value};
use crate::understand::finding::Finding;

/// A judged report.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The host.
    pub host: String,
    /// The entry of the list of hosts that matches the host.
    pub entry: String,
    /// The port, if the report has one.
    pub port: Option<u16>,
    /// The fingerprint of the chain.
    pub chain: String,
    /// The kind of client.
    pub client: &'static str,
    /// When the report was received, in seconds since 1970 UTC.
    pub at: i64,
    /// The finding.
    pub finding: Finding,
    /// The detail of the finding.
    pub detail: String,
    /// Additional text for searches, in lower case.
    pub names: String,
    /// The format.
    pub format: &'static str,
    /// `enforced`, `report-only`, or empty if unknown.
    pub mode: &'static str,
    /// The number of connections that the report stands for.
    pub count: i64,
    /// The report itself.
    pub raw: Arc<[u8]>,
    /// A number below [`Entry::MARKS`] that stays the same for one client for a day.
    pub mark: u16,
    /// The address of the client, if addresses are kept.
    pub address: Option<String>,
}

impl Entry {
    /// The number of different marks. Clients share marks, so that a mark does not identify a client.
    pub const MARKS: u16 = 1024;
}

/// A group: reports of one host, chain, kind of client, day and finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The id of the group.
    pub id: String,
    /// The host.
    pub host: String,
    /// The port of the first report.
    pub port: Option<u16>,
    /// The fingerprint of the chain.
    pub chain: String,
    /// The kind of client.
    pub client: String,
    /// The day on which the reports were received, counted from 1970-01-01 UTC.
    pub day: i64,
    /// The code of the finding.
    pub finding: String,
    /// The detail of the finding.
    pub detail: String,
    /// The format of the first report.
    pub format: String,
    /// `enforced`, `report-only`, or empty.
    pub mode: String,
    /// The number of reported violations.
    pub count: i64,
    /// The estimated number of clients.
    pub clients: i64,
    /// When the first report was received, in seconds since 1970 UTC.
    pub first_seen: i64,
    /// When the last report was received, in seconds since 1970 UTC.
    pub last_seen: i64,
}

impl Group {
    pub(super) const COLUMNS: &str = "id, host, port, chain, client, day, finding, detail, format, mode, count, \
        first_seen, last_seen, \
        (SELECT COUNT(*) FROM report_clients WHERE report_clients.group_id = report_groups.id)";

    pub(super) fn of_row(row: Row) -> Self {
        let mut values = row.into_iter();
        let mut next = || values.next().unwrap_or(Value::Null);
        Self {
            id: next().text(),
            host: next().text(),
            port: u16::try_from(next().int()).ok().filter(|port| *port != 0),
            chain: next().text(),
            client: next().text(),
            day: next().int(),
            finding: next().text(),
            detail: next().text(),
            format: next().text(),
            mode: next().text(),
            count: next().int(),
            first_seen: next().int(),
            last_seen: next().int(),
            clients: estimate(next().int()),
        }
    }
}

/// Estimates the number of clients from the number of different marks (linear counting).
pub(super) fn estimate(marks: i64) -> i64 {
    let all = f64::from(Entry::MARKS);
    // At least one mark counts as free, since the estimate would be infinite otherwise.
    let free = (all - marks as f64).max(1.0);
    (-all * (free / all).ln()).round() as i64
}

/// The id of a group: the same from every collector.
#[must_use]
pub fn group_id(host: &str, chain: &str, client: &str, day: i64, finding: &str) -> String {
    let mut hash = Sha256::new();
    for part in [host, chain, client, &day.to_string(), finding] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_clients_is_estimated_from_marks() {
        assert_eq!(estimate(0), 0);
        assert_eq!(estimate(1), 1);
        assert_eq!(estimate(10), 10);
        assert!((640..760).contains(&estimate(512)));
        assert!(estimate(1024) > 6000);
    }
}
