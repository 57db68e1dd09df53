//! Finds pins that a reader has not accounted for. The check runs after each reader, and does not depend on
//! a format's grammar.
//!
//! Every text that looks like a pin has been read, or is reported with its line and column. The text itself
//! is not displayed, since it may be a secret. Text in the syntax of a pin (after `sha256/` and the like)
//! is an error, except in a comment; other text is a note.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Range;

use hpkp_core::pin::Pin;
use hpkp_core::published::Client;

use super::view::{Place, View};
use super::{ImportError, Imported, Problem, pin_text};

/// The digits of a pin in base64, without its padding.
const DIGITS: usize = 43;

/// The largest distance between the reader's line for a pin and the line of the pin, because a reader may
/// report the line of the surrounding element.
const NEAR: usize = 3;

/// The texts before pins in the known formats, in lower case.
const MARKS: [&str; 8] = [
    "sha256/",
    "sha256-",
    "pin-sha256",
    "pinnedpubkey",
    "tskpublickeyhashes",
    "spki-sha256-base64",
    "<pin ",
    // White space is missing if literals were concatenated.
    "<pindigest",
];

/// The distance before a pin in which a mark is searched, in bytes.
const REACH: usize = 256;

/// Reports text that looks like a pin and is not in `read`, the pins and lines that the reader has
/// accounted for. Also reports pins that the reader has accounted for and not recorded.
///
/// # Errors
/// [`Problem::NotRead`] for a pin in pin syntax outside a comment, or for any pin if nothing is recorded;
/// [`Problem::Sha1`] for a SHA-1 pin without a note.
pub(super) fn check(
    text: &str,
    read: &[(usize, Pin)],
    imported: &mut Imported,
) -> Result<(), ImportError> {
    let comments = Comments::of(text);
    let mut taken: HashMap<Pin, Taken> = HashMap::new();
    let computed: HashSet<usize> = read.iter().map(|(line, _)| *line).collect();
    let mut in_order = read.to_vec();
    in_order.sort_unstable();
    for (line, pin) in in_order {
        let taken = taken.entry(pin).or_default();
        taken.lines.push_back(line);
        taken.count += 1;
    }
    let noted: BTreeSet<usize> = imported.notes.iter().map(|note| note.line).collect();
    let mut places = Places::of(text);
    let placed = candidates(text).into_iter().map(|candidate| {
        let (line, column) = places.find(candidate.at);
        (line, column, candidate)
    });
    // A comment may show the same pin directly before the text that was read, so what is in comments comes
    // last.
    let (mut left, commented): (Vec<_>, Vec<_>) =
        placed.partition(|(_, _, candidate)| !comments.contains(candidate.at));
    left.retain(|(line, _, candidate)| !is_taken(&mut taken, candidate.pin, *line));
    taken.values_mut().for_each(Taken::again);
    left.extend(
        commented.into_iter().filter(|(line, _, one)| !is_taken(&mut taken, one.pin, *line)),
    );
    left.sort_by_key(|(line, column, _)| (*line, *column));
    for (line, column, Candidate { at, pin, marked }) in left {
        if comments.contains(at) {
            let text =
                format!("column {column}: a pin in a comment has no effect; it is not recorded");
            imported.note(line, text);
            continue;
        }
        // The pin has a name, and was read where the name is used. Only one place can define the name.
        if taken.get_mut(&pin).is_some_and(|taken| std::mem::take(&mut taken.count) > 0) {
            continue;
        }
        if marked || imported.sets.is_empty() {
            let error = Problem::NotRead.at(line);
            return Err(ImportError { column: Some(column), ..error });
        }
        imported
            .note(line, format!("column {column}: this looks like a pin, and it is NOT recorded"));
    }
    sha1(text, &comments, &noted)?;
    note_computed(text, &comments, &noted, &computed, imported);
    note_unrecorded(read, &noted, imported);
    Ok(())
}

/// Whether the reader has accounted for the pin on a line near `line`; a place counts once. Lines must be
/// passed in ascending order.
fn is_taken(taken: &mut HashMap<Pin, Taken>, pin: Pin, line: usize) -> bool {
    let Some(taken) = taken.get_mut(&pin) else { return false };
    // The first place within reach is the right one, since both are in the order of their lines.
    while let Some(passed) = taken.lines.front().copied().filter(|taken| taken + NEAR < line) {
        taken.lines.pop_front();
        taken.passed.push_back(passed);
    }
    let is_near = taken.lines.front().is_some_and(|taken| taken.abs_diff(line) <= NEAR);
    if is_near {
        taken.lines.pop_front();
        taken.count -= 1;
    }
    is_near
}

