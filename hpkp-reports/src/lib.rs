//! The collector of violation reports: a program of its own, which no module depends on.
//!
//! Data flow, one folder for each step:
//!
//! 1. `receive`: a connection → limits → a body → reports of hosts on the list;
//! 2. `understand`: a report → is this an attack, a proxy, or our own mistake? → alarms;
//! 3. `store`: judged reports → groups in a database, synced to the disk before the sender gets an answer;
//! 4. `see`: groups → pages, metrics.
//!
//! `serve` connects these steps as the `configuration` specifies.

#![forbid(unsafe_code)]

mod arguments;
pub mod configuration;
mod exit;
mod export;
mod generate;
mod http;
mod import;
mod mail;
mod names;
mod output;
pub mod proxies;
pub mod receive;
pub mod see;
pub mod serve;
pub mod store;
pub mod time;
pub mod understand;

pub use exit::Exit;

use arguments::Command;

/// Runs the program with the arguments of the process. Returns the exit status.
#[must_use]
pub fn run() -> Exit {
    match arguments::parse().map(|arguments| arguments.command) {
        Ok(Command::Serve(arguments)) => serve::run(&arguments.config),
        Ok(Command::Check(arguments)) => serve::check(&arguments.config),
        Ok(Command::Export(arguments)) => export::run(&arguments),
        Ok(Command::Import(arguments)) => import::run(&arguments),
        Ok(Command::Generate(arguments)) => generate::run(&arguments),
        Err(exit) => exit,
    }
}
