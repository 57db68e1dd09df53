//! Checks links between documents: the file and the heading must exist.

use std::fs;
use std::path::Path;

/// The links of a document that lead nowhere.
pub fn broken(root: &Path, document: &Path) -> Vec<String> {
    let path = root.join(document);
    let text = fs::read_to_string(&path).unwrap();
    let mut broken = Vec::new();
    for (line, target) in targets(&text) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let there = match file {
            "" => path.clone(),
            file => path.parent().unwrap_or(root).join(file),
        };
        let fault = if !there.exists() {
            "there is no such file"
        } else if !anchor.is_empty() && !has_anchor(&there, anchor) {
            "there is no such heading"
        } else {
            continue;
        };
        broken.push(format!("{}:{line}: {target}: {fault}", document.display()));
    }
    broken
}

/// The lines outside code blocks, each with its number.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().zip(1..).filter_map(move |(line, number)| {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            return None;
        }
        (!in_code).then_some((number, line))
    })
}

/// The targets of `[text](target)` and `[text]: target`; a text may go over the end of a line.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        for (at, _) in line.match_indices("](") {
            let rest = line.get(at + 2..).unwrap_or_default();
            if let Some((target, _)) = rest.split_once(')') {
                found.push((number, target.to_owned()));
            }
        }
        let target = line.split_once("]: ").filter(|_| line.starts_with('['));
        if let Some((_, target)) = target {
            found.push((number, target.trim().to_owned()));
        }
    }
    found
}

/// Whether a heading of a document has this anchor, as GitHub forms it.
fn has_anchor(path: &Path, anchor: &str) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut earlier: Vec<String> = Vec::new();
    for (_, line) in prose(&text) {
        let Some(heading) = line.strip_prefix('#').map(|rest| rest.trim_start_matches('#')) else {
            continue;
        };
        let Some(heading) = heading.strip_prefix(' ') else { continue };
        let plain: String = heading
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let times = earlier.iter().filter(|other| **other == plain).count();
        earlier.push(plain.clone());
        let id = if times == 0 { plain } else { format!("{plain}-{times}") };
        if id == anchor {
            return true;
        }
    }
    false
}
