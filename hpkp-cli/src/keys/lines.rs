//! Converts a key to lines that a person can type. Each line has a number and a checksum, so that a mistake
//! is located.
//!
//! ```text
//!   1: g0gg 08r0 21g6 0a9j 5ch4 g80k 0106 1gs1 4r5v
//! ```
//!
//! The symbols are Crockford's base32: digits and letters without I, L, O and U. A line encodes 20 bytes
//! (the last one may encode fewer) and a checksum of four symbols. The last line, `end`, has the number of
//! lines and a checksum of all bytes.

use std::collections::BTreeMap;

use data_encoding::{Encoding, Specification};
use openssl::sha::Sha256;
use zeroize::Zeroizing;

/// The bytes of a line, which are 32 symbols.
const BYTES: usize = 20;
/// The symbols of a line's checksum, and of the last one.
const LINE_SUM: usize = 4;
const END_SUM: usize = 8;
/// The symbols between two blanks.
const GROUP: usize = 4;
/// The most lines. An encrypted key of ML-DSA-87 needs half as many.
const MAX_LINES: usize = 999;

/// Crockford's base32. Letters that look like digits count as these digits; blanks and dashes are ignored.
fn base32() -> Option<Encoding> {
    let mut symbols = Specification::new();
    symbols.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
    symbols.translate.from.push_str("ABCDEFGHJKMNPQRSTVWXYZoOiIlL");
    symbols.translate.to.push_str("abcdefghjkmnpqrstvwxyz001111");
    symbols.ignore.push_str(" -\t");
    symbols.encoding().ok()
}

/// The lines of a key in DER.
pub(super) fn write(der: &[u8]) -> Zeroizing<String> {
    let count = der.len().div_ceil(BYTES);
    let mut text = Zeroizing::new(String::with_capacity((count + 1) * 64));
    let Some(base32) = base32() else { return text };
    for (number, bytes) in (1_u16..).zip(der.chunks(BYTES)) {
        let mut symbols = Zeroizing::new(String::with_capacity(64));
        base32.encode_append(bytes, &mut symbols);
        push_line(
            &mut text,
            &format!("{number:3}"),
            &[&symbols, &line_sum(&base32, number, bytes)],
        );
    }
    push_line(&mut text, &format!("end {count}"), &[&end_sum(&base32, der)]);
    text
}

/// Appends a line. Each part begins a new group of symbols.
fn push_line(text: &mut String, label: &str, parts: &[&str]) {
    text.push_str(label);
    text.push(':');
    for (place, symbol) in parts.iter().flat_map(|part| part.chars().enumerate()) {
        if place % GROUP == 0 {
            text.push(' ');
        }
        text.push(symbol);
    }
    text.push('\n');
}

/// The checksum of a line includes the line's number, so that exchanged lines are detected.
fn line_sum(base32: &Encoding, number: u16, bytes: &[u8]) -> String {
    sum(base32, LINE_SUM, &[b"hpkp key line", &number.to_be_bytes(), bytes])
}

fn end_sum(base32: &Encoding, der: &[u8]) -> String {
    sum(base32, END_SUM, &[b"hpkp key", der])
}

fn sum(base32: &Encoding, symbols: usize, parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    let mut text = base32.encode(&hash.finish());
    text.truncate(symbols);
    text
}

/// A mistake in a line, or in the whole text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LineError {
    /// The line begins with neither a number nor `end`; `place` is its position in the input.
    #[error("line {place} of the input does not begin with the number of a line of the page")]
    NotALine { place: usize },
    /// A character is not a symbol; the first character of the key has the place 1.
    #[error("line {line}: character {place} of the key is none of 0-9 and a-z without i, l, o, u")]
    Symbol { line: String, place: usize },
    /// Symbols are missing, or there are too many.
    #[error("line {line}: too short or too long; compare it with the page")]
    Length { line: String },
    /// A symbol is wrong, or two have changed places.
    #[error("line {line}: typing mistake (wrong checksum); compare it with the page")]
    Checksum { line: String },
    #[error("line {line}: typed twice, and differently")]
    Twice { line: u16 },
    #[error("missing: {}", named(.lines))]
    Missing { lines: Vec<u16> },
    #[error("missing: the last line, which begins with \"end\"")]
    NoEnd,
    #[error("the line \"end\" does not belong to the other lines: they are of different pages")]
    End,
}

/// The numbers of lines, at most 20.
fn named(lines: &[u16]) -> String {
    let numbers: Vec<String> = lines.iter().take(20).map(ToString::to_string).collect();
    let more = if lines.len() > numbers.len() { ", ..." } else { "" };
    let plural = if lines.len() == 1 { "line" } else { "lines" };
    format!("{plural} {}{more}", numbers.join(", "))
}

/// The lines that were typed so far.
#[derive(Default)]
pub(super) struct Reader {
    read: BTreeMap<u16, Zeroizing<Vec<u8>>>,
    /// The number of lines, and the checksum of all bytes.
    end: Option<(u16, String)>,
    place: usize,
}

