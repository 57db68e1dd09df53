//! The verdict of Firefox up to version 71 (security/manager). Version 72 removed the header.
//!
//! Firefox has a parser of its own for this header and Strict-Transport-Security: stricter than other UAs about bytes
//! and repetitions, more tolerant than the RFC about blanks, empty directives, and missing names and values. It
//! compares pins as text.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::hosts::Options;
use super::lexer::trim;
use super::{FieldKind, Response, Verdict};
use crate::pin::Pin;

/// A stored entry must be shorter than this number of bytes: the expiry in milliseconds, two flags, three commas and
/// the text of all pins.
const RECORD: usize = 1024;

/// The bytes of a stored entry without its pins: 13 digits, two flags of one digit and three commas.
const RECORD_WITHOUT_PINS: usize = 18;

/// What Firefox up to 71 does with the field in `response`.
///
/// Firefox stores names of a single label but never looks them up, so it ignores them in effect.
#[must_use]
pub fn verdict(response: &Response<'_>) -> Verdict {
    if response.kind == FieldKind::ReportOnly {
        return Verdict::Unsupported;
    }
    if !response.eligible() || !response.host.as_str().contains('.') || response.fields.is_empty() {
        return Verdict::Ignore;
    }
    // Firefox joins several fields to one with commas, which are invalid in this header.
    let text = response.fields.join(&b", "[..]);
    let policy = directives(trim(&text)).and_then(|directives| Policy::read(&directives));
    match policy {
        Some(policy) => policy.verdict(response),
        None => Verdict::Ignore,
    }
}

struct Policy {
    max_age: u64,
    include_subdomains: bool,
    /// The text of each pin, repetitions included.
    pins: Vec<Vec<u8>>,
}

impl Policy {
    fn read(directives: &[Directive]) -> Option<Self> {
        let (mut max_age, mut include, mut report_uri) = (None, None, None);
        let mut pins = Vec::new();
        for Directive { name, value } in directives {
            let place = if name.eq_ignore_ascii_case(b"max-age") {
                &mut max_age
            } else if name.eq_ignore_ascii_case(b"includesubdomains") {
                &mut include
            } else if name.eq_ignore_ascii_case(b"report-uri") {
                &mut report_uri
            } else {
                if name.eq_ignore_ascii_case(b"pin-sha256") {
                    let bytes = LENIENT.decode(value).ok()?;
                    if bytes.len() != Pin::BYTES {
                        return None;
                    }
                    pins.push(value.clone());
                }
                continue;
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        if include.is_some_and(|value| !value.is_empty()) {
            return None;
        }
        Some(Self { max_age: seconds(max_age?)?, include_subdomains: include.is_some(), pins })
    }

    fn verdict(&self, response: &Response<'_>) -> Verdict {
        if self.max_age == 0 {
            return Verdict::Delete;
        }
        let chain: BTreeSet<String> = response.chain.iter().map(ToString::to_string).collect();
        let is_live = |pin: &&Vec<u8>| std::str::from_utf8(pin).is_ok_and(|p| chain.contains(p));
        let live = self.pins.iter().filter(is_live).count();
        let record = RECORD_WITHOUT_PINS + self.pins.iter().map(Vec::len).sum::<usize>();
        if live == 0 || live == self.pins.len() || record >= RECORD {
            return Verdict::Ignore;
        }
        Verdict::Note { max_age: self.max_age, include_subdomains: self.include_subdomains }
    }
}

/// Base64 with or without padding, whose unused bits may have any value.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads digits. Firefox reads only the first 31, into 64 bits that wrap.
fn seconds(value: &[u8]) -> Option<u64> {
    const READ: usize = 31;
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| {
        let digit = u64::from(digit - b'0');
        sum.wrapping_mul(10).wrapping_add(digit)
    };
    let seconds = value.iter().take(READ).fold(0, add);
    Some(seconds.min(Options::SIXTY_DAYS))
}

struct Directive {
    name: Vec<u8>,
    /// The value; empty if there is none.
    value: Vec<u8>,
}

/// Reads the whole text, or nothing. A NUL ends the text, as in C strings.
fn directives(text: &[u8]) -> Option<Vec<Directive>> {
    let end = text.iter().position(|byte| *byte == 0);
    let mut parser = Parser { rest: &text[..end.unwrap_or(text.len())] };
    let mut directives = Vec::new();
    loop {
        directives.push(parser.directive()?);
        if parser.rest.is_empty() {
            return Some(directives);
        }
        parser.accept(b';')?;
    }
}

struct Parser<'a> {
    rest: &'a [u8],
}

impl<'a> Parser<'a> {
    fn directive(&mut self) -> Option<Directive> {
        self.blanks()?;
        let name = self.token().to_vec();
        self.blanks()?;
        let mut value = Vec::new();
        if self.accept(b'=').is_some() {
            self.blanks()?;
            value =
                if self.accept(b'"').is_some() { self.quoted()? } else { self.token() }.to_vec();
            self.blanks()?;
        }
        Some(Directive { name, value })
    }

