//! A PostgreSQL database: a table with the records, to which a role may add only those of its own writers.
//!
//! `postgres.sql` creates the tables. Each writer numbers its own records, and each transaction locks the row of its
//! writer. So the records of a writer become visible in the order of their numbers, and a query for higher numbers than
//! the last known one misses nothing.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use hpkp_core::published::WriterName;
use hpkp_core::published::file::MAX_FILE;
use hpkp_core::text::Excerpt;
use openssl::ssl::{SslConnector, SslFiletype, SslMethod};
use postgres_openssl::MakeTlsConnector;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls, Row, Socket, Transaction};
use url::Url;

use super::contract::{
    Extent, MAX_WRITERS, Options, Outgoing, Piece, Remote, Store, Wanted, check_count, heartbeat,
};
use super::error::{StoreError, VERSION};
use super::lease::{Lease, TRIES, Term};

/// The statements that make each version of the tables from the one before.
const MIGRATIONS: [&str; VERSION as usize] = [include_str!("postgres.sql")];

/// The most writers whose records one query reads, and the most records that one query writes.
const WRITERS_AT_ONCE: usize = 200;
const RECORDS_AT_ONCE: usize = 5_000;

/// The most bytes that one query for records may return: a server could send rows without end.
const MAX_BYTES: usize = 2_000_000_000;
/// The memory that a row needs besides its text, in bytes.
const ROW: usize = 64;

/// The pause after a notification, so that several machines that write at the same time cause one pass, and the least
/// time between passes, so that a machine that notifies without end does not cause passes without end.
const MOMENT: Duration = Duration::from_millis(200);
const LEAST: Duration = Duration::from_secs(1);

/// The largest password file that is read, in bytes.
const MAX_PASSWORDS: u64 = 1 << 20;

/// A store in a database.
pub(super) struct PostgresStore {
    runtime: Runtime,
    client: Client,
    /// For each notification, the server process that has sent it.
    notified: UnboundedReceiver<i32>,
    /// The server process of this connection, once the connection listens.
    listens_as: Option<i32>,
    limit: Limit,
}

/// The time limit for each answer of the server: a server that accepts connections and never answers must not block a
/// pass.
#[derive(Clone, Copy)]
struct Limit(Duration);

impl Limit {
    async fn on<T>(self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
        self.raw(answer).await?.map_err(|error| failure(&error))
    }

    /// The same, but keeps the error of the server.
    async fn raw<T>(self, answer: impl Future<Output = T>) -> Result<T, StoreError> {
        tokio::time::timeout(self.0, answer).await.map_err(|_| {
            StoreError::Failed(format!("no answer within {} seconds", self.0.as_secs()))
        })
    }
}

impl PostgresStore {
    pub(super) fn connect(url: &Url, options: &Options) -> Result<Self, StoreError> {
        let (mut config, tls) = configured(url)?;
        let limit = options.timeout;
        config
            .application_name("hpkp-sync")
            .connect_timeout(limit)
            .tcp_user_timeout(limit)
            .keepalives_idle(limit)
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .options(format!("-c statement_timeout={} -c lock_timeout={0}", limit.as_millis()));
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| StoreError::Failed(hpkp_cli::sync::os(&error)))?;
        let limit = Limit(limit);
        let (sender, notified) = unbounded_channel();
        let client = match tls {
            Some(tls) => {
                config.ssl_mode(SslMode::Require);
                runtime.block_on(connected(&config, tls, limit, sender))
            }
            None => {
                config.ssl_mode(SslMode::Disable);
                runtime.block_on(connected(&config, NoTls, limit, sender))
            }
        }?;
        Ok(Self { runtime, client, notified, listens_as: None, limit })
    }

    fn is_store(&self) -> Result<(), StoreError> {
        match self.runtime.block_on(version(&self.client, self.limit))? {
            Some(found) if found == VERSION as i32 => Ok(()),
            Some(found) => Err(StoreError::Version(found.to_string())),
            None => Err(StoreError::NotInitialised),
        }
    }
}

