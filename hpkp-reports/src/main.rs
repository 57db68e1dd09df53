//! The `hpkp-reports` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    hpkp_reports::run().into()
}
