//! Reads pins from the files of other software: a text in, pin sets out.
//!
//! A reader never finds fewer clients with pins, or larger sets, than there may be: text that it
//! does not understand is an error that names the line, and in doubt it gives the stricter answer.
//! If it may include too many clients, or ignores something, a [`Note`] says so.

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
    /// The host, or the domain above the hosts.
    pub host: HostName,
    /// Which hosts they hold it for.
    pub matching: Matching,
    /// Whether they hold it for all hosts below as well.
    pub include_subdomains: bool,
    /// Hosts below for which the same clients do something else.
    pub except: Vec<Except>,
    /// What they compare.
    pub scope: Scope,
    /// The one port for which they do; all where there is none.
    pub port: Option<u16>,
    /// The pins, of which one must be met; each once, in their order, at least one.
    pub pins: Vec<Pin>,
    /// When the pins stop being enforced, in seconds since 1970 UTC: the latest moment of that kind
    /// on Earth, where the text has a day.
    pub expires_at: Option<i64>,
    /// What it was read from, to be shown.
    pub origin: String,
    /// The kind of client that holds them.
    pub client: Client,
    /// Which configuration of the text they are of: a client has one of them alone, and combines its
    /// entries in its own way ([`Client`]).
    pub group: usize,
}

impl PinSet {
    /// Pins that a client holds for one host, and compares with any key of the chain that it validated.
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

    /// The same for a host, or for it and all below. `all` are the hosts of the same configuration, each of which
    /// has its own pins.
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

/// A host to which a set does not apply though it lies below.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Except {
    /// The host.
    pub host: HostName,
    /// Whether the hosts below it are excepted too.
    pub with_subdomains: bool,
}

/// What was read from a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The pin sets, in the order of the text. A host that stands in several must meet each.
    pub sets: Vec<PinSet>,
    /// On which line each of them begins.
    pub lines: Vec<usize>,
    /// What whoever imports them should know.
    pub notes: Vec<Note>,
    /// By position in `sets`, the TLSA records that a set stands for. Its pins are those of the keys that
    /// they name, of which there may be none.
    pub tlsa: BTreeMap<usize, Rrset>,
}

/// Something about a place in a text that is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The line, from 1.
    pub line: usize,
    /// What there is to know.
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

    /// It, unless nothing of what was `wanted` is in the text.
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

/// Why a text cannot be taken over, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, where it is known.
    pub column: Option<usize>,
    /// What is wrong there.
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
    /// With the column of a text that is not shown.
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
    /// Elements within one another more deeply than any such file has them.
    #[error("elements are nested more than {} deep", MAX_XML_DEPTH)]
    TooDeep,
    /// Not UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// Not well-formed XML.
    #[error("invalid XML: {0}")]
    Xml(String),
    /// XML that declares entities, which such files never need and bombs are made of.
    #[error("unsupported XML entity declarations")]
    Entities,
    /// A property list in Apple's binary form that cannot be read.
    #[error(
        "this property list in binary form cannot be read; convert it with plutil -convert xml1 -o - FILE, or \
        plistutil -i FILE"
    )]
    BinaryPlist,
    /// Nothing in the text is of the format.
    #[error("the text does not contain {wanted}")]
    Nothing {
        /// What was looked for.
        wanted: &'static str,
    },
    /// Something stands where the format has something else.
    #[error("unexpected \"{found}\", expected {wanted}")]
    Unexpected {
        /// What was found, made safe to show.
        found: String,
        /// What belongs there.
        wanted: &'static str,
    },
    /// Something is there twice, and which one counts is not certain.
    #[error("duplicate \"{what}\"")]
    Twice {
        /// What, made safe to show.
        what: String,
    },
    /// A name that is no host.
    #[error("invalid host name \"{name}\": {error}")]
    Host {
        /// The name, made safe to show.
        name: String,
        /// Why.
        error: HostError,
    },
    /// What looks like a pin and was not read.
    #[error(
        "this looks like a pin, but its host is not clear; nothing was recorded. Remove it from the text, or \
        record it with: hpkp published add HOST --pin PIN --origin TEXT"
    )]
    NotRead,
    /// A pin of SHA-1.
    #[error("a SHA-1 pin cannot be compared with a key; pin the same key with sha256/")]
    Sha1,
    /// A way of pinning that is not read.
    #[error("this looks like {what}: {advice}")]
    Foreign {
        /// What the text looks like.
        what: &'static str,
        /// What to do with it.
        advice: &'static str,
    },
    /// Text in front of what is to be XML.
    #[error("not XML, since other text precedes it; give the XML alone")]
    NoXml,
    /// A text that is no pin.
    #[error("invalid pin: {error}")]
    Pin {
        /// The text, which is not shown: it may be a secret.
        text: String,
        /// Why.
        error: PinError,
    },
    /// What looks like a pin is the hash of a whole certificate.
    #[error(
        "this is not the pin of a key but the SHA-256 of the whole certificate of {subject}; {CHANGES}"
    )]
    CertificateHash {
        /// The certificate's subject.
        subject: String,
    },
    /// What looks like a pin is the hash of a bare key.
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
    /// Something that clients may act on and that cannot be held against a server's keys.
    #[error("\"{what}\" cannot be imported: {why}")]
    Unsupported {
        /// What, made safe to show.
        what: String,
        /// Why not, and what to do.
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

/// Certificates at hand, by which hashes of whole certificates and of bare keys are told from pins.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    whole: Vec<([u8; 32], String)>,
    /// Hashes of bare keys, with the subjects and the pins.
    bare: Vec<([u8; 32], String, Pin)>,
    /// The pins that readers have taken, with their lines.
    read: RefCell<Vec<(usize, Pin)>>,
    /// The name of the file that is read, which says the zone in some formats.
    file: Option<String>,
}

