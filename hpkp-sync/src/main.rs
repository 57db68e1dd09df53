//! The program behind `hpkp sync`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match hpkp_cli::sync::arguments(std::env::args_os()) {
        Ok(arguments) => hpkp_sync::run(&arguments).into(),
        Err(exit) => exit.into(),
    }
}
