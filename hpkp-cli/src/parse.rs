//! `hpkp parse`: what clients make of a header, and where it departs from RFC 7469.

mod shown;
mod text;

use hpkp_core::certificate::Certificate;
use hpkp_core::pin::Pin;
use hpkp_core::spki;
use hpkp_core::ua::deviation::{Deviation, Effect};
use hpkp_core::ua::field::{Asks, Field, Reading};
use hpkp_core::ua::host::Host;
use hpkp_core::ua::uri::ReceivedUri;
use hpkp_core::ua::{FieldKind, MAX_FIELD, Response, Verdict, chromium, firefox, wget2};
use serde::Serialize;

use crate::arguments::ParseArguments;
use crate::encoded;
use crate::exit::Exit;
use crate::input;
use crate::output::{self, JSON_VERSION};
use crate::usage;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    v: u32,
    /// Each kind of header that was found, `Public-Key-Pins` first.
    headers: Vec<Header>,
}

/// All fields of one kind in a response.
#[derive(Debug, Serialize)]
struct Header {
    name: &'static str,
    /// The values, each byte a character.
    values: Vec<String>,
    /// What RFC 7469 says of the first value; the others are to be ignored.
    rfc7469: Judgement,
    /// The same for a client that allows empty directives and blanks around `=`.
    tolerant: Judgement,
    deviations: Vec<DeviationView>,
    clients: Clients,
    #[serde(skip)]
    bytes: Vec<u8>,
    #[serde(skip)]
    departures: Vec<Deviation>,
}

#[derive(Debug, Serialize)]
struct DeviationView {
    /// Bytes of the first value.
    start: usize,
    end: usize,
    effect: &'static str,
    text: String,
}

/// What a client is to do with a field, and what the field says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Judgement {
    valid: bool,
    #[serde(flatten)]
    action: Action,
    /// Why a valid field asks for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<&'static str>,
    pins: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age: Option<u64>,
    include_subdomains: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    report_uri: Option<String>,
}

/// What a client does, in the words of the core's [`Verdict`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Action {
    verdict: String,
    /// For how many seconds the host is noted.
    #[serde(skip_serializing_if = "Option::is_none")]
    noted_for: Option<u64>,
    /// Whether with its subdomains.
    #[serde(skip_serializing_if = "Option::is_none")]
    noted_with_subdomains: Option<bool>,
    /// Whether a report is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Clients {
    chromium: Action,
    firefox: Action,
    wget2: Action,
}

