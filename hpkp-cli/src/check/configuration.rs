//! The text of a configuration before it is parsed.

/// The text of a configuration.
#[derive(Debug)]
pub(crate) struct Text {
    /// The file, or `-`.
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}
