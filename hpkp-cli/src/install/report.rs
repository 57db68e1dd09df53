//! The findings and the result of an install, as text and as JSON.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::exit::Exit;
use crate::output::{self, JSON_VERSION};

/// The reason why an install stops.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) exit: Exit,
    /// A stable code for scripts.
    pub(crate) code: &'static str,
    /// The fault, and how to fix it.
    pub(crate) text: String,
}

impl Stop {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, code: "usage", text: text.into() }
    }

    pub(crate) fn refused(code: &'static str, text: impl Into<String>) -> Self {
        Self { exit: Exit::No, code, text: text.into() }
    }

    pub(crate) fn undetermined(code: &'static str, text: impl Into<String>) -> Self {
        Self { exit: Exit::Undetermined, code, text: text.into() }
    }

    /// An operation of the file system that failed.
    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        Self::undetermined("file-system", format!("{what}: {}", output::os(error)))
    }
}

/// The result of an install.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// Nothing was changed, because of a problem.
    #[default]
    Refused,
    /// The new files are in place.
    Installed,
    /// The files were already in place.
    Unchanged,
    /// A dry run: the new files would be installed.
    WouldInstall,
    /// The old files were put back.
    RolledBack,
    /// The old files could not be put back, or the server does not serve them.
    Failed,
    /// An interrupted install was undone.
    Recovered,
    /// There was no interrupted install.
    NothingToRecover,
}

/// A problem or a warning.
#[derive(Debug, Serialize)]
pub(crate) struct Remark {
    pub(crate) code: &'static str,
    pub(crate) text: String,
}

/// A command that was run.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    /// `test`, `reload`, or `reload-old` after the old files were put back.
    pub(crate) step: &'static str,
    pub(crate) command: String,
    /// The exit code; `None` if a signal or the time limit ended the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit: Option<i32>,
    /// The last part of the output.
    pub(crate) output: String,
}

/// A certificate with its key.
#[derive(Debug, Serialize)]
pub(crate) struct PairView {
    pub(crate) certificate: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pin: Option<String>,
    pub(crate) dns_names: Vec<String>,
    pub(crate) not_after: String,
    /// The names of the written files in `--to`.
    pub(crate) files: Vec<String>,
}

/// A server that was queried for its certificate.
#[derive(Debug, Serialize)]
pub(crate) struct ServedView {
    pub(crate) server: String,
    pub(crate) servername: String,
    /// `new`, `old`, `other`, or `none` if no certificate was presented.
    pub(crate) presents: &'static str,
    /// The queries that failed, as sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unknown: Vec<String>,
}

/// The JSON output.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    v: u32,
    pub(crate) outcome: Outcome,
    pub(crate) to: String,
    pub(crate) pairs: Vec<PairView>,
    /// The output of `hpkp published why --cert` for each host.
    pub(crate) hosts: BTreeMap<String, Box<RawValue>>,
    /// The problems that stopped the install.
    pub(crate) problems: Vec<Remark>,
    pub(crate) warnings: Vec<Remark>,
    pub(crate) steps: Vec<Step>,
    pub(crate) served: Vec<ServedView>,
    #[serde(skip)]
    pub(crate) lines: Vec<String>,
}

impl Report {
    pub(crate) fn new(to: String) -> Self {
        Self { v: JSON_VERSION, to, ..Self::default() }
    }

    /// Prints a problem, and adds it to the report.
    pub(crate) fn problem(&mut self, code: &'static str, text: String) {
        output::complain(&text);
        self.problems.push(Remark { code, text });
    }

    /// Prints a warning, and adds it to the report.
    pub(crate) fn warn(&mut self, code: &'static str, text: String) {
        output::complain(&format!("warning: {text}"));
        self.warnings.push(Remark { code, text });
    }

    /// Prints the result.
    pub(crate) fn print(&self, json: bool) -> io::Result<()> {
        if json {
            return output::json(self);
        }
        self.lines.iter().try_for_each(|line| output::line(line))
    }
}
