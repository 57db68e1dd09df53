//! The groups of one transaction: reports are summed in memory first, so that a thousand reports of one group change
//! one row once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::StoreError;
use super::backend::{Backend, Value};
use super::group::{Entry, group_id};
use crate::output;
use crate::time::day;
use crate::understand::finding::{Class, Finding};

/// The most addresses that are kept for one group.
const MAX_ADDRESSES: i64 = 100;

/// The most characters of a detail: a name in a certificate may be as long as the report.
const MAX_DETAIL: usize = 500;

/// The most rows of one statement.
const ROWS: usize = 64;

/// The chain of the overflow group, which counts reports beyond the limit of groups.
const OVERFLOW: &str = "overflow";

/// A set of marks of clients, one bit for each mark.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks([u64; Entry::MARKS as usize / 64]);

impl Marks {
    fn insert(&mut self, mark: u16) {
        if let Some(bits) = self.0.get_mut(usize::from(mark / 64)) {
            *bits |= 1 << (mark % 64);
        }
    }

    fn extend(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(bits, more)| *bits |= more);
    }

    /// The marks that are not in `known`.
    fn beyond(&self, known: &Self) -> impl Iterator<Item = u16> {
        let bits: Vec<u64> =
            self.0.iter().zip(known.0).map(|(bits, known)| bits & !known).collect();
        (0..Entry::MARKS).filter(move |mark| bits[usize::from(mark / 64)] >> (mark % 64) & 1 == 1)
    }
}

/// The groups of today, cached to avoid queries.
#[derive(Debug, Default)]
pub(super) struct Today {
    day: i64,
    /// The number of groups for each entry of the list of hosts and each limit.
    groups: HashMap<(String, &'static str), u32>,
    /// The existing groups, with their stored marks.
    known: HashMap<String, Marks>,
}

impl Today {
    /// Begins a new day, or a new connection: reads the groups of the day that exist already.
    pub(super) fn begin(&mut self, backend: &mut dyn Backend, day: i64) -> Result<(), StoreError> {
        if self.day == day {
            return Ok(());
        }
        let sql = "SELECT id, entry, chain, finding FROM report_groups WHERE day = $1";
        let mut today = Self { day, ..Self::default() };
        for row in backend.query(sql, &[Value::Int(day)])? {
            let mut values = row.into_iter();
            let mut next = || values.next().unwrap_or(Value::Null).text();
            let (id, entry, chain, code) = (next(), next(), next(), next());
            today.known.insert(id, Marks::default());
            if chain != OVERFLOW {
                let limit = Finding::of_code(&code).map_or("", limit_of);
                *today.groups.entry((entry, limit)).or_default() += 1;
            }
        }
        *self = today;
        Ok(())
    }
}

/// Reports of one transaction that go into one group.
pub(super) struct Pending {
    pub(super) id: String,
    pub(super) entry: Entry,
    count: i64,
    marks: Marks,
    addresses: HashSet<String>,
}

/// Sums reports into groups, ordered by id. Reports beyond the limit go into the overflow group.
pub(super) fn gather(
    entries: Vec<Entry>,
    today: &mut Today,
    groups_per_day: u32,
) -> BTreeMap<String, Pending> {
    let mut pending: BTreeMap<String, Pending> = BTreeMap::new();
    for mut entry in entries {
        let mut id = id_of(&entry);
        if !today.known.contains_key(&id) && !pending.contains_key(&id) {
            let groups =
                today.groups.entry((entry.entry.clone(), limit_of(entry.finding))).or_default();
            if *groups < groups_per_day {
                *groups += 1;
            } else {
                entry.chain = OVERFLOW.to_owned();
                entry.host = entry.entry.trim_start_matches("*.").to_owned();
                entry.finding = Finding::Overflow;
                entry.detail = String::new();
                entry.names = String::new();
                entry.raw = Arc::new([]);
                id = id_of(&entry);
            }
        }
        let (count, mark, address) = (entry.count, entry.mark, entry.address.take());
        let one = pending.entry(id).or_insert_with_key(|id| Pending {
            id: id.clone(),
            entry,
            count: 0,
            marks: Marks::default(),
            addresses: HashSet::new(),
        });
        one.count = one.count.saturating_add(count);
        one.marks.insert(mark);
        one.addresses.extend(address);
    }
    pending
}

/// The name of the limit of groups for a finding. Each urgent finding has a limit of its own, so that a sender of
/// forged reports cannot push out urgent ones.
const fn limit_of(finding: Finding) -> &'static str {
    match finding.class() {
        Class::Urgent => finding.code(),
        Class::Unexplained | Class::Noise => "",
    }
}

fn id_of(entry: &Entry) -> String {
    group_id(&entry.host, &entry.chain, entry.client, day(entry.at), entry.finding.code())
}

/// Writes the groups. Returns the ids of the new ones.
pub(super) fn write(
    backend: &mut dyn Backend,
    pending: &BTreeMap<String, Pending>,
    today: &Today,
) -> Result<HashSet<String>, StoreError> {
    let known: Vec<&Pending> =
        pending.values().filter(|one| today.known.contains_key(&one.id)).collect();
    let mut counted = HashSet::new();
    for some in known.chunks(ROWS) {
        counted.extend(count(backend, some)?);
    }
    let mut made = HashSet::new();
    // Another collector may have deleted a known group.
    for one in pending.values().filter(|one| !counted.contains(&one.id)) {
        if one.insert(backend)? {
            made.insert(one.id.clone());
        }
    }
    let none = Marks::default();
    let marks = pending.values().flat_map(|one| {
        let known = today.known.get(&one.id).unwrap_or(&none);
        one.marks.beyond(known).map(|mark| [one.id.as_str().into(), i64::from(mark).into()])
    });
    let marks: Vec<[Value; 2]> = marks.collect();
    for some in marks.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO report_clients (group_id, mark) VALUES {} ON CONFLICT DO NOTHING",
            rows(some.len(), &["TEXT", "BIGINT"])
        );
        backend.execute(&sql, &some.concat())?;
    }
    for one in pending.values() {
        one.write_addresses(backend)?;
    }
    Ok(made)
}

