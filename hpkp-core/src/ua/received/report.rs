//! A received report of any format, and the reasons why a body is refused.

use std::sync::Arc;

use crate::pin::Pin;
use crate::ua::host::Host;
use crate::ua::report_reader::{Certificate, MAX_BODY, ReadReport};

/// The most reports that are read of one body. Items of other kinds in an envelope do not count.
pub const MAX_REPORTS: usize = 1000;

/// Who defined the format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// RFC 7469 section 3.
    Rfc7469,
    /// TrustKit's variant of it, for iOS and Android.
    TrustKit,
    /// react-native-ssl-manager: pins alone, no certificates.
    ReactNative,
    /// RFC 9163 section 3.1: a chain, and no pins.
    ExpectCt,
    /// RFC 8460 section 4: one failure of a policy of a mail domain.
    SmtpTls,
    /// Network Error Logging: a connection that the client refused because of pins, without pins or certificates.
    NetworkError,
}

impl Format {
    /// Its name, which is stable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rfc7469 => "rfc7469",
            Self::TrustKit => "trustkit",
            Self::ReactNative => "react-native-ssl-manager",
            Self::ExpectCt => "expect-ct",
            Self::SmtpTls => "smtp-tls",
            Self::NetworkError => "network-error",
        }
    }
}

/// One report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its format.
    pub format: Format,
    /// The part that all formats have in common; the host is always present.
    pub report: ReadReport,
    /// The host that the client asked for; in an SMTP TLS report, the mail domain.
    pub host: Host,
    /// The pins of the served keys, from clients that send no certificates.
    pub served_pins: Vec<Pin>,
    /// Whether the client refused the connection, if the report has it.
    pub enforced: Option<bool>,
    /// The app that sent the report, if the report has it.
    pub app: Option<String>,
    /// The platform of that app.
    pub platform: Option<String>,
    /// The kind of failure: TrustKit's `validation-result`, an SMTP TLS report's `result-type`.
    pub result: Option<String>,
    /// The server that was reached, if that is not the host: the mail exchanger.
    pub server: Option<String>,
    /// In an SMTP TLS report, the kind of policy, such as `tlsa` and `sts`.
    pub policy: Option<String>,
    /// How many connections the report is about; at least one.
    pub count: u64,
    /// Milliseconds between the violation and the report (Reporting API).
    pub age: Option<u64>,
    /// Whether the sender marked the report as a test.
    pub is_test: bool,
    /// The report's own text within the body; that of a report with several failures is shared.
    pub text: Arc<str>,
}

/// The content of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The reports.
    pub reports: Vec<Received>,
    /// Items of envelopes that are of other kinds, or cannot be used.
    pub passed_over: usize,
}

/// Why a body is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More than [`MAX_BODY`] bytes.
    #[error("the body is larger than {MAX_BODY} bytes")]
    TooLarge,
    /// Not JSON.
    #[error("the body is not JSON")]
    NotJson,
    /// More than [`MAX_REPORTS`].
    #[error("the body has more than {MAX_REPORTS} reports")]
    TooManyReports,
    /// JSON, but not a report of a known format with a host and the failure.
    #[error("the body is not a report of a known format")]
    NotAReport,
    /// Only items in envelopes that are of unknown kinds or cannot be used; their number.
    #[error("the body has {0} reports of other kinds alone")]
    OtherKinds(usize),
}

impl Received {
    pub(super) fn new(format: Format, host: Host, report: ReadReport, text: &Arc<str>) -> Self {
        Self {
            format,
            report,
            host: host.canonical(),
            served_pins: Vec::new(),
            enforced: None,
            app: None,
            platform: None,
            result: None,
            server: None,
            policy: None,
            count: 1,
            age: None,
            is_test: false,
            text: Arc::clone(text),
        }
    }

    /// The certificates that the host served, as far as the report has them: the served chain, else the
    /// validated one.
    #[must_use]
    pub fn chain(&self) -> &[Certificate] {
        let chains = [&self.report.served_chain, &self.report.validated_chain];
        let chain = chains.into_iter().flatten().find(|chain| !chain.is_empty());
        chain.map_or(&[], Vec::as_slice)
    }
}
