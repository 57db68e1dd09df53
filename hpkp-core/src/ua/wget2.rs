//! The verdict of wget2 (libwget), which honours the header by default.
//!
//! wget2 never stops at invalid text, keeps pins that it cannot decode or whose algorithm it does not know, and
//! requires neither a live nor a backup pin. A max-age that it cannot read counts as 0, which deletes the host.

use std::collections::BTreeSet;

use super::{FieldKind, Response, Verdict};
use crate::pin::Pin;

/// An age from here on counts as 0.
const TOO_LONG: u64 = i64::MAX as u64 / 2;

/// What wget2 does with the field in `response`.
#[must_use]
pub fn verdict(response: &Response<'_>) -> Verdict {
    if response.kind == FieldKind::ReportOnly {
        return Verdict::Unsupported;
    }
    let Some(text) = response.fields.first().filter(|_| response.eligible()) else {
        return Verdict::Ignore;
    };
    let chain: BTreeSet<&Pin> = response.chain.iter().collect();
    let mut max_age = 0;
    let mut include_subdomains = false;
    let mut any_pin = false;
    let mut live = false;
    // wget2 handles the value as a C string.
    let end = text.iter().position(|byte| *byte == 0);
    let mut rest = &text[..end.unwrap_or(text.len())];
    while !rest.is_empty() {
        let (name, value) = parameter(&mut rest);
        let Some(value) = value else {
            include_subdomains |= name.eq_ignore_ascii_case(b"includeSubDomains");
            continue;
        };
        if name.eq_ignore_ascii_case(b"max-age") {
            max_age = seconds(value);
        } else if let Some((_, algorithm)) =
            name.split_at_checked(4).filter(|(pin, _)| pin.eq_ignore_ascii_case(b"pin-"))
        {
            any_pin = true;
            // In pin validation the algorithm must be in lower case.
            live |= algorithm == b"sha256" && decode(value).is_some_and(|pin| chain.contains(&pin));
        }
    }
    if max_age == 0 || !any_pin {
        Verdict::Delete
    } else if live {
        Verdict::Note { max_age, include_subdomains }
    } else {
        Verdict::NoteThenRefuse { max_age, include_subdomains }
    }
}

/// A name and, after `=`, a value. Other text is skipped byte by byte.
fn parameter<'a>(rest: &mut &'a [u8]) -> (&'a [u8], Option<&'a [u8]>) {
    skip_blanks(rest);
    if let Some(after) = rest.strip_prefix(b";") {
        *rest = after;
        skip_blanks(rest);
    }
    let name = token(rest);
    skip_blanks(rest);
    let Some((first, after)) = rest.split_first() else {
        return (name, None);
    };
    *rest = after;
    if *first != b'=' {
        return (name, None);
    }
    skip_blanks(rest);
    let value = match rest.strip_prefix(b"\"") {
        Some(after) => {
            *rest = after;
            quoted(rest)
        }
        None => token(rest),
    };
    (name, Some(value))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, after) = rest.split_at(length);
    *rest = after;
    taken
}

fn skip_blanks(rest: &mut &[u8]) {
    let blanks = rest.iter().take_while(|byte| b" \t".contains(byte));
    take(rest, blanks.count());
}

fn token<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let is_token = |byte: &&u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(*byte);
    let length = rest.iter().take_while(is_token).count();
    take(rest, length)
}

/// The rest of a quoted string; a backslash protects the next byte but is kept.
fn quoted<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let mut length = 0;
    while let Some(byte) = rest.get(length) {
        match byte {
            b'"' => break,
            b'\\' if length + 1 < rest.len() => length += 2,
            _ => length += 1,
        }
    }
    let value = take(rest, length);
    *rest = rest.strip_prefix(b"\"").unwrap_or(rest);
    value
}

/// `atoll` and the treatment of its result: blanks, a sign, digits, and any other text.
fn seconds(value: &[u8]) -> u64 {
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let start = value.iter().take_while(|byte| is_space(byte)).count();
    let value = &value[start..];
    let value = value.strip_prefix(b"+").unwrap_or(value);
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit());
    let seconds = digits.fold(0_u64, |sum, digit| {
        let digit = u64::from(digit - b'0');
        sum.saturating_mul(10).saturating_add(digit)
    });
    if seconds >= TOO_LONG { 0 } else { seconds }
}

/// wget2's base64 decoder: both alphabets, any padding; unknown bytes inside count as zero bits, and unused bits make
/// another byte. `None` if the result is not a SHA-256.
fn decode(text: &[u8]) -> Option<Pin> {
    let sextet = |byte: &u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    };
    let last = text.iter().rposition(|byte| sextet(byte).is_some())?;
    let sextets: Vec<u32> =
        text[..=last].iter().map(|byte| u32::from(sextet(byte).unwrap_or(0))).collect();
    let mut bytes = Vec::with_capacity(Pin::BYTES + 1);
    for group in sextets.chunks(4) {
        let bits = group.iter().fold(0, |bits, sextet| bits << 6 | sextet);
        let [_, decoded @ ..] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        let whole = match group.len() {
            1 => 1,
            length => length - 1,
        };
        bytes.extend_from_slice(&decoded[..whole]);
        bytes.extend(decoded[whole..].iter().filter(|stray| **stray != 0));
    }
    bytes.try_into().ok().map(Pin::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::super::host::Host;
    use super::*;

    const LIVE: Pin = Pin::from_bytes([0xfb; Pin::BYTES]);

    fn judge(text: &str) -> Verdict {
        let text = text.replace("LIVE", &format!("pin-sha256=\"{LIVE}\""));
        let host = Host::parse("a.example").unwrap();
        let fields = [text.as_bytes()];
        let kind = FieldKind::Enforced;
        verdict(&Response::new(kind, &fields, &host, true, &[LIVE]).unwrap())
    }

    #[test]
    fn ages_are_read_as_c_does() {
        for (age, expected) in [
            ("7", Some(7)),
            ("\" +7x\"", Some(7)),
            ("7.9", Some(7)),
            ("0", None),
            ("-7", None),
            ("soon", None),
            ("4611686018427387903", None),
            ("99999999999999999999", None),
        ] {
            let expected = expected.map_or(Verdict::Delete, |max_age| Verdict::Note {
                max_age,
                include_subdomains: false,
            });
            assert_eq!(judge(&format!("LIVE; max-age={age}")), expected, "{age}");
        }
    }

    #[test]
    fn more_than_base64_is_decoded() {
        let canonical = LIVE.to_string();
        for (spelling, matches) in [
            (canonical.clone(), true),
            (canonical.replace('=', ""), true),
            (canonical.replace('+', "-").replace('/', "_"), true),
            (format!("{canonical}== "), true),
            (canonical.replace("s=", "t="), false),
            (canonical.replace('=', "A"), false),
            (String::new(), false),
        ] {
            let pin = decode(spelling.as_bytes());
            assert_eq!(pin == Some(LIVE), matches, "{spelling}");
        }
    }

    #[test]
    fn invalid_text_is_skipped() {
        for text in [
            "@ LIVE; max-age=7",
            "LIVE max-age=7",
            "LIVE, max-age=7; x=\"",
            "LIVE; max-age=7\0; max-age=0",
        ] {
            assert_eq!(judge(text).to_string(), "note", "{text:?}");
        }
    }
}