/// Adds the written groups to the cache.
pub(super) fn remember(today: &mut Today, pending: &BTreeMap<String, Pending>) {
    for one in pending.values() {
        match today.known.get_mut(&one.id) {
            Some(marks) => marks.extend(&one.marks),
            None => drop(today.known.insert(one.id.clone(), one.marks.clone())),
        }
    }
}

/// Adds counts to existing groups in one statement. Returns the ids of the groups that existed.
fn count(backend: &mut dyn Backend, some: &[&Pending]) -> Result<Vec<String>, StoreError> {
    let sql = format!(
        "UPDATE report_groups SET count = count + more.column2, \
         last_seen = CASE WHEN last_seen < more.column3 THEN more.column3 ELSE last_seen END \
         FROM (VALUES {}) AS more WHERE report_groups.id = more.column1 RETURNING id",
        rows(some.len(), &["TEXT", "BIGINT", "BIGINT"])
    );
    let values =
        some.iter().flat_map(|one| [one.id.as_str().into(), one.count.into(), one.entry.at.into()]);
    let parameters: Vec<Value> = values.collect();
    let updated = backend.query(&sql, &parameters)?;
    Ok(updated.into_iter().filter_map(|row| row.into_iter().next()).map(Value::text).collect())
}

/// `count` rows of parameters with these types: `(CAST($1 AS TEXT), …), …`.
fn rows(count: usize, types: &[&str]) -> String {
    let mut number = 0;
    let mut row = || {
        let values = types.iter().map(|kind| {
            number += 1;
            format!("CAST(${number} AS {kind})")
        });
        format!("({})", values.collect::<Vec<_>>().join(", "))
    };
    (0..count).map(|_| row()).collect::<Vec<_>>().join(", ")
}

impl Pending {
    /// Inserts the group, or adds to it if another collector has inserted it. Returns whether it is new.
    fn insert(&self, backend: &mut dyn Backend) -> Result<bool, StoreError> {
        let entry = &self.entry;
        let sql = "INSERT INTO report_groups (id, host, entry, port, chain, client, day, finding, detail, format, \
                   mode, count, first_seen, last_seen, names) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
                   ON CONFLICT (id) DO UPDATE SET count = report_groups.count + excluded.count, \
                   last_seen = CASE WHEN report_groups.last_seen < excluded.last_seen \
                   THEN excluded.last_seen ELSE report_groups.last_seen END RETURNING count";
        let parameters = [
            self.id.as_str().into(),
            entry.host.as_str().into(),
            entry.entry.as_str().into(),
            entry.port.map_or(Value::Null, |port| i64::from(port).into()),
            entry.chain.as_str().into(),
            entry.client.into(),
            day(entry.at).into(),
            entry.finding.code().into(),
            detail(&entry.detail).as_str().into(),
            entry.format.into(),
            entry.mode.into(),
            self.count.into(),
            entry.at.into(),
            entry.at.into(),
            entry.names.as_str().into(),
        ];
        let is_new = backend.number(sql, &parameters)? == self.count;
        if is_new && !entry.raw.is_empty() {
            let sql =
                "INSERT INTO report_texts (group_id, raw) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            backend.execute(sql, &[self.id.as_str().into(), Value::Bytes(pack(&entry.raw))])?;
        }
        Ok(is_new)
    }

    fn write_addresses(&self, backend: &mut dyn Backend) -> Result<(), StoreError> {
        for address in &self.addresses {
            let sql = "INSERT INTO report_addresses (group_id, address) SELECT $1, $2 \
                       WHERE (SELECT COUNT(*) FROM report_addresses WHERE group_id = $1) < $3 \
                       ON CONFLICT DO NOTHING";
            let parameters =
                [self.id.as_str().into(), address.as_str().into(), MAX_ADDRESSES.into()];
            backend.execute(sql, &parameters)?;
        }
        Ok(())
    }
}

/// The detail to store: printable, since PostgreSQL accepts no NUL in a text, and not too long.
fn detail(text: &str) -> String {
    let printable = output::printable(text);
    match printable.char_indices().nth(MAX_DETAIL) {
        Some((end, _)) => format!("{}...", &printable[..end]),
        None => printable,
    }
}

/// Compresses a report: certificates in base64 become a third smaller.
pub(super) fn pack(raw: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(raw).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}

pub(super) fn unpack(packed: &[u8]) -> Vec<u8> {
    let limit = hpkp_core::ua::report_reader::MAX_BODY as u64;
    let mut raw = Vec::new();
    let _ = DeflateDecoder::new(packed).take(limit).read_to_end(&mut raw);
    raw
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_reported_once() {
        let (mut known, mut marks) = (Marks::default(), Marks::default());
        [0, 63, 64, 1023].into_iter().for_each(|mark| marks.insert(mark));
        known.insert(64);
        assert_eq!(marks.beyond(&known).collect::<Vec<_>>(), [0, 63, 1023]);
        known.extend(&marks);
        assert_eq!(marks.beyond(&known).count(), 0);
    }

    #[test]
    fn a_detail_is_printable_and_has_a_limit() {
        assert_eq!(detail("a\0b"), "a\\u{0}b");
        assert_eq!(detail(&"\u{e4}".repeat(1000)).chars().count(), MAX_DETAIL + 3);
    }
}
