//! A certificate that a server loaded or trusts, with the parts that path building needs (RFC 5280).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use x509_parser::asn1_rs::{Class, Header, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

use crate::date;
use crate::other_hash::{self, OtherHash};
use crate::pin::Pin;
use crate::published::{Fingerprint, Slot};
use crate::spki;
use crate::text::Excerpt;

/// The size of the largest certificate that is parsed, in bytes.
pub const MAX_CERTIFICATE: usize = 256 * 1024;

/// A parsed certificate.
pub struct Certificate {
    der: Box<[u8]>,
    subject: Name,
    issuer: Name,
    subject_key_id: Option<Box<[u8]>>,
    authority_key_id: Option<Box<[u8]>>,
    key_algorithm: Box<[u8]>,
    slot: Option<Slot>,
    pin: Option<Pin>,
    /// The position of its `SubjectPublicKeyInfo` in `der`.
    spki: std::ops::Range<usize>,
    subject_text: String,
    issuer_text: String,
    not_before: i64,
    not_after: i64,
    not_after_text: String,
    dns_names: Box<[String]>,
    /// The common names of the subject, in lower case.
    common_names: Box<[String]>,
}

/// A distinguished name in a form in which equal names are equal bytes: strings in lower case,
/// their spaces folded, whatever string type they have (RFC 5280 section 7.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name(Box<[u8]>);

/// Why a certificate cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Larger than [`MAX_CERTIFICATE`].
    #[error("a certificate is larger than {MAX_CERTIFICATE} bytes")]
    TooLarge,
    /// Not an X.509 certificate in DER.
    #[error("cannot parse a certificate")]
    Malformed,
}

