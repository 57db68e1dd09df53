//! Why the store cannot do something.

/// Why the store cannot do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No space: on the disk, or up to the limit of its size.
    #[error("no space is left for the database")]
    Full,
    /// It cannot be reached, or does not answer.
    #[error("cannot reach the database: {0}")]
    Away(String),
    /// Another collector did something at the same time; a second try may succeed.
    #[error("database error: {0}")]
    Conflict(String),
    /// Something else.
    #[error("database error: {0}")]
    Failed(String),
}
