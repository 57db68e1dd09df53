//! Violation reports (RFC 7469 section 3): their keys, and how to build one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::date;
use super::hosts::DueReport;
use crate::pin::Pin;

/// The keys of a report, each of which appears once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// When the violation was noticed.
    DateTime,
    /// The host that the UA asked for.
    Hostname,
    /// The port that it asked for.
    Port,
    /// When the violated policy ends.
    EffectiveExpirationDate,
    /// Whether that policy covers subdomains.
    IncludeSubdomains,
    /// The host that the policy was noted for.
    NotedHostname,
    /// The certificates that the host served.
    ServedCertificateChain,
    /// The certificates of the chain that the UA built last.
    ValidatedCertificateChain,
    /// The pins of the policy.
    KnownPins,
}

impl Key {
    /// All keys.
    pub const ALL: [Self; 9] = [
        Self::DateTime,
        Self::Hostname,
        Self::Port,
        Self::EffectiveExpirationDate,
        Self::IncludeSubdomains,
        Self::NotedHostname,
        Self::ServedCertificateChain,
        Self::ValidatedCertificateChain,
        Self::KnownPins,
    ];

    /// The key as text in the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DateTime => "date-time",
            Self::Hostname => "hostname",
            Self::Port => "port",
            Self::EffectiveExpirationDate => "effective-expiration-date",
            Self::IncludeSubdomains => "include-subdomains",
            Self::NotedHostname => "noted-hostname",
            Self::ServedCertificateChain => "served-certificate-chain",
            Self::ValidatedCertificateChain => "validated-certificate-chain",
            Self::KnownPins => "known-pins",
        }
    }
}

/// A violation report that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// When the violation was noticed, in seconds since 1970.
    pub date_time: i64,
    /// The host that the UA asked for.
    pub hostname: String,
    /// The port that it asked for.
    pub port: u16,
    /// When the violated policy ends, in seconds since 1970.
    pub effective_expiration_date: i64,
    /// Whether that policy covers subdomains.
    pub include_subdomains: bool,
    /// The host that the policy was noted for.
    pub noted_hostname: String,
    /// The certificates that the host served, DER.
    pub served_chain: Vec<Vec<u8>>,
    /// The certificates of the validated chain, DER.
    pub validated_chain: Vec<Vec<u8>>,
    /// The pins of the policy.
    pub known_pins: Vec<Pin>,
}

impl Report {
    /// A report of the violation `due` on a connection to `hostname` and `port` at `now`.
    ///
    /// A report must have an expiry, which a report-only policy does not have. The report then has `now`, as in
    /// Chromium.
    #[must_use]
    pub fn new(
        due: &DueReport,
        hostname: &str,
        port: u16,
        now: i64,
        served_chain: Vec<Vec<u8>>,
        validated_chain: Vec<Vec<u8>>,
    ) -> Self {
        Self {
            date_time: now,
            hostname: hostname.to_owned(),
            port,
            effective_expiration_date: due.expires.unwrap_or(now),
            include_subdomains: due.include_subdomains,
            noted_hostname: due.noted_hostname.clone(),
            served_chain,
            validated_chain,
            known_pins: due.known_pins.clone(),
        }
    }

    /// The body of the report.
    #[must_use]
    pub fn to_json(&self) -> String {
        let chain =
            |chain: &[Vec<u8>]| -> Vec<String> { chain.iter().map(|der| pem(der)).collect() };
        let pins: Vec<String> =
            self.known_pins.iter().map(|pin| format!("pin-sha256=\"{pin}\"")).collect();
        json!({
            Key::DateTime.name(): date::format(self.date_time),
            Key::Hostname.name(): self.hostname,
            Key::Port.name(): self.port,
            Key::EffectiveExpirationDate.name(): date::format(self.effective_expiration_date),
            Key::IncludeSubdomains.name(): self.include_subdomains,
            Key::NotedHostname.name(): self.noted_hostname,
            Key::ServedCertificateChain.name(): chain(&self.served_chain),
            Key::ValidatedCertificateChain.name(): chain(&self.validated_chain),
            Key::KnownPins.name(): pins,
        })
        .to_string()
    }
}

/// The lines before and after the base64 of a certificate (RFC 7468 section 5.1).
pub(super) const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
pub(super) const PEM_END: &str = "-----END CERTIFICATE-----";

/// A certificate in PEM, in lines of 64 characters (RFC 7468 section 2).
fn pem(der: &[u8]) -> String {
    const LINE: usize = 64;
    let base64 = STANDARD.encode(der);
    let mut text = format!("{PEM_BEGIN}\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(LINE).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(PEM_END);
    text.push('\n');
    text
}
