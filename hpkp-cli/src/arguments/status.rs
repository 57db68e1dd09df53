//! The arguments of `hpkp status`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};

use super::published::or_default;
use super::seconds::seconds;
use super::starttls::{PortProtocol, port_protocol};

/// Say whether all is well: the records, the presented keys, what expires next.
///
/// Reads the directory with records, connects to the hosts on record, and compares the keys that they
/// present with the pins that clients hold.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("form").args(["json", "prometheus", "timeline"]))]
#[command(after_help = "\
Examples:
  hpkp status
  hpkp status www.example.com --connect 127.0.0.1
  hpkp status --timeline
  hpkp status --timeline html --output status.html
  hpkp status --prometheus --output /var/lib/prometheus/node-exporter/hpkp.prom")]
pub(crate) struct StatusArguments {
    /// Host to look at, with or without a port [default: every host on record].
    #[arg(value_name = "HOST[:PORT]")]
    pub(crate) hosts: Vec<String>,

    /// Directory with records; may be given several times [default: /var/lib/hpkp].
    #[arg(long, short, value_name = "DIR")]
    pub(crate) directory: Vec<String>,

    /// Connect to this address instead of those of the hosts. If given several times, to each of them.
    #[arg(long, value_name = "ADDR[:PORT]", conflicts_with = "offline")]
    pub(crate) connect: Vec<String>,

    /// Begin with the plain text of this protocol on this port, and switch to TLS. PROTOCOL is smtp, imap,
    /// pop3, xmpp or xmpp-server; none for TLS at once [default: the protocols on their usual ports].
    #[arg(long, value_name = "PORT=PROTOCOL", value_parser = port_protocol)]
    pub(crate) starttls: Vec<PortProtocol>,

    /// Connect to nothing.
    #[arg(long)]
    pub(crate) offline: bool,

    /// Time limit for each connection, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,

    /// File of trust anchors (PEM), in addition to those of the system.
    #[arg(long, value_name = "FILE")]
    pub(crate) trusted_certificate: Option<String>,

    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,

    /// Print metrics for the textfile collector of Prometheus.
    #[arg(long)]
    pub(crate) prometheus: bool,

    /// Draw who holds which pins until when.
    #[arg(long, value_name = "FORMAT", value_enum, num_args = 0..=1, default_missing_value = "text")]
    pub(crate) timeline: Option<TimelineFormat>,

    /// File to write instead of standard output. It is replaced as a whole or not at all.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// How the timeline is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TimelineFormat {
    /// Lines of text.
    Text,
    /// An SVG image.
    Svg,
    /// An HTML page that needs no other file.
    Html,
}

impl StatusArguments {
    /// The directories to read.
    pub(crate) fn directories(&self) -> Vec<String> {
        or_default(&self.directory)
    }
}
