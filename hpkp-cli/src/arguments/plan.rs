//! The arguments of `hpkp plan`.

use std::ffi::OsString;

use clap::{Args, ValueEnum};
use hpkp_core::max_age::MaxAge;
use hpkp_core::published::{HostName, WriterName};

use super::host::host;
use super::{ConfigurationArguments, Records};

/// Plan a change of keys or pins, with the date of each step.
///
/// The plan starts from the records of published pins: the pins that the servers send for HOST now,
/// those that clients may still hold, and the certificates that are presented. With --config it
/// starts from a configuration, and compares it with the records. Each step has its earliest date, the
/// policy for nginx and httpd, and the commands. If no order of steps is safe, the command says why. It
/// writes nothing, and connects to nothing without --server.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp plan www.example.com --to new-key --pin new.csr
  hpkp plan www.example.com --to backup --backup next-backup.csr
  hpkp plan www.example.com --to new-key --pin new-rsa.csr --pin new-ecdsa.csr
  hpkp plan www.example.com --to give-up --json --config /etc/nginx/nginx.conf
  hpkp plan www.example.com --to max-age --max-age 60d -d /var/lib/hpkp
  hpkp plan www.example.com --to enforce --reports reports.jsonl

Exit codes: 0 a plan, 1 no plan is safe, 2 wrong usage, 3 the answer cannot be determined.")]
pub(crate) struct PlanArguments {
    /// Host name.
    #[arg(value_name = "HOST", value_parser = host)]
    pub(crate) host: HostName,

    /// What the plan leads to.
    #[arg(long, value_name = "GOAL")]
    pub(crate) to: Goal,

    #[command(flatten)]
    pub(crate) configuration: ConfigurationArguments,

    /// Name under which the configured server writes its records [default: as configured].
    #[arg(long, value_name = "NAME", requires = "config")]
    pub(crate) writer: Option<WriterName>,

    /// Certificate in use, followed by its chain; one for each kind of key [default: what the
    /// configuration or the records say is presented].
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Vec<String>,

    /// Server to ask for the certificates in use.
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with_all = ["cert", "config"])]
    pub(crate) server: Option<String>,

    /// Pin that the plan leads to, or a file with its key: a certificate signing request, a
    /// certificate, a public or private key. May be given once for each certificate in use: a file's key
    /// replaces the key of the same kind.
    #[arg(long = "pin", value_name = "PIN|FILE")]
    pub(crate) pins: Vec<OsString>,

    /// Pin of the next backup key, or a file with that key.
    #[arg(long = "backup", value_name = "PIN|FILE")]
    pub(crate) backups: Vec<OsString>,

    /// New max_age, for the goal max-age.
    #[arg(long, value_name = "TIME", required_if_eq("to", "max-age"), value_parser = max_age)]
    pub(crate) max_age: Option<MaxAge>,

    /// File of trust anchors (PEM), in addition to those of the system, for --cert,
    /// --server and --config.
    #[arg(long, value_name = "FILE")]
    pub(crate) trusted_certificate: Option<String>,

    /// What the collector of violation reports received, as hpkp-reports export prints it, for the goal enforce.
    #[arg(long, value_name = "FILE", required_if_eq("to", "enforce"))]
    pub(crate) reports: Option<std::path::PathBuf>,

    /// Days of report-only without unexplained reports, for the goal enforce.
    #[arg(long, value_name = "N", default_value = "14", value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub(crate) report_days: u16,

    /// Clients that must have reported, for the goal enforce: silence proves nothing where nobody reports.
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) report_clients: u32,

    /// Print the dates as an iCalendar file (RFC 5545).
    #[arg(long, conflicts_with = "json")]
    pub(crate) ics: bool,

    #[command(flatten)]
    pub(crate) records: Records,
}

/// What a plan leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Goal {
    /// The backup key is in use.
    Backup,
    /// A key that has not been published yet is in use.
    NewKey,
    /// A certificate of another CA is in use.
    Ca,
    /// The pin of the intermediate replaces that of the leaf.
    Intermediate,
    /// The pin of the root replaces that of the leaf.
    Root,
    /// Clients remember the pins for longer.
    MaxAge,
    /// The pins apply to all subdomains too.
    Subdomains,
    /// A report-only policy is enforced.
    Enforce,
    /// There are no pins any more.
    GiveUp,
}

impl Goal {
    /// The name of the goal on the command line.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::NewKey => "new-key",
            Self::Ca => "ca",
            Self::Intermediate => "intermediate",
            Self::Root => "root",
            Self::MaxAge => "max-age",
            Self::Subdomains => "subdomains",
            Self::Enforce => "enforce",
            Self::GiveUp => "give-up",
        }
    }
}

fn max_age(text: &str) -> Result<MaxAge, String> {
    text.parse().map_err(|_| "expected a time such as 30d, at most 2147483647 seconds".to_owned())
}
