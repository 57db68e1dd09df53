//! Expands curl's URL patterns: `{a,b}` stands for each element, `[1-3]` and `[a-c]` for each member of the
//! range.

/// The most URLs of one pattern.
const MAX: usize = 1_024;

/// The URLs of a pattern, as far as their hosts differ; `None` if there are too many.
pub(super) fn expanded(url: &str) -> Option<Vec<String>> {
    let mut whole = vec![String::new()];
    let mut rest = url;
    while let Some(at) = rest.find(['{', '[']) {
        let (before, from) = rest.split_at(at);
        whole.iter_mut().for_each(|url| url.push_str(before));
        // Patterns after the host make no difference.
        let is_path =
            |url: &String| url.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        if whole.iter().all(is_path) {
            return Some(whole);
        }
        let parts = if from.starts_with('{') { set(from) } else { range(from)? };
        let (parts, length) = parts.unwrap_or_else(|| (vec![from[..1].to_owned()], 1));
        if whole.len().saturating_mul(parts.len()) > MAX {
            return None;
        }
        whole = parts
            .iter()
            .flat_map(|part| whole.iter().map(move |url| format!("{url}{part}")))
            .collect();
        rest = &from[length..];
    }
    whole.iter_mut().for_each(|url| url.push_str(rest));
    Some(whole)
}

/// The alternatives of a pattern, and its length in bytes.
type Parts = Option<(Vec<String>, usize)>;

fn set(text: &str) -> Parts {
    // Without a comma the braces belong to a variable: ${NAME}.
    let (inside, _) = text[1..].split_once('}')?;
    inside.contains(',').then(|| (inside.split(',').map(str::to_owned).collect(), inside.len() + 2))
}

/// A range of numbers or letters. The outer `Option` is `None` if the range is too large.
fn range(text: &str) -> Option<Parts> {
    let parse = || {
        let (inside, _) = text[1..].split_once(']')?;
        let (bounds, step) = inside.split_once(':').unwrap_or((inside, "1"));
        let (first, last) = bounds.split_once('-')?;
        let step: usize = step.parse().ok().filter(|step| *step > 0)?;
        let numbers = |text: &str| -> Option<u32> {
            let mut letters = text.chars();
            match (letters.next(), letters.next()) {
                (Some(c), None) if c.is_ascii_alphabetic() => Some(u32::from(c)),
                _ => text.parse().ok(),
            }
        };
        let bounds = numbers(first)?..=numbers(last)?;
        Some((bounds, step, first, inside.len() + 2))
    };
    let Some((bounds, step, first, length)) = parse() else { return Some(None) };
    if bounds.clone().step_by(step).take(MAX + 1).count() > MAX {
        return None;
    }
    let is_letter = first.starts_with(|c: char| c.is_ascii_alphabetic());
    let width = first.len();
    let parts = bounds.step_by(step).map(|number| match char::from_u32(number) {
        Some(c) if is_letter => c.to_string(),
        _ => format!("{number:0width$}"),
    });
    Some(Some((parts.collect(), length)))
}
