//! SQLite in a file, with a write-ahead log. A committed transaction is on the disk.

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql};

use super::backend::{Backend, Row, Value};
use super::error::StoreError;

/// How long to wait for another process that has locked the database.
const PATIENCE: Duration = Duration::from_secs(5);

/// Above this size of the log, a transaction first waits for readers: a quarter of the configured size, within
/// these bounds in bytes.
const MIN_LOG: u64 = 256 << 10;
const MAX_LOG: u64 = 64 << 20;

/// The pause between attempts to empty the log.
const MOMENT: Duration = Duration::from_millis(20);

/// The most prepared statements in the cache.
const STATEMENTS: usize = 256;

#[derive(Debug)]
pub(super) struct Sqlite {
    connection: Connection,
    /// The path and the identity of the file: a removed file could still be written to.
    file: Option<(PathBuf, (u64, u64))>,
    /// The path of the log, and its largest size.
    log: (PathBuf, u64),
    /// Whether a reader was holding the log for too long at the last check.
    is_held: bool,
}

impl Sqlite {
    /// Opens or creates the database. It grows at most a little beyond `size` bytes.
    pub(super) fn open(path: &Path, size: u64) -> Result<Self, StoreError> {
        // Other users of this machine must not read reports. SQLite gives its other files the same mode.
        let _ = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
        let connection = Connection::open(path).map_err(|error| opening(path, &error))?;
        let set = |connection: &Connection| -> rusqlite::Result<()> {
            connection.busy_timeout(PATIENCE)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "foreign_keys", true)?;
            // Overwrites deleted content in pages that are written anyway.
            connection.pragma_update(None, "secure_delete", "FAST")?;
            connection.pragma_update(None, "journal_size_limit", MIN_LOG as i64)?;
            let page: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
            let size = i64::try_from(size).unwrap_or(i64::MAX);
            // Some extra room, since old groups are deleted only from time to time.
            let pages = (size.saturating_add(size / 8) / page.max(1)).clamp(64, 1 << 31);
            connection.pragma_update(None, "max_page_count", pages)?;
            // The log needs additional room. A small database gets a small log.
            connection.pragma_update(None, "wal_autocheckpoint", (pages / 16).clamp(16, 1000))
        };
        set(&connection).map_err(|error| opening(path, &error))?;
        let file = identity(path).map(|identity| (path.to_owned(), identity));
        Ok(Self {
            connection,
            file,
            log: (log_of(path), (size / 4).clamp(MIN_LOG, MAX_LOG)),
            is_held: false,
        })
    }

    pub(super) fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|error| opening(path, &error))?;
        connection.busy_timeout(PATIENCE).map_err(|error| opening(path, &error))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let file = identity(path).map(|identity| (path.to_owned(), identity));
        Ok(Self { connection, file, log: (log_of(path), MAX_LOG), is_held: false })
    }

    /// Checks that the log may grow. The log cannot restart while a reader uses an older state. Once the log has filled
    /// the disk, it can never restart, since the database may need room for its content.
    fn check_log(&mut self) -> Result<(), StoreError> {
        let (path, limit) = &self.log;
        let size = path.metadata().map_or(0, |log| log.len());
        if size <= *limit {
            return Ok(());
        }
        // Waits for short readers and for other processes that empty the log. For a long reader it waits only once.
        let begun = Instant::now();
        let mut is_held = !self.empty_log(if self.is_held { "PASSIVE" } else { "RESTART" })?;
        while is_held && !self.is_held && begun.elapsed() < PATIENCE {
            std::thread::sleep(MOMENT);
            is_held = !self.empty_log("RESTART")?;
        }
        self.is_held = is_held;
        match is_held {
            false => Ok(()),
            true => Err(StoreError::Failed(format!(
                "somebody reads the database for so long that its log has {size} bytes"
            ))),
        }
    }

    /// Moves the content of the log into the database. Returns whether all was moved, so that the log restarts.
    fn empty_log(&self, mode: &str) -> Result<bool, StoreError> {
        let row = |row: &rusqlite::Row<'_>| {
            let (is_busy, written, moved): (i64, i64, i64) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(is_busy == 0 && written == moved)
        };
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        self.connection.query_row(&sql, [], row).map_err(failed)
    }
}

/// The log beside a database.
fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = path.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn opening(path: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full,
        _ => StoreError::Away(format!("cannot open {}: {error}", path.display())),
    }
}

fn failed(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full,
        Some(ErrorCode::ConstraintViolation) => StoreError::Conflict(error.to_string()),
        Some(ErrorCode::DatabaseBusy | ErrorCode::CannotOpen | ErrorCode::SystemIoFailure) => {
            StoreError::Away(error.to_string())
        }
        _ => StoreError::Failed(error.to_string()),
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Real(number) => Value::Text(number.to_string()),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    }
}

impl Backend for Sqlite {
    fn bytes_type(&self) -> &'static str {
        "BLOB"
    }

    fn is_in_place(&mut self) -> Result<(), StoreError> {
        match &self.file {
            Some((path, opened)) if identity(path) != Some(*opened) => {
                let text = format!("{} was removed or replaced", path.display());
                Err(StoreError::Away(text))
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        self.check_log()?;
        self.run("BEGIN")
    }

    fn begin_alone(&mut self) -> Result<(), StoreError> {
        self.run("BEGIN IMMEDIATE")
    }

    fn run(&mut self, sql: &str) -> Result<(), StoreError> {
        self.connection.execute_batch(sql).map_err(failed)
    }

    fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, StoreError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let changed = statement.execute(rusqlite::params_from_iter(parameters)).map_err(failed)?;
        Ok(changed as u64)
    }

    fn query(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let columns = statement.column_count();
        let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| {
            (0..columns).map(|column| Ok(value(row.get_ref(column)?))).collect()
        });
        rows.and_then(Iterator::collect).map_err(failed)
    }

    fn size(&mut self) -> Result<u64, StoreError> {
        let sql = "SELECT (page_count - freelist_count) * page_size
            FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        Ok(u64::try_from(self.number(sql, &[])?).unwrap_or_default())
    }

    fn shrink(&mut self) -> Result<(), StoreError> {
        // The changes below are written to the log, which may have filled the disk while somebody read. It restarts
        // once all its content is in the database. PASSIVE waits for no reader.
        let emptied = self.run("PRAGMA wal_checkpoint(PASSIVE)");
        // Each step of the statement gives back one page.
        let mut statement = self.connection.prepare("PRAGMA incremental_vacuum").map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while rows.next().map_err(failed)?.is_some() {}
        drop(rows);
        drop(statement);
        emptied.and_then(|()| self.run("PRAGMA wal_checkpoint(TRUNCATE)"))
    }
}