/// Connects. A task runs the connection and sends the process of each notification to `notified`.
async fn connected<T>(
    config: &Config,
    tls: T,
    limit: Limit,
    notified: UnboundedSender<i32>,
) -> Result<Client, StoreError>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, mut connection) = limit.on(config.connect(tls)).await?;
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message {
                // An error means that nobody waits for notifications.
                let _ = notified.send(notification.process_id());
            }
        }
    });
    Ok(client)
}

/// The version of the tables; none where the tables do not exist.
async fn version(client: &Client, limit: Limit) -> Result<Option<i32>, StoreError> {
    let asked = client.query_opt("SELECT version FROM hpkp.store", &[]);
    match limit.raw(asked).await? {
        Ok(row) => row.map(|row| value(&row, 0)).transpose(),
        Err(error) => match error.code() {
            Some(code)
                if [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME].contains(code) =>
            {
                Ok(None)
            }
            _ => Err(failure(&error)),
        },
    }
}

/// The value of a column, or an error if the table has another type there.
fn value<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, StoreError> {
    row.try_get(column).map_err(|error| failure(&error))
}

impl Store for PostgresStore {
    fn init(&mut self) -> Result<(), StoreError> {
        let Self { runtime, client, limit, .. } = self;
        let limit = *limit;
        runtime.block_on(async {
            // If two machines do this at the same time, the second waits and then finds the tables.
            limit.on(client.batch_execute("SELECT pg_advisory_lock(7469156104)")).await?;
            let found = version(client, limit).await?.unwrap_or(0);
            if found > VERSION as i32 {
                return Err(StoreError::Version(found.to_string()));
            }
            let transaction = limit.on(client.transaction()).await?;
            // The owner of the database may have created the schema for a role that is not allowed to.
            let query = "SELECT to_regnamespace('hpkp') IS NULL";
            let row = limit.on(transaction.query_one(query, &[])).await?;
            if value(&row, 0)? {
                limit.on(transaction.batch_execute("CREATE SCHEMA hpkp")).await?;
            }
            for migration in MIGRATIONS.iter().skip(found as usize) {
                limit.on(transaction.batch_execute(migration)).await?;
            }
            limit.on(transaction.commit()).await
        })
    }

    fn list(&mut self) -> Result<BTreeMap<WriterName, Remote>, StoreError> {
        self.is_store()?;
        let query = "SELECT writer, seq, id, heartbeat FROM hpkp.writer LIMIT $1";
        let most = MAX_WRITERS as i64 + 1;
        let rows = self.runtime.block_on(self.limit.on(self.client.query(query, &[&most])))?;
        check_count(rows.len())?;
        let mut all = BTreeMap::new();
        for row in &rows {
            let (name, seq, id, beat): (&str, i64, &str, &str) =
                (value(row, 0)?, value(row, 1)?, value(row, 2)?, value(row, 3)?);
            let Ok(writer) = name.parse::<WriterName>() else { continue };
            let beat = Some(heartbeat(&writer, beat.as_bytes()));
            all.insert(writer, Remote { mark: mark(seq, id), beat, fault: None });
        }
        Ok(all)
    }

    fn read(
        &mut self,
        wanted: &[Wanted],
        take: &mut dyn FnMut(Piece) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for wanted in wanted.chunks(WRITERS_AT_ONCE) {
            let mut pieces = self.runtime.block_on(lines(&self.client, self.limit, wanted))?;
            for one in wanted {
                let lines = Ok(pieces.remove(one.writer.as_str()).unwrap_or_default());
                let extent = if one.from.is_some() { Extent::From } else { Extent::Whole };
                take(Piece { writer: one.writer.clone(), lines, extent })?;
            }
        }
        Ok(())
    }

