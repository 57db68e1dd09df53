//! The queries of pages and exports.

use super::backend::{Backend, Value};
use super::{Group, StoreError};
use crate::understand::finding::{Class, Finding};

/// Selects groups.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only groups of this host.
    pub host: Option<String>,
    /// Only groups with this text in the host, the detail, the kind of client, the finding, the chain or the names.
    pub text: Option<String>,
    /// The first day.
    pub from: i64,
    /// The last day.
    pub to: i64,
}

/// The violations of a host with one finding on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The host.
    pub host: String,
    /// The day.
    pub day: i64,
    /// The code of the finding.
    pub finding: String,
    /// The number of violations.
    pub count: i64,
    /// The number of groups.
    pub groups: i64,
    /// `enforced` or `report-only`, if a report has it.
    pub mode: String,
}

const MATCHES: &str = "day >= $1 AND day <= $2 AND ($3 = '' OR host = $3) AND ($4 = '' \
    OR host LIKE $4 ESCAPE '\\' OR LOWER(detail) LIKE $4 ESCAPE '\\' OR LOWER(client) LIKE $4 ESCAPE '\\' \
    OR finding LIKE $4 ESCAPE '\\' OR chain LIKE $4 ESCAPE '\\' OR names LIKE $4 ESCAPE '\\' \
    OR host LIKE $5 ESCAPE '\\')";

fn parameters(filter: &Filter) -> Vec<Value> {
    let text = filter.text.as_deref().unwrap_or_default().trim().to_lowercase();
    let pattern = |text: &str| match text.is_empty() {
        true => String::new(),
        false => {
            let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            format!("%{escaped}%")
        }
    };
    // Hosts are stored in their ASCII form.
    let wire = Some(&text).filter(|text| !text.is_ascii());
    let wire = wire.and_then(|text| idna::domain_to_ascii(text).ok()).unwrap_or_default();
    let host = filter.host.as_deref().unwrap_or_default();
    let texts = [host.to_owned(), pattern(&text), pattern(&wire)].map(Value::Text);
    [Value::Int(filter.from), Value::Int(filter.to)].into_iter().chain(texts).collect()
}

/// Violations by host, day and finding.
///
/// # Errors
/// The database's.
pub fn counts(backend: &mut dyn Backend, filter: &Filter) -> Result<Vec<Count>, StoreError> {
    let sql = format!(
        "SELECT host, day, finding, CAST(SUM(count) AS BIGINT), COUNT(*), MAX(mode) FROM report_groups \
         WHERE {MATCHES} GROUP BY host, day, finding ORDER BY host, day"
    );
    let rows = backend.query(&sql, &parameters(filter))?;
    let count = |row: Vec<Value>| {
        let mut values = row.into_iter();
        let mut next = || values.next().unwrap_or(Value::Null);
        Count {
            host: next().text(),
            day: next().int(),
            finding: next().text(),
            count: next().int(),
            groups: next().int(),
            mode: next().text(),
        }
    };
    Ok(rows.into_iter().map(count).collect())
}

/// Groups: urgent ones first, then by the time of the last report.
///
/// # Errors
/// The database's.
pub fn groups(
    backend: &mut dyn Backend,
    filter: &Filter,
    limit: i64,
    offset: i64,
) -> Result<Vec<Group>, StoreError> {
    let sql = format!(
        "SELECT {} FROM report_groups WHERE {MATCHES} \
         ORDER BY CASE WHEN finding IN ({}) THEN 0 WHEN finding IN ({}) THEN 2 ELSE 1 END, last_seen DESC, id \
         LIMIT $6 OFFSET $7",
        Group::COLUMNS,
        codes(Class::Urgent),
        codes(Class::Noise),
    );
    let mut parameters = parameters(filter);
    parameters.extend([Value::Int(limit), Value::Int(offset)]);
    Ok(backend.query(&sql, &parameters)?.into_iter().map(Group::of_row).collect())
}

/// The codes of a class, as SQL. Codes of a later version are in no class and count as unexplained.
fn codes(class: Class) -> String {
    let of_class = Finding::ALL.iter().filter(|finding| finding.class() == class);
    of_class.map(|finding| format!("'{}'", finding.code())).collect::<Vec<_>>().join(", ")
}

/// One group.
///
/// # Errors
/// The database's.
pub fn group(backend: &mut dyn Backend, id: &str) -> Result<Option<Group>, StoreError> {
    let sql = format!("SELECT {} FROM report_groups WHERE id = $1", Group::COLUMNS);
    Ok(backend.query(&sql, &[id.into()])?.into_iter().next().map(Group::of_row))
}

/// The first report of a group, as it was received.
///
/// # Errors
/// The database's.
pub fn raw(backend: &mut dyn Backend, id: &str) -> Result<Vec<u8>, StoreError> {
    let rows = backend.query("SELECT raw FROM report_texts WHERE group_id = $1", &[id.into()])?;
    let packed = rows.into_iter().next().and_then(|row| row.into_iter().next());
    Ok(packed.map_or_else(Vec::new, |packed| super::pending::unpack(&packed.bytes())))
}

/// The stored addresses of the clients of a group.
///
/// # Errors
/// The database's.
pub fn addresses(backend: &mut dyn Backend, id: &str) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT address FROM report_addresses WHERE group_id = $1 ORDER BY address";
    let rows = backend.query(sql, &[id.into()])?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next()).map(Value::text).collect())
}

/// The next groups in the order of their days, after a given one.
///
/// # Errors
/// The database's.
pub fn page(
    backend: &mut dyn Backend,
    filter: &Filter,
    after: Option<&(i64, String)>,
    limit: i64,
) -> Result<Vec<Group>, StoreError> {
    let sql = format!(
        "SELECT {} FROM report_groups WHERE {MATCHES} AND (day > $6 OR (day = $6 AND id > $7)) \
         ORDER BY day, id LIMIT $8",
        Group::COLUMNS
    );
    let mut parameters = parameters(filter);
    let (day, id) = after.map_or((i64::MIN, ""), |(day, id)| (*day, id.as_str()));
    parameters.extend([Value::Int(day), id.into(), Value::Int(limit)]);
    Ok(backend.query(&sql, &parameters)?.into_iter().map(Group::of_row).collect())
}
