//! Judges the fields of one kind by RFC 7469 and by each client's rules.

use hpkp_core::pin::Pin;
use hpkp_core::ua::deviation::{Deviation, Effect};
use hpkp_core::ua::field::{Asks, Field, Reading, TooLong};
use hpkp_core::ua::host::Host;
use hpkp_core::ua::uri::ReceivedUri;
use hpkp_core::ua::{FieldKind, Response, Verdict, chromium, firefox, wget2};
use serde::Serialize;

use super::text;

/// The connection over which a response was received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection<'a> {
    /// Whether the connection was TLS without errors.
    pub(crate) secure: bool,
    /// The pins of the chain that the client validated.
    pub(crate) validated: &'a [Pin],
    /// The pins of the chain that the server sent.
    pub(crate) sent: &'a [Pin],
}

/// All fields of one kind in a response.
#[derive(Debug, Serialize)]
pub(crate) struct Header {
    pub(crate) name: &'static str,
    /// The field values, each byte as one character.
    pub(crate) values: Vec<String>,
    /// What RFC 7469 requires for the first value; clients must ignore the others.
    pub(crate) rfc7469: Judgement,
    /// The same for a client that tolerates empty directives and blanks around `=`.
    pub(crate) tolerant: Judgement,
    pub(crate) deviations: Vec<DeviationView>,
    pub(crate) clients: Clients,
    #[serde(skip)]
    pub(crate) bytes: Vec<u8>,
    #[serde(skip)]
    pub(crate) departures: Vec<Deviation>,
}

#[derive(Debug, Serialize)]
pub(crate) struct DeviationView {
    /// The first byte of the deviation in the first value.
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) effect: &'static str,
    pub(crate) text: String,
}

/// What a client must do with a field, and the contents of the field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Judgement {
    pub(crate) valid: bool,
    #[serde(flatten)]
    pub(crate) action: Action,
    /// Why a valid field has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) because: Option<&'static str>,
    pub(crate) pins: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_age: Option<u64>,
    pub(crate) include_subdomains: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) report_uri: Option<String>,
}

/// The reaction of a client, in the words of the core's [`Verdict`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Action {
    pub(crate) verdict: String,
    /// The time for which the client notes the host, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) noted_for: Option<u64>,
    /// Whether the client notes the host's subdomains too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) noted_with_subdomains: Option<bool>,
    /// Whether the client sends a report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) report: Option<bool>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Clients {
    pub(crate) chromium: Action,
    pub(crate) firefox: Action,
    pub(crate) wget2: Action,
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
    /// Whether a client notes the pins, or would note them over a connection that it trusts.
    pub(crate) fn may_be_noted(&self) -> bool {
        let judged = [&self.rfc7469, &self.tolerant];
        judged.iter().any(|one| one.valid && one.max_age != Some(0)) || self.is_noted()
    }

    /// Whether one of the known clients notes the pins.
    pub(crate) fn is_noted(&self) -> bool {
        let Clients { chromium, firefox, wget2 } = &self.clients;
        [chromium, firefox, wget2].iter().any(|client| client.noted_for.is_some())
    }

    /// Judges the values of one kind of header; the first one counts.
    ///
    /// # Errors
    /// The values are longer than the limit.
    pub(crate) fn new(
        kind: FieldKind,
        values: Vec<Vec<u8>>,
        host: &Host,
        chain: Option<&[Pin]>,
        secure: bool,
    ) -> Result<Self, TooLong> {
        let first = values.first().map(Vec::as_slice).unwrap_or_default();
        // Without a chain, the first pin is assumed to be in the validated chain, and the others not.
        let assumed: Vec<Pin> = text::first_pin(first).into_iter().collect();
        let chain = chain.unwrap_or(&assumed);
        Self::over(kind, values, host, &Connection { secure, validated: chain, sent: chain })
    }

    /// Judges the values of a response over a known connection.
    ///
    /// # Errors
    /// The values are longer than the limit.
    pub(crate) fn over(
        kind: FieldKind,
        values: Vec<Vec<u8>>,
        host: &Host,
        connection: &Connection<'_>,
    ) -> Result<Self, TooLong> {
        let first = values.first().map(Vec::as_slice).unwrap_or_default();
        let reading = Reading::of(kind, first)?;
        let Connection { secure, validated, sent } = *connection;
        let slices: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let response = |chain| Response::new(kind, &slices, host, secure, chain);
        let validating = response(validated)?;
        let deviations = reading.deviations().iter().map(DeviationView::from).collect();
        let judge = |field| Judgement::of(kind, field, host, connection);
        Ok(Self {
            name: kind.name(),
            rfc7469: judge(reading.strict()),
            tolerant: judge(reading.tolerant()),
            deviations,
            clients: Clients {
                chromium: chromium::verdict(&validating).into(),
                firefox: firefox::verdict(&validating).into(),
                // wget2 with GnuTLS, as in Debian, compares the sent chain instead of the validated one.
                wget2: wget2::verdict(&response(sent)?).into(),
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
    fn of(
        kind: FieldKind,
        field: Option<&Field>,
        host: &Host,
        connection: &Connection<'_>,
    ) -> Self {
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
        let (verdict, because) = judge(kind, field, host, connection);
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

/// What RFC 7469 requires of a client; and why, if the field has no effect.
fn judge(
    kind: FieldKind,
    field: &Field,
    host: &Host,
    connection: &Connection<'_>,
) -> (Verdict, Option<&'static str>) {
    let chain = connection.validated;
    if matches!(host, Host::Address(_)) {
        return (
            Verdict::Ignore,
            Some("hosts that are IP addresses are not noted (section 2.3.3)"),
        );
    }
    if !connection.secure {
        return (Verdict::Ignore, Some("the connection is not TLS without errors (section 2.2.2)"));
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
