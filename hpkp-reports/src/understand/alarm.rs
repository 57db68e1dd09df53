//! Alarms: once for each new group that somebody should look at, by mail, webhook or command, and no more of them an
//! hour than the limit. What is left out is told in the next alarm and in the log.

mod command;
mod mail;
mod message;
mod webhook;

use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use hpkp_core::date;

use crate::configuration::Alarms;
use crate::output::{log, log_seldom};
use crate::store::NewGroup;
use crate::understand::finding::Class;
use message::Message;

/// Alarms that may wait.
const QUEUE: usize = 256;

/// The window of the limit.
const HOUR: Duration = Duration::from_secs(3600);

/// How long the same finding for the same host and chain is not told again, from day to day: each day has a
/// group of its own.
const SILENCE: Duration = Duration::from_secs(7 * 86_400);

/// The most alarms that are remembered for that.
const MAX_KNOWN: usize = 10_000;

/// The handle of the thread that sends alarms.
#[derive(Debug)]
pub struct Alarm {
    queue: SyncSender<NewGroup>,
    unexplained: bool,
}

impl Alarm {
    /// Checks what is configured, and the files it names.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(alarms: &Alarms) -> Result<(), String> {
        Ways::new(alarms).map(|_| ())
    }

    /// Starts the thread. It ends when the handle is gone.
    ///
    /// # Errors
    /// What is configured is wrong.
    pub fn start(alarms: &Alarms, base: Option<String>) -> Result<Self, String> {
        let (queue, incoming) = mpsc::sync_channel(QUEUE);
        let mut work = Work {
            ways: Ways::new(alarms)?,
            per_hour: alarms.per_hour,
            base,
            sent: Vec::new(),
            known: HashMap::new(),
            left_out: 0,
        };
        std::thread::Builder::new()
            .name("alarms".to_owned())
            .spawn(move || work.run(&incoming))
            .map_err(|error| crate::output::os(&error))?;
        Ok(Self { queue, unexplained: alarms.unexplained })
    }

    /// Hears of a new group, and never waits: reports come first.
    pub fn tell(&self, group: NewGroup) {
        let wanted = match group.entry.finding.class() {
            Class::Urgent => true,
            Class::Unexplained => self.unexplained,
            Class::Noise => false,
        };
        if wanted && self.queue.try_send(group).is_err() {
            log_seldom("alarms", || "too many alarms are waiting; some are left out".to_owned());
        }
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

    const fn is_empty(&self) -> bool {
        self.mail.is_none() && self.webhook.is_none() && self.command.is_none()
    }
}

struct Work {
    ways: Ways,
    per_hour: u32,
    base: Option<String>,
    /// When the alarms of the last hour were sent.
    sent: Vec<Instant>,
    known: HashMap<(String, &'static str, String), Instant>,
    left_out: u64,
}

impl Work {
    fn run(&mut self, incoming: &Receiver<NewGroup>) {
        while let Ok(group) = incoming.recv() {
            self.take(&group);
        }
    }

    fn take(&mut self, group: &NewGroup) {
        let entry = &group.entry;
        let key = (entry.host.clone(), entry.finding.code(), entry.chain.clone());
        let now = Instant::now();
        if self.known.get(&key).is_some_and(|at| now.duration_since(*at) < SILENCE) {
            return;
        }
        self.sent.retain(|at| now.duration_since(*at) < HOUR);
        // What nobody can explain anybody can make up: it leaves half of the room to what is urgent.
        let room = match entry.finding.class() {
            Class::Urgent => self.per_hour as usize,
            Class::Unexplained | Class::Noise => self.per_hour.div_ceil(2) as usize,
        };
        if self.sent.len() >= room {
            self.left_out += 1;
            log_seldom("alarm-limit", || "more alarms than per_hour; see the pages".to_owned());
            return;
        }
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(key, now);
        self.sent.push(now);
        self.send(group);
    }

    fn send(&mut self, group: &NewGroup) {
        let entry = &group.entry;
        let (finding, host) = (entry.finding, entry.host.as_str());
        log(&format!("alarm: [{}] {host}: {}", finding.code(), finding.title()));
        if self.ways.is_empty() {
            return;
        }
        let page = self.base.as_ref().map(|base| format!("{base}/group/{}", group.id));
        let message = Message {
            v: 1,
            finding: finding.code(),
            class: finding.class().name(),
            title: finding.title(),
            answer: finding.answer(),
            advice: finding.advice(),
            host,
            detail: &entry.detail,
            client: entry.client,
            mode: entry.mode,
            at: date::format(entry.at),
            group: &group.id,
            page,
            left_out: self.left_out,
        };
        self.left_out = 0;
        let results = [
            ("mail", self.ways.mail.as_ref().map(|way| way.send(&message))),
            ("webhook", self.ways.webhook.as_ref().map(|way| way.send(&message))),
            ("command", self.ways.command.as_ref().map(|way| way.send(&message))),
        ];
        for (way, result) in results {
            if let Some(Err(error)) = result {
                log(&format!("cannot send the alarm by {way}: {error}"));
            }
        }
    }
}
