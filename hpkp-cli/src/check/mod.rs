//! `hpkp check`: the check that a server runs, on files.
//!
//! Data flow: a reader (`policy_file`, `nginx`, `httpd`) takes directives out of a text and hands them to
//! the same functions of the server crate that the modules use; these build what the core's check compares,
//! and the failure table says what a config test does about the answer.

mod answer;
mod checked;
mod configuration;
mod deployed;
mod files;
mod format;
mod httpd;
mod nginx;
mod options;
mod other;
mod policy_file;
mod presented;
mod problem;

use hpkp_server::loader::Loader;
use hpkp_server::openssl::OpenSsl;

use crate::arguments::{CheckArguments, ConfigFormat};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input::{self, InputError};
use crate::output;
use crate::usage;
use answer::Answer;
use checked::Checked;
use configuration::Text;
pub(crate) use deployed::{Deployed, deployed};
pub(crate) use options::InPlace;
use options::Options;
pub(crate) use other::Kind;
use problem::Read;

/// Runs the command.
pub(crate) fn run(arguments: &CheckArguments) -> Exit {
    let other = arguments.other();
    let has_pins = !arguments.published.is_empty();
    if arguments.configuration.config.is_none()
        && (arguments.cert.is_empty() && other.is_none() || !has_pins)
    {
        return usage::wrong(
            "nothing to compare: give --config FILE, or --cert FILE and --published DIR",
        );
    }
    match answer(arguments) {
        Ok((answer, exit)) => {
            let written = format::print(&answer, arguments.report_format());
            output::ended(answer.exit(arguments.deny_warnings).and(exit), written)
        }
        Err(failure) => usage::end(failure),
    }
}

fn answer(arguments: &CheckArguments) -> Result<(Answer, Exit), Failure> {
    let options = Options::new(arguments)?;
    let other = arguments.other();
    let configuration = &arguments.configuration;
    let named = other.map(|(_, file)| file).or(configuration.config.as_deref());
    let text = named.map(text).transpose()?;
    // Of this very program, whose OpenSSL it is.
    let openssl = OpenSsl::used_by((run as fn(&CheckArguments) -> Exit) as *const _);
    let mut loader = Loader::new(openssl.as_ref());
    let read = match (&text, other) {
        (Some(text), Some((kind, _))) => other::check(kind, text, &options, &mut loader),
        (Some(text), None) => {
            let format = configuration.config_format.unwrap_or_else(|| guessed(text));
            checked(Some((text, format)), &options, &mut loader)
        }
        (None, _) => checked(None, &options, &mut loader),
    };
    let checked = read.unwrap_or_else(|finding| Checked::unread(*finding));
    let exit = unused(&options, &checked);
    let name = named.map_or_else(|| arguments.cert.join(" "), str::to_owned);
    Ok((Answer::new(checked, name), exit))
}

/// A certificate that no server has was not checked, which nobody must take for an answer.
fn unused(options: &Options, checked: &Checked) -> Exit {
    // Where nothing was compared, that is said.
    let has_servers = !checked.deployment.hosts.is_empty();
    let mut exit = Exit::Fine;
    for given in options.given.0.iter().filter(|given| has_servers && !given.is_used()) {
        let names = given.names().iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        let names = if names.is_empty() { "none" } else { &names };
        output::complain(&output::printable(&format!(
            "{}: no server of the configuration has a name of this certificate (DNS names: {names}), so \
             it was not checked",
            given.file
        )));
        exit = Exit::Undetermined;
    }
    exit
}

fn checked(
    text: Option<(&Text, ConfigFormat)>,
    options: &Options,
    loader: &mut Loader<'_>,
) -> Read<Checked> {
    match text {
        Some((text, ConfigFormat::Nginx)) => nginx::check(text, options, loader),
        Some((text, ConfigFormat::Httpd)) => httpd::check(text, options, loader),
        Some((text, ConfigFormat::Toml)) => policy_file::check(Some(text), options, loader),
        None => policy_file::check(None, options, loader),
    }
}

/// Reads a configuration.
fn text(name: &str) -> Result<Text, Failure> {
    let read = match name {
        "-" => input::standard(files::MAX_FILE),
        _ => input::named(name.as_ref(), files::MAX_FILE),
    };
    let shown = output::printable(name);
    let bytes = read.map_err(|error| {
        let exit = match &error {
            InputError::Io(error) if error.kind() == std::io::ErrorKind::NotFound => Exit::Usage,
            error => error.exit(),
        };
        Failure { exit, text: format!("{shown}: {error}") }
    })?;
    if bytes.contains(&0) {
        return Err(Failure::no(format!(
            "{shown}: contains null bytes, so it is not a configuration"
        )));
    }
    if bytes.trim_ascii().is_empty() {
        let why =
            "empty, so nothing was compared; nginx -T prints nothing if nginx's own test fails";
        return Err(Failure::undetermined(format!("{shown}: {why}")));
    }
    Ok(Text { name: name.to_owned(), bytes })
}

/// The kind of a configuration, by its content: nginx's lines end with semicolons and its blocks are in
/// braces, httpd's are in angle brackets; what is in square brackets or has an equals sign is a policy file.
fn guessed(text: &Text) -> ConfigFormat {
    if text.name.ends_with(".toml") {
        return ConfigFormat::Toml;
    }
    if nginx::is_dump(&text.bytes) {
        return ConfigFormat::Nginx;
    }
    let (mut nginx, mut httpd, mut toml) = (0, 0, 0);
    for line in String::from_utf8_lossy(&text.bytes).lines().map(str::trim) {
        let Some(first) = line.chars().next().filter(|first| *first != '#') else { continue };
        let last = line.split(" #").next().unwrap_or(line).trim_end().chars().last();
        let word = line.split(|c: char| c.is_whitespace() || c == '=').next().unwrap_or("");
        let behind = line[word.len()..].trim_start();
        if first == '<' || line.ends_with('\\') {
            httpd += 1;
        } else if first == '[' || behind.starts_with('=') {
            toml += 1;
        } else if matches!(last, Some(';' | '{' | '}')) {
            nginx += 1;
        } else {
            httpd += 1;
        }
    }
    if toml > nginx && toml > httpd {
        ConfigFormat::Toml
    } else if nginx > httpd {
        ConfigFormat::Nginx
    } else {
        ConfigFormat::Httpd
    }
}
