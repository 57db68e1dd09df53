//! The part of the lexical grammar of Java and Kotlin that distinguishes string literals from comments.

use std::fmt;

use super::super::{ImportError, Problem};

/// A token and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) line: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identifier, a keyword or a number.
    Word(String),
    /// A string literal.
    Text(String),
    /// A string literal with an expression in it (Kotlin's `$`).
    Template(String),
    /// Any other character; a character literal counts as `'`.
    Sign(char),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(text) | Self::Text(text) | Self::Template(text) => f.write_str(text),
            Self::Sign(sign) => write!(f, "{sign}"),
        }
    }
}

/// The tokens of `source`, without comments and white space.
pub(super) fn tokens(source: &str) -> Result<Vec<Token>, ImportError> {
    // Comments can be nested in Kotlin, but not in Java.
    let nests = ["fun ", "val ", "var "].iter().any(|word| source.contains(word));
    let mut lexer = Lexer { rest: source, line: 1, nests };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space_and_comments();
        let line = lexer.line;
        let Some(first) = lexer.rest.chars().next() else {
            return Ok(tokens);
        };
        let kind = match first {
            '"' => lexer.string().ok_or_else(|| {
                Problem::unexpected("\"", "a string literal with an end").at(line)
            })?,
            '\'' => {
                lexer.character();
                Kind::Sign('\'')
            }
            c if is_word(c) => {
                let end = lexer.rest.find(|c| !is_word(c)).unwrap_or(lexer.rest.len());
                Kind::Word(lexer.take(end).to_owned())
            }
            c => {
                lexer.take(c.len_utf8());
                Kind::Sign(c)
            }
        };
        tokens.push(Token { line, kind });
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    /// Whether comments can be nested.
    nests: bool,
}

impl<'a> Lexer<'a> {
    /// Consumes `bytes` bytes, which end at a character boundary.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line += taken.bytes().filter(|byte| *byte == b'\n').count();
        self.rest = rest;
        taken
    }

    /// Consumes the text up to and including `end`, or the rest if `end` is missing.
    fn take_through(&mut self, end: &str) {
        self.take(self.rest.find(end).map_or(self.rest.len(), |at| at + end.len()));
    }

    fn skip_space_and_comments(&mut self) {
        loop {
            let space = self.rest.len() - self.rest.trim_start().len();
            self.take(space);
            if self.rest.starts_with("//") {
                self.take_through("\n");
            } else if self.rest.starts_with("/*") {
                let bytes = self.rest.as_bytes();
                let (mut depth, mut end) = (1_usize, 2);
                while depth > 0 && end < bytes.len() {
                    match bytes.get(end..end + 2) {
                        Some(b"*/") => (depth, end) = (depth - 1, end + 2),
                        Some(b"/*") if self.nests => (depth, end) = (depth + 1, end + 2),
                        _ => end += 1,
                    }
                }
                self.take(end);
            } else {
                return;
            }
        }
    }

    /// Reads a string literal, `"…"` or `"""…"""`; `None` if it is not closed.
    fn string(&mut self) -> Option<Kind> {
        const RAW: &str = "\"\"\"";
        let raw = self.rest.starts_with(RAW);
        let text = if raw {
            self.take(RAW.len());
            let text = self.take(self.rest.find(RAW)?).trim().to_owned();
            self.take(RAW.len());
            text
        } else {
            self.take(1);
            let mut text = String::new();
            loop {
                let c = self.rest.chars().next().filter(|c| *c != '\n')?;
                self.take(c.len_utf8());
                match c {
                    '"' => break text,
                    // A host or a pin contains no escaped character, so the value of an escape does not
                    // matter.
                    '\\' => {
                        let escaped = self.rest.chars().next()?;
                        self.take(escaped.len_utf8());
                        text.extend(['\\', escaped]);
                    }
                    c => text.push(c),
                }
            }
        };
        Some(if text.contains('$') { Kind::Template(text) } else { Kind::Text(text) })
    }

    /// Skips a character literal, or a quotation mark with another meaning.
    fn character(&mut self) {
        let mut inside = self.rest.get(1..).unwrap_or_default().char_indices();
        let end = match inside.next() {
            Some((_, '\\')) => {
                inside.next();
                inside.find(|(_, c)| *c == '\'' || *c == '\n')
            }
            Some(_) => inside.next(),
            None => None,
        };
        match end {
            Some((at, '\'')) => self.take(1 + at + 1),
            _ => self.take(1),
        };
    }
}

/// The word of the token at `at`, if the token is a word.
pub(super) fn word(tokens: &[Token], at: usize) -> Option<&str> {
    match &tokens.get(at)?.kind {
        Kind::Word(word) => Some(word),
        _ => None,
    }
}

/// Whether a token is this sign.
pub(super) fn is(token: Option<&Token>, sign: char) -> bool {
    token.is_some_and(|token| token.kind == Kind::Sign(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<Kind> {
        tokens(source).unwrap().into_iter().map(|token| token.kind).collect()
    }

    fn text(text: &str) -> Kind {
        Kind::Text(text.to_owned())
    }

    #[test]
    fn comments_are_skipped_and_literals_are_read() {
        assert_eq!(kinds(r#""a//b" // "c""#), [text("a//b")]);
        assert_eq!(kinds("/* \"a\" **/ \"b\""), [text("b")]);
        assert_eq!(kinds(r#""a\"b" "c""#), [text("a\\\"b"), text("c")]);
        assert_eq!(kinds("\"\"\" a\"b \"\"\""), [text("a\"b")]);
        assert_eq!(kinds("\"\" \"x\""), [text(""), text("x")]);
        assert_eq!(
            kinds(r#"'"' "a" '\'' "b""#),
            [Kind::Sign('\''), text("a"), Kind::Sign('\''), text("b")]
        );
        assert_eq!(kinds("\"$a\""), [Kind::Template("$a".to_owned())]);
        assert_eq!(
            kinds("a.b_1"),
            [Kind::Word("a".into()), Kind::Sign('.'), Kind::Word("b_1".into())]
        );
        assert_eq!(kinds("'é' \"ü\" '"), [Kind::Sign('\''), text("ü"), Kind::Sign('\'')]);
    }

    #[test]
    fn lines_are_counted() {
        let tokens = tokens("/*\n*/ a // b\n\"\"\"\n\"\"\" c").unwrap();
        assert_eq!(tokens.iter().map(|token| token.line).collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn a_literal_that_is_not_closed_is_an_error() {
        for source in ["\n\"a", "\n\"a\nb\"", "\n\"\"\"a", "\n\"a\\"] {
            assert_eq!(tokens(source).unwrap_err().line, 2, "{source}");
        }
        assert_eq!(kinds("/* a"), []);
    }
}
