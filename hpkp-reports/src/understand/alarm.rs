//! Sends alarms: one for each new group that needs attention, by mail, webhook or command, with a limit per hour.
//!
//! Data flow: a group and its alarm go into the store in one transaction → the thread here claims due alarms → an alarm
//! is sent by each configured way, or becomes due again later. So an alarm survives a restart and an unavailable mail
//! server, and only one of several collectors sends it.

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

/// How often the store is queried for due alarms.
const LOOK: Duration = Duration::from_secs(10);

/// The window of the limit, in seconds.
const HOUR: i64 = 3600;

/// How long no further alarm is sent for the same finding, host and chain, in seconds: each day has a group of its own.
const SILENCE: i64 = 7 * DAY;

/// How long a collector may take to send an alarm that it has claimed, in seconds. After that another may claim it.
const LEASE: i64 = 300;

/// The most alarms in one pass.
const MANY: i64 = 100;

/// The handle of the thread that sends alarms.
#[derive(Debug)]
pub struct Alarm(SyncSender<()>);

impl Alarm {
    /// Checks the configuration of alarms and the files that it names.
    ///
    /// # Errors
    /// The configuration or a file has an error.
    pub fn check(alarms: &Alarms) -> Result<(), String> {
        Ways::new(alarms).map(|_| ())
    }

    /// A problem that will prevent alarms, such as a missing program. Reports are still received.
    #[must_use]
    pub fn problem(alarms: &Alarms) -> Option<String> {
        let program = alarms.command.as_ref()?.first()?;
        let error = std::fs::metadata(program).err().filter(|_| program.contains('/'))?;
        Some(format!("alarms.command: {program}: {}", crate::output::os(&error)))
    }

    /// Starts the thread. It ends when the handle is dropped. Alarms that are not sent stay in the store.
    ///
    /// # Errors
    /// The configuration has an error.
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

    /// Wakes the thread after new alarms. Never blocks, since reports come first.
    pub fn wake(&self) {
        // A full channel means that the thread is already woken.
        let _ = self.0.try_send(());
    }
}

/// The configured ways to send alarms.
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

    /// Sends a message by each way that is not in `done`. Returns the ways by which it was sent, and the errors.
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

    /// Sends the due alarms, within the limit per hour.
    fn pass(&mut self) -> Result<(), StoreError> {
        let Self { backend: Some(backend), ways, per_hour, base, .. } = self else { return Ok(()) };
        let backend = &mut **backend;
        for alarm in alarms::due(backend, now(), MANY)? {
            let Some(group) = query::group(backend, &alarm.group)? else { continue };
            if alarms::is_repeated(backend, &group, now() - SILENCE)? {
                alarms::finish(backend, &alarm.group, now(), false)?;
                continue;
            }
            let (sent, first) = alarms::sent_between(backend, now() - HOUR, now())?;
            // Anybody can forge unexplained reports, so these may use only half of the limit, and urgent ones all of
            // it.
            let per_hour = i64::from(*per_hour);
            let room = if alarm.is_urgent { per_hour } else { (per_hour + 1) / 2 };
            if alarm.tries == 0 && sent >= room {
                // Urgent alarms come first, so there is no room for the following ones either.
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

/// Sends a claimed alarm, and stores the result.
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
    // One delayed alarm stands for all delayed alarms: to send each of them would be a flood.
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
    // The next attempts follow after 1 minute, 5 minutes, 30 minutes, and then every hour.
    let wait = [60, 300, 1800].get(usize::try_from(alarm.tries).unwrap_or(usize::MAX));
    let due = now() + wait.copied().unwrap_or(HOUR);
    for error in errors {
        log(&format!("cannot send the alarm {error}; next try at {}", date::format(due)));
    }
    alarms::again(backend, &group.id, due, &done)
}
