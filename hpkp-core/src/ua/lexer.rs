//! The grammar of the two fields (RFC 7469 section 2.1), without the meaning of the directives.
//!
//! The lexer reads from left to right. It notes a fault with its place and continues at the next `;` outside quotes, so
//! that one pass finds all faults.

use std::borrow::Cow;
use std::ops::Range;

use super::deviation::{Deviation, Situation};

/// One directive, as far as it could be read.
#[derive(Debug)]
pub(super) struct Directive<'a> {
    /// From the first byte of the name to the last of the value.
    pub(super) at: Range<usize>,
    pub(super) name: &'a [u8],
    pub(super) value: Option<Value<'a>>,
    /// Whether it follows the grammar, except for blanks round `=`.
    pub(super) sound: bool,
}

/// The value of a directive, with quoted pairs resolved.
#[derive(Debug)]
pub(super) struct Value<'a> {
    pub(super) at: Range<usize>,
    pub(super) quoted: bool,
    pub(super) bytes: Cow<'a, [u8]>,
}

/// Splits `text` into directives, and adds faults in the grammar to `deviations`.
pub(super) fn directives<'a>(
    text: &'a [u8],
    deviations: &mut Vec<Deviation>,
) -> Vec<Directive<'a>> {
    let mut lexer = Lexer {
        text,
        position: 0,
        end: text.len() - text.iter().rev().take_while(|o| is_blank(**o)).count(),
        deviations,
    };
    let mut directives = Vec::new();
    loop {
        lexer.skip_blanks();
        let start = lexer.position;
        if matches!(lexer.peek(), None | Some(b';')) {
            // Unlike Strict-Transport-Security, this field has no empty directives.
            lexer.deviate(Situation::EmptyDirective, start..start);
        } else {
            directives.push(lexer.directive());
        }
        if lexer.peek().is_none() {
            return directives;
        }
        lexer.position += 1;
    }
}

struct Lexer<'a, 'd> {
    text: &'a [u8],
    position: usize,
    /// The end of the text, without trailing blanks.
    end: usize,
    deviations: &'d mut Vec<Deviation>,
}

impl<'a> Lexer<'a, '_> {
    fn peek(&self) -> Option<u8> {
        self.text[..self.end].get(self.position).copied()
    }

    fn deviate(&mut self, situation: Situation, at: Range<usize>) {
        self.deviations.push(Deviation { situation, at });
    }

    fn skip_blanks(&mut self) -> Range<usize> {
        self.skip_while(is_blank)
    }

    fn skip_while(&mut self, class: impl Fn(u8) -> bool) -> Range<usize> {
        let start = self.position;
        while self.peek().is_some_and(&class) {
            self.position += 1;
        }
        start..self.position
    }

    /// A directive; ends at a `;` or at the end.
    fn directive(&mut self) -> Directive<'a> {
        let faults = self.deviations.len();
        let name_at = self.skip_while(is_token_byte);
        let name = &self.text[name_at.clone()];
        if name.is_empty() && self.peek() == Some(b'=') {
            self.deviate(Situation::MissingName, name_at.clone());
        }
        let before = self.skip_blanks();
        let mut tolerated = 0;
        let mut at = name_at.clone();
        let mut value = None;
        if self.peek() == Some(b'=') {
            self.position += 1;
            at.end = self.position;
            let after = self.skip_blanks();
            for blanks in [before, after] {
                if !blanks.is_empty() && !name.is_empty() {
                    self.deviate(Situation::BlankAroundEquals, blanks);
                    tolerated += 1;
                }
            }
            value = self.value();
            if let Some(value) = &value {
                at.end = value.at.end;
            }
        }
        self.rest(name.is_empty() && value.is_none());
        Directive { at, name, value, sound: self.deviations.len() == faults + tolerated }
    }

    fn value(&mut self) -> Option<Value<'a>> {
        if self.peek() == Some(b'"') {
            return Some(self.quoted_string());
        }
        let at = self.skip_while(is_token_byte);
        if at.is_empty() {
            if matches!(self.peek(), None | Some(b';')) {
                self.deviate(Situation::MissingValue, at);
            }
            return None;
        }
        Some(Value { bytes: Cow::Borrowed(&self.text[at.clone()]), quoted: false, at })
    }

    /// Reads from the opening quote to the closing one, or to the end if there is none.
    fn quoted_string(&mut self) -> Value<'a> {
        let start = self.position;
        self.position += 1;
        let text = self.text;
        let mut bytes = Cow::Borrowed(&text[self.position..self.position]);
        loop {
            let here = self.position;
            let Some(byte) = self.peek() else {
                self.deviate(Situation::UnterminatedQuote, start..here);
                break;
            };
            self.position += 1;
            let taken = match byte {
                b'"' => break,
                b'\\' => match self.peek() {
                    Some(escaped) => {
                        self.position += 1;
                        bytes.to_mut().push(escaped);
                        escaped
                    }
                    // The next round finds the end of the text and notes it.
                    None => continue,
                },
                _ => {
                    match &mut bytes {
                        // Nothing was escaped so far, so the value can borrow from the text.
                        Cow::Borrowed(_) => bytes = Cow::Borrowed(&text[start + 1..=here]),
                        Cow::Owned(owned) => owned.push(byte),
                    }
                    byte
                }
            };
            if is_control(taken) {
                self.deviate(Situation::ControlInQuotes { byte: taken }, here..self.position);
            }
        }
        Value { at: start..self.position, quoted: true, bytes }
    }

    /// Reads the rest up to the next `;`, where the grammar allows only blanks.
    fn rest(&mut self, nothing_read: bool) {
        self.skip_blanks();
        let start = self.position;
        let Some(byte) = self.peek().filter(|byte| *byte != b';') else {
            return;
        };
        while let Some(byte) = self.peek().filter(|byte| *byte != b';') {
            if byte == b'"' {
                self.skip_quoted();
            } else {
                self.position += 1;
            }
        }
        let situation = if is_token_byte(byte) || byte == b'"' && !nothing_read {
            Situation::MissingSeparator
        } else {
            Situation::IllegalByte { byte }
        };
        self.deviate(situation, start..self.position);
    }

    /// Skips a quoted string inside invalid text, whose own faults do not matter.
    fn skip_quoted(&mut self) {
        self.position += 1;
        while let Some(byte) = self.peek() {
            self.position += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                break;
            }
        }
        self.position = self.position.min(self.end);
    }
}