/// Fails if a SHA-1 pin has no note.
fn sha1(text: &str, comments: &Comments, noted: &BTreeSet<usize>) -> Result<(), ImportError> {
    /// The base64 digits of a SHA-1 pin, without padding.
    const DIGITS: usize = 27;
    let mut places = Places::of(text);
    for (at, _) in text.match_indices("sha1/") {
        let rest = text[at + 5..].trim_start_matches('/');
        let is_digit = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
        let digits = rest.find(|c: char| !is_digit(c)).unwrap_or(rest.len());
        let (line, column) = places.find(at);
        if digits == DIGITS && !comments.contains(at) && !noted.contains(&line) {
            return Err(ImportError { column: Some(column), ..Problem::Sha1.at(line) });
        }
    }
    Ok(())
}

/// The texts that look like pins.
pub(super) fn pins_in(text: &str) -> Vec<Pin> {
    candidates(text).into_iter().map(|candidate| candidate.pin).collect()
}

/// Notes pins that the source concatenates, so that no literal contains them.
fn note_computed(
    text: &str,
    comments: &Comments,
    noted: &BTreeSet<usize>,
    computed: &HashSet<usize>,
    imported: &mut Imported,
) {
    let mut places = Places::of(text);
    for (at, _) in text.match_indices("sha256/") {
        let rest = text[at + 7..].trim_start_matches('/');
        let is_computed = rest.starts_with(['$', '{', '%', '<', '\\'])
            || rest
                .strip_prefix(['"', '\''])
                .is_some_and(|rest| rest.trim_start().starts_with(['+', '.', '$']));
        if !is_computed || comments.contains(at) {
            continue;
        }
        let (line, column) = places.find(at);
        if !noted.contains(&line) && !computed.contains(&line) {
            let text = format!(
                "column {column}: a pin that is put together here is not recorded unless it is listed"
            );
            imported.note(line, text);
        }
    }
}

/// Notes pins that the reader has accounted for and that are in none of its sets, unless a note exists.
fn note_unrecorded(read: &[(usize, Pin)], noted: &BTreeSet<usize>, imported: &mut Imported) {
    let of_records = imported.tlsa.values().flat_map(|set| set.records());
    let of_records = of_records.map(|record| super::tlsa::spelled::stand_in(&record.data));
    let recorded: HashSet<Pin> =
        imported.sets.iter().flat_map(|set| set.pins.iter().copied()).chain(of_records).collect();
    let mut named = HashSet::new();
    for (line, pin) in read {
        let is_near = noted.range(line.saturating_sub(NEAR)..=line + NEAR).next().is_some();
        if !recorded.contains(pin) && !is_near && named.insert(*line) {
            imported
                .note(*line, "a pin here binds no host that can be recorded; it is NOT recorded");
        }
    }
}

/// Computes lines and columns of positions, which must be requested in ascending order.
pub(super) struct Places<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    column: usize,
}

impl<'a> Places<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { text, at: 0, line: 1, column: 1 }
    }
}

impl Places<'_> {
    /// The line and the column, from 1, of the character at `at`.
    pub(super) fn find(&mut self, at: usize) -> (usize, usize) {
        for c in self.text.get(self.at..at).unwrap_or_default().chars() {
            if c == '\n' {
                (self.line, self.column) = (self.line + 1, 1);
            } else {
                self.column += 1;
            }
        }
        self.at = self.at.max(at);
        (self.line, self.column)
    }
}

/// The places where the reader has accounted for a pin.
#[derive(Default)]
struct Taken {
    lines: VecDeque<usize>,
    /// The lines that no text near by has matched yet.
    passed: VecDeque<usize>,
    /// The number of places, without those that match a text near by.
    count: usize,
}

impl Taken {
    /// Starts again from the first line, without the places that texts have matched.
    fn again(&mut self) {
        let rest = std::mem::take(&mut self.lines);
        self.lines = std::mem::take(&mut self.passed);
        self.lines.extend(rest);
    }
}

/// A text that looks like a pin.
struct Candidate {
    /// The position of its first byte.
    at: usize,
    pin: Pin,
    /// Whether it is in the syntax of a pin.
    marked: bool,
}

