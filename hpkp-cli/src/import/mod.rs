//! Imports pins from the files of other software: text in, pin sets out.
//!
//! A reader never finds fewer clients, or weaker pin sets, than the software has. Text that a reader does
//! not understand is an error with its line; in doubt the reader gives the stricter result. If a reader may
//! include too many clients, or ignores something, a [`Note`] says so.

pub mod android;
mod binary_plist;
pub mod curl;
mod foreign;
pub mod format;
pub mod header;
pub mod hosts;
pub mod ios;
pub mod json;
mod literal;
pub mod okhttp;
pub mod pin_text;
mod plist;
mod read;
mod residue;
mod shown;
pub mod stubby;
pub mod tlsa;
pub mod trustkit;
mod view;
mod xml;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use hpkp_core::date;
use hpkp_core::pin::{Pin, PinError};
use hpkp_core::published::{Client, Rrset};
pub use hpkp_core::published::{Matching, Scope};
use hpkp_core::ua::host::{Host, HostError, HostName};

pub use read::{read_with, unread, utf8};

/// The largest text that is read, in bytes.
pub const MAX_TEXT: usize = 4 << 20;

/// How deep the elements of an XML text may be nested.
const MAX_XML_DEPTH: usize = 64;

/// The most pin sets that one text may have.
pub const MAX_SETS: usize = 10_000;

/// Pins that clients hold for a host or a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinSet {
    /// The host, or the parent domain of the hosts.
    pub host: HostName,
    /// The hosts to which the pins apply.
    pub matching: Matching,
    /// Whether the pins apply to all hosts below as well.
    pub include_subdomains: bool,
    /// Hosts below to which the same clients apply other pins or none.
    pub except: Vec<Except>,
    /// The keys that clients compare.
    pub scope: Scope,
    /// The only port to which the pins apply; `None` for all ports.
    pub port: Option<u16>,
    /// The pins in the order of the text, each once, at least one. A client must match one of them.
    pub pins: Vec<Pin>,
    /// When clients stop enforcing the pins, in seconds since 1970 UTC. A day in the text ends at different
    /// times on Earth; the latest of them counts.
    pub expires_at: Option<i64>,
    /// A description of the place from which the set was read.
    pub origin: String,
    /// The kind of client that holds them.
    pub client: Client,
    /// The number of the configuration in the text. A client uses one configuration, and combines its
    /// entries according to its kind ([`Client`]).
    pub group: usize,
}

impl PinSet {
    /// Pins for one host, which a client compares with all keys of its validated chain.
    pub(crate) fn of_one(
        host: HostName,
        pins: Vec<Pin>,
        origin: String,
        (client, group): (Client, usize),
    ) -> Self {
        Self {
            host,
            matching: Matching::Exact,
            include_subdomains: false,
            except: Vec::new(),
            scope: Scope::Chain,
            port: None,
            pins,
            expires_at: None,
            origin,
            client,
            group,
        }
    }

    /// Pins for one host, or for the host and all hosts below. `all` are the hosts of the same
    /// configuration, each of which has its own pins.
    fn of_host(
        (host, include_subdomains): (HostName, bool),
        all: &[(HostName, bool)],
        (pins, expires_at): (Vec<Pin>, Option<i64>),
        origin: String,
        client: (Client, usize),
    ) -> Self {
        let except = if include_subdomains { excepted(&host, all) } else { Vec::new() };
        Self { except, include_subdomains, expires_at, ..Self::of_one(host, pins, origin, client) }
    }
}

/// A host below to which a set does not apply.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Except {
    /// The host.
    pub host: HostName,
    /// Whether the hosts below it are exempt too.
    pub with_subdomains: bool,
}

/// The result of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The pin sets, in the order of the text. A host in several sets must match each of them.
    pub sets: Vec<PinSet>,
    /// The first line of each set.
    pub lines: Vec<usize>,
    /// Notes for the user.
    pub notes: Vec<Note>,
    /// The TLSA records that a set represents, by its position in `sets`. The set's pins are those of the
    /// keys that the records name, and may be empty.
    pub tlsa: BTreeMap<usize, Rrset>,
}

/// A remark about a place in a text that is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The line, from 1.
    pub line: usize,
    /// The remark.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

