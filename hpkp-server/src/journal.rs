//! The records that a configuration names: read for the check, and written once it is accepted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hpkp_core::check::{Deployment, Records, Verdict};
use hpkp_core::finding::{Code, Finding};
use hpkp_core::published::{Event, State, WriterName, accepted};
use hpkp_core::text::Excerpt;

use crate::living::{self, Pid};
use crate::loader::now;
use crate::published::{self, Claimant, Contents, Directory, DirectoryError};
use crate::setting::RecordsSetting;

/// How often records are worked out anew because somebody else has written meanwhile.
const TRIES: usize = 5;

/// Whether this server has had its one chance to wait for its predecessor. Later it would wait while
/// others are served, or, in httpd's restarts, are not.
static HAS_WAITED: AtomicBool = AtomicBool::new(false);

/// Where a server writes what it publishes and presents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    path: String,
    writer: WriterName,
}

/// Reads all directories of a configuration. What cannot be read is a problem of the records;
/// without a directory there are none. The second is where to write, if that can be written to.
#[must_use]
pub fn read(settings: &[RecordsSetting]) -> (Option<Records>, Option<Journal>) {
    let Some(first) = settings.first() else { return (None, None) };
    let mut problems = Vec::new();
    let mut contents = Contents::default();
    let mut journal = None;
    for setting in settings {
        let torn = contents.torn.len();
        let opened = Directory::open(&setting.path);
        let errors = match opened.as_ref() {
            Ok(directory) => directory.read_each(&mut contents),
            Err(_) => Vec::new(),
        };
        if let Some(error) = opened.as_ref().err().or(errors.first()) {
            let text = unusable(&setting.path, error, errors.len());
            problems.push((Code::PublishedPinsUnreadable, text, setting.at.clone()));
        }
        for (file, octets) in contents.torn.iter().skip(torn) {
            let file = Excerpt::new(file);
            let text = format!(
                "the last line of \"{file}\" was never finished ({octets} octets); it is passed over"
            );
            problems.push((Code::TornRecord, text, setting.at.clone()));
        }
        let Some(writer) = &setting.writer else { continue };
        match writer.clone().map_or_else(default_writer, Ok) {
            Ok(writer) => {
                // Files of others may be wrong; its own must not.
                let is_read = opened.is_ok_and(|directory| {
                    let own = directory.own_path(&writer);
                    errors.iter().all(|error| error.file().is_some_and(|file| file != own))
                });
                let path = setting.path.clone();
                journal = is_read.then_some(Journal { path, writer });
            }
            Err(text) => {
                problems.push((Code::PublishedPinsUnreadable, text, setting.at.clone()));
            }
        }
    }
    let writer = journal.as_ref().map(|journal| journal.writer.clone());
    let directory = settings.iter().find(|setting| setting.writer.is_some()).unwrap_or(first);
    let records = Records {
        state: contents.state,
        writer,
        directory: directory.path.clone(),
        at: first.at.clone(),
        problems,
    };
    (Some(records), journal)
}

/// What is said of a directory of which one file or more cannot be used.
fn unusable(path: &str, error: &DirectoryError, files: usize) -> String {
    let path = Excerpt::new(path);
    let more = match files {
        0 | 1 => String::new(),
        files => format!(" (and {} files more)", files - 1),
    };
    format!(
        "the published pins in \"{path}\" cannot be used: {error}{more}. What they say may be what \
         keeps clients from being locked out: repair them (hpkp published verify), or give up what \
         they say by taking them out"
    )
}

/// The name of this machine.
fn default_writer() -> Result<WriterName, String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = host.trim();
    name.parse().map_err(|error| {
        format!("the name of this machine names no writer, so say \"writer=\": {error}")
    })
}

/// What a server that takes over from another one leaves open: clients may still be told what the
/// other publishes, and it may come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predecessor {
    /// There is none.
    None,
    /// It still runs, as this process.
    Runs(Pid),
}

