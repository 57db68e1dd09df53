//! The arguments of `hpkp published`.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use hpkp_core::max_age::MaxAge;
use hpkp_core::published::line::MAX_TEXT;
use hpkp_core::published::{Scope, WriterName, named};

use super::IdPrefix;
use crate::export;
use crate::import;
use crate::time;

/// The default directory of records.
const DEFAULT_DIRECTORY: &str = "/var/lib/hpkp";

/// Where the records are and how the result is printed: valid before and after the command.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Records {
    /// Directory with records. May be given several times: all are read; a command that records something
    /// writes to the first [default: /var/lib/hpkp].
    #[arg(long, short, alias = "published", value_name = "DIR")]
    pub(crate) directory: Vec<String>,

    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Records {
    /// The named directories, or the default one.
    pub(crate) fn directories(&self) -> Vec<String> {
        or_default(&self.directory)
    }
}

/// The named directories, or the default one.
pub(crate) fn or_default(named: &[String]) -> Vec<String> {
    match named {
        [] => vec![DEFAULT_DIRECTORY.to_owned()],
        named => named.to_vec(),
    }
}

/// Record and list the pins that clients hold, from headers, apps, scripts and DNS.
///
/// nginx and Apache httpd check their certificates against the same records.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp published list
  hpkp published why www.example.com --cert fullchain.pem
  hpkp published import --origin 'app 4.2' Pins.kt
  hpkp published list -d /srv/pins --json")]
pub(crate) struct PublishedArguments {
    #[command(flatten)]
    pub(crate) records: Records,

    #[command(subcommand)]
    pub(crate) command: PublishedCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PublishedCommand {
    Init(InitArguments),
    List(ListArguments),
    Show(ShowArguments),
    Why(WhyArguments),
    Add(AddArguments),
    Import(ImportArguments),
    Export(ExportArguments),
    End(EndArguments),
    Waive(WaiveArguments),
    Compromised(CompromisedArguments),
    Compact(CompactArguments),
    Verify(VerifyArguments),
}

/// Create a directory for records.
///
/// Existing records are kept. Run this once, for a new installation: if a directory that had records
/// is missing, mount or restore it instead.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp published init
  hpkp published init /srv/pins")]
pub(crate) struct InitArguments {
    /// Directory to create [default: the directory of --directory].
    #[arg(value_name = "DIR")]
    pub(crate) path: Option<String>,

    #[command(flatten)]
    pub(crate) records: Records,
}

/// List pins that clients may still hold, with expiry.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp published list
  hpkp published list --all -d /srv/pins")]
pub(crate) struct ListArguments {
    /// Include expired records.
    #[arg(long)]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) records: Records,
}

/// Show records in full.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp published show 05b91aaa6a5aa9021dac4300ba91b3a8
  hpkp published show 05b9 b67e")]
pub(crate) struct ShowArguments {
    /// Ids of records, or their first digits.
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<IdPrefix>,

    #[command(flatten)]
    pub(crate) records: Records,
}

/// Say whether clients would accept a certificate, and which pins apply to a host.
///
/// With --cert, the first line of the answer begins with yes, no or unknown.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp published why www.example.com
  hpkp published why www.example.com --cert fullchain.pem
  hpkp published why www.example.com --cert rsa.pem --cert ecdsa.pem --chain chain.pem")]
pub(crate) struct WhyArguments {
    /// Host name.
    #[arg(value_name = "HOST")]
    pub(crate) host: String,

    /// Certificate for the host, followed by the chain that is sent. Give several for a server with
    /// several certificates, such as RSA and ECDSA.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Vec<String>,

    /// Certificates that are sent after each --cert, if they are in another file.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) chain: Vec<String>,

    /// File of trust anchors (PEM), in addition to those of the system.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) trusted_certificate: Option<String>,

    /// Port [default: 443 and every port in the records].
    #[arg(long, value_name = "PORT", requires = "cert", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,

