//! Command line: one definition, of which the help is made. The help texts are the comments here.

use std::path::PathBuf;

use clap::builder::Styles;
use clap::builder::styling::{AnsiColor, Style};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::exit::Exit;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(Style::new());

/// Collect reports of pin violations (RFC 7469, TrustKit, SMTP TLS reports): receive, understand, store and
/// show them.
#[derive(Debug, Parser)]
#[command(name = "hpkp-reports", version, styles = STYLES)]
#[command(after_help = "\
Examples:
  hpkp-reports check                         is the configuration valid?
  hpkp-reports serve                         run the collector
  hpkp-reports export --format csv           print what came in
  hpkp-reports import report.eml             hand over what came by mail

Exit codes: 0 success, 1 the configuration is invalid, 2 wrong usage, 3 it could not be done.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(ServeArguments),
    Check(CheckArguments),
    Export(ExportArguments),
    Import(ImportArguments),
    Generate(GenerateArguments),
}

/// Run the collector.
///
/// It stops at SIGTERM and SIGINT, when what it has accepted is stored. SIGHUP makes it read the records,
/// the trusted certificates and the list of private roots again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp-reports serve
  hpkp-reports serve --config ./reports.toml")]
pub(crate) struct ServeArguments {
    #[command(flatten)]
    pub(crate) config: Config,
}

/// Check the configuration, and what it names, without serving.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp-reports check --config ./reports.toml")]
pub(crate) struct CheckArguments {
    #[command(flatten)]
    pub(crate) config: Config,
}

/// The configuration of the collector.
#[derive(Debug, Args)]
pub(crate) struct Config {
    /// Configuration file.
    #[arg(long, short, value_name = "FILE", default_value = "/etc/hpkp/reports.toml")]
    pub(crate) config: PathBuf,
}

/// Print the groups of reports, the oldest first.
///
/// `hpkp plan --reports` reads the JSON lines.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp-reports export > reports.jsonl
  hpkp-reports export --format csv --host www.example.com
  hpkp-reports export --raw                  with the first report of each group")]
pub(crate) struct ExportArguments {
    #[command(flatten)]
    pub(crate) config: Config,

    /// Form of the output.
    #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
    pub(crate) format: ExportFormat,

    /// Only groups of this host.
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,

    /// Also the first report of each group, as it was received.
    #[arg(long)]
    pub(crate) raw: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ExportFormat {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values (RFC 4180).
    Csv,
}

/// Hand reports that came by mail, or in a file, to a collector.
///
/// The file is a mail message with SMTP TLS reports attached (RFC 8460), or one report of any kind, packed with gzip
/// or not.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp-reports import report.eml
  hpkp-reports import --mta -                as the command of a mail server's alias

Exit codes: 0 the collector has taken all of it, 1 it accepts no report of the file, 2 wrong usage, 3 it could not be done now. \
With --mta: 0 and 75.")]
pub(crate) struct ImportArguments {
    /// Message or report; - for standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// URL at which the collector accepts reports.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8470/r/mail")]
    pub(crate) to: String,

    /// Exit as a mail server expects: with 75 if it should keep the message and try again, and with 0 if the message
    /// has no report, so that nobody gets a bounce.
    #[arg(long)]
    pub(crate) mta: bool,
}

/// Print shell completions or write man pages.
#[derive(Debug, Args)]
#[command(hide = true)]
#[command(after_help = "\
Examples:
  hpkp-reports generate completions bash > /etc/bash_completion.d/hpkp-reports
  hpkp-reports generate man /usr/local/share/man/man1")]
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

/// The arguments of the process.
///
/// # Errors
/// How to end, where they are wrong or ask for help: all that there is to say has been printed.
pub(crate) fn parse() -> Result<Arguments, Exit> {
    Arguments::try_parse().map_err(|error| {
        let _ = error.print();
        match error.kind() {
            clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => {
                Exit::Fine
            }
            _ => Exit::Usage,
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
