//! The errors of the store.

/// Why an operation of the store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No space on the disk, or within the configured size.
    #[error("no space is left for the database")]
    Full,
    /// The database cannot be reached, or does not answer.
    #[error("cannot reach the database: {0}")]
    Away(String),
    /// A conflict with another collector; a second attempt may succeed.
    #[error("database error: {0}")]
    Conflict(String),
    /// Any other error.
    #[error("database error: {0}")]
    Failed(String),
}
