//! Fuzzes the reader of keys with files of any content.

use hpkp_core::certificate::{Certificate, CertificateError, MAX_CERTIFICATE};
use hpkp_core::pem;
use hpkp_core::pin::Pin;
use hpkp_core::spki::{self, Key, Kind, MAX_FILE, SpkiError};

use super::der::armoured;

/// The bytes are a file, and each object in it may be a certificate.
pub fn run(data: &[u8]) {
    match spki::read(data) {
        Ok(keys) => {
            assert!(!keys.is_empty() && data.len() <= MAX_FILE);
            for key in keys {
                assert_eq!(key.pin.to_string().len(), Pin::TEXT_LEN);
            }
        }
        Err(error) => {
            assert_eq!(data.len() > MAX_FILE, error == SpkiError::TooLarge);
            assert!(!error.to_string().chars().any(char::is_control), "{error}");
        }
    }
    object(data);
    for block in pem::blocks(data).flatten() {
        if let Ok(der) = block.decode() {
            object(&der);
        }
    }
}

/// One object in DER: a certificate has the same pin wherever it is read, and an object the same
/// key whether it is in PEM or not.
fn object(der: &[u8]) {
    let alone = spki::read(der);
    match Certificate::from_der(der) {
        Ok(certificate) => {
            assert!(der.starts_with(certificate.der()));
            for text in [certificate.subject(), certificate.issuer()] {
                assert!(!text.chars().any(char::is_control), "{text}");
            }
            if certificate.der().len() < der.len() {
                return;
            }
            let expected = match certificate.pin() {
                Some(pin) => Ok(vec![Key { kind: Kind::Certificate, pin }]),
                None => Err(SpkiError::InheritedParameters),
            };
            assert_eq!(alone, expected);
        }
        Err(error) => {
            assert_eq!(der.len() > MAX_CERTIFICATE, error == CertificateError::TooLarge);
        }
    }
    let alone = alone.ok().filter(|_| !pem::is_pem(der));
    if let Some([key]) = alone.as_deref() {
        let label = match key.kind {
            Kind::Certificate => "CERTIFICATE",
            Kind::Request => "CERTIFICATE REQUEST",
            Kind::PublicKey => "PUBLIC KEY",
        };
        let armoured = armoured(label, der);
        if armoured.len() <= MAX_FILE {
            assert_eq!(spki::read(&armoured).ok(), alone);
        }
    }
}
