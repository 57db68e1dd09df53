//! How user agents treat the header that a server sends (RFC 7469), and the reports that they send.
//!
//! [`field`] gives the verdict of RFC 7469 on a field value, and [`hosts`] remembers what a UA would remember.
//! [`chromium`], [`firefox`] and [`wget2`] give the verdicts of the user agents that honoured the header, which differ
//! from the RFC and from each other. [`report`] builds violation reports; [`report_reader`] and [`received`] read them.

pub use crate::date;

pub mod chromium;

pub mod deviation;
pub mod field;
pub mod firefox;
pub mod host;
pub mod hosts;
mod lexer;
pub mod received;
pub mod report;
pub mod report_reader;
pub mod uri;
mod verdict;
pub mod wget2;

use std::collections::BTreeSet;

use crate::pin::Pin;

pub use verdict::{Response, Verdict};

/// The most bytes of one field value that are read: Chromium's limit for a whole header section. A longer field is an
/// error of its own ([`field::TooLong`]).
pub const MAX_FIELD: usize = 256 * 1024;

/// Which of the two fields (RFC 7469 section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// `Public-Key-Pins`.
    Enforced,
    /// `Public-Key-Pins-Report-Only`.
    ReportOnly,
}

impl FieldKind {
    /// The name of the field.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforced => "Public-Key-Pins",
            Self::ReportOnly => "Public-Key-Pins-Report-Only",
        }
    }
}

/// Whether one of the pins is in the chain.
fn have_a_key_in_common(pins: &[Pin], chain: &[Pin]) -> bool {
    let chain: BTreeSet<&Pin> = chain.iter().collect();
    pins.iter().any(|pin| chain.contains(pin))
}
