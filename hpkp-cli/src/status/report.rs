//! What `hpkp status` finds: the form of its JSON, from which the other forms are made.

use std::collections::BTreeMap;

use hpkp_core::date;
use hpkp_core::pin::Pin;
use hpkp_core::published::{EventId, HostName, Matching};
use serde::{Serialize, Serializer};

use crate::encoded::Described;
use crate::keys::drills::{Drill, Origin};
use crate::published::replay::FindingView;
use crate::published::view::PublishedView;

/// The whole answer.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) v: u32,
    pub(super) at: Time,
    /// Whether clients accept what is presented, over all hosts.
    pub(super) answer: Answer,
    /// Whether nothing was connected to.
    pub(super) offline: bool,
    pub(super) directories: Vec<DirectoryReport>,
    pub(super) writers: Vec<WriterReport>,
    /// The last drill on record in which a key was restored that clients held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_drill: Option<LastDrill>,
    /// All drills on record.
    #[serde(skip)]
    pub(super) drills: Vec<Drill>,
    pub(super) hosts: Vec<HostReport>,
    /// What expires, the next first.
    pub(super) next: Vec<Next>,
    pub(super) problems: Vec<Problem>,
}

impl Report {
    /// The line if no host is on record.
    pub(super) fn without_hosts(&self) -> &'static str {
        match self.directories.iter().all(|one| one.usable && one.unread.is_empty()) {
            true => "no recorded pins that clients may still hold",
            false => "it is not known which pins clients may still hold",
        }
    }
}

/// A time in seconds since 1970 UTC, written as in RFC 3339.
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
    /// Nobody was asked.
    NotAsked,
}

impl Answer {
    /// The answer for two: what is wrong comes before what is not known.
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
    /// Whether it could be opened.
    pub(super) usable: bool,
    /// Files in it that could not be read or used.
    pub(super) unread: Vec<String>,
    /// Slots of `hpkp-reserve` that are damaged.
    pub(super) damaged_slots: usize,
}

/// A drill with a backup key.
#[derive(Debug, Serialize)]
pub(super) struct LastDrill {
    pub(super) at: Time,
    pub(super) pin: String,
    /// The hosts whose clients held it.
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

/// Who writes records.
#[derive(Debug, Serialize)]
pub(super) struct WriterReport {
    pub(super) writer: String,
    /// Whether its file is one of this machine, and no copy.
    pub(super) own: bool,
    /// When it last wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_record: Option<Time>,
    /// When its last configuration was recorded that differs from the one before; absent where it is no
    /// server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_configuration: Option<Time>,
    /// Whether the server has stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stopped: Option<bool>,
    /// Of a copy: when this machine last received a heartbeat of its writer; absent where it never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) heard: Option<Time>,
    /// How long ago that was, in seconds; absent where the clock was set back since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) silent_for: Option<i64>,
    pub(super) recorded: Recorded,
    /// Hosts whose header it withholds.
    pub(super) withheld: Vec<String>,
    /// Writers whose records it has read and that are missing now.
    pub(super) missing: Vec<String>,
}

/// Whether what a server serves is on record, as the file `hpkp-reserve` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Recorded {
    /// It is.
    Yes,
    /// A write has failed.
    No,
    /// The file is damaged or cannot be read.
    Unknown,
    /// The file says nothing of this writer.
    NotNoted,
}

/// A host, or a pattern of hosts.
#[derive(Debug, Serialize)]
pub(super) struct HostReport {
    /// With `*.` or `**.` before it where it is a pattern.
    pub(super) host: String,
    /// The same in parts.
    #[serde(skip)]
    pub(super) name: (HostName, Matching),
    pub(super) answer: Answer,
    /// Why nothing was connected to, where that was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_asked: Option<&'static str>,
    /// The pins that clients hold for it.
    pub(super) published: Vec<PublishedView>,
    /// The same, to be drawn.
    #[serde(skip)]
    pub(super) held: Vec<Held>,
    /// When the first of them expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) earliest_expiry: Option<Time>,
    /// When the last of them expire, unless more are published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) free_from: Option<Time>,
    /// Servers that withhold the header.
    pub(super) withheld_by: Vec<String>,
    /// What servers present, as the records say.
    pub(super) on_record: Vec<OnRecord>,
    /// What servers present, as they were seen.
    pub(super) served: Vec<Served>,
    /// Pins of keys that are not presented, each of which satisfies all these clients.
    pub(super) backup_pins: Vec<String>,
    /// When each of them was last restored in a drill; those that never were are missing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) backup_drills: BTreeMap<String, Time>,
    /// The keys that wait until all clients know them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) next_keys: Vec<NextKeyReport>,
    pub(super) next_step: NextStep,
}

/// A key that waits (`hpkp key next`).
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

/// What a key waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum NextKeyState {
    /// All clients accept it.
    Usable,
    /// Some clients hold pins without it, for a while.
    Waiting,
    /// Servers send pins without it.
    NotPublished,
    /// Clients hold pins without it that do not expire.
    Blocked,
    /// No pins of the host are on record.
    Unknown,
}

/// Pins that clients hold, and for how long.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: EventId,
    pub(super) what: String,
    pub(super) pins: Vec<Pin>,
    /// What stands in place of pins: TLSA records.
    pub(super) tlsa: Vec<String>,
    pub(super) from: i64,
    /// When clients stopped getting them; none where they still do.
    pub(super) published_until: Option<i64>,
    /// When the last client forgets, where that is known.
    pub(super) until: Option<i64>,
    /// For how long clients hold them after their publication has ended.
    pub(super) after: Option<i64>,
    pub(super) waived: bool,
}

/// Keys that are presented, as a record says.
#[derive(Debug, Serialize)]
pub(super) struct OnRecord {
    pub(super) writer: String,
    pub(super) ports: Vec<u16>,
    /// The pins of the leaves.
    pub(super) leaves: Vec<String>,
    pub(super) since: Time,
}

/// What came of asking a server.
#[derive(Debug, Serialize)]
pub(super) struct Served {
    /// To which the connection was made.
    pub(super) address: String,
    /// The port that clients use.
    pub(super) port: u16,
    pub(super) answer: Answer,
    /// Each chain that it presents, the leaf's key first.
    pub(super) chains: Vec<Vec<Described>>,
    /// When the first of the certificates expires that it presents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_after: Option<Time>,
    /// Whether its keys are those that a record says are presented; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) as_on_record: Option<bool>,
    /// The ids of records that it does not satisfy, waived ones too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) locks_out: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) findings: Vec<FindingView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) errors: Vec<String>,
}

/// What may be done next.
#[derive(Debug, Serialize)]
pub(super) struct NextStep {
    pub(super) kind: StepKind,
    /// From when on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<Time>,
    /// What to do, a line each.
    pub(super) advice: Vec<String>,
}

/// What kind of step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum StepKind {
    /// Nobody holds pins: any key may be used.
    Free,
    /// Clients are locked out: a pinned key must be loaded.
    LoadPinnedKey,
    /// A new pin is published now; its key may be used at that time.
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

/// Something that is wrong, odd or not known.
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

/// What a problem means for the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Level {
    /// 1.
    Error,
    /// 3.
    Unknown,
    /// None.
    Warning,
}