impl Imported {
    fn push(&mut self, line: usize, set: PinSet) -> Result<(), ImportError> {
        if self.sets.len() == MAX_SETS {
            return Err(Problem::TooManySets.at(line));
        }
        self.sets.push(set);
        self.lines.push(line);
        Ok(())
    }

    /// Adds what another reader found in the text, with configurations of its own.
    fn and(mut self, other: Self) -> Result<Self, ImportError> {
        let groups = self.sets.iter().map(|set| set.group + 1).max().unwrap_or(0);
        for (set, line) in other.sets.into_iter().zip(other.lines) {
            self.push(line, PinSet { group: set.group.saturating_add(groups), ..set })?;
        }
        self.notes.extend(other.notes);
        Ok(self)
    }

    /// The result, or an error if the text contained nothing that was `wanted`.
    fn or_nothing(self, wanted: &'static str) -> Result<Self, ImportError> {
        match self.sets.is_empty() && self.notes.is_empty() {
            true => Err(Problem::Nothing { wanted }.at(1)),
            false => Ok(self),
        }
    }

    fn note(&mut self, line: usize, text: impl Into<String>) {
        self.notes.push(Note { line, text: text.into() });
    }
}

/// Why a text cannot be imported, and the place of the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, if it is known.
    pub column: Option<usize>,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        if let Some(column) = self.column {
            write!(f, "column {column}: ")?;
        }
        self.problem.fmt(f)
    }
}

impl std::error::Error for ImportError {}

impl ImportError {
    /// Adds the column of a text that is not displayed.
    fn located(self, text: &str) -> Self {
        let line = text.lines().nth(self.line - 1).unwrap_or_default();
        let column = match &self.problem {
            Problem::Pin { text, .. } if !text.is_empty() => {
                line.find(text.as_str()).map(|at| 1 + line[..at].chars().count())
            }
            _ => None,
        };
        Self { column: self.column.or(column), ..self }
    }
}

const CHANGES: &str = "it changes with every renewal, also with the same key, and cannot be \
    compared with a key; publish the pin of the key instead (hpkp pin)";

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Larger than [`MAX_TEXT`].
    #[error("the text is larger than {MAX_TEXT} bytes")]
    TooLarge,
    /// More than [`MAX_SETS`].
    #[error("the text has more than {MAX_SETS} pin sets")]
    TooManySets,
    /// Elements are nested more deeply than in any valid file.
    #[error("elements are nested more than {} deep", MAX_XML_DEPTH)]
    TooDeep,
    /// Not UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// Not well-formed XML.
    #[error("invalid XML: {0}")]
    Xml(String),
    /// XML that declares entities. Valid files need none, but attacks with exponential expansion do.
    #[error("unsupported XML entity declarations")]
    Entities,
    /// A property list in Apple's binary form that cannot be read.
    #[error(
        "this property list in binary form cannot be read; convert it with plutil -convert xml1 -o - FILE, or \
        plistutil -i FILE"
    )]
    BinaryPlist,
    /// The text contains nothing in this format.
    #[error("the text does not contain {wanted}")]
    Nothing {
        /// What the reader looked for.
        wanted: &'static str,
    },
    /// The text has something else than the format requires.
    #[error("unexpected \"{found}\", expected {wanted}")]
    Unexpected {
        /// The unexpected text, made safe to display.
        found: String,
        /// What the format requires there.
        wanted: &'static str,
    },
    /// Something occurs twice, and clients may use either.
    #[error("duplicate \"{what}\"")]
    Twice {
        /// What occurs twice, made safe to display.
        what: String,
    },
    /// An invalid host name.
    #[error("invalid host name \"{name}\": {error}")]
    Host {
        /// The name, made safe to display.
        name: String,
        /// Why.
        error: HostError,
    },
    /// Text that looks like a pin and was not read.
    #[error(
        "this looks like a pin, but its host is not clear; nothing was recorded. Remove it from the text, or \
        record it with: hpkp published add HOST --pin PIN --origin TEXT"
    )]
    NotRead,
    /// A pin of SHA-1.
    #[error("a SHA-1 pin cannot be compared with a key; pin the same key with sha256/")]
    Sha1,
    /// A method of pinning that cannot be imported.
    #[error("this looks like {what}: {advice}")]
    Foreign {
        /// The method.
        what: &'static str,
        /// What the user can do instead.
        advice: &'static str,
    },
    /// Text before the XML.
    #[error("not XML, since other text precedes it; give the XML alone")]
    NoXml,
    /// An invalid pin.
    #[error("invalid pin: {error}")]
    Pin {
        /// The text. It is not displayed, because it may be a secret.
        text: String,
        /// Why.
        error: PinError,
    },
    /// A hash of a whole certificate in the place of a pin.
    #[error(
        "this is not the pin of a key but the SHA-256 of the whole certificate of {subject}; {CHANGES}"
    )]
    CertificateHash {
        /// The certificate's subject.
        subject: String,
    },
    /// A hash of a bare key in the place of a pin.
    #[error(
        "this is not the pin of a key but the SHA-256 of the bare public key of {subject}, as \
        SecKeyCopyExternalRepresentation gives it; the pin of that key is sha256/{pin}: record that, for clients that \
        compare the bare key"
    )]
    BareKeyHash {
        /// The subject of the certificate with that key.
        subject: String,
        /// The pin of the key.
        pin: Pin,
    },
    /// Something that clients may enforce and that cannot be compared with a server's keys.
    #[error("\"{what}\" cannot be imported: {why}")]
    Unsupported {
        /// The text, made safe to display.
        what: String,
        /// Why it cannot be imported, and what to do.
        why: &'static str,
    },
}

