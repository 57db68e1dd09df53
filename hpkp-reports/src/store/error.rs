//! Why the store cannot do something.

use std::fmt;

/// Why the store cannot do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// No space: on the disk, or up to the limit of its size.
    Full,
    /// It cannot be reached, or does not answer.
    Away(String),
    /// Another collector did something at the same time; a second try may succeed.
    Conflict(String),
    /// Something else.
    Failed(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no space is left for the database"),
            Self::Away(text) => write!(f, "cannot reach the database: {text}"),
            Self::Conflict(text) | Self::Failed(text) => write!(f, "database error: {text}"),
        }
    }
}

impl std::error::Error for StoreError {}
