//! The URI in a received `report-uri` (RFC 7469 section 2.1.4).
//!
//! The RFC gives it no grammar of its own: it is a URI (RFC 3986), and reports go over HTTP or
//! HTTPS. Relative references, empty and unusable text are no URIs; a URI of another scheme is one,
//! though it is never used.

use std::fmt;
use std::net::Ipv6Addr;

/// An absolute URI as it was received.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceivedUri(String);

impl ReceivedUri {
    /// Reads a URI from the unescaped value of the directive.
    ///
    /// # Errors
    /// Why the text is no URI, or none that could be used.
    pub fn parse(text: &[u8]) -> Result<Self, UriError> {
        if text.is_empty() {
            return Err(UriError::Empty);
        }
        if let Some(byte) = text.iter().find(|byte| !is_uri_byte(**byte)) {
            return Err(UriError::IllegalByte { byte: *byte });
        }
        // All bytes are ASCII, so this cannot fail.
        let text = std::str::from_utf8(text).map_err(|_| UriError::Empty)?;
        let (scheme, rest) = text.split_once(':').ok_or(UriError::Relative)?;
        if !is_scheme(scheme) {
            return Err(UriError::Relative);
        }
        if !text.split('%').skip(1).all(begins_with_two_hex_digits) {
            return Err(UriError::PercentEncoding);
        }
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        if fragment.contains('#') {
            return Err(UriError::IllegalByte { byte: b'#' });
        }
        let path = match rest.strip_prefix("//") {
            Some(rest) => {
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                let (authority, path) = rest.split_at(end);
                let host = host(authority)?;
                if is_http(scheme) && host.is_empty() {
                    return Err(UriError::Host);
                }
                path
            }
            None if is_http(scheme) => return Err(UriError::Host),
            None => rest,
        };
        // Square brackets belong to addresses only.
        for part in [path, fragment] {
            if let Some(byte) = part.bytes().find(|byte| matches!(byte, b'[' | b']')) {
                return Err(UriError::IllegalByte { byte });
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The URI as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether reports can be sent there: HTTP or HTTPS.
    #[must_use]
    pub fn is_http(&self) -> bool {
        self.0.split_once(':').is_some_and(|(scheme, _)| is_http(scheme))
    }
}

impl fmt::Display for ReceivedUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no URI for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum UriError {
    /// No text at all.
    #[error("it is empty")]
    Empty,
    /// No scheme: a relative reference.
    #[error("it is relative; write https:// and a host before it")]
    Relative,
    /// A byte that no URI holds there (RFC 3986 section 2).
    #[error("'{}' is not allowed there", .byte.escape_ascii())]
    IllegalByte {
        /// That byte.
        byte: u8,
    },
    /// `%` without two hexadecimal digits after it (RFC 3986 section 2.1).
    #[error("a '%' must be followed by two hexadecimal digits")]
    PercentEncoding,
    /// The host is missing or none.
    #[error("missing or invalid host")]
    Host,
    /// The port is not a number up to 65535.
    #[error("the port is not a number up to 65535")]
    Port,
}

fn is_http(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

/// RFC 3986 section 3.1.
fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// RFC 3986 section 2: unreserved, reserved and the percent sign.
fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

fn begins_with_two_hex_digits(text: &str) -> bool {
    text.len() >= 2 && text.bytes().take(2).all(|byte| byte.is_ascii_hexdigit())
}

/// The host of an authority (RFC 3986 section 3.2), its port checked.
fn host(authority: &str) -> Result<&str, UriError> {
    let (user, rest) = authority.rsplit_once('@').unwrap_or(("", authority));
    if let Some(byte) = user.bytes().find(|byte| b"[]@".contains(byte)) {
        return Err(UriError::IllegalByte { byte });
    }
    let (host, port) = if let Some(rest) = rest.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(UriError::Host)?;
        address.parse::<Ipv6Addr>().map_err(|_| UriError::Host)?;
        match port.strip_prefix(':') {
            None if !port.is_empty() => return Err(UriError::Host),
            port => (address, port.unwrap_or("")),
        }
    } else {
        rest.split_once(':').unwrap_or((rest, ""))
    };
    if !rest.starts_with('[') && host.contains(['[', ']', ':']) {
        return Err(UriError::Host);
    }
    // An empty port is the default one (RFC 3986 section 3.2.3).
    if !port.is_empty() {
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let number = port.parse::<u16>();
        if !digits || number.is_err() {
            return Err(UriError::Port);
        }
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_uris_are_kept_as_written() {
        for (text, http) in [
            ("http://a", true),
            ("HTTPS://A.Example:8443/x?y;z=[".trim_end_matches('['), true),
            ("https://u:p@a.example/", true),
            ("https://[2001:db8::1]:443/", true),
            ("https://a:/", true),
            ("https://a/%20#f", true),
            ("ftp://a/", false),
            ("file:///x", false),
            ("javascript:alert(1)", false),
            ("mailto:a@b.example", false),
        ] {
            let uri = ReceivedUri::parse(text.as_bytes()).unwrap();
            assert_eq!((uri.as_str(), uri.is_http()), (text, http));
        }
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        for (text, error) in [
            ("", UriError::Empty),
            ("report", UriError::Relative),
            ("/report", UriError::Relative),
            ("//a.example/r", UriError::Relative),
            ("a/b:c", UriError::Relative),
            ("1a://b", UriError::Relative),
            ("https://a b/", UriError::IllegalByte { byte: b' ' }),
            ("https://a/\"", UriError::IllegalByte { byte: b'"' }),
            ("https://a/\\", UriError::IllegalByte { byte: b'\\' }),
            ("https://a/é", UriError::IllegalByte { byte: 0xc3 }),
            ("https://a/[", UriError::IllegalByte { byte: b'[' }),
            ("https://a/#b#c", UriError::IllegalByte { byte: b'#' }),
            ("https://a/%", UriError::PercentEncoding),
            ("https://a/%2", UriError::PercentEncoding),
            ("https://a/%zz", UriError::PercentEncoding),
            ("https:", UriError::Host),
            ("https:a.example", UriError::Host),
            ("https://", UriError::Host),
            ("https:///a", UriError::Host),
            ("https://u@/", UriError::Host),
            ("https://:443/", UriError::Host),
            ("https://[::1/", UriError::Host),
            ("https://[x]/", UriError::Host),
            ("https://a[::1]/", UriError::Host),
            ("https://a:port/", UriError::Port),
            ("https://a:+1/", UriError::Port),
            ("https://a:65536/", UriError::Port),
            ("https://a:1:2/", UriError::Port),
        ] {
            assert_eq!(ReceivedUri::parse(text.as_bytes()), Err(error), "{text}");
        }
    }
}
