//! `hpkp pin`: the pins of keys in files and of those that servers present.

use std::io;
use std::path::Path;

use hpkp_core::spki;
use hpkp_core::text::Excerpt;
use hpkp_core::ua::host::Host;
use serde::Serialize;

use crate::arguments::PinArguments;
use crate::encoded::{self, Described};
use crate::exit::Exit;
use crate::output::{self, JSON_VERSION};
use crate::presented::{self, Address};
use crate::{input, input::InputError};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    v: u32,
    sources: Vec<Source>,
}

/// What became of one argument.
#[derive(Debug, Serialize)]
struct Source {
    /// The argument.
    source: String,
    kind: SourceKind,
    /// The keys of a file, or those of each chain that a server presents.
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
        Some(_) => {
            output::complain("--servername wants a host name");
            return Exit::Usage;
        }
    };
    if arguments.sources.iter().filter(|source| *source == "-").count() > 1 {
        output::complain("standard input can be read once only");
        return Exit::Usage;
    }
    let sources: Vec<Source> =
        arguments.sources.iter().map(|text| look(text, servername.as_ref(), arguments)).collect();
    let exit = sources.iter().fold(Exit::Fine, |exit, source| exit.and(source.exit));
    for source in &sources {
        for error in &source.errors {
            output::complain(&format!("{}: {error}", Excerpt::new(&source.source)));
        }
    }
    let written = if arguments.json {
        output::json(&Report { v: JSON_VERSION, sources })
    } else {
        print(&sources)
    };
    output::ended(exit, written)
}

/// A source is named where there are several of them or of its chains.
fn print(sources: &[Source]) -> io::Result<()> {
    for source in sources {
        let several = source.chains.len() > 1;
        for (number, chain) in (1..).zip(&source.chains) {
            for key in chain {
                let mut line = key.line();
                if several {
                    line.push_str(&format!(" ({}, chain {number})", Excerpt::new(&source.source)));
                } else if sources.len() > 1 {
                    line.push_str(&format!(" ({})", Excerpt::new(&source.source)));
                }
                output::line(&line)?;
            }
        }
    }
    Ok(())
}

fn look(text: &str, servername: Option<&Host>, arguments: &PinArguments) -> Source {
    if text == "-" {
        return file(text, SourceKind::StandardInput, input::standard(spki::MAX_FILE));
    }
    let path = Path::new(text);
    match Address::parse(text) {
        // A name with a slash is a path, and so is one that exists.
        Some(address) if !text.contains('/') && path.symlink_metadata().is_err() => {
            server(text, &address, servername, arguments)
        }
        _ => file(text, SourceKind::File, input::named(path, spki::MAX_FILE)),
    }
}

fn file(source: &str, kind: SourceKind, read: Result<Vec<u8>, InputError>) -> Source {
    let (chains, errors, exit) = match read {
        Err(error @ InputError::TooLarge { .. }) => (vec![], vec![error.to_string()], Exit::No),
        Err(error) => (vec![], vec![error.to_string()], Exit::Undetermined),
        Ok(octets) => match encoded::describe(&octets) {
            Ok(keys) => (vec![keys], vec![], Exit::Fine),
            Err(error) => (vec![], vec![error.to_string()], Exit::No),
        },
    };
    Source { source: source.to_owned(), kind, chains, errors, exit }
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
    match presented::ask(address, name, arguments.timeout) {
        Err(error) => {
            answer.errors.push(error.to_string());
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
                                "no pin can be formed of certificate {place} that it presents: {error}"
                            ));
                        }
                    }
                }
                answer.chains.push(keys);
            }
            for (kind, error) in presented.untold {
                answer.exit = answer.exit.and(Exit::Undetermined);
                answer.errors.push(format!(
                    "whether it has a certificate with an {kind} key besides cannot be told: {error}"
                ));
            }
        }
    }
    answer
}