impl Problem {
    fn at(self, line: usize) -> ImportError {
        ImportError { line, column: None, problem: self }
    }

    fn unexpected(found: &str, wanted: &'static str) -> Self {
        Self::Unexpected { found: shown::shown(found), wanted }
    }

    fn unsupported(what: &str, why: &'static str) -> Self {
        Self::Unsupported { what: shown::shown(what), why }
    }

    fn twice(what: &str) -> Self {
        Self::Twice { what: shown::shown(what) }
    }
}

/// Certificates by which hashes of whole certificates and of bare keys can be distinguished from pins.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    whole: Vec<([u8; 32], String)>,
    /// Hashes of bare keys, with the subjects and the pins of the keys.
    bare: Vec<([u8; 32], String, Pin)>,
    /// The pins that readers have accounted for, with their lines.
    read: RefCell<Vec<(usize, Pin)>>,
    /// The name of the file. In some formats it determines the zone.
    file: Option<String>,
}

impl Certificates {
    /// Builds the list from pairs of a certificate's DER and its subject, which is safe to display.
    #[must_use]
    pub fn new<'a>(certificates: impl IntoIterator<Item = (&'a [u8], String)>) -> Self {
        let mut all = Self::default();
        for (der, subject) in certificates {
            if let Some((bare, spki)) = keys(der) {
                let bare = openssl::sha::sha256(&bare);
                all.bare.push((bare, subject.clone(), Pin::of_spki(&spki)));
            }
            all.whole.push((openssl::sha::sha256(der), subject));
        }
        all
    }

    /// Sets the name of the file from which the text is read.
    #[must_use]
    pub fn in_file(self, file: &str) -> Self {
        Self { file: Some(file.to_owned()), ..self }
    }

    /// The problem of a hash that is no pin.
    pub(crate) fn other(&self, bytes: &[u8]) -> Option<Problem> {
        let whole = self.whole(bytes).map(str::to_owned);
        let whole = whole.map(|subject| Problem::CertificateHash { subject });
        whole.or_else(|| {
            let (_, subject, pin) = self.bare.iter().find(|(hash, ..)| hash == bytes)?;
            Some(Problem::BareKeyHash { subject: subject.clone(), pin: *pin })
        })
    }

    /// The subject of the certificate whose hash is `bytes`.
    pub(crate) fn whole(&self, bytes: &[u8]) -> Option<&str> {
        let (_, subject) = self.whole.iter().find(|(hash, _)| hash == bytes)?;
        Some(subject)
    }

    /// The pin with this base64 form.
    fn pin(&self, base64: &str, line: usize) -> Result<Pin, ImportError> {
        let pin = Pin::from_base64(base64)
            .map_err(|error| Problem::Pin { text: base64.to_owned(), error }.at(line))?;
        self.check(pin, line)
    }

    /// The pin that a client reads from `text`; `None`, with a note, if no key can match it.
    fn pin_of(
        &self,
        client: Client,
        text: &str,
        line: usize,
        notes: &mut Vec<Note>,
    ) -> Result<Option<Pin>, ImportError> {
        // The prefix of other formats is not part of the pin.
        let bare = text.strip_prefix("sha256/").filter(|bare| bare.len() >= 43);
        if bare.is_some() && client != Client::OkHttp {
            let text = "the pin has \"sha256/\" in front, which this client does not take; it is \
                        read without it";
            notes.push(Note { line, text: text.to_owned() });
        }
        let bare = bare.unwrap_or(text);
        let reading = pin_text::read(client, bare)
            .map_err(|error| Problem::Pin { text: bare.to_owned(), error }.at(line))?;
        match reading {
            pin_text::Reading::Pin(pin) => self.check(pin, line).map(Some),
            pin_text::Reading::Noted(pin, text) => {
                notes.push(Note { line, text: format!("a pin: {text}") });
                self.check(pin, line).map(Some)
            }
            pin_text::Reading::NeverMatches(pin, why) => {
                self.account(pin, line);
                let text = format!(
                    "a pin that is NOT recorded: {why}; clients that have no other are locked out \
                     already"
                );
                notes.push(Note { line, text });
                Ok(None)
            }
        }
    }

    /// Accounts for a pin, and fails if it is the hash of a certificate or of a bare key.
    fn check(&self, pin: Pin, line: usize) -> Result<Pin, ImportError> {
        self.account(pin, line);
        self.checked(pin, line)
    }

    /// Marks a pin as accounted for: the reader records or reports it.
    fn account(&self, pin: Pin, line: usize) {
        self.read.borrow_mut().push((line, pin));
    }

    /// Fails if the pin is the hash of a certificate or of a bare key.
    fn checked(&self, pin: Pin, line: usize) -> Result<Pin, ImportError> {
        self.other(pin.bytes()).map_or(Ok(pin), |problem| Err(problem.at(line)))
    }
}