    /// Exit with 1 for warnings too.
    #[arg(long, requires = "cert")]
    pub(crate) deny_warnings: bool,

    /// Also print what a server would log.
    #[arg(long, requires = "cert")]
    pub(crate) log: bool,

    /// Longest silence of another machine that has the host, such as 1h or 2d, as in max_staleness of
    /// hpkp_published_pins. If it is exceeded, only a key that satisfies every pin on record is accepted.
    #[arg(long, value_name = "TIME", requires = "cert", value_parser = max_staleness)]
    pub(crate) max_staleness: Option<i64>,

    #[command(flatten)]
    pub(crate) records: Records,
}

/// Parses the value as the servers' directive does.
pub(super) fn max_staleness(text: &str) -> Result<i64, String> {
    hpkp_server::setting::max_staleness(text)
}

/// Who writes a record.
#[derive(Debug, Args)]
pub(crate) struct Writer {
    /// Name to write under, in the file NAME.jsonl [default: the host name and ".command"].
    #[arg(long, value_name = "NAME")]
    pub(crate) writer: Option<WriterName>,
}

/// Record pins that clients hold, other than those of an hpkp module.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["pin", "header"]))]
#[command(group = ArgGroup::new("lifetime").args(["max_age", "expires"]))]
#[command(after_help = "\
Examples:
  hpkp published add www.example.com --until now --header 'pin-sha256=\"...\"; max-age=5184000'
  hpkp published add '*.example.com' --origin 'app 4.2' --pin sha256/... --pin file:backup.pub")]
pub(crate) struct AddArguments {
    /// Host name, *.DOMAIN for hosts one label below, or **.DOMAIN for the domain and all
    /// subdomains.
    #[arg(value_name = "HOST")]
    pub(crate) host: String,

    /// Value of a Public-Key-Pins header that was sent by other means (add_header, Header set).
    #[arg(long, value_name = "VALUE", conflicts_with_all = ["max_age", "expires", "include_subdomains", "scope", "port"])]
    pub(crate) header: Option<String>,

    /// Pin (sha256/...), or file:PATH for the first key in a file.
    #[arg(long, value_name = "PIN", requires = "origin")]
    pub(crate) pin: Vec<String>,

    /// Where clients got the pins, such as an app and its release.
    #[arg(long, value_name = "TEXT", value_parser = free_text)]
    pub(crate) origin: Option<String>,

    /// The pins apply to all subdomains too.
    #[arg(long)]
    pub(crate) include_subdomains: bool,

    /// Which keys clients compare with the pins.
    #[arg(long, default_value_t, value_parser = scope())]
    pub(crate) scope: Scope,

    /// Port, if the pins apply to one port only.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,

    /// How long clients keep the pins after a visit (60d, 12h or seconds).
    #[arg(long, value_name = "TIME")]
    pub(crate) max_age: Option<MaxAge>,

    /// When the pins expire. Without --max-age and --expires, they do not expire.
    #[arg(long, value_name = "TIME", value_parser = time::end)]
    pub(crate) expires: Option<i64>,

    /// When the pins were first published.
    #[arg(long, value_name = "TIME", value_parser = time::begin)]
    pub(crate) since: Option<i64>,

    /// When publication ended, or "now". Clients keep the pins for the max-age after that.
    #[arg(long, value_name = "TIME", value_parser = time::end)]
    pub(crate) until: Option<i64>,

    /// Certificate of the host, to detect the hash of a whole certificate given as a pin.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Vec<String>,

    #[command(flatten)]
    pub(crate) writer: Writer,

    #[command(flatten)]
    pub(crate) records: Records,
}

/// Free text from the operator, within the length limit of records.
fn free_text(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("empty text".to_owned()),
        text if text.len() > MAX_TEXT => Err(format!("longer than {MAX_TEXT} bytes")),
        text => Ok(text.to_owned()),
    }
}

