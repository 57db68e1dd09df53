//! `hpkp sync`: replaces the process by the program `hpkp-sync`, so that `hpkp` need not contain the
//! clients of all stores. This module contains what both programs share.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process;

pub use crate::arguments::SyncArguments;
use crate::arguments::{Arguments, Command};
pub use crate::output::{JSON_VERSION, complain, ended, json, line, os, printable};
pub use crate::usage::wrong as wrong_usage;
use crate::{Exit, failure::Failure, usage};

/// The name of the program.
pub const PROGRAM: &str = "hpkp-sync";

/// The directories in which packages and `ci/install` put the program.
const PACKAGED: [&str; 2] = ["/usr/libexec/hpkp", "/usr/local/libexec/hpkp"];

/// Parses the arguments of the program: those of `hpkp sync`, with or without that word before them.
///
/// # Errors
/// The exit code if the arguments are invalid or ask for help. The message has been printed.
pub fn arguments(words: impl Iterator<Item = OsString>) -> Result<SyncArguments, Exit> {
    let mut words: Vec<OsString> = words.skip(1).collect();
    if words.first().is_none_or(|word| word != "sync") {
        words.insert(0, "sync".into());
    }
    words.insert(0, "hpkp".into());
    match usage::of_words(words)? {
        Arguments { command: Command::Sync(arguments) } => Ok(arguments),
        _ => Err(Exit::Usage),
    }
}

/// Replaces the process by the program.
pub(crate) fn run() -> Exit {
    let Some(program) = found() else {
        return usage::end(Failure::undetermined(format!(
            "the program {PROGRAM} is not installed; to fix: apt install hpkp-sync, or cargo install --path hpkp-sync"
        )));
    };
    // The process id stays the same, so that signals reach the program and its exit code is the result.
    let error = process::Command::new(&program).args(std::env::args_os().skip(1)).exec();
    usage::end(Failure::undetermined(format!(
        "cannot run {}: {}",
        crate::output::path(&program),
        os(&error)
    )))
}

/// Finds the program: beside this one, in the directories of packages, or in PATH.
fn found() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|own| own.parent().map(Path::to_owned));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = beside.into_iter().chain(PACKAGED.map(PathBuf::from)).chain(
        // An empty or relative entry of PATH would be the working directory, which is not trusted.
        std::env::split_paths(&path).filter(|directory| directory.is_absolute()),
    );
    directories.map(|directory| directory.join(PROGRAM)).find(|program| program.is_file())
}
