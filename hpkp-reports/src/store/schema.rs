//! The tables, and how they came about: one migration for each version, never changed afterwards.

use super::backend::{Backend, Value};
use super::error::StoreError;

/// The migrations; `{bytes}` is the database's type for bytes.
const MIGRATIONS: [&str; 2] = [
    "
CREATE TABLE report_groups (
    id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    entry TEXT NOT NULL,
    port BIGINT,
    chain TEXT NOT NULL,
    client TEXT NOT NULL,
    day BIGINT NOT NULL,
    finding TEXT NOT NULL,
    detail TEXT NOT NULL,
    format TEXT NOT NULL,
    mode TEXT NOT NULL,
    count BIGINT NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    raw {bytes}
);
CREATE INDEX report_groups_day ON report_groups (day);
CREATE INDEX report_groups_host ON report_groups (host, day);
CREATE TABLE report_clients (
    group_id TEXT NOT NULL REFERENCES report_groups (id) ON DELETE CASCADE,
    mark BIGINT NOT NULL,
    PRIMARY KEY (group_id, mark)
);
CREATE TABLE report_addresses (
    group_id TEXT NOT NULL REFERENCES report_groups (id) ON DELETE CASCADE,
    address TEXT NOT NULL,
    PRIMARY KEY (group_id, address)
);
",
    // Alarms that are to be sent, or were: with their group in one transaction, so that none is lost.
    "
CREATE TABLE report_alarms (
    group_id TEXT PRIMARY KEY REFERENCES report_groups (id) ON DELETE CASCADE,
    urgent BIGINT NOT NULL,
    due BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    waited BIGINT NOT NULL,
    done TEXT NOT NULL,
    sent BIGINT,
    told BIGINT NOT NULL
);
CREATE INDEX report_alarms_sent ON report_alarms (sent);
",
];

/// Brings the tables up to date, in one transaction: of several collectors that begin at once, one makes the tables
/// and the others find them.
pub(super) fn migrate(backend: &mut dyn Backend) -> Result<(), StoreError> {
    backend.begin_alone()?;
    let done = upgrade(backend).and_then(|()| backend.run("COMMIT"));
    if done.is_err() {
        let _ = backend.run("ROLLBACK");
    }
    done
}

fn upgrade(backend: &mut dyn Backend) -> Result<(), StoreError> {
    backend.run("CREATE TABLE IF NOT EXISTS report_versions (version BIGINT PRIMARY KEY)")?;
    let rows = backend.query("SELECT MAX(version) FROM report_versions", &[])?;
    let version = rows.first().and_then(|row| row.first()).map_or(0, Value::int);
    let version = usize::try_from(version).unwrap_or_default();
    if version > MIGRATIONS.len() {
        return Err(StoreError::Failed(format!(
            "a newer hpkp-reports made the database (version {version}, this program knows {})",
            MIGRATIONS.len()
        )));
    }
    let bytes = backend.bytes_type();
    for (number, migration) in (1_i64..).zip(MIGRATIONS).skip(version) {
        backend.run(&migration.replace("{bytes}", bytes))?;
        let sql = "INSERT INTO report_versions (version) VALUES ($1)";
        backend.execute(sql, &[Value::Int(number)])?;
    }
    Ok(())
}
