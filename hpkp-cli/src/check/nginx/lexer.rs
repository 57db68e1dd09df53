//! Splits nginx's configuration text as nginx does: words, blocks, and embedded Lua.

use std::sync::Arc;

use hpkp_core::finding::Location;

use super::super::problem::{Read, invalid};

/// A token of the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A directive that ends with a semicolon.
    Simple(Vec<String>),
    /// A directive that begins a block.
    Block(Vec<String>),
    /// The end of a block.
    End,
    /// The end of the text.
    Eof,
}

/// The longest word that nginx reads, in bytes.
const MAX_WORD: usize = 4096;

/// Splits one file.
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    next: usize,
    line: usize,
    file: Arc<str>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(file: &str, text: &'a [u8]) -> Self {
        Self { text, next: 0, line: 1, file: file.into() }
    }

    /// The current place. nginx reports the line on which a directive ends.
    pub(super) fn location(&self) -> Location {
        Location { file: self.file.clone(), line: self.line }
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.next)?;
        self.next += 1;
        if byte == b'\n' {
            self.line += 1;
        }
        Some(byte)
    }

    /// Reads the next token.
    pub(super) fn token(&mut self) -> Read<Token> {
        let mut words = Vec::new();
        loop {
            let Some(byte) = self.byte() else {
                return match words.is_empty() {
                    true => Ok(Token::Eof),
                    false => Err(self.unexpected_end()),
                };
            };
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                b'#' => while !matches!(self.byte(), None | Some(b'\n')) {},
                b';' | b'{' if words.is_empty() => {
                    let shown = char::from(byte);
                    return Err(invalid(&self.location(), format!("unexpected \"{shown}\"")));
                }
                b';' => return Ok(Token::Simple(words)),
                b'{' => return Ok(Token::Block(words)),
                b'}' if words.is_empty() => return Ok(Token::End),
                b'}' => return Err(invalid(&self.location(), "unexpected \"}\"".to_owned())),
                b'"' | b'\'' => {
                    let word = self.word(Some(byte), None)?;
                    words.push(word.0);
                    if let Some(ended) = self.after_quotes()? {
                        return Ok(ended.token(words));
                    }
                }
                byte => {
                    let (word, ended) = self.word(None, Some(byte))?;
                    words.push(word);
                    if let Some(ended) = ended {
                        return Ok(ended.token(words));
                    }
                }
            }
        }
    }

    /// Reads the rest of a word that begins with `first`. Gives the word, and how the directive ended if it
    /// ended with the word.
    fn word(&mut self, quote: Option<u8>, first: Option<u8>) -> Read<(String, Option<Ended>)> {
        let mut word: Vec<u8> = Vec::new();
        let mut pending = first;
        let mut is_variable = false;
        let ended = loop {
            let Some(byte) = pending.take().or_else(|| self.byte()) else {
                return Err(self.unexpected_end());
            };
            if word.len() > MAX_WORD {
                let text = format!("a word is longer than {MAX_WORD} bytes");
                return Err(invalid(&self.location(), text));
            }
            if byte == b'{' && is_variable {
                word.push(byte);
                is_variable = false;
                continue;
            }
            is_variable = byte == b'$';
            match (byte, quote) {
                (b'\\', _) => {
                    let Some(escaped) = self.byte() else { return Err(self.unexpected_end()) };
                    match escaped {
                        b'"' | b'\'' | b'\\' => word.push(escaped),
                        b't' => word.push(b'\t'),
                        b'r' => word.push(b'\r'),
                        b'n' => word.push(b'\n'),
                        other => word.extend([b'\\', other]),
                    }
                }
                (byte, Some(quote)) if byte == quote => break None,
                (b' ' | b'\t' | b'\r' | b'\n', None) => break None,
                (b';', None) => break Some(Ended::Semicolon),
                (b'{', None) => break Some(Ended::Brace),
                (byte, _) => word.push(byte),
            }
        };
        Ok((String::from_utf8_lossy(&word).into_owned(), ended))
    }

    /// Reads the character after the closing quotation mark of a word.
    fn after_quotes(&mut self) -> Read<Option<Ended>> {
        match self.text.get(self.next).copied() {
            Some(b' ' | b'\t' | b'\r' | b'\n') => Ok(None),
            Some(b';') => {
                self.next += 1;
                Ok(Some(Ended::Semicolon))
            }
            Some(b'{') => {
                self.next += 1;
                Ok(Some(Ended::Brace))
            }
            // The parenthesis begins the next word.
            Some(b')') => Ok(None),
            Some(other) => {
                let shown = char::from(other).escape_default();
                Err(invalid(&self.location(), format!("unexpected \"{shown}\"")))
            }
            None => Err(self.unexpected_end()),
        }
    }

    fn unexpected_end(&self) -> Box<hpkp_core::finding::Finding> {
        let text = "unexpected end of file, expecting \";\" or \"}\"".to_owned();
        invalid(&self.location(), text)
    }

    /// Skips a block of Lua, after its opening brace. Braces count only outside of strings and comments.
    pub(super) fn skip_lua(&mut self) -> Read<()> {
        let mut depth = 1_usize;
        while depth > 0 {
            let Some(byte) = self.byte() else { return Err(self.unexpected_end()) };
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                b'"' | b'\'' => self.skip_lua_string(byte)?,
                b'[' => {
                    if let Some(level) = self.long_bracket() {
                        self.skip_long(level)?;
                    }
                }
                b'-' if self.text.get(self.next) == Some(&b'-') => {
                    self.next += 1;
                    let long = (self.text.get(self.next) == Some(&b'[')).then(|| {
                        self.next += 1;
                        self.long_bracket()
                    });
                    match long.flatten() {
                        Some(level) => self.skip_long(level)?,
                        None => while !matches!(self.byte(), None | Some(b'\n')) {},
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn skip_lua_string(&mut self, quote: u8) -> Read<()> {
        loop {
            match self.byte() {
                None => return Err(self.unexpected_end()),
                Some(b'\\') => {
                    self.byte();
                }
                Some(byte) if byte == quote => return Ok(()),
                Some(_) => {}
            }
        }
    }

    /// After `[`: the number of `=` before the next `[`, or `None` if another character follows.
    fn long_bracket(&mut self) -> Option<usize> {
        let rest = self.text.get(self.next..)?;
        let level = rest.iter().take_while(|byte| **byte == b'=').count();
        (rest.get(level) == Some(&b'[')).then(|| self.next += level + 1)?;
        Some(level)
    }

    fn skip_long(&mut self, level: usize) -> Read<()> {
        loop {
            match self.byte() {
                None => return Err(self.unexpected_end()),
                Some(b']') => {
                    let rest = self.text.get(self.next..).unwrap_or_default();
                    let is_level = rest.iter().take_while(|byte| **byte == b'=').count() == level;
                    if is_level && rest.get(level) == Some(&b']') {
                        self.next += level + 1;
                        return Ok(());
                    }
                }
                Some(_) => {}
            }
        }
    }
}

/// How a directive ended.
#[derive(Clone, Copy)]
enum Ended {
    Semicolon,
    Brace,
}

impl Ended {
    fn token(self, words: Vec<String>) -> Token {
        match self {
            Self::Semicolon => Token::Simple(words),
            Self::Brace => Token::Block(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        let mut lexer = Lexer::new("nginx.conf", text.as_bytes());
        let mut tokens = Vec::new();
        loop {
            match lexer.token().expect("nginx's language") {
                Token::Eof => return tokens,
                token => tokens.push(token),
            }
        }
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn words_are_split_as_nginx_does() {
        let text = "a b;# c d;\n e{f \"g;\\\" h\" 'i{';}j ${k}l\\;m;if ( $a ~ \"x\") {}\n";
        assert_eq!(
            tokens(text),
            [
                Token::Simple(words(&["a", "b"])),
                Token::Block(words(&["e"])),
                Token::Simple(words(&["f", "g;\" h", "i{"])),
                Token::End,
                Token::Simple(words(&["j", "${k}l\\;m"])),
                Token::Block(words(&["if", "(", "$a", "~", "x", ")"])),
                Token::End,
            ]
        );
    }

    #[test]
    fn text_that_nginx_refuses_is_refused() {
        for text in ["a", "a \"b", ";", "{", "a }", "a \"b\"c;", "a 'b"] {
            let mut lexer = Lexer::new("nginx.conf", text.as_bytes());
            assert!(lexer.token().is_err(), "{text}");
        }
    }

    #[test]
    fn braces_in_lua_are_balanced_outside_of_strings_and_comments() {
        for lua in [
            "local a = { '}' , \"}\\\"}\" }",
            "-- }\n",
            "--[[ } ]] --[==[ ]] } ]==]",
            "local a = [[ } ]]",
            "a[1] = a[ [[}]] ]",
        ] {
            let text = format!("{lua}}} next");
            let mut lexer = Lexer::new("nginx.conf", text.as_bytes());
            lexer.skip_lua().expect("Lua");
            assert_eq!(&text[lexer.next..], " next", "{lua}");
        }
    }
}
