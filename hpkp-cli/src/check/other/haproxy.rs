//! Reads HAProxy's configuration: the `bind` lines with `ssl`.

use std::collections::HashMap;
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

/// The extensions of files that are no certificates and lie beside them.
const BESIDE: [&str; 4] = [".issuer", ".ocsp", ".sctl", ".key"];

pub(super) fn read(all: &[Line], context: &mut Context<'_>) -> Read<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut base = String::new();
    let mut sections = Sections::default();
    for line in all {
        let words = words(&line.text);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [keyword, rest @ ..] if SECTIONS.contains(keyword) => {
                sections.begin(keyword, rest, &mut entries);
            }
            ["mode", mode, ..] => sections.is_http = *mode == "http",
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
    sections.end(&mut entries);
    Ok(entries)
}

/// The keywords that begin a section.
const SECTIONS: [&str; 14] = [
    "global",
    "defaults",
    "frontend",
    "listen",
    "backend",
    "peers",
    "resolvers",
    "mailers",
    "userlist",
    "cache",
    "program",
    "ring",
    "http-errors",
    "fcgi-app",
];

/// The mode of the sections. `mode` may follow the `bind` lines of its section, so the mode is known only
/// at the end of the section.
#[derive(Default)]
struct Sections {
    /// Whether the current section has the mode HTTP. HAProxy's default is TCP.
    is_http: bool,
    /// The name of the current section if it is a `defaults` section.
    defaults: Option<String>,
    /// Whether the last `defaults` section had the mode HTTP.
    last: bool,
    /// Whether each named `defaults` section had the mode HTTP.
    named: HashMap<String, bool>,
    /// The number of addresses before the current section.
    before: usize,
}

impl Sections {
    /// `frontend NAME`, `defaults`, `frontend NAME from DEFAULTS`.
    fn begin(&mut self, keyword: &str, words: &[&str], entries: &mut [Entry]) {
        self.end(entries);
        let from = words.iter().position(|word| *word == "from");
        let from = from.and_then(|at| words.get(at + 1)).and_then(|name| self.named.get(*name));
        let is_defaults = keyword == "defaults";
        let inherited = if is_defaults { false } else { self.last };
        self.is_http = from.copied().unwrap_or(inherited);
        self.defaults = is_defaults.then(|| (*words.first().unwrap_or(&"")).to_owned());
    }

    fn end(&mut self, entries: &mut [Entry]) {
        for entry in &mut entries[self.before..] {
            entry.is_http = self.is_http;
        }
        self.before = entries.len();
        if let Some(name) = self.defaults.take() {
            self.last = self.is_http;
            self.named.insert(name, self.is_http);
        }
    }
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
    Ok(Some(Entry { at: at.clone(), addresses: found, files, is_http: false }))
}

fn located(path: &str, base: &str, context: &Context<'_>) -> String {
    if base.is_empty() { context.path(path) } else { full_path(base, path) }
}

/// One file, or all files in a directory.
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

/// Reads a crt-list; each line is `FILE [OPTIONS] [NAME...]`.
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
