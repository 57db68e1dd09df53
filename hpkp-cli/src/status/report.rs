//! The result of `hpkp status`. Its JSON form is the basis of the other output forms.

use std::collections::BTreeMap;

use hpkp_core::date;
use hpkp_core::pin::Pin;
use hpkp_core::published::{EventId, HostName, Matching};
use serde::{Serialize, Serializer};

use crate::encoded::Described;
use crate::keys::drills::{Drill, Origin};
use crate::published::replay::FindingView;
use crate::published::view::PublishedView;

/// The JSON output.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) v: u32,
    pub(super) at: Time,
    /// Whether clients accept the presented keys of all hosts.
    pub(super) answer: Answer,
    /// Whether no connection was made.
    pub(super) offline: bool,
    pub(super) directories: Vec<DirectoryReport>,
    pub(super) writers: Vec<WriterReport>,
    /// The last recorded drill in which a backup key was restored that clients held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_drill: Option<LastDrill>,
    /// All drills on record.
    #[serde(skip)]
    pub(super) drills: Vec<Drill>,
    pub(super) hosts: Vec<HostReport>,
    /// The things that expire, the next one first.
    pub(super) next: Vec<Next>,
    pub(super) problems: Vec<Problem>,
}

impl Report {
    /// The text if no host is on record.
    pub(super) fn without_hosts(&self) -> &'static str {
        match self.directories.iter().all(|one| one.usable && one.unread.is_empty()) {
            true => "no recorded pins that clients may still hold",
            false => "it is not known which pins clients may still hold",
        }
    }
}

/// A time in seconds since 1970 UTC, which is printed as RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(pub(super) i64);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&date::format(self.0))
    }
}

/// Whether clients accept the presented keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    Yes,
    No,
    Unknown,
    /// No server was queried.
    NotAsked,
}

impl Answer {
    /// Combines two answers: `No` takes precedence over `Unknown`.
    pub(super) fn and(self, other: Self) -> Self {
        let gravity = |answer| match answer {
            Self::NotAsked => 0,
            Self::Yes => 1,
            Self::Unknown => 2,
            Self::No => 3,
        };
        if gravity(other) > gravity(self) { other } else { self }
    }
}

/// A directory with records.
#[derive(Debug, Serialize)]
pub(super) struct DirectoryReport {
    pub(super) path: String,
    /// Whether the directory could be opened.
    pub(super) usable: bool,
    /// Files in the directory that could not be read or used.
    pub(super) unread: Vec<String>,
    /// Slots of `hpkp-reserve` that are damaged.
    pub(super) damaged_slots: usize,
}

/// A drill with a backup key.
#[derive(Debug, Serialize)]
pub(super) struct LastDrill {
    pub(super) at: Time,
    pub(super) pin: String,
    /// The hosts whose clients held the pin.
    pub(super) hosts: Vec<String>,
    /// `file`, `qr-code` or `lines`.
    pub(super) from: Origin,
}

impl From<&Drill> for LastDrill {
    fn from(drill: &Drill) -> Self {
        Self {
            at: Time(drill.at),
            pin: format!("sha256/{}", drill.pin),
            hosts: drill.hosts.clone(),
            from: drill.from,
        }
    }
}

/// A writer of records.
#[derive(Debug, Serialize)]
pub(super) struct WriterReport {
    pub(super) writer: String,
    /// Whether the writer's file was made on this machine and is no copy.
    pub(super) own: bool,
    /// When the writer last wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_record: Option<Time>,
    /// When the writer last recorded a configuration that differs from the previous one; absent if the
    /// writer is no server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_configuration: Option<Time>,
    /// Whether the server has stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stopped: Option<bool>,
    /// For a copy: when this machine last received a heartbeat of the writer; absent if it never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) heard: Option<Time>,
    /// The time since then, in seconds; absent if the clock was set back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) silent_for: Option<i64>,
    pub(super) recorded: Recorded,
    /// Hosts whose header the server withholds.
    pub(super) withheld: Vec<String>,
    /// Writers whose records the server has read and that are missing now.
    pub(super) missing: Vec<String>,
}

/// Whether a server's configuration is on record, according to the file `hpkp-reserve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Recorded {
    /// The configuration is on record.
    Yes,
    /// A write has failed.
    No,
    /// The file is damaged or cannot be read.
    Unknown,
    /// The file contains nothing about this writer.
    NotNoted,
}