impl Certificate {
    /// Parses one certificate. Data after it is ignored, because OpenSSL's own `TRUSTED
    /// CERTIFICATE` has some.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > MAX_CERTIFICATE {
            return Err(CertificateError::TooLarge);
        }
        let (rest, parsed) =
            X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
        let tbs = &parsed.tbs_certificate;
        if !spki::are_sequences([der, tbs.subject_pki.raw]) {
            return Err(CertificateError::Malformed);
        }
        let mut subject_key_id = None;
        let mut authority_key_id = None;
        let mut dns_names = Vec::new();
        let mut san = None;
        for extension in tbs.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => subject_key_id = Some(id.0.into()),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    authority_key_id = id.key_identifier.as_ref().map(|id| id.0.into());
                }
                ParsedExtension::SubjectAlternativeName(names) => {
                    san = names.general_names.first().map(san_text);
                    dns_names.extend(names.general_names.iter().filter_map(|name| match name {
                        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                        _ => None,
                    }));
                }
                _ => {}
            }
        }
        Ok(Self {
            der: der[..der.len() - rest.len()].into(),
            subject: Name::new(&tbs.subject),
            issuer: Name::new(&tbs.issuer),
            subject_key_id,
            authority_key_id,
            key_algorithm: tbs.subject_pki.algorithm.algorithm.as_bytes().into(),
            slot: spki::slot_of(&tbs.subject_pki),
            pin: spki::pin_of(&tbs.subject_pki),
            spki: range_in(der, tbs.subject_pki.raw),
            subject_text: label(&tbs.subject, san.as_deref()),
            issuer_text: issuer_label(&tbs.issuer),
            not_before: tbs.validity.not_before.timestamp(),
            not_after: tbs.validity.not_after.timestamp(),
            not_after_text: date::format(tbs.validity.not_after.timestamp()),
            dns_names: dns_names.into(),
            common_names: tbs
                .subject
                .iter_common_name()
                .filter_map(|name| name.as_str().ok().map(str::to_ascii_lowercase))
                .collect(),
        })
    }

    /// Its bytes, in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The pin of its key, or `None` where the key has inherited parameters
    /// (RFC 7469 section 2.4).
    #[must_use]
    pub fn pin(&self) -> Option<Pin> {
        self.pin
    }

    /// The object identifier of its key's algorithm: only the content bytes. A server takes one
    /// certificate for each algorithm.
    #[must_use]
    pub fn key_algorithm(&self) -> &[u8] {
        &self.key_algorithm
    }

    /// The kind of its key, by which a server distinguishes its certificates; none if the kind is not known.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        self.slot
    }

    /// Whether its issuer and its subject have the same name, as in a root.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// Whether the names and key identifiers let `issuer` be its issuer. No signature is verified.
    #[must_use]
    pub fn may_be_issued_by(&self, issuer: &Self) -> bool {
        matches!(self.issued_by(issuer), Issuance::Perhaps | Issuance::Yes)
    }

    /// Its subject, bounded and printable; its first subjectAltName where the subject is empty, as in
    /// certificates of new CAs.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject_text
    }

    /// Its issuer, bounded and printable.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer_text
    }

    /// The start of its validity, in seconds since 1970 UTC.
    #[must_use]
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// When it expires, in seconds since 1970 UTC.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// When it expires, in RFC 3339.
    #[must_use]
    pub fn not_after_text(&self) -> &str {
        &self.not_after_text
    }

    /// The host names in its subjectAltName (RFC 5280 section 4.2.1.6), in lower case. The first label of a wildcard
    /// is `*`.
    #[must_use]
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// The names for which some client accepts it: its DNS names, or without DNS names the common names of its
    /// subject, which OpenSSL and GnuTLS accept.
    #[must_use]
    pub fn accepted_names(&self) -> &[String] {
        if self.dns_names.is_empty() { &self.common_names } else { &self.dns_names }
    }

    /// Whether a client that asks for `host` accepts it.
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        let below = || host.split_once('.').map(|(_, domain)| domain);
        let is_it = |name: &String| match name.strip_prefix("*.") {
            Some(domain) => below() == Some(domain.trim_end_matches('.')),
            None => name.trim_end_matches('.') == host,
        };
        self.accepted_names().iter().any(is_it)
    }

    /// Its `SubjectPublicKeyInfo` in DER.
    pub(crate) fn spki(&self) -> &[u8] {
        self.der.get(self.spki.clone()).unwrap_or_default()
    }

    /// The hashes of the certificate that people use by mistake in place of its pin.
    pub(crate) fn other_hashes(&self) -> Vec<OtherHash> {
        other_hash::of_certificate(&self.der, self.spki())
    }

    /// A hash of the issuer's name and the authority key identifier in the certificate.
    #[must_use]
    pub fn issuer_fingerprint(&self) -> Fingerprint {
        Fingerprint::of([&*self.issuer.0, self.authority_key_id.as_deref().unwrap_or_default()])
    }

    /// A hash that distinguishes it from every other certificate.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of([self.der()])
    }

    pub(crate) fn subject_name(&self) -> &Name {
        &self.subject
    }

    pub(crate) fn issuer_name(&self) -> &Name {
        &self.issuer
    }

    /// Whether both certificates have the same subject and key: a client may take either.
    pub(crate) fn same_subject_and_key(&self, other: &Self) -> bool {
        self.subject == other.subject && self.pin.is_some() && self.pin == other.pin
    }

    /// Whether `issuer` issued this certificate, according to the names and the key identifiers.
    pub(crate) fn issued_by(&self, issuer: &Self) -> Issuance {
        if self.issuer != issuer.subject {
            return Issuance::No;
        }
        match (&self.authority_key_id, &issuer.subject_key_id) {
            (Some(wanted), Some(id)) if wanted == id => Issuance::Yes,
            (Some(_), Some(_)) => Issuance::OtherKeyId,
            _ => Issuance::Perhaps,
        }
    }
}

/// The name of a certificate in messages.
fn label(subject: &X509Name<'_>, san: Option<&str>) -> String {
    let subject = subject.to_string();
    match (subject.is_empty(), san) {
        (false, _) => Excerpt::new(&subject).to_string(),
        (true, Some(san)) => format!("(no subject) SAN {}", Excerpt::new(san)),
        (true, None) => "(no subject)".to_owned(),
    }
}

