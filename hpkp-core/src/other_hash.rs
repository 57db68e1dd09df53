//! Hashes that people use by mistake as a pin: of a whole certificate, of a PEM text, of the bare
//! key without its algorithm.
//!
//! No client ever forms such a hash from a key, so such a pin matches nothing. A hash does not tell of what it was
//! made: only an object with the same hash does.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::pem;
use crate::pin::Pin;

/// What a hash was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HashOf {
    /// A certificate: what `openssl x509 -fingerprint` shows.
    Certificate,
    /// The PEM text of a certificate.
    CertificateText,
    /// A certificate signing request.
    Request,
    /// The PEM text of a certificate signing request.
    RequestText,
    /// The PEM text of a public key: the step that makes DER of it was left out.
    PublicKeyText,
    /// The key's own bytes: `RSAPublicKey`, the point of an EC key.
    BareKey,
    /// The PEM text of an `RSAPublicKey`.
    BareKeyText,
    /// The line that `openssl x509 -modulus` prints.
    Modulus,
    /// A whole file.
    File,
    /// The PEM text of a certificate and of those above it, as one file has them.
    ChainText,
}

impl HashOf {
    /// Its name, to follow "the SHA-256 of".
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Certificate => "the whole certificate",
            Self::CertificateText => "the PEM text of the certificate",
            Self::Request => "the whole certificate signing request",
            Self::RequestText => "the PEM text of the certificate signing request",
            Self::PublicKeyText => "the PEM text of the public key (convert it to DER first)",
            Self::BareKey => {
                "the public key without its algorithm (PKCS #1, or SecKeyCopyExternalRepresentation on \
                 iOS)"
            }
            Self::BareKeyText => "the PEM text of the public key in PKCS #1 form",
            Self::Modulus => "the modulus as printed by openssl",
            Self::File => "the whole file",
            Self::ChainText => "the PEM text of the certificate and those above it (fullchain.pem)",
        }
    }
}

/// A hash, and of what it was made.
pub(crate) type OtherHash = (Pin, HashOf);

/// The SHA-256 of any bytes, in the form of a pin.
fn hash(bytes: &[u8]) -> Pin {
    Pin::of_spki(bytes)
}

/// The hashes that may be made of a certificate in place of its pin.
pub(crate) fn of_certificate(der: &[u8], spki: &[u8]) -> Vec<OtherHash> {
    let mut hashes = vec![(hash(der), HashOf::Certificate)];
    hashes.extend(of_text("CERTIFICATE", der, HashOf::CertificateText));
    of_key(spki, &mut hashes);
    hashes
}

/// The hashes that may be made of a file with a certificate and those above it.
pub(crate) fn of_chain<'a>(certificates: impl Iterator<Item = &'a [u8]>) -> [OtherHash; 2] {
    let mut whole = Sha256::new();
    let mut before = whole.clone();
    for der in certificates {
        before = add_text(whole, "CERTIFICATE", der);
        whole = before.clone().chain_update("\n");
    }
    [whole, before].map(|text| (Pin::from_bytes(text.finalize().into()), HashOf::ChainText))
}

/// The hashes that may be made of a file, from which a pin is read, in place of that pin.
pub(crate) fn of_file(file: &[u8]) -> Vec<OtherHash> {
    let mut hashes = Vec::new();
    let mut is_pem = false;
    for block in pem::blocks(file).flatten() {
        is_pem = true;
        let Ok(der) = block.decode() else { continue };
        of_object(&der, &mut hashes);
    }
    if is_pem {
        hashes.push((hash(file), HashOf::File));
    } else {
        of_object(file, &mut hashes);
    }
    hashes
}

/// A certificate, a request or a public key in DER.
fn of_object(der: &[u8], hashes: &mut Vec<OtherHash>) {
    use x509_parser::certificate::X509Certificate;
    use x509_parser::certification_request::X509CertificationRequest;

    if let Ok((_, certificate)) = X509Certificate::from_der(der) {
        hashes.extend(of_certificate(der, certificate.tbs_certificate.subject_pki.raw));
    } else if let Ok((_, request)) = X509CertificationRequest::from_der(der) {
        hashes.push((hash(der), HashOf::Request));
        hashes.extend(of_text("CERTIFICATE REQUEST", der, HashOf::RequestText));
        of_key(request.certification_request_info.subject_pki.raw, hashes);
    } else {
        of_key(der, hashes);
    }
}

fn of_key(spki: &[u8], hashes: &mut Vec<OtherHash>) {
    let Ok((_, key)) = SubjectPublicKeyInfo::from_der(spki) else { return };
    hashes.extend(of_text("PUBLIC KEY", spki, HashOf::PublicKeyText));
    hashes.push((hash(&key.subject_public_key.data), HashOf::BareKey));
    if let Ok(PublicKey::RSA(rsa)) = key.parsed() {
        hashes.extend(of_text("RSA PUBLIC KEY", &key.subject_public_key.data, HashOf::BareKeyText));
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let mut line = b"Modulus=".to_vec();
        for byte in rsa.modulus.iter().skip_while(|byte| **byte == 0) {
            line.extend([byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]));
        }
        line.push(b'\n');
        hashes.push((hash(&line), HashOf::Modulus));
    }
}

/// The hashes of the PEM text that openssl writes, with and without its last line feed.
fn of_text(label: &str, der: &[u8], what: HashOf) -> [OtherHash; 2] {
    let text = add_text(Sha256::new(), label, der);
    let whole = text.clone().chain_update("\n");
    [whole, text].map(|text| (Pin::from_bytes(text.finalize().into()), what))
}

/// Adds the PEM text that openssl writes, without its last line feed.
fn add_text(mut text: Sha256, label: &str, der: &[u8]) -> Sha256 {
    let base64 = STANDARD.encode(der);
    for part in ["-----BEGIN ", label, "-----\n"] {
        text.update(part);
    }
    for line in base64.as_bytes().chunks(64) {
        text.update(line);
        text.update("\n");
    }
    for part in ["-----END ", label, "-----"] {
        text.update(part);
    }
    text
}
