//! Alarms: once for each new group that somebody should look at, by mail, webhook or command, and no more of them an
//! hour than the limit.
//!
//! Data flow: a group and its alarm go into the store in one transaction → the thread here claims what is due → each
//! way has it, or it is due again later. So an alarm survives a mail server that is away and a restart, and of several
//! collectors one sends it.

mod command;
mod mail;
mod message;
mod webhook;

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use hpkp_core::date;

use crate::configuration::{Alarms, StoreName};
use crate::output::{log, log_seldom};
use crate::store::alarms::{self, Due};
use crate::store::backend::Backend;
use crate::store::{self, Group, StoreError, query};
use crate::time::{DAY, now};
use crate::understand::finding::Finding;
use message::Message;

/// How often the store is asked for alarms that are due.
const LOOK: Duration = Duration::from_secs(10);

/// The window of the limit, in seconds.
const HOUR: i64 = 3600;

/// How long the same finding for the same host and chain is not told again, in seconds: each day has a group of its own.
const SILENCE: i64 = 7 * DAY;

/// How long a collector may take to send an alarm that it has claimed, in seconds; then another may.
const LEASE: i64 = 300;

/// Alarms that are looked at together.
const MANY: i64 = 100;

/// The handle of the thread that sends alarms.
#[derive(Debug)]
pub struct Alarm(SyncSender<()>);

impl Alarm {
    /// Checks what is configured, and the files it names.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(alarms: &Alarms) -> Result<(), String> {
        Ways::new(alarms).map(|_| ())
    }

    /// What will keep alarms from being sent, as far as a look shows: reports are received all the same.
    #[must_use]
    pub fn problem(alarms: &Alarms) -> Option<String> {
        let program = alarms.command.as_ref()?.first()?;
        let error = std::fs::metadata(program).err().filter(|_| program.contains('/'))?;
        Some(format!("alarms.command: {program}: {}", crate::output::os(&error)))
    }

    /// Starts the thread. It ends when the handle is gone; what is not sent then stays in the store.
    ///
    /// # Errors
    /// What is configured is wrong.
    pub fn start(
        alarms: &Alarms,
        base: Option<String>,
        store: (StoreName, u64),
    ) -> Result<Self, String> {
        let (wake, woken) = mpsc::sync_channel(1);
        let mut work = Work {
            ways: Ways::new(alarms)?,
            per_hour: alarms.per_hour,
            base,
            store,
            backend: None,
        };
        std::thread::Builder::new()
            .name("alarms".to_owned())
            .spawn(move || work.run(&woken))
            .map_err(|error| crate::output::os(&error))?;
        Ok(Self(wake))
    }

    /// Hears of new alarms, and never waits: reports come first.
    pub fn wake(&self) {
        // If it is full, somebody woke the thread already.
        let _ = self.0.try_send(());
    }
}

/// The ways that are configured.
struct Ways {
    mail: Option<mail::Way>,
    webhook: Option<webhook::Way>,
    command: Option<command::Way>,
}

impl Ways {
    fn new(alarms: &Alarms) -> Result<Self, String> {
        Ok(Self {
            mail: alarms.mail.as_ref().map(mail::Way::new).transpose()?,
            webhook: alarms.webhook.as_ref().map(webhook::Way::new),
            command: alarms.command.as_deref().and_then(command::Way::new),
        })
    }

    /// Sends a message by each way that is not `done`. The ways that have it now, and what went wrong.
    fn send(&self, message: &Message<'_>, done: &str) -> (String, Vec<String>) {
        let (mut sent, mut errors) = (Vec::new(), Vec::new());
        let mut by = |name: &'static str, send: &dyn Fn() -> Option<Result<(), String>>| {
            if done.split(',').any(|one| one == name) {
                sent.push(name);
                return;
            }
            match send() {
                None => {}
                Some(Ok(())) => sent.push(name),
                Some(Err(error)) => errors.push(format!("by {name}: {error}")),
            }
        };
        by("mail", &|| self.mail.as_ref().map(|way| way.send(message)));
        by("webhook", &|| self.webhook.as_ref().map(|way| way.send(message)));
        by("command", &|| self.command.as_ref().map(|way| way.send(message)));
        (sent.join(","), errors)
    }
}