impl Reader {
    /// Adds a line. An empty line is ignored.
    pub(super) fn push(&mut self, text: &str) -> Result<(), LineError> {
        self.place += 1;
        let text = text.trim();
        if text.is_empty() {
            return Ok(());
        }
        let not_a_line = LineError::NotALine { place: self.place };
        let base32 = base32().ok_or(not_a_line.clone())?;
        let (is_end, rest) = match text.get(..3) {
            Some(word) if word.eq_ignore_ascii_case("end") => (true, text[3..].trim_start()),
            _ => (false, text),
        };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, symbols) = rest.split_at(digits);
        let number = number.parse().ok().filter(|number| (1..=MAX_LINES).contains(number));
        let number =
            number.and_then(|number| u16::try_from(number).ok()).ok_or(not_a_line.clone())?;
        // Without a separator, the number could not be distinguished from the key.
        let symbols = symbols.strip_prefix([':', '.', ')', ' ', '\t']).ok_or(not_a_line)?;
        let line = if is_end { format!("end {number}") } else { number.to_string() };
        let symbols = canonical(symbols, &line)?;
        if is_end {
            if symbols.len() != END_SUM {
                return Err(LineError::Length { line });
            }
            self.end = Some((number, symbols.to_string()));
            return Ok(());
        }
        let bytes = bytes(&base32, &symbols, number)?;
        match self.read.insert(number, bytes.clone()) {
            Some(before) if before != bytes => Err(LineError::Twice { line: number }),
            _ => Ok(()),
        }
    }

    /// Whether all lines were typed.
    pub(super) fn is_complete(&self) -> bool {
        self.end.as_ref().is_some_and(|(count, _)| self.missing(*count).is_empty())
    }

    fn missing(&self, count: u16) -> Vec<u16> {
        (1..=count).filter(|number| !self.read.contains_key(number)).collect()
    }

    /// The key in DER.
    pub(super) fn finish(&self) -> Result<Zeroizing<Vec<u8>>, Vec<LineError>> {
        let mut errors = Vec::new();
        let last = self.read.keys().next_back().copied().unwrap_or(0);
        let count = self.end.as_ref().map_or(last, |(count, _)| (*count).max(last));
        let missing = self.missing(count);
        if !missing.is_empty() {
            errors.push(LineError::Missing { lines: missing });
        }
        let Some((count, sum)) = self.end.as_ref() else {
            errors.push(LineError::NoEnd);
            return Err(errors);
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut der = Zeroizing::new(Vec::with_capacity(self.read.len() * BYTES));
        self.read.values().for_each(|bytes| der.extend_from_slice(bytes));
        let is_it = base32().is_some_and(|base32| end_sum(&base32, &der) == *sum);
        if *count == last && is_it { Ok(der) } else { Err(vec![LineError::End]) }
    }
}

/// Converts the symbols of a line to their canonical form.
fn canonical(text: &str, line: &str) -> Result<Zeroizing<String>, LineError> {
    let mut symbols = Zeroizing::new(String::with_capacity(text.len()));
    for (place, c) in (1..).zip(text.trim_start().chars()) {
        let symbol = match c.to_ascii_lowercase() {
            ' ' | '-' | '\t' => continue,
            'o' => '0',
            'i' | 'l' => '1',
            'u' => return Err(LineError::Symbol { line: line.to_owned(), place }),
            c if c.is_ascii_alphanumeric() => c,
            _ => return Err(LineError::Symbol { line: line.to_owned(), place }),
        };
        symbols.push(symbol);
    }
    Ok(symbols)
}

fn bytes(base32: &Encoding, symbols: &str, number: u16) -> Result<Zeroizing<Vec<u8>>, LineError> {
    let line = number.to_string();
    let (bytes, sum) = match symbols.len().checked_sub(LINE_SUM) {
        Some(end) if end > 0 => symbols.split_at(end),
        _ => return Err(LineError::Length { line }),
    };
    let length =
        base32.decode_len(bytes.len()).map_err(|_| LineError::Length { line: line.clone() })?;
    if length > BYTES {
        return Err(LineError::Length { line });
    }
    let mut decoded = Zeroizing::new(vec![0; length]);
    let wrong = LineError::Checksum { line };
    match base32.decode_mut(bytes.as_bytes(), &mut decoded) {
        Ok(length) if length == decoded.len() && line_sum(base32, number, &decoded) == sum => {
            Ok(decoded)
        }
        _ => Err(wrong),
    }
}

/// Whether a text contains lines of a key.
pub(super) fn are_in(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        let digits = line.bytes().take_while(u8::is_ascii_digit).count();
        (1..=3).contains(&digits)
            && line[digits..].starts_with(':')
            && canonical(&line[digits + 1..], "").is_ok_and(|symbols| symbols.len() > LINE_SUM)
    })
}

