//! Resolves loops over names of the same file: `PINS.forEach { (host, pins) -> ... }`,
//! `for (host in HOSTS)`. Also reads maps from hosts to pins.

use std::collections::{HashMap, HashSet};

use super::lexer::{Kind, Token, is, word};
use super::values::{
    MAX_CALL, MAX_LIST, Texts, arguments, assigned, closing, goes_on, texts, value,
};

/// A loop.
#[derive(Clone, Debug)]
pub(super) struct Loop {
    /// The position of the keyword.
    pub(super) at: usize,
    /// The positions of the tokens that are repeated.
    pub(super) body: std::ops::Range<usize>,
    /// The name of the list or map.
    pub(super) over: String,
    /// The names of the loop variables: one value, or a key and a value.
    pub(super) names: Vec<String>,
}

/// The entries of a map: key and value.
pub(super) type Map = Vec<(Texts, Texts)>;

/// The loops of a source.
pub(super) fn loops(tokens: &[Token]) -> Vec<Loop> {
    let mut loops = Vec::new();
    for at in 0..tokens.len() {
        let found = match word(tokens, at) {
            Some("forEach") => for_each(tokens, at),
            Some("for") => for_in(tokens, at),
            _ => None,
        };
        loops.extend(found);
    }
    loops
}

/// `NAME.forEach { a -> ... }`, `NAME.forEach((a, b) -> ...)`, `NAME.entries.forEach { ... }`.
fn for_each(tokens: &[Token], at: usize) -> Option<Loop> {
    let mut before = at.checked_sub(1).filter(|dot| is(tokens.get(*dot), '.'))?;
    loop {
        let mut end = before.checked_sub(1)?;
        if is(tokens.get(end), ')') {
            end = end.checked_sub(2)?;
        }
        match word(tokens, end)? {
            "entries" | "entrySet" | "values" => before = end.checked_sub(1)?,
            name => {
                let over = name.to_owned();
                let open = at + 1;
                let close = closing(tokens, open)?;
                let names = parameters(tokens.get(open + 1..close)?);
                return Some(Loop { at, body: open..close, over, names });
            }
        }
    }
}

/// The names before an arrow; `it` if there is no arrow.
fn parameters(body: &[Token]) -> Vec<String> {
    let mut names = Vec::new();
    for (at, token) in body.iter().enumerate().take(12) {
        match &token.kind {
            Kind::Sign('-') if is(body.get(at + 1), '>') && !names.is_empty() => return names,
            Kind::Word(word) => names.push(word.clone()),
            Kind::Sign('(' | ')' | ',') => {}
            _ => break,
        }
    }
    vec!["it".to_owned()]
}

/// `for (a in NAME)`, `for ((a, b) in NAME)`, `for (String a : NAME)`.
fn for_in(tokens: &[Token], at: usize) -> Option<Loop> {
    let close = closing(tokens, at + 1)?;
    let head = tokens.get(at + 2..close)?;
    let parts = head.iter().position(|token| {
        matches!(&token.kind, Kind::Word(word) if word == "in") || token.kind == Kind::Sign(':')
    })?;
    let (before, behind) = head.split_at(parts);
    let words = |tokens: &[Token]| -> Vec<String> {
        let words = tokens.iter().filter_map(|token| match &token.kind {
            Kind::Word(word) => Some(word.clone()),
            _ => None,
        });
        words.collect()
    };
    let mut names = words(before);
    if is(behind.first(), ':') {
        // In Java's syntax, types precede the name.
        names = names.pop().into_iter().collect();
    }
    // Only a name, or a member with calls that have no arguments, can be resolved.
    let is_plain = behind.iter().skip(1).enumerate().all(|(at, token)| match token.kind {
        Kind::Word(_) | Kind::Sign('.' | ')') => true,
        Kind::Sign('(') => is(behind.get(at + 2), ')'),
        _ => false,
    });
    if !is_plain {
        return None;
    }
    let mut over = words(behind);
    over.retain(|word| !matches!(word.as_str(), "in" | "entries" | "entrySet" | "values" | "this"));
    let over = over.pop()?;
    let end = match is(tokens.get(close + 1), '{') {
        true => closing(tokens, close + 1)?,
        // The loop has one statement without braces. Tokens after the statement do not use the loop
        // variable.
        false => (close + MAX_CALL / 10).min(tokens.len()),
    };
    Some(Loop { at, body: close..end, over, names })
}