    fn accept(&mut self, byte: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[byte])?;
        Some(())
    }

    fn take_while(&mut self, class: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().take_while(|byte| class(**byte)).count();
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn token(&mut self) -> &'a [u8] {
        self.take_while(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte))
    }

    /// The rest of a quoted string, its backslashes kept.
    fn quoted(&mut self) -> Option<&'a [u8]> {
        let start = self.rest;
        loop {
            self.take_while(|byte| {
                byte == b'\t' || (b' '..0x7f).contains(&byte) && !matches!(byte, b'"' | b'\\')
            });
            let length = start.len() - self.rest.len();
            if self.accept(b'"').is_some() {
                return Some(&start[..length]);
            }
            self.accept(b'\\')?;
            self.rest.first().filter(|byte| byte.is_ascii())?;
            self.rest = &self.rest[1..];
        }
    }

    /// Blanks, and line ends that are followed by blanks.
    fn blanks(&mut self) -> Option<()> {
        loop {
            self.take_while(|byte| matches!(byte, b' ' | b'\t'));
            if self.accept(b'\r').is_none() {
                return Some(());
            }
            self.accept(b'\n')?;
            self.rest.first().filter(|byte| matches!(byte, b' ' | b'\t'))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::host::Host;
    use super::*;

    const LIVE: Pin = Pin::from_bytes([1; Pin::BYTES]);

    fn judge(host: &str, text: &str) -> String {
        let unpadded = LIVE.to_string().replace('=', "");
        let text =
            text.replace("LIVE", &format!("pin-sha256=\"{LIVE}\"")).replace("UNPADDED", &unpadded);
        let host = Host::parse(host).unwrap();
        let fields = [text.as_bytes()];
        let kind = FieldKind::Enforced;
        verdict(&Response::new(kind, &fields, &host, true, &[LIVE]).unwrap()).to_string()
    }

    #[test]
    fn pins_are_compared_as_text() {
        // The live pin without padding counts as the backup pin, quoted or not.
        assert_eq!(judge("a.b", "max-age=5; LIVE; pin-sha256=UNPADDED"), "note");
        assert_eq!(judge("a.b", "max-age=5; LIVE; LIVE"), "ignore");
    }

    #[test]
    fn an_age_of_more_than_31_digits_or_64_bits_goes_wrong() {
        for (age, expected) in [
            ("18446744073709551616", "delete"),
            ("18446744073709551617", "note"),
            ("00000000000000000000000000000001", "delete"),
            ("0000000000000000000000000000001", "note"),
        ] {
            let text = format!("max-age={age}; LIVE; pin-sha256=UNPADDED");
            assert_eq!(judge("a.b", &text), expected, "{age}");
        }
    }

    #[test]
    fn empty_directives_and_missing_names_or_values_are_accepted() {
        for text in [
            "; max-age = 5 ;; LIVE; pin-sha256=UNPADDED; =x; y=; includeSubDomains=\"\"",
            "max-age=5;\r\n LIVE; pin-sha256=UNPADDED",
        ] {
            assert_eq!(judge("a.b", text), "note", "{text}");
            assert_eq!(judge("localhost", text), "ignore");
        }
        assert_eq!(judge("a.b", "max-age=; LIVE"), "ignore");
    }
}
