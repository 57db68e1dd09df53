//! Splits shell commands into words, and replaces variables.

use std::collections::{HashMap, HashSet};

use super::super::{ImportError, MAX_TEXT, Problem};

/// A word of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// The line on which it begins.
    pub(super) line: usize,
    /// The word without its quotation marks.
    pub(super) text: String,
    /// Whether the word separates commands: `|`, `;`, `&`, a parenthesis, a backtick or the end of a line.
    pub(super) operator: bool,
}

/// Splits shell commands into words. Quotation marks, backslashes and comments follow POSIX. Variables are
/// not replaced.
pub(super) fn words(text: &str, line: usize) -> Result<Vec<Word>, ImportError> {
    let mut shell = Shell { words: Vec::new(), word: None, line };
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\\' => shell.escaped(characters.next()),
            '\'' | '"' => shell.quoted(c, &mut characters)?,
            '\n' | '|' | ';' | '&' | '(' | ')' | '`' => shell.operator(c),
            '#' if shell.word.is_none() => while characters.next_if(|c| *c != '\n').is_some() {},
            c if c.is_whitespace() => shell.words.extend(shell.word.take()),
            c => shell.word().push(c),
        }
    }
    shell.words.extend(shell.word);
    Ok(shell.words)
}

struct Shell {
    words: Vec<Word>,
    /// The current word.
    word: Option<Word>,
    line: usize,
}

impl Shell {
    /// The text of the current word. Begins a word if there is none.
    fn word(&mut self) -> &mut String {
        let line = self.line;
        let new = || Word { line, text: String::new(), operator: false };
        &mut self.word.get_or_insert_with(new).text
    }

    fn operator(&mut self, sign: char) {
        self.words.extend(self.word.take());
        self.words.push(Word { line: self.line, text: sign.to_string(), operator: true });
        self.line += usize::from(sign == '\n');
    }

    /// Handles the character after a backslash. A backslash at the end of a line continues the line.
    fn escaped(&mut self, c: Option<char>) {
        match c {
            Some('\n') => self.line += 1,
            Some(c) => self.word().push(c),
            None => {}
        }
    }

    /// Reads text in quotation marks, after the opening one.
    fn quoted(
        &mut self,
        mark: char,
        characters: &mut impl Iterator<Item = char>,
    ) -> Result<(), ImportError> {
        let begun = self.line;
        self.word();
        while let Some(c) = characters.next() {
            match c {
                c if c == mark => return Ok(()),
                '\\' if mark == '"' => match characters.next() {
                    c @ (None | Some('\n' | '"' | '\\' | '$' | '`')) => self.escaped(c),
                    Some(c) => self.word().extend(['\\', c]),
                },
                c => {
                    self.word().push(c);
                    self.line += usize::from(c == '\n');
                }
            }
        }
        let wanted = "a quotation mark with its counterpart";
        Err(Problem::unexpected(&mark.to_string(), wanted).at(begun))
    }
}

/// Notes the values that assignments among `words` give to variables. A variable with two different values
/// gets `None`.
pub(super) fn assign(words: &[Word], variables: &mut HashMap<String, Option<Vec<Word>>>) {
    for (at, word) in words.iter().enumerate().filter(|(_, word)| !word.operator) {
        let Some((name, value)) = word.text.split_once('=').filter(|(name, _)| is_name(name))
        else {
            continue;
        };
        let is_more = name.ends_with('+');
        let name = name.strip_suffix('+').unwrap_or(name);
        let is_array = value.is_empty() && words.get(at + 1).is_some_and(|next| next.text == "(");
        let value: Vec<Word> = if is_array {
            let inside = words[at + 2..].iter().take_while(|word| word.text != ")");
            inside.filter(|word| !word.operator).cloned().collect()
        } else {
            vec![Word { text: value.to_owned(), ..word.clone() }]
        };
        let texts = |words: &[Word]| words.iter().map(|word| word.text.clone()).collect::<Vec<_>>();
        let known = variables.get_mut(name).filter(|_| is_more);
        if let Some(Some(known)) = known {
            // The assignment may be conditional. Assuming that it takes effect gives the stricter result.
            match known.last_mut().filter(|_| !is_array) {
                Some(last) => last.text.push_str(&value[0].text),
                None => known.extend(value),
            }
            continue;
        }
        let known = variables.entry(name.to_owned()).or_insert_with(|| Some(value.clone()));
        if known.as_ref().is_some_and(|known| texts(known) != texts(&value)) {
            *known = None;
        }
    }
}

