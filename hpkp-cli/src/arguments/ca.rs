//! The arguments of `hpkp ca`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hpkp_core::pin::Pin;

/// Look up the keys of known certificate authorities.
///
/// A built-in table names the keys of the trusted roots of Debian and Mozilla, and intermediates
/// with their rotation. A file adds to it without a new release.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp ca list --ca \"Let's Encrypt\"
  hpkp ca show sha256/C5+lpZ7tcVwmwQIMcRtPbsQtWLABXhQzejna0wHFr8M=
  hpkp ca updates --since 2026-01-01
  hpkp ca list --table /etc/hpkp/ca-table.json")]
pub(crate) struct CaArguments {
    #[command(subcommand)]
    pub(crate) command: CaCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    List(CaListArguments),
    Show(CaShowArguments),
    Updates(CaUpdatesArguments),
}

/// List the keys of certificate authorities.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp ca list
  hpkp ca list --ca \"Let's Encrypt\"")]
pub(crate) struct CaListArguments {
    /// Only keys of authorities whose name contains this text.
    #[arg(long, value_name = "TEXT")]
    pub(crate) ca: Option<String>,

    /// Roots too; by default only intermediates.
    #[arg(long)]
    pub(crate) roots: bool,

    #[command(flatten)]
    pub(crate) table: TableArguments,
}

/// Show what is known of a key, and the keys that may take its place.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp ca show sha256/brzvtCELCIZUo4sD/qPX0ccRtPsd3DY6RfmxpOU9oB4=")]
pub(crate) struct CaShowArguments {
    /// Pin of the key.
    #[arg(value_name = "PIN")]
    pub(crate) pin: Pin,

    #[command(flatten)]
    pub(crate) table: TableArguments,
}

/// List changes of intermediates, the newest last.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp ca updates --since 2026-01-01
  hpkp ca updates --json --since 2026-01-01")]
pub(crate) struct CaUpdatesArguments {
    /// First day to list, such as 2026-01-01; by default all.
    #[arg(long, value_name = "DATE", value_parser = crate::time::begin)]
    pub(crate) since: Option<i64>,

    #[command(flatten)]
    pub(crate) table: TableArguments,
}

/// Which table, and how to print it.
#[derive(Debug, Args)]
pub(crate) struct TableArguments {
    /// Table to use besides the built-in one. If both have a key, the newer table is used for it.
    #[arg(long, value_name = "FILE")]
    pub(crate) table: Option<PathBuf>,

    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