/// The texts that look like pins: 43 digits of base64 that are not part of a longer word, with or without
/// padding, also escaped or concatenated from several literals. Includes the data of TLSA records.
fn candidates(text: &str) -> Vec<Candidate> {
    let mut found = Vec::new();
    let plain = View::plain(text);
    of_base64(&plain, false, &mut found);
    of_base64(&View::joined(text), true, &mut found);
    super::tlsa::spelled::candidates(text, |at, pin| {
        found.push(Candidate { at, pin, marked: true });
    });
    found.sort_by_key(|candidate| candidate.at);
    found
}

fn of_base64(view: &View, joined_only: bool, found: &mut Vec<Candidate>) {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    let bytes = view.bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !is_digit(&bytes[at]) {
            at += 1;
            continue;
        }
        let length = bytes[at..].iter().take_while(|byte| is_digit(byte)).count();
        let (begin, end) = (at, at + length);
        at = end;
        // A prefix may consist of base64 digits too: sha256//, sha256-.
        let Some(start) = end.checked_sub(DIGITS).filter(|start| *start >= begin) else { continue };
        let before = &bytes[begin..start];
        let padded = bytes.get(end) == Some(&b'=');
        let parted = before.last().is_none_or(|last| {
            let is_escape = before.ends_with(b"n") && start >= 2 && bytes[start - 2] == b'\\';
            *last == b'/' || padded && (b"-_".contains(last) || is_escape)
        });
        let Some(Place { at: source, joined, apart }) = view.place(start, end) else { continue };
        if !(parted || apart) || joined_only && !joined {
            continue;
        }
        // Words of a sentence and names with hyphens are not parts of a pin.
        let is_word = |piece: &[u8]| {
            let plain = |byte: &u8| byte.is_ascii_lowercase() || b"-_".contains(byte);
            piece.len() > 2 && piece[1..].iter().all(plain)
                || piece.iter().any(|o| b"-_".contains(o))
        };
        if joined_only && view.pieces(start, end).any(is_word) {
            continue;
        }
        let candidate = &bytes[start..end];
        // A pin is 32 random bytes, so a text without digits, such as a word or a path, is almost never
        // one.
        let digits = candidate.iter().any(u8::is_ascii_digit);
        let upper = candidate.iter().any(u8::is_ascii_uppercase);
        let reach = &bytes[start.saturating_sub(REACH)..start];
        let reach = String::from_utf8_lossy(reach).to_ascii_lowercase();
        let this_line = reach.rsplit('\n').next().unwrap_or_default();
        let marked = is_marked(this_line) || is_in_list(&reach) || is_of_host(&reach);
        let directly = reach.ends_with("sha256/") || reach.ends_with("sha256//");
        if !(directly || digits && upper || padded && upper) {
            continue;
        }
        let text = String::from_utf8_lossy(candidate);
        if let Ok(pin_text::Reading::Pin(pin)) = pin_text::read(Client::OkHttp, &text) {
            found.push(Candidate { at: source, pin, marked });
        }
    }
}

/// Whether one of [`MARKS`] precedes, with only other pins in between.
fn is_marked(before: &str) -> bool {
    /// The names of elements and attributes around pins.
    const AROUND: [&str; 9] =
        ["", "digest", "sha", "256", "key", "string", "array", "dict", "sha256"];
    let marks = MARKS.iter().filter_map(|mark| Some(before.rfind(mark)? + mark.len()));
    marks.max().is_some_and(|end| {
        let mut words = before[end..]
            .split(|c: char| !c.is_ascii_alphanumeric() && !"+/".contains(c))
            .filter(|word| !word.is_empty());
        words.all(|word| word.len() >= DIGITS || AROUND.contains(&word.trim_matches('/')))
    })
}

/// Whether the pin is in a list after other pins only, as in objects with hosts and pins.
fn is_in_list(before: &str) -> bool {
    before.rfind(['[', '{']).filter(|at| before[*at..].starts_with('[')).is_some_and(|at| {
        let inside = &before[at + 1..];
        let mut words = inside
            .split(|c: char| !c.is_ascii_alphanumeric() && !"+/".contains(c))
            .filter(|word| !word.is_empty());
        inside.contains(['"', '\'', '`'])
            && words.all(|word| word.len() >= DIGITS || word.starts_with("sha256"))
    })
}

