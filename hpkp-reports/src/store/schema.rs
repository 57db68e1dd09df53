//! The tables: one migration for each version. A released migration is never changed.

use super::backend::{Backend, Value};
use super::error::StoreError;

/// The migrations; `{bytes}` is the database's type for bytes.
const MIGRATIONS: [&str; 4] = [
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
    // Queued and sent alarms. They are added in the transaction of their group, so that none is lost.
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
    // The text of the first report has its own table, so that an update of the count writes a short row.
    "
CREATE TABLE report_texts (
    group_id TEXT PRIMARY KEY REFERENCES report_groups (id) ON DELETE CASCADE,
    raw {bytes} NOT NULL
);
INSERT INTO report_texts (group_id, raw) SELECT id, raw FROM report_groups WHERE raw IS NOT NULL;
ALTER TABLE report_groups DROP COLUMN raw;
",
    // Additional text for searches: names in certificates, and the Unicode form of the host.
    "
ALTER TABLE report_groups ADD COLUMN names TEXT NOT NULL DEFAULT '';
",
];

/// Updates the tables in one transaction. If several collectors start at the same time, one creates the tables and the
/// others find them.
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
    let version = backend.number("SELECT MAX(version) FROM report_versions", &[])?;
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

#[cfg(test)]
mod tests {
    use super::super::sqlite::Sqlite;
    use super::super::{pending, query};
    use super::*;

    #[test]
    fn a_database_of_version_1_is_migrated_and_keeps_its_data() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut backend = Sqlite::open(&directory.path().join("db"), 1 << 30).expect("opens");
        backend.run("CREATE TABLE report_versions (version BIGINT PRIMARY KEY)").expect("made");
        backend.run(&MIGRATIONS[0].replace("{bytes}", "BLOB")).expect("made");
        backend.run("INSERT INTO report_versions VALUES (1)").expect("inserted");
        let sql = "INSERT INTO report_groups VALUES ('x', 'h', 'h', 443, 'c', 'k', 1, 'f', '', 'r', '', 7, 1, 2, $1)";
        backend.execute(sql, &[Value::Bytes(pending::pack(b"{}"))]).expect("inserted");
        migrate(&mut backend).expect("migrates");
        migrate(&mut backend).expect("finds nothing to do");
        assert_eq!(query::raw(&mut backend, "x").expect("a text"), b"{}");
        let group = query::group(&mut backend, "x").expect("answers").expect("a group");
        assert_eq!((group.count, group.last_seen), (7, 2));
        backend.run("INSERT INTO report_versions VALUES (99)").expect("inserted");
        assert!(migrate(&mut backend).is_err());
    }
}
