//! The one thread that writes: everything that has come in meanwhile goes into one transaction, and each sender is
//! told when that is on the disk.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read as _, Write as _};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use tokio::sync::oneshot;

use super::backend::{Backend, Value};
use super::group::{Entry, group_id};
use super::{Size, StoreError, alarms, retention};
use crate::configuration::StoreName;
use crate::output;
use crate::time::{day, now};
use crate::understand::finding::{Class, Finding};

/// Reports that may wait.
const QUEUE: usize = 2048;

/// The most reports in one transaction.
const BATCH: usize = 4096;

/// How often what is old is deleted.
const CLEAN: Duration = Duration::from_secs(600);

/// The most addresses that are kept of one group.
const MAX_ADDRESSES: i64 = 100;

/// How often a transaction is tried that another collector is in the way of.
const TRIES: u32 = 5;

/// How long to wait before a database that is away is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// The chain of the group for what is beyond the limit.
const OVERFLOW: &str = "overflow";

/// What the writer needs to know.
#[derive(Clone, Debug)]
pub struct WriterSettings {
    /// The store.
    pub name: StoreName,
    /// Days that groups are kept.
    pub days: u32,
    /// Bytes that the database may take.
    pub size: u64,
    /// New groups for one entry of the list of hosts each day: of all that is not urgent, and of each urgent finding.
    pub groups_per_day: u32,
    /// Whether there are alarms for what nobody can explain, too.
    pub unexplained: bool,
}

type Told = oneshot::Sender<Result<(), StoreError>>;

/// The handle of the thread that writes.
#[derive(Debug)]
pub struct Writer {
    queue: SyncSender<(Vec<Entry>, Told)>,
    state: Arc<Mutex<Health>>,
}

/// How the store is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    /// Why the last transaction failed, if it did.
    pub(crate) error: Option<StoreError>,
    /// What it takes.
    pub(crate) size: Option<Size>,
    /// Transactions.
    pub(crate) commits: u64,
}

impl Writer {
    /// Starts the thread. It ends when all handles are gone and everything is written. `wake` hears of new
    /// alarms.
    ///
    /// # Errors
    /// The store cannot be opened.
    pub fn start(
        settings: WriterSettings,
        wake: impl Fn() + Send + 'static,
    ) -> Result<(Self, JoinHandle<()>), StoreError> {
        let backend = match super::open(&settings.name, settings.size) {
            Ok(backend) => Some(backend),
            Err(StoreError::Away(text)) if matches!(settings.name, StoreName::Postgres(_)) => {
                output::log(&format!("the database is away, and will be tried again: {text}"));
                None
            }
            Err(error) => return Err(error),
        };
        let (queue, incoming) = mpsc::sync_channel(QUEUE);
        let state = Arc::new(Mutex::new(Health::default()));
        let mut work = Work {
            backend,
            settings,
            health: Arc::clone(&state),
            today: Today::default(),
            cleaned: None,
            tried: None,
            wake: Box::new(wake),
        };
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || work.run(&incoming))
            .map_err(|error| StoreError::Failed(output::os(&error)))?;
        Ok((Self { queue, state }, thread))
    }

    /// Stores reports; when it returns well, they are on the disk.
    ///
    /// # Errors
    /// The database's, or too much is waiting.
    pub async fn store(&self, entries: Vec<Entry>) -> Result<(), StoreError> {
        let (told, answer) = oneshot::channel();
        self.queue.try_send((entries, told)).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Away("too many reports are waiting".to_owned()),
            TrySendError::Disconnected(_) => StoreError::Failed("the writer ended".to_owned()),
        })?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Failed("the writer ended".to_owned())))
    }

    /// How the store is.
    pub(crate) fn health(&self) -> Health {
        self.state.lock().map_or_else(|health| health.into_inner().clone(), |health| health.clone())
    }
}

