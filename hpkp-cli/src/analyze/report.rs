//! The JSON output of `hpkp analyze --json`. Members may be added without a new version.

use hpkp_core::finding::Class;
use serde::Serialize;

use crate::exit::Exit;
use crate::parse::header::Header;

/// The whole output.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) v: u32,
    /// When the table of CA keys was reviewed.
    pub(super) ca_table: String,
    pub(super) targets: Vec<TargetReport>,
}

/// The result for one target, under the name that the user gave.
#[derive(Debug, Serialize)]
pub(super) struct TargetReport {
    pub(super) target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    /// The exit code if this target were the only one.
    pub(super) exit: u8,
    /// All responses of the redirect chain.
    pub(super) hops: Vec<Hop>,
    /// The servers of the redirect chain, in its order.
    pub(super) sites: Vec<SiteReport>,
    /// The test reports that were sent (`--test-report`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) test_reports: Option<Vec<TestReport>>,
    /// Findings about the target as a whole.
    pub(super) findings: Vec<FindingView>,
    #[serde(skip)]
    pub(super) ended: Exit,
}

/// A report that `--test-report` has sent.
#[derive(Debug, Serialize)]
pub(super) struct TestReport {
    pub(super) uri: String,
    /// The HTTP status of the collector's response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    /// Why the collector gave no response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Hop {
    #[serde(flatten)]
    pub(super) response: ResponseView,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) location: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ResponseView {
    pub(super) url: String,
    pub(super) status: u16,
    /// The field values, each byte as one character.
    pub(super) public_key_pins: Vec<String>,
    pub(super) public_key_pins_report_only: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct SiteReport {
    pub(super) url: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) protocol: &'static str,
    pub(super) addresses: Vec<AddressReport>,
    /// The different headers of each kind.
    pub(super) headers: Vec<HeaderReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tlsa: Option<TlsaReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) renewal: Option<Renewal>,
    pub(super) findings: Vec<FindingView>,
}

#[derive(Debug, Serialize)]
pub(super) struct AddressReport {
    pub(super) address: String,
    pub(super) tls: Vec<String>,
    pub(super) chains: Vec<ChainReport>,
    pub(super) responses: Vec<ResponseView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ChainReport {
    /// The handshakes in which the server presented the chain.
    pub(super) seen_with: Vec<String>,
    /// Whether clients that verify the chain accept it for this host.
    pub(super) accepted: bool,
    /// The sent certificates, the leaf first, and the trusted roots to which a path leads.
    pub(super) certificates: Vec<CertificateReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct CertificateReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pin: Option<String>,
    pub(super) role: &'static str,
    pub(super) subject: String,
    pub(super) issuer: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) dns_names: Vec<String>,
    pub(super) not_after: String,
    /// The name of the key in the table of CA keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) known_as: Option<String>,
    pub(super) sent: bool,
    pub(super) trusted: bool,
    /// Whether the certificate is on a path from the leaf to a root.
    pub(super) on_path: bool,
    /// Whether a header contains the pin of the certificate's key.
    pub(super) pinned: bool,
    /// The possible issuers, by their positions in the list.
    pub(super) issuers: Vec<usize>,
}

#[derive(Debug, Serialize)]
pub(super) struct HeaderReport {
    #[serde(flatten)]
    pub(super) header: Header,
    /// The addresses that send the header.
    pub(super) from: Vec<String>,
    pub(super) pin_roles: Vec<PinReport>,
}

/// A pin and the kind of key that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct PinReport {
    pub(super) pin: String,
    /// `leaf`, `intermediate`, `root`, `superfluous`, `known-ca`, `backup` or `unknown`.
    pub(super) role: &'static str,
    /// Whether no chain contains the key, so that the pin counts as a backup pin.
    pub(super) backup: bool,
    /// The certificate's subject, or the name in the table of CA keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct TlsaReport {
    pub(super) owner: String,
    pub(super) resolver: String,
    /// The resolver's DNSSEC status: `validated` or `not-validated`. This command does not verify
    /// signatures.
    pub(super) dnssec: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ttl: Option<u32>,
    pub(super) records: Vec<TlsaRecord>,
}

#[derive(Debug, Serialize)]
pub(super) struct TlsaRecord {
    /// The record in zone file notation.
    pub(super) record: String,
    pub(super) usable: bool,
    /// Whether the record matches every chain.
    pub(super) matches: bool,
}

/// The effect of the next renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Renewal {
    /// `safe`, `same-key`, `depends`, `may-lock-out` or `no-pins`.
    pub(super) outcome: &'static str,
    /// When the certificate that expires first expires.
    pub(super) not_after: String,
    pub(super) text: String,
    /// Intermediates from which the CA may issue, and whose keys are not pinned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) missing: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct FindingView {
    pub(super) code: &'static str,
    pub(super) class: &'static str,
    pub(super) text: String,
    /// The affected addresses; empty if all are affected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) addresses: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) fix: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) details: Vec<String>,
    #[serde(skip)]
    pub(super) severity: Class,
}

impl FindingView {
    /// The exit code for this finding. A header that clients ignore counts as invalid.
    pub(super) const fn exit(&self) -> Exit {
        match self.severity {
            Class::Invalid | Class::Lockout | Class::Withhold => Exit::No,
            Class::Unsure => Exit::Undetermined,
            Class::Warning => Exit::Fine,
        }
    }
}
