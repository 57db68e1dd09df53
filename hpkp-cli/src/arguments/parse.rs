//! The arguments of `hpkp parse`.

use clap::Args;

/// Show what clients make of a Public-Key-Pins header.
///
/// Reports each deviation from RFC 7469 at its place in the text, and where Chromium, Firefox and
/// wget2 differ from the RFC for this header.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp parse 'pin-sha256=\"...\"; pin-sha256=\"...\"; max-age=5184000'
  curl -sI https://www.example.com/ | hpkp parse -
  hpkp parse --chain fullchain.pem 'Public-Key-Pins: ...'")]
pub(crate) struct ParseArguments {
    /// Header value, header line, or - for standard input.
    ///
    /// In several lines, the lines Public-Key-Pins and Public-Key-Pins-Report-Only are read.
    #[arg(value_name = "HEADER|-", default_value = "-")]
    pub(crate) header: String,

    /// Read the value as Public-Key-Pins-Report-Only.
    #[arg(long)]
    pub(crate) report_only: bool,

    /// Certificate chain that the client validated: a file, a pin (sha256/...) or several.
    ///
    /// Without it, clients are assumed to find one pinned key in the chain and another outside it.
    #[arg(long, value_name = "FILE|PIN")]
    pub(crate) chain: Vec<String>,

    /// Host that sends the header.
    #[arg(long, value_name = "HOST", default_value = "www.example.com")]
    pub(crate) host: String,

    /// The header came over plain HTTP, or over TLS with errors.
    #[arg(long)]
    pub(crate) no_tls: bool,

    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
