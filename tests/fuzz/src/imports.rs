//! Fuzzes readers of other software's formats: a pin that is inserted into any text must not get lost. The
//! reader records the pin, names its line in a note, or refuses the text.
//!
//! This file is not part of the library, because it needs the crate of the command: each target, and the test
//! that replays the seeds, includes it as a module.

use hpkp_cli::import::format::Format;
use hpkp_cli::import::{Certificates, ImportError, Imported, Problem};
use hpkp_core::pin::Pin;

/// How many lines a note may be away from the pin: it may name the element around the pin.
const NEAR: usize = 3;

/// The text before and after an inserted pin.
const AROUND: [(&str, &str); 16] = [
    (" ", " "),
    ("\n", "\n"),
    ("\"", "\""),
    ("'", "'"),
    ("\"sha256/", "\""),
    (" sha256/", " "),
    ("'sha256//", "'"),
    ("<pin digest=\"SHA-256\">", "</pin>"),
    ("<string>", "</string>"),
    ("// sha256/", "\n"),
    ("# ", "\n"),
    (".add(\"c.example\", \"sha256/", "\")"),
    ("\ncurl --pinnedpubkey sha256//", " https://c.example\n"),
    ("\n  value: ", "\n"),
    ("\n_443._tcp.c.example. IN TLSA 3 1 1 ", "\n"),
    ("\\\"", "\\\""),
];

/// The first three bytes choose the place of the inserted pin and the text around it; the rest is the text.
///
/// # Panics
/// If the pin got lost.
pub(crate) fn run(format: Format, data: &[u8]) {
    let Some(([high, low, around], text)) = data.split_first_chunk() else { return };
    let Ok(text) = std::str::from_utf8(text) else {
        let _ = format.read(text, &Certificates::default());
        return;
    };
    // A hash of the input, which the text cannot contain already.
    let pin = Pin::from_bytes(openssl::sha::sha256(data));
    let (before, behind) = AROUND[usize::from(*around) % AROUND.len()];
    let pin_text = match before.contains("TLSA") {
        true => pin.bytes().iter().map(|byte| format!("{byte:02x}")).collect(),
        false => pin.to_string(),
    };
    let mut at = usize::from(u16::from_be_bytes([*high, *low])) % (text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let piece = format!("{before}{pin_text}{behind}");
    let first = 1 + text[..at].matches('\n').count();
    let lines = first..=first + piece.matches('\n').count();
    let whole = format!("{}{piece}{}", &text[..at], &text[at..]);
    // These first bytes indicate another encoding, in which the text would be another one.
    let begins = whole.as_bytes();
    if begins.starts_with(b"<\0") || begins.starts_with(b"\0<") {
        return;
    }
    let answer = format.read(whole.as_bytes(), &Certificates::default());
    let count = 1 + whole.matches('\n').count();
    if let Err(error) = &answer {
        assert!((1..=count).contains(&error.line), "{error}");
        assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
    }
    assert!(is_accounted(&answer, pin, &lines), "{format} {lines:?}\n{whole}\n{answer:?}");
}

/// Whether the answer records a pin of these lines, or names it.
pub(crate) fn is_accounted(
    answer: &Result<Imported, ImportError>,
    pin: Pin,
    lines: &std::ops::RangeInclusive<usize>,
) -> bool {
    match answer {
        Ok(imported) => {
            let near = lines.start().saturating_sub(NEAR)..=lines.end() + NEAR;
            imported.sets.iter().any(|set| set.pins.contains(&pin))
                || imported.notes.iter().any(|note| near.contains(&note.line))
        }
        Err(error) => match error.problem {
            Problem::Nothing { .. } => error.line <= *lines.end(),
            _ => true,
        },
    }
}
