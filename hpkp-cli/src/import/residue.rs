//! What no reader has accounted for: one check at the end of each, which knows no format's grammar.
//!
//! Every text that looks like a pin ends as a pin that was read, or is named by its line and column. Its
//! text is not shown, since it may be a secret. Within the syntax of a pin (`sha256/` in front and the
//! like) it is an error, unless it stands in a comment; elsewhere it is a note.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use hpkp_core::pin::Pin;
use hpkp_core::published::Client;

use super::{ImportError, Imported, Problem, pin_text};

/// The digits of a pin in base64, without its padding.
const DIGITS: usize = 43;

/// How many lines a reader's line may be away from that of the pin: it may name the element that
/// the pin stands in.
const NEAR: usize = 3;

/// What stands in front of pins in the formats that have them.
const MARKS: [&str; 5] =
    ["sha256/", "pin-sha256", "pinnedpubkey", "kTSKPublicKeyHashes", "SPKI-SHA256-BASE64"];

/// Names what looks like a pin in `text` and is not among `read`, the pins that a reader has taken
/// from it with their lines.
///
/// # Errors
/// [`Problem::NotRead`] for one within the syntax of a pin and outside a comment.
pub(super) fn check(
    text: &str,
    read: Vec<(usize, Pin)>,
    imported: &mut Imported,
) -> Result<(), ImportError> {
    let comments = Comments::of(text);
    let mut taken: HashMap<Pin, Vec<usize>> = HashMap::new();
    let computed: HashSet<usize> = read.iter().map(|(line, _)| *line).collect();
    for (line, pin) in read {
        taken.entry(pin).or_default().push(line);
    }
    for lines in taken.values_mut() {
        lines.sort_unstable();
    }
    let noted: HashSet<usize> = imported.notes.iter().map(|note| note.line).collect();
    for (line, content, start) in lines(text) {
        for (at, pin) in candidates(content) {
            // Both go from the top to the bottom, so the first that is near enough is the one.
            let lines = taken.get_mut(&pin);
            let near = lines
                .as_ref()
                .and_then(|lines| lines.iter().position(|other| other.abs_diff(line) <= NEAR));
            if let Some((lines, found)) = lines.zip(near) {
                lines.remove(found);
                continue;
            }
            let column = 1 + content[..at].chars().count();
            let marked = MARKS.iter().any(|mark| {
                let lower = content[..at].to_ascii_lowercase();
                lower.contains(&mark.to_ascii_lowercase())
            });
            if comments.contains(start + at) {
                let text =
                    format!("column {column}: a pin in a comment binds nobody; it is not recorded");
                imported.note(line, text);
            } else if marked {
                return Err(Problem::NotRead { column }.at(line));
            } else {
                imported.note(
                    line,
                    format!("column {column}: this looks like a pin, and it is NOT recorded"),
                );
            }
        }
        // A pin that is computed, or in a form that no client takes.
        for (at, _) in content.match_indices("sha256/") {
            let rest = content[at + 7..].trim_start_matches('/');
            let is_computed =
                rest.starts_with(['$', '{', '%', '<']) && !comments.contains(start + at);
            if is_computed && !noted.contains(&line) && !computed.contains(&line) {
                let column = 1 + content[..at].chars().count();
                let text = format!(
                    "column {column}: a pin that is put together here is not recorded unless it is \
                     listed"
                );
                imported.note(line, text);
            }
        }
    }
    Ok(())
}

/// The lines of a text, with their numbers and where they begin.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str, usize)> {
    let mut start = 0;
    (1..).zip(text.split('\n')).map(move |(line, content)| {
        let begins = start;
        start += content.len() + 1;
        (line, content, begins)
    })
}

