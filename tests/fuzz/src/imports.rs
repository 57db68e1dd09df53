//! Readers of other software's formats: whatever surrounds it, a pin that is put into a text is in the
//! answer: recorded, named by its line in a note, or the text is refused.
//!
//! Not part of the library, since it needs the command: each target, and the test that replays the seeds,
//! has it as a module.

use hpkp_cli::import::format::Format;
use hpkp_cli::import::{Certificates, ImportError, Imported, Problem};
use hpkp_core::pin::Pin;

/// How many lines a note may be away from the pin: it may name the element that the pin stands in.
const NEAR: usize = 3;

/// What stands around a pin that is put in.
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

/// The first three bytes say where a pin is put in, and what stands around it; the rest is the text.
///
/// # Panics
/// Where the pin is not in the answer.
pub(crate) fn run(format: Format, data: &[u8]) {
    let Some(([high, low, around], text)) = data.split_first_chunk() else { return };
    let Ok(text) = std::str::from_utf8(text) else {
        let _ = format.read(text, &Certificates::default());
        return;
    };
    // None that the text may have.
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
    // What is told from its first bytes as another encoding is another text.
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

/// Whether the answer has a pin that stands in these lines, or names it.
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
