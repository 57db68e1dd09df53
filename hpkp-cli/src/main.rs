//! The `hpkp` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    hpkp_cli::run().into()
}