/// The name of a certificate's issuer in messages.
fn issuer_label(issuer: &X509Name<'_>) -> String {
    match issuer.to_string() {
        empty if empty.is_empty() => "(no name)".to_owned(),
        name => Excerpt::new(&name).to_string(),
    }
}

/// A name in subjectAltName.
fn san_text(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
            (*text).to_owned()
        }
        GeneralName::IPAddress(bytes) => {
            match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                (Ok(v4), _) => Ipv4Addr::from(v4).to_string(),
                (_, Ok(v6)) => Ipv6Addr::from(v6).to_string(),
                _ => "invalid IP address".to_owned(),
            }
        }
        GeneralName::DirectoryName(name) => name.to_string(),
        _ => "of another type".to_owned(),
    }
}

/// The position of `part`, a slice of `whole`, in `whole`.
fn range_in(whole: &[u8], part: &[u8]) -> std::ops::Range<usize> {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    start..start.saturating_add(part.len())
}

/// The subject of a certificate that cannot be parsed as a whole, bounded and printable; none if the subject
/// cannot be read either.
#[must_use]
pub fn subject_of_unreadable(der: &[u8]) -> Option<String> {
    let (inside, _) = Header::from_der(der).ok()?;
    let (mut rest, _) = Header::from_der(inside).ok()?;
    // The version, which may be missing, the serial number, the algorithm, the issuer, the validity.
    let (after, first) = Header::from_der(rest).ok()?;
    if first.class() == Class::ContextSpecific {
        rest = after.get(first.length().definite().ok()?..)?;
    }
    for _ in 0..4 {
        let (after, header) = Header::from_der(rest).ok()?;
        rest = after.get(header.length().definite().ok()?..)?;
    }
    let (_, subject) = X509Name::from_der(rest).ok()?;
    Some(label(&subject, None))
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject_text)
            .field("pin", &self.pin)
            .finish_non_exhaustive()
    }
}

/// Whether one certificate issued another, before any signature is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Issuance {
    /// The names differ.
    No,
    /// The names fit; the key identifiers differ. OpenSSL and GnuTLS then do not take it for the issuer.
    /// Java and Chromium do if its key made the signature: RFC 5280 has the identifiers to choose
    /// certificates with, not to validate (section 4.2.1.1).
    OtherKeyId,
    /// The names fit; one of the key identifiers is missing.
    Perhaps,
    /// The names and the key identifiers fit.
    Yes,
}

impl Name {
    fn new(name: &X509Name<'_>) -> Self {
        let mut bytes = Vec::with_capacity(name.as_raw().len());
        for rdn in name.iter() {
            bytes.push(b'/');
            for attribute in rdn.iter() {
                let kind = attribute.attr_type().as_bytes();
                push_with_length(&mut bytes, kind);
                let value = attribute.attr_value();
                match value.tag() {
                    Tag::Utf8String
                    | Tag::PrintableString
                    | Tag::TeletexString
                    | Tag::Ia5String
                    | Tag::VisibleString => push_with_length(&mut bytes, &fold(value.data)),
                    Tag::BmpString => push_with_length(&mut bytes, &fold(&from_bmp(value.data))),
                    tag => {
                        bytes.extend(tag.0.to_be_bytes());
                        push_with_length(&mut bytes, value.data);
                    }
                }
            }
        }
        Self(bytes.into())
    }
}

fn push_with_length(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend(part.len().to_be_bytes());
    bytes.extend(part);
}

/// `text` in lower case (ASCII), without spaces at the ends, with one space for several.
fn fold(text: &[u8]) -> Vec<u8> {
    let mut folded = Vec::with_capacity(text.len());
    for word in text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
        if !folded.is_empty() {
            folded.push(b' ');
        }
        folded.extend(word.iter().map(u8::to_ascii_lowercase));
    }
    folded
}

/// A `BMPString` (UTF-16, big endian) as UTF-8.
fn from_bmp(text: &[u8]) -> Vec<u8> {
    let units = text.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect::<String>()
        .into_bytes()
}