impl Journal {
    /// Writes what `verdict` comes to, before any response carries its pins. What cannot be
    /// recorded is taken out of the verdict; the finding says so.
    pub fn record(
        &self,
        deployment: &Deployment,
        verdict: &mut Verdict,
        predecessor: Predecessor,
    ) -> Option<Finding> {
        let state = &deployment.records.as_ref()?.state;
        let error = self.record_events(predecessor, state, |state| {
            let events = accepted::accepted(deployment, verdict, state, &self.writer, now());
            match predecessor {
                Predecessor::None => events,
                Predecessor::Runs(_) => accepted::without_ends(events),
            }
        });
        let error = error.err()?;
        // Somebody else's records say nothing of what this server sends, and end without it.
        let none = State::default();
        let own = if error.is_of_another_server() { &none } else { state };
        verdict.withhold_unrecorded(deployment, own, &self.writer, &error.to_string())
    }

    /// Which other server of this kind writes under this name and serves. None where none does, and
    /// where nobody knows. An nginx and an httpd that share a name are two servers.
    #[must_use]
    pub fn claimant(&self) -> Option<Pid> {
        let directory = Directory::open(&self.path).ok()?;
        match published::claimant(&directory, &self.writer).ok()?? {
            Claimant::Process(pid) => living::is_of_this_kind(pid).then_some(pid),
            Claimant::Unseen => None,
        }
    }

    /// Writes that the server has stopped for good, unless a successor already serves: what is
    /// published is the successor's now.
    ///
    /// # Errors
    /// A line for the log where it could not be written: then what it published counts as published
    /// still.
    pub fn stop(&self) -> Result<(), String> {
        let stopped = Directory::open(&self.path).and_then(|directory| {
            published::claim(&directory, &self.writer, None)?;
            let state = directory.read()?.state;
            let events = |state: &State| accepted::stopped(state, &self.writer, now());
            append(&directory, &state, events, published::append_alone)
        });
        match stopped {
            Ok(()) | Err(DirectoryError::Taken(..)) => Ok(()),
            Err(error) => Err(format!(
                "hpkp: the end of this server cannot be recorded, so what it published counts as \
                 published still: {error}"
            )),
        }
    }

    fn record_events(
        &self,
        predecessor: Predecessor,
        state: &State,
        events: impl Fn(&State) -> Vec<Event>,
    ) -> Result<(), DirectoryError> {
        let directory = Directory::open(&self.path)?;
        let beside = match predecessor {
            Predecessor::None => None,
            Predecessor::Runs(pid) => Some(pid),
        };
        // A start may follow the order to stop so closely that the predecessor has yet to heed it.
        let patience = if HAS_WAITED.swap(true, Ordering::Relaxed) {
            Duration::ZERO
        } else {
            living::PATIENCE
        };
        let started = Instant::now();
        let is_new = loop {
            match published::claim(&directory, &self.writer, beside) {
                Err(DirectoryError::Taken(..)) if started.elapsed() < patience => {
                    thread::sleep(Duration::from_millis(50));
                }
                claimed => break claimed?,
            }
        };
        // A predecessor may have recorded its end since the records were read.
        let changed = is_new
            && published::last_seq(&directory, &self.writer)? != state.last_seq(&self.writer);
        let newer = if changed { Some(directory.read()?.state) } else { None };
        append(&directory, newer.as_ref().unwrap_or(state), events, published::append)
    }
}

/// Appends what `events` makes of the records, and anew where somebody else has written meanwhile.
fn append(
    directory: &Directory,
    state: &State,
    events: impl Fn(&State) -> Vec<Event>,
    append: fn(&Directory, &[Event]) -> Result<(), DirectoryError>,
) -> Result<(), DirectoryError> {
    let mut appended = append(directory, &events(state));
    for _ in 1..TRIES {
        let Err(DirectoryError::Changed(_)) = appended else { break };
        let state = directory.read()?.state;
        appended = append(directory, &events(&state));
    }
    appended
}
