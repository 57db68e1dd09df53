//! The `hpkp` command: computes pins of files and servers, manages the records of pins that clients hold,
//! and converts pins between formats.
//!
//! The core contains the rules. This crate reads input (files, standard input, TLS connections, private
//! keys) and prints results: text for people, JSON for scripts.

#![forbid(unsafe_code)]

mod acme;
mod analyze;
mod arguments;
mod ca;
mod chains;
mod check;
mod der;
mod encoded;
mod exit;
pub mod export;
mod failure;
mod find;
mod generate;
pub mod import;
mod input;
mod install;
mod key;
pub mod keys;
mod output;
mod parallel;
mod parse;
mod pin;
mod plan;
mod presented;
mod private_key;
mod progress;
mod published;
mod renew_check;
mod starttls;
mod status;
pub mod sync;
mod time;
mod timed;
mod usage;
mod walk;

use arguments::Command;
pub use exit::Exit;

/// Runs the command with the arguments of the process, and gives the exit code.
#[must_use]
pub fn run() -> Exit {
    match usage::arguments().map(|arguments| arguments.command) {
        Ok(Command::Acme(arguments)) => acme::run(&arguments),
        Ok(Command::Pin(arguments)) => pin::run(&arguments),
        Ok(Command::Find(arguments)) => find::run(&arguments),
        Ok(Command::Install(arguments)) => install::run(&arguments),
        Ok(Command::Key(arguments)) => keys::run(&arguments),
        Ok(Command::Check(arguments)) => check::run(&arguments),
        Ok(Command::Parse(arguments)) => parse::run(&arguments),
        Ok(Command::Analyze(arguments)) => analyze::run(&arguments),
        Ok(Command::Ca(arguments)) => ca::run(&arguments),
        Ok(Command::RenewCheck(arguments)) => renew_check::run(&arguments),
        Ok(Command::Plan(arguments)) => plan::run(&arguments),
        Ok(Command::Published(arguments)) => published::run(&arguments),
        Ok(Command::Status(arguments)) => status::run(&arguments),
        Ok(Command::Sync(_)) => sync::run(),
        Ok(Command::Generate(arguments)) => generate::run(&arguments),
        Err(exit) => exit,
    }
}
