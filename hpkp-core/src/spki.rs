//! `SubjectPublicKeyInfo`s from files: certificates, certificate signing requests (PKCS #10) and public
//! keys, PEM or DER.
//!
//! A pin is the hash of the bytes in the file; nothing is encoded again (RFC 7469 section 2.4).

use std::fmt;

use x509_parser::asn1_rs::{Class, FromDer as _, Header, Tag};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::X509CertificateParser;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::pem::{self, PemError};
use crate::pin::Pin;
use crate::published::Slot;
use crate::spki_walk::{self, Located};
use crate::text::Excerpt;

/// The largest file that a pin is read from, in bytes. A certificate has a few thousand.
pub const MAX_FILE: usize = 1 << 20;

/// The kind of object that contained a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An X.509 certificate.
    Certificate,
    /// A certificate signing request (PKCS #10, RFC 2986).
    Request,
    /// A bare `SubjectPublicKeyInfo`.
    PublicKey,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::Request => "certificate signing request",
            Self::PublicKey => "public key",
        })
    }
}

/// A public key in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The kind of object that contained it.
    pub kind: Kind,
    /// Its pin.
    pub pin: Pin,
}

/// The keys of a file in their order; at least one.
///
/// # Errors
/// The first thing that is wrong with the file. A private key anywhere in it takes precedence: no server should read
/// such a file.
pub fn read(file: &[u8]) -> Result<Vec<Key>, SpkiError> {
    if file.len() > MAX_FILE {
        return Err(SpkiError::TooLarge);
    }
    // The whole file is one certificate in DER.
    if let Some(located) = spki_walk::locate(file) {
        return located_key(located).map(|key| vec![key]);
    }
    if file.trim_ascii().is_empty() {
        return Err(SpkiError::Empty);
    }
    if !is_one_object(file) && pem::is_pem(file) {
        read_pem(file)
    } else {
        read_der(file).map(|key| vec![key])
    }
}

/// Whether the whole file is one `SEQUENCE`: a certificate in DER may contain text that looks like PEM, and its key is
/// not the one in that text.
fn is_one_object(file: &[u8]) -> bool {
    are_sequences([file])
        && Header::from_der(file).is_ok_and(|(rest, header)| {
            header.length().definite().is_ok_and(|length| length == rest.len())
        })
}

fn read_pem(file: &[u8]) -> Result<Vec<Key>, SpkiError> {
    let blocks: Vec<_> = pem::blocks(file).collect();
    if blocks.iter().flatten().any(pem::Block::is_private_key) {
        return Err(SpkiError::PrivateKey);
    }
    let mut keys = Vec::new();
    let mut passed_over = None;
    for block in blocks {
        let block = block?;
        let key = match block.label {
            b"CERTIFICATE" | b"X509 CERTIFICATE" => certificate(&block.decode()?)?,
            b"TRUSTED CERTIFICATE" => trusted_certificate(&block.decode()?)?,
            b"CERTIFICATE REQUEST" | b"NEW CERTIFICATE REQUEST" => request(&block.decode()?)?,
            b"PUBLIC KEY" => public_key(&block.decode()?)?,
            b"RSA PUBLIC KEY" => return Err(SpkiError::Pkcs1PublicKey),
            other => {
                passed_over.get_or_insert(other);
                continue;
            }
        };
        keys.push(key);
    }
    match passed_over {
        Some(label) if keys.is_empty() => {
            Err(SpkiError::NoKey { label: Excerpt::new(label).to_string() })
        }
        _ => Ok(keys),
    }
}

/// Reads one object in DER. Its first elements tell what it is.
fn read_der(der: &[u8]) -> Result<Key, SpkiError> {
    let malformed = || SpkiError::NotRecognised;
    let (after, outer) = Header::from_der(der).map_err(|_| malformed())?;
    if outer.tag() != Tag::Sequence || outer.class() != Class::Universal {
        return Err(malformed());
    }
    let length = outer.length().definite().map_err(|_| malformed())?;
    if length > after.len() {
        return Err(SpkiError::Truncated);
    }
    let (rest, first) = Header::from_der(after).map_err(|_| malformed())?;
    let first_length = first.length().definite().map_err(|_| malformed())?;
    let second = rest.get(first_length..).ok_or_else(malformed)?;
    let second = Header::from_der(second).map(|(_, header)| header.tag()).ok();
    match (first.tag(), second) {
        // PKCS #1 has two integers in a public key, more in a private one (RFC 8017 appendix A).
        (Tag::Integer, Some(Tag::Integer)) if first_length > 1 => Err(SpkiError::Pkcs1PublicKey),
        // PKCS #1, PKCS #8, PKCS #12 and SEC 1 begin with a version; an encrypted PKCS #8 has an
        // byte string behind its algorithm.
        (Tag::Integer, _) | (Tag::Sequence, Some(Tag::OctetString)) => Err(SpkiError::PrivateKey),
        (Tag::Sequence, Some(Tag::BitString)) => public_key(der),
        // A certificate and a request begin alike: the parser that accepts the object decides.
        (Tag::Sequence, Some(Tag::Sequence)) => match certificate(der) {
            Err(SpkiError::Malformed { .. }) => match request(der) {
                Err(SpkiError::Malformed { .. }) => {
                    Err(SpkiError::Malformed { kind: Kind::Certificate })
                }
                request => request,
            },
            certificate => certificate,
        },
        _ => Err(malformed()),
    }
}

