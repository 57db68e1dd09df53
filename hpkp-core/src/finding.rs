//! Findings: stable codes, each of one class, and the form of their log lines.
//!
//! A code is API: scripts match on it, it may be retired but is never renamed. The table of codes is the
//! source of `docs/reference/findings.md`, which a test compares with it.

use std::fmt;
use std::sync::Arc;

use crate::text::Excerpt;

/// The place of a directive in the server's configuration.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Location {
    /// The file, as the server names it.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a finding means for the configuration. The failure table of `hpkp-server` decides what a server does about each
/// class in each phase of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The text of the configuration alone is wrong.
    Invalid,
    /// A client that holds pins would refuse what this server presents.
    Lockout,
    /// Something that the answer needs cannot be read.
    Unsure,
    /// Nobody is locked out; the header is not sent.
    Withhold,
    /// Worth knowing.
    Warning,
}

impl Class {
    /// Its name in the documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Lockout => "lockout",
            Self::Unsure => "unsure",
            Self::Withhold => "withhold",
            Self::Warning => "warning",
        }
    }
}

/// A row of the table of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The code.
    pub code: Code,
    /// Its text in log lines.
    pub text: &'static str,
    /// Its class in an enforced policy.
    pub class: Class,
    /// What it means, in a few words.
    pub title: &'static str,
    /// Where the requirement comes from: a section of a standard, or a page of the documentation.
    pub reference: &'static str,
}

// The title of a code is also its documentation; a comment adds what the title leaves out.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $class:ident, $title:literal, $reference:literal;)*) => {
        /// The stable code of a finding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(
                #[doc = concat!($title, ".")]
                $(#[$doc])*
                $name,
            )*
        }

        /// All codes. `docs/reference/findings.md` has them in this order.
        pub const CODES: &[Entry] = &[$(Entry {
            code: Code::$name,
            text: $text,
            class: Class::$class,
            title: $title,
            reference: $reference,
        },)*];
    };
}

