//! A response as the models of real user agents see it, and what they do with it.

use std::fmt;

use super::field::TooLong;
use super::host::Host;
use super::{FieldKind, MAX_FIELD};
use crate::pin::Pin;

/// A response that carries one of the two fields, possibly several times.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    pub(super) kind: FieldKind,
    pub(super) fields: &'a [&'a [u8]],
    pub(super) host: &'a Host,
    pub(super) secure: bool,
    pub(super) chain: &'a [Pin],
}

impl<'a> Response<'a> {
    /// A response from `host` with these values of the field, in their order.
    ///
    /// `secure` says whether it came over TLS without errors, and `chain` holds the pins of the
    /// keys in the chain that the UA compares: the validated one, but for wget2 with GnuTLS or
    /// WolfSSL, which takes the served one.
    ///
    /// # Errors
    /// The values have more than [`MAX_FIELD`] octets together.
    pub fn new(
        kind: FieldKind,
        fields: &'a [&'a [u8]],
        host: &'a Host,
        secure: bool,
        chain: &'a [Pin],
    ) -> Result<Self, TooLong> {
        let octets = fields
            .iter()
            .fold(0_usize, |sum, field| sum.saturating_add(field.len()));
        if octets > MAX_FIELD {
            return Err(TooLong { octets });
        }
        Ok(Self {
            kind,
            fields,
            host,
            secure,
            chain,
        })
    }

    /// Whether the field may have an effect at all: not over http or broken TLS (RFC 7469 section
    /// 2.2.2), nor on an IP address (section 2.3.3). All UAs agree on that.
    pub(super) fn eligible(&self) -> bool {
        self.secure && matches!(self.host, Host::Name(_))
    }
}

/// What a user agent does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Does not know this field.
    Unsupported,
    /// Changes nothing.
    Ignore,
    /// Notes the host, or renews its entry.
    Note {
        /// For how many seconds, the UA's own cap applied.
        max_age: u64,
        /// Whether with its subdomains.
        include_subdomains: bool,
    },
    /// Notes the host with pins that its own chain does not match, and refuses it from then on.
    NoteThenRefuse {
        /// For how many seconds.
        max_age: u64,
        /// Whether with its subdomains.
        include_subdomains: bool,
    },
    /// Forgets the host, if it was known.
    Delete,
    /// Evaluates a report-only policy.
    Evaluate {
        /// Whether it sends a report.
        report: bool,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsupported => "unsupported",
            Self::Ignore => "ignore",
            Self::Note { .. } => "note",
            Self::NoteThenRefuse { .. } => "note-then-refuse",
            Self::Delete => "delete",
            Self::Evaluate { .. } => "evaluate",
        })
    }
}