/// Reads a certificate. The walk knows the form of nearly all certificates; for everything else the full parse decides.
fn certificate(der: &[u8]) -> Result<Key, SpkiError> {
    spki_walk::locate(der).map_or_else(|| parsed_certificate(der), located_key)
}

fn located_key(located: Located<'_>) -> Result<Key, SpkiError> {
    let Located { spki, algorithm, parameters } = located;
    if are_inherited(algorithm, parameters.map(u32::from)) {
        return Err(SpkiError::InheritedParameters);
    }
    Ok(Key { kind: Kind::Certificate, pin: Pin::of_spki(spki) })
}

fn parsed_certificate(der: &[u8]) -> Result<Key, SpkiError> {
    let (rest, certificate) = parse_certificate(der)?;
    if !rest.is_empty() {
        return Err(SpkiError::TrailingBytes { kind: Kind::Certificate, count: rest.len() });
    }
    key(Kind::Certificate, &certificate.tbs_certificate.subject_pki)
}

/// OpenSSL's own form: a certificate followed by its trust settings.
fn trusted_certificate(der: &[u8]) -> Result<Key, SpkiError> {
    let (_, certificate) = parse_certificate(der)?;
    key(Kind::Certificate, &certificate.tbs_certificate.subject_pki)
}

/// Parses a certificate without its extensions: a pin needs none of them, and an invalid one does not affect the pin.
fn parse_certificate(
    der: &[u8],
) -> Result<(&[u8], x509_parser::certificate::X509Certificate<'_>), SpkiError> {
    use x509_parser::nom::Parser as _;
    let parsed = X509CertificateParser::new().with_deep_parse_extensions(false).parse(der);
    match parsed {
        Ok((rest, certificate))
            if are_sequences([der, certificate.tbs_certificate.subject_pki.raw]) =>
        {
            Ok((rest, certificate))
        }
        _ => Err(damage(der, Kind::Certificate)),
    }
}

fn request(der: &[u8]) -> Result<Key, SpkiError> {
    let (rest, request) =
        X509CertificationRequest::from_der(der).map_err(|_| damage(der, Kind::Request))?;
    if !are_sequences([der, request.certification_request_info.subject_pki.raw]) {
        return Err(SpkiError::Malformed { kind: Kind::Request });
    }
    if !rest.is_empty() {
        return Err(SpkiError::TrailingBytes { kind: Kind::Request, count: rest.len() });
    }
    key(Kind::Request, &request.certification_request_info.subject_pki)
}

fn public_key(der: &[u8]) -> Result<Key, SpkiError> {
    let (rest, spki) =
        SubjectPublicKeyInfo::from_der(der).map_err(|_| damage(der, Kind::PublicKey))?;
    if !are_sequences([der]) {
        return Err(SpkiError::Malformed { kind: Kind::PublicKey });
    }
    if !rest.is_empty() {
        return Err(SpkiError::TrailingBytes { kind: Kind::PublicKey, count: rest.len() });
    }
    key(Kind::PublicKey, &spki)
}

fn key(kind: Kind, spki: &SubjectPublicKeyInfo<'_>) -> Result<Key, SpkiError> {
    let pin = pin_of(spki).ok_or(SpkiError::InheritedParameters)?;
    Ok(Key { kind, pin })
}

/// The pin of a key, or `None` if its parameters are in another certificate ([`are_inherited`]).
pub(crate) fn pin_of(spki: &SubjectPublicKeyInfo<'_>) -> Option<Pin> {
    let algorithm = spki.algorithm.algorithm.as_bytes();
    let parameters = spki.algorithm.parameters.as_ref().map(|parameters| parameters.tag().0);
    (!are_inherited(algorithm, parameters)).then(|| Pin::of_spki(spki.raw))
}

