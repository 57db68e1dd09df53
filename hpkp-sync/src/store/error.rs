//! The errors of stores.

use hpkp_core::published::WriterName;

/// The version of the content of a store, as written in its marker.
pub(super) const VERSION: u32 = 1;

/// How many seconds the clocks of machines may differ.
const MAX_SKEW: i64 = 60;

/// Why an operation of a store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// The store cannot be reached or fails, with its message.
    #[error("the store is not available: {0}")]
    Failed(String),
    /// The place is not a store, or not initialised.
    #[error(
        "no store for records there, so a volume may not be mounted or the name may be wrong; only for a new \
        store: hpkp sync --init STORE"
    )]
    NotInitialised,
    /// The store has another version.
    #[error(
        "the store has version {0}, this software version {VERSION}; if the store is older: hpkp sync --init \
        STORE; else update this software"
    )]
    Version(String),
    /// The store does not permit this operation, with its message.
    #[error("the store refused the operation: {0}")]
    Denied(String),
    /// The records of a writer have changed since they were read.
    #[error(
        "{0}: another machine writes records under this name into the store; each server needs a writer name of \
        its own (writer=)"
    )]
    Changed(WriterName),
    /// Another machine has the lease: its holder, the remaining seconds and, if known, for how many seconds the lease
    /// was taken.
    #[error("{name}: {holder} has the lease, {}", how_long(*.seconds, *.term))]
    Leased { name: String, holder: String, seconds: i64, term: Option<i64> },
    /// The lease of this machine has expired, and nobody has it now.
    #[error(
        "{0}: the lease expired before it was given back, so another machine may have changed something at the \
        same time; compare with: hpkp published list"
    )]
    LeaseLost(String),
    /// A limit is exceeded, with a description.
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

    /// The error for a lease that other machines take and give back all the time.
    pub(super) fn changes_too_fast(name: &str) -> Self {
        let (name, holder) = (name.to_owned(), "another machine".to_owned());
        Self::Leased { name, holder, seconds: 1, term: None }
    }

    /// The message alone, for an error that does not affect the store as a whole.
    pub(super) fn reason(self) -> String {
        match self {
            Self::Failed(text) | Self::Denied(text) => text,
            other => other.to_string(),
        }
    }

    /// The error for a failed system call on a file.
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

/// The text that says how long another machine still has the lease, and what to do.
fn how_long(seconds: i64, term: Option<i64>) -> String {
    match term {
        // A few more seconds than the term only mean that the other clock is slightly ahead.
        Some(term) if seconds > term.saturating_add(MAX_SKEW) => format!(
            "which was taken for {term} seconds and ends in {seconds}, so the clock of that machine or of this one \
             is wrong; nothing was changed; to fix: set the clock, and remove the lease from the store"
        ),
        _ => format!("for at most {seconds} seconds more; nothing was changed; try again then"),
    }
}
