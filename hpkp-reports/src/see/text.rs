//! Formats foreign text, numbers and URLs in pages.

use maud::{Markup, html};

use crate::names::{readable, unicode};
use crate::output;

/// Foreign text, printable; maud escapes it.
pub(super) fn text(foreign: &str) -> Markup {
    let printable = output::printable(&readable(foreign));
    html! { bdi { (printable) } }
}

/// A host and, for an internationalized name, its Unicode form. The ASCII form comes first, so that a name that looks
/// like another host is not mistaken for it.
pub(super) fn host_name(host: &str) -> Markup {
    html! {
        (text(host))
        @if let Some(unicode) = unicode(host) { " " span.unicode { "(" (text(&unicode)) ")" } }
    }
}

/// The path of the page of a host, percent-encoded.
pub(super) fn host_path(host: &str) -> String {
    format!("/host/{}", escaped(host))
}

/// Percent-encodes a text for a URL.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                escaped.push(char::from(byte))
            }
            byte => escaped.push_str(&format!("%{byte:02X}")),
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

/// Formats a number with commas: 1,234,567.
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
    fn numbers_get_a_comma_every_three_digits() {
        assert_eq!([0, 999, 1000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
    }
}
