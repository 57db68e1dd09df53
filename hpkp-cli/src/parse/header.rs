//! What RFC 7469 and each client make of the fields of one kind.

use hpkp_core::pin::Pin;
use hpkp_core::ua::deviation::{Deviation, Effect};
use hpkp_core::ua::field::{Asks, Field, Reading, TooLong};
use hpkp_core::ua::host::Host;
use hpkp_core::ua::uri::ReceivedUri;
use hpkp_core::ua::{FieldKind, Response, Verdict, chromium, firefox, wget2};
use serde::Serialize;

use super::text;

/// The connection that a response came over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection<'a> {
    /// Whether it was TLS without errors.
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
    /// The values, each byte a character.
    pub(crate) values: Vec<String>,
    /// What RFC 7469 says of the first value; the others are to be ignored.
    pub(crate) rfc7469: Judgement,
    /// The same for a client that allows empty directives and blanks around `=`.
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
    /// Bytes of the first value.
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) effect: &'static str,
    pub(crate) text: String,
}

/// What a client is to do with a field, and what the field says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Judgement {
    pub(crate) valid: bool,
    #[serde(flatten)]
    pub(crate) action: Action,
    /// Why a valid field asks for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) because: Option<&'static str>,
    pub(crate) pins: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_age: Option<u64>,
    pub(crate) include_subdomains: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) report_uri: Option<String>,
}

/// What a client does, in the words of the core's [`Verdict`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Action {
    pub(crate) verdict: String,
    /// For how many seconds the host is noted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) noted_for: Option<u64>,
    /// Whether with its subdomains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) noted_with_subdomains: Option<bool>,
    /// Whether a report is sent.
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
    /// Whether some client notes the pins, or would over a connection that it trusts.
    pub(crate) fn may_be_noted(&self) -> bool {
        let judged = [&self.rfc7469, &self.tolerant];
        judged.iter().any(|one| one.valid && one.max_age != Some(0)) || self.is_noted()
    }

    /// Whether a client that is known notes the pins.
    pub(crate) fn is_noted(&self) -> bool {
        let Clients { chromium, firefox, wget2 } = &self.clients;
        [chromium, firefox, wget2].iter().any(|client| client.noted_for.is_some())
    }

    /// Reads the values of one kind of header, of which the first counts.
    ///
    /// # Errors
    /// They are longer than is read.
    pub(crate) fn new(
        kind: FieldKind,
        values: Vec<Vec<u8>>,
        host: &Host,
        chain: Option<&[Pin]>,
        secure: bool,
    ) -> Result<Self, TooLong> {
        let first = values.first().map(Vec::as_slice).unwrap_or_default();
        // Without a chain: one pinned key in it, and the others outside it.
        let assumed: Vec<Pin> = text::first_pin(first).into_iter().collect();
        let chain = chain.unwrap_or(&assumed);
        Self::seen(kind, values, host, &Connection { secure, validated: chain, sent: chain })
    }

    /// The same for a response over a connection that is known.
    ///
    /// # Errors
    /// The values are longer than is read.
    pub(crate) fn seen(
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
                // With GnuTLS, as in Debian, it compares what is sent.
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

/// What RFC 7469 asks of a client, and why it is nothing.
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
