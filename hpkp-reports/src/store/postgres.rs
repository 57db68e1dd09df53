//! PostgreSQL, for several collectors behind one name.
//!
//! The URL has libpq's form: `postgresql://USER@HOST/DATABASE?sslmode=require`. With `sslmode=require` the server's
//! certificate is verified. A password may be in the file that `PGPASSFILE` names, else in the URL.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postgres::config::SslMode;
use postgres::error::SqlState;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Config, NoTls, Statement};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::backend::{Backend, Row, Value};
use super::error::StoreError;

/// How long to wait for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most prepared statements in the cache.
const STATEMENTS: usize = 256;

/// The number of the advisory lock for changes of the tables: "hpkp" in ASCII.
const LOCK: u32 = 0x6870_6b70;

pub(super) struct Postgres {
    client: Client,
    statements: std::collections::HashMap<String, Statement>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}

impl Postgres {
    pub(super) fn open(address: &str) -> Result<Self, StoreError> {
        let mut config: Config =
            address.parse().map_err(|error| StoreError::Failed(format!("store: {error}")))?;
        config.connect_timeout(PATIENCE).application_name("hpkp-reports");
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(PATIENCE);
        }
        let client = match config.get_ssl_mode() {
            SslMode::Disable => config.connect(NoTls),
            _ => config.connect(tls()?),
        };
        let mut client = client.map_err(|error| failed(&error))?;
        // Limits for locks and answers, since the sender of a report waits for the status.
        let settings = "SET statement_timeout = '20s'; SET lock_timeout = '10s'; \
                        SET idle_in_transaction_session_timeout = '60s'; SET synchronous_commit = on";
        client.batch_execute(settings).map_err(|error| failed(&error))?;
        Ok(Self { client, statements: std::collections::HashMap::new() })
    }

    fn prepared(&mut self, sql: &str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).map_err(|error| failed(&error))?;
        if self.statements.len() >= STATEMENTS {
            self.statements.clear();
        }
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// TLS that verifies the server's certificate.
fn tls() -> Result<MakeRustlsConnect, StoreError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let settings = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(settings))
}

fn failed(error: &postgres::Error) -> StoreError {
    let text = match (error.as_db_error(), error.source()) {
        (Some(database), _) => database.message().to_owned(),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    };
    match error.code() {
        Some(code) if *code == SqlState::DISK_FULL => StoreError::Full,
        // A deadlock, a group that another collector deleted or inserted, or a lock timeout.
        Some(code) if matches!(code.code(), "40001" | "40P01" | "23503" | "23505" | "55P03") => {
            StoreError::Conflict(text)
        }
        // Class 25: the server is a read-only standby, since another server has taken over.
        Some(code)
            if code.code().starts_with("08")
                || code.code().starts_with("25")
                || code.code().starts_with("57")
                || code.code().starts_with("53") =>
        {
            StoreError::Away(text)
        }
        Some(_) => StoreError::Failed(text),
        None => StoreError::Away(text),
    }
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(number) if *kind == Type::INT4 => i32::try_from(*number)?.to_sql(kind, out),
            Self::Int(number) => number.to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
            Self::Bytes(bytes) => bytes.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT8, Type::INT4, Type::TEXT, Type::VARCHAR, Type::BYTEA].contains(kind)
    }

    to_sql_checked!();
}

fn references(parameters: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

impl Backend for Postgres {
    fn bytes_type(&self) -> &'static str {
        "BYTEA"
    }

    fn begin_alone(&mut self) -> Result<(), StoreError> {
        self.run(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})"))
    }

    fn run(&mut self, sql: &str) -> Result<(), StoreError> {
        self.client.batch_execute(sql).map_err(|error| failed(&error))
    }

    fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, StoreError> {
        let statement = self.prepared(sql)?;
        self.client.execute(&statement, &references(parameters)).map_err(|error| failed(&error))
    }

    fn query(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, StoreError> {
        let statement = self.prepared(sql)?;
        let rows = self.client.query(&statement, &references(parameters));
        rows.map_err(|error| failed(&error))?.iter().map(row).collect()
    }

    fn size(&mut self) -> Result<u64, StoreError> {
        // New rows reuse the space of deleted ones, so only existing rows count.
        let sql = "SELECT CAST((SELECT COALESCE(SUM(LENGTH(raw)), 0) FROM report_texts) \
                   + 600 * (SELECT COUNT(*) FROM report_groups) \
                   + 100 * (SELECT COUNT(*) FROM report_clients) \
                   + 100 * (SELECT COUNT(*) FROM report_addresses) AS BIGINT)";
        Ok(u64::try_from(self.number(sql, &[])?).unwrap_or_default())
    }

    fn shrink(&mut self) -> Result<(), StoreError> {
        // Autovacuum does this.
        Ok(())
    }
}

fn row(row: &postgres::Row) -> Result<Row, StoreError> {
    let value = |place: usize| {
        let kind = row.columns()[place].type_();
        let read = match *kind {
            Type::INT8 => row.try_get::<_, Option<i64>>(place).map(|it| it.map(Value::Int)),
            Type::INT4 => {
                row.try_get::<_, Option<i32>>(place).map(|it| it.map(|it| Value::Int(it.into())))
            }
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(place).map(|it| it.map(Value::Bytes)),
            _ => row.try_get::<_, Option<String>>(place).map(|it| it.map(Value::Text)),
        };
        read.map(|value| value.unwrap_or(Value::Null)).map_err(|error| failed(&error))
    };
    (0..row.len()).map(value).collect()
}