    fn write(&mut self, outgoing: &[Outgoing<'_>]) -> Result<(), StoreError> {
        let Self { runtime, client, limit, .. } = self;
        runtime.block_on(async {
            let transaction = limit.on(client.transaction()).await?;
            // Acknowledged records must be on the disk, whatever the server's default is.
            let durable = "SELECT set_config('synchronous_commit', 'on', true) \
                           WHERE current_setting('synchronous_commit') IN ('off', 'local')";
            limit.on(transaction.execute(durable, &[])).await?;
            for one in outgoing {
                write_one(&transaction, *limit, one).await?;
            }
            limit.on(transaction.commit()).await
        })
    }

    fn lease(&mut self, name: &str, term: &Term) -> Result<Lease, StoreError> {
        self.is_store()?;
        let Self { runtime, client, limit, .. } = self;
        runtime.block_on(async {
            for _ in 0..TRIES {
                let transaction = limit.on(client.transaction()).await?;
                let ended = "DELETE FROM hpkp.lease WHERE name = $1 AND until <= now()";
                limit.on(transaction.execute(ended, &[&name])).await?;
                let query = "INSERT INTO hpkp.lease (name, holder, token, until) \
                             VALUES ($1, $2, $3, now() + make_interval(secs => $4)) ON CONFLICT DO NOTHING";
                let seconds = term.seconds as f64;
                let parameters: [&(dyn ToSql + Sync); 4] =
                    [&name, &term.holder, &term.token, &seconds];
                let taken = limit.on(transaction.execute(query, &parameters)).await?;
                limit.on(transaction.commit()).await?;
                if taken == 1 {
                    return Ok(Lease { name: name.to_owned(), token: term.token.clone() });
                }
                if let Some(error) = holder(client, *limit, name).await? {
                    return Err(error);
                }
                // The lease was given back meanwhile.
            }
            Err(StoreError::changes_too_fast(name))
        })
    }

    fn release(&mut self, lease: &Lease) -> Result<(), StoreError> {
        let Self { runtime, client, limit, .. } = self;
        runtime.block_on(async {
            let query = "DELETE FROM hpkp.lease WHERE name = $1 AND token = $2";
            match limit.on(client.execute(query, &[&lease.name, &lease.token])).await? {
                0 => {
                    let other = holder(client, *limit, &lease.name).await?;
                    Err(other.unwrap_or_else(|| StoreError::LeaseLost(lease.name.clone())))
                }
                _ => Ok(()),
            }
        })
    }

    fn stays_open(&self) -> bool {
        true
    }

    fn wait(&mut self, most: Duration) -> bool {
        let Self { runtime, client, notified, listens_as, limit } = self;
        runtime.block_on(async {
            let Some(own) = *listens_as else {
                // Notifications arrive from now on. The next pass begins at once and finds what came before.
                let listens = async {
                    limit.on(client.batch_execute("LISTEN hpkp")).await?;
                    let row = limit.on(client.query_one("SELECT pg_backend_pid()", &[])).await?;
                    value(&row, 0)
                };
                *listens_as = listens.await.ok();
                return listens_as.is_some();
            };
            let started = Instant::now();
            while let Some(left) = most.checked_sub(started.elapsed()) {
                match tokio::time::timeout(left, notified.recv()).await {
                    Ok(Some(process)) if process == own => {}
                    Ok(Some(_)) => {
                        let pause = LEAST.saturating_sub(started.elapsed()).max(MOMENT);
                        tokio::time::sleep(pause).await;
                        while notified.try_recv().is_ok() {}
                        return true;
                    }
                    // The connection has ended.
                    Ok(None) => return false,
                    Err(_) => return true,
                }
            }
            true
        })
    }
}

/// The wanted lines of some writers, by writer.
async fn lines(
    client: &Client,
    limit: Limit,
    wanted: &[Wanted],
) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
    let query = "SELECT r.writer, r.line FROM unnest($1::text[], $2::bigint[]) AS w(writer, first) \
                 JOIN hpkp.record r ON r.writer = w.writer AND r.seq >= w.first ORDER BY r.writer, r.seq";
    let writers: Vec<&str> = wanted.iter().map(|one| one.writer.as_str()).collect();
    let from = wanted.iter().map(|one| one.from.unwrap_or(0));
    let from: Vec<i64> = from.map(|seq| i64::try_from(seq).unwrap_or(i64::MAX)).collect();
    let parameters: [&(dyn ToSql + Sync); 2] = [&writers, &from];
    let mut rows = pin!(limit.on(client.query_raw(query, parameters)).await?);
    let mut pieces = BTreeMap::<String, Vec<u8>>::new();
    let mut bytes = 0_usize;
    while let Some(row) = limit.on(rows.try_next()).await? {
        let (writer, line): (&str, &str) = (value(&row, 0)?, value(&row, 1)?);
        bytes = bytes.saturating_add(writer.len() + line.len() + ROW);
        if bytes > MAX_BYTES {
            let text =
                format!("the store has more than {MAX_BYTES} bytes for {} writers", wanted.len());
            return Err(StoreError::TooMuch(text));
        }
        let lines = match pieces.get_mut(writer) {
            Some(lines) => lines,
            None => pieces.entry(writer.to_owned()).or_default(),
        };
        // Lines beyond the limit of a file are dropped; the records are too long then, and are refused as a whole.
        if lines.len() <= MAX_FILE {
            lines.extend(line.as_bytes());
            lines.push(b'\n');
        }
    }
    Ok(pieces)
}

