//! The verdict of Chromium up to version 71 (net/http). Version 72 removed the header.
//!
//! Chromium reads the field with its general parser of parameter lists: apostrophes quote like double quotes, empty
//! directives and blanks round `=` are accepted, unknown text is ignored unless it has a meaning for the parser, and a
//! comma outside quotes begins another value.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use super::hosts::Options;
use super::lexer::{is_blank, trim};
use super::{FieldKind, Response, Verdict, have_a_key_in_common};
use crate::pin::Pin;

/// What Chromium up to 71 does with the field in `response`.
#[must_use]
pub fn verdict(response: &Response<'_>) -> Verdict {
    if !response.eligible() {
        return Verdict::Ignore;
    }
    let Some(value) = first_value(response.fields) else {
        return Verdict::Ignore;
    };
    let Some(policy) = Policy::read(value) else {
        return Verdict::Ignore;
    };
    match response.kind {
        FieldKind::Enforced => enforced(response, &policy),
        FieldKind::ReportOnly => report_only(response, &policy),
    }
}

fn enforced(response: &Response<'_>, policy: &Policy) -> Verdict {
    let Some(max_age) = policy.max_age else {
        return Verdict::Ignore;
    };
    let chain: BTreeSet<&Pin> = response.chain.iter().collect();
    let live = policy.pins.iter().any(|pin| chain.contains(pin));
    let backup = policy.pins.iter().any(|pin| !chain.contains(pin));
    if !live || !backup {
        Verdict::Ignore
    } else if max_age == 0 {
        Verdict::Delete
    } else {
        Verdict::Note { max_age, include_subdomains: policy.include_subdomains }
    }
}

fn report_only(response: &Response<'_>, policy: &Policy) -> Verdict {
    let Some(uri) = &policy.report_uri else {
        return Verdict::Ignore;
    };
    // A report over TLS to the host that failed could cause the next report.
    let loops = uri.encrypted && uri.host == response.host.as_str().as_bytes();
    let matches = policy.pins.is_empty() || have_a_key_in_common(&policy.pins, response.chain);
    Verdict::Evaluate { report: !matches && !loops }
}

#[derive(Default)]
struct Policy {
    max_age: Option<u64>,
    include_subdomains: bool,
    pins: Vec<Pin>,
    report_uri: Option<Uri>,
}

impl Policy {
    /// Reads a value; `None` if something voids it. The last of several directives with one name counts.
    fn read(value: &[u8]) -> Option<Self> {
        let mut policy = Self::default();
        for item in (Items { rest: value, at: b';' }) {
            let item = Pair::read(item)?;
            if item.name.eq_ignore_ascii_case(b"max-age") {
                policy.max_age = Some(seconds(&item.value)?);
            } else if item.name.eq_ignore_ascii_case(b"pin-sha256") {
                let (pin, _) =
                    super::field::decode_pin(&item.value).ok().filter(|_| item.quoted)?;
                policy.pins.push(pin);
            } else if item.name.eq_ignore_ascii_case(b"includesubdomains") {
                policy.include_subdomains = true;
            } else if item.name.eq_ignore_ascii_case(b"report-uri") {
                policy.report_uri = Some(Uri::read(&item.value).filter(|_| item.quoted)?);
            }
        }
        Some(policy)
    }
}

/// The first value of the first field that has one.
fn first_value<'a>(fields: &[&'a [u8]]) -> Option<&'a [u8]> {
    fields.iter().find_map(|field| {
        let field = trim(field);
        if field.is_empty() {
            return Some(field);
        }
        Items { rest: field, at: b',' }.next()
    })
}

/// The parts between separators outside quotes, without blanks; empty ones are ignored.
struct Items<'a> {
    rest: &'a [u8],
    at: u8,
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = self.end_of_item();
            let item = trim(&self.rest[..end]);
            self.rest = self.rest.get(end + 1..).unwrap_or(&[]);
            if !item.is_empty() {
                return Some(item);
            }
        }
        None
    }
}

impl Items<'_> {
    fn end_of_item(&self) -> usize {
        let mut quote = None;
        let mut escaped = false;
        for (position, byte) in self.rest.iter().copied().enumerate() {
            match quote {
                None if byte == self.at => return position,
                None if is_quote(byte) => quote = Some(byte),
                None => {}
                Some(_) if escaped => escaped = false,
                Some(_) if byte == b'\\' => escaped = true,
                Some(open) if byte == open => quote = None,
                Some(_) => {}
            }
        }
        self.rest.len()
    }
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'')
}

/// A name, and a value unless it is empty.
struct Pair<'a> {
    name: &'a [u8],
    value: Vec<u8>,
    quoted: bool,
}

impl<'a> Pair<'a> {
    /// `None` voids the whole value: no name, no value after `=`, or a quote before `=`.
    fn read(item: &'a [u8]) -> Option<Self> {
        let Some(equals) = item.iter().position(|byte| *byte == b'=') else {
            return Some(Self { name: item, value: Vec::new(), quoted: false });
        };
        let (name, value) = (&item[..equals], trim(&item[equals + 1..]));
        if name.is_empty() || value.is_empty() || name.iter().copied().any(is_quote) {
            return None;
        }
        let (value, quoted) = match value {
            [open, inner @ .., close] if is_quote(*open) && open == close => {
                (unescaped(inner), true)
            }
            // Chromium accepts a missing closing quote, but does not treat the value as quoted.
            [open, rest @ ..] if is_quote(*open) => (rest.to_vec(), false),
            _ => (value.to_vec(), false),
        };
        Some(Self { name: trim(name), value, quoted })
    }
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut escaped = false;
    text.iter()
        .copied()
        .filter(|byte| {
            escaped = *byte == b'\\' && !escaped;
            !escaped
        })
        .collect()
}

