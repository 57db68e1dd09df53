//! Why a store did not do what it was asked to.

use hpkp_core::published::WriterName;

/// The version of what a store contains, in its marker.
pub(super) const VERSION: u32 = 1;

/// By how many seconds clocks of machines may differ.
const MAX_SKEW: i64 = 60;

/// Why a store did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// It cannot be reached, or fails: what it says.
    #[error("the store is not available: {0}")]
    Failed(String),
    /// It is not one, or not yet.
    #[error(
        "no store for records there, so a volume may not be mounted or the name may be wrong; only for a new \
        store: hpkp sync --init STORE"
    )]
    NotInitialised,
    /// It is of another version.
    #[error(
        "the store has version {0}, this software version {VERSION}; if the store is older: hpkp sync --init \
        STORE; else update this software"
    )]
    Version(String),
    /// It lets this machine not do that: what it says.
    #[error("the store refused the operation: {0}")]
    Denied(String),
    /// The records of a writer have changed since they were read.
    #[error(
        "{0}: another machine writes records under this name into the store; each server needs a writer name of \
        its own (writer=)"
    )]
    Changed(WriterName),
    /// A lease is another machine's: whose, for how many more seconds, and, where that is known, for how many it was
    /// taken.
    #[error("{name}: {holder} has the lease, {}", how_long(*.seconds, *.term))]
    Leased { name: String, holder: String, seconds: i64, term: Option<i64> },
    /// A lease that this machine had is nobody's by now.
    #[error(
        "{0}: the lease expired before it was given back, so another machine may have changed something at the \
        same time; compare with: hpkp published list"
    )]
    LeaseLost(String),
    /// More than a limit allows: what.
    #[error("{0}")]
    TooMuch(String),
}

impl StoreError {
    /// The code of the finding.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Failed(_) => "store-unavailable",
            Self::NotInitialised => "store-not-initialised",
            Self::Version(_) => "store-version",
            Self::Denied(_) => "store-denied",
            Self::Changed(_) => "store-records-changed",
            Self::Leased { .. } => "lease-held",
            Self::LeaseLost(_) => "lease-expired",
            Self::TooMuch(_) => "store-limit",
        }
    }

    /// Others take and give back a lease all the time.
    pub(super) fn changes_too_fast(name: &str) -> Self {
        let (name, holder) = (name.to_owned(), "another machine".to_owned());
        Self::Leased { name, holder, seconds: 1, term: None }
    }

    /// What it says, without what it means for the store as a whole.
    pub(super) fn reason(self) -> String {
        match self {
            Self::Failed(text) | Self::Denied(text) => text,
            other => other.to_string(),
        }
    }

    /// An error of the system, at a file.
    pub(super) fn io(path: &std::path::Path, error: &std::io::Error) -> Self {
        let text = format!("{}: {}", path.display(), hpkp_cli::sync::os(error));
        match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied(text)
            }
            _ => Self::Failed(text),
        }
    }
}

/// How long somebody still has a lease, and what to do.
fn how_long(seconds: i64, term: Option<i64>) -> String {
    match term {
        // Some seconds more are a clock that is a little ahead.
        Some(term) if seconds > term.saturating_add(MAX_SKEW) => format!(
            "which was taken for {term} seconds and ends in {seconds}, so the clock of that machine or of this one \
             is wrong; nothing was changed; to fix: set the clock, and remove the lease from the store"
        ),
        _ => format!("for at most {seconds} seconds more; nothing was changed; try again then"),
    }
}