/// Which keys clients compare with pins.
fn scope() -> impl TypedValueParser<Value = Scope> {
    let helps = [
        "Any key in the validated chain",
        "The key of the certificate itself (the leaf)",
        "The key of a CA in the validated chain",
        "The key of a CA that the server sent",
    ];
    let values = Scope::NAMES.iter().zip(helps);
    let values = values.map(|((name, _), help)| PossibleValue::new(*name).help(help));
    PossibleValuesParser::new(values).map(|text| named(Scope::NAMES, &text).unwrap_or_default())
}

/// Record the pins in the source or configuration of an app, a script or a DNS zone.
///
/// Every pin in the file is either recorded or reported with its line.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp published import --origin 'app 4.2' Pins.kt
  hpkp published import --origin 'app 4.2' --format android network_security_config.xml --dry-run
  dig TLSA _443._tcp.www.example.com | hpkp published import --origin DNS -")]
pub(crate) struct ImportArguments {
    /// Format of the file.
    #[arg(long, value_parser = choice(), default_value = "auto")]
    pub(crate) format: Choice,

    /// Where clients got the pins, such as an app and its release.
    #[arg(long, value_name = "TEXT", value_parser = free_text)]
    pub(crate) origin: String,

    /// Certificate of a host, to detect the hash of a whole certificate given as a pin.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Vec<String>,

    /// When the pins were first published.
    #[arg(long, value_name = "TIME", value_parser = time::begin)]
    pub(crate) since: Option<i64>,

    /// Print what would be recorded; write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// File, or - for standard input.
    #[arg(value_name = "FILE|-")]
    pub(crate) file: String,

    #[command(flatten)]
    pub(crate) writer: Writer,

    #[command(flatten)]
    pub(crate) records: Records,
}

/// The named format; `None` if the format is to be recognised by the content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice(pub(crate) Option<import::format::Format>);

/// Accepts the formats that can be imported, and "auto".
fn choice() -> impl TypedValueParser<Value = Choice> {
    let auto = PossibleValue::new("auto").help("Recognised by the content");
    let formats = import::format::Format::value_variants().iter();
    let formats = formats.filter_map(ValueEnum::to_possible_value);
    PossibleValuesParser::new(std::iter::once(auto).chain(formats))
        .map(|name| Choice(import::format::Format::from_str(&name, false).ok()))
}

/// Print recorded pins in the format of other software.
///
/// If the format cannot express a record, nothing is printed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp published export --format okhttp www.example.com
  hpkp published export --format json > pins.jsonl")]
pub(crate) struct ExportArguments {
    /// Output format.
    #[arg(long, value_enum)]
    pub(crate) format: export::Format,

    /// Print pins of a header without their max-age, in a format that cannot express it.
    #[arg(long)]
    pub(crate) without_max_age: bool,

    /// Host, pattern (*.DOMAIN, **.DOMAIN) or id [default: all].
    #[arg(value_name = "HOST|ID")]
    pub(crate) hosts: Vec<String>,

    #[command(flatten)]
    pub(crate) records: Records,
}

/// Record that pins are no longer published, or that a server is gone.
///
/// Clients keep pins with a max-age for that time; other pins end at once. Without ID and --host,
/// --writer names a server that is gone for good: the pins of its header and the keys that it presented
/// end, until it writes again. Pins that clients have from elsewhere are not affected.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp published end 05b9 --why 'app 4.2 is no longer in use'
  hpkp published end --host '*.example.com' --why 'app withdrawn'
  hpkp published end --writer web-3 --why 'machine decommissioned'")]
pub(crate) struct EndArguments {
    /// Ids of records, or their first digits.
    #[arg(value_name = "ID", required_unless_present_any = ["host", "writer"])]
    pub(crate) ids: Vec<IdPrefix>,

    /// All records without a max-age for this name (HOST, *.DOMAIN, **.DOMAIN).
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Vec<String>,

    /// Server that is gone; with ID or --host, the name to write under.
    #[arg(long, value_name = "NAME")]
    pub(crate) writer: Vec<WriterName>,

