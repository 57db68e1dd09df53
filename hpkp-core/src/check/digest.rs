//! The digest of a configuration. It identifies a running configuration that is not on record.

use std::fmt;
use std::str::FromStr;

/// A digest of a configuration: for each host, the names by which it is reached, the certificates that it
/// presents and its policy, but neither trust anchors nor records. It is kept if a configuration takes
/// effect and cannot be recorded ([`Records::unrecorded`](super::Records::unrecorded)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The digest of everything that pins of keys depend on. A renewal with the same key does not change it.
    pub(super) keys: u64,
    /// The digest of the leaf certificates, which some TLSA records compare.
    pub(super) leaves: u64,
}

impl Digest {
    /// A digest that no configuration has, so that no configuration counts as unchanged.
    pub const NONE: Self = Self { keys: 0, leaves: 0 };

    pub(super) fn has_same_keys(self, other: Self) -> bool {
        self.keys == other.keys
    }

    pub(super) fn has_same_leaves(self, other: Self) -> bool {
        self.leaves == other.leaves
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.keys, self.leaves)
    }
}

/// The text is not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestError;

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let is_whole = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let all = is_whole.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        let bytes = all.ok_or(DigestError)?.to_be_bytes();
        let half =
            |at: usize| bytes[at..at + 8].iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
        Ok(Self { keys: half(0), leaves: half(8) })
    }
}
