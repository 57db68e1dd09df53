//! What a check finds: stable codes, each of one class.
//!
//! A code is API: scripts match on it, it may be retired but is never renamed. Every code has its
//! entry in `docs/reference/findings.md`.

use std::fmt;
use std::sync::Arc;

use crate::text::Excerpt;

/// Where a directive stands in the server's configuration.
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

/// What a finding means for the configuration. The server crate's failure table says what is done
/// about each class in each phase of a server's life.
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

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $class:ident;)*) => {
        /// The stable code of a finding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All codes, in the order of `docs/reference/findings.md`.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code's text, as it stands in log lines.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Its class in an enforced policy. Of what a report-only policy's pins give, all is
            /// a warning.
            #[must_use]
            pub const fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)* }
            }
        }
    };
}

codes! {
    /// A pin is not the base64 of a SHA-256.
    MalformedPin = "malformed-pin", Invalid;
    /// A pin is the SHA-256 of nothing.
    EmptyInputPin = "empty-input-pin", Invalid;
    /// Fewer pins than the policy needs.
    TooFewPins = "too-few-pins", Invalid;
    /// More pins than every user agent stores.
    TooManyPins = "too-many-pins", Invalid;
    /// An enforced policy without `max_age`.
    MissingMaxAge = "missing-max-age", Invalid;
    /// A `max_age` that is no time.
    InvalidMaxAge = "invalid-max-age", Invalid;
    /// A `report_uri` that some user agent would void the header for.
    InvalidReportUri = "invalid-report-uri", Invalid;
    /// A report-only policy that cannot report.
    ReportOnlyWithoutReportUri = "report-only-without-report-uri", Invalid;
    /// A policy that is used and not defined.
    UnknownPolicy = "unknown-policy", Invalid;
    /// A name is said to be served elsewhere, and a server block here has it.
    NotServedHereConflict = "not-served-here-conflict", Invalid;
    /// A keyword in place of a pin, where published pins are not recorded.
    KeywordPinWithoutPublishedPins = "keyword-pin-without-published-pins", Invalid;
    /// A pin's file holds a private key. What a file holds may change under a running server, so
    /// it must not keep the next start from succeeding, as the text of the configuration may.
    PrivateKeyAsPinSource = "private-key-as-pin-source", Unsure;
    /// A pin's file holds a key with inherited parameters.
    UnpinnableKey = "unpinnable-key", Unsure;
    /// A pin's file cannot be read, or holds no key that can be parsed; or a keyword stands for no
    /// certificate.
    UnreadablePinSource = "unreadable-pin-source", Unsure;
    /// A file of trusted certificates cannot be read.
    UnreadableTrustedCertificate = "unreadable-trusted-certificate", Unsure;
    /// A certificate that the server loaded cannot be parsed.
    UnreadableCertificate = "unreadable-certificate", Unsure;
    /// A file or a certificate exceeds a limit.
    OversizedInput = "oversized-input", Unsure;
    /// The records of published pins cannot be read.
    PublishedPinsUnreadable = "published-pins-unreadable", Unsure;
    /// Records that were read once are not there any more.
    RecordsMissing = "records-missing", Unsure;
    /// Somebody else may have changed records of this machine.
    RecordsNotTrusted = "records-not-trusted", Unsure;
    /// The server's OpenSSL lacks a function or is a version that is not supported.
    UnsupportedOpenssl = "unsupported-openssl", Unsure;
    /// A loaded certificate has no path through a pinned key.
    NoPinInChain = "no-pin-in-chain", Lockout;
    /// A certificate has no path through a key that clients may hold a pin of.
    PublishedPinsUnmet = "published-pins-unmet", Lockout;
    /// The same for pins that were published for a domain above the host.
    SuperdomainPinsUnmet = "superdomain-pins-unmet", Lockout;
    /// Another server block of the name presents no key that the policy pins.
    SameHostPinsUnmet = "same-host-pins-unmet", Lockout;
    /// Another server of the host presents no key that the policy pins.
    ServedElsewhereUnmet = "served-elsewhere-unmet", Lockout;
    /// No pin lies outside the loaded chains.
    NoBackupPin = "no-backup-pin", Withhold;
    /// The pins of a header cannot be recorded.
    PublishedPinsNotRecorded = "published-pins-not-recorded", Withhold;
    /// The certificate is chosen during the handshake.
    CertificateNotKnownAtLoad = "certificate-not-known-at-load", Withhold;
    /// The certificate is known at the start only, not at a test.
    CertificateCheckedAtStart = "certificate-checked-at-start", Warning;
    /// Code of another module in the server can replace the loaded certificate.
    CertificateMayBeReplaced = "certificate-may-be-replaced", Warning;
    /// Some path through the chain avoids every pinned key.
    PartialPathMatch = "partial-path-match", Warning;
    /// Only keys that the server does not send are pinned.
    RootOnlyMatch = "root-only-match", Warning;
    /// A pin matches a served certificate that lies on no path.
    SuperfluousCertificateMatch = "superfluous-certificate-match", Warning;
    /// `max_age` above what user agents remember.
    MaxAgeTooLong = "max-age-too-long", Warning;
    /// Reports would go to a host that the policy itself pins.
    ReportUriOnPinnedHost = "report-uri-on-pinned-host", Warning;
    /// A certificate among the trusted ones that is left out, since it cannot be used.
    TrustedCertificateSkipped = "trusted-certificate-skipped", Warning;
    /// A pin is the hash of something that is no key.
    PinOfNoKey = "pin-of-no-key", Warning;
    /// A key that the server presents is on record as compromised.
    CompromisedKeyLoaded = "compromised-key-loaded", Warning;
    /// A policy pins a key that is on record as compromised and is not loaded.
    CompromisedKeyPinned = "compromised-key-pinned", Warning;
    /// User agents note no IP addresses.
    IpAddressHost = "ip-address-host", Warning;
    /// A policy in a server that does not listen on TLS.
    NoTls = "no-tls", Warning;
    /// The same pin twice.
    DuplicatePin = "duplicate-pin", Warning;
    /// Some path avoids every key that clients may hold a pin of, as one did before.
    PublishedPinsPartlyMet = "published-pins-partly-met", Warning;
    /// Clients hold pins for a host for which a server answers only by a wildcard in its certificate,
    /// and did not meet them before either.
    WildcardHostPinsUnmet = "wildcard-host-pins-unmet", Warning;
    /// Clients hold pins for a host that no server block has any more, and the certificate of the one
    /// that answers is not for it.
    RemovedHostPinsUnmet = "removed-host-pins-unmet", Warning;
    /// Pins are published for a port of a host on which nothing that has the host is looked at.
    PublishedPinsPortNotServed = "published-pins-port-not-served", Warning;
    /// Names whose pins are not compared, since they are said to be served elsewhere.
    NotServedHere = "not-served-here", Warning;
    /// The last accepted configuration was recorded in a format that cannot tell certificates of the same
    /// keys apart.
    PublishedPinsEarlierFormat = "published-pins-earlier-format", Warning;
    /// A header is sent and nothing records it.
    PublishedPinsNotKept = "published-pins-not-kept", Warning;
    /// The clock stands before the newest record of this server.
    ClockBehindRecords = "clock-behind-records", Warning;
    /// Clients are locked out whom an operator has given up.
    Waived = "waived", Warning;
    /// The last line of a file of records was never finished.
    TornRecord = "torn-record", Warning;
    /// What is served could not be recorded, and no header is lost by it.
    ConfigurationNotRecorded = "configuration-not-recorded", Warning;
    /// This server cannot append to its records.
    RecordsNotWritable = "records-not-writable", Warning;
    /// A copy of another machine's records says what is not its to say.
    RecordWithoutEffect = "record-without-effect", Warning;
    /// Other servers have written into this directory, and this one has not yet.
    OtherWriters = "other-writers", Warning;
    /// A server that speaks TLS, or leads to one, cannot be looked at.
    TlsServerNotChecked = "tls-server-not-checked", Warning;
    /// A public port is declared for a port on which nothing here speaks TLS.
    PublicPortUnused = "public-port-unused", Warning;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One finding, for one policy and all the hosts that share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing was found.
    pub code: Code,
    /// Its class here; for report-only policies a warning where an enforced policy has a lock-out.
    pub class: Class,
    /// Whether the hosts concerned say `hpkp_check warn`.
    pub check: Check,
    /// The hosts concerned: the first three.
    pub hosts: Vec<String>,
    /// How many hosts are concerned.
    pub host_count: usize,
    /// Whether one of them has a header, which may be kept back.
    pub has_header: bool,
    /// The directive that causes it.
    pub at: Location,
    /// What is wrong and what to do, in one line.
    pub summary: String,
    /// More, a line each.
    pub details: Vec<String>,
}

