//! Finds the pinners in source text: which `add` belongs to which builder and to which branch, with names
//! of the same file resolved.

use std::collections::{HashMap, HashSet};

use super::lexer::{self, Kind, Token, is};
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
    /// The position of the token that makes the builder.
    builder: Option<usize>,
    /// The blocks around the call: the position of each opening brace, and the number of `switch` cases
    /// before the block.
    blocks: Vec<(usize, usize)>,
    /// The number of `switch` cases before the call.
    branch: usize,
    /// The position among the tokens.
    at: usize,
    /// Whether `return` or `throw` leaves the innermost block.
    leaves: bool,
    /// The arguments with the lines of their literals. The first argument is the pattern.
    pub(super) texts: Vec<(usize, String)>,
}

/// How deep blocks may be nested.
const MAX_BLOCKS: usize = 256;

/// The most calls that are examined for all paths through a source.
const MAX_STEPS: usize = 50_000_000;

/// A path through a source: the builder, the nested blocks, and the case in the innermost block.
type Way = (Option<usize>, Vec<(usize, usize)>, usize);

/// The pinners of a source: the calls for each builder and each path through the branches.
///
/// # Errors
/// The text does not determine the value of an argument.
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
    // Each path may examine all calls.
    if ways.len().saturating_mul(adds.len()) > MAX_STEPS {
        return Err(Problem::TooManySets.at(adds.first().map_or(1, |add| add.line)));
    }
    let pinners = ways.into_iter().map(|(builder, blocks, branch)| {
        let is_own = |add: &&Add| add.blocks == blocks && add.branch == branch;
        let own = adds.iter().filter(|add| add.builder == builder).filter(is_own);
        // After a `return` no more pins are added.
        let last = own.filter(|add| add.leaves).map(|add| add.at).max();
        let made = adds.iter().filter(|add| {
            add.builder == builder
                && blocks.starts_with(&add.blocks)
                // In an outer block, only the case that contains the inner block counts.
                && add.branch == blocks.get(add.blocks.len()).map_or(branch, |(_, case)| *case)
                && last.is_none_or(|last| add.at <= last)
        });
        made.cloned().collect()
    });
    Ok(pinners.collect())
}

/// The builders of pinners that were found so far.
#[derive(Default)]
struct Builders {
    /// Builders by the names of their variables.
    variables: HashMap<String, usize>,
    /// Builders by the position of the parenthesis after which another call of the builder may follow.
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
        // The ends of statements without braces after `if (...)`, which count as blocks.
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
                // An arrow begins a branch of Kotlin's `when`; anywhere else it belongs to a lambda.
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

    /// The first token of the statement that belongs to the `if`, `for`, `while` or `else` at `at`.
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

    /// The end of the statement that begins at `begin`; `None` if the statement has braces.
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
                // In Kotlin a statement ends with its line, unless an operator continues it.
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
        lexer::word(self.tokens, at)
    }

    fn is_builder(&self, at: usize) -> bool {
        self.is(at + 1, '.') && self.word(at + 2) == Some("Builder")
    }

    /// Notes a new builder, or a variable of the builder's type.
    fn builder(&mut self, at: usize) {
        if self.is(at + 3, '(') {
            self.builders.last = Some(at);
            if let Some(close) = closing(self.tokens, at + 3) {
                self.builders.chains.insert(close, at);
            }
            // Assignments: NAME = new X.Builder(), also with a type: NAME: X.Builder = X.Builder().
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
        // Declarations: X.Builder NAME, and NAME: X.Builder.
        let name = match self.word(at + 3) {
            Some(name) => Some(name),
            None if at >= 2 && self.is(at - 1, ':') => self.word(at - 2),
            None => None,
        };
        if let Some(name) = name {
            self.builders.variables.insert(name.to_owned(), at);
        }
    }

    /// The builder on which the method at `at` is called, if it is known.
    fn receiver(&self, at: usize) -> Option<usize> {
        if at == 0 || !self.is(at - 1, '.') {
            // Without a receiver, the call is in the `apply { }` of the last builder.
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
        // Other classes have a method `add` too. A pinner's `add` has at least two arguments.
        if !of_pins && (builder.is_none() || arguments.len() < 2) {
            return Ok(Vec::new());
        }
        // Without a receiver, the method may belong to another object of the block.
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
                    // If the call adds a pin after all, the pin is reported as not read.
                    false if !is_certain => Ok(Vec::new()),
                    false => Err(Problem::unsupported(&shown, NOT_KNOWN).at(unknown)),
                }
            }
        }
    }

    /// The loops around a call, the outermost first. Only the nearest loops before the call are examined.
    fn around(&self, at: usize) -> Vec<Loop> {
        let begun = self.loops.partition_point(|one| one.at < at);
        let near = self.loops[begun.saturating_sub(MAX_LIST)..begun].iter();
        near.filter(|one| one.body.contains(&at)).cloned().collect()
    }

    /// Adds the arguments for each iteration of the loops, the outermost first. Gives false if a loop
    /// cannot be resolved.
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

    /// The strings of an argument with their lines; or the argument's text and line if it cannot be
    /// resolved.
    fn resolve(&self, tokens: &[Token]) -> Resolved {
        let tokens = match tokens {
            // Arguments can be named in Kotlin.
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

/// The loop variables for each entry of a map.
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

/// The blocks that contain a `return` or `throw` directly, by the position of their brace or of their `if`.
fn leaving(tokens: &[Token]) -> HashSet<usize> {
    let mut leaving = HashSet::new();
    let mut blocks = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match &token.kind {
            Kind::Sign('{') => blocks.push(at),
            Kind::Sign('}') => drop(blocks.pop()),
            Kind::Word(word) if word == "return" || word == "throw" => {
                leaving.extend(blocks.last().copied());
                // A statement without braces: if (...) return ...
                let is_if =
                    |at: &usize| matches!(&tokens[*at].kind, Kind::Word(word) if word == "if");
                leaving.extend(before_condition(tokens, at).filter(is_if));
            }
            _ => {}
        }
    }
    leaving
}

/// The position of the `if` or similar keyword whose condition ends before `at`.
fn before_condition(tokens: &[Token], at: usize) -> Option<usize> {
    /// The longest condition, in tokens.
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

/// The names of the class `CertificatePinner`: its own, and an import alias.
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
