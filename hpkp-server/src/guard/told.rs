//! What there is to say at a handshake, once in a while.

use hpkp_core::finding::Finding;
use hpkp_core::published::Fingerprint;

/// What there is to say.
#[derive(Debug)]
pub struct Told {
    /// About what: only the same is said once in a while.
    pub about: String,
    /// Changes where it must be said again at once; 0 where there is nothing to say any more.
    pub tag: u64,
    /// How often it is said, in seconds.
    pub interval: i64,
    /// What is said; none where nothing is any more.
    pub finding: Option<Finding>,
}

impl Told {
    /// A finding of a code about a host, and what it is about.
    pub(super) fn new(about: String, parts: &[&[u8]], interval: i64, finding: Finding) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = Fingerprint::of(parts.iter().copied()).octets();
        // 0 is that there is nothing to say.
        let tag = u64::from_be_bytes([a, b, c, d, e, f, g, h]) | 1;
        Self { about, tag, interval, finding: Some(finding) }
    }
}