/// The maps of a source, by their names; `None` for a map that contains anything but literals, or that is
/// defined twice.
pub(super) fn maps(
    tokens: &[Token],
    constants: &HashMap<String, Option<Texts>>,
) -> HashMap<String, Option<Map>> {
    let mut maps: HashMap<String, Option<Map>> = HashMap::new();
    for at in 1..tokens.len() {
        if !is(tokens.get(at), '=') {
            continue;
        }
        if let (Some(name), Some(open)) = (assigned(tokens, at), opens_map(tokens, at + 1)) {
            let map = literal(tokens, open, constants);
            let known = maps.contains_key(name);
            maps.insert(name.to_owned(), map.filter(|_| !known));
        }
    }
    for at in 2..tokens.len() {
        if word(tokens, at) != Some("put") || !is(tokens.get(at - 1), '.') {
            continue;
        }
        if let (Some(name), Some(close)) = (word(tokens, at - 2), closing(tokens, at + 1)) {
            let inside = arguments(tokens.get(at + 2..close).unwrap_or_default());
            let entry = match inside[..] {
                [key, of] => pair(key, of, constants),
                _ => None,
            };
            let map = maps.entry(name.to_owned()).or_insert_with(|| Some(Vec::new()));
            *map = map.take().zip(entry).map(|(mut map, entry)| {
                map.push(entry);
                map
            });
        }
    }
    for map in maps.values_mut() {
        // If a key occurs twice, it is not known which value counts.
        let is_fine = |map: &Map| {
            let keys: HashSet<&str> = map.iter().map(|(key, _)| key[0].1.as_str()).collect();
            keys.len() == map.len() && (1..=MAX_LIST).contains(&map.len())
        };
        *map = map.take().filter(is_fine);
    }
    maps
}

/// The position of the parenthesis before a map's entries, if a map begins at `at`.
fn opens_map(tokens: &[Token], at: usize) -> Option<usize> {
    const NAMES: [&str; 6] =
        ["mapOf", "hashMapOf", "mutableMapOf", "linkedMapOf", "sortedMapOf", "Map"];
    let is_map = word(tokens, at).is_some_and(|name| {
        NAMES.contains(&name) || name == "ImmutableMap" || name == "linkedMapOf"
    });
    if !is_map {
        return None;
    }
    let lead = tokens[at + 1..].iter().take(16).take_while(|token| match &token.kind {
        Kind::Word(_) => true,
        Kind::Sign(sign) => "<>,.[]".contains(*sign),
        _ => false,
    });
    let open = at + 1 + lead.count();
    is(tokens.get(open), '(').then_some(open)
}

fn literal(
    tokens: &[Token],
    open: usize,
    constants: &HashMap<String, Option<Texts>>,
) -> Option<Map> {
    let close = closing(tokens, open)?;
    if goes_on(tokens, close + 1) {
        return None;
    }
    let inside = arguments(tokens.get(open + 1..close)?);
    let is_to = |token: &Token| matches!(&token.kind, Kind::Word(word) if word == "to");
    if inside.first().is_some_and(|first| !first.iter().any(is_to)) {
        // The syntax Map.of(key, value, key, value).
        let pairs = inside.chunks(2).map(|chunk| match chunk {
            [key, of] => pair(key, of, constants),
            _ => None,
        });
        return pairs.collect();
    }
    let pairs = inside.into_iter().map(|entry| {
        let to = entry.iter().position(is_to)?;
        pair(&entry[..to], &entry[to + 1..], constants)
    });
    pairs.collect()
}

fn pair(
    key: &[Token],
    of: &[Token],
    constants: &HashMap<String, Option<Texts>>,
) -> Option<(Texts, Texts)> {
    let key = texts(key, constants).ok().filter(|key| key.len() == 1)?;
    let of = texts(of, constants).ok().or_else(|| value(of, constants))?;
    Some((key, of))
}
