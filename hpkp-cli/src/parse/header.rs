//! What RFC 7469 and each client make of the fields of one kind.

use hpkp_core::pin::Pin;
use hpkp_core::ua::deviation::{Deviation, Effect};
use hpkp_core::ua::field::{Asks, Field, Reading, TooLong};
use hpkp_core::ua::host::Host;
use hpkp_core::ua::uri::ReceivedUri;
use hpkp_core::ua::{FieldKind, Response, Verdict, chromium, firefox, wget2};
use serde::Serialize;

use super::text;

/// All fields of one kind in a response.
#[derive(Debug, Serialize)]
pub(super) struct Header {
    pub(super) name: &'static str,
    /// The values, each byte a character.
    pub(super) values: Vec<String>,
    /// What RFC 7469 says of the first value; the others are to be ignored.
    pub(super) rfc7469: Judgement,
    /// The same for a client that allows empty directives and blanks around `=`.
    pub(super) tolerant: Judgement,
    pub(super) deviations: Vec<DeviationView>,
    pub(super) clients: Clients,
    #[serde(skip)]
    pub(super) bytes: Vec<u8>,
    #[serde(skip)]
    pub(super) departures: Vec<Deviation>,
}

#[derive(Debug, Serialize)]
pub(super) struct DeviationView {
    /// Bytes of the first value.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) effect: &'static str,
    pub(super) text: String,
}

/// What a client is to do with a field, and what the field says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Judgement {
    pub(super) valid: bool,
    #[serde(flatten)]
    pub(super) action: Action,
    /// Why a valid field asks for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) because: Option<&'static str>,
    pub(super) pins: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_age: Option<u64>,
    pub(super) include_subdomains: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) report_uri: Option<String>,
}

/// What a client does, in the words of the core's [`Verdict`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Action {
    pub(super) verdict: String,
    /// For how many seconds the host is noted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) noted_for: Option<u64>,
    /// Whether with its subdomains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) noted_with_subdomains: Option<bool>,
    /// Whether a report is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) report: Option<bool>,
}

#[derive(Debug, Serialize)]
pub(super) struct Clients {
    pub(super) chromium: Action,
    pub(super) firefox: Action,
    pub(super) wget2: Action,
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

impl Header {
    /// Reads the values of one kind of header, of which the first counts.
    ///
    /// # Errors
    /// They are longer than is read.
    pub(super) fn new(
        kind: FieldKind,
        values: Vec<Vec<u8>>,
        host: &Host,
        chain: Option<&[Pin]>,
    ) -> Result<Self, TooLong> {
        let first = values.first().map(Vec::as_slice).unwrap_or_default();
        let reading = Reading::of(kind, first)?;
        // Without a chain: one pinned key in it, and the others outside it.
        let assumed: Vec<Pin> = text::first_pin(first).into_iter().collect();
        let chain = chain.unwrap_or(&assumed);
        let slices: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let response = Response::new(kind, &slices, host, true, chain)?;
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
