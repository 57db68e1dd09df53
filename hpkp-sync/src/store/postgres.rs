//! A PostgreSQL database: a table with the records, to which a role may add only those of its own writers.
//!
//! `postgres.sql` has the tables. Numbers of records are the writer's own, so reading after a known number misses
//! nothing: a writer's records become visible in the order of their numbers, because each transaction locks the row
//! of its writer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hpkp_core::published::WriterName;
use hpkp_core::text::Excerpt;
use openssl::ssl::{SslConnector, SslFiletype, SslMethod};
use postgres::config::{Host, SslMode};
use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator as _;
use postgres::{Client, Config, NoTls, Transaction};
use postgres_openssl::MakeTlsConnector;
use url::Url;

use super::contract::{
    Extent, MAX_WRITERS, Options, Outgoing, Piece, Remote, Store, Wanted, heartbeat,
};
use super::error::{StoreError, VERSION};
use super::lease::{Lease, Term};

/// What makes each version from the one before.
const MIGRATIONS: [&str; VERSION as usize] = [include_str!("postgres.sql")];

/// Of how many writers records are read with one query, and how many records are written with one.
const WRITERS_AT_ONCE: usize = 200;
const RECORDS_AT_ONCE: usize = 5_000;

/// A store in a database.
pub(super) struct PostgresStore {
    client: Client,
    /// The process of the server that serves this connection, once it listens.
    listens_as: Option<i32>,
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
            .options(&format!("-c statement_timeout={} -c lock_timeout={0}", limit.as_millis()));
        let client = match tls {
            Some(tls) => config.ssl_mode(SslMode::Require).connect(tls),
            None => config.ssl_mode(SslMode::Disable).connect(NoTls),
        };
        Ok(Self { client: client.map_err(|error| failure(&error))?, listens_as: None })
    }

    /// The version of the tables; none where there are none.
    fn version(&mut self) -> Result<Option<i32>, StoreError> {
        match self.client.query_opt("SELECT version FROM hpkp.store", &[]) {
            Ok(row) => Ok(row.map(|row| row.get(0))),
            Err(error) => match error.code() {
                Some(code)
                    if [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME]
                        .contains(code) =>
                {
                    Ok(None)
                }
                _ => Err(failure(&error)),
            },
        }
    }

    fn is_store(&mut self) -> Result<(), StoreError> {
        match self.version()? {
            Some(found) if found == VERSION as i32 => Ok(()),
            Some(found) => Err(StoreError::Version(found.to_string())),
            None => Err(StoreError::NotInitialised),
        }
    }
}

impl Store for PostgresStore {
    fn init(&mut self) -> Result<(), StoreError> {
        let found = self.version()?.unwrap_or(0);
        if found > VERSION as i32 {
            return Err(StoreError::Version(found.to_string()));
        }
        let mut transaction = self.client.transaction().map_err(|error| failure(&error))?;
        // Two that do this at once: the second finds the tables.
        for migration in MIGRATIONS.iter().skip(found as usize) {
            match transaction.batch_execute(migration) {
                Err(error) if error.code() == Some(&SqlState::DUPLICATE_SCHEMA) => return Ok(()),
                done => done.map_err(|error| failure(&error))?,
            }
        }
        transaction.commit().map_err(|error| failure(&error))
    }

