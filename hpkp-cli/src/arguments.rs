//! What may stand on the command line. The help texts are made of the comments here.

mod published;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub(crate) use published::{
    AddArguments, CompactArguments, CompromisedArguments, EndArguments, ExportArguments,
    ImportArguments, ListArguments, PublishedArguments, PublishedCommand, Scope, ShowArguments,
    WaiveArguments, WhyArguments,
};

/// Pins of keys (RFC 7469): compute them, find their keys, keep record of them.
///
/// Exit codes: 0 fine, 1 no or invalid, 2 wrong usage, 3 could not be determined.
#[derive(Debug, Parser)]
#[command(name = "hpkp", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Pin(PinArguments),
    Find(FindArguments),
    Published(PublishedArguments),
}

/// Print the pins of the keys in files and of those that servers present.
///
/// Each line begins with a pin; what it is the pin of follows. Nothing that a server presents is
/// verified.
#[derive(Debug, Args)]
pub(crate) struct PinArguments {
    /// A file, - for standard input, or HOST:PORT for a TLS server.
    ///
    /// A file holds certificates, certification requests or public keys, PEM or DER. What exists
    /// as a file is taken for one.
    #[arg(required = true, value_name = "FILE|-|HOST:PORT")]
    pub(crate) sources: Vec<String>,

    /// The name to ask servers for (SNI), where it is not HOST.
    #[arg(long, value_name = "NAME")]
    pub(crate) servername: Option<String>,

    /// How long a connection to a server may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,

    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Find the file with the private key that belongs to a pin or a certificate.
///
/// Lists certificates, certification requests and public keys of the same key besides.
#[derive(Debug, Args)]
pub(crate) struct FindArguments {
    /// A pin (sha256/...), or a file with a certificate, a certification request or a public key,
    /// whose first key counts.
    #[arg(value_name = "PIN|CERT")]
    pub(crate) key: String,

    /// Where to look, with all directories below.
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) directory: PathBuf,

    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A time between one second and an hour.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        _ => Err("wanted is a number of seconds from 1 to 3600".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_fit_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_timeout_is_bounded() {
        assert_eq!(seconds("1"), Ok(Duration::from_secs(1)));
        assert!(seconds("0").is_err() && seconds("3601").is_err() && seconds("1s").is_err());
    }
}