codes! {
    MalformedPin = "malformed-pin", Invalid,
        "A pin is not the base64 of a SHA-256 hash", "RFC 7469 2.1.1";
    EmptyInputPin = "empty-input-pin", Invalid,
        "A pin is the SHA-256 hash of empty input", "RFC 7469 2.4";
    TooFewPins = "too-few-pins", Invalid,
        "The policy has fewer pins than clients require", "RFC 7469 2.5";
    TooManyPins = "too-many-pins", Invalid,
        "The policy has more pins than every client stores", "docs/explanation/design.md";
    MissingMaxAge = "missing-max-age", Invalid,
        "An enforced policy has no max-age", "RFC 7469 2.1.2";
    InvalidMaxAge = "invalid-max-age", Invalid,
        "The value of max-age is invalid", "RFC 7469 2.1.2";
    /// A `report_uri` that some user agent would void the header for.
    InvalidReportUri = "invalid-report-uri", Invalid,
        "The report URI is invalid", "RFC 7469 2.1.4";
    ReportOnlyWithoutReportUri = "report-only-without-report-uri", Invalid,
        "A report-only policy has no report URI", "RFC 7469 2.1";
    UnknownPolicy = "unknown-policy", Invalid,
        "A policy is used and not defined", "docs/reference/directives.md";
    NotServedHereConflict = "not-served-here-conflict", Invalid,
        "A name is declared as not served here and is served here", "docs/reference/directives.md";
    GuardVariableMisplaced = "guard-variable-misplaced", Invalid,
        "A variable of a guard is used where it gives no certificate", "docs/reference/directives.md";
    KeywordPinWithoutPublishedPins = "keyword-pin-without-published-pins", Invalid,
        "A pin follows the loaded certificate, and no records are written", "docs/reference/directives.md";
    InvalidHeader = "invalid-header", Invalid,
        "Clients ignore the header that the server sends, because its text is invalid", "RFC 7469 2.1";
    /// The server reports it without a code; only the command uses this code.
    InvalidConfiguration = "invalid-configuration", Invalid,
        "The server would refuse the text of the configuration", "docs/reference/command.md";
    /// The class is not `Invalid`: the content of a file may change while the server runs, and must not prevent the
    /// next start.
    PrivateKeyAsPinSource = "private-key-as-pin-source", Unsure,
        "The file of a pin contains a private key", "docs/reference/directives.md";
    UnpinnableKey = "unpinnable-key", Unsure,
        "The key has inherited parameters and cannot be pinned", "RFC 7469 2.4";
    /// A pin's file cannot be read, or contains no key that can be parsed; or there is no certificate for a keyword.
    UnreadablePinSource = "unreadable-pin-source", Unsure,
        "The file of a pin cannot be used", "docs/reference/directives.md";
    UnreadableTrustedCertificate = "unreadable-trusted-certificate", Unsure,
        "A file of trusted certificates cannot be used", "docs/reference/directives.md";
    UnreadableCertificate = "unreadable-certificate", Unsure,
        "A certificate of the server cannot be parsed", "RFC 5280 4.1";
    OversizedInput = "oversized-input", Unsure,
        "A file or a certificate exceeds a size limit", "docs/reference/findings.md";
    RecordsUnreadable = "records-unreadable", Unsure,
        "The records of published pins cannot be read", "docs/reference/records.md";
    RecordsMissing = "records-missing", Unsure,
        "Records that were read before have disappeared", "docs/reference/records.md";
    PeerSilent = "peer-silent", Unsure,
        "Another machine that serves this name has been silent for too long", "docs/reference/records.md";
    HeartbeatsUnreadable = "heartbeats-unreadable", Unsure,
        "The times at which other machines were last heard from cannot be read", "docs/reference/records.md";
    RecordsUnsafePermissions = "records-unsafe-permissions", Unsure,
        "Other users can change the records", "docs/reference/records.md";
    /// The directory for last good certificates cannot be used, or others may look into it.
    KeptCertificatesUnusable = "kept-certificates-unusable", Unsure,
        "The directory for last good certificates cannot be used", "docs/reference/directives.md";
    /// The key of a host cannot be copied, so its last good certificate cannot be kept.
    CertificateCannotBeKept = "certificate-cannot-be-kept", Unsure,
        "The last good certificate of a host cannot be kept", "docs/reference/directives.md";
    /// The server's OpenSSL lacks a function or is a version that is not supported.
    UnsupportedOpenssl = "unsupported-openssl", Unsure,
        "The server's TLS library is not supported", "docs/explanation/design.md";
    NameNotResolved = "name-not-resolved", Unsure,
        "A host name cannot be resolved", "docs/how-to/outside.md";
    ServerNotReached = "server-not-reached", Unsure,
        "A server cannot be reached", "docs/how-to/outside.md";
    /// A server that speaks no TLS, or ends the handshake.
    TlsHandshakeFailed = "tls-handshake-failed", Unsure,
        "A server presents no certificate", "docs/how-to/outside.md";
    /// A server that speaks TLS and no HTTP.
    NoHttpResponse = "no-http-response", Unsure,
        "A server sends no valid HTTP response", "docs/how-to/outside.md";
    TooManyRedirects = "too-many-redirects", Unsure,
        "Redirects do not end", "docs/how-to/outside.md";
    ResolverFailed = "resolver-failed", Unsure,
        "The DNS resolver gives no usable answer", "docs/how-to/outside.md";
    /// Found by the command alone.
    ConfigurationNotUnderstood = "configuration-not-understood", Unsure,
        "The command cannot tell what the server makes of the configuration", "docs/reference/command.md";
    NoPinInChain = "no-pin-in-chain", Lockout,
        "No pin of the policy matches a key in the certificate chain", "RFC 7469 2.6";
    PublishedPinsUnmet = "published-pins-unmet", Lockout,
        "No key in the certificate chain matches the pins that clients hold", "RFC 7469 2.6";
    SuperdomainPinsUnmet = "superdomain-pins-unmet", Lockout,
        "No key in the certificate chain matches the pins that clients hold for a parent domain", "RFC 7469 2.1.3";
    SameHostPinMismatch = "same-host-pin-mismatch", Lockout,
        "Another server block of this name presents keys that the policy does not pin", "RFC 7469 2.2.2";
    PeerServerPinMismatch = "peer-server-pin-mismatch", Lockout,
        "Another machine that serves this name presents keys that the policy does not pin", "RFC 7469 2.2.2";
    CertificateExpired = "certificate-expired", Lockout,
        "A certificate that the server presents has expired", "RFC 5280 4.1.2.5";
    CertificateNotYetValid = "certificate-not-yet-valid", Lockout,
        "A certificate that the server presents is not valid yet", "RFC 5280 4.1.2.5";
    CertificateUntrusted = "certificate-untrusted", Lockout,
        "The certificate chain leads to no trusted root", "RFC 5280 6.1";
    CertificateNameMismatch = "certificate-name-mismatch", Lockout,
        "The certificate is not for this host name", "RFC 6125 6.4";
    /// No pin lies outside the loaded chains.
    NoBackupPin = "no-backup-pin", Withhold,
        "The policy has no backup pin", "RFC 7469 2.5";
    PublishedPinsWriteFailed = "published-pins-write-failed", Withhold,
        "The pins of a header could not be recorded", "docs/reference/records.md";
    CertificateNotKnownAtLoad = "certificate-not-known-at-load", Withhold,
        "The certificate is chosen during the handshake", "docs/explanation/design.md";
    CertificateCheckedAtStart = "certificate-checked-at-start", Warning,
        "The certificate is checked at the start, not by the config test", "docs/explanation/design.md";
    CertificateCheckedAtHandshake = "certificate-checked-at-handshake", Warning,
        "The certificate is checked at the handshake, not by the config test", "docs/how-to/acme.md";
    GuardNotUsed = "guard-not-used", Warning,
        "No server presents the certificate that a guard gives", "docs/reference/directives.md";
    KeptCertificateServed = "kept-certificate-served", Warning,
        "The last good certificate is presented in place of the configured one", "docs/reference/directives.md";
    KeptCertificateNotUsed = "kept-certificate-not-used", Warning,
        "No last good certificate can take the place of the configured one", "docs/reference/directives.md";
    CertificateNotKept = "certificate-not-kept", Warning,
        "The certificate of the accepted configuration could not be kept", "docs/reference/directives.md";
    /// The certificate is chosen during the handshake, and the header is sent where it satisfies the
    /// policy.
    CertificateNotGuarded = "certificate-not-guarded", Warning,
        "The header is sent for certificates that are chosen during the handshake", "docs/reference/directives.md";
    CertificateMayBeReplaced = "certificate-may-be-replaced", Warning,
        "Another module can replace the certificate", "docs/explanation/design.md";
    /// Some path through the chain avoids every pinned key.
    PartialPathMatch = "partial-path-match", Warning,
        "The result of pin validation depends on the path that a client builds", "RFC 7469 2.6";
    RootOnlyMatch = "root-only-match", Warning,
        "The policy pins only keys that the server does not send", "RFC 7469 2.6";
    /// A pin matches a served certificate that lies on no path.
    SuperfluousCertificateMatch = "superfluous-certificate-match", Warning,
        "A pin matches only a certificate outside every certificate path", "RFC 7469 2.6";
    MaxAgeTooLong = "max-age-too-long", Warning,
        "max-age exceeds what browsers remember", "RFC 7469 4.1";
    ReportUriOnPinnedHost = "report-uri-on-pinned-host", Warning,
        "Reports go to a host that is pinned itself", "RFC 7469 2.1.4";
    TrustedCertificateSkipped = "trusted-certificate-skipped", Warning,
        "A trusted certificate cannot be used and is left out", "docs/explanation/design.md";
    PinNotSpkiHash = "pin-not-spki-hash", Warning,
        "A pin is the hash of something other than a public key", "RFC 7469 2.4";
    CompromisedKeyLoaded = "compromised-key-loaded", Warning,
        "The server presents a key that is recorded as compromised", "docs/incident.md";
    CompromisedKeyPinned = "compromised-key-pinned", Warning,
        "The policy pins a key that is recorded as compromised", "docs/incident.md";
    /// User agents note no IP addresses.
    IpAddressHost = "ip-address-host", Warning,
        "The server name is an IP address", "RFC 7469 2.3.3";
    NoTls = "no-tls", Warning,
        "A policy is used in a server without TLS", "RFC 7469 2.2.2";
    DuplicatePin = "duplicate-pin", Warning,
        "The policy has the same pin twice", "docs/reference/directives.md";
    /// Some path contains no key whose pin clients may hold, and some path did not before either.
    PublishedPinsPartlyMet = "published-pins-partly-met", Warning,
        "Some certificate paths contain no key that matches the pins that clients hold", "RFC 7469 2.6";
    /// Clients hold pins for a host for which a server answers only because of a wildcard in its certificate. The
    /// server did not match these pins before either.
    WildcardHostPinsUnmet = "wildcard-host-pins-unmet", Warning,
        "A server that answers for a name only through its certificate or port matches no pin held for it", "docs/explanation/design.md";
    /// Clients hold pins for a host that no server block has any more. The certificate of the block that answers is not
    /// valid for the host.
    RemovedHostPinsUnmet = "removed-host-pins-unmet", Warning,
        "Clients hold pins for a host that was removed", "docs/explanation/design.md";
    /// Clients hold pins for a port on which no checked server has the host.
    PublishedPinsPortNotServed = "published-pins-port-not-served", Warning,
        "Clients hold pins for a port on which no checked server has the host", "docs/reference/directives.md";
    /// Clients that hold pins got in on a port under the last accepted configuration, and nothing answers there on TLS
    /// any more.
    PinnedPortClosed = "pinned-port-closed", Warning,
        "Clients hold pins for a port that no longer answers with TLS", "docs/explanation/design.md";
    /// One kind of TLSA records has no match although another kind has: clients support different kinds.
    TlsaCombinationUnmet = "tlsa-combination-unmet", Warning,
        "One kind of TLSA record matches nothing, though another matches", "RFC 7671 8";
    TlsaNotUsable = "tlsa-not-usable", Warning,
        "No client can use the TLSA records of a name", "RFC 6698 4.1";
    NotServedHere = "not-served-here", Warning,
        "Pins are not compared for names declared as served elsewhere", "docs/reference/directives.md";
    /// The last accepted configuration was recorded in a format that cannot tell certificates of the same
    /// keys apart.
    RecordsEarlierFormat = "records-earlier-format", Warning,
        "The last accepted configuration was recorded in an earlier format", "docs/reference/records.md";
    PublishedPinsNoWriter = "published-pins-no-writer", Warning,
        "A header is sent and no records are written", "docs/reference/directives.md";
    ClockBehindRecords = "clock-behind-records", Warning,
        "The clock is behind the newest record", "docs/reference/records.md";
    Waived = "waived", Warning,
        "Clients are locked out under a recorded waiver", "docs/incident.md";
    TruncatedRecord = "truncated-record", Warning,
        "The last line of a file of records is incomplete", "docs/reference/records.md";
    /// The index of other machines' records cannot be used, so all of these are read.
    RecordsIndexUnusable = "records-index-unusable", Warning,
        "The index of copied records cannot be used", "docs/reference/records.md";
    /// The configuration in use could not be recorded, but all headers are sent.
    ConfigurationNotRecorded = "configuration-not-recorded", Warning,
        "The accepted configuration could not be recorded", "docs/reference/records.md";
    RecordsNotWritable = "records-not-writable", Warning,
        "This server cannot append to its records", "docs/reference/records.md";
    PeerRecordIgnored = "peer-record-ignored", Warning,
        "A copied record claims more than its writer may decide", "docs/reference/records.md";
    PeerNeverHeard = "peer-never-heard", Warning,
        "No heartbeat of another machine has been received", "docs/reference/records.md";
    OtherWriters = "other-writers", Warning,
        "Another writer name was used in this directory before", "docs/reference/records.md";
    /// A server that speaks TLS, or passes connections to one, cannot be checked.
    TlsServerNotChecked = "tls-server-not-checked", Warning,
        "A TLS server cannot be checked", "docs/explanation/design.md";
    /// Or a module. Found by the command alone.
    UnknownDirective = "unknown-directive", Warning,
        "The command does not know a directive of the configuration", "docs/reference/command.md";
    PublicPortUnused = "public-port-unused", Warning,
        "A public port is declared for a port without TLS", "docs/reference/directives.md";
    HeaderOverPlainHttp = "header-over-plain-http", Warning,
        "The header is sent over plain HTTP", "RFC 7469 2.2.2";
    RepeatedHeader = "repeated-header", Warning,
        "A response has the header more than once", "RFC 7469 2.2.1";
    HeaderDiffers = "header-differs", Warning,
        "Responses of one host have different headers", "RFC 7469 2.3.1";
    /// A pinned intermediate that the CA does not always issue from.
    IntermediateInRotation = "intermediate-in-rotation", Warning,
        "The CA may issue the next certificate from an intermediate that is not pinned", "docs/reference/ca-table.md";
    TlsaNotValidated = "tlsa-not-validated", Warning,
        "The resolver has not validated the TLSA records", "RFC 6698 4.1";
    /// Keys change faster than clients learn of them.
    MaxAgeExceedsRenewal = "max-age-exceeds-renewal", Warning,
        "Renewals make new keys, sooner than clients forget the old pins", "RFC 7469 4.1";
    CertificateExpiresBeforeNewKey = "certificate-expires-before-new-key", Warning,
        "The certificate expires before a key that is not published yet may be used", "docs/how-to/rotation.md";
    PinnedRootNotInAllStores = "pinned-root-not-in-all-stores", Warning,
        "Some stores do not have a pinned root", "docs/reference/ca-table.md";
    PinsOfOneCa = "pins-of-one-ca", Warning,
        "All pins belong to keys of one CA", "RFC 7469 4.2";
}