/// What is known of today, so that it need not be asked again.
#[derive(Debug, Default)]
struct Today {
    day: i64,
    /// Groups of each entry of the list, by what they share a limit with.
    groups: HashMap<(String, &'static str), u32>,
    /// Groups that exist.
    known: HashSet<String>,
    /// Marks that are stored.
    marks: HashSet<(String, u16)>,
}

/// Reports of one transaction that go into one group.
struct Pending {
    id: String,
    entry: Entry,
    count: i64,
    marks: HashSet<u16>,
    addresses: HashSet<String>,
}

struct Work {
    backend: Option<Box<dyn Backend>>,
    settings: WriterSettings,
    health: Arc<Mutex<Health>>,
    today: Today,
    cleaned: Option<Instant>,
    tried: Option<Instant>,
    wake: Box<dyn Fn() + Send>,
}

impl Work {
    fn run(&mut self, incoming: &Receiver<(Vec<Entry>, Told)>) {
        loop {
            if self.cleaned.is_none_or(|at| at.elapsed() >= CLEAN) {
                self.clean();
            }
            let first = match incoming.recv_timeout(Duration::from_secs(10)) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.recover();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut senders = vec![first.1];
            let mut entries = first.0;
            while entries.len() < BATCH {
                let Ok((more, told)) = incoming.try_recv() else { break };
                entries.extend(more);
                senders.push(told);
            }
            let result = self.write(entries);
            for sender in senders {
                // Whoever has gone does not want to know.
                let _ = sender.send(result.clone());
            }
        }
    }

    fn write(&mut self, entries: Vec<Entry>) -> Result<(), StoreError> {
        let result = self.connect().and_then(|()| self.attempts(entries));
        match &result {
            Ok(()) => {}
            Err(StoreError::Full) => {
                // What is old may make room for what is new.
                self.clean();
            }
            Err(StoreError::Away(_)) => self.backend = None,
            Err(_) => {}
        }
        self.ended(&result);
        result
    }

    /// Notes how a transaction ended.
    fn ended(&self, result: &Result<(), StoreError>) {
        if let Err(error) = result {
            output::log_seldom("store", || format!("cannot store reports: {error}"));
        }
        self.note(|health| {
            health.commits += 1;
            health.error = result.clone().err();
        });
    }

    /// Looks whether a store that failed works again: where no reports come, nobody else would.
    fn recover(&mut self) {
        let has_failed = self.health.lock().is_ok_and(|health| health.error.is_some());
        if !has_failed {
            return;
        }
        let probe = |backend: &mut Box<dyn Backend>| {
            let sql = "UPDATE report_versions SET version = version";
            backend.execute(sql, &[]).map(|_| ())
        };
        let result = self.connect().and_then(|()| self.backend.as_mut().map_or(Ok(()), probe));
        if matches!(result, Err(StoreError::Away(_))) {
            self.backend = None;
        }
        self.ended(&result);
    }

    fn note(&self, change: impl FnOnce(&mut Health)) {
        if let Ok(mut health) = self.health.lock() {
            change(&mut health);
        }
    }

    /// Opens the database again if it was away, or if its file is another one now.
    fn connect(&mut self) -> Result<(), StoreError> {
        if let Some(backend) = &mut self.backend {
            match backend.is_in_place() {
                Ok(()) => return Ok(()),
                Err(error) => output::log(&format!("the database is opened anew: {error}")),
            }
            self.backend = None;
            self.tried = None;
        }
        if self.tried.is_some_and(|at| at.elapsed() < RETRY) {
            return Err(StoreError::Away("not connected".to_owned()));
        }
        self.tried = Some(Instant::now());
        self.backend = Some(super::open(&self.settings.name, self.settings.size)?);
        self.today = Today::default();
        Ok(())
    }

    /// Stores reports. What another collector did at the same time, and a connection that broke before the end of the
    /// transaction, are no reason to refuse them.
    fn attempts(&mut self, entries: Vec<Entry>) -> Result<(), StoreError> {
        let mut tries = 0;
        let mut again = |error: StoreError, is_open: bool| {
            tries += 1;
            match error {
                StoreError::Conflict(_) if tries < TRIES => Ok(false),
                StoreError::Away(_) if is_open && tries == 1 => Ok(true),
                error => Err(error),
            }
        };
        if let Err(error) = self.begin_day() {
            if again(error, true)? {
                self.reconnect()?;
            }
            self.begin_day()?;
        }
        let pending = gather(entries, &mut self.today, &self.settings);
        loop {
            match self.transaction(&pending) {
                Ok(made) => {
                    self.remember(&pending);
                    if made {
                        (self.wake)();
                    }
                    return Ok(());
                }
                Err((error, is_open)) => {
                    if again(error, is_open)? {
                        self.reconnect()?;
                    }
                }
            }
        }
    }

