//! `hpkp pin`: prints the pins of keys in files and of keys that servers present.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::path::Path;

use hpkp_core::pin::Pin;
use hpkp_core::spki::{self, SpkiError};
use hpkp_core::ua::host::Host;
use openssl::pkey::{PKey, Private};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::arguments::{PinArguments, Starttls};
use crate::encoded::{self, Described};
use crate::exit::Exit;
use crate::input::{self, InputError};
use crate::key;
use crate::keys::{self, Passphrase, SecretError};
use crate::output::{self, JSON_VERSION};
use crate::presented::{self, Address, ConnectError};
use crate::progress::Progress;
use crate::usage;

/// The JSON output.
#[derive(Debug, Serialize)]
struct Report {
    v: u32,
    sources: Vec<Source>,
}

/// The result for one argument.
#[derive(Debug, Serialize)]
struct Source {
    /// The argument.
    source: String,
    kind: SourceKind,
    /// The keys of a file, or the keys of each chain that a server presents.
    chains: Vec<Vec<Described>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
    #[serde(skip)]
    exit: Exit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum SourceKind {
    File,
    StandardInput,
    Server,
}

/// Runs the command.
pub(crate) fn run(arguments: &PinArguments) -> Exit {
    let servername = match arguments.servername.as_deref().map(Host::parse) {
        None => None,
        Some(Ok(name @ Host::Name(_))) => Some(name),
        Some(_) => return usage::wrong("--servername: expected a host name"),
    };
    if arguments.sources.iter().filter(|source| *source == "-").count() > 1 {
        return usage::wrong("standard input (-) can be read once only");
    }
    if arguments.private_key {
        keys::keep_out_of_core_dumps();
    }
    let progress = Progress::start("reading keys");
    let look = |source: &OsString| {
        progress.set(|| format!("asking {}", output::path(Path::new(source))));
        look(source, servername.as_ref(), arguments)
    };
    let sources: Vec<Source> = arguments.sources.iter().map(look).collect();
    drop(progress);
    if arguments.private_key {
        keys::wipe_stack();
    }
    let exit = sources.iter().fold(Exit::Fine, |exit, source| exit.and(source.exit));
    for source in &sources {
        for error in &source.errors {
            output::complain(&format!("{}: {error}", source.source));
        }
    }
    let written = if arguments.json {
        output::json(&Report { v: JSON_VERSION, sources })
    } else {
        print(&sources)
    };
    output::ended(exit, written)
}

/// Prints the keys. The source is named if there are several sources or chains.
fn print(sources: &[Source]) -> io::Result<()> {
    // The buffer saves system calls if there are many lines.
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    for source in sources {
        let several = source.chains.len() > 1;
        for (number, chain) in (1..).zip(&source.chains) {
            for key in chain {
                let mut line = key.line();
                if several {
                    line.push_str(&format!(" ({}, chain {number})", source.source));
                } else if sources.len() > 1 {
                    line.push_str(&format!(" ({})", source.source));
                }
                writeln!(out, "{line}")?;
            }
        }
    }
    out.flush()
}

fn look(argument: &OsStr, servername: Option<&Host>, arguments: &PinArguments) -> Source {
    let (path, shown) = (Path::new(argument), output::path(Path::new(argument)));
    if argument == "-" {
        let read = input::secret_standard(spki::MAX_FILE);
        return file(&shown, SourceKind::StandardInput, read, arguments);
    }
    let text = argument.to_str().unwrap_or_default();
    match Address::parse(text) {
        Some(address) if is_server(text, path) => server(&shown, &address, servername, arguments),
        _ => {
            let read = input::secret(path, spki::MAX_FILE);
            let mut source = file(&shown, SourceKind::File, read, arguments);
            let hint = path.symlink_metadata().err().and_then(|_| hint(text));
            if let (Some(hint), Some(error)) = (hint, source.errors.first_mut()) {
                error.push_str(&format!("; {hint}"));
            }
            source
        }
    }
}

/// Whether an argument is a server. A name with a slash, or of an existing file, is a file.
fn is_server(text: &str, path: &Path) -> bool {
    if Address::after_scheme(text).is_some() {
        return true;
    }
    !text.contains('/')
        && path.symlink_metadata().is_err()
        && (text.contains(':') || key::is_host(text))
}

/// A hint for an argument that is no file.
fn hint(text: &str) -> Option<String> {
    if text.parse::<Pin>().is_ok() {
        return Some(format!("this is a pin; to find its private key: hpkp find {text} DIR"));
    }
    if text.contains("://") {
        return Some("of URLs, only https://HOST[:PORT] is supported".to_owned());
    }
    let is_name = !text.contains('/') && Address::parse(text).is_some() && !text.contains('.');
    is_name.then(|| format!("for a server: hpkp pin {text}:443"))
}

fn file(
    source: &str,
    kind: SourceKind,
    read: Result<Zeroizing<Vec<u8>>, InputError>,
    arguments: &PinArguments,
) -> Source {
    let (chains, errors, exit) = match read {
        Err(error) => (vec![], vec![error.to_string()], error.exit()),
        Ok(bytes) => match encoded::describe(&bytes) {
            Ok(keys) => (vec![keys], vec![], Exit::Fine),
            Err(SpkiError::PrivateKey) if arguments.private_key => {
                match with_private_keys(&bytes, source, arguments) {
                    Ok(keys) => (vec![keys], vec![], Exit::Fine),
                    Err(error) => (vec![], vec![error.to_string()], Exit::No),
                }
            }
            Err(error) => {
                let is_private = error == SpkiError::PrivateKey;
                let hint = if is_private { "; to take it all the same: --private-key" } else { "" };
                (vec![], vec![format!("{error}{hint}")], Exit::No)
            }
        },
    };
    Source { source: source.to_owned(), kind, chains, errors, exit }
}

/// The keys of a file that may contain private keys, in order.
fn with_private_keys(
    file: &[u8],
    source: &str,
    arguments: &PinArguments,
) -> Result<Vec<Described>, SecretError> {
    let mut ask = || match &arguments.passphrase_file {
        Some(file) => Passphrase::of_file(file),
        None => Passphrase::ask(source),
    };
    // If the private half of a key is damaged and the public half is not, the pin would be right but the
    // key useless.
    let private = |key: PKey<Private>| {
        keys::proven(&key).map(|spki| Described::of_private_key(Pin::of_spki(&spki)))
    };
    let public = |der: &[u8]| {
        encoded::describe(der).unwrap_or_default().into_iter().map(Some).collect::<Vec<_>>()
    };
    let keys = keys::each_key(file, &mut ask, private, public)?;
    keys.into_iter().collect::<Option<Vec<_>>>().ok_or(SecretError::Damaged)
}

fn server(
    source: &str,
    address: &Address,
    servername: Option<&Host>,
    arguments: &PinArguments,
) -> Source {
    let name = servername.unwrap_or(&address.host);
    let mut answer = Source {
        source: source.to_owned(),
        kind: SourceKind::Server,
        chains: Vec::new(),
        errors: Vec::new(),
        exit: Exit::Fine,
    };
    match presented::ask(address, name, arguments.timeout, Starttls::of_port(address.port)) {
        Err(error) => {
            let is_no_url = matches!(error, ConnectError::Name(_)) && !source.contains([':', '/']);
            let no_file = if is_no_url { "no such file, and " } else { "" };
            answer.errors.push(format!("{no_file}{error}"));
            answer.exit = Exit::Undetermined;
        }
        Ok(presented) => {
            for chain in presented.chains {
                let mut keys = Vec::new();
                for (place, certificate) in (1..).zip(&chain.certificates) {
                    match encoded::describe(certificate) {
                        Ok(described) => keys.extend(described),
                        Err(error) => {
                            answer.exit = answer.exit.and(Exit::No);
                            answer.errors.push(format!(
                                "no pin for certificate {place} of the chain: {error}"
                            ));
                        }
                    }
                }
                answer.chains.push(keys);
            }
            if !presented.unknown.is_empty() {
                answer.exit = answer.exit.and(Exit::Undetermined);
                answer.errors.extend(presented.unknown);
            }
        }
    }
    answer
}