/// Whether the parameters of a key are those of its issuer's key (RFC 7469 section 2.4; RFC 3279 section 2.3.2
/// for DSA, `implicitCA` of section 2.3.5 for EC): the algorithm's object identifier, and the number of its
/// parameters' tag.
fn are_inherited(algorithm: &[u8], parameters: Option<u32>) -> bool {
    /// 1.2.840.10040.4.1, `id-dsa`.
    const DSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01];
    /// 1.2.840.10045.2.1, `id-ecPublicKey`.
    const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

    let none_of_its_own = parameters.is_none_or(|tag| tag == Tag::Null.0);
    none_of_its_own && (algorithm == DSA || algorithm == EC)
}

/// The slot of a certificate with this key; none if the kind of key is not known. `spki` is a `SubjectPublicKeyInfo` in
/// DER.
#[must_use]
pub fn slot(spki: &[u8]) -> Option<Slot> {
    SubjectPublicKeyInfo::from_der(spki).ok().and_then(|(_, spki)| slot_of(&spki))
}

pub(crate) fn slot_of(spki: &SubjectPublicKeyInfo<'_>) -> Option<Slot> {
    let algorithm = &spki.algorithm;
    match algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => Some(Slot::Rsa),
        "1.2.840.113549.1.1.10" => Some(Slot::RsaPss),
        "1.2.840.10040.4.1" => Some(Slot::Dsa),
        "1.2.840.10045.2.1" => {
            let curve = algorithm.parameters.as_ref()?.as_oid().ok()?.to_id_string();
            // P-256 and P-384.
            matches!(&*curve, "1.2.840.10045.3.1.7" | "1.3.132.0.34").then_some(Slot::Ec)
        }
        "1.3.101.112" => Some(Slot::Ed25519),
        "1.3.101.113" => Some(Slot::Ed448),
        _ => None,
    }
}

/// Whether each object is a `SEQUENCE`. The parser compares the numbers of tags, not their classes,
/// so that it takes objects that no user agent takes.
pub(crate) fn are_sequences<const N: usize>(objects: [&[u8]; N]) -> bool {
    const SEQUENCE: u8 = 0x30;
    objects.iter().all(|der| der.first() == Some(&SEQUENCE))
}

/// Whether an object that cannot be parsed is truncated or invalid.
fn damage(der: &[u8], kind: Kind) -> SpkiError {
    let cut = Header::from_der(der).is_ok_and(|(rest, header)| {
        header.length().definite().is_ok_and(|length| length > rest.len())
    });
    if cut { SpkiError::Truncated } else { SpkiError::Malformed { kind } }
}

const WANTED: &str = "expected a certificate, a certificate signing request or a public key";

/// Why no pin can be read from a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpkiError {
    /// Larger than [`MAX_FILE`].
    #[error("larger than {MAX_FILE} bytes; {WANTED}")]
    TooLarge,
    /// Nothing but white space.
    #[error("empty; {WANTED}")]
    Empty,
    /// Neither PEM nor DER.
    #[error("neither PEM nor DER; {WANTED}")]
    NotRecognised,
    /// A private key: it belongs offline, and a backup key's most of all.
    #[error(
        "contains a private key, which does not belong where a server reads its pins; {WANTED} (openssl pkey -in \
        KEY -pubout)"
    )]
    PrivateKey,
    /// A PKCS #1 `RSAPublicKey`, which is not the `SubjectPublicKeyInfo` that a pin is made of.
    #[error(
        "contains an RSA public key in PKCS #1 form, whose hash is not a pin; convert it (openssl rsa \
        -RSAPublicKey_in -in KEY -pubout)"
    )]
    Pkcs1PublicKey,
    /// The object or the PEM block ends too early.
    #[error("truncated")]
    Truncated,
    /// A PEM block holds something other than base64.
    #[error("invalid base64 in a PEM block")]
    NotBase64,
    /// The object cannot be parsed as what its label or its first elements claim.
    #[error("cannot parse the {kind}")]
    Malformed {
        /// The kind that it should have.
        kind: Kind,
    },
    /// There is data after the object.
    #[error("{count} bytes follow the {kind}")]
    TrailingBytes {
        /// The object.
        kind: Kind,
        /// How many bytes.
        count: usize,
    },
    /// A DSA or EC key whose parameters are inherited from its issuer (RFC 7469 section 2.4).
    #[error(
        "the key has inherited parameters, so clients cannot form a pin of it (RFC 7469 section 2.4)"
    )]
    InheritedParameters,
    /// A PEM file without an object that has a public key.
    #[error("contains \"{label}\" and no public key; {WANTED}")]
    NoKey {
        /// The first label that was ignored, made safe to show.
        label: String,
    },
}

