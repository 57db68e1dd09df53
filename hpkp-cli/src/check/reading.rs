//! Reads a configuration of any kind, and recognises its kind.

use hpkp_server::loader::Loader;
use hpkp_server::openssl::{OpenSsl, OpenSslError};

use super::checked::Checked;
use super::configuration::Text;
use super::options::Options;
use super::problem::Read;
use super::{files, httpd, nginx, policy_file};
use crate::arguments::ConfigFormat;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input::{self, InputError};
use crate::output;

/// The OpenSSL that this program is linked with.
pub(super) fn own_openssl() -> Result<OpenSsl, OpenSslError> {
    // The address of this function identifies the program's own file.
    OpenSsl::used_by((own_openssl as fn() -> _) as *const _)
}

/// Reports certificates of the command line that belong to no server or are for no host. They were not
/// checked, so the exit code must not be 0.
pub(super) fn unused(options: &Options, checked: &Checked) -> Exit {
    // If there is no server at all, the result already reports it.
    let has_servers = !checked.deployment.hosts.is_empty();
    let mut exit = Exit::Fine;
    for given in options.given.0.iter().filter(|_| has_servers) {
        let why = if !given.is_used() {
            let names = given.names().iter().take(3).cloned().collect::<Vec<_>>().join(", ");
            let names = if names.is_empty() { "none" } else { &names };
            format!(
                "no server of the configuration has a name of this certificate (DNS names: {names}), so it \
                 was not checked"
            )
        } else if !given.has_host() {
            "the first certificate is for no host, so it was not compared with the pins that clients hold; \
             a chain begins with the certificate of the server"
                .to_owned()
        } else {
            continue;
        };
        output::complain(&output::printable(&format!("{}: {why}", given.file)));
        exit = Exit::Undetermined;
    }
    exit
}

pub(super) fn checked(
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
pub(crate) fn text(name: &str) -> Result<Text, Failure> {
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

/// Recognises the kind of a configuration by its content. nginx's lines end with semicolons or braces,
/// httpd's sections have angle brackets, and a policy file has square brackets or equals signs.
pub(super) fn guessed(text: &Text) -> ConfigFormat {
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
