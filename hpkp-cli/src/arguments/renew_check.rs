//! The arguments of `hpkp renew-check`.

use std::ffi::OsString;

use clap::{ArgGroup, Args};

use super::Records;
use super::published::max_staleness;

/// Say whether clients would accept a renewed certificate, before the renewal.
///
/// Meant as a hook that an ACME client runs before it makes a key: if the command fails, nothing has been
/// made yet. The command assumes that the renewed certificate has another key, and the names, the issuer
/// and the chain of the present one. The first line of the answer begins with yes, no or unknown.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("present").required(true).args(["cert", "server"]))]
#[command(after_help = "\
Examples:
  hpkp renew-check --cert fullchain.pem                        with a new key
  hpkp renew-check --cert fullchain.pem --key next.key         with a key that is there already
  hpkp renew-check www.example.com --server localhost")]
pub(crate) struct RenewCheckArguments {
    /// Host name [default: the names in the present certificate].
    #[arg(value_name = "HOST")]
    pub(crate) hosts: Vec<String>,

    /// Present certificate, followed by its chain.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<String>,

    /// Server that presents the certificate, if the file cannot be read.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) server: Option<String>,

    /// Key of the renewed certificate: a private or public key, a certificate signing request or a
    /// certificate [default: a new key].
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<OsString>,

    /// File of trust anchors (PEM), in addition to those of the system.
    #[arg(long, value_name = "FILE")]
    pub(crate) trusted_certificate: Option<String>,

    /// Longest silence of another machine that has a host, such as 1h or 2d, as in max_staleness of
    /// hpkp_published_pins. If it is exceeded, a new key is accepted only if it satisfies every pin on record.
    #[arg(long, value_name = "TIME", value_parser = max_staleness)]
    pub(crate) max_staleness: Option<i64>,

    #[command(flatten)]
    pub(crate) records: Records,
}