    fn reconnect(&mut self) -> Result<(), StoreError> {
        self.backend = None;
        self.tried = None;
        self.connect()
    }

    fn begin_day(&mut self) -> Result<(), StoreError> {
        match &mut self.backend {
            Some(backend) => self.today.begin(&mut **backend, day(now())),
            None => Err(StoreError::Away("not connected".to_owned())),
        }
    }

    /// One transaction; whether there is a new alarm. With an error, whether nothing can have been stored: after a
    /// connection broke at the end, nobody knows.
    fn transaction(
        &mut self,
        pending: &BTreeMap<String, Pending>,
    ) -> Result<bool, (StoreError, bool)> {
        let Some(backend) = &mut self.backend else {
            return Err((StoreError::Away("not connected".to_owned()), true));
        };
        let unexplained = self.settings.unexplained;
        let written = backend.run("BEGIN").and_then(|()| {
            let mut has_alarm = false;
            for one in pending.values() {
                let is_new = one.write(&mut **backend, &self.today)?;
                let class = one.entry.finding.class();
                if is_new
                    && (class == Class::Urgent || (unexplained && class == Class::Unexplained))
                {
                    alarms::add(&mut **backend, &one.id, class == Class::Urgent, now())?;
                    has_alarm = true;
                }
            }
            Ok(has_alarm)
        });
        let done = match written {
            Ok(has_alarm) => backend.run("COMMIT").map(|()| has_alarm).map_err(|e| (e, false)),
            Err(error) => Err((error, true)),
        };
        if done.is_err() {
            let _ = backend.run("ROLLBACK");
            // What was counted in advance is not there.
            self.today = Today::default();
        }
        done
    }

    fn remember(&mut self, pending: &BTreeMap<String, Pending>) {
        for one in pending.values() {
            self.today.known.insert(one.id.clone());
            self.today.marks.extend(one.marks.iter().map(|mark| (one.id.clone(), *mark)));
        }
    }

    fn clean(&mut self) {
        self.cleaned = Some(Instant::now());
        let Some(backend) = &mut self.backend else { return };
        let Settings { days, size } = Settings::of(&self.settings);
        match retention::apply(&mut **backend, now(), days, size) {
            Ok((gone, size)) => {
                if gone > 0 {
                    output::log(&format!("deleted {gone} old groups of reports"));
                    self.today = Today::default();
                }
                self.note(|health| health.size = Some(size));
            }
            Err(error) => {
                output::log_seldom("clean", || format!("cannot delete old reports: {error}"));
            }
        }
    }
}

/// What retention needs.
struct Settings {
    days: u32,
    size: u64,
}

impl Settings {
    const fn of(settings: &WriterSettings) -> Self {
        Self { days: settings.days, size: settings.size }
    }
}

impl Today {
    /// Begins a new day, or a new connection: what exists of it already counts.
    fn begin(&mut self, backend: &mut dyn Backend, day: i64) -> Result<(), StoreError> {
        if self.day == day {
            return Ok(());
        }
        let sql = "SELECT id, entry, chain, finding FROM report_groups WHERE day = $1";
        let mut today = Self { day, ..Self::default() };
        for row in backend.query(sql, &[Value::Int(day)])? {
            let mut values = row.into_iter();
            let mut next = || values.next().unwrap_or(Value::Null).text();
            let (id, entry, chain, code) = (next(), next(), next(), next());
            today.known.insert(id);
            if chain != OVERFLOW {
                let limit = Finding::of_code(&code).map_or("", limit_of);
                *today.groups.entry((entry, limit)).or_default() += 1;
            }
        }
        *self = today;
        Ok(())
    }
}

/// What a finding shares the limit of groups with: whoever makes reports up must not push what is urgent out, so that
/// each urgent finding has a limit of its own.
const fn limit_of(finding: Finding) -> &'static str {
    match finding.class() {
        Class::Urgent => finding.code(),
        Class::Unexplained | Class::Noise => "",
    }
}