/// Whether a host in quotation marks and a colon precede, with no other text in quotation marks in between:
/// `"a.example": [`.
fn is_of_host(before: &str) -> bool {
    let Some(end) = before.rfind(['"', '\'']).filter(|end| before[end + 1..].trim().is_empty())
    else {
        return false;
    };
    let Some((key, rest)) = before[..end].rsplit_once(['"', '\'']) else { return false };
    let name = key.rsplit(['"', '\'']).next().unwrap_or_default();
    let tld = name.rsplit('.').next().unwrap_or_default();
    rest.trim_start().starts_with([':', '='])
        && name.contains('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-.*_".contains(c))
        && tld.len() >= 2
        && tld.chars().all(|c| c.is_ascii_alphabetic())
}

/// The comments of a text, in the syntax of most formats.
pub(super) struct Comments(Vec<Range<usize>>);

impl Comments {
    pub(super) fn of(text: &str) -> Self {
        let mut ranges = Vec::new();
        for (open, close) in [("<!--", "-->"), ("/*", "*/")] {
            let mut at = 0;
            while let Some(begin) = text[at..].find(open).map(|begin| at + begin) {
                // A media type (*/*) and a file pattern (dir/*) begin no comment.
                let before = text[..begin].chars().next_back();
                if open == "/*" && before.is_some_and(|c| c.is_alphanumeric() || "*./".contains(c))
                {
                    at = begin + 1;
                    continue;
                }
                // Comments in C syntax can be nested in Kotlin.
                let end = if open == "/*" {
                    end_of_nested(text, begin)
                } else {
                    text[begin..].find(close).map(|end| begin + end + close.len())
                };
                // A comment that is not closed is none, and no other one can follow.
                let Some(end) = end else { break };
                ranges.push(begin..end);
                at = end;
            }
        }
        let mut start = 0;
        for line in text.split('\n') {
            ranges.extend(of_line(line).map(|at| start + at..start + line.len()));
            start += line.len() + 1;
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

    pub(super) fn contains(&self, at: usize) -> bool {
        let next = self.0.partition_point(|range| range.start <= at);
        next.checked_sub(1).is_some_and(|before| self.0[before].contains(&at))
    }
}

/// The position of a comment that extends to the end of the line.
fn of_line(line: &str) -> Option<usize> {
    let bytes = line.as_bytes();
    let mut quotes = 0_usize;
    for (at, byte) in bytes.iter().enumerate() {
        quotes += usize::from(matches!(byte, b'"' | b'\''));
        let is_start = at == 0 || matches!(bytes[at - 1], b' ' | b'\t' | b';' | b'{' | b'}' | b',');
        let begins = match byte {
            b'#' => true,
            b'/' => bytes.get(at + 1) == Some(&b'/'),
            // In a zone, a comment begins with `;`. Elsewhere a semicolon counts only at the beginning of a
            // line or doubled.
            b';' => {
                bytes.get(at + 1) == Some(&b';') || bytes[..at].iter().all(u8::is_ascii_whitespace)
            }
            _ => false,
        };
        // A mark in quotation marks begins no comment.
        if begins && is_start && quotes % 2 == 0 {
            return Some(at);
        }
    }
    None
}

fn end_of_nested(text: &str, begin: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, begin);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => depth += 1,
            b"*/" => depth = depth.saturating_sub(1),
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::samples::{A, B, a, b};

    fn found(text: &str, read: &[(usize, Pin)]) -> (Result<(), ImportError>, Vec<usize>) {
        let mut imported = Imported::default();
        if !read.is_empty() {
            let pins: Vec<Pin> = read.iter().map(|(_, pin)| *pin).collect();
            imported.push(1, crate::import::samples::set("a.example", &pins)).unwrap();
        }
        let checked = check(text, read, &mut imported);
        (checked, imported.notes.iter().map(|note| note.line).collect())
    }

    #[test]
    fn pins_that_were_read_are_accounted_for() {
        let text = format!("\n--pinnedpubkey sha256//{A}\n");
        assert_eq!(found(&text, &[(2, a())]), (Ok(()), vec![]));
        assert_eq!(
            found(&text, &[]),
            (Err(ImportError { column: Some(24), ..Problem::NotRead.at(2) }), vec![])
        );
        // One reading accounts for one occurrence.
        let twice = format!("sha256/{A} sha256/{A}");
        assert!(found(&twice, &[(1, a())]).0.is_err());
    }

    #[test]
    fn unread_pins_are_notes_in_comments_and_errors_in_pin_syntax() {
        for text in [
            format!("// sha256/{A}"),
            format!("<!-- <pin>{A}</pin> -->"),
            format!("/* a /* b */ sha256/{A} */"),
            format!("x = 1 # pin-sha256=\"{A}\""),
        ] {
            assert_eq!(found(&text, &[]), (Ok(()), vec![1]), "{text}");
        }
        let url = format!("curl https://a.example/ --pinnedpubkey sha256//{A}");
        assert!(found(&url, &[]).0.is_err());
        // A list of pins counts as pin syntax, whatever its name is.
        let list = format!("sha256/{B}\n'b.example': [\n '{A}',\n '{A}',\n]");
        assert!(found(&list, &[(1, b()), (3, a())]).0.is_err());
        // Text outside of pin syntax is a note, unless nothing was read.
        let token = format!("sha256/{A}\ntoken: {B}");
        assert_eq!(found(&token, &[(1, a())]), (Ok(()), vec![2]));
        assert!(found(&token[token.len() - 44..], &[]).0.is_err());
    }

    #[test]
    fn each_pin_of_sha1_is_reported() {
        let text = format!("\n\"sha1/{}=\" # sha1/{}=", "A".repeat(27), "B".repeat(27));
        let error = found(&text, &[]).0.unwrap_err();
        assert_eq!((error.line, error.column, error.problem), (2, Some(2), Problem::Sha1));
        assert_eq!(found(&text.replace('"', "# "), &[]), (Ok(()), vec![]));
    }

    #[test]
    fn words_are_not_joined_to_a_pin() {
        for text in [
            "http-response add-header Public-Key-Pins pin-sha256=\"x\"",
            "Please note that 2 of the Keys of this Server are=",
        ] {
            assert_eq!(found(text, &[]), (Ok(()), vec![]), "{text}");
        }
        let (first, second) = A.split_at(20);
        let wrapped = format!("<pin digest=\"SHA-256\">{first}\n  {second}</pin>");
        assert!(found(&wrapped, &[]).0.is_err());
    }

    #[test]
    fn a_pin_with_a_name_is_accounted_for_once() {
        let far = "\n".repeat(10);
        let text =
            format!("PIN=sha256//{A}{far}curl --pinnedpubkey $PIN\ncurl --pinnedpubkey $PIN");
        let uses = [(11, a()), (12, a())];
        assert_eq!(found(&text, &uses), (Ok(()), vec![]));
        // A second occurrence that was not read does not belong to the name.
        let more = format!("{text}{far}curl --pinnedpubkey sha256//{A}");
        assert_eq!(found(&more, &uses).0.unwrap_err().line, 22);
    }

    #[test]
    fn a_pin_behind_a_host_is_no_note() {
        for (before, is_error) in [
            ("\"b.example\": \"", true),
            ("'b.example' => [ '", true),
            ("\"*.b.example\": []string{\"", true),
            ("\"backup\": \"", false),
            ("\"1.2.3\": \"", false),
            ("\"b.example\", \"", false),
            ("\"b.example\": {\"id\": \"", false),
        ] {
            let text = format!("sha256/{A}\n\n{before}{B}\"");
            assert_eq!(found(&text, &[(1, a())]).0.is_err(), is_error, "{before}");
        }
    }

    #[test]
    fn a_comment_may_show_the_pin_of_the_next_line() {
        for (before, mark) in
            [("# ", "pinnedpubkey sha256//"), ("// ", "sha256/"), ("<!--", "<pin ")]
        {
            let after = if before == "<!--" { "-->" } else { "" };
            let text = format!("{before}{mark}{A}{after}\n{mark}{A}\n\n{before}{mark}{A}{after}\n");
            let (result, lines) = found(&text, &[(2, a())]);
            assert_eq!((result, lines), (Ok(()), vec![1, 4]), "{text}");
            // What was not read is an error all the same.
            let (result, _) = found(&format!("{text}{mark}{A}\n"), &[(2, a())]);
            assert!(result.is_err(), "{text}");
        }
    }

    #[test]
    fn pins_that_are_in_no_set_are_noted() {
        let text = format!("\n<pin digest=\"SHA-256\">{A}</pin>\n");
        let mut imported = Imported::default();
        let other = crate::import::samples::set("a.example", &[crate::import::samples::b()]);
        imported.push(1, other).unwrap();
        check(&text, &[(2, a())], &mut imported).unwrap();
        assert_eq!(imported.notes.iter().map(|note| note.line).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_long_line_takes_no_quadratic_time() {
        let text = format!("{{{}}}", format!("\"a\":\"{A}\",").repeat(80_000));
        let mut imported = Imported::default();
        imported.push(1, crate::import::samples::set("a.example", &[a()])).unwrap();
        check(&text, &[], &mut imported).unwrap();
        assert_eq!(imported.notes.len(), 80_000);
    }
}
