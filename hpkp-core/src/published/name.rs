//! The names in records: of hosts, as clients see them, and of those who write records.

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::text::Excerpt;

/// A label that stands for any that has no name of its own.
pub const ANY_LABEL: &str = "hpkp-any-label";

/// Stands for the hosts of a server that is reached by its port alone and whose certificate has no name.
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

    /// A host one label below it, which stands for all that no record and no block names.
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

/// Takes a name in any case and with a trailing dot; gives it in its canonical form.
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
        // "_" alone is how servers without a name are written.
        if name == "_" || !name.split('.').all(is_label) {
            return Err(HostNameError::Malformed);
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

/// Why a text is no host name.
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
    /// A name in its own script; its A-labels are wanted (RFC 5890).
    #[error("not in A-labels (xn--...)")]
    NotAscii,
    /// A label is empty, too long, or has characters that no name has.
    #[error("not a host name")]
    Malformed,
}

/// Who writes a file of records: a stable name, which is that of the file too. Every event has one, so
/// that copies share the text.
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

    /// A name for texts that are not written to a file.
    pub(crate) fn nobody() -> Self {
        Self("0".into())
    }
}

impl fmt::Display for WriterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Letters, digits, `.`, `-` and `_`; the first is a letter or a digit, so that no file is hidden
/// and no directory left.
impl FromStr for WriterName {
    type Err = WriterNameError;

    fn from_str(text: &str) -> Result<Self, WriterNameError> {
        let is_name = (1..=Self::MAX).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if is_name { Ok(Self(text.into())) } else { Err(WriterNameError(shown(text))) }
    }
}

fn shown(text: &str) -> String {
    Excerpt::new(text).to_string()
}

/// A text that is no writer's name; it is held as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid writer name \"{}\"; expected 1 to {} letters, digits, \".\", \"-\" and \"_\", a letter or a digit \
    first", .0, WriterName::MAX)]
pub struct WriterNameError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_canonical() {
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
    fn what_is_no_host_name() {
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
    fn a_writer_cannot_leave_its_directory() {
        for name in ["web-1", "a", "Web_1.example.com"] {
            assert_eq!(name.parse::<WriterName>().unwrap().as_str(), name);
        }
        for text in ["", ".", "..", "../x", "a/b", "-a", ".hidden", "a b", "\u{e9}", "a\n"] {
            assert!(text.parse::<WriterName>().is_err(), "{text}");
        }
        assert!("a".repeat(65).parse::<WriterName>().is_err());
    }
}