/// Digits only; too large a number counts as the cap.
fn seconds(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| {
        let sum = sum * 10 + u64::from(digit - b'0');
        sum.min(Options::SIXTY_DAYS)
    };
    Some(value.iter().fold(0, add))
}

/// The parts of a report URI that matter here. The parser follows the URL standard for texts that somebody may mean as
/// a report-uri, and accepts what Chromium takes for a valid absolute URL.
struct Uri {
    host: Vec<u8>,
    encrypted: bool,
}

impl Uri {
    fn read(text: &[u8]) -> Option<Self> {
        let start = text.iter().take_while(|byte| **byte <= b' ').count();
        let text = &text[start..];
        let end = text.iter().rev().take_while(|byte| **byte <= b' ').count();
        let mut text = text[..text.len() - end].to_vec();
        text.retain(|byte| !matches!(byte, b'\t' | b'\n' | b'\r'));
        let colon = text.iter().position(|byte| *byte == b':')?;
        let (scheme, rest) = (text[..colon].to_ascii_lowercase(), &text[colon + 1..]);
        if !scheme.first()?.is_ascii_alphabetic()
            || !scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
        {
            return None;
        }
        if ![&b"http"[..], b"https", b"ftp", b"ws", b"wss", b"gopher"].contains(&&scheme[..]) {
            // Any text is valid after another scheme.
            return Some(Self { host: Vec::new(), encrypted: false });
        }
        let slashes = rest.iter().take_while(|byte| b"/\\".contains(byte));
        let rest = &rest[slashes.count()..];
        let end = rest.iter().position(|byte| b"/\\?#".contains(byte));
        let authority = &rest[..end.unwrap_or(rest.len())];
        let user = authority.iter().rposition(|byte| *byte == b'@');
        let host = host(&authority[user.map_or(0, |at| at + 1)..])?;
        Some(Self { host, encrypted: matches!(&scheme[..], b"https" | b"wss") })
    }
}

/// The host of an authority without its user, the port checked.
fn host(text: &[u8]) -> Option<Vec<u8>> {
    let inside = text.iter().rposition(|byte| *byte == b']').unwrap_or(0);
    let colon = text.iter().rposition(|byte| *byte == b':');
    let colon = colon.filter(|at| *at >= inside).unwrap_or(text.len());
    let (host, port) = (&text[..colon], text.get(colon + 1..).unwrap_or(&[]));
    if !port.is_empty() {
        let port = std::str::from_utf8(port).ok()?;
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        port.parse::<u16>().ok().filter(|_| digits)?;
    }
    if let [b'[', address @ .., b']'] = host {
        let address = std::str::from_utf8(address).ok()?;
        address.parse::<Ipv6Addr>().ok()?;
        return Some(host.to_ascii_lowercase());
    }
    let never = |byte: &u8| byte.is_ascii_control() || b"%:;[]^".contains(byte);
    if host.is_empty() || host.iter().any(never) || host.iter().copied().all(is_blank) {
        return None;
    }
    Some(host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::super::host::Host;
    use super::*;

    const LIVE: Pin = Pin::from_bytes([1; Pin::BYTES]);
    const BACKUP: Pin = Pin::from_bytes([2; Pin::BYTES]);

    fn judge(kind: FieldKind, text: &str) -> Verdict {
        let text = text
            .replace("LIVE", &format!("pin-sha256=\"{LIVE}\""))
            .replace("BACKUP", &format!("pin-sha256=\"{BACKUP}\""));
        let host = Host::parse("www.example.com").unwrap();
        let fields = [text.as_bytes()];
        verdict(&Response::new(kind, &fields, &host, true, &[LIVE]).unwrap())
    }

    #[test]
    fn a_missing_closing_quote_is_accepted_in_an_age_but_not_in_a_pin() {
        let age = judge(FieldKind::Enforced, "LIVE; BACKUP; max-age=\"7");
        assert_eq!(age.to_string(), "note");
        let pin = judge(FieldKind::Enforced, "max-age=7; LIVE; pin-sha256=\"AA");
        assert_eq!(pin, Verdict::Ignore);
    }

    #[test]
    fn no_report_goes_over_tls_to_the_same_host() {
        for (uri, report) in [
            ("https://www.example.com/r", false),
            ("https://WWW.example.com:8443/r", false),
            ("http://www.example.com/r", true),
            ("https://example.com/r", true),
        ] {
            let text = format!("BACKUP; report-uri=\"{uri}\"");
            let verdict = judge(FieldKind::ReportOnly, &text);
            assert_eq!(verdict, Verdict::Evaluate { report }, "{uri}");
        }
    }

    #[test]
    fn urls_are_valid_as_in_browsers() {
        for (text, valid) in [
            ("https://a/", true),
            (" https:a ", true),
            ("https:///a", true),
            ("https://a\\b", true),
            ("https://[::1]:8/", true),
            ("data:,", true),
            ("https://", false),
            ("https://:80/", false),
            ("https://a:x/", false),
            ("https://a:65536/", false),
            ("https://[x]/", false),
            ("https://a;b/", false),
            ("a.example/r", false),
            ("", false),
        ] {
            assert_eq!(Uri::read(text.as_bytes()).is_some(), valid, "{text}");
        }
    }
}