/// A host, or a pattern of hosts.
#[derive(Debug, Serialize)]
pub(super) struct HostReport {
    /// The name; a pattern begins with `*.` or `**.`.
    pub(super) host: String,
    /// The parts of the name.
    #[serde(skip)]
    pub(super) name: (HostName, Matching),
    pub(super) answer: Answer,
    /// Why no connection was made, unless that was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_asked: Option<&'static str>,
    /// The pins that clients hold for the host.
    pub(super) published: Vec<PublishedView>,
    /// The pins, in the form for the timeline.
    #[serde(skip)]
    pub(super) held: Vec<Held>,
    /// When the first pins expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) earliest_expiry: Option<Time>,
    /// When the last pins expire, unless more are published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) free_from: Option<Time>,
    /// Servers that withhold the header.
    pub(super) withheld_by: Vec<String>,
    /// The keys that servers present according to the records.
    pub(super) on_record: Vec<OnRecord>,
    /// The keys that servers presented when queried.
    pub(super) served: Vec<Served>,
    /// Pins of keys that are not presented and that all these clients accept.
    pub(super) backup_pins: Vec<String>,
    /// When each of these keys was last restored in a drill. Keys that never were are absent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) backup_drills: BTreeMap<String, Time>,
    /// The next keys, which wait until all clients know them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) next_keys: Vec<NextKeyReport>,
    pub(super) next_step: NextStep,
}

/// A next key (`hpkp key next`).
#[derive(Debug, Serialize)]
pub(super) struct NextKeyReport {
    pub(super) pin: String,
    pub(super) file: String,
    pub(super) made: Time,
    pub(super) state: NextKeyState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) published_since: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usable_from: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) handed_over: Option<Time>,
}

/// The state of a next key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum NextKeyState {
    /// All clients accept the key.
    Usable,
    /// Some clients hold pins without the key, which will expire.
    Waiting,
    /// Servers send pins without the key.
    NotPublished,
    /// Clients hold pins without the key that do not expire.
    Blocked,
    /// No pins of the host are on record.
    Unknown,
}

/// Pins that clients hold, and their expiry.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: EventId,
    pub(super) what: String,
    pub(super) pins: Vec<Pin>,
    /// The TLSA records, if there are any instead of pins.
    pub(super) tlsa: Vec<String>,
    pub(super) from: i64,
    /// When publication ended; `None` if the pins are still published.
    pub(super) published_until: Option<i64>,
    /// When the last client forgets the pins, if that is known.
    pub(super) until: Option<i64>,
    /// The seconds that clients keep the pins after publication ends.
    pub(super) after: Option<i64>,
    pub(super) waived: bool,
}

/// Presented keys according to a record.
#[derive(Debug, Serialize)]
pub(super) struct OnRecord {
    pub(super) writer: String,
    pub(super) ports: Vec<u16>,
    /// The pins of the leaves.
    pub(super) leaves: Vec<String>,
    pub(super) since: Time,
}

/// The result of querying a server.
#[derive(Debug, Serialize)]
pub(super) struct Served {
    /// The address to which the connection was made.
    pub(super) address: String,
    /// The port that clients use.
    pub(super) port: u16,
    pub(super) answer: Answer,
    /// Each chain that the server presents, with the leaf's key first.
    pub(super) chains: Vec<Vec<Described>>,
    /// When the certificate that expires first expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_after: Option<Time>,
    /// Whether the presented keys are on record; absent if no record exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) as_on_record: Option<bool>,
    /// The ids of the records that the server does not satisfy, including waived ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) locks_out: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) findings: Vec<FindingView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) errors: Vec<String>,
}

/// The next possible step.
#[derive(Debug, Serialize)]
pub(super) struct NextStep {
    pub(super) kind: StepKind,
    /// The earliest time of the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<Time>,
    /// The advice, one line per item.
    pub(super) advice: Vec<String>,
}

/// The kind of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum StepKind {
    /// No client holds pins, so any key may be used.
    Free,
    /// Clients are locked out, so a pinned key must be loaded.
    LoadPinnedKey,
    /// If a new pin is published now, its key may be used at that time.
    ChangeKey,
    /// Pins that do not expire must be ended first.
    EndRecords,
}

/// Something that expires.
#[derive(Debug, Serialize)]
pub(super) struct Next {
    pub(super) at: Time,
    pub(super) host: String,
    pub(super) what: Expiry,
    /// The id of the record, or the pin of the certificate's key.
    pub(super) of: String,
}

/// What expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Expiry {
    Pins,
    Certificate,
}

/// A problem, a warning, or something that could not be determined.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    pub(super) level: Level,
    pub(super) what: String,
}

impl Problem {
    pub(super) fn unknown(what: String) -> Self {
        Self { level: Level::Unknown, what }
    }

    pub(super) fn warning(what: String) -> Self {
        Self { level: Level::Warning, what }
    }
}

/// The effect of a problem on the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Level {
    /// Exit code 1.
    Error,
    /// Exit code 3.
    Unknown,
    /// No effect.
    Warning,
}