impl Code {
    /// Its row in the table.
    #[must_use]
    pub const fn entry(self) -> &'static Entry {
        // The macro makes the enumeration and the table from the same rows.
        &CODES[self as usize]
    }

    /// The code's text in log lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.entry().text
    }

    /// Its class in an enforced policy. In a report-only policy, findings about its pins are warnings.
    #[must_use]
    pub const fn class(self) -> Class {
        self.entry().class
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text of a finding, in the order of its log lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text {
    /// What is wrong, and the consequence for clients: one line.
    pub what: String,
    /// The safe actions, best first; a command is at the end of its line.
    pub fix: Vec<String>,
    /// The certificates concerned, and which clients hold which pins until when.
    pub details: Vec<String>,
    /// Commands that lock clients out: what they are for, and the command.
    pub last_resort: Vec<String>,
}

impl Text {
    /// One line.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }

    /// Adds a safe action.
    #[must_use]
    pub fn fix(mut self, line: impl Into<String>) -> Self {
        self.fix.push(line.into());
        self
    }

    /// Adds lines about certificates and holders.
    #[must_use]
    pub fn details(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(lines);
        self
    }

    /// Adds a command that locks clients out.
    #[must_use]
    pub fn last_resort(mut self, line: impl Into<String>) -> Self {
        self.last_resort.push(line.into());
        self
    }
}

impl From<String> for Text {
    fn from(what: String) -> Self {
        Self::new(what)
    }
}

impl From<(String, Vec<String>)> for Text {
    fn from((what, details): (String, Vec<String>)) -> Self {
        Self { details, ..Self::new(what) }
    }
}

/// One finding, for one policy and all the hosts that share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing was found.
    pub code: Code,
    /// Its class here; for report-only policies a warning where an enforced policy has a lock-out.
    pub class: Class,
    /// Whether the affected hosts have `hpkp_check warn`.
    pub check: Check,
    /// The affected hosts, each once: the first three.
    pub hosts: Vec<String>,
    /// How many hosts are affected.
    pub host_count: usize,
    /// Whether one of them has a header, which may be withheld.
    pub has_header: bool,
    /// The directive that causes it.
    pub at: Location,
    /// Its text.
    pub text: Text,
    /// What the server does now; none where it continues as if nothing had been found.
    pub outcome: Option<&'static str>,
}

