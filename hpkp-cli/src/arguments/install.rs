//! The arguments of `hpkp install`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Records;
use super::published::max_staleness;
use super::seconds::seconds;
use super::starttls::{PortProtocol, port_protocol};

/// Install a certificate and its key, if clients accept them.
///
/// Meant as the deploy hook of an ACME client: the client writes where the server does not read, and
/// this command puts the files in the server's place. The certificates are compared with the recorded
/// pins, --to is exchanged as a whole, the server's own test and reload run, and the server must
/// present the new certificate. If one of these fails, the old files are put back and, where the
/// server may have loaded the new ones, it is reloaded again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp install --from /root/new --to /etc/ssl/site --test 'nginx -t' --reload 'nginx -s reload'
  hpkp install --from /root/new --to /etc/ssl/site --test true --reload true --dry-run
  hpkp install --recover --to /etc/ssl/site")]
pub(crate) struct InstallArguments {
    /// Directory with the new certificate and key, as the ACME client writes them. Give several for
    /// several certificates, such as RSA and ECDSA.
    #[arg(long, value_name = "DIR", required_unless_present = "recover")]
    pub(crate) from: Vec<PathBuf>,

    /// Directory from which the server reads, or a symbolic link to it. It is exchanged as a whole.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,

    /// Command that tests the server's configuration, run by sh -c.
    #[arg(long, value_name = "CMD", value_parser = command, required_unless_present = "recover")]
    pub(crate) test: Option<String>,

    /// Command that reloads the server, run by sh -c.
    #[arg(long, value_name = "CMD", value_parser = command, required_unless_present = "recover")]
    pub(crate) reload: Option<String>,

    /// Which certificate, where --from has several: a DNS name in it, or the name of its files.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Certificate file in --from, and its name in --to if that differs [default: found by its content].
    #[arg(long, value_name = "FILE[=NAME]")]
    pub(crate) cert_name: Vec<String>,

    /// Private key file in --from, and its name in --to if that differs [default: found by its content].
    #[arg(long, value_name = "FILE[=NAME]")]
    pub(crate) key_name: Vec<String>,

    /// Name that the certificates must cover [default: the names in the present certificates].
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Vec<String>,

    /// Server that must present the new certificate [default: the names in the certificate on this
    /// machine, on port 443 and the ports in the records].
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) served: Vec<String>,

    /// Begin with the plain text of this protocol on this port, and switch to TLS. PROTOCOL is smtp, imap,
    /// pop3, xmpp or xmpp-server; none for TLS at once [default: the protocols on their usual ports].
    #[arg(long, value_name = "PORT=PROTOCOL", value_parser = port_protocol)]
    pub(crate) starttls: Vec<PortProtocol>,

    /// File of trust anchors (PEM), in addition to those of the system.
    #[arg(long, value_name = "FILE")]
    pub(crate) trusted_certificate: Option<String>,

    /// Longest silence of another machine that has a host, such as 1h or 2d, as in max_staleness of
    /// hpkp_published_pins. If it is exceeded, a new key is accepted only if it satisfies every pin on record.
    #[arg(long, value_name = "TIME", value_parser = max_staleness)]
    pub(crate) max_staleness: Option<i64>,

    /// Do not compare with recorded pins. The server's own test is the only check then.
    #[arg(long, conflicts_with_all = ["directory", "trusted_certificate", "max_staleness"])]
    pub(crate) no_records: bool,

    /// Time limit for each command, for the server to present the new certificate and for another
    /// install to end, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,

    /// Print what would be installed; change nothing and run nothing.
    #[arg(long, conflicts_with = "recover")]
    pub(crate) dry_run: bool,

    /// Undo an install that was interrupted, and install nothing.
    #[arg(long, conflicts_with_all = ["from", "name", "cert_name", "key_name", "host", "served", "no_records"])]
    pub(crate) recover: bool,

    #[command(flatten)]
    pub(crate) records: Records,
}

impl InstallArguments {
    /// The directories with records; empty with `--no-records`.
    pub(crate) fn directories(&self) -> Vec<String> {
        if self.no_records { Vec::new() } else { self.records.directories() }
    }
}

/// A command for the shell. An empty text is an error.
fn command(text: &str) -> Result<String, String> {
    match text.trim().is_empty() {
        true => Err("empty; to run nothing, say so: true".to_owned()),
        false => Ok(text.to_owned()),
    }
}
