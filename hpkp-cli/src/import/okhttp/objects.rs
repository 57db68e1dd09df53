//! Reads objects that contain hosts and pins: the entries of an enum, and lists of instances of a class.

use std::collections::HashMap;

use super::lexer::{Kind, Token, is, word};
use super::values::{Texts, arguments, assigned, closing, texts, value};

/// The members of an object: the name of each, or of its getter, and its strings.
pub(super) type Object = Vec<(String, Texts)>;

/// The members of a class, in the order of the constructor's parameters. `is_open` says whether the last
/// parameter takes all further arguments.
#[derive(Clone, Debug)]
struct Members {
    names: Vec<String>,
    is_open: bool,
}

/// The objects of a source, by the name of their enum or list; `None` for a name that is defined twice.
pub(super) fn objects(
    tokens: &[Token],
    constants: &HashMap<String, Option<Texts>>,
) -> HashMap<String, Option<Vec<Object>>> {
    let mut classes: HashMap<String, Members> = HashMap::new();
    let mut all: HashMap<String, Option<Vec<Object>>> = HashMap::new();
    for at in 0..tokens.len() {
        let Some(name) = class(tokens, at) else { continue };
        let open = at + 2;
        let (members, body) = match is(tokens.get(open), '(') {
            true => (members(tokens, open), closing(tokens, open).map(|close| close + 1)),
            false => (constructor(tokens, open, name), Some(open)),
        };
        let Some(members) = members else { continue };
        let is_enum = word(tokens, at) == Some("enum")
            || at.checked_sub(1).is_some_and(|before| word(tokens, before) == Some("enum"));
        if let Some(body) = body.filter(|_| is_enum) {
            let entries = entries(tokens, body, &members, constants);
            put(&mut all, name, entries);
        }
        classes.insert(name.to_owned(), members);
    }
    for at in 1..tokens.len() {
        let Some(name) = assigned(tokens, at).filter(|_| is(tokens.get(at), '=')) else { continue };
        if let Some(list) = list(tokens, at + 1, &classes, constants) {
            put(&mut all, name, Some(list));
        }
    }
    all
}

fn put(all: &mut HashMap<String, Option<Vec<Object>>>, name: &str, of: Option<Vec<Object>>) {
    let known = all.contains_key(name);
    all.insert(name.to_owned(), of.filter(|of| !known && !of.is_empty()));
}

/// The name of a class that begins at `at`: Kotlin's `class NAME`, Java's `enum NAME` and `record NAME`.
fn class(tokens: &[Token], at: usize) -> Option<&str> {
    match word(tokens, at)? {
        "class" | "enum" | "record" => word(tokens, at + 1).filter(|name| *name != "class"),
        _ => None,
    }
}

/// The members that the parameters in the parentheses at `open` define.
fn members(tokens: &[Token], open: usize) -> Option<Members> {
    let close = closing(tokens, open)?;
    let (mut names, mut is_open) = (Vec::new(), false);
    for parameter in arguments(tokens.get(open + 1..close)?) {
        let colon = parameter.iter().position(|token| token.kind == Kind::Sign(':'));
        // Parameters in Kotlin: val NAME: String; in Java: String NAME, String... NAMES.
        let name = word(parameter, colon.unwrap_or(parameter.len()).checked_sub(1)?)?;
        is_open = word(parameter, 0) == Some("vararg")
            || parameter.iter().any(|token| token.kind == Kind::Sign('.'));
        names.push(name.to_owned());
    }
    Some(Members { names, is_open })
}

/// The members of a Java class, from the parameters of its constructor.
fn constructor(tokens: &[Token], open: usize, name: &str) -> Option<Members> {
    let close = closing(tokens, open)?;
    let at = (open..close).find(|at| {
        word(tokens, *at) == Some(name)
            && is(tokens.get(at + 1), '(')
            && closing(tokens, at + 1).is_some_and(|close| is(tokens.get(close + 1), '{'))
    })?;
    members(tokens, at + 1)
}

/// The entries of an enum whose body begins at `open`; `None` if an entry has a body of its own.
fn entries(
    tokens: &[Token],
    open: usize,
    members: &Members,
    constants: &HashMap<String, Option<Texts>>,
) -> Option<Vec<Object>> {
    let mut entries = Vec::new();
    let mut at = open + 1;
    while word(tokens, at).is_some() && is(tokens.get(at + 1), '(') {
        entries.push(object(tokens, at + 1, members, constants)?);
        at = closing(tokens, at + 1)? + 1;
        match &tokens.get(at)?.kind {
            Kind::Sign(',') => at += 1,
            Kind::Sign(';' | '}') => return Some(entries),
            _ => return None,
        }
    }
    matches!(tokens.get(at)?.kind, Kind::Sign(';' | '}')).then_some(entries)
}

/// A list of instances: `listOf(NAME(...), NAME(...))`, `List.of(new NAME(...))`.
fn list(
    tokens: &[Token],
    at: usize,
    classes: &HashMap<String, Members>,
    constants: &HashMap<String, Option<Texts>>,
) -> Option<Vec<Object>> {
    let is_lead = |token: &&Token| {
        matches!(&token.kind, Kind::Word(word) if !classes.contains_key(word.as_str()))
            || matches!(token.kind, Kind::Sign('.' | '<' | '>' | '[' | ']'))
    };
    let lead = tokens.get(at..)?.iter().take(12).take_while(is_lead).count();
    let open = at + lead;
    if !matches!(tokens.get(open)?.kind, Kind::Sign('(' | '{')) {
        return None;
    }
    let close = closing(tokens, open)?;
    let objects = arguments(tokens.get(open + 1..close)?).into_iter().map(|instance| {
        let name = usize::from(word(instance, 0) == Some("new"));
        let members = classes.get(word(instance, name)?)?;
        // No member is called on the instance.
        let is_whole = closing(instance, name + 1)? + 1 == instance.len();
        object(instance, name + 1, members, constants).filter(|_| is_whole)
    });
    objects.collect()
}

/// The members of an object, from the arguments in the parentheses at `open`. Members that are not strings
/// are omitted.
fn object(
    tokens: &[Token],
    open: usize,
    members: &Members,
    constants: &HashMap<String, Option<Texts>>,
) -> Option<Object> {
    let close = closing(tokens, open)?;
    let mut object: Object = Vec::new();
    for (place, argument) in arguments(tokens.get(open + 1..close)?).into_iter().enumerate() {
        let (name, argument) = match argument {
            [
                Token { kind: Kind::Word(name), .. },
                Token { kind: Kind::Sign('='), .. },
                of @ ..,
            ] => (name, of),
            of => match members.names.get(place) {
                Some(name) => (name, of),
                None => (members.names.last().filter(|_| members.is_open)?, of),
            },
        };
        let found = texts(argument, constants).ok().or_else(|| value(argument, constants));
        let Some(found) = found else { continue };
        match object.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => known.extend(found),
            None => object.push((name.clone(), found)),
        }
    }
    let getters = object.iter().filter_map(|(name, texts)| {
        let mut letters = name.chars();
        let first = letters.next()?.to_ascii_uppercase();
        Some((format!("get{first}{}", letters.as_str()), texts.clone()))
    });
    let getters: Vec<_> = getters.collect();
    object.extend(getters);
    Some(object)
}
