//! Reads an nginx configuration: a file with the files that it includes, or the output of `nginx -T`.

mod block;
mod http;
mod known;
mod lexer;
mod listen;
mod modules;
mod names;
mod outside;
mod ssl;
mod tree;

use std::collections::BTreeMap;
use std::path::PathBuf;

use hpkp_core::finding::{Check, Location};
use hpkp_core::text::Excerpt;
use hpkp_server::kept::Replacement;
use hpkp_server::loader::Loader;
use hpkp_server::nginx::{Built, Configuration, Outside};

use super::checked::Checked;
use super::configuration::Text;
use super::files::{Files, Source};
use super::options::Options;
use super::presented::of_files;
use super::problem::{Problems, Read, invalid};
use block::no_block;
use http::{Handle, Http};
use modules::Unseen;
use tree::{Directive, Reader};

/// The line before each file in the output of `nginx -T`.
const MARK: &str = "# configuration file ";

/// Whether a text is the output of `nginx -T`.
pub(super) fn is_dump(text: &[u8]) -> bool {
    text.split(|byte| *byte == b'\n').any(|line| marked(line).is_some())
}

/// The name of the file that begins after this line.
fn marked(line: &[u8]) -> Option<&str> {
    std::str::from_utf8(line).ok()?.trim_end().strip_prefix(MARK)?.strip_suffix(':')
}

/// The files of a dump by their names; the first is the main one.
fn parts(text: &[u8]) -> (Option<String>, BTreeMap<String, Vec<u8>>) {
    let (mut first, mut files) = (None, BTreeMap::<String, Vec<u8>>::new());
    let mut open: Option<String> = None;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if let Some(name) = marked(line) {
            first.get_or_insert_with(|| name.to_owned());
            files.insert(name.to_owned(), Vec::new());
            open = Some(name.to_owned());
        } else if let Some(file) = open.as_ref().and_then(|name| files.get_mut(name)) {
            file.extend(line);
        }
    }
    (first, files)
}

/// Reads and checks.
pub(super) fn check(text: &Text, options: &Options, loader: &mut Loader<'_>) -> Read<Checked> {
    let mut problems = Problems::default();
    let (directory, directives) = read(text, options)?;
    let mut http: Option<Http> = None;
    let mut outside = Outside::default();
    let mut unseen = Unseen::default();
    if is_part(&directives) {
        problems.known();
        http.insert(Http::default()).read(&directives, &directory, &mut problems)?;
    }
    let rest = if http.is_some() { &[][..] } else { &directives };
    for directive in rest {
        match directive.name() {
            "http" => {
                let block = directive.block.as_ref().ok_or_else(|| no_block(directive))?;
                if http.is_some() {
                    let text = "\"http\" directive is duplicate".to_owned();
                    return Err(invalid(&directive.at, text));
                }
                problems.known();
                http.insert(Http::default()).read(block, &directory, &mut problems)?;
            }
            kind @ ("stream" | "mail") => {
                let block = directive.block.as_ref().ok_or_else(|| no_block(directive))?;
                let kind = if kind == "mail" { "mail" } else { "stream" };
                outside::read(kind, block, &directory, &mut problems, &mut outside)?;
            }
            "load_module" => unseen.look(directive, options.prefix.as_deref(), &mut problems)?,
            name @ ("server" | "listen" | "server_name" | "ssl_certificate") => {
                let text = format!("\"{name}\" directive is not allowed here");
                return Err(invalid(&directive.at, text));
            }
            _ => known::look(directive, &mut problems)?,
        }
    }
    outside.unseen_choosers = unseen.stream;
    judge(http.unwrap_or_default(), (outside, &unseen.http), problems, options, loader)
}

/// Whether a text belongs into the block `http`, such as a file of `conf.d` or `sites-available`.
fn is_part(directives: &[Directive]) -> bool {
    let has = |names: &[&str]| directives.iter().any(|one| names.contains(&one.name()));
    !has(&["http", "stream", "mail", "events"]) && (has(&["server"]) || has(&["hpkp_policy"]))
}

fn judge(
    mut http: Http,
    (outside, unseen_choosers): (Outside<Handle>, &[PathBuf]),
    problems: Problems,
    options: &Options,
    loader: &mut Loader<'_>,
) -> Read<Checked> {
    options.amend(&mut http.global);
    options.amend_server(&mut http.settings);
    let mut servers = http.servers()?;
    let mut check = http.settings.check.unwrap_or_default();
    if options.is_lenient() {
        for server in &mut servers.all {
            server.check = Check::Warn;
        }
        check = Check::Warn;
    }
    for server in &mut servers.all {
        options.amend_server(&mut server.settings);
    }
    let outside = if http.global.published.is_empty() { Outside::default() } else { outside };
    let configuration = Configuration {
        global: &http.global,
        around: &http.settings,
        check,
        servers: &servers,
        outside: &outside,
        unseen_choosers,
    };
    if !configuration.is_checked() {
        return Ok(Checked::nothing(problems));
    }
    let present = |loader: &mut Loader<'_>, handle: &Handle| {
        let Handle { certificates, keys, names } = handle;
        of_files(loader, certificates, keys, names, &options.given)
    };
    let built = configuration.build(loader, present);
    let keys = |handle: &Handle| handle.keys.clone();
    let keeping = configuration.keeping(&built, options.is_lenient(), keys);
    let Built { mut deployment, .. } = built;
    let put = |_: usize, _: &Replacement| Ok(());
    let verdict = configuration.verdict_keeping(&mut deployment, loader, keeping.as_ref(), put);
    Ok(Checked::new(deployment, verdict, http.global.on_start, problems))
}

/// Reads all directives, and determines the directory from which relative paths are resolved.
fn read(text: &Text, options: &Options) -> Read<(String, Vec<Directive>)> {
    if !is_dump(&text.bytes) {
        let directory = options.directory(&text.name);
        let mut files = Files::new(Source::Disk);
        let name = options.full_name(&text.name);
        let directives = Reader::new(&mut files, &directory).main(&name, &text.bytes)?;
        return Ok((directory, directives));
    }
    let (first, parts) = parts(&text.bytes);
    let at = Location { file: text.name.as_str().into(), line: 0 };
    let name = first.unwrap_or_default();
    let Some(main) = parts.get(&name).cloned() else {
        return Err(invalid(&at, format!("no file begins with \"{MARK}...:\"")));
    };
    if !name.starts_with('/') {
        let text = format!("the file \"{}\" has no absolute path", Excerpt::new(&name));
        return Err(invalid(&at, text));
    }
    let directory = super::files::directory_of(&name);
    let mut files = Files::new(Source::Dump(parts));
    let directives = Reader::new(&mut files, &directory).main(&name, &main)?;
    Ok((directory, directives))
}
