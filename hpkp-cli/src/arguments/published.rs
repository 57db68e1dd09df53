//! The arguments of `hpkp published`.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use hpkp_core::max_age::MaxAge;
use hpkp_core::pin::Pin;
use hpkp_core::published::line::MAX_TEXT;
use hpkp_core::published::{EventId, WriterName};

use crate::export;
use crate::import;
use crate::time;

/// Keep record of the pins that clients may hold, whichever way they got them.
///
/// The records are the ones that the server modules check configurations against.
#[derive(Debug, Args)]
pub(crate) struct PublishedArguments {
    /// A directory with records. Of several all are read, and the first is written to.
    #[arg(long, short, value_name = "DIR", default_value = "/var/lib/hpkp")]
    pub(crate) directory: Vec<String>,

    /// Print one line of JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,

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
    /// Read all records and say what is wrong with them.
    Verify,
}

/// Make a directory for records.
///
/// What exists of it already stays.
#[derive(Debug, Args)]
pub(crate) struct InitArguments {
    /// The directory; that of --directory by default.
    #[arg(value_name = "DIR")]
    pub(crate) path: Option<String>,
}

/// List the pins that clients may hold.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// List those as well that nobody holds any more.
    #[arg(long)]
    pub(crate) all: bool,
}

/// Show records in full.
#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// The ids of the events.
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<EventId>,
}

/// Say which records bind a host, and whether a certificate would lock their clients out.
#[derive(Debug, Args)]
pub(crate) struct WhyArguments {
    /// The host.
    #[arg(value_name = "HOST")]
    pub(crate) host: String,

    /// A certificate for the host, with the chain that is served: the check of a server is run on it.
    ///
    /// Several are certificates that one server has side by side, such as RSA and ECDSA.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Vec<String>,

    /// Certificates that are served behind each of them, where its own file lacks them.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) chain: Vec<String>,

    /// Trust anchors besides those of the system.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) trusted_certificate: Option<String>,

    /// The port; all that records speak of, if none is named.
    #[arg(long, value_name = "PORT", requires = "cert", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,

    /// End with 1 for a warning too.
    #[arg(long, requires = "cert")]
    pub(crate) deny_warnings: bool,
}

/// Who writes a record.
#[derive(Debug, Args)]
pub(crate) struct Writer {
    /// Under which name to write: the file is NAME.jsonl. By default the name of this machine and
    /// ".command".
    #[arg(long, value_name = "NAME")]
    pub(crate) writer: Option<WriterName>,
}

/// Record pins that clients hold.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["pin", "header"]))]
#[command(group = ArgGroup::new("lifetime").args(["max_age", "expires"]))]
pub(crate) struct AddArguments {
    /// The host, or *.DOMAIN for the hosts one label below, or **.DOMAIN for the domain and all
    /// below.
    #[arg(value_name = "HOST")]
    pub(crate) host: String,

    /// The value of a Public-Key-Pins header, as an add_header or Header set published it.
    #[arg(long, value_name = "VALUE", conflicts_with_all = ["max_age", "expires", "include_subdomains", "scope", "port"])]
    pub(crate) header: Option<String>,

    /// A pin (sha256/...), or file:PATH for that of the first key in a file.
    #[arg(long, value_name = "PIN", requires = "origin")]
    pub(crate) pin: Vec<String>,

    /// Where clients have the pins from, such as an app and its release.
    #[arg(long, value_name = "TEXT", value_parser = free_text)]
    pub(crate) origin: Option<String>,

    /// The pins bind all hosts below as well.
    #[arg(long)]
    pub(crate) include_subdomains: bool,

    /// What clients compare with the pins.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) scope: Scope,

    /// The one port that is meant, where it is one.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,

    /// For how long clients hold the pins after a visit (60d, 12h, seconds).
    #[arg(long, value_name = "TIME")]
    pub(crate) max_age: Option<MaxAge>,

    /// Until when clients hold the pins.
    #[arg(long, value_name = "TIME", value_parser = time::end)]
    pub(crate) expires: Option<i64>,

    /// Since when they are published.
    #[arg(long, value_name = "TIME", value_parser = time::begin)]
    pub(crate) since: Option<i64>,

    /// When that ended, or "now": clients hold the pins from then on for as long as they were told.
    #[arg(long, value_name = "TIME", value_parser = time::end)]
    pub(crate) until: Option<i64>,

    /// Certificates of the host, by which hashes of whole certificates are told from pins.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Vec<String>,

    #[command(flatten)]
    pub(crate) writer: Writer,
}

/// A text of somebody's own that records have room for.
fn free_text(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        text if text.len() > MAX_TEXT => Err(format!("it is longer than {MAX_TEXT} octets")),
        text => Ok(text.to_owned()),
    }
}