struct Work {
    ways: Ways,
    per_hour: u32,
    base: Option<String>,
    store: (StoreName, u64),
    backend: Option<Box<dyn Backend>>,
}

impl Work {
    fn run(&mut self, woken: &Receiver<()>) {
        loop {
            match self.connect().and_then(|()| self.pass()) {
                Ok(()) => {}
                Err(error) => {
                    self.backend = None;
                    log_seldom("alarms", || format!("alarms wait: {error}"));
                }
            }
            match woken.recv_timeout(LOOK) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn connect(&mut self) -> Result<(), StoreError> {
        if let Some(backend) = &mut self.backend {
            if backend.is_in_place().is_ok() {
                return Ok(());
            }
        }
        self.backend = Some(store::open(&self.store.0, self.store.1)?);
        Ok(())
    }

    /// Sends what is due and what there is room for.
    fn pass(&mut self) -> Result<(), StoreError> {
        let Self { backend: Some(backend), ways, per_hour, base, .. } = self else { return Ok(()) };
        let backend = &mut **backend;
        for alarm in alarms::due(backend, now(), MANY)? {
            let Some(group) = query::group(backend, &alarm.group)? else { continue };
            if alarms::is_repeated(backend, &group, now() - SILENCE)? {
                alarms::finish(backend, &alarm.group, now(), false)?;
                continue;
            }
            let (told, first) = alarms::told_between(backend, now() - HOUR, now())?;
            // What nobody can explain anybody can make up: it leaves half of the room to what is urgent.
            let per_hour = i64::from(*per_hour);
            let room = if alarm.is_urgent { per_hour } else { (per_hour + 1) / 2 };
            if alarm.tries == 0 && told >= room {
                // The urgent come first, so whatever follows has no room either.
                alarms::postpone(backend, now(), (first + HOUR).max(now() + 1))?;
                log_seldom("alarm-limit", || {
                    "more alarms than per_hour; the rest wait, see the pages".to_owned()
                });
                return Ok(());
            }
            if alarms::claim(backend, &alarm, now() + LEASE)? {
                send(backend, ways, base.as_deref(), &alarm, &group)?;
            }
        }
        Ok(())
    }
}

/// Sends an alarm that is claimed, and notes what came of it.
fn send(
    backend: &mut dyn Backend,
    ways: &Ways,
    base: Option<&str>,
    alarm: &Due,
    group: &Group,
) -> Result<(), StoreError> {
    let Some(finding) = Finding::of_code(&group.finding) else {
        return alarms::finish(backend, &group.id, now(), false);
    };
    if alarm.tries == 0 {
        log(&format!("alarm: [{}] {}: {}", finding.code(), group.host, finding.title()));
    }
    // One that had to wait stands for all that did: their number would be a flood itself.
    let begun = now();
    let left_out = if alarm.has_waited { alarms::left_out(backend, &group.id, begun)? } else { 0 };
    let page = base.map(|base| format!("{base}/group/{}", group.id));
    let message = Message::new(finding, group, page, left_out);
    let (done, errors) = ways.send(&message, &alarm.done);
    if left_out > 0 && !done.is_empty() {
        alarms::leave_out(backend, now(), begun)?;
    }
    if errors.is_empty() {
        return alarms::finish(backend, &group.id, now(), true);
    }
    // A minute, five, half an hour, and then each hour.
    let wait = [60, 300, 1800].get(usize::try_from(alarm.tries).unwrap_or(usize::MAX));
    let due = now() + wait.copied().unwrap_or(HOUR);
    for error in errors {
        log(&format!("cannot send the alarm {error}; next try at {}", date::format(due)));
    }
    alarms::again(backend, &group.id, due, &done)
}
