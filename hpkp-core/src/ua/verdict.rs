//! The input and the result of the models of real user agents: a response, and what a user agent does with it.

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
    /// `secure` says whether it came over TLS without errors. `chain` has the pins of the keys in the chain that the UA
    /// compares: the validated one, or for wget2 with GnuTLS or WolfSSL the served one.
    ///
    /// # Errors
    /// The values have more than [`MAX_FIELD`] bytes together.
    pub fn new(
        kind: FieldKind,
        fields: &'a [&'a [u8]],
        host: &'a Host,
        secure: bool,
        chain: &'a [Pin],
    ) -> Result<Self, TooLong> {
        let bytes = fields.iter().fold(0_usize, |sum, field| sum.saturating_add(field.len()));
        if bytes > MAX_FIELD {
            return Err(TooLong { bytes });
        }
        Ok(Self { kind, fields, host, secure, chain })
    }

    /// Whether the field may have an effect at all. It has none over http or faulty TLS (RFC 7469 section 2.2.2), nor
    /// for an IP address (section 2.3.3); all UAs agree on that.
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

#[cfg(test)]
mod tests {
    use super::super::{chromium, firefox, wget2};
    use super::*;
    use proptest::prelude::*;

    const LIVE: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    const BACKUP: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

    fn verdicts(fields: &[&[u8]]) -> [String; 3] {
        let host = Host::parse("a.example").unwrap();
        let chain = [Pin::from_base64(LIVE).unwrap()];
        let response = Response::new(FieldKind::Enforced, fields, &host, true, &chain).unwrap();
        [chromium::verdict(&response), firefox::verdict(&response), wget2::verdict(&response)]
            .map(|verdict| verdict.to_string())
    }

    #[test]
    fn long_fields_are_refused_together() {
        let half = vec![b' '; MAX_FIELD / 2 + 1];
        let host = Host::parse("a.example").unwrap();
        let fields: [&[u8]; 2] = [&half, &half];
        let response = Response::new(FieldKind::Enforced, &fields, &host, true, &[]);
        assert_eq!(response.err(), Some(TooLong { bytes: 2 * half.len() }));
    }

    #[test]
    fn a_response_without_a_field_changes_nothing() {
        assert_eq!(verdicts(&[]), ["ignore"; 3]);
    }

    proptest! {
        #[test]
        fn all_user_agents_agree_on_rendered_headers(
            max_age in 1..=5_184_000_u32,
            include_subdomains: bool,
            live_first: bool,
        ) {
            let (first, second) = if live_first { (LIVE, BACKUP) } else { (BACKUP, LIVE) };
            let include = if include_subdomains { "; includeSubDomains" } else { "" };
            let field = format!(
                "pin-sha256=\"{first}\"; pin-sha256=\"{second}\"; max-age={max_age}{include}"
            );
            prop_assert_eq!(verdicts(&[field.as_bytes()]), ["note"; 3]);
        }

        #[test]
        fn any_bytes_get_a_verdict(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "max-age", "includeSubDomains", "report-uri", "pin-sha256", "pin-", "=", ";",
                    ",", " ", "\"", "'", "\\", "5", "https://a:1/", LIVE, BACKUP, "\r\n ", "\0", "é",
                ]),
                0..32,
            ),
        ) {
            let field = pieces.concat();
            verdicts(&[field.as_bytes(), field.as_bytes()]);
        }
    }
}
