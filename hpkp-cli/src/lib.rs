//! The `hpkp` command: pins of files and servers, and the formats in which others keep pins.
//!
//! The knowledge is the core's; here are the ways in (files, standard input, TLS connections,
//! private keys) and the ways out (lines for people, JSON for scripts).

#![forbid(unsafe_code)]

mod arguments;
mod encoded;
mod exit;
pub mod export;
mod find;
pub mod import;
mod input;
mod output;
mod pin;
mod presented;
mod private_key;
mod published;
mod time;
mod walk;

use clap::Parser as _;

use arguments::{Arguments, Command};
pub use exit::Exit;

/// Runs the command with the arguments of the process and says how it ends.
///
/// Where the arguments are wrong, or ask for help, it does not return: clap prints what there is
/// to say and ends the process, with [`Exit::Usage`] or success.
#[must_use]
pub fn run() -> Exit {
    match Arguments::parse().command {
        Command::Pin(arguments) => pin::run(&arguments),
        Command::Find(arguments) => find::run(&arguments),
        Command::Published(arguments) => published::run(&arguments),
    }
}
