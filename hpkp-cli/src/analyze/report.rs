//! What `hpkp analyze --json` prints. Members may be added without a new version.

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

/// One target, as it was given.
#[derive(Debug, Serialize)]
pub(super) struct TargetReport {
    pub(super) target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    /// How the command would end for this target alone.
    pub(super) exit: u8,
    /// The responses on the way to the last one.
    pub(super) hops: Vec<Hop>,
    /// The servers that were asked, in the order of the redirects.
    pub(super) sites: Vec<SiteReport>,
    /// The test reports that were sent (`--test-report`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) test_reports: Option<Vec<TestReport>>,
    /// Findings about the target as a whole.
    pub(super) findings: Vec<FindingView>,
    #[serde(skip)]
    pub(super) ended: Exit,
}

/// A report that was sent to see whether it arrives.
#[derive(Debug, Serialize)]
pub(super) struct TestReport {
    pub(super) uri: String,
    /// What the collector answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    /// Why there is no answer.
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
    /// The values, each byte a character.
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
    /// Each different header of each kind.
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
    /// The handshakes in which it was presented.
    pub(super) seen_with: Vec<String>,
    /// Whether clients that verify it accept it for this host.
    pub(super) accepted: bool,
    /// The leaf first; all that was sent, and the trusted roots that can be reached.
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
    /// The name that the table of CA keys has for its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) known_as: Option<String>,
    pub(super) sent: bool,
    pub(super) trusted: bool,
    /// Whether it is on a path from the leaf to a root.
    pub(super) on_path: bool,
    /// Whether a header pins its key.
    pub(super) pinned: bool,
    /// Its possible issuers, by position.
    pub(super) issuers: Vec<usize>,
}

#[derive(Debug, Serialize)]
pub(super) struct HeaderReport {
    #[serde(flatten)]
    pub(super) header: Header,
    /// The addresses that send it.
    pub(super) from: Vec<String>,
    pub(super) pin_roles: Vec<PinReport>,
}

/// What a pin is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct PinReport {
    pub(super) pin: String,
    /// `leaf`, `intermediate`, `root`, `superfluous`, `known-ca`, `backup` or `unknown`.
    pub(super) role: &'static str,
    /// Whether no chain has its key, so that it counts as a backup pin.
    pub(super) backup: bool,
    /// The certificate's subject, or the name in the table of CA keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct TlsaReport {
    pub(super) owner: String,
    pub(super) resolver: String,
    /// What the resolver says of DNSSEC: `validated` or `not-validated`. Nothing is verified here.
    pub(super) dnssec: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ttl: Option<u32>,
    pub(super) records: Vec<TlsaRecord>,
}

#[derive(Debug, Serialize)]
pub(super) struct TlsaRecord {
    /// As a zone has it.
    pub(super) record: String,
    pub(super) usable: bool,
    /// Whether every chain has what it names.
    pub(super) matches: bool,
}

/// What the next renewal does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Renewal {
    /// `safe`, `same-key`, `depends`, `may-lock-out` or `no-pins`.
    pub(super) outcome: &'static str,
    /// When the first certificate expires.
    pub(super) not_after: String,
    pub(super) text: String,
    /// Intermediates that the CA may issue from, and that are not pinned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) missing: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct FindingView {
    pub(super) code: &'static str,
    pub(super) class: &'static str,
    pub(super) text: String,
    /// The addresses concerned; none where all are.
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
    /// How a command ends with this finding. A header that clients ignore is as good as invalid.
    pub(super) const fn exit(&self) -> Exit {
        match self.severity {
            Class::Invalid | Class::Lockout | Class::Withhold => Exit::No,
            Class::Unsure => Exit::Undetermined,
            Class::Warning => Exit::Fine,
        }
    }
}
