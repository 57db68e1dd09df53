//! The report about a pass: what it did, and its findings.

use hpkp_cli::Exit;
use hpkp_cli::sync::{JSON_VERSION, complain};
use hpkp_core::published::WriterName;
use serde::Serialize;

use crate::store::StoreError;

/// What is wrong. The names are API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// An error of the store, with the code of that error.
    Store(&'static str),
    /// A file of this machine cannot be read.
    OwnUnreadable,
    /// A file of this machine is gone, or is older than its records in the store.
    OwnOlder,
    /// Another machine writes under the name of a writer of this machine.
    NameTaken,
    /// The store lacked records of this machine that it had before. This pass wrote them again.
    StoreWentBack,
    /// The store lacks records of another writer that it had before.
    PeerWentBack,
    /// Two machines write under one name.
    PeerDiverged,
    /// The store has a record or a heartbeat that is invalid.
    PeerDamaged,
    /// The clock of another machine is behind that of this one.
    PeerClock,
    /// The file with the received heartbeats cannot be read.
    HeardUnreadable,
    /// A copy cannot be written.
    PeerUnwritable,
    /// Records are not signed as `peers.keys` requires, with the code of the refusal.
    Signature(&'static str),
    /// The key of this machine, or the file with the keys of other machines, cannot be used.
    KeysUnusable,
    /// The copies exceed what servers read.
    Limit,
    /// The keys of one server do not match the pins that clients have noted from another.
    Mismatch,
    /// The command failed.
    Command,
    /// The command did not run.
    NotRun,
    /// The command has run, and the store could not be written to afterwards.
    NotWritten,
    /// The lease ended before the command did.
    LeaseExpired,
    /// The lease stays in the store until it expires.
    LeaseNotReturned,
}

impl Code {
    /// The name of the code.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Store(code) => code,
            Self::OwnUnreadable => "own-records-unreadable",
            Self::OwnOlder => "own-records-older",
            Self::NameTaken => "writer-name-taken",
            Self::StoreWentBack => "store-went-back",
            Self::PeerWentBack => "peer-records-went-back",
            Self::PeerDiverged => "peer-records-diverged",
            Self::PeerDamaged => "peer-records-damaged",
            Self::PeerClock => "peer-clock-behind",
            Self::HeardUnreadable => "heartbeats-unreadable",
            Self::PeerUnwritable => "peer-records-unwritable",
            Self::Signature(code) => code,
            Self::KeysUnusable => "signature-keys-unusable",
            Self::Limit => "peer-records-limit",
            Self::Mismatch => "peer-server-pin-mismatch",
            Self::Command => "command-failed",
            Self::NotRun => "command-not-run",
            Self::NotWritten => "change-not-written",
            Self::LeaseExpired => "lease-expired",
            Self::LeaseNotReturned => "lease-not-returned",
        }
    }

    /// The exit status of the program after this finding.
    const fn exit(self) -> Exit {
        match self {
            // This pass has repaired it.
            Self::StoreWentBack => Exit::Fine,
            Self::Mismatch | Self::Command => Exit::No,
            _ => Exit::Undetermined,
        }
    }
}

/// A finding: what is wrong, and with which writer.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    writer: Option<String>,
    text: String,
}

/// How many records of a writer were copied.
#[derive(Debug, Serialize)]
pub(crate) struct Moved {
    pub(crate) writer: String,
    /// How many records.
    pub(crate) records: usize,
}

/// What a pass did.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) written: Vec<Moved>,
    pub(crate) received: Vec<Moved>,
    pub(crate) findings: Vec<Finding>,
    /// How many other writers the store has.
    pub(crate) others: usize,
    /// Whether the pass examined the whole store.
    pub(crate) has_looked: bool,
    /// How the command ended.
    pub(crate) command: Option<i32>,
    exit: Exit,
}

impl Report {
    /// Adds a finding.
    pub(crate) fn add(&mut self, code: Code, text: impl Into<String>) {
        self.finding(code, None, text.into());
    }

    /// Adds a finding about a writer.
    pub(crate) fn writer(&mut self, code: Code, writer: &WriterName, text: impl Into<String>) {
        self.finding(code, Some(writer), text.into());
    }

    /// Whether there is a finding about a writer.
    pub(crate) fn names(&self, writer: &WriterName) -> bool {
        self.findings.iter().any(|one| one.writer.as_deref() == Some(writer.as_str()))
    }

    /// Adds an error of the store.
    pub(crate) fn store(&mut self, error: &StoreError) {
        self.add(Code::Store(error.code()), error.to_string());
    }

    fn finding(&mut self, code: Code, writer: Option<&WriterName>, text: String) {
        self.exit = self.exit.and(code.exit());
        let writer = writer.map(ToString::to_string);
        // A repeated pass finds the same things again.
        let is_known =
            |one: &Finding| one.code == code.as_str() && one.writer == writer && one.text == text;
        if !self.findings.iter().any(is_known) {
            self.findings.push(Finding { code: code.as_str(), writer, text });
        }
    }

    /// Adds the report of the next pass of the same run.
    pub(crate) fn then(&mut self, next: Self) {
        self.written.extend(next.written);
        self.received.extend(next.received);
        self.findings.extend(next.findings);
        self.others = next.others.max(self.others);
        self.has_looked &= next.has_looked;
        self.exit = self.exit.and(next.exit);
    }

    /// Whether a check on this machine would lack records: some that its own servers have published, or some of other
    /// machines that are in the store.
    pub(crate) fn hides_records(&self) -> bool {
        let hiding = [Code::OwnOlder, Code::NameTaken, Code::PeerUnwritable, Code::Limit];
        let hiding = hiding.map(Code::as_str);
        self.findings.iter().any(|finding| hiding.contains(&finding.code))
    }

    /// The exit status of the program.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// Writes the findings to standard error.
    pub(crate) fn complain(&self) {
        for finding in &self.findings {
            let writer =
                finding.writer.as_ref().map_or_else(String::new, |writer| format!("{writer}: "));
            complain(&format!("[{}] {writer}{}", finding.code, finding.text));
        }
    }

    /// Whether nothing was copied and nothing is wrong.
    pub(crate) fn is_quiet(&self) -> bool {
        self.written.is_empty() && self.received.is_empty() && self.findings.is_empty()
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        let counted = |moved: &[Moved]| {
            let records: usize = moved.iter().map(|one| one.records).sum();
            let plural = if records == 1 { "" } else { "s" };
            format!("{records} record{plural}")
        };
        let others = if self.others == 1 {
            "1 other writer"
        } else {
            &format!("{} other writers", self.others)
        };
        format!(
            "written to the store: {}; received: {}; the store has {others}",
            counted(&self.written),
            counted(&self.received)
        )
    }

    /// The JSON for scripts.
    pub(crate) fn json(&self, store: &str) -> serde_json::Value {
        serde_json::json!({
            "v": JSON_VERSION,
            "store": store,
            "written": self.written,
            "received": self.received,
            "others": self.others,
            "command": self.command,
            "findings": self.findings,
            "exit": self.exit.code(),
        })
    }
}
