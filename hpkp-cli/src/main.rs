//! The `hpkp` program.

mod wiping;

use std::process::ExitCode;

fn main() -> ExitCode {
    wiping::wipe_memory_of_openssl();
    hpkp_cli::run().into()
}