impl Certificates {
    /// From pairs of a certificate's DER and its subject, made safe to show.
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

    /// The same for a text that is read from this file.
    #[must_use]
    pub fn in_file(self, file: &str) -> Self {
        Self { file: Some(file.to_owned()), ..self }
    }

    /// What the hash is of, where it is no pin.
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

    /// The pin that `base64` is.
    fn pin(&self, base64: &str, line: usize) -> Result<Pin, ImportError> {
        let pin = Pin::from_base64(base64)
            .map_err(|error| Problem::Pin { text: base64.to_owned(), error }.at(line))?;
        self.check(pin, line)
    }

    /// The pin that `text` is to a client; `None` where no key can match it, which is noted.
    fn pin_of(
        &self,
        client: Client,
        text: &str,
        line: usize,
        notes: &mut Vec<Note>,
    ) -> Result<Option<Pin>, ImportError> {
        // A prefix that other formats have is no part of it.
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

    /// The pin, unless it is the hash of a whole certificate.
    fn check(&self, pin: Pin, line: usize) -> Result<Pin, ImportError> {
        self.account(pin, line);
        self.checked(pin, line)
    }

    /// Counts a pin as looked at: it is recorded, or the reader names it.
    fn account(&self, pin: Pin, line: usize) {
        self.read.borrow_mut().push((line, pin));
    }

    /// The pin, unless it is the hash of a whole certificate.
    fn checked(&self, pin: Pin, line: usize) -> Result<Pin, ImportError> {
        self.other(pin.bytes()).map_or(Ok(pin), |problem| Err(problem.at(line)))
    }
}

/// The bare key of a certificate, as `SecKeyCopyExternalRepresentation` gives it, and its SPKI.
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

/// The text, if it is one and not too large.
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

/// The host name `name`; `None` for an IP address, of which records know nothing.
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

/// Whether an entry is for a name with the dot of the root at its end, as DNS writes them. These clients
/// compare it as it is written, so it is not an entry for the host without the dot.
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

/// Pins, each once.
fn distinct(pins: impl IntoIterator<Item = Pin>) -> Vec<Pin> {
    let mut seen = HashSet::new();
    pins.into_iter().filter(|pin| seen.insert(*pin)).collect()
}

/// The last moment at which the day `yyyy-MM-dd` begins somewhere on Earth: noon UTC, when it is
/// midnight twelve hours behind. Apps take the day by the device's own time zone.
pub(crate) fn day(text: &str) -> Option<i64> {
    let plain = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    plain.then(|| date::parse(&format!("{text}T12:00:00Z"))).flatten()
}

/// For sets of which a client takes the one with the most specific name: below each domain that
/// binds its subdomains, the names that `others` have for themselves. `others` are all names that
/// the text configures, and whether they bind their subdomains.
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
    fn a_day_begins_last_twelve_hours_behind() {
        assert_eq!(day("2026-11-21"), date::parse("2026-11-21T00:00:00-12:00"));
        for text in
            ["", "2026-11", "2026-13-01", "2026-02-29", "2026-1-01", "21.11.2026", "2026-11-21Z"]
        {
            assert_eq!(day(text), None, "{text}");
        }
    }

    /// Pieces of all formats, so that what is made of them gets past the first check of each.
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
        fn whatever_the_text_is_the_answer_names_a_line_of_it(
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
    fn what_is_no_text_is_named_by_its_line() {
        assert_eq!(text(b"\xef\xbb\xbfa"), Ok("a"));
        assert_eq!(text(b"a\nb\xff"), Err(Problem::NotUtf8.at(2)));
        assert_eq!(text(&vec![b' '; MAX_TEXT + 1]), Err(Problem::TooLarge.at(1)));
    }
}

/// What the tests of the readers share.
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

    /// A certificate at hand whose whole hash is the pin that comes with it.
    pub(super) fn certificate() -> (Certificates, Pin) {
        let der = b"the bytes of a certificate";
        let at_hand = Certificates::new([(&der[..], "CN=www.example.com".to_owned())]);
        (at_hand, Pin::from_bytes(openssl::sha::sha256(der)))
    }

    /// A set as most formats have them.
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