/// What looks like a pin in a line: 43 digits of base64 that are not part of more, padded or not.
fn candidates(content: &str) -> impl Iterator<Item = (usize, Pin)> {
    let is_digit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '-' | '_');
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(begin) = content[at..].find(is_digit).map(|begin| at + begin) {
        let end = content[begin..].find(|c| !is_digit(c)).map_or(content.len(), |end| begin + end);
        let word = &content[begin..end];
        // What stands in front of it may be of the same characters: sha256//, pin-sha256=.
        let padded = word.trim_end_matches('=');
        let bare = padded.len().checked_sub(DIGITS);
        for skip in bare.into_iter().filter(|skip| {
            let before = &padded[..*skip];
            before.is_empty() || before.ends_with(['/', '='])
        }) {
            let candidate = &padded[skip..];
            // A word of letters alone, or a path, is hardly ever a pin of 32 random octets.
            let digits = candidate.bytes().any(|octet| octet.is_ascii_digit());
            let upper = candidate.bytes().any(|octet| octet.is_ascii_uppercase());
            let marked = padded[..skip].contains("sha256");
            if (marked || digits && upper)
                && let Ok(pin_text::Reading::Pin(pin)) = pin_text::read(Client::OkHttp, candidate)
            {
                found.push((begin + skip, pin));
            }
        }
        at = end;
    }
    found.into_iter()
}

/// The comments of a text, as most formats have them.
struct Comments(Vec<Range<usize>>);

impl Comments {
    fn of(text: &str) -> Self {
        let mut ranges = Vec::new();
        for (open, close) in [("<!--", "-->"), ("/*", "*/")] {
            let mut at = 0;
            while let Some(begin) = text[at..].find(open).map(|begin| at + begin) {
                // As in Kotlin, those of C's kind may be within one another.
                let end = if open == "/*" {
                    end_of_nested(text, begin)
                } else {
                    text[begin..].find(close).map_or(text.len(), |end| begin + end + close.len())
                };
                ranges.push(begin..end);
                at = end;
            }
        }
        for (_, content, start) in lines(text) {
            let is_start =
                |at: &usize| *at == 0 || content[..*at].ends_with([' ', '\t', ';', '{', '}', ',']);
            for mark in ["#", "//", ";;", "; "] {
                let mut places = content.match_indices(mark).map(|(at, _)| at);
                // Within quotation marks it is none.
                let quotes = |at: &usize| content[..*at].matches(['"', '\'']).count() % 2 == 0;
                if let Some(at) = places.find(|at| is_start(at) && quotes(at)) {
                    let alone = mark != "; " || content[..at].trim().is_empty();
                    if alone {
                        ranges.push(start + at..start + content.len());
                    }
                }
            }
        }
        ranges.sort_by_key(|range| (range.start, range.end));
        let mut merged: Vec<Range<usize>> = Vec::new();
        for range in ranges {
            match merged.last_mut().filter(|last| range.start <= last.end) {
                Some(last) => last.end = last.end.max(range.end),
                None => merged.push(range),
            }
        }
        Self(merged)
    }

    fn contains(&self, at: usize) -> bool {
        let next = self.0.partition_point(|range| range.start <= at);
        next.checked_sub(1).is_some_and(|before| self.0[before].contains(&at))
    }
}

fn end_of_nested(text: &str, begin: usize) -> usize {
    let octets = text.as_bytes();
    let (mut depth, mut at) = (0_usize, begin);
    while at + 1 < octets.len() {
        match &octets[at..at + 2] {
            b"/*" => depth += 1,
            b"*/" => depth = depth.saturating_sub(1),
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::samples::{A, B, a};

    fn found(text: &str, read: &[(usize, Pin)]) -> (Result<(), ImportError>, Vec<usize>) {
        let mut imported = Imported::default();
        let checked = check(text, read.to_vec(), &mut imported);
        (checked, imported.notes.iter().map(|note| note.line).collect())
    }

    #[test]
    fn what_was_read_is_accounted_for() {
        let text = format!("\n--pinnedpubkey sha256//{A}\n");
        assert_eq!(found(&text, &[(2, a())]), (Ok(()), vec![]));
        assert_eq!(found(&text, &[]), (Err(Problem::NotRead { column: 24 }.at(2)), vec![]));
        // Once read, it is accounted for once.
        let twice = format!("sha256/{A} sha256/{A}");
        assert!(found(&twice, &[(1, a())]).0.is_err());
    }

    #[test]
    fn comments_and_other_places_are_noted() {
        for text in [
            format!("// sha256/{A}"),
            format!("<!-- <pin>{A}</pin> -->"),
            format!("/* a /* b */ sha256/{A} */"),
            format!("x = 1 # pin-sha256=\"{A}\""),
            format!("token: {B}"),
        ] {
            assert_eq!(found(&text, &[]), (Ok(()), vec![1]), "{text}");
        }
        let url = format!("curl https://a.example/ --pinnedpubkey sha256//{A}");
        assert!(found(&url, &[]).0.is_err());
    }
}
