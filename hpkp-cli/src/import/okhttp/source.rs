//! Pinners in source text: which `add` belongs to which builder, in which branch, and what the names
//! of the same file stand for.

use std::collections::{HashMap, HashSet};

use super::lexer::{Kind, Token, is};
use super::loops::{self, Loop, Map};
use super::objects::{self, Object};
use super::values::{
    MAX_CALL, MAX_LIST, NOT_KNOWN, Resolved, Texts, arguments, closing, constants, texts,
};
use super::{ImportError, Problem};

/// A call of a builder's `add`.
#[derive(Clone, Debug)]
pub(super) struct Add {
    pub(super) line: usize,
    /// The builder, by the position of the token that makes it.
    builder: Option<usize>,
    /// The blocks in which the call stands, by the positions of their braces, and how many cases had begun
    /// when each began.
    blocks: Vec<(usize, usize)>,
    /// How many cases of a `switch` began before it.
    branch: usize,
    /// Its position among the tokens.
    at: usize,
    /// Whether its innermost block is left within it, by `return` or `throw`.
    leaves: bool,
    /// What it is called with, with the lines of the literals. The first is the pattern.
    pub(super) texts: Vec<(usize, String)>,
}

/// How deep blocks may be nested.
const MAX_BLOCKS: usize = 256;

/// The most calls that all ways through a source may look at.
const MAX_STEPS: usize = 50_000_000;

/// A builder, blocks within one another, and the case in the innermost.
type Way = (Option<usize>, Vec<(usize, usize)>, usize);

/// The pinners of a source: for each builder and each way through its branches, the calls that are
/// made.
///
/// # Errors
/// For an argument that the text does not say the value of.
pub(super) fn pinners(tokens: &[Token]) -> Result<Vec<Vec<Add>>, ImportError> {
    let constants = constants(tokens);
    let mut source = Source {
        tokens,
        maps: loops::maps(tokens, &constants),
        objects: objects::objects(tokens, &constants),
        loops: loops::loops(tokens),
        constants,
        builders: Builders::default(),
        blocks: Vec::new(),
        branch: 0,
    };
    let adds = source.adds()?;
    let mut ways: Vec<Way> = Vec::new();
    let mut known = HashSet::new();
    for add in &adds {
        let way = (add.builder, add.blocks.clone(), add.branch);
        if known.insert(way.clone()) {
            ways.push(way);
        }
    }
    // Each way may look at all calls.
    if ways.len().saturating_mul(adds.len()) > MAX_STEPS {
        return Err(Problem::TooManySets.at(adds.first().map_or(1, |add| add.line)));
    }
    let pinners = ways.into_iter().map(|(builder, blocks, branch)| {
        let is_own = |add: &&Add| add.blocks == blocks && add.branch == branch;
        let own = adds.iter().filter(|add| add.builder == builder).filter(is_own);
        // Behind a return nothing more is added.
        let last = own.filter(|add| add.leaves).map(|add| add.at).max();
        let made = adds.iter().filter(|add| {
            add.builder == builder
                && blocks.starts_with(&add.blocks)
                // Of what is around the block, the case that the block is in.
                && add.branch == blocks.get(add.blocks.len()).map_or(branch, |(_, case)| *case)
                && last.is_none_or(|last| add.at <= last)
        });
        made.cloned().collect()
    });
    Ok(pinners.collect())
}

/// What is known of the builders of pinners.
#[derive(Default)]
struct Builders {
    /// By the names of the variables that hold them.
    variables: HashMap<String, usize>,
    /// By the position of the parenthesis behind which a call of theirs may follow.
    chains: HashMap<usize, usize>,
    last: Option<usize>,
}

struct Source<'a> {
    tokens: &'a [Token],
    constants: HashMap<String, Option<Vec<(usize, String)>>>,
    maps: HashMap<String, Option<Map>>,
    objects: HashMap<String, Option<Vec<Object>>>,
    loops: Vec<Loop>,
    builders: Builders,
    blocks: Vec<(usize, usize)>,
    branch: usize,
}

