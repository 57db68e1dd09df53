//! Replaces variables of make (`PIN := sha256//...`, then `$(PIN)`) as text, as make does.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::super::MAX_TEXT;

/// Replaces the variables in `text`, if there are any, and removes the definitions of used variables.
pub(super) fn expanded(text: &str) -> Cow<'_, str> {
    let lines: Vec<&str> = text.split('\n').collect();
    let mut values: HashMap<&str, Option<String>> = HashMap::new();
    for (name, value) in lines.iter().filter_map(|line| definition(line)) {
        let known = values.entry(name).or_insert_with(|| Some(value.to_owned()));
        if known.as_ref().is_some_and(|known| known != value) {
            *known = None;
        }
    }
    if values.is_empty() {
        return Cow::Borrowed(text);
    }
    // The value of a variable may contain others, which may contain others again.
    for _ in 0..3 {
        let before = values.clone();
        for value in values.values_mut().flatten() {
            *value = replaced(value, &before);
        }
    }
    let used: HashSet<&str> =
        text.match_indices('$').filter_map(|(at, _)| reference(&text[at..])).collect();
    let mut whole = String::with_capacity(text.len());
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            whole.push('\n');
        }
        let name = definition(line).map(|(name, _)| name);
        let is_used = name.is_some_and(|name| {
            values.get(name).is_some_and(Option::is_some) && used.contains(name)
        });
        if !is_used && whole.len() < 4 * MAX_TEXT {
            whole.push_str(&replaced(line, &values));
        } else if !is_used {
            whole.push_str(line);
        }
    }
    Cow::Owned(whole)
}

/// The name and the value of a variable definition, in a syntax that only make has: with blanks around the
/// sign, or with `:=` and the like.
fn definition(line: &str) -> Option<(&str, &str)> {
    let line =
        ["export ", "override "].iter().find_map(|word| line.strip_prefix(word)).unwrap_or(line);
    let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|end| *end > 0)?;
    let (name, rest) = line.split_at(end);
    let sign = rest.trim_start_matches([' ', '\t']);
    let value = [":=", "::=", "?=", "="].iter().find_map(|by| sign.strip_prefix(by))?;
    let is_of_make =
        !sign.starts_with('=') || sign.len() < rest.len() && value.starts_with([' ', '\t']);
    let value = value.split(" #").next().unwrap_or_default().trim();
    (is_of_make && !value.is_empty()).then_some((name, value))
}

/// The name of the variable to which `text` begins with a reference: `$(NAME)`, `${NAME}`.
fn reference(text: &str) -> Option<&str> {
    let (open, close) = match text.as_bytes().get(1)? {
        b'(' => ("$(", ')'),
        b'{' => ("${", '}'),
        _ => return None,
    };
    let inside = text.strip_prefix(open)?;
    let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    inside[end..].starts_with(close).then_some(&inside[..end])
}

/// The longest value that is inserted, in bytes.
const MAX_VALUE: usize = 4_096;

fn replaced(line: &str, values: &HashMap<&str, Option<String>>) -> String {
    let mut whole = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        whole.push_str(before);
        let name = reference(from);
        let value = name.and_then(|name| values.get(name)?.as_deref());
        match name.zip(value).filter(|(_, value)| value.len() <= MAX_VALUE) {
            Some((name, value)) => {
                whole.push_str(value);
                rest = &from[name.len() + 3..];
            }
            None => {
                whole.push('$');
                rest = &from[1..];
            }
        }
    }
    whole.push_str(rest);
    whole
}