/// Reads the key in a text. If the text is a page, other lines are ignored.
pub(super) fn read(text: &str, is_page: bool) -> Result<Zeroizing<Vec<u8>>, Vec<LineError>> {
    let mut reader = Reader::default();
    let mut errors = Vec::new();
    for line in text.lines() {
        match reader.push(line) {
            Err(LineError::NotALine { .. }) if is_page => {}
            Err(error) => errors.push(error),
            Ok(()) => {}
        }
    }
    match reader.finish() {
        Ok(der) if errors.is_empty() => Ok(der),
        Ok(_) => Err(errors),
        Err(more) => {
            // A line with a mistake is not reported as missing too.
            let typed: Vec<String> = errors.iter().filter_map(LineError::line).collect();
            let rest = more.into_iter().filter_map(|error| error.without(&typed));
            errors.extend(rest.collect::<Vec<_>>());
            Err(errors)
        }
    }
}

impl LineError {
    fn line(&self) -> Option<String> {
        match self {
            Self::Symbol { line, .. } | Self::Length { line } | Self::Checksum { line } => {
                Some(line.clone())
            }
            _ => None,
        }
    }

    /// The error without the lines `typed`, for which other errors exist.
    fn without(self, typed: &[String]) -> Option<Self> {
        match self {
            Self::Missing { lines } => {
                let lines: Vec<u16> =
                    lines.into_iter().filter(|line| !typed.contains(&line.to_string())).collect();
                (!lines.is_empty()).then_some(Self::Missing { lines })
            }
            Self::NoEnd if typed.iter().any(|line| line.starts_with("end")) => None,
            other => Some(other),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn der() -> Vec<u8> {
        (0..138_u8).map(|byte| byte.wrapping_mul(37)).collect()
    }

    #[test]
    fn lines_typed_with_other_separators_are_read() {
        let der = der();
        let text = write(&der);
        assert_eq!(text.lines().count(), 8);
        assert_eq!(**read(&text, false).as_ref().unwrap(), der);
        let shouted = text.to_uppercase().replace('0', "O").replace(": ", ".");
        let shouted = shouted.lines().map(|line| match line.split_once('.') {
            // The numbers of lines are not symbols.
            Some((number, rest)) => format!("{}.{rest}\r\n\n", number.replace('O', "0")),
            None => line.to_owned(),
        });
        assert_eq!(**read(&shouted.collect::<String>(), false).as_ref().unwrap(), der);
        let joined = text.lines().map(|line| match line.split_once(": ") {
            Some((number, rest)) => format!("{number} {}\n", rest.replace(' ', "-")),
            None => line.to_owned(),
        });
        let mut lines: Vec<String> = joined.collect();
        lines.reverse();
        assert_eq!(**read(&lines.concat(), false).as_ref().unwrap(), der);
    }

    #[test]
    fn each_mistake_is_reported_with_its_line() {
        let text = write(&der());
        let lines: Vec<&str> = text.lines().collect();
        let without = |number: usize| {
            let mut lines = lines.clone();
            lines.remove(number - 1);
            lines.join("\n")
        };
        assert_eq!(read(&without(3), false), Err(vec![LineError::Missing { lines: vec![3] }]));
        assert_eq!(read(&without(8), false), Err(vec![LineError::NoEnd]));
        let cut = lines[..4].join("\n");
        assert_eq!(read(&cut, false), Err(vec![LineError::NoEnd]));
        let short = text.replace(lines[4], &lines[4][..lines[4].len() - 1]);
        assert!(
            matches!(read(&short, false).unwrap_err()[..], [LineError::Length { ref line } | LineError::Checksum { ref line }] if line == "5")
        );
        let other = write(&[der(), vec![1]].concat());
        let mixed = [&lines[..7], &[other.lines().last().unwrap()][..]].concat().join("\n");
        assert_eq!(read(&mixed, false), Err(vec![LineError::End]));
        assert_eq!(
            read("hello\n", false),
            Err(vec![LineError::NotALine { place: 1 }, LineError::NoEnd])
        );
        let odd = text.replace("  2: ", "  2: u");
        assert_eq!(
            read(&odd, false),
            Err(vec![LineError::Symbol { line: "2".to_owned(), place: 1 }])
        );
    }

    proptest! {
        #[test]
        fn one_wrong_symbol_is_found_at_its_line(
            der in prop::collection::vec(any::<u8>(), 1..200),
            place in any::<prop::sample::Index>(),
            symbol in prop::sample::select("0123456789abcdefghjkmnpqrstvwxyz".chars().collect::<Vec<_>>()),
        ) {
            let text = write(&der);
            let back = read(&text, false).unwrap();
            prop_assert_eq!(&*back, &der);
            let places: Vec<usize> = text.char_indices().filter(|(at, c)| {
                let line = text[..*at].rsplit('\n').next().unwrap_or_default();
                line.contains(": ") && *c != ' ' && *c != '\n' && *c != symbol
            }).map(|(at, _)| at).collect();
            let at = places[place.index(places.len())];
            let mut wrong = text.to_string();
            wrong.replace_range(at..=at, &symbol.to_string());
            let number = text[..at].matches('\n').count() + 1;
            let errors = read(&wrong, false).unwrap_err();
            let is_last = number > der.len().div_ceil(BYTES);
            match &errors[..] {
                [LineError::Checksum { line } | LineError::Length { line }] => prop_assert_eq!(line, &number.to_string()),
                [LineError::End] => prop_assert!(is_last),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