impl From<PemError> for SpkiError {
    fn from(error: PemError) -> Self {
        match error {
            PemError::NoEnd => Self::Truncated,
            PemError::NotBase64 => Self::NotBase64,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CERTIFICATE: &[u8] =
        include_bytes!("../../tests/fuzz/seeds/pem_der_to_pin/ed25519-selfsigned.der");

    fn pem(label: &str, der: &[u8]) -> Vec<u8> {
        use base64::Engine as _;
        let base64 = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n").into_bytes()
    }

    #[test]
    fn pem_text_inside_a_der_object_is_ignored() {
        let inner = pem("CERTIFICATE", CERTIFICATE);
        let algorithm = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];
        let with_length = |tag: u8, content: &[u8]| {
            let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
            [&[tag, 0x82, high, low], content].concat()
        };
        let key = with_length(0x03, &[b"\0\n", &inner[..]].concat());
        let spki = with_length(0x30, &[&algorithm[..], &key].concat());
        assert!(pem::is_pem(&spki));
        let expected = Key { kind: Kind::PublicKey, pin: Pin::of_spki(&spki) };
        assert_eq!(read(&spki), Ok(vec![expected]));
    }

    #[test]
    fn a_sequence_tag_of_another_class_is_refused() {
        let start = CERTIFICATE.windows(2).position(|bytes| bytes == [0x30, 0x2a]).unwrap();
        let spki = &CERTIFICATE[start..start + 44];
        let expected = Pin::of_spki(spki);
        for (kind, label, sound, tags) in [
            (Kind::Certificate, "CERTIFICATE", CERTIFICATE, &[0, start][..]),
            (Kind::PublicKey, "PUBLIC KEY", spki, &[0][..]),
        ] {
            let keys = Ok(vec![Key { kind, pin: expected }]);
            assert_eq!(read(sound), keys);
            assert_eq!(read(&pem(label, sound)), keys);
            for &tag in tags {
                let mut damaged = sound.to_vec();
                damaged[tag] = 0x70;
                assert_eq!(read(&pem(label, &damaged)), Err(SpkiError::Malformed { kind }));
                assert!(read(&damaged).is_err());
            }
        }
    }

    /// Asserts that the full parse accepts whatever the walk accepts, with the same key.
    fn agree(der: &[u8]) -> Result<(), TestCaseError> {
        let located = spki_walk::locate(der).is_some();
        if located {
            prop_assert_eq!(certificate(der), parsed_certificate(der));
        }
        Ok(())
    }

    /// Real certificates in DER: each kind of key, roots of Debian, and other real certificates.
    fn certificates() -> Vec<Vec<u8>> {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/seeds/pem_der_to_pin");
        let mut files: Vec<_> =
            std::fs::read_dir(seeds).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let of_file = |path| {
            let file = std::fs::read(path).unwrap();
            let blocks: Vec<_> =
                pem::blocks(&file).flatten().filter_map(|b| b.decode().ok()).collect();
            blocks.into_iter().chain([file])
        };
        files.into_iter().flat_map(of_file).filter(|der| parsed_certificate(der).is_ok()).collect()
    }

    #[test]
    fn real_certificates_need_no_full_parse() {
        let certificates = certificates();
        assert!(certificates.len() > 20);
        for der in certificates {
            assert!(spki_walk::locate(&der).is_some());
            assert_eq!(certificate(&der), parsed_certificate(&der));
            for end in 0..der.len() {
                assert_eq!(spki_walk::locate(&der[..end]), None);
            }
            assert_eq!(spki_walk::locate(&[&der[..], &[0]].concat()), None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn damaged_certificates_have_the_key_of_a_full_parse(
            which in any::<prop::sample::Index>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..4),
        ) {
            static CERTIFICATES: std::sync::LazyLock<Vec<Vec<u8>>> = std::sync::LazyLock::new(certificates);
            let mut der = CERTIFICATES[which.index(CERTIFICATES.len())].clone();
            for (at, value, how) in changes {
                let at = at.index(der.len());
                match how {
                    0 => der[at] = value,
                    1 => der[at] ^= 1 << (value % 8),
                    2 => der[at] = der[at].wrapping_add(1),
                    _ => drop(der.remove(at)),
                }
            }
            agree(&der)?;
        }
    }
}
