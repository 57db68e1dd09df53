//! HAProxy: the `bind` lines with `ssl`.

use std::path::Path;

use hpkp_core::finding::Location;
use hpkp_core::text::Excerpt;

use super::super::files::full_path;
use super::super::problem::{Read, invalid, unreadable};
use super::context::Context;
use super::entry::{Entry, port_of};
use super::line::{Line, lines};

/// The most certificates in a directory.
const MAX_CERTIFICATES: usize = 50_000;

/// The endings of files beside certificates.
const BESIDE: [&str; 4] = [".issuer", ".ocsp", ".sctl", ".key"];

pub(super) fn read(all: &[Line], context: &mut Context<'_>) -> Read<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut base = String::new();
    for line in all {
        let words = words(&line.text);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["crt-base", path, ..] => base = context.path(path),
            ["bind", addresses, parameters @ ..] if parameters.contains(&"ssl") => {
                if let Some(entry) = bind(addresses, parameters, &base, &line.at, context)? {
                    entries.push(entry);
                }
            }
            [".if" | ".elif" | "crt-store", ..] => {
                let what = Excerpt::new(words[0]);
                let text = format!("this command does not follow \"{what}\" of HAProxy");
                context.problems.not_understood(&line.at, text);
            }
            _ => {}
        }
    }
    Ok(entries)
}

fn bind(
    addresses: &str,
    parameters: &[&str],
    base: &str,
    at: &Location,
    context: &mut Context<'_>,
) -> Read<Option<Entry>> {
    let mut files = Vec::new();
    let mut next = parameters.iter();
    while let Some(parameter) = next.next() {
        match *parameter {
            "crt" => {
                let Some(path) = next.next() else {
                    return Err(invalid(at, "'crt' : missing certificate location".to_owned()));
                };
                files.extend(certificates(&located(path, base, context), at)?);
            }
            "crt-list" => {
                let Some(path) = next.next() else {
                    return Err(invalid(at, "'crt-list' : missing file".to_owned()));
                };
                files.extend(crt_list(&context.path(path), base, at, context)?);
            }
            _ => {}
        }
    }
    if files.is_empty() {
        let text = "this address has no certificate in the configuration, so it is not looked at";
        context.problems.not_understood(at, text.to_owned());
        return Ok(None);
    }
    let mut found = Vec::new();
    for address in addresses.split(',') {
        match port_of(address) {
            Some(port) => found.push((address.to_owned(), port)),
            None if address.starts_with(['/', '@']) || address.starts_with("unix@") => {
                found.push((address.to_owned(), 0));
            }
            None => {
                let text = format!("cannot read the port of \"{}\"", Excerpt::new(address));
                context.problems.not_understood(at, text);
            }
        }
    }
    Ok(Some(Entry { at: at.clone(), addresses: found, files }))
}

fn located(path: &str, base: &str, context: &Context<'_>) -> String {
    if base.is_empty() { context.path(path) } else { full_path(base, path) }
}

/// A file, or all files of a directory.
fn certificates(path: &str, at: &Location) -> Read<Vec<String>> {
    if !Path::new(path).is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let shown = Excerpt::new(path).to_string();
    let failed = |why: String| unreadable(at, format!("cannot read \"{shown}\": {why}"));
    let entries = std::fs::read_dir(path).map_err(|error| failed(crate::output::os(&error)))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed(crate::output::os(&error)))?.path();
        let Some(name) = entry.to_str().filter(|_| entry.is_file()) else { continue };
        let is_hidden = name.rsplit('/').next().is_some_and(|name| name.starts_with('.'));
        if !is_hidden && !BESIDE.iter().any(|end| name.ends_with(end)) {
            files.push(name.to_owned());
        }
        if files.len() > MAX_CERTIFICATES {
            return Err(failed(format!("more than {MAX_CERTIFICATES} certificates")));
        }
    }
    files.sort();
    Ok(files)
}

/// `FILE [OPTIONS] [NAME...]`, a line each.
fn crt_list(path: &str, base: &str, at: &Location, context: &mut Context<'_>) -> Read<Vec<String>> {
    let text = context.files.read(path).map_err(|unread| unread.finding(path, at))?;
    let mut files = Vec::new();
    for line in lines(path, &text) {
        let words = words(&line.text);
        if let Some(file) = words.first() {
            files.extend(certificates(&located(file, base, context), &line.at)?);
        }
    }
    Ok(files)
}

/// The words of a line; `#` begins a comment.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quote, mut is_open) = (None, false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => {
                word.extend(letters.next());
                is_open = true;
            }
            ('"' | '\'', None) => (quote, is_open) = (Some(letter), true),
            (letter, Some(open)) if letter == open => quote = None,
            ('#', None) => break,
            (letter, None) if letter.is_whitespace() => {
                if is_open {
                    words.push(std::mem::take(&mut word));
                    is_open = false;
                }
            }
            (letter, _) => {
                word.push(letter);
                is_open = true;
            }
        }
    }
    if is_open {
        words.push(word);
    }
    words
}