    fn list(&mut self) -> Result<BTreeMap<WriterName, Remote>, StoreError> {
        self.is_store()?;
        let query = "SELECT writer, seq, id, heartbeat FROM hpkp.writer LIMIT $1";
        let most = MAX_WRITERS as i64 + 1;
        let rows = self.client.query(query, &[&most]).map_err(|error| failure(&error))?;
        if rows.len() > MAX_WRITERS {
            return Err(StoreError::TooMuch(format!(
                "the store has more than {MAX_WRITERS} writers"
            )));
        }
        let mut all = BTreeMap::new();
        for row in rows {
            let (name, seq, id, beat): (&str, i64, &str, &str) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
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
        let query = "SELECT r.writer, r.line FROM unnest($1::text[], $2::bigint[]) AS w(writer, first) \
                     JOIN hpkp.record r ON r.writer = w.writer AND r.seq >= w.first ORDER BY r.writer, r.seq";
        for wanted in wanted.chunks(WRITERS_AT_ONCE) {
            let writers: Vec<&str> = wanted.iter().map(|one| one.writer.as_str()).collect();
            let from = wanted.iter().map(|one| one.from.unwrap_or(0));
            let from: Vec<i64> = from.map(|seq| i64::try_from(seq).unwrap_or(i64::MAX)).collect();
            let parameters: [&(dyn postgres::types::ToSql + Sync); 2] = [&writers, &from];
            let mut rows =
                self.client.query_raw(query, parameters).map_err(|error| failure(&error))?;
            let mut pieces = BTreeMap::<String, Vec<u8>>::new();
            while let Some(row) = rows.next().map_err(|error| failure(&error))? {
                let (writer, line): (&str, &str) = (row.get(0), row.get(1));
                let lines = match pieces.get_mut(writer) {
                    Some(lines) => lines,
                    None => pieces.entry(writer.to_owned()).or_default(),
                };
                lines.extend(line.as_bytes());
                lines.push(b'\n');
            }
            drop(rows);
            for one in wanted {
                let lines = pieces.remove(one.writer.as_str()).unwrap_or_default();
                let extent = if one.from.is_some() { Extent::From } else { Extent::Whole };
                take(Piece { writer: one.writer.clone(), lines, extent })?;
            }
        }
        Ok(())
    }

    fn write(&mut self, outgoing: &[Outgoing<'_>]) -> Result<(), StoreError> {
        let mut transaction = self.client.transaction().map_err(|error| failure(&error))?;
        // What is acknowledged is to be on the disk, whatever the server's default is.
        transaction
            .execute(
                "SELECT set_config('synchronous_commit', 'on', true) \
                 WHERE current_setting('synchronous_commit') IN ('off', 'local')",
                &[],
            )
            .map_err(|error| failure(&error))?;
        for one in outgoing {
            write_one(&mut transaction, one)?;
        }
        transaction.commit().map_err(|error| failure(&error))
    }

    fn lease(&mut self, name: &str, term: &Term) -> Result<Lease, StoreError> {
        self.is_store()?;
        let mut transaction = self.client.transaction().map_err(|error| failure(&error))?;
        let ended = "DELETE FROM hpkp.lease WHERE name = $1 AND until <= now()";
        transaction.execute(ended, &[&name]).map_err(|error| failure(&error))?;
        let query = "INSERT INTO hpkp.lease (name, holder, token, until) \
                     VALUES ($1, $2, $3, now() + make_interval(secs => $4)) ON CONFLICT DO NOTHING";
        let seconds = term.seconds as f64;
        let taken = transaction
            .execute(query, &[&name, &term.holder, &term.token, &seconds])
            .map_err(|error| failure(&error))?;
        transaction.commit().map_err(|error| failure(&error))?;
        if taken == 1 {
            return Ok(Lease { name: name.to_owned(), token: term.token.clone() });
        }
        Err(self.holder(name)?)
    }

    fn release(&mut self, lease: &Lease) -> Result<(), StoreError> {
        let query = "DELETE FROM hpkp.lease WHERE name = $1 AND token = $2";
        let ended = self.client.execute(query, &[&lease.name, &lease.token]);
        match ended.map_err(|error| failure(&error))? {
            0 => Err(self.holder(&lease.name)?),
            _ => Ok(()),
        }
    }

    fn stays_open(&self) -> bool {
        true
    }

    fn wait(&mut self, most: Duration) {
        let Some(own) = self.listens_as else {
            // From now on; what came before is found by looking once more, at once.
            let listens = self.client.batch_execute("LISTEN hpkp");
            let process =
                listens.and_then(|()| self.client.query_one("SELECT pg_backend_pid()", &[]));
            match process {
                Ok(row) => self.listens_as = Some(row.get(0)),
                Err(_) => std::thread::sleep(most),
            }
            return;
        };
        let started = std::time::Instant::now();
        while let Some(left) = most.checked_sub(started.elapsed()) {
            match self.client.notifications().timeout_iter(left).next() {
                Ok(Some(notification)) if notification.process_id() == own => {}
                Ok(_) => return,
                Err(_) => return std::thread::sleep(left),
            }
        }
    }
}

impl PostgresStore {
    /// Whose a lease is.
    fn holder(&mut self, name: &str) -> Result<StoreError, StoreError> {
        let query = "SELECT holder, ceil(extract(epoch FROM until - now()))::bigint FROM hpkp.lease WHERE name = $1";
        let row = self.client.query_opt(query, &[&name]).map_err(|error| failure(&error))?;
        Ok(match row {
            Some(row) => StoreError::Leased {
                name: name.to_owned(),
                holder: Excerpt::new(row.get::<_, &str>(0)).to_string(),
                seconds: row.get::<_, i64>(1).max(0),
            },
            None => StoreError::Failed(format!("the lease of {name} has vanished")),
        })
    }
}

/// Which state the records of a writer are in: only added to, so the newest tells it.
fn mark(seq: i64, id: &str) -> String {
    format!("{seq}-{id}")
}

fn write_one(transaction: &mut Transaction<'_>, one: &Outgoing<'_>) -> Result<(), StoreError> {
    let changed = || StoreError::Changed(one.writer.clone());
    let writer = one.writer.as_str();
    let beat = serde_json::to_string(&one.beat).unwrap_or_default();
    let number = |seq: u64| {
        i64::try_from(seq)
            .map_err(|_| StoreError::TooMuch(format!("{writer}: number {seq} is too large")))
    };
    let query = "SELECT seq, id FROM hpkp.writer WHERE writer = $1 FOR UPDATE";
    let row = transaction.query_opt(query, &[&writer]).map_err(|error| failure(&error))?;
    let found = row.map_or_else(String::new, |row| mark(row.get(0), row.get(1)));
    if found != one.mark {
        return Err(changed());
    }
    if found.is_empty() {
        let query = "INSERT INTO hpkp.writer VALUES ($1, -1, '', $2) ON CONFLICT DO NOTHING";
        let new = transaction.execute(query, &[&writer, &beat]).map_err(|error| failure(&error))?;
        if new == 0 {
            return Err(changed());
        }
    }
    for records in one.fresh.chunks(RECORDS_AT_ONCE) {
        let numbers: Result<Vec<i64>, StoreError> =
            records.iter().map(|(seq, ..)| number(*seq)).collect();
        let ids: Vec<&str> = records.iter().map(|(_, id, _)| id.as_str()).collect();
        let lines: Vec<&str> = records.iter().map(|(.., line)| *line).collect();
        let query = "INSERT INTO hpkp.record SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::text[])";
        let added = transaction.execute(query, &[&writer, &numbers?, &ids, &lines]);
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
    transaction.execute(query, &[&writer, &beat, &seq, &id]).map_err(|error| failure(&error))?;
    if !one.fresh.is_empty() {
        // Heartbeats alone would wake up a large fleet all the time.
        transaction
            .execute("SELECT pg_notify('hpkp', $1)", &[&writer])
            .map_err(|error| failure(&error))?;
    }
    Ok(())
}

/// The configuration of a URL, and how to verify the server. Without `sslmode=disable` a server on another machine is
/// verified, name included.
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
    // "+" stands for itself in such a URL.
    let query = plain.query().map(|query| query.replace('+', "%20"));
    plain.set_query(query.as_deref());
    let config: Result<Config, postgres::Error> = plain.as_str().parse();
    let mut config = config.map_err(|error| StoreError::Failed(chain(&error)))?;
    if config.get_password().is_none() {
        if let Some(password) = password(&config) {
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

/// The password of the environment, or of PostgreSQL's password file.
fn password(config: &Config) -> Option<String> {
    if let Ok(password) = std::env::var("PGPASSWORD") {
        return Some(password);
    }
    let path = std::env::var_os("PGPASSFILE").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pgpass"));
    let text = std::fs::read_to_string(path.or_else(home)?).ok()?;
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

/// The fields of a line of a password file: colons and backslashes in them have a backslash in front.
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

fn failure(error: &postgres::Error) -> StoreError {
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