/// What the server does about a lock-out or an unsure answer (`hpkp_check`, `HPKPCheck`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Check {
    /// The configuration is refused where a refusal leaves the server running.
    #[default]
    Refuse,
    /// The configuration passes; the log says what is wrong.
    Warn,
    /// As [`Check::Refuse`], unless the last good certificate can be presented in place of the one
    /// that would lock clients out.
    Keep,
}

/// How many hosts a finding names.
const NAMED_HOSTS: usize = 3;

impl Finding {
    /// A finding of the code's own class that is about no host so far.
    #[must_use]
    pub fn new(code: Code, at: Location, text: Text) -> Self {
        Self {
            code,
            class: code.class(),
            check: Check::Refuse,
            hosts: Vec::new(),
            host_count: 0,
            has_header: false,
            at,
            text,
            outcome: None,
        }
    }

    /// Adds an affected host; the first three are named.
    pub fn add_host(&mut self, label: &str) {
        self.host_count += 1;
        if self.hosts.len() < NAMED_HOSTS {
            self.hosts.push(Excerpt::new(label).to_string());
        }
    }

    /// The finding as log lines, each of which begins `hpkp: [code] host:` and fits a server's line.
    /// The safe action comes before the details, and what locks clients out comes last.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let host = self.hosts.first().map_or("-", String::as_str);
        let prefix = format!("hpkp: [{}] {host}:", self.code);
        let first = bounded(format!("{prefix} {}", self.text.what), MAX_FIRST_LINE);
        let further = self.further_lines();
        std::iter::once(first)
            .chain(further.map(move |line| bounded(format!("{prefix} {line}"), MAX_LINE)))
    }

    /// The lines after the first one, without the prefix.
    pub fn further_lines(&self) -> impl Iterator<Item = String> {
        let affected = (self.host_count > 1).then(|| {
            let more = if self.host_count > self.hosts.len() { ", ..." } else { "" };
            format!("affects {} hosts: {}{more}", self.host_count, self.hosts.join(", "))
        });
        let Text { fix, details, last_resort, .. } = &self.text;
        let outcome = self.outcome.map(str::to_owned).into_iter();
        outcome
            .chain(fix.iter().map(|line| format!("to fix: {line}")))
            .chain(affected)
            .chain(details.iter().cloned())
            .chain(last_resort.iter().enumerate().map(|(index, line)| {
                // The command ends the line, so that it can be pasted from there.
                let number = match last_resort.len() {
                    1 => String::new(),
                    all => format!(", command {} of {all}", index + 1),
                };
                format!("last resort, locks out those clients{number}: {line}")
            }))
    }
}