/// The bare key of a certificate, in the form of `SecKeyCopyExternalRepresentation`, and its SPKI.
fn keys(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let key = openssl::x509::X509::from_der(der).ok()?.public_key().ok()?;
    let bare = match (key.rsa(), key.ec_key()) {
        (Ok(rsa), _) => rsa.public_key_to_der_pkcs1().ok()?,
        (_, Ok(ec)) => {
            let form = openssl::ec::PointConversionForm::UNCOMPRESSED;
            let mut context = openssl::bn::BigNumContext::new().ok()?;
            ec.public_key().to_bytes(ec.group(), form, &mut context).ok()?
        }
        _ => return None,
    };
    Some((bare, key.public_key_to_der().ok()?))
}

/// The bytes as text. Fails if they are too large or not UTF-8.
fn text(bytes: &[u8]) -> Result<&str, ImportError> {
    if bytes.len() > MAX_TEXT {
        return Err(Problem::TooLarge.at(1));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        Problem::NotUtf8.at(1 + before.iter().filter(|byte| **byte == b'\n').count())
    })
}

/// Parses a host name; `None` for an IP address, since records contain names only.
fn host(name: &str, line: usize) -> Result<Option<HostName>, ImportError> {
    match Host::parse(name) {
        Ok(Host::Name(name)) => Ok(Some(name)),
        Ok(Host::Address(_)) => Ok(None),
        Err(error) => Err(Problem::Host { name: shown::shown(name), error }.at(line)),
    }
}

fn note_address(imported: &mut Imported, line: usize, name: &str) {
    imported.note(
        line,
        format!(
            "{} is an IP address; records have names only, so it was ignored",
            shown::shown(name)
        ),
    );
}

