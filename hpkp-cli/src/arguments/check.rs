//! The arguments of `hpkp check`.

use clap::{ArgGroup, Args, ValueEnum};
use hpkp_core::published::WriterName;

use super::or_default;
use crate::check::Kind;

/// Check a configuration as the server's config test does.
///
/// Certificates are compared with policies and published pins. Reads a policy file (TOML), an nginx configuration or an Apache httpd configuration, with the files
/// that it includes, and gives the findings and the answer of the server's own test: would a reload pass?
/// Connects to nothing, and writes nothing without --record.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("other").args(["haproxy", "postfix", "dovecot", "caddy", "stunnel"])
    .conflicts_with("config"))]
#[command(after_help = "\
Examples:
  hpkp check --config /etc/nginx/nginx.conf
  hpkp check --cert new.pem
  hpkp check --config nginx.conf --cert new.pem --published records/
  hpkp check --config /etc/nginx/nginx.conf --format json
  hpkp check --config /etc/apache2/apache2.conf --define APACHE_RUN_DIR=/run/apache2
  hpkp check --config pins.toml --cert fullchain.pem --format sarif
  hpkp check --haproxy /etc/haproxy/haproxy.cfg --published /var/lib/hpkp

Exit codes: 0 a reload would pass, 1 it would be refused, 2 wrong usage,
3 the answer cannot be determined.")]
pub(crate) struct CheckArguments {
    #[command(flatten)]
    pub(crate) configuration: ConfigurationArguments,

    /// Configuration of HAProxy. Its certificates are compared with the published pins.
    #[arg(long, value_name = "FILE")]
    pub(crate) haproxy: Option<String>,

    /// main.cf of Postfix, checked in the same way.
    #[arg(long, value_name = "FILE")]
    pub(crate) postfix: Option<String>,

    /// Configuration of Dovecot, checked in the same way.
    #[arg(long, value_name = "FILE")]
    pub(crate) dovecot: Option<String>,

    /// Caddyfile, checked in the same way.
    #[arg(long, value_name = "FILE")]
    pub(crate) caddy: Option<String>,

    /// Configuration of stunnel, checked in the same way.
    #[arg(long, value_name = "FILE")]
    pub(crate) stunnel: Option<String>,

    /// Certificate with its chain. It takes the place of the configured certificates of each server whose
    /// name is in it. Without a configuration, it is compared with the published pins alone.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Vec<String>,

    /// File of trust anchors (PEM), in addition to those of the system, instead of the file that the
    /// configuration names.
    #[arg(long, value_name = "FILE", visible_alias = "trusted-certificate")]
    pub(crate) roots: Option<String>,

    /// Directory with records of published pins, instead of those that the configuration names. The default
    /// is /var/lib/hpkp if there is no --config.
    #[arg(long, value_name = "DIR")]
    pub(crate) published: Vec<String>,

    /// If the check passes, record what the server presents from now on. For the unit that starts and
    /// reloads a server without a module of hpkp.
    #[arg(long, requires = "other")]
    pub(crate) record: bool,

    /// Name under which the server writes its records [default: as configured; with --record the host
    /// name and the kind of the server, such as web-1.haproxy].
    #[arg(long, value_name = "NAME")]
    pub(crate) writer: Option<WriterName>,

    /// What to do about a lock-out. With warn it passes, as in a server's test with HPKP_CHECK=warn.
    #[arg(long, value_name = "ANSWER")]
    pub(crate) check: Option<CheckAnswer>,

    /// Exit with 1 if there is any finding, warnings included.
    #[arg(long)]
    pub(crate) deny_warnings: bool,

    /// Format of the result.
    #[arg(long, value_name = "FORMAT", default_value = "text", conflicts_with = "json")]
    pub(crate) format: ReportFormat,

    /// Print one line of JSON, as --format json does.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A configuration with policies, and how it is read.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ConfigurationArguments {
    /// Policy file, configuration of nginx or httpd, output of nginx -T, or - for standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<String>,

    /// Kind of the configuration [default: recognised by its content].
    #[arg(long, value_name = "KIND", requires = "config")]
    pub(crate) config_format: Option<ConfigFormat>,

    /// Directory that relative paths start from: httpd's ServerRoot [default: that of the
    /// configuration].
    #[arg(long, value_name = "DIR", requires = "config")]
    pub(crate) prefix: Option<String>,

    /// Name that httpd is started with (-D), or variable of its environment.
    #[arg(long, short = 'D', value_name = "NAME[=VALUE]", requires = "config")]
    pub(crate) define: Vec<String>,
}

impl CheckArguments {
    /// The kind of another server, and its configuration file.
    pub(crate) fn other(&self) -> Option<(Kind, &str)> {
        let all = [
            (Kind::Haproxy, &self.haproxy),
            (Kind::Postfix, &self.postfix),
            (Kind::Dovecot, &self.dovecot),
            (Kind::Caddy, &self.caddy),
            (Kind::Stunnel, &self.stunnel),
        ];
        all.into_iter().find_map(|(kind, file)| Some((kind, file.as_deref()?)))
    }

    /// The directories with records. Without a configuration, which could name some, the default directory.
    pub(crate) fn records(&self) -> Vec<String> {
        match self.configuration.config {
            Some(_) => self.published.clone(),
            None => or_default(&self.published),
        }
    }

    /// The format of the output; `--json` counts as `--format json`.
    pub(crate) const fn report_format(&self) -> ReportFormat {
        if self.json { ReportFormat::Json } else { self.format }
    }
}

/// The kinds of configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfigFormat {
    /// A policy file.
    Toml,
    /// nginx.
    Nginx,
    /// Apache httpd.
    Httpd,
}

/// What the check does about a lock-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckAnswer {
    /// As configured.
    Refuse,
    /// It passes.
    Warn,
}

impl CheckAnswer {
    /// Whether a lock-out passes.
    pub(crate) const fn is_lenient(self) -> bool {
        matches!(self, Self::Warn)
    }
}

/// The formats of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// Lines, as servers log them.
    Text,
    /// One line of JSON.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// JUnit, for test reports.
    Junit,
}