/// The error that names the holder of a lease; none where nobody has it.
async fn holder(
    client: &Client,
    limit: Limit,
    name: &str,
) -> Result<Option<StoreError>, StoreError> {
    // A role that may take leases may insert one that never ends.
    let query = "SELECT holder, ceil(extract(epoch FROM least(until, now() + interval '100 years') - now()))::bigint \
                 FROM hpkp.lease WHERE name = $1";
    let Some(row) = limit.on(client.query_opt(query, &[&name])).await? else { return Ok(None) };
    Ok(Some(StoreError::Leased {
        name: name.to_owned(),
        holder: Excerpt::new(value::<&str>(&row, 0)?).to_string(),
        seconds: value::<i64>(&row, 1)?.max(0),
        term: None,
    }))
}

/// Identifies the state of a writer's records. Records are only added, so the newest one identifies the state.
fn mark(seq: i64, id: &str) -> String {
    format!("{seq}-{id}")
}

async fn write_one(
    transaction: &Transaction<'_>,
    limit: Limit,
    one: &Outgoing<'_>,
) -> Result<(), StoreError> {
    let changed = || StoreError::Changed(one.writer.clone());
    let writer = one.writer.as_str();
    let beat = serde_json::to_string(&one.beat).unwrap_or_default();
    let number = |seq: u64| {
        i64::try_from(seq)
            .map_err(|_| StoreError::TooMuch(format!("{writer}: number {seq} is too large")))
    };
    let query = "SELECT seq, id FROM hpkp.writer WHERE writer = $1 FOR UPDATE";
    let found = match limit.on(transaction.query_opt(query, &[&writer])).await? {
        Some(row) => mark(value(&row, 0)?, value(&row, 1)?),
        None => String::new(),
    };
    if found != one.mark {
        return Err(changed());
    }
    if found.is_empty() {
        let query = "INSERT INTO hpkp.writer VALUES ($1, -1, '', $2) ON CONFLICT DO NOTHING";
        if limit.on(transaction.execute(query, &[&writer, &beat])).await? == 0 {
            return Err(changed());
        }
    }
    for records in one.fresh.chunks(RECORDS_AT_ONCE) {
        let numbers: Result<Vec<i64>, StoreError> =
            records.iter().map(|(seq, ..)| number(*seq)).collect();
        let numbers = numbers?;
        let ids: Vec<&str> = records.iter().map(|(_, id, _)| id.as_str()).collect();
        let lines: Vec<&str> = records.iter().map(|(.., line)| *line).collect();
        let query = "INSERT INTO hpkp.record SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::text[])";
        let parameters: [&(dyn ToSql + Sync); 4] = [&writer, &numbers, &ids, &lines];
        let added = limit.raw(transaction.execute(query, &parameters)).await?;
        added.map_err(|error| match error.code() {
            Some(&SqlState::UNIQUE_VIOLATION) => changed(),
            _ => failure(&error),
        })?;
    }
    let query = "UPDATE hpkp.writer SET heartbeat = $2, seq = greatest(seq, $3), \
                 id = CASE WHEN $3 >= seq THEN $4 ELSE id END WHERE writer = $1";
    let (seq, id) = match one.fresh.last() {
        Some((seq, id, _)) => (number(*seq)?, id.as_str()),
        None => (-1, ""),
    };
    limit.on(transaction.execute(query, &[&writer, &beat, &seq, &id])).await?;
    if !one.fresh.is_empty() {
        // Heartbeats alone do not notify: in a large fleet they would cause passes all the time.
        limit.on(transaction.execute("SELECT pg_notify('hpkp', $1)", &[&writer])).await?;
    }
    Ok(())
}

