//! The command line. Help texts, man pages and shell completions are generated from one definition. The doc
//! comments of arguments are the help texts.

mod acme;
mod analyze;
mod ca;
mod check;
mod generate;
mod host;
mod id;
mod install;
mod key;
mod parse;
mod plan;
mod published;
mod renew_check;
mod seconds;
mod starttls;
mod status;
mod sync;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::Styles;
use clap::builder::styling::{AnsiColor, Style};
use clap::{Args, Parser, Subcommand};

pub(crate) use acme::{AcmeArguments, AcmeCommand, DoctorArguments};
pub(crate) use analyze::{AnalyzeArguments, Connect};
pub(crate) use ca::{CaArguments, CaCommand, CaListArguments, CaShowArguments, CaUpdatesArguments};
pub(crate) use check::{CheckArguments, ConfigFormat, ConfigurationArguments, ReportFormat};
pub(crate) use generate::{GenerateArguments, GenerateCommand};
pub(crate) use host::host;
pub(crate) use id::IdPrefix;
pub(crate) use install::InstallArguments;
pub(crate) use key::{DrillArguments, KeyArguments, KeyCommand, NewKeyArguments, NextKeyArguments};
pub(crate) use parse::ParseArguments;
pub(crate) use plan::{Goal, PlanArguments};
pub(crate) use published::{
    AddArguments, CompactArguments, CompromisedArguments, EndArguments, ExportArguments,
    ImportArguments, ListArguments, PublishedArguments, PublishedCommand, Records, ShowArguments,
    WaiveArguments, WhyArguments, or_default,
};
pub(crate) use renew_check::RenewCheckArguments;
use seconds::seconds;
pub(crate) use starttls::{PortProtocol, Starttls};
pub(crate) use status::{StatusArguments, TimelineFormat};
pub use sync::SyncArguments;

/// Headings and names stand out on a terminal.
const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(Style::new());

/// Work with public key pins (RFC 7469): compute pins, find their private keys, check configurations,
/// record which pins clients hold.
#[derive(Debug, Parser)]
#[command(name = "hpkp", version, styles = STYLES, disable_help_subcommand = false)]
#[command(after_help = "\
Examples:
  hpkp pin fullchain.pem                                  print the pins of a certificate chain
  hpkp pin www.example.com                                print the pins of a server
  hpkp find sha256/PIN /etc/ssl                           find the private key of a pin
  hpkp check --config /etc/nginx/nginx.conf               would a reload pass?
  hpkp published why www.example.com --cert new.pem       would clients accept this certificate?
  hpkp status                                             is all well?

Exit codes: 0 success, 1 the answer is no or the input is invalid, 2 wrong usage,
3 the answer cannot be determined.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Pin(PinArguments),
    Find(FindArguments),
    Install(InstallArguments),
    Key(KeyArguments),
    Check(CheckArguments),
    Plan(PlanArguments),
    Parse(ParseArguments),
    Analyze(AnalyzeArguments),
    Ca(CaArguments),
    RenewCheck(RenewCheckArguments),
    Acme(AcmeArguments),
    Published(PublishedArguments),
    Status(StatusArguments),
    Sync(SyncArguments),
    Generate(GenerateArguments),
}

/// Print the pins of keys in files and on servers.
///
/// Each line begins with a pin, followed by a description of the key. The certificates of a server
/// are not verified.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp pin fullchain.pem
  hpkp pin www.example.com                         port 443
  hpkp pin https://www.example.com:8443/ '[::1]:443'
  hpkp pin --private-key backup.key
  openssl pkey -in backup.key -pubout | hpkp pin -")]
pub(crate) struct PinArguments {
    /// File, server or - for standard input.
    ///
    /// A file contains certificates, certificate signing requests or public keys in PEM or DER. A
    /// server is HOST, HOST:PORT or https://HOST; the default port is 443. If a file of that name
    /// exists, the file is read.
    #[arg(required = true, value_name = "FILE|HOST[:PORT]|-")]
    pub(crate) sources: Vec<OsString>,

    /// Server name to send (SNI) instead of HOST.
    #[arg(long, value_name = "NAME")]
    pub(crate) servername: Option<String>,

    /// Also take private keys: print the pins of their public keys.
    #[arg(long)]
    pub(crate) private_key: bool,

    /// Passphrase of an encrypted private key, in the first line of a file. Without this option the
    /// command asks for it.
    #[arg(long, value_name = "FILE", requires = "private_key")]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// Time limit for each connection, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,

    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Find the private key that belongs to a pin or a certificate.
///
/// Also lists certificates, certificate signing requests and public keys with the same key. /proc,
/// /sys and other file systems of the kernel are skipped.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp find sha256/ewDX5nnVKY6TyhzhCTZd88IAhEra5U+kor4s1LOxV6I= /etc/ssl
  hpkp find fullchain.pem /")]
pub(crate) struct FindArguments {
    /// Pin (sha256/...), or a file whose first key is searched for.
    #[arg(value_name = "PIN|CERT")]
    pub(crate) key: OsString,

    /// Directory to search, with all its subdirectories, or a file.
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) directory: PathBuf,

    /// Passphrase of encrypted private keys, in the first line of a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_fit_together() {
        Arguments::command().debug_assert();
    }
}