/// The most bytes of a first line: the server adds the place of the directive.
const MAX_FIRST_LINE: usize = 800;

/// The most bytes of a line. nginx cuts a line of its error log at 2,048 bytes, time and process
/// included.
pub const MAX_LINE: usize = 1_900;

fn bounded(mut line: String, most: usize) -> String {
    if line.len() > most {
        let end = (0..=most).rev().find(|i| line.is_char_boundary(*i)).unwrap_or(0);
        line.truncate(end);
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_commands_have_numbers_before_them() {
        let text = Text::new("wrong").last_resort("hpkp one").last_resort("hpkp two");
        let finding =
            Finding::new(Code::NoPinInChain, Location { file: "a".into(), line: 1 }, text);
        let lines: Vec<String> = finding.further_lines().collect();
        let expected = [
            "last resort, locks out those clients, command 1 of 2: hpkp one",
            "last resort, locks out those clients, command 2 of 2: hpkp two",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn codes_are_kebab_case_and_unique() {
        let mut texts = std::collections::HashSet::new();
        for Entry { code, text, .. } in CODES {
            assert_eq!(code.as_str(), *text);
            assert!(texts.insert(text), "{text} twice");
            assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{text}");
        }
    }

    /// The safe action comes before the details, and the command that locks clients out comes last.
    #[test]
    fn the_dangerous_command_comes_last() {
        let text = Text::new("wrong")
            .last_resort("waive")
            .details(["certificate: a".to_owned()])
            .fix("restore")
            .fix("find");
        let mut finding =
            Finding::new(Code::NoPinInChain, Location { file: "a".into(), line: 1 }, text);
        finding.outcome = Some("nothing was changed");
        for host in ["a", "b", "c", "d"] {
            finding.add_host(host);
        }
        let lines: Vec<String> = finding.lines().collect();
        let expected = [
            "wrong",
            "nothing was changed",
            "to fix: restore",
            "to fix: find",
            "affects 4 hosts: a, b, c, ...",
            "certificate: a",
            "last resort, locks out those clients: waive",
        ];
        assert_eq!(lines, expected.map(|line| format!("hpkp: [no-pin-in-chain] a: {line}")));
    }

    #[test]
    fn a_long_command_is_not_cut() {
        let command = format!("hpkp published -d DIR waive {}END", "a".repeat(1_500));
        let text = Text::new("a".repeat(3_000)).last_resort(&command);
        let finding =
            Finding::new(Code::NoPinInChain, Location { file: "a".into(), line: 1 }, text);
        let lines: Vec<String> = finding.lines().collect();
        assert!(lines[0].len() < 900 && lines[0].ends_with("..."), "{}", lines[0]);
        assert!(lines[1].ends_with(&command), "{}", lines[1]);
    }
}
