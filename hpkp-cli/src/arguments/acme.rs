//! The arguments of `hpkp acme`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Records;

/// Look at the ACME clients of this machine.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp acme doctor")]
pub(crate) struct AcmeArguments {
    #[command(subcommand)]
    pub(crate) command: AcmeCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AcmeCommand {
    Doctor(DoctorArguments),
}

/// Say which ACME clients will make a new key for which pinned host, and when.
///
/// Reads the configuration of certbot, acme.sh, dehydrated, lego, uacme and mod_md in their usual
/// directories, and their certificates. Nothing is changed and no network is used.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp acme doctor
  hpkp acme doctor --acme /srv/letsencrypt --acme /home/acme/.acme.sh --json")]
pub(crate) struct DoctorArguments {
    /// Directory of an ACME client [default: the usual directories].
    #[arg(long = "acme", value_name = "DIR")]
    pub(crate) acme: Vec<PathBuf>,

    /// File of trust anchors (PEM), in addition to those of the system.
    #[arg(long, value_name = "FILE")]
    pub(crate) trusted_certificate: Option<String>,

    #[command(flatten)]
    pub(crate) records: Records,
}