/// Whether the name of an entry ends with the dot of the DNS root. Clients compare the name literally, so
/// the entry does not apply to the host without the dot.
fn has_final_dot(imported: &mut Imported, line: usize, name: &str, client: Client) -> bool {
    if !name.ends_with('.') {
        return false;
    }
    let shown = shown::shown(name);
    let why = match client {
        Client::Android | Client::Apple => {
            "this client removes such a dot from the hosts that it connects to, so that the entry applies to \
             none; its pins are NOT recorded"
        }
        _ => {
            "to this client that is another host than the one without it; its pins are NOT recorded. If the \
             app connects to URLs with such a dot: hpkp published add HOST --pin PIN --origin TEXT"
        }
    };
    imported.note(line, format!("\"{shown}\" ends with a dot: {why}"));
    true
}

/// Whether the name of an entry begins with `*`. These clients know no patterns and compare the name
/// literally, so the entry applies to no host.
fn is_pattern(imported: &mut Imported, line: usize, name: &str) -> bool {
    let is_pattern = name.starts_with('*');
    if is_pattern {
        let name = shown::shown(name);
        imported.note(
            line,
            format!(
                "\"{name}\" is a pattern: this client compares names as they are written, so that the entry \
                 applies to no host; its pins are NOT recorded"
            ),
        );
    }
    is_pattern
}

/// Removes duplicate pins.
fn distinct(pins: impl IntoIterator<Item = Pin>) -> Vec<Pin> {
    let mut seen = HashSet::new();
    pins.into_iter().filter(|pin| seen.insert(*pin)).collect()
}

/// The last moment at which the day `yyyy-MM-dd` begins somewhere on Earth: noon UTC, which is midnight in
/// the time zone twelve hours behind. Apps use the time zone of the device.
pub(crate) fn day(text: &str) -> Option<i64> {
    let plain = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    plain.then(|| date::parse(&format!("{text}T12:00:00Z"))).flatten()
}

/// The exempt hosts of a domain that includes its subdomains: the hosts below it with sets of their own.
/// For clients that use only the most specific set. `others` are all hosts of the text, and whether each
/// includes its subdomains.
fn excepted(domain: &HostName, others: &[(HostName, bool)]) -> Vec<Except> {
    let below = others.iter().filter(|(host, _)| host != domain && host.is_within(domain));
    let except: BTreeSet<Except> = below
        .map(|(host, with_subdomains)| Except {
            host: host.clone(),
            with_subdomains: *with_subdomains,
        })
        .collect();
    except.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_noon_utc() {
        assert_eq!(day("2026-11-21"), date::parse("2026-11-21T00:00:00-12:00"));
        for text in
            ["", "2026-11", "2026-13-01", "2026-02-29", "2026-1-01", "21.11.2026", "2026-11-21Z"]
        {
            assert_eq!(day(text), None, "{text}");
        }
    }

    /// Pieces of all formats, so that random combinations pass the first check of each reader.
    const PIECES: &[&str] = &[
        "\n",
        " ",
        "\"",
        "'",
        "\\",
        "(",
        ")",
        "{",
        ",",
        "+",
        "=",
        ";",
        "|",
        "#",
        "//",
        "/*",
        "*/",
        "é",
        "$x",
        "\"\"\"",
        "CertificatePinner.Builder()",
        ".add(",
        "\"a.example\"",
        "*.a.example",
        "build",
        "sha256/",
        samples::A,
        "curl",
        "--pinnedpubkey",
        "sha256//",
        "https://a.example",
        "://",
        "--next",
        "url",
        "$ORIGIN",
        "a.example.",
        "_443._tcp.",
        "@",
        "IN",
        "TLSA",
        "3 1 1",
        "\\#",
        "00ff",
        "<plist>",
        "</plist>",
        "<dict>",
        "</dict>",
        "<key>",
        "</key>",
        "<array>",
        "</array>",
        "<string>",
        "</string>",
        "TSKPinnedDomains",
        "NSPinnedDomains",
        "<true/>",
        "<network-security-config>",
        "</network-security-config>",
        "<domain-config>",
        "</domain-config>",
        "<domain>",
        "</domain>",
        "<pin-set>",
        "</pin-set>",
        "<pin digest='SHA-256'>",
        "</pin>",
    ];

    proptest::proptest! {
        #[test]
        fn errors_and_notes_name_a_line_of_any_text(
            pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60),
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
        ) {
            let text = [pieces.concat().as_bytes(), &bytes].concat();
            for text in [&text[..], pieces.concat().as_bytes()] {
                let lines = 1 + text.iter().filter(|byte| **byte == b'\n').count();
                for read in [
                    android::read, curl::read, ios::read, okhttp::read, tlsa::read, trustkit::read,
                ] {
                    if let Err(error) = read(text, &Certificates::default()) {
                        assert!((1..=lines).contains(&error.line), "{error}");
                    }
                }
            }
        }
    }

    #[test]
    fn hashes_of_bare_keys_are_recognised_with_the_certificate() {
        use openssl::{
            asn1::Asn1Time, ec, hash::MessageDigest, nid::Nid, pkey::PKey, rsa::Rsa, x509::X509,
        };
        let group = ec::EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let point = ec::EcKey::generate(&group).unwrap();
        let mut context = openssl::bn::BigNumContext::new().unwrap();
        let form = ec::PointConversionForm::UNCOMPRESSED;
        let bare_point = point.public_key().to_bytes(&group, form, &mut context).unwrap();
        let rsa = Rsa::generate(2048).unwrap();
        let bare_rsa = rsa.public_key_to_der_pkcs1().unwrap();
        for (key, bare) in [
            (PKey::from_ec_key(point).unwrap(), bare_point),
            (PKey::from_rsa(rsa).unwrap(), bare_rsa),
        ] {
            let mut builder = X509::builder().unwrap();
            builder.set_pubkey(&key).unwrap();
            builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
            builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
            builder.sign(&key, MessageDigest::sha256()).unwrap();
            let der = builder.build().to_der().unwrap();
            let at_hand = Certificates::new([(&der[..], "CN=x".to_owned())]);
            let wanted = Problem::BareKeyHash {
                subject: "CN=x".to_owned(),
                pin: Pin::of_spki(&key.public_key_to_der().unwrap()),
            };
            let hash = Pin::from_bytes(openssl::sha::sha256(&bare));
            let text = format!("a.example sha256/{hash}");
            let read = format::Format::Lines.read(text.as_bytes(), &at_hand);
            assert_eq!(read.unwrap_err().problem, wanted);
            let read = format::Format::Lines.read(text.as_bytes(), &Certificates::default());
            assert!(read.is_ok());
        }
    }

    #[test]
    fn invalid_utf8_is_reported_with_its_line() {
        assert_eq!(text(b"\xef\xbb\xbfa"), Ok("a"));
        assert_eq!(text(b"a\nb\xff"), Err(Problem::NotUtf8.at(2)));
        assert_eq!(text(&vec![b' '; MAX_TEXT + 1]), Err(Problem::TooLarge.at(1)));
    }
}