/// `tchar` (RFC 7230 section 3.2.6).
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A byte of OWS (RFC 7230 section 3.2.3).
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// A byte that is allowed neither in a quoted string nor after a backslash (RFC 7230 section 3.2.6).
fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// `text` without blanks at either end (RFC 7230 section 3.2.4).
pub(super) fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().take_while(|byte| is_blank(**byte)).count();
    let text = &text[start..];
    let blanks = text.iter().rev().take_while(|o| is_blank(**o)).count();
    &text[..text.len() - blanks]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<String>, Vec<Deviation>) {
        let mut deviations = Vec::new();
        let read = directives(text.as_bytes(), &mut deviations)
            .iter()
            .map(|directive| {
                let name = String::from_utf8_lossy(directive.name);
                match &directive.value {
                    Some(value) => format!("{name}={}", String::from_utf8_lossy(&value.bytes)),
                    None => name.into_owned(),
                }
            })
            .collect();
        (read, deviations)
    }

    fn only(text: &str) -> (Situation, Range<usize>) {
        let (_, mut deviations) = read(text);
        assert_eq!(deviations.len(), 1, "{text}: {deviations:?}");
        let deviation = deviations.remove(0);
        (deviation.situation, deviation.at)
    }

    #[test]
    fn a_quoted_string_may_contain_separators_and_quoted_pairs() {
        let (directives, deviations) = read(r#" a="x;y\"=\z" ; b ;c=d"#);
        assert_eq!(directives, ["a=x;y\"=z", "b", "c=d"]);
        assert_eq!(deviations, []);
    }

    #[test]
    fn each_fault_has_its_place() {
        for (text, situation, at) in [
            ("", Situation::EmptyDirective, 0..0),
            ("a; ", Situation::EmptyDirective, 2..2),
            ("a;;b", Situation::EmptyDirective, 2..2),
            ("a =b", Situation::BlankAroundEquals, 1..2),
            ("a=\t b", Situation::BlankAroundEquals, 2..4),
            ("=b", Situation::MissingName, 0..0),
            ("a=", Situation::MissingValue, 2..2),
            ("a=;b", Situation::MissingValue, 2..2),
            ("a b=c", Situation::MissingSeparator, 2..5),
            ("a=\"b\"\"c\"", Situation::MissingSeparator, 5..8),
            ("a=b\"c;d\"; e", Situation::MissingSeparator, 3..8),
            ("\"a\"", Situation::IllegalByte { byte: b'"' }, 0..3),
            ("a=b/c", Situation::IllegalByte { byte: b'/' }, 3..5),
            ("a, b", Situation::IllegalByte { byte: b',' }, 1..4),
            ("a=\"b", Situation::UnterminatedQuote, 2..4),
            ("a=\"b\\", Situation::UnterminatedQuote, 2..5),
            ("a=\"b\\\"", Situation::UnterminatedQuote, 2..6),
            ("a=\"\x7f\"", Situation::ControlInQuotes { byte: 0x7f }, 3..4),
            ("a=\"\\\x01\"", Situation::ControlInQuotes { byte: 1 }, 3..5),
        ] {
            assert_eq!(only(text), (situation, at), "{text:?}");
        }
    }

    #[test]
    fn reading_continues_after_a_fault() {
        let (directives, deviations) = read("a b; c=; d=\"x\"y; e=f");
        assert_eq!(directives, ["a", "c", "d=x", "e=f"]);
        assert_eq!(deviations.len(), 3);
    }
}
