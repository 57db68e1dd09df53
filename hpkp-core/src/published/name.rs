//! The names in records: host names, and names of writers.

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::text::Excerpt;

/// A label that stands for any label that no configuration names.
pub const ANY_LABEL: &str = "hpkp-any-label";

/// Stands for all hosts of a server that clients choose by its port and whose certificate has no name.
pub const ANY_HOST: &str = "hpkp-any-host.invalid";

/// A host's name as clients see it: A-labels in lower case, no trailing dot, no IP address
/// (RFC 7469 section 2.3.3; RFC 6797 section 10).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// The longest name, in bytes (RFC 1035 section 2.3.4), without its trailing dot.
    pub const MAX: usize = 253;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domains above it, the nearest first.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        let dots = self.0.match_indices('.');
        dots.map(|(dot, _)| &self.0[dot + 1..])
    }

    /// The name itself, then each of its superdomains, the nearest first: label by label (RFC 6797
    /// section 8.2).
    pub fn with_superdomains(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.as_str()).chain(self.parents())
    }

    /// Whether the name is `other` or below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0
            .strip_suffix(other.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// A host one label below it. It stands for all such hosts that no record and no block names.
    #[must_use]
    pub fn any_below(&self) -> Self {
        Self(format!("{ANY_LABEL}.{}", self.0))
    }
}

impl Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads a name in any case, with or without a trailing dot, and returns it in canonical form.
impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, HostNameError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(HostNameError::Empty);
        }
        if name.len() > Self::MAX {
            return Err(HostNameError::TooLong);
        }
        if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return Err(HostNameError::IpAddress);
        }
        if !name.is_ascii() {
            return Err(HostNameError::NotAscii);
        }
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // "_" is the conventional name of servers without a name.
        if name == "_" || !name.split('.').all(is_label) {
            return Err(HostNameError::Malformed);
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

/// Why a text is not a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostNameError {
    /// No text at all.
    #[error("empty")]
    Empty,
    /// Longer than [`HostName::MAX`].
    #[error("longer than {} characters", HostName::MAX)]
    TooLong,
    /// An IP address, which no client pins by this name (RFC 7469 section 2.3.3).
    #[error("an IP address, which clients do not pin")]
    IpAddress,
    /// A name outside ASCII; it must be written in A-labels (RFC 5890).
    #[error("not in A-labels (xn--...)")]
    NotAscii,
    /// A label is empty, too long, or has a character that is not allowed.
    #[error("not a host name")]
    Malformed,
}

/// The name of a writer of records: a stable name, which is also that of its file. Every event has one, so clones share
/// the text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterName(Arc<str>);

impl WriterName {
    /// The longest name, in bytes.
    pub const MAX: usize = 64;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name for events that are not written to a file.
    pub(crate) fn nobody() -> Self {
        Self("0".into())
    }
}

impl fmt::Display for WriterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Letters, digits, `.`, `-` and `_`. The first must be a letter or a digit, so that the file is not hidden and cannot
/// be outside its directory.
impl FromStr for WriterName {
    type Err = WriterNameError;

    fn from_str(text: &str) -> Result<Self, WriterNameError> {
        let is_name = (1..=Self::MAX).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if is_name { Ok(Self(text.into())) } else { Err(WriterNameError(printable(text))) }
    }
}

fn printable(text: &str) -> String {
    Excerpt::new(text).to_string()
}

/// A text that is not a writer's name, in printable form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid writer name \"{}\"; expected 1 to {} letters, digits, \".\", \"-\" and \"_\", a letter or a digit \
    first", .0, WriterName::MAX)]
pub struct WriterNameError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_become_canonical() {
        let name: HostName = "WWW.Example.COM.".parse().unwrap();
        assert_eq!(name.as_str(), "www.example.com");
        assert_eq!(name.parents().collect::<Vec<_>>(), ["example.com", "com"]);
        assert_eq!(name.any_below().as_str(), "hpkp-any-label.www.example.com");
    }

    #[test]
    fn superdomains_are_found_label_by_label() {
        let name = |text: &str| text.parse::<HostName>().unwrap();
        let all = name("a.b.example");
        let all: Vec<&str> = all.with_superdomains().collect();
        assert_eq!(all, ["a.b.example", "b.example", "example"]);
        for (below, above, within) in [
            ("www.example.com", "example.com", true),
            ("example.com", "example.com", true),
            ("notexample.com", "example.com", false),
            ("example.com", "www.example.com", false),
        ] {
            assert_eq!(name(below).is_within(&name(above)), within);
        }
    }

    #[test]
    fn invalid_host_names_are_refused() {
        for (text, error) in [
            ("", HostNameError::Empty),
            (".", HostNameError::Empty),
            ("192.0.2.1", HostNameError::IpAddress),
            ("2001:db8::1", HostNameError::IpAddress),
            ("[2001:db8::1]", HostNameError::IpAddress),
            ("b\u{fc}cher.example", HostNameError::NotAscii),
            ("_", HostNameError::Malformed),
            ("a..b", HostNameError::Malformed),
            ("*.example.com", HostNameError::Malformed),
            ("a b", HostNameError::Malformed),
            ("a.b..", HostNameError::Malformed),
        ] {
            assert_eq!(text.parse::<HostName>(), Err(error), "{text}");
        }
        assert_eq!("a".repeat(64).parse::<HostName>(), Err(HostNameError::Malformed));
        assert_eq!("a.".repeat(127).parse::<HostName>().map(|_| ()), Ok(()));
        assert_eq!(
            format!("{}a", "a.".repeat(127)).parse::<HostName>(),
            Err(HostNameError::TooLong)
        );
    }

    #[test]
    fn the_name_of_a_writer_cannot_leave_its_directory() {
        for name in ["web-1", "a", "Web_1.example.com"] {
            assert_eq!(name.parse::<WriterName>().unwrap().as_str(), name);
        }
        for text in ["", ".", "..", "../x", "a/b", "-a", ".hidden", "a b", "\u{e9}", "a\n"] {
            assert!(text.parse::<WriterName>().is_err(), "{text}");
        }
        assert!("a".repeat(65).parse::<WriterName>().is_err());
    }
}