/// The configuration from a URL, and the TLS connector that verifies the server. A server on another machine is
/// verified, name included, unless the URL has `sslmode=disable`.
fn configured(url: &Url) -> Result<(Config, Option<MakeTlsConnector>), StoreError> {
    let mut plain = url.clone();
    let mut tls = BTreeMap::new();
    let mut kept = Vec::new();
    for (name, value) in url.query_pairs() {
        if name.starts_with("ssl") {
            tls.insert(name.into_owned(), value.into_owned());
        } else {
            kept.push((name.into_owned(), value.into_owned()));
        }
    }
    plain.set_query(None);
    if !kept.is_empty() {
        plain.query_pairs_mut().extend_pairs(kept);
    }
    // The form encoding above writes a blank as "+", which PostgreSQL URLs take literally.
    let query = plain.query().map(|query| query.replace('+', "%20"));
    plain.set_query(query.as_deref());
    let config: Result<Config, Error> = plain.as_str().parse();
    let mut config = config.map_err(|error| StoreError::Failed(chain(&error)))?;
    if config.get_password().is_none() {
        if let Some(password) = password(&config)? {
            config.password(password);
        }
    }
    let is_local = config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost"
                || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        }
    });
    // The connection goes to hostaddr if it is given, whatever the host is called.
    let is_local = is_local && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback);
    let wants_tls = match tls.get("sslmode").map(String::as_str) {
        Some("disable") => false,
        Some("require" | "verify-ca" | "verify-full") => true,
        None => !is_local,
        Some(_) => {
            return Err(StoreError::Failed(
                "sslmode: expected disable, require or verify-full".to_owned(),
            ));
        }
    };
    let tls = if wants_tls { Some(connector(&tls)?) } else { None };
    Ok((config, tls))
}

fn connector(options: &BTreeMap<String, String>) -> Result<MakeTlsConnector, StoreError> {
    let failed = |error: openssl::error::ErrorStack| StoreError::Failed(format!("TLS: {error}"));
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(failed)?;
    for (name, value) in options {
        match name.as_str() {
            "sslmode" => {}
            "sslrootcert" if value == "system" => {}
            "sslrootcert" => builder.set_ca_file(value).map_err(failed)?,
            "sslcert" => builder.set_certificate_chain_file(value).map_err(failed)?,
            "sslkey" => builder.set_private_key_file(value, SslFiletype::PEM).map_err(failed)?,
            other => {
                return Err(StoreError::Failed(format!(
                    "unsupported parameter {other} of the store"
                )));
            }
        }
    }
    Ok(MakeTlsConnector::new(builder.build()))
}

