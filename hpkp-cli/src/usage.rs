//! Reports wrong usage in one style, whether clap or a command detects it.

use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, Parser as _};
use hpkp_core::published::HostName;
use hpkp_core::text::ShellWord;

use crate::arguments::Arguments;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

/// The words of the command line, beginning with the name of the command.
static WORDS: OnceLock<Vec<OsString>> = OnceLock::new();

/// The parsed arguments of the process.
///
/// # Errors
/// The exit code if the arguments are invalid or ask for help. The message has been printed.
pub(crate) fn arguments() -> Result<Arguments, Exit> {
    of_words(std::env::args_os().collect())
}

/// Parses the arguments of a program, beginning with its name.
///
/// # Errors
/// See [`arguments`].
pub(crate) fn of_words(words: Vec<OsString>) -> Result<Arguments, Exit> {
    let words = WORDS.get_or_init(|| words);
    Arguments::try_parse_from(words).map_err(|error| match error.kind() {
        clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => {
            output::ended(Exit::Fine, error.print())
        }
        clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Exit::Usage
        }
        _ => match meant(&error) {
            Some(tip) => wrong(&format!("{}\n  tip: {tip}", error.render())),
            None => wrong(&error.render().to_string()),
        },
    })
}

/// A hint for an argument that the command does not have.
fn meant(error: &clap::Error) -> Option<String> {
    let ContextValue::String(argument) = error.get(ContextKind::InvalidArg)? else { return None };
    let (command, word) = (command(), ShellWord::new(argument));
    let first = words().get(1);
    let is_before_command = first.is_some_and(|first| first == argument.as_str());
    let is_of_records = command.starts_with("hpkp published ");
    if is_before_command && argument.starts_with('-') && command != "hpkp" {
        Some(format!("options come after the command: {command} {word}"))
    } else if is_of_records && Path::new(argument).is_dir() {
        Some(format!("for the records in that directory: {command} -d {word}"))
    } else if command == "hpkp published list" && argument.parse::<HostName>().is_ok() {
        Some(format!("for one host: hpkp published why {word}"))
    } else {
        None
    }
}

/// Reports wrong usage, with the command that prints help.
#[must_use]
pub fn wrong(text: &str) -> Exit {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    for line in lines.filter(|line| !line.starts_with("For more information")) {
        let line = line.strip_prefix("error: ").unwrap_or(line);
        let line = match line.strip_prefix("Usage: ") {
            Some(usage) => format!("usage: {usage}"),
            None => line.to_owned(),
        };
        output::complain(&output::printable(&line));
    }
    output::complain(&format!("for help: {} --help", command()));
    Exit::Usage
}

/// Reports a failure.
pub(crate) fn end(Failure { exit, text }: Failure) -> Exit {
    match exit {
        Exit::Usage => wrong(&text),
        exit => {
            text.lines().for_each(output::complain);
            exit
        }
    }
}

fn words() -> &'static [OsString] {
    WORDS.get().map_or(&[], Vec::as_slice)
}

/// The called command without its arguments.
fn command() -> String {
    let mut command = Arguments::command();
    let mut path = command.get_name().to_owned();
    for word in words().iter().skip(1) {
        let Some(below) = word.to_str().and_then(|word| command.find_subcommand(word)) else {
            continue;
        };
        let below = below.clone();
        path = format!("{path} {}", below.get_name());
        command = below;
    }
    path
}
