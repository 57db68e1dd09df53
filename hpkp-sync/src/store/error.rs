//! Why a store did not do what it was asked to.

use std::fmt;

use hpkp_core::published::WriterName;

/// The version of what a store contains, in its marker.
pub(super) const VERSION: u32 = 1;

/// Why a store did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreError {
    /// It cannot be reached, or fails: what it says.
    Failed(String),
    /// It is not one, or not yet.
    NotInitialised,
    /// It is of another version.
    Version(String),
    /// It lets this machine not do that: what it says.
    Denied(String),
    /// The records of a writer have changed since they were read.
    Changed(WriterName),
    /// A lease is another machine's: whose, and for how many more seconds.
    Leased { name: String, holder: String, seconds: i64 },
    /// More than a limit allows: what.
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
            Self::TooMuch(_) => "store-limit",
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

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) => write!(f, "the store is not available: {text}"),
            Self::NotInitialised => f.write_str(
                "no store for records there, so a volume may not be mounted or the name may be wrong; only for \
                 a new store: hpkp sync --init STORE",
            ),
            Self::Version(found) => write!(
                f,
                "the store has version {found}, this software version {VERSION}; if the store is older: hpkp \
                 sync --init STORE; else update this software"
            ),
            Self::Denied(text) => write!(f, "the store refuses that: {text}"),
            Self::Changed(writer) => write!(
                f,
                "{writer}: another machine writes records under this name into the store; each server needs a \
                 writer name of its own (writer=)"
            ),
            Self::Leased { name, holder, seconds } => write!(
                f,
                "{name}: {holder} has the lease, for at most {seconds} seconds more; nothing was changed; try \
                 again then"
            ),
            Self::TooMuch(text) => f.write_str(text),
        }
    }
}