/// The password from the environment, or from PostgreSQL's password file.
fn password(config: &Config) -> Result<Option<String>, StoreError> {
    if let Ok(password) = std::env::var("PGPASSWORD") {
        return Ok(Some(password));
    }
    let path = std::env::var_os("PGPASSFILE").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pgpass"));
    let Some(path) = path.or_else(home) else { return Ok(None) };
    let failed = |error: std::io::Error| StoreError::io(&path, &error);
    let mut text = String::new();
    match std::fs::metadata(&path) {
        Ok(found) if !found.is_file() => return Ok(None),
        // PostgreSQL's own programs refuse such a file as well.
        Ok(found) if found.mode() & 0o077 != 0 => {
            return Err(StoreError::Failed(format!(
                "{}: other users may read the passwords in this file (mode {:o}); to fix: chmod 600 {0}",
                path.display(),
                found.mode() & 0o7777
            )));
        }
        Ok(_) => {
            let file = std::fs::File::open(&path).map_err(failed)?;
            file.take(MAX_PASSWORDS).read_to_string(&mut text).map_err(failed)?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    Ok(found_password(config, &text))
}

fn found_password(config: &Config, text: &str) -> Option<String> {
    let host = match config.get_hosts().first()? {
        Host::Tcp(name) => name.clone(),
        Host::Unix(_) => "localhost".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432).to_string();
    let user = config.get_user().unwrap_or_default();
    let wanted = [host.as_str(), &port, config.get_dbname().unwrap_or(user), user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let (fields, password) = (fields.get(..4)?, fields.get(4)?);
        let fits = fields.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted);
        fits.then(|| password.clone())
    })
}

/// The fields of a line of a password file. A backslash escapes colons and backslashes in a field.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ':' => fields.push(String::new()),
            letter => {
                let letter = if letter == '\\' { letters.next().unwrap_or('\\') } else { letter };
                fields.last_mut().into_iter().for_each(|field| field.push(letter));
            }
        }
    }
    fields
}

fn failure(error: &Error) -> StoreError {
    if let Some(error) = error.as_db_error() {
        let text = Excerpt::new(error.message()).to_string();
        let denied = [
            SqlState::INSUFFICIENT_PRIVILEGE,
            SqlState::INVALID_PASSWORD,
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ];
        return if denied.contains(error.code()) {
            StoreError::Denied(text)
        } else {
            StoreError::Failed(text)
        };
    }
    StoreError::Failed(chain(error))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let one = error.to_string();
        if !text.contains(&one) {
            text = format!("{text}: {one}");
        }
        cause = error.source();
    }
    let text = match text.strip_prefix("error connecting to server: ") {
        Some(cause) => {
            format!("cannot connect: {}", hpkp_cli::sync::os(&std::io::Error::other(cause)))
        }
        None => hpkp_cli::sync::os(&std::io::Error::other(text)),
    };
    Excerpt::new(&text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_required_unless_the_address_is_local_or_disabled() {
        let is_tls = |text: &str| configured(&Url::parse(text).unwrap()).unwrap().1.is_some();
        for text in [
            "postgres://u@db.example.com/x",
            "postgres://u@192.0.2.1/x",
            "postgres://u@localhost/x?hostaddr=192.0.2.1",
            "postgres://u@localhost/x?sslmode=require",
            "postgres://u@localhost/x?sslmode=verify-ca",
        ] {
            assert!(is_tls(text), "{text}");
        }
        for text in [
            "postgres://u@localhost/x",
            "postgres://u@127.0.0.1/x",
            "postgres:///x?host=/run/postgresql&user=u",
            "postgres://u@db.example.com/x?sslmode=disable",
        ] {
            assert!(!is_tls(text), "{text}");
        }
        for mode in ["prefer", "allow", "", "verify_full", "Disable"] {
            let url = format!("postgres://u@localhost/x?sslmode={mode}");
            assert!(configured(&Url::parse(&url).unwrap()).is_err(), "{mode}");
        }
    }
}
