//! Resolves the names of a source: literals, lists of literals, and concatenations of them.

use std::collections::{HashMap, HashSet};

use super::lexer::{Kind, Token, is, word};

/// The most tokens of a call or a statement.
pub(super) const MAX_CALL: usize = 2_000;

/// The longest concatenated text. A host or a pin is shorter.
const MAX_LITERAL: usize = 1_024;

/// The most strings in a list that has a name.
pub(super) const MAX_LIST: usize = 256;

/// The note about an argument whose value is not in the text.
pub(super) const NOT_KNOWN: &str = "what it stands for is not in this text as a literal; import the host and its \
    pins as a line \"HOST sha256/...\"";

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

/// The arguments in the parentheses of a call. A trailing comma adds no argument.
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

/// The strings of an expression; or its text and its line if it cannot be resolved.
pub(super) type Resolved = Result<Texts, (usize, String)>;

/// Resolves an expression: literals, names of the same file, concatenations with `+`, and the entries of a
/// spread list.
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
            // A name or a member: PINS, Config.PINS, PINS.toTypedArray().
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
                // Only a member of an object has a name of several words.
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
                // The line of the pin's digits counts.
                vec![(found[0].0, format!("{}{}", before[0].1, found[0].1))]
            }
            Some(_) => return Err(unknown(first)),
        });
    }
    Ok(joined.unwrap_or_default())
}

/// The strings of a name. A member of an object is known if a loop has given the object its name. Of a
/// member of a class, which begins with a capital letter, the last name counts.
fn known<'c>(path: &[&str], constants: &'c HashMap<String, Option<Texts>>) -> Option<&'c Texts> {
    let (name, of) = path.split_last()?;
    if let Some(known) = constants.get(&path.join(".")).filter(|_| !of.is_empty()) {
        return known.as_ref();
    }
    let is_class = |name: &&str| *name == "this" || name.starts_with(char::is_uppercase);
    constants.get(*name)?.as_ref().filter(|_| of.iter().all(is_class))
}

/// Separates an index (`[0]`, `.get(0)`, `.first()`) from the name before it.
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

/// Whether a method returns the same strings as the list on which it is called.
fn is_same(word: &str) -> bool {
    matches!(word, "toTypedArray" | "toArray" | "trim" | "toList")
}

/// Replaces the names in a template. Gives the line of the last one, and the text.
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

/// The names with a value in the whole file: a literal or a list of literals. `None` for a name with
/// different values.
pub(super) fn constants(tokens: &[Token]) -> HashMap<String, Option<Texts>> {
    let mut constants: HashMap<String, Option<Texts>> = HashMap::new();
    // The second pass resolves names whose values contain other names.
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

/// Whether tokens form a type, and not the rest of a parameter list or another statement.
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

/// The names of parameters and of the variables of lambdas and loops. Their values differ from place to
/// place.
fn bound(tokens: &[Token]) -> HashSet<&str> {
    let word = |at: usize| word(tokens, at);
    let is = |at: usize, sign: char| super::lexer::is(tokens.get(at), sign);
    let is_arrow = |at: usize| is(at, '-') && is(at + 1, '>');
    let mut names = HashSet::new();
    let mut open: Vec<usize> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match &token.kind {
            Kind::Sign('(' | '[' | '{') => open.push(at),
            Kind::Sign(')' | ']' | '}') => {
                let begin = open.pop();
                // Parameters of a lambda: (host, pins) -> ...
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
                // Parameters with a type: String host, List<String> pins. In "a" to PIN, PIN is no
                // parameter.
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

/// The name before an equals sign, also if a type is between them.
pub(super) fn assigned(tokens: &[Token], equals: usize) -> Option<&str> {
    let word = |at: usize| word(tokens, at);
    // Kotlin: val NAME: Map<String, List<String>> = ...
    let start = equals.saturating_sub(24);
    let typed = (start..equals).rev().find(|at| is(tokens.get(*at), ':'));
    let is_typed = |colon: &usize| *colon > 0 && is_type(&tokens[colon + 1..equals]);
    if let Some(colon) = typed.filter(is_typed) {
        return word(colon - 1).filter(|_| is_declared(tokens, colon - 1));
    }
    // Java: String[] NAME = ..., String NAME[] = ...
    let mut at = equals - 1;
    while at > 0 && (is(tokens.get(at), ']') || is(tokens.get(at), '[')) {
        at -= 1;
    }
    word(at).filter(|_| is_declared(tokens, at))
}

/// Whether the name at `at` is declared here: it is neither a named argument nor a member of another
/// object.
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

/// Whether the expression continues at `at`, by concatenation or by a call of a member that changes the
/// value.
pub(super) fn goes_on(tokens: &[Token], at: usize) -> bool {
    let Some(next) = tokens.get(at) else { return false };
    match &next.kind {
        Kind::Sign('.') => match tokens.get(at + 1).map(|token| &token.kind) {
            Some(Kind::Word(word)) if is_same(word) => {
                // Continues after the parentheses of the call.
                is(tokens.get(at + 2), '(') && goes_on(tokens, at + 4)
            }
            _ => true,
        },
        Kind::Sign('+' | '?' | '-') => true,
        // An infix function of Kotlin: "a" to "b".
        Kind::Word(_) => at.checked_sub(1).is_some_and(|before| tokens[before].line == next.line),
        _ => false,
    }
}

/// The strings of a literal or of a list of literals.
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
    // Skips the beginning of a list: new String[] {, Arrays.asList(, listOf(.
    let lead = tokens.iter().take(12).take_while(|token| match &token.kind {
        Kind::Word(word) => {
            LISTS.contains(&word.as_str()) || ["new", "Arrays", "Set"].contains(&word.as_str())
        }
        Kind::Sign('.' | '[' | ']' | '<' | '>') => true,
        _ => false,
    });
    let lead = lead.count();
    let has_lead = lead > 0 || is(tokens.first(), '{');
    let open = tokens.get(lead).filter(|_| has_lead);
    if let Some(Token { kind: Kind::Sign('(' | '{'), .. }) = open {
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
    // A literal, with the literals that are concatenated to it.
    let mut end = 1;
    while is(tokens.get(end), '+') {
        end += 2;
    }
    matches!(tokens.first()?.kind, Kind::Text(_) | Kind::Template(_)).then_some(())?;
    if goes_on(tokens, end) {
        return None;
    }
    texts(tokens.get(..end)?, constants).ok()
}
