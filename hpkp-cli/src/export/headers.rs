//! Writes `Public-Key-Pins` headers for nginx, httpd and HAProxy: a comment with the host, then the
//! directive.

use std::fmt::Write as _;

use super::item::{Item, Refusal};
use crate::import::{Matching, Scope};

fn value(item: &Item) -> Result<String, Refusal> {
    item.plain(Scope::Chain)?;
    if item.set.matching != Matching::Exact {
        return item.refuse("a pattern of hosts");
    }
    if !item.set.except.is_empty() {
        return item.refuse("exempt hosts");
    }
    let Some(max_age) = item.max_age else {
        return item.refuse("pins without a max-age");
    };
    if item.set.pins.len() < 2 {
        return item.refuse("a set without a backup pin (RFC 7469 section 4.3)");
    }
    let mut value = String::new();
    for pin in &item.set.pins {
        let _ = write!(value, "pin-sha256=\"{pin}\"; ");
    }
    let _ = write!(value, "max-age={max_age}");
    if item.set.include_subdomains {
        value.push_str("; includeSubDomains");
    }
    Ok(value)
}

fn lines(items: &[Item], line: impl Fn(&str) -> String) -> Result<String, Refusal> {
    let mut text = String::new();
    for item in items {
        let _ = writeln!(text, "# {}\n{}", item.name(), line(&value(item)?));
    }
    Ok(text)
}

pub(super) fn nginx(items: &[Item]) -> Result<String, Refusal> {
    lines(items, |value| format!("add_header Public-Key-Pins '{value}' always;"))
}

pub(super) fn httpd(items: &[Item]) -> Result<String, Refusal> {
    lines(items, |value| {
        format!("Header always set Public-Key-Pins \"{}\"", value.replace('"', "\\\""))
    })
}

pub(super) fn haproxy(items: &[Item]) -> Result<String, Refusal> {
    lines(items, |value| {
        format!("http-response set-header Public-Key-Pins \"{}\"", value.replace('"', "\\\""))
    })
}
