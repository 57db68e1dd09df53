//! The URI for violation reports (RFC 7469 section 2.1.4).
//!
//! User agents differ here: Chromium voids the whole header for a URI that it cannot parse, Firefox for a byte outside
//! ASCII. This module accepts only what all of them read alike: an absolute `http` or `https` URI of RFC 3986
//! characters, whose host is a plain name or an address.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A URI that `report-uri="..."` can contain as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportUri {
    text: String,
    host: String,
}

impl ReportUri {
    /// The longest that is accepted, in bytes.
    pub const MAX: usize = 1024;

    /// The URI as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its host in lower case, without brackets and without the root dot.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl FromStr for ReportUri {
    type Err = ReportUriError;

    fn from_str(text: &str) -> Result<Self, ReportUriError> {
        if text.len() > Self::MAX {
            return Err(ReportUriError::TooLong { bytes: text.len() });
        }
        if let Some(byte) = text.bytes().find(|byte| !is_uri_byte(*byte)) {
            return Err(ReportUriError::Byte { byte });
        }
        let (scheme, rest) = text.split_once("://").ok_or(ReportUriError::NotAbsolute)?;
        if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
            return Err(ReportUriError::Scheme);
        }
        if text.contains('#') {
            return Err(ReportUriError::Fragment);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(ReportUriError::UserInfo);
        }
        if let Some(byte) = path.bytes().find(|byte| b"[]".contains(byte)) {
            return Err(ReportUriError::Byte { byte });
        }
        if !path.split('%').skip(1).all(begins_with_two_hex_digits) {
            return Err(ReportUriError::PercentEncoding);
        }
        let host = host(authority).ok_or(ReportUriError::Host)?;
        Ok(Self { text: text.to_owned(), host })
    }
}

/// RFC 3986 section 2: unreserved, reserved and the percent sign.
fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

fn begins_with_two_hex_digits(text: &str) -> bool {
    text.len() >= 2 && text.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit)
}

/// The host of `authority`, if the host and the port are valid.
fn host(authority: &str) -> Option<String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, port.strip_prefix(':').or_else(|| port.is_empty().then_some("443"))?)
        }
        None => authority.split_once(':').unwrap_or((authority, "443")),
    };
    let port_is_sound =
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    let host_is_sound = authority.starts_with('[') || is_plain_name(host);
    (port_is_sound && host_is_sound)
        .then(|| host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
}

/// Labels of letters, digits, hyphens and underscores. If the last label is a number, the whole must be an IPv4
/// address, because browsers read it as one.
fn is_plain_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let label_is_sound = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last = name.rsplit('.').next().unwrap_or("");
    let looks_like_a_number = last.bytes().all(|b| b.is_ascii_digit())
        || last.get(..2).is_some_and(|prefix| prefix.eq_ignore_ascii_case("0x"));
    name.len() <= 253
        && name.split('.').all(label_is_sound)
        && (!looks_like_a_number || name.parse::<Ipv4Addr>().is_ok())
}

const WANTED: &str =
    "expected an absolute URI on another host, such as https://reports.example.net/hpkp";

/// Why a text is not a URI for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportUriError {
    /// Longer than [`ReportUri::MAX`].
    #[error("{bytes} bytes long, more than {}; {WANTED}", ReportUri::MAX)]
    TooLong {
        /// Bytes in the text.
        bytes: usize,
    },
    /// A byte that RFC 3986 does not allow at its place.
    #[error("contains the byte 0x{byte:02x} ('{}'), which RFC 3986 does not allow there; \
        {WANTED}", .byte.escape_ascii())]
    Byte {
        /// The first one found.
        byte: u8,
    },
    /// No scheme and host.
    #[error("no scheme and host; {WANTED}")]
    NotAbsolute,
    /// A scheme other than `http` and `https`.
    #[error("the scheme is neither https nor http; {WANTED}")]
    Scheme,
    /// A `#`.
    #[error("contains a fragment (#), which clients never send; {WANTED}")]
    Fragment,
    /// A user name or password before an `@`.
    #[error("contains a user name or password; {WANTED}")]
    UserInfo,
    /// A `%` without two hexadecimal digits.
    #[error("contains a % without two hexadecimal digits; {WANTED}")]
    PercentEncoding,
    /// A host or port that some user agent cannot read.
    #[error("not every client can read the host or port; {WANTED}")]
    Host,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_uris_are_accepted_with_their_hosts() {
        for (text, host) in [
            ("https://reports.example.net/hpkp", "reports.example.net"),
            ("HTTP://Example.NET", "example.net"),
            ("https://example.net.:8443/a?b=c&d='(e)'*", "example.net"),
            ("https://example.net?x=%20", "example.net"),
            ("https://192.0.2.1:8080/", "192.0.2.1"),
            ("https://[2001:db8::1]:8443/r", "2001:db8::1"),
            ("https://[2001:DB8::1]", "2001:db8::1"),
            ("https://f03_8.example/r/d/hpkp", "f03_8.example"),
        ] {
            assert_eq!(text.parse::<ReportUri>().map(|uri| uri.host), Ok(host.into()), "{text}");
        }
    }

    #[test]
    fn each_invalid_uri_has_its_own_error() {
        use ReportUriError::*;
        for (text, error) in [
            ("", NotAbsolute),
            ("/report", NotAbsolute),
            ("//example.net/r", NotAbsolute),
            ("https:/example.net", NotAbsolute),
            ("ftp://example.net/", Scheme),
            ("javascript://example.net/", Scheme),
            ("https://", Host),
            ("https:///r", Host),
            ("https://:8443/", Host),
            ("https://a..b/", Host),
            ("https://exa%6dple.net/", Host),
            ("https://1.2.3.400/", Host),
            ("https://12345/", Host),
            ("https://0x7f.0.0.0x1/", Host),
            ("https://example.net:/", Host),
            ("https://example.net:0/", Host),
            ("https://example.net:65536/", Host),
            ("https://example.net:+1/", Host),
            ("https://[::1/", Host),
            ("https://[::1]x/", Host),
            ("https://[v1.a]/", Host),
            ("https://user@example.net/", UserInfo),
            ("https://user:secret@example.net/", UserInfo),
            ("https://example.net/#top", Fragment),
            ("https://example.net/%", PercentEncoding),
            ("https://example.net/%2", PercentEncoding),
            ("https://example.net/%zz", PercentEncoding),
            ("https://example.net/[x]", Byte { byte: b'[' }),
            ("https://example.net/x]", Byte { byte: b']' }),
            ("https://example.net/\"x", Byte { byte: b'"' }),
            ("https://example.net/a b", Byte { byte: b' ' }),
            ("https://example.net/\r\nSet-Cookie: a", Byte { byte: b'\r' }),
            ("https://example.net/\u{7f}", Byte { byte: 0x7f }),
            ("https://example.net/ü", Byte { byte: 0xc3 }),
            ("https://example.net/\\", Byte { byte: b'\\' }),
            ("https://example.net/<a>", Byte { byte: b'<' }),
        ] {
            assert_eq!(text.parse::<ReportUri>(), Err(error), "{text}");
        }
        let long = format!("https://example.net/{}", "a".repeat(1024));
        assert_eq!(long.parse::<ReportUri>(), Err(TooLong { bytes: 1044 }));
    }
}
