//! The thread that writes: puts all waiting reports into one transaction. Each sender gets its answer when the
//! transaction is on the disk.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::backend::Backend;
use super::group::Entry;
use super::pending::{self, Pending, Today};
use super::{Size, StoreError, alarms, retention};
use crate::configuration::StoreName;
use crate::output;
use crate::time::{day, now};
use crate::understand::finding::Class;

/// The most requests whose reports may wait.
const QUEUE: usize = 2048;

/// The most reports in one transaction.
const BATCH: usize = 4096;

/// How often old groups are deleted.
const CLEAN: Duration = Duration::from_secs(600);

/// How long to wait before an unavailable database is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// How long a transaction waits for clients that have just received their answers and send again: one transaction with
/// all their reports takes no longer than one with the first.
const GATHER: Duration = Duration::from_millis(1);

/// How often an idle database is probed.
const PROBE: Duration = Duration::from_secs(10);

/// How often a transaction is tried after conflicts with other collectors.
const TRIES: u32 = 5;

/// The settings of the writer.
#[derive(Clone, Debug)]
pub struct WriterSettings {
    /// The store.
    pub name: StoreName,
    /// How many days groups are kept.
    pub days: u32,
    /// The largest size of the database in bytes.
    pub size: u64,
    /// New groups per day for one entry of the list of hosts: for each urgent finding, and for all others together.
    pub groups_per_day: u32,
    /// Whether unexplained findings cause alarms too.
    pub unexplained: bool,
}

/// Whether a store that cannot be opened at the start may open later: when the disk has space again, or when the server
/// answers. A file that cannot be opened needs the operator.
fn may_come(error: &StoreError, name: &StoreName) -> bool {
    match error {
        StoreError::Full => true,
        StoreError::Away(_) => matches!(name, StoreName::Postgres(_)),
        StoreError::Conflict(_) | StoreError::Failed(_) => false,
    }
}

type Acknowledgement = oneshot::Sender<Result<(), StoreError>>;

/// The reports of one sender, and the channel for its answer.
type Job = (Vec<Entry>, Acknowledgement);

/// The handle of the thread that writes.
#[derive(Debug)]
pub struct Writer {
    queue: SyncSender<Job>,
    state: Arc<Mutex<Health>>,
}

/// The state of the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    /// Why the last transaction failed, if it did.
    pub(crate) error: Option<StoreError>,
    /// The size of the database.
    pub(crate) size: Option<Size>,
    /// The number of transactions.
    pub(crate) commits: u64,
}

impl Writer {
    /// Starts the thread. It ends when all handles are dropped and everything is written. `wake` is called after new
    /// alarms.
    ///
    /// # Errors
    /// The store cannot be opened.
    pub fn start(
        settings: WriterSettings,
        wake: impl Fn() + Send + 'static,
    ) -> Result<(Self, JoinHandle<()>), StoreError> {
        let mut health = Health::default();
        let backend = match super::open(&settings.name, settings.size) {
            Ok(backend) => Some(backend),
            Err(error) if may_come(&error, &settings.name) => {
                output::log(&format!("{error}; it will be tried again"));
                health.error = Some(error);
                None
            }
            Err(error) => return Err(error),
        };
        let (queue, incoming) = mpsc::sync_channel(QUEUE);
        let state = Arc::new(Mutex::new(health));
        let mut work = Work {
            backend,
            settings,
            health: Arc::clone(&state),
            today: Today::default(),
            cleaned: None,
            tried: None,
            senders: 0,
            wake: Box::new(wake),
        };
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || work.run(&incoming))
            .map_err(|error| StoreError::Failed(output::os(&error)))?;
        Ok((Self { queue, state }, thread))
    }

    /// Stores reports. On success they are on the disk.
    ///
    /// # Errors
    /// The database's, or too many reports are waiting.
    pub async fn store(&self, entries: Vec<Entry>) -> Result<(), StoreError> {
        let (acknowledgement, answer) = oneshot::channel();
        self.queue.try_send((entries, acknowledgement)).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Away("too many reports are waiting".to_owned()),
            TrySendError::Disconnected(_) => StoreError::Failed("the writer ended".to_owned()),
        })?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Failed("the writer ended".to_owned())))
    }

    /// The state of the store.
    pub(crate) fn health(&self) -> Health {
        self.state.lock().map_or_else(|health| health.into_inner().clone(), |health| health.clone())
    }
}

struct Work {
    backend: Option<Box<dyn Backend>>,
    settings: WriterSettings,
    health: Arc<Mutex<Health>>,
    today: Today,
    cleaned: Option<Instant>,
    tried: Option<Instant>,
    /// The number of senders in the last transaction.
    senders: usize,
    wake: Box<dyn Fn() + Send>,
}

impl Work {
    fn run(&mut self, incoming: &Receiver<Job>) {
        loop {
            if self.cleaned.is_none_or(|at| at.elapsed() >= CLEAN) {
                self.clean();
            }
            let wait = if self.is_well() { PROBE } else { RETRY };
            let first = match incoming.recv_timeout(wait) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.probe();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let (entries, senders) = self.batch(first, incoming);
            let result = self.write(entries);
            for sender in senders {
                // An error means that the sender has closed its connection.
                let _ = sender.send(result.clone());
            }
        }
    }