/// Helpers for the tests of the readers.
#[cfg(test)]
mod samples {
    use super::*;

    pub(super) const A: &str = "d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=";
    pub(super) const B: &str = "E9CZ9INDbd+2eRQozYqqbQ2yXLVKB9+xcprMF+44U1g=";

    pub(super) fn a() -> Pin {
        A.parse().unwrap()
    }

    pub(super) fn b() -> Pin {
        B.parse().unwrap()
    }

    pub(super) fn name(text: &str) -> HostName {
        host(text, 1).unwrap().unwrap()
    }

    /// A certificate, and a pin that equals the hash of the whole certificate.
    pub(super) fn certificate() -> (Certificates, Pin) {
        let der = b"the bytes of a certificate";
        let at_hand = Certificates::new([(&der[..], "CN=www.example.com".to_owned())]);
        (at_hand, Pin::from_bytes(openssl::sha::sha256(der)))
    }

    /// A set of the form that most formats produce.
    pub(super) fn set(host: &str, pins: &[Pin]) -> PinSet {
        PinSet {
            host: name(host),
            matching: Matching::Exact,
            include_subdomains: false,
            except: vec![],
            scope: Scope::Chain,
            port: None,
            pins: pins.to_vec(),
            expires_at: None,
            origin: String::new(),
            client: Client::Curl,
            group: 0,
        }
    }

    /// The sets without their origins and clients.
    pub(super) fn sets(imported: &Imported) -> Vec<PinSet> {
        let sets = imported.sets.iter().cloned();
        let plain = |set| PinSet { origin: String::new(), client: Client::Curl, group: 0, ..set };
        sets.map(plain).collect()
    }
}