/// The groups of the reports; what is beyond the limit goes into the group for that.
fn gather(
    entries: Vec<Entry>,
    today: &mut Today,
    settings: &WriterSettings,
) -> BTreeMap<String, Pending> {
    // In the order of their ids, so that two collectors never wait for each other.
    let mut pending: BTreeMap<String, Pending> = BTreeMap::new();
    for mut entry in entries {
        let id_of = |entry: &Entry| {
            let code = entry.finding.code();
            group_id(&entry.host, &entry.chain, entry.client, day(entry.at), code)
        };
        let mut id = id_of(&entry);
        if !today.known.contains(&id) && !pending.contains_key(&id) {
            let key = (entry.entry.clone(), limit_of(entry.finding));
            let groups = today.groups.entry(key).or_default();
            if *groups < settings.groups_per_day {
                *groups += 1;
            } else {
                entry.chain = OVERFLOW.to_owned();
                entry.host = entry.entry.trim_start_matches("*.").to_owned();
                entry.finding = Finding::Overflow;
                entry.detail = String::new();
                entry.raw = Arc::new([]);
                id = id_of(&entry);
            }
        }
        let one = pending.entry(id.clone()).or_insert_with(|| Pending {
            id,
            entry: entry.clone(),
            count: 0,
            marks: HashSet::new(),
            addresses: HashSet::new(),
        });
        one.count = one.count.saturating_add(entry.count);
        one.marks.insert(entry.mark);
        one.addresses.extend(entry.address);
    }
    pending
}

impl Pending {
    /// Writes it; whether the group is new.
    fn write(&self, backend: &mut dyn Backend, today: &Today) -> Result<bool, StoreError> {
        let Entry { at, .. } = self.entry;
        let sql = "UPDATE report_groups SET count = count + $1, \
                   last_seen = CASE WHEN last_seen < $2 THEN $2 ELSE last_seen END WHERE id = $3";
        let parameters = [self.count.into(), at.into(), self.id.as_str().into()];
        let is_known = backend.execute(sql, &parameters)? > 0;
        let is_new = !is_known && self.insert(backend)?;
        if !is_known && !is_new {
            // Another collector has made it meanwhile.
            backend.execute(sql, &parameters)?;
        }
        for mark in &self.marks {
            if today.marks.contains(&(self.id.clone(), *mark)) {
                continue;
            }
            let sql = "INSERT INTO report_clients (group_id, mark) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            backend.execute(sql, &[self.id.as_str().into(), i64::from(*mark).into()])?;
        }
        for address in &self.addresses {
            let sql = "INSERT INTO report_addresses (group_id, address) SELECT $1, $2 \
                       WHERE (SELECT COUNT(*) FROM report_addresses WHERE group_id = $1) < $3 \
                       ON CONFLICT DO NOTHING";
            let parameters =
                [self.id.as_str().into(), address.as_str().into(), MAX_ADDRESSES.into()];
            backend.execute(sql, &parameters)?;
        }
        Ok(is_new)
    }

    fn insert(&self, backend: &mut dyn Backend) -> Result<bool, StoreError> {
        let Entry { at, .. } = self.entry;
        let entry = &self.entry;
        let sql = "INSERT INTO report_groups (id, host, entry, port, chain, client, day, finding, detail, format, \
                   mode, count, first_seen, last_seen, raw) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
                   ON CONFLICT (id) DO NOTHING";
        let parameters = [
            self.id.as_str().into(),
            entry.host.as_str().into(),
            entry.entry.as_str().into(),
            entry.port.map_or(Value::Null, |port| i64::from(port).into()),
            entry.chain.as_str().into(),
            entry.client.into(),
            day(at).into(),
            entry.finding.code().into(),
            // PostgreSQL takes no NUL in a text.
            output::printable(&entry.detail).as_str().into(),
            entry.format.into(),
            entry.mode.into(),
            self.count.into(),
            at.into(),
            at.into(),
            Value::Bytes(pack(&entry.raw)),
        ];
        Ok(backend.execute(sql, &parameters)? > 0)
    }
}

/// Certificates in base64 take a third less when they are packed.
fn pack(raw: &[u8]) -> Vec<u8> {
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