    /// Takes all waiting reports for one transaction.
    fn batch(
        &mut self,
        first: Job,
        incoming: &Receiver<Job>,
    ) -> (Vec<Entry>, Vec<Acknowledgement>) {
        let until = Instant::now() + GATHER;
        let (mut entries, mut senders) = (first.0, vec![first.1]);
        while entries.len() < BATCH {
            let next = match incoming.try_recv() {
                Err(TryRecvError::Empty) if senders.len() < self.senders => {
                    incoming.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
                }
                next => next.ok(),
            };
            let Some((more, acknowledgement)) = next else { break };
            entries.extend(more);
            senders.push(acknowledgement);
        }
        self.senders = senders.len();
        (entries, senders)
    }

    fn write(&mut self, entries: Vec<Entry>) -> Result<(), StoreError> {
        let result = self.connect().and_then(|()| self.attempts(entries));
        self.handle_result(result.clone());
        result
    }

    /// Handles the result of a transaction: logs errors, frees space, updates the state.
    fn handle_result(&mut self, result: Result<(), StoreError>) {
        match &result {
            Ok(()) if !self.is_well() => output::log("reports are stored again"),
            Ok(()) => {}
            Err(StoreError::Full) => {
                // Old groups may make room for new ones, and so may the log of SQLite.
                if let Some(backend) = &mut self.backend {
                    let _ = backend.shrink();
                }
                self.clean();
            }
            Err(StoreError::Away(_)) => self.backend = None,
            Err(_) => {}
        }
        if let Err(error) = &result {
            let last = self.health.lock().ok().and_then(|health| health.error.clone());
            match last {
                Some(last) if last != *error => {
                    output::log(&format!("cannot store reports: {error}"))
                }
                _ => output::log_seldom("store", || format!("cannot store reports: {error}")),
            }
        }
        self.note(|health| {
            health.commits += 1;
            health.error = result.err();
        });
    }

    fn is_well(&self) -> bool {
        self.health.lock().is_ok_and(|health| health.error.is_none())
    }

    /// Probes the database while no reports arrive: whether it answers and, after an error, whether it can be written
    /// again.
    fn probe(&mut self) {
        let was_well = self.is_well();
        let probe = |backend: &mut Box<dyn Backend>| match was_well {
            true => backend.query("SELECT MAX(version) FROM report_versions", &[]).map(|_| ()),
            false => {
                let sql = "UPDATE report_versions SET version = version";
                let written = backend.begin().and_then(|()| backend.execute(sql, &[]));
                let written = written.and_then(|_| backend.run("COMMIT"));
                if written.is_err() {
                    let _ = backend.run("ROLLBACK");
                }
                written
            }
        };
        let result = self.connect().and_then(|()| self.backend.as_mut().map_or(Ok(()), probe));
        if !was_well || result.is_err() {
            self.handle_result(result);
        }
    }

    fn note(&self, change: impl FnOnce(&mut Health)) {
        if let Ok(mut health) = self.health.lock() {
            change(&mut health);
        }
    }

    /// Opens the database again if it was unavailable, or if its file was replaced.
    fn connect(&mut self) -> Result<(), StoreError> {
        if let Some(backend) = &mut self.backend {
            match backend.is_in_place() {
                Ok(()) => return Ok(()),
                Err(error) => output::log(&format!("opening the database again: {error}")),
            }
            self.backend = None;
            self.tried = None;
        }
        if self.tried.is_some_and(|at| at.elapsed() < RETRY) {
            let last = self.health.lock().ok().and_then(|health| health.error.clone());
            return Err(last.unwrap_or_else(|| StoreError::Away("not connected".to_owned())));
        }
        self.tried = Some(Instant::now());
        self.backend = Some(super::open(&self.settings.name, self.settings.size)?);
        self.today = Today::default();
        Ok(())
    }

    /// Stores reports. Tries again after a conflict with another collector, and after a connection that broke before
    /// the end of the transaction.
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
        let pending = pending::gather(entries, &mut self.today, self.settings.groups_per_day);
        loop {
            match self.transaction(&pending) {
                Ok(made) => {
                    pending::remember(&mut self.today, &pending);
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

    /// Runs one transaction. Returns whether there is a new alarm. An error comes with whether surely nothing was
    /// stored: if the connection breaks during COMMIT, the result is unknown.
    fn transaction(
        &mut self,
        pending: &BTreeMap<String, Pending>,
    ) -> Result<bool, (StoreError, bool)> {
        let Some(backend) = &mut self.backend else {
            return Err((StoreError::Away("not connected".to_owned()), true));
        };
        let unexplained = self.settings.unexplained;
        let written = backend.begin().and_then(|()| {
            let made = pending::write(&mut **backend, pending, &self.today)?;
            let mut has_alarm = false;
            for one in pending.values().filter(|one| made.contains(&one.id)) {
                let class = one.entry.finding.class();
                if class == Class::Urgent || (unexplained && class == Class::Unexplained) {
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
            // The groups that were counted in advance do not exist.
            self.today = Today::default();
        }
        done
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

/// The settings for retention.
struct Settings {
    days: u32,
    size: u64,
}

impl Settings {
    const fn of(settings: &WriterSettings) -> Self {
        Self { days: settings.days, size: settings.size }
    }
}
