//! What goes into the store and what comes out of it.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::backend::{Row, Value};
use crate::understand::finding::Finding;

/// A judged report.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The host.
    pub host: String,
    /// The entry of the list of hosts that it is on.
    pub entry: String,
    /// The port, where the report has one.
    pub port: Option<u16>,
    /// What tells its chain from others.
    pub chain: String,
    /// The kind of client.
    pub client: &'static str,
    /// When it came in, in seconds since 1970 UTC.
    pub at: i64,
    /// What it comes to.
    pub finding: Finding,
    /// What belongs to that.
    pub detail: String,
    /// What a search finds it by besides, in lower case.
    pub names: String,
    /// The format.
    pub format: &'static str,
    /// `enforced`, `report-only`, or nothing where it is not known.
    pub mode: &'static str,
    /// How many connections it stands for.
    pub count: i64,
    /// The report itself.
    pub raw: Arc<[u8]>,
    /// A number below [`Entry::MARKS`] that stays the same for one client for a day.
    pub mark: u16,
    /// The address of the client, where addresses are kept.
    pub address: Option<String>,
}

impl Entry {
    /// How many marks there are. Clients share them, so that a mark tells of nobody in particular.
    pub const MARKS: u16 = 1024;
}

/// A group: reports of one host, chain, kind of client, day and finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub id: String,
    /// The host.
    pub host: String,
    /// The port of the first report.
    pub port: Option<u16>,
    /// What tells its chain from others.
    pub chain: String,
    /// The kind of client.
    pub client: String,
    /// The day on which the reports came in, counted from 1970-01-01 UTC.
    pub day: i64,
    /// The code of the finding.
    pub finding: String,
    /// What belongs to that.
    pub detail: String,
    /// The format of the first report.
    pub format: String,
    /// `enforced`, `report-only`, or nothing.
    pub mode: String,
    /// How many violations were reported.
    pub count: i64,
    /// How many clients did, estimated.
    pub clients: i64,
    /// When the first report came in, in seconds since 1970 UTC.
    pub first_seen: i64,
    /// When the last one did.
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

/// How many clients have left so many different marks (linear counting).
pub(super) fn estimate(marks: i64) -> i64 {
    let all = f64::from(Entry::MARKS);
    // At most what can be told: one mark is left.
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
    fn clients_are_estimated() {
        assert_eq!(estimate(0), 0);
        assert_eq!(estimate(1), 1);
        assert_eq!(estimate(10), 10);
        assert!((640..760).contains(&estimate(512)));
        assert!(estimate(1024) > 6000);
    }
}