impl Source<'_> {
    fn adds(&mut self) -> Result<Vec<Add>, ImportError> {
        let names = class_names(self.tokens);
        let mut adds = Vec::new();
        let leaving = leaving(self.tokens);
        // Where a statement ends that is a block without braces, behind `if (...)`.
        let mut statements: Vec<usize> = Vec::new();
        let mut whens = HashSet::new();
        for (at, token) in self.tokens.iter().enumerate() {
            while statements.last().is_some_and(|end| *end <= at) {
                statements.pop();
                self.blocks.pop();
            }
            match &token.kind {
                Kind::Word(word) if matches!(word.as_str(), "if" | "for" | "while" | "else") => {
                    let begin = self.behind_condition(at, word);
                    if self.blocks.len() < MAX_BLOCKS
                        && let Some(end) = begin.and_then(|begin| self.statement(begin))
                    {
                    let begin = match word.as_str() {
                        "else" => Some(at + 1).filter(|next| self.word(*next) != Some("if")),
                        _ if self.is(at + 1, '(') => {
                            closing(self.tokens, at + 1).map(|close| close + 1)
                        }
                        _ => None,
                    };
                    let begin = begin.filter(|_| self.blocks.len() < MAX_BLOCKS);
                    if let Some(end) = begin.and_then(|begin| self.statement(begin)) {
                        statements.push(end);
                        self.blocks.push((at, self.branch));
                    }
                }
                Kind::Sign('{') if self.blocks.len() == MAX_BLOCKS => {
                    return Err(Problem::TooDeep.at(token.line));
                }
                Kind::Sign('{') => {
                    if self.is_when(at) {
                        whens.insert(at);
                    }
                    self.blocks.push((at, self.branch));
                }
                Kind::Sign('}') => drop(self.blocks.pop()),
                // A branch of Kotlin's `when`; anywhere else an arrow is a lambda's.
                Kind::Sign('-')
                    if self.is(at + 1, '>')
                        && self.blocks.len() < MAX_BLOCKS
                        && self.blocks.last().is_some_and(|(block, _)| whens.contains(block)) =>
                {
                    if let Some(end) = self.statement(at + 2) {
                        statements.push(end);
                        self.blocks.push((at, self.branch));
                    }
                }
                Kind::Word(word) if matches!(word.as_str(), "case" | "default") => {
                    self.branch += 1;
                }
                Kind::Word(word) if names.contains(word) && self.is_builder(at) => {
                    self.builder(at);
                }
                Kind::Word(word) if word == "add" && self.is(at + 1, '(') => {
                    let leaves =
                        self.blocks.last().is_some_and(|(block, _)| leaving.contains(block));
                    let made = self.add(at)?.into_iter();
                    adds.extend(made.map(|add| Add { leaves, ..add }));
                    if adds.len() > MAX_STEPS / MAX_LIST {
                        return Err(Problem::TooManySets.at(token.line));
                    }
                }
                _ => {}
            }
        }
        Ok(adds)
    }

    /// Where the statement begins that `if`, `for`, `while` or `else` at `at` is about.
    fn behind_condition(&self, at: usize, word: &str) -> Option<usize> {
        match word {
            "else" => Some(at + 1).filter(|next| self.word(*next) != Some("if")),
            _ if self.is(at + 1, '(') => closing(self.tokens, at + 1).map(|close| close + 1),
            _ => None,
        }
    }

    /// Whether the brace at `at` opens a `when`.
    fn is_when(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1) else { return false };
        self.word(before) == Some("when")
            || before_condition(self.tokens, at).is_some_and(|word| self.word(word) == Some("when"))
    }

    /// Where the statement ends that begins at `begin`, where it has no braces.
    fn statement(&self, begin: usize) -> Option<usize> {
        if self.is(begin, '{') {
            return None;
        }
        let mut depth = 0_usize;
        for (at, token) in self.tokens.iter().enumerate().skip(begin).take(MAX_CALL) {
            match &token.kind {
                Kind::Sign('(' | '[' | '{') => depth += 1,
                Kind::Sign(')' | ']' | '}') if depth == 0 => return Some(at),
                Kind::Sign(')' | ']' | '}') => depth -= 1,
                Kind::Sign(';') if depth == 0 => return Some(at),
                Kind::Word(word) if depth == 0 && word == "else" => return Some(at),
                // Kotlin: the end of a line, unless the next goes on.
                _ if depth == 0 && at > begin && token.line > self.tokens[at - 1].line => {
                    let goes_on = matches!(token.kind, Kind::Sign('.' | '?' | '+'))
                        || matches!(
                            self.tokens[at - 1].kind,
                            Kind::Sign('.' | '+' | '=' | ',' | '(')
                        );
                    if !goes_on {
                        return Some(at);
                    }
                }
                _ => {}
            }
        }
        Some(self.tokens.len().min(begin + MAX_CALL))
    }

    fn is(&self, at: usize, sign: char) -> bool {
        is(self.tokens.get(at), sign)
    }

    fn word(&self, at: usize) -> Option<&str> {
        match &self.tokens.get(at)?.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    fn is_builder(&self, at: usize) -> bool {
        self.is(at + 1, '.') && self.word(at + 2) == Some("Builder")
    }

    /// A builder is made, or a variable is of its type.
    fn builder(&mut self, at: usize) {
        if self.is(at + 3, '(') {
            self.builders.last = Some(at);
            if let Some(close) = closing(self.tokens, at + 3) {
                self.builders.chains.insert(close, at);
            }
            // NAME = new X.Builder(), with a type perhaps: NAME: X.Builder = X.Builder().
            let before = if at > 0 && self.word(at - 1) == Some("new") { at - 1 } else { at };
            let assigned = |at: usize| before.checked_sub(at).and_then(|at| self.word(at));
            let is_assigned = before >= 2 && self.is(before - 1, '=');
            let is_typed = before >= 6 && self.is(before - 5, ':');
            let name = assigned(2).filter(|name| *name != "Builder");
            let name = name.or_else(|| assigned(6).filter(|_| is_typed));
            if let Some(name) = name.filter(|_| is_assigned) {
                self.builders.variables.insert(name.to_owned(), at);
            }
            return;
        }
        // X.Builder NAME, and NAME: X.Builder.
        let name = match self.word(at + 3) {
            Some(name) => Some(name),
            None if at >= 2 && self.is(at - 1, ':') => self.word(at - 2),
            None => None,
        };
        if let Some(name) = name {
            self.builders.variables.insert(name.to_owned(), at);
        }
    }

    /// The builder whose method stands at `at`, where that is known.
    fn receiver(&self, at: usize) -> Option<usize> {
        if at == 0 || !self.is(at - 1, '.') {
            // Within `apply { }` of the builder that was made last.
            return self.builders.last;
        }
        let before = at.checked_sub(2)?;
        match &self.tokens[before].kind {
            Kind::Word(name) => self.builders.variables.get(name).copied(),
            Kind::Sign(')') => self.builders.chains.get(&before).copied(),
            _ => None,
        }
    }

    fn add(&mut self, at: usize) -> Result<Vec<Add>, ImportError> {
        let line = self.tokens[at].line;
        let builder = self.receiver(at);
        let explicit = at > 0 && self.is(at - 1, '.');
        let Some(close) = closing(self.tokens, at + 1) else { return Ok(Vec::new()) };
        let inside = self.tokens.get(at + 2..close).unwrap_or_default();
        let arguments: Vec<&[Token]> = arguments(inside);
        let resolved: Vec<Resolved> =
            arguments.iter().map(|argument| self.resolve(argument)).collect();
        let is_pin = |text: &str| text.starts_with("sha256/") || text.starts_with("sha1/");
        let of_pins = resolved.iter().any(|texts| match texts {
            Ok(texts) => texts.iter().any(|(_, text)| is_pin(text)),
            Err((_, shown)) => is_pin(shown),
        });
        // Other things have an `add` too; one with one argument is no pinner's.
        if !of_pins && (builder.is_none() || arguments.len() < 2) {
            return Ok(Vec::new());
        }
        // Within a block any other thing may have that method.
        let is_certain = of_pins || explicit;
        if let Some(builder) = builder.filter(|_| is_certain) {
            self.builders.chains.insert(close, builder);
        }
        let (blocks, branch) = (self.blocks.clone(), self.branch);
        let made =
            |texts| Add { line, builder, blocks: blocks.clone(), branch, at, leaves: false, texts };
        let all: Result<Vec<Texts>, _> = resolved.into_iter().collect();
        match all {
            Ok(_) if !is_certain => Ok(Vec::new()),
            Ok(texts) => Ok(vec![made(texts.concat())]),
            Err((unknown, shown)) => {
                let around = self.around(at);
                let mut all = Vec::new();
                let repeated = !around.is_empty() && self.repeat(&around, &arguments, &mut all);
                match repeated {
                    true => Ok(all.into_iter().map(made).collect()),
                    // A pin that it adds is not read, and then named.
                    false if !is_certain => Ok(Vec::new()),
                    false => Err(Problem::unsupported(&shown, NOT_KNOWN).at(unknown)),
                }
            }
        }
    }

    /// The loops around a call, the outermost first: of those that began before it, the nearest ones are
    /// looked at.
    fn around(&self, at: usize) -> Vec<Loop> {
        let begun = self.loops.partition_point(|one| one.at < at);
        let near = self.loops[begun.saturating_sub(MAX_LIST)..begun].iter();
        near.filter(|one| one.body.contains(&at)).cloned().collect()
    }

    /// What the arguments are each time around the loops, the outermost first; false where that is not
    /// known.
    fn repeat(&mut self, around: &[Loop], arguments: &[&[Token]], all: &mut Vec<Texts>) -> bool {
        let Some((outer, inner)) = around.split_first() else {
            let resolved: Result<Vec<Texts>, _> =
                arguments.iter().map(|argument| self.resolve(argument)).collect();
            let known = resolved.is_ok();
            all.extend(resolved.ok().map(|texts| texts.concat()));
            return known && all.len() <= MAX_LIST * MAX_LIST;
        };
        let parts: Vec<Vec<(String, Texts)>> = match (&outer.names[..], self.maps.get(&outer.over))
        {
            (names, Some(Some(map))) => of_map(names, map),
            ([name], None) if self.objects.contains_key(&outer.over) => {
                let Some(Some(objects)) = self.objects.get(&outer.over) else { return false };
                let member =
                    |(of, texts): &(String, Texts)| (format!("{name}.{of}"), texts.clone());
                objects.iter().map(|object| object.iter().map(member).collect()).collect()
            }
            ([name], _) => match self.constants.get(&outer.over) {
                Some(Some(list)) => {
                    list.iter().map(|text| vec![(name.clone(), vec![text.clone()])]).collect()
                }
                _ => return false,
            },
            _ => return false,
        };
        let mut known = true;
        for part in parts {
            let names: Vec<String> = part.iter().map(|(name, _)| name.clone()).collect();
            let before: Vec<_> = names.iter().map(|name| self.constants.remove(name)).collect();
            for (name, texts) in part {
                self.constants.insert(name, Some(texts));
            }
            let count = all.len();
            known = self.repeat(inner, arguments, all) && all.len() > count;
            for (name, before) in names.into_iter().zip(before) {
                match before {
                    Some(texts) => self.constants.insert(name, texts),
                    None => self.constants.remove(&name),
                };
            }
            if !known {
                break;
            }
        }
        known
    }

    /// The texts that an argument stands for, with their lines; or what it is, and its line.
    fn resolve(&self, tokens: &[Token]) -> Resolved {
        let tokens = match tokens {
            // Kotlin lets an argument be named.
            [
                Token { kind: Kind::Word(_), .. },
                Token { kind: Kind::Sign('='), .. },
                value @ ..,
            ] => value,
            all => all,
        };
        texts(tokens, &self.constants)
    }
}