/// The name of the variable to which a word assigns a value.
pub(super) fn assigned(word: &Word) -> Option<&str> {
    word.text.split_once('=').map(|(name, _)| name).filter(|name| !word.operator && is_name(name))
}

/// The variables that are used as whole words: `$X`, `${X}`, `${X[@]}`.
pub(super) fn used(words: &[Word]) -> HashSet<String> {
    words.iter().filter_map(|word| whole(&word.text)).map(str::to_owned).collect()
}

fn is_name(text: &str) -> bool {
    let text = text.strip_suffix('+').unwrap_or(text);
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The most words of a text after variables are replaced.
const MAX_WORDS: usize = 1_000_000;

/// The most bytes of the replaced words. Variables beyond the limit are not replaced.
const MAX_BYTES: usize = 4 * MAX_TEXT;

/// Replaces variables in words, as far as the text determines their values.
pub(super) fn expanded(
    words: Vec<Word>,
    variables: &HashMap<String, Option<Vec<Word>>>,
) -> Vec<Word> {
    // The value of a variable may contain another variable.
    let again = |words: Vec<Word>| match words.iter().any(|word| whole(&word.text).is_some()) {
        true => once(words, variables),
        false => words,
    };
    again(again(once(words, variables)))
}

fn once(words: Vec<Word>, variables: &HashMap<String, Option<Vec<Word>>>) -> Vec<Word> {
    let mut all = Vec::with_capacity(words.len());
    let mut bytes = 0;
    for word in words {
        match whole(&word.text).and_then(|name| variables.get(name)?.as_ref()) {
            Some(values) if !word.operator && all.len() < MAX_WORDS && bytes < MAX_BYTES => {
                for value in values {
                    bytes += value.text.len();
                    // The shell splits an unquoted value at blanks. Splitting a quoted one as well does no
                    // harm, because a pin contains no blank.
                    let parts = value.text.split_whitespace();
                    all.extend(parts.map(|part| Word { text: part.to_owned(), ..word.clone() }));
                }
            }
            _ if bytes < MAX_BYTES => {
                let text = replaced(&word.text, variables);
                bytes += text.len();
                all.push(Word { text, ..word });
            }
            _ => all.push(word),
        }
    }
    all
}

/// The name of the variable if the word is nothing but a variable: `$X`, `${X}`, `${X[@]}`.
fn whole(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    let braced = name.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
    let name = braced.unwrap_or(name);
    let name = name.strip_suffix("[@]").or_else(|| name.strip_suffix("[*]")).unwrap_or(name);
    is_name(name).then_some(name)
}

/// Replaces the variables in a text whose value is one word.
fn replaced(text: &str, variables: &HashMap<String, Option<Vec<Word>>>) -> String {
    if !text.contains('$') {
        return text.to_owned();
    }
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        whole.push_str(before);
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, length) = match from[1..].strip_prefix('{') {
            Some(inner) => {
                let end = inner.find('}').unwrap_or(inner.len());
                (&inner[..end], (end + 3).min(from.len()))
            }
            None => {
                let end = from[1..].find(|c| !is_of_name(c)).unwrap_or(from.len() - 1);
                (&from[1..=end], end + 1)
            }
        };
        match variables.get(name).and_then(Option::as_deref) {
            Some([Word { text, .. }]) if !text.contains('$') && whole.len() < 1 << 16 => {
                whole.push_str(text);
            }
            _ => whole.push_str(&from[..length]),
        }
        rest = &from[length..];
    }
    whole.push_str(rest);
    whole
}
