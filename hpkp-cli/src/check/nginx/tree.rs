//! The tree of directives of a configuration, with included files in the place of `include`.

use hpkp_core::finding::Location;
use hpkp_core::text::Excerpt;

use super::super::files::{Files, MAX_DEPTH, full_path};
use super::super::problem::{Read, invalid, unreadable};
use super::lexer::{Lexer, Token};

/// The most directives of a configuration.
const MAX_DIRECTIVES: usize = 2_000_000;

/// A directive.
#[derive(Debug)]
pub(super) struct Directive {
    /// The name and the arguments.
    pub(super) words: Vec<String>,
    /// Where the directive ends or its block begins.
    pub(super) at: Location,
    /// The contents of the block, if the directive has one.
    pub(super) block: Option<Vec<Directive>>,
}

impl Directive {
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    pub(super) fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    /// The only argument.
    pub(super) fn argument(&self) -> Read<&str> {
        match self.arguments() {
            [one] => Ok(one),
            _ => Err(invalid(
                &self.at,
                format!(
                    "invalid number of arguments in \"{}\" directive",
                    Excerpt::new(self.name())
                ),
            )),
        }
    }
}

/// Reads a configuration.
pub(super) struct Reader<'a> {
    files: &'a mut Files,
    /// The directory of the first file.
    directory: &'a str,
    /// The stack of files that are being read, to detect a loop.
    open: Vec<String>,
    count: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(files: &'a mut Files, directory: &'a str) -> Self {
        Self { files, directory, open: Vec::new(), count: 0 }
    }

    /// The directives of the first file.
    pub(super) fn main(&mut self, name: &str, text: &[u8]) -> Read<Vec<Directive>> {
        let mut all = Vec::new();
        self.open.push(name.to_owned());
        self.file(name, text, &mut all)?;
        Ok(all)
    }

    fn file(&mut self, name: &str, text: &[u8], into: &mut Vec<Directive>) -> Read<()> {
        let mut lexer = Lexer::new(name, text);
        match self.block(&mut lexer, into, 0)? {
            Token::End => Err(invalid(&lexer.location(), "unexpected \"}\"".to_owned())),
            _ => Ok(()),
        }
    }

    /// Reads the directives up to the end of a block or of the file. Gives the token that ended them.
    fn block(
        &mut self,
        lexer: &mut Lexer<'_>,
        into: &mut Vec<Directive>,
        depth: usize,
    ) -> Read<Token> {
        if depth > MAX_DEPTH {
            let text = format!("blocks are nested more than {MAX_DEPTH} deep");
            return Err(unreadable(&lexer.location(), text));
        }
        loop {
            let token = lexer.token()?;
            let at = lexer.location();
            self.count += 1;
            if self.count > MAX_DIRECTIVES {
                return Err(unreadable(&at, format!("more than {MAX_DIRECTIVES} directives")));
            }
            match token {
                Token::Simple(words) if words[0] == "include" => self.include(words, &at, into)?,
                Token::Simple(words) => into.push(Directive { words, at, block: None }),
                Token::Block(words) if words[0].ends_with("_by_lua_block") => {
                    lexer.skip_lua()?;
                    into.push(Directive { words, at, block: Some(Vec::new()) });
                }
                Token::Block(words) => {
                    let mut inner = Vec::new();
                    if self.block(lexer, &mut inner, depth + 1)? == Token::Eof {
                        let text = "unexpected end of file, expecting \"}\"".to_owned();
                        return Err(invalid(&lexer.location(), text));
                    }
                    into.push(Directive { words, at, block: Some(inner) });
                }
                token @ (Token::End | Token::Eof) => return Ok(token),
            }
        }
    }

    fn include(
        &mut self,
        words: Vec<String>,
        at: &Location,
        into: &mut Vec<Directive>,
    ) -> Read<()> {
        let directive = Directive { words, at: at.clone(), block: None };
        let path = full_path(self.directory, directive.argument()?);
        for path in self.files.included(path, at)? {
            let shown = Excerpt::new(&path).to_string();
            if self.open.contains(&path) {
                let text = format!("include loop: \"{shown}\" includes itself");
                return Err(invalid(at, text));
            }
            if self.open.len() > MAX_DEPTH {
                let text = format!("files include each other more than {MAX_DEPTH} deep");
                return Err(unreadable(at, text));
            }
            let text = self.files.read(&path).map_err(|unread| unread.finding(&path, at))?;
            self.open.push(path.clone());
            self.file(&path, &text, into)?;
            self.open.pop();
        }
        Ok(())
    }
}