/// What clients compare with pins.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Scope {
    /// Any key on the path that they validated.
    #[default]
    Chain,
    /// The leaf's key.
    Leaf,
    /// A CA's key on the path.
    PathCa,
    /// The key of a CA that the server sent.
    SentCa,
}

/// Record the pins of an app, a script or a zone.
#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// The format of the file.
    #[arg(long, value_parser = choice(), default_value = "auto")]
    pub(crate) format: Choice,

    /// Where clients have the pins from, such as an app and its release.
    #[arg(long, value_name = "TEXT", value_parser = free_text)]
    pub(crate) origin: String,

    /// Certificates of the hosts, by which hashes of whole certificates are told from pins.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Vec<String>,

    /// Since when the pins are published.
    #[arg(long, value_name = "TIME", value_parser = time::begin)]
    pub(crate) since: Option<i64>,

    /// Write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// The file, or - for standard input.
    #[arg(value_name = "FILE|-")]
    pub(crate) file: String,

    #[command(flatten)]
    pub(crate) writer: Writer,
}

/// The format that is named; none where the text is to tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice(pub(crate) Option<import::format::Format>);

/// Takes the formats that are read, and "auto".
fn choice() -> impl TypedValueParser<Value = Choice> {
    let auto = PossibleValue::new("auto").help("By what the text has");
    let formats = import::format::Format::value_variants().iter();
    let formats = formats.filter_map(ValueEnum::to_possible_value);
    PossibleValuesParser::new(std::iter::once(auto).chain(formats))
        .map(|name| Choice(import::format::Format::from_str(&name, false).ok()))
}

/// Print the pins that clients may hold in the format of other software.
///
/// What the format cannot express is refused.
#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// The format.
    #[arg(long, value_enum)]
    pub(crate) format: export::Format,

    /// Leave out for how long browsers hold the pins of a header, for which formats of apps have no
    /// place.
    #[arg(long)]
    pub(crate) without_max_age: bool,

    /// Hosts, patterns of hosts (*.DOMAIN, **.DOMAIN) or ids of events; all by default.
    #[arg(value_name = "HOST|ID")]
    pub(crate) hosts: Vec<String>,
}

/// Say that pins are no longer published, keys no longer presented, or a whole server is gone.
///
/// Without ID and --host, --writer names a server that is gone: what it presented and published by its
/// header ends, until it writes again. Pins that clients have from somewhere else do not end with it.
#[derive(Debug, Args)]
pub(crate) struct EndArguments {
    /// The ids of the events.
    #[arg(value_name = "ID", required_unless_present_any = ["host", "writer"])]
    pub(crate) ids: Vec<EventId>,

    /// All pins on record for this name that clients do not note at a visit (HOST, *.DOMAIN,
    /// **.DOMAIN).
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Vec<String>,

    /// The server that is gone; with ID or --host the name to write under.
    #[arg(long, value_name = "NAME")]
    pub(crate) writer: Vec<WriterName>,

    /// Under which name to write: the file is NAME.jsonl. By default the name of this machine and
    /// ".command".
    #[arg(long, value_name = "NAME")]
    pub(crate) record_as: Option<WriterName>,

    /// Why.
    #[arg(long, value_name = "TEXT", value_parser = free_text)]
    pub(crate) why: String,

    /// When they ended, if not now.
    #[arg(long, value_name = "TIME", value_parser = time::end)]
    pub(crate) at: Option<i64>,
}

/// Give up the clients that hold pins: nothing is refused for their sake any more.
#[derive(Debug, Args)]
pub(crate) struct WaiveArguments {
    /// The ids of the events.
    #[arg(value_name = "ID", required_unless_present = "host")]
    pub(crate) ids: Vec<EventId>,

    /// All pins on record for this name that clients may hold (HOST, *.DOMAIN, **.DOMAIN). Pins of a
    /// domain above it are waived under the name of that domain.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Vec<String>,

    /// Why.
    #[arg(long, value_name = "TEXT", value_parser = free_text)]
    pub(crate) why: String,

    /// Who decided it.
    #[arg(long, value_name = "TEXT", value_parser = free_text)]
    pub(crate) who: String,

    #[command(flatten)]
    pub(crate) writer: Writer,
}

/// Say that a key is no longer its owner's alone, so that no advice names it.
#[derive(Debug, Args)]
pub(crate) struct CompromisedArguments {
    /// The key's pin.
    #[arg(value_name = "PIN")]
    pub(crate) pin: Pin,

    /// Why it is held to be so.
    #[arg(long, value_name = "TEXT", value_parser = free_text)]
    pub(crate) why: String,

    #[command(flatten)]
    pub(crate) writer: Writer,
}

/// Make files of records smaller: what is over for more than a year leaves them.
#[derive(Debug, Args)]
pub(crate) struct CompactArguments {
    /// Whose files; all that were made on this machine by default.
    #[arg(value_name = "WRITER")]
    pub(crate) writers: Vec<WriterName>,

    /// Write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
