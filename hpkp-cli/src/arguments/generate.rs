//! The arguments of `hpkp generate`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Print shell completions or write man pages.
#[derive(Debug, Args)]
#[command(hide = true)]
#[command(after_help = "\
Examples:
  hpkp generate completions bash > /etc/bash_completion.d/hpkp
  hpkp generate man /usr/local/share/man/man1")]
pub(crate) struct GenerateArguments {
    #[command(subcommand)]
    pub(crate) command: GenerateCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GenerateCommand {
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write a man page for each command.
    Man {
        /// An existing directory.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}