impl From<Verdict> for Action {
    fn from(verdict: Verdict) -> Self {
        let (noted, report) = match verdict {
            Verdict::Note { max_age, include_subdomains }
            | Verdict::NoteThenRefuse { max_age, include_subdomains } => {
                (Some((max_age, include_subdomains)), None)
            }
            Verdict::Evaluate { report } => (None, Some(report)),
            Verdict::Unsupported | Verdict::Ignore | Verdict::Delete => (None, None),
        };
        Self {
            verdict: verdict.to_string(),
            noted_for: noted.map(|(max_age, _)| max_age),
            noted_with_subdomains: noted.map(|(_, with)| with),
            report,
        }
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &ParseArguments) -> Exit {
    let host = match Host::parse(&arguments.host) {
        Ok(host) => host,
        Err(error) => return usage::wrong(&format!("--host: invalid host name: {error}")),
    };
    let headers = fields(arguments).and_then(|found| {
        let chain = chain(&arguments.chain)?;
        let kinds = found.into_iter().filter(|(_, values)| !values.is_empty());
        kinds.map(|(kind, values)| Header::new(kind, values, &host, chain.as_deref())).collect()
    });
    let headers: Vec<Header> = match headers {
        Ok(headers) => headers,
        Err((exit, text)) => {
            output::complain(&text);
            return exit;
        }
    };
    let is_valid = headers.iter().all(|header| header.rfc7469.valid);
    let written = if arguments.json {
        output::json(&Report { v: JSON_VERSION, headers })
    } else {
        headers.iter().try_for_each(|header| shown::print(header, arguments.chain.is_empty()))
    };
    output::ended(if is_valid { Exit::Fine } else { Exit::No }, written)
}

type Failed = (Exit, String);

/// The values of both kinds of header in the text that was given.
fn fields(arguments: &ParseArguments) -> Result<Vec<(FieldKind, Vec<Vec<u8>>)>, Failed> {
    let kind = if arguments.report_only { FieldKind::ReportOnly } else { FieldKind::Enforced };
    let (text, is_argument) = match arguments.header.as_str() {
        "-" => {
            let read = input::standard(2 * MAX_FIELD);
            let text = read.map_err(|error| (error.exit(), format!("standard input: {error}")))?;
            (text, false)
        }
        text => (text.as_bytes().to_vec(), true),
    };
    let found = text::headers(&text);
    if found.iter().any(|(_, values)| !values.is_empty()) {
        return Ok(found);
    }
    let value = text::without_line_end(&text);
    if value.contains(&b'\n') {
        let text = "no Public-Key-Pins header in these lines".to_owned();
        return Err((Exit::No, text));
    }
    if value.is_empty() && !is_argument {
        return Err((Exit::No, "standard input is empty".to_owned()));
    }
    Ok(vec![(kind, vec![value.to_vec()])])
}

/// The pins of the chain that clients validated, where it was given.
fn chain(given: &[String]) -> Result<Option<Vec<Pin>>, Failed> {
    if given.is_empty() {
        return Ok(None);
    }
    let mut pins = Vec::new();
    for one in given {
        if let Ok(pin) = one.parse() {
            pins.push(pin);
            continue;
        }
        let shown = output::path(one.as_ref());
        let bytes = input::named(one.as_ref(), spki::MAX_FILE)
            .map_err(|error| (error.exit(), format!("{shown}: {error}")))?;
        let certificates = encoded::certificates(&bytes).collect::<Result<Vec<Certificate>, _>>();
        let certificates = certificates.map_err(|error| (Exit::No, format!("{shown}: {error}")))?;
        if certificates.is_empty() {
            return Err((Exit::No, format!("{shown}: contains no certificate")));
        }
        pins.extend(certificates.iter().filter_map(Certificate::pin));
    }
    Ok(Some(pins))
}

impl Header {
    fn new(
        kind: FieldKind,
        values: Vec<Vec<u8>>,
        host: &Host,
        chain: Option<&[Pin]>,
    ) -> Result<Self, Failed> {
        let too_long = |error: hpkp_core::ua::field::TooLong| (Exit::No, error.to_string());
        let first = values.first().map(Vec::as_slice).unwrap_or_default();
        let reading = Reading::of(kind, first).map_err(too_long)?;
        // Without a chain: one pinned key in it, and the others outside it.
        let assumed: Vec<Pin> = text::first_pin(first).into_iter().collect();
        let chain = chain.unwrap_or(&assumed);
        let slices: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let response = Response::new(kind, &slices, host, true, chain).map_err(too_long)?;
        let deviations = reading.deviations().iter().map(DeviationView::from).collect();
        let judge = |field| Judgement::of(kind, field, host, chain);
        Ok(Self {
            name: kind.name(),
            rfc7469: judge(reading.strict()),
            tolerant: judge(reading.tolerant()),
            deviations,
            clients: Clients {
                chromium: chromium::verdict(&response).into(),
                firefox: firefox::verdict(&response).into(),
                wget2: wget2::verdict(&response).into(),
            },
            departures: reading.deviations().to_vec(),
            bytes: first.to_vec(),
            values: values.iter().map(|value| text::latin1(value)).collect(),
        })
    }
}

impl From<&Deviation> for DeviationView {
    fn from(deviation: &Deviation) -> Self {
        Self {
            start: deviation.at.start,
            end: deviation.at.end,
            effect: match deviation.situation.effect() {
                Effect::None => "none",
                Effect::VoidsStrictly => "voids-strictly",
                Effect::Voids => "voids",
            },
            text: deviation.situation.to_string(),
        }
    }
}

impl Judgement {
    fn of(kind: FieldKind, field: Option<&Field>, host: &Host, chain: &[Pin]) -> Self {
        let Some(field) = field else {
            return Self {
                valid: false,
                action: Verdict::Ignore.into(),
                because: None,
                pins: Vec::new(),
                max_age: None,
                include_subdomains: false,
                report_uri: None,
            };
        };
        let (verdict, because) = judge(kind, field, host, chain);
        Self {
            valid: true,
            action: verdict.into(),
            because,
            pins: field.pins.iter().map(|pin| format!("sha256/{pin}")).collect(),
            max_age: field.max_age,
            include_subdomains: field.include_subdomains,
            report_uri: field.report_uri.as_ref().map(ReceivedUri::as_str).map(str::to_owned),
        }
    }
}

/// What RFC 7469 asks of a client, and why it is nothing.
fn judge(
    kind: FieldKind,
    field: &Field,
    host: &Host,
    chain: &[Pin],
) -> (Verdict, Option<&'static str>) {
    if matches!(host, Host::Address(_)) {
        return (
            Verdict::Ignore,
            Some("hosts that are IP addresses are not noted (section 2.3.3)"),
        );
    }
    if kind == FieldKind::ReportOnly {
        return (Verdict::Evaluate { report: field.report_due(chain) }, None);
    }
    match field.asks(chain) {
        Asks::Note => {
            let (max_age, include_subdomains) =
                (field.max_age.unwrap_or(0), field.include_subdomains);
            (Verdict::Note { max_age, include_subdomains }, None)
        }
        Asks::Forget => (Verdict::Delete, None),
        Asks::NothingNoLivePin => {
            (Verdict::Ignore, Some("no pin matches a key in the validated chain (section 2.5)"))
        }
        Asks::NothingNoBackupPin => (
            Verdict::Ignore,
            Some("every pin is in the validated chain: no backup pin (section 2.5)"),
        ),
    }
}