/// What each entry of a map gives to the names of a loop, or calls its members.
fn of_map(names: &[String], map: &Map) -> Vec<Vec<(String, Texts)>> {
    let named = |index: usize, fixed: [&str; 2]| -> Vec<String> {
        match names {
            [_, _] => vec![names[index].clone()],
            _ => {
                let name = names.first().map_or("it", String::as_str);
                fixed.map(|member| format!("{name}.{member}")).to_vec()
            }
        }
    };
    let keys = named(0, ["key", "getKey"]);
    let values = named(1, ["value", "getValue"]);
    let entry = |(key, of): &(Texts, Texts)| {
        let keys = keys.iter().map(|name| (name.clone(), key.clone()));
        let values = values.iter().map(|name| (name.clone(), of.clone()));
        keys.chain(values).collect()
    };
    map.iter().map(entry).collect()
}

/// The blocks, by the positions of their braces or of their `if`, that a `return` or `throw` stands in
/// directly.
fn leaving(tokens: &[Token]) -> HashSet<usize> {
    let mut leaving = HashSet::new();
    let mut blocks = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match &token.kind {
            Kind::Sign('{') => blocks.push(at),
            Kind::Sign('}') => drop(blocks.pop()),
            Kind::Word(word) if word == "return" || word == "throw" => {
                leaving.extend(blocks.last().copied());
                // if (...) return ...
                let is_if =
                    |at: &usize| matches!(&tokens[*at].kind, Kind::Word(word) if word == "if");
                leaving.extend(before_condition(tokens, at).filter(is_if));
            }
            _ => {}
        }
    }
    leaving
}

