//! The log, on standard error: one line for each event, without terminal control characters.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often the same event is logged: a flood must not fill the journal.
const EVERY: Duration = Duration::from_secs(60);

/// Writes a line. An error is ignored: standard error is the only place for it.
pub(crate) fn log(text: &str) {
    let _ = writeln!(io::stderr().lock(), "hpkp-reports: {}", printable(text));
}

/// Writes a line at most once a minute for each `kind`. The kinds are constants, so their number is limited.
pub(crate) fn log_seldom(kind: &'static str, text: impl FnOnce() -> String) {
    static LAST: Mutex<Option<HashMap<&'static str, (Instant, u64)>>> = Mutex::new(None);
    let Ok(mut last) = LAST.lock() else { return };
    let known = last.get_or_insert_default();
    let now = Instant::now();
    let skipped = match known.get_mut(kind) {
        Some((at, skipped)) if now.duration_since(*at) < EVERY => {
            *skipped += 1;
            return;
        }
        Some((_, skipped)) => *skipped,
        None => 0,
    };
    known.insert(kind, (now, 0));
    drop(last);
    let more = if skipped == 0 { String::new() } else { format!(" ({skipped} more before)") };
    log(&format!("{}{more}", text()));
}

/// A line that may quote foreign text, without control characters.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_formatting(c) {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// Whether a character changes the order or the appearance of its neighbours.
pub(crate) const fn is_formatting(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// An error of one value, which may be an item of an array: `"VALUE": what is wrong`.
pub(crate) fn of_item(value: &str, what: &str) -> String {
    format!("\"{value}\": {what}")
}

/// The text of an error of the operating system, without its number.
pub(crate) fn os(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if letters.as_str().starts_with(|c: char| !c.is_uppercase()) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}
