//! A message about a handshake that is logged once, and again after an interval.

use hpkp_core::finding::Finding;
use hpkp_core::published::Fingerprint;

/// A message for the log, or the end of one.
#[derive(Debug)]
pub struct Notice {
    /// The subject. A message about the same subject is repeated only after the interval.
    pub about: String,
    /// If this number changes, the message is logged again at once; 0 if there is nothing to report
    /// any more.
    pub tag: u64,
    /// After how many seconds the message is repeated.
    pub interval: i64,
    /// The message; none if there is nothing to report any more.
    pub finding: Option<Finding>,
}

impl Notice {
    /// A notice with this finding about this subject.
    pub(super) fn new(about: String, parts: &[&[u8]], interval: i64, finding: Finding) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = Fingerprint::of(parts.iter().copied()).bytes();
        // 0 means that there is nothing to report.
        let tag = u64::from_be_bytes([a, b, c, d, e, f, g, h]) | 1;
        Self { about, tag, interval, finding: Some(finding) }
    }
}