    /// Name to write under, in the file NAME.jsonl [default: the host name and ".command"].
    #[arg(long, value_name = "NAME")]
    pub(crate) record_as: Option<WriterName>,

    /// Reason.
    #[arg(long, value_name = "TEXT", value_parser = free_text)]
    pub(crate) why: String,

    /// When publication ended [default: now].
    #[arg(long, value_name = "TIME", value_parser = time::end)]
    pub(crate) at: Option<i64>,

    #[command(flatten)]
    pub(crate) records: Records,
}

/// Give up clients: servers then accept certificates that lock them out.
///
/// Servers log a warning instead of refusing the configuration. The clients are locked out all the
/// same.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp published waive b67e --who 'J. Doe' --why 'three old kiosks, all replaced'")]
pub(crate) struct WaiveArguments {
    /// Ids of records, or their first digits.
    #[arg(value_name = "ID", required_unless_present = "host")]
    pub(crate) ids: Vec<IdPrefix>,

    /// All records for this name (HOST, *.DOMAIN, **.DOMAIN). Pins of a parent domain are recorded
    /// under the name of that domain.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Vec<String>,

    /// Reason.
    #[arg(long, value_name = "TEXT", value_parser = free_text)]
    pub(crate) why: String,

    /// Who decided it.
    #[arg(long, value_name = "TEXT", value_parser = free_text)]
    pub(crate) who: String,

    #[command(flatten)]
    pub(crate) writer: Writer,

    #[command(flatten)]
    pub(crate) records: Records,
}

/// Record a key as compromised.
///
/// From then on no message recommends this key. The records that contain its pin are printed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp published compromised sha256/wBIW9fQR0nSEYy8OM2sG4Yw8dHwnBBTb4YIlzjlT+EA= --why 'stolen'
  hpkp published compromised fullchain.pem --why 'key was in a public repository'")]
pub(crate) struct CompromisedArguments {
    /// Pin of the key, or a file whose first key it is.
    #[arg(value_name = "PIN|CERT")]
    pub(crate) key: String,

    /// Reason.
    #[arg(long, value_name = "TEXT", value_parser = free_text)]
    pub(crate) why: String,

    #[command(flatten)]
    pub(crate) writer: Writer,

    #[command(flatten)]
    pub(crate) records: Records,
}

/// Remove records that expired more than a year ago.
///
/// Only files written on this machine are changed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp published compact --dry-run
  hpkp published compact web-1")]
pub(crate) struct CompactArguments {
    /// Writers whose files are compacted [default: all that were made on this machine].
    #[arg(value_name = "WRITER")]
    pub(crate) writers: Vec<WriterName>,

    /// Print what would be removed; write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) records: Records,
}

/// Check all records for damage.
///
/// Nothing is repaired.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp published verify
  hpkp published verify -d /srv/pins --json")]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    pub(crate) records: Records,
}

impl PublishedArguments {
    /// The directories and the output format, whether given before or after the subcommand.
    pub(crate) fn records(&self) -> Records {
        let below = match &self.command {
            PublishedCommand::Init(one) => &one.records,
            PublishedCommand::List(one) => &one.records,
            PublishedCommand::Show(one) => &one.records,
            PublishedCommand::Why(one) => &one.records,
            PublishedCommand::Add(one) => &one.records,
            PublishedCommand::Import(one) => &one.records,
            PublishedCommand::Export(one) => &one.records,
            PublishedCommand::End(one) => &one.records,
            PublishedCommand::Waive(one) => &one.records,
            PublishedCommand::Compromised(one) => &one.records,
            PublishedCommand::Compact(one) => &one.records,
            PublishedCommand::Verify(one) => &one.records,
        };
        let mut directory = self.records.directory.clone();
        directory.extend(below.directory.iter().cloned());
        Records { directory: or_default(&directory), json: self.records.json || below.json }
    }
}