/// What is done about a lock-out or an unsure answer (`hpkp_check`, `HPKPCheck`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Check {
    /// The configuration is refused where a refusal leaves the server running.
    #[default]
    Refuse,
    /// The configuration passes; the log says what is wrong.
    Warn,
}

/// How many hosts a finding names.
const NAMED_HOSTS: usize = 3;

impl Finding {
    /// Adds a host that is concerned too; the first three are named.
    pub fn add_host(&mut self, label: &str) {
        self.host_count += 1;
        if self.hosts.len() < NAMED_HOSTS {
            self.hosts.push(Excerpt::new(label).to_string());
        }
    }

    /// The finding as log lines, each of which begins `hpkp: [code] host:` and fits a server's
    /// line. The first says what is wrong and what to do.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let host = self.hosts.first().map_or("-", String::as_str);
        let prefix = format!("hpkp: [{}] {host}:", self.code);
        let others = (self.host_count > 1).then(|| {
            let more = if self.host_count > self.hosts.len() { ", ..." } else { "" };
            format!("{} hosts are concerned: {}{more}", self.host_count, self.hosts.join(", "))
        });
        std::iter::once(self.summary.clone())
            .chain(others)
            .chain(self.details.iter().cloned())
            .map(move |line| bounded(format!("{prefix} {line}")))
    }
}

/// nginx cuts a line of its configuration log at 1,024 octets, its own prefix and the position
/// included.
const MAX_LINE: usize = 800;

fn bounded(mut line: String) -> String {
    if line.len() > MAX_LINE {
        let end = (0..=MAX_LINE).rev().find(|i| line.is_char_boundary(*i)).unwrap_or(0);
        line.truncate(end);
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_kebab_case_and_unique() {
        let mut seen = std::collections::HashSet::new();
        for code in Code::ALL {
            let text = code.as_str();
            assert!(seen.insert(text), "{text} twice");
            assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{text}");
        }
    }
}
