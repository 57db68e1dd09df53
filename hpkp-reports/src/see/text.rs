//! Foreign text, numbers and addresses in a page.

use maud::{Markup, html};

use crate::output;

/// Foreign text, printable; maud escapes it.
pub(super) fn text(foreign: &str) -> Markup {
    let printable = output::printable(&readable(foreign));
    html! { bdi { (printable) } }
}

/// Names of certificates as people read them: the core has letters beyond ASCII as `\xd7\x90`, which suits a log.
fn readable(text: &str) -> String {
    let mut readable = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find("\\x") {
        readable.push_str(&rest[..begin]);
        rest = &rest[begin..];
        let mut octets = Vec::new();
        while let Some(octet) = escaped_octet(&rest[octets.len() * 4..]) {
            octets.push(octet);
        }
        let taken = (octets.len() * 4).max(2);
        match String::from_utf8(octets) {
            Ok(letters) if !letters.is_empty() => readable.push_str(&letters),
            _ => readable.push_str(&rest[..taken]),
        }
        rest = &rest[taken..];
    }
    readable.push_str(rest);
    readable
}

/// The octet beyond ASCII that a text begins with: `\xd7`.
fn escaped_octet(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("\\x")?.get(..2)?;
    u8::from_str_radix(digits, 16).ok().filter(|octet| *octet >= 0x80)
}

/// A host, and beside an internationalized name how people write it. The name of the wire stands first: what looks
/// like another host does not become it.
pub(super) fn host_name(host: &str) -> Markup {
    html! {
        (text(host))
        @if let Some(unicode) = unicode(host) { " " span.unicode { "(" (text(&unicode)) ")" } }
    }
}

/// An internationalized name as people write it.
pub(super) fn unicode(host: &str) -> Option<String> {
    let (unicode, result) = idna::domain_to_unicode(host);
    (result.is_ok() && unicode != host).then_some(unicode)
}

/// A path of a page, with what is not safe in it escaped.
pub(super) fn host_path(host: &str) -> String {
    format!("/host/{}", escaped(host))
}

/// A text as a part of an address.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                escaped.push(char::from(octet))
            }
            octet => escaped.push_str(&format!("%{octet:02X}")),
        }
    }
    escaped
}

/// Links to the pages before and after page `number` of `count`, which is counted from 1.
pub(super) fn paging(path: &str, query: &str, number: i64, count: i64) -> Markup {
    let link = |number: i64| format!("{path}?{query}&page={number}");
    html! {
        @if count > 1 {
            nav.more aria-label="Pages" {
                @if number > 1 { a href=(link(number - 1)) rel="prev" { "Previous" } }
                span { "Page " (number) " of " (count) }
                @if number < count { a href=(link(number + 1)) rel="next" { "Next" } }
            }
        }
    }
}

/// A number as people read it: 1,234,567.
pub(super) fn number(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable() {
        assert_eq!(readable("CN=\\xd7\\xa9\\xd7\\x9c b"), "CN=\u{5e9}\u{5dc} b");
        for text in ["", "\\x", "\\x4", "\\x41", "\\xff", "a\\xd7", "\\xd7\u{5e9}", "\\\\x"] {
            assert_eq!(readable(text), text);
        }
    }

    #[test]
    fn numbers_have_commas() {
        assert_eq!([0, 999, 1000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
    }
}
