//! `hpkp-reports generate`: writes shell completions and man pages from the definition of the command line.

use std::io::{self, Write as _};

use clap::CommandFactory as _;

use crate::arguments::{Arguments, GenerateArguments, GenerateCommand};
use crate::exit::Exit;
use crate::output;

/// Runs the command.
pub(crate) fn run(arguments: &GenerateArguments) -> Exit {
    let mut command = Arguments::command();
    let written = match &arguments.command {
        GenerateCommand::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut command, "hpkp-reports", &mut text);
            io::stdout().lock().write_all(&text)
        }
        GenerateCommand::Man { directory } => clap_mangen::generate_to(command, directory),
    };
    match written {
        Ok(()) => Exit::Fine,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Fine,
        Err(error) => {
            output::log(&format!("cannot write: {}", output::os(&error)));
            Exit::Failed
        }
    }
}