/// The position of the `if` or the like whose condition ends in front of `at`.
fn before_condition(tokens: &[Token], at: usize) -> Option<usize> {
    /// The longest condition that is looked back for, in tokens.
    const MAX: usize = 200;
    let close = at.checked_sub(1)?;
    let mut depth = 0_usize;
    for open in (close.saturating_sub(MAX)..=close).rev() {
        match tokens[open].kind {
            Kind::Sign(')') => depth += 1,
            Kind::Sign('(') => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return open.checked_sub(1);
        }
    }
    None
}

/// The names of the class: its own, and one that it is imported as.
fn class_names(tokens: &[Token]) -> Vec<String> {
    let mut names = vec!["CertificatePinner".to_owned()];
    for window in tokens.windows(3) {
        match window {
            [
                Token { kind: Kind::Word(class), .. },
                Token { kind: Kind::Word(by), .. },
                Token { kind: Kind::Word(alias), .. },
            ] if class == "CertificatePinner" && by == "as" => names.push(alias.clone()),
            _ => {}
        }
    }
    names
}

/// The position of the parenthesis that closes the one at `open`.
pub(super) fn closing(tokens: &[Token], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open).take(MAX_CALL) {
        match token.kind {
            Kind::Sign('(' | '[' | '{') => depth += 1,
            Kind::Sign(')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// The arguments between the parentheses of a call; none behind a trailing comma.
pub(super) fn arguments(inside: &[Token]) -> Vec<&[Token]> {
    let mut depth = 0_usize;
    let parted = inside.split(|token| {
        match token.kind {
            Kind::Sign('(' | '[' | '{') => depth += 1,
            Kind::Sign(')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && token.kind == Kind::Sign(',')
    });
    parted.filter(|argument| !argument.is_empty()).collect()
}

/// Literals with their lines.
pub(super) type Texts = Vec<(usize, String)>;

/// What an expression stands for; or what it is and its line, where that is not known.
type Resolved = Result<Texts, (usize, String)>;

/// The texts that an expression stands for: literals, names of the same file, and several of them
/// joined by `+`; all entries of a list that is spread.
pub(super) fn texts(tokens: &[Token], constants: &HashMap<String, Option<Texts>>) -> Resolved {
    let Some(first) = tokens.first() else { return Ok(Vec::new()) };
    let tokens = if first.kind == Kind::Sign('*') { &tokens[1..] } else { tokens };
    let unknown = |token: &Token| (token.line, token.kind.to_string());
    let parts: Vec<&[Token]> = tokens.split(|token| token.kind == Kind::Sign('+')).collect();
    let mut joined: Option<Texts> = None;
    for part in parts {
        let found = match part {
            [Token { line, kind: Kind::Text(text) }] => vec![(*line, text.clone())],
            [token @ Token { line, kind: Kind::Template(text) }] => {
                let (of_digits, text) = filled(text, constants).ok_or_else(|| unknown(token))?;
                vec![(of_digits.unwrap_or(*line), text)]
            }
            // A name, or a member of something: PINS, Config.PINS, PINS.toTypedArray().
            [token, rest @ ..] => {
                let (rest, index) = indexed(rest);
                let mut path = match &token.kind {
                    Kind::Word(word) => vec![word.as_str()],
                    _ => return Err(unknown(token)),
                };
                let mut is_called = false;
                for token in rest {
                    match &token.kind {
                        Kind::Word(word) if is_same(word) => {}
                        Kind::Word(word) => path.push(word),
                        Kind::Sign('(') => is_called = true,
                        Kind::Sign('.' | ')') => {}
                        _ => return Err(unknown(token)),
                    }
                }
                let has_same = rest
                    .iter()
                    .any(|token| matches!(&token.kind, Kind::Word(word) if is_same(word)));
                // Nothing else than a member of an object has a name of several words.
                let is_member = constants.contains_key(&path.join("."));
                let known = known(&path, constants)
                    .filter(|_| !is_called || has_same || path.len() > 1 && is_member)
                    .ok_or_else(|| unknown(token))?;
                match index {
                    None => known.clone(),
                    Some(index) => vec![known.get(index).cloned().ok_or_else(|| unknown(token))?],
                }
            }
            [] => return Err((first.line, "+".to_owned())),
        };
        joined = Some(match joined {
            None => found,
            Some(before)
                if before.len() == 1
                    && found.len() == 1
                    && before[0].1.len() + found[0].1.len() <= MAX_LITERAL =>
            {
                // The pin is at the line of its digits.
                vec![(found[0].0, format!("{}{}", before[0].1, found[0].1))]
            }
            Some(_) => return Err(unknown(first)),
        });
    }
    Ok(joined.unwrap_or_default())
}

/// What a name stands for. A member of an object is known where a loop gives the object its name; of a class, which
/// begins with a capital, the last name will do.
fn known<'c>(path: &[&str], constants: &'c HashMap<String, Option<Texts>>) -> Option<&'c Texts> {
    let (name, of) = path.split_last()?;
    if let Some(known) = constants.get(&path.join(".")).filter(|_| !of.is_empty()) {
        return known.as_ref();
    }
    let is_class = |name: &&str| *name == "this" || name.starts_with(char::is_uppercase);
    constants.get(*name)?.as_ref().filter(|_| of.iter().all(is_class))
}

/// What stands in front of a number that names one text of a list (`[0]`, `.get(0)`, `.first()`), and the number.
fn indexed(rest: &[Token]) -> (&[Token], Option<usize>) {
    let kinds: Vec<&Kind> = rest.iter().rev().take(5).map(|token| &token.kind).collect();
    let number = |kind: &Kind| match kind {
        Kind::Word(word) => word.parse().ok(),
        _ => None,
    };
    let is = |kind: &Kind, name: &str| matches!(kind, Kind::Word(word) if word == name);
    let (length, index) = match kinds[..] {
        [Kind::Sign(']'), of, Kind::Sign('['), ..] => (3, number(of)),
        [Kind::Sign(')'), of, Kind::Sign('('), get, Kind::Sign('.')] if is(get, "get") => {
            (5, number(of))
        }
        [Kind::Sign(')'), Kind::Sign('('), first, Kind::Sign('.'), ..] if is(first, "first") => {
            (4, Some(0))
        }
        _ => (0, None),
    };
    match index {
        None => (rest, None),
        index => (&rest[..rest.len() - length], index),
    }
}

/// Whether a call gives the texts that it is called on.
fn is_same(word: &str) -> bool {
    matches!(word, "toTypedArray" | "toArray" | "trim" | "toList")
}

/// A template with the names in it replaced, and the line of the last one.
fn filled(
    text: &str,
    constants: &HashMap<String, Option<Texts>>,
) -> Option<(Option<usize>, String)> {
    let mut filled = String::new();
    let mut of_digits = None;
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let is_of_name = |c: char| c.is_alphanumeric() || c == '_';
        let (name, length) = match after.strip_prefix('{') {
            Some(inner) => {
                let end = inner.find('}')?;
                (&inner[..end], end + 2)
            }
            None => {
                let end = after.find(|c| !is_of_name(c)).unwrap_or(after.len());
                (&after[..end], end)
            }
        };
        let path: Vec<&str> = name.split('.').collect();
        match known(&path, constants)?.as_slice() {
            [(line, text)] => {
                of_digits = Some(*line);
                filled.push_str(text);
                if filled.len() > MAX_LITERAL {
                    return None;
                }
            }
            _ => return None,
        }
        rest = &after[length..];
    }
    filled.push_str(rest);
    Some((of_digits, filled))
}

/// What names stand for in the whole file: a literal, or a list of them. None for one that stands for
/// different things.
fn constants(tokens: &[Token]) -> HashMap<String, Option<Texts>> {
    let mut constants: HashMap<String, Option<Texts>> = HashMap::new();
    // A second time for names that are made of others.
    for _ in 0..2 {
        let before = constants.clone();
        for (at, token) in tokens.iter().enumerate() {
            if token.kind != Kind::Sign('=') || at == 0 {
                continue;
            }
            let Some(name) = assigned(tokens, at) else { continue };
            let Some(value) = value(&tokens[at + 1..], &before) else { continue };
            let known = constants.entry(name.to_owned()).or_insert_with(|| Some(value.clone()));
            let texts = |all: &Texts| all.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>();
            if known.as_ref().is_some_and(|known| texts(known) != texts(&value)) {
                *known = None;
            }
        }
    }
    for name in bound(tokens) {
        constants.insert(name.to_owned(), None);
    }
    constants
}

/// Whether tokens are a type, and not the rest of a list of parameters or another statement.
fn is_type(tokens: &[Token]) -> bool {
    let mut depth = 0_usize;
    let mut after_word = false;
    tokens.iter().all(|token| {
        let is_word = matches!(token.kind, Kind::Word(_));
        let fits = match token.kind {
            Kind::Word(_) => !after_word,
            Kind::Sign('<') => {
                depth += 1;
                true
            }
            Kind::Sign('>') => {
                depth = depth.saturating_sub(1);
                true
            }
            Kind::Sign(',') => depth > 0,
            Kind::Sign('.' | '?' | '[' | ']') => true,
            _ => false,
        };
        after_word = is_word;
        fits
    })
}

/// The names that a parameter, a lambda or a loop gives to something: what they stand for differs from place to
/// place.
fn bound(tokens: &[Token]) -> HashSet<&str> {
    let word = |at: usize| match &tokens.get(at)?.kind {
        Kind::Word(word) => Some(word.as_str()),
        _ => None,
    };
    let is = |at: usize, sign: char| super::is(tokens.get(at), sign);
    let is_arrow = |at: usize| is(at, '-') && is(at + 1, '>');
    let mut names = HashSet::new();
    let mut open: Vec<usize> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match &token.kind {
            Kind::Sign('(' | '[' | '{') => open.push(at),
            Kind::Sign(')' | ']' | '}') => {
                let begin = open.pop();
                // (host, pins) -> ...
                if let Some(begin) = begin.filter(|begin| is(*begin, '(') && is_arrow(at + 1)) {
                    let inside = tokens.get(begin..at.min(begin + 16)).unwrap_or_default();
                    names.extend(inside.iter().filter_map(|token| match &token.kind {
                        Kind::Word(word) => Some(word.as_str()),
                        _ => None,
                    }));
                }
            }
            Kind::Word(name) => {
                let in_parentheses = open.last().is_some_and(|open| is(*open, '('));
                let before = at.checked_sub(1);
                let before_is = |sign: char| before.is_some_and(|before| is(before, sign));
                // String host, List<String> pins; "a" to PIN is none.
                let is_typed = before_is('>')
                    || before_is(']')
                    || before
                        .and_then(word)
                        .is_some_and(|word| !matches!(word, "to" | "in" | "is" | "as"));
                let is_parameter = is(at + 1, ':')
                    || word(at + 1) == Some("in")
                    || is_typed && (is(at + 1, ',') || is(at + 1, ')'));
                let is_of_lambda = is_arrow(at + 1) && (before_is('{') || before_is(','));
                if in_parentheses && is_parameter || is_of_lambda {
                    names.insert(name.as_str());
                }
            }
            _ => {}
        }
    }
    names
}

/// The name in front of an equals sign, whose type may stand between.
pub(super) fn assigned(tokens: &[Token], equals: usize) -> Option<&str> {
    let word = |at: usize| match &tokens.get(at)?.kind {
        Kind::Word(word) => Some(word.as_str()),
        _ => None,
    };
    // val NAME: Map<String, List<String>> = ...
    let start = equals.saturating_sub(24);
    let typed = (start..equals).rev().find(|at| super::is(tokens.get(*at), ':'));
    let is_typed = |colon: &usize| *colon > 0 && is_type(&tokens[colon + 1..equals]);
    if let Some(colon) = typed.filter(is_typed) {
        return word(colon - 1).filter(|_| is_declared(tokens, colon - 1));
    }
    // Java: String[] NAME = ..., String NAME[] = ...
    let mut at = equals - 1;
    while at > 0 && (super::is(tokens.get(at), ']') || super::is(tokens.get(at), '[')) {
        at -= 1;
    }
    word(at).filter(|_| is_declared(tokens, at))
}

/// Whether the name at `at` is one of its own: no argument by its name, and no member of something else.
fn is_declared(tokens: &[Token], at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else { return true };
    match &tokens[before].kind {
        Kind::Sign('(' | ',') => false,
        Kind::Sign('.') => before
            .checked_sub(1)
            .is_some_and(|of| matches!(&tokens[of].kind, Kind::Word(word) if word == "this")),
        _ => true,
    }
}

/// Whether something is done with the value in front of `at`: another is put to it, or a member is called
/// that gives something else.
pub(super) fn goes_on(tokens: &[Token], at: usize) -> bool {
    let Some(next) = tokens.get(at) else { return false };
    match &next.kind {
        Kind::Sign('.') => match tokens.get(at + 1).map(|token| &token.kind) {
            Some(Kind::Word(word)) if is_same(word) => {
                // Its parentheses, and what is behind them.
                super::is(tokens.get(at + 2), '(') && goes_on(tokens, at + 4)
            }
            _ => true,
        },
        Kind::Sign('+' | '?' | '-') => true,
        // An infix function: "a" to "b".
        Kind::Word(_) => at.checked_sub(1).is_some_and(|before| tokens[before].line == next.line),
        _ => false,
    }
}

/// The texts of a literal, or of a list of them.
pub(super) fn value(tokens: &[Token], constants: &HashMap<String, Option<Texts>>) -> Option<Texts> {
    const LISTS: [&str; 9] = [
        "arrayOf",
        "listOf",
        "setOf",
        "arrayListOf",
        "mutableListOf",
        "asList",
        "of",
        "String",
        "List",
    ];
    // As far as the list: new String[] {, Arrays.asList(, listOf(.
    let lead = tokens.iter().take(12).take_while(|token| match &token.kind {
        Kind::Word(word) => {
            LISTS.contains(&word.as_str()) || ["new", "Arrays", "Set"].contains(&word.as_str())
        }
        Kind::Sign('.' | '[' | ']' | '<' | '>') => true,
        _ => false,
    });
    let lead = lead.count();
    let opens = matches!(tokens.get(lead), Some(Token { kind: Kind::Sign('(' | '{'), .. }));
    if opens && (lead > 0 || super::is(tokens.first(), '{')) {
        let close = closing(tokens, lead)?;
        if goes_on(tokens, close + 1) {
            return None;
        }
        let mut all = Vec::new();
        for argument in arguments(tokens.get(lead + 1..close)?) {
            all.extend(texts(argument, constants).ok()?);
        }
        return Some(all).filter(|all| (1..=MAX_LIST).contains(&all.len()));
    }
    // A literal, with what is joined to it.
    let mut end = 1;
    while super::is(tokens.get(end), '+') {
        end += 2;
    }
    matches!(tokens.first()?.kind, Kind::Text(_) | Kind::Template(_)).then_some(())?;
    if goes_on(tokens, end) {
        return None;
    }
    texts(tokens.get(..end)?, constants).ok()
}
