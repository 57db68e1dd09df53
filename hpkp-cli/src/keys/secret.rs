//! Reads a private key from the bytes of a file, in any form.

use hpkp_core::pem::{self, PemError};
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, PKeyRef, Private, Public};
use openssl::sign::{Signer, Verifier};

use super::Passphrase;
use super::request::digest;
use crate::failure::Failure;
use crate::private_key;

/// Why no private key was read from a file. No error quotes the content of the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("empty; expected a private key")]
    Empty,
    #[error("contains {0}, not a private key")]
    NotPrivate(String),
    #[error("not a private key (PEM, DER or PKCS #12)")]
    NotRecognised,
    #[error("truncated: the PEM block has no END line")]
    Truncated,
    /// The base64 or the decoded data are damaged.
    #[error("the private key is damaged")]
    Damaged,
    #[error(
        "the private key has the format of OpenSSH, which no TLS server loads; convert a copy of it: ssh-keygen \
        -p -m PKCS8 -f FILE"
    )]
    OpenSsh,
    #[error("the passphrase does not open this key, or the key is damaged")]
    WrongPassphrase,
    /// The passphrase is not available.
    #[error("{}", .0.text)]
    NoPassphrase(Failure),
}

/// A function that gives the passphrase of an encrypted key.
type Ask<'a> = &'a mut dyn FnMut() -> Result<Passphrase, Failure>;

/// Reads the first private key in a file. `ask` is called if the key needs a passphrase.
pub(crate) fn open(file: &[u8], ask: Ask<'_>) -> Result<PKey<Private>, SecretError> {
    if file.trim_ascii().is_empty() {
        return Err(SecretError::Empty);
    }
    if file.first() == Some(&0x30) {
        return of_der(file, ask);
    }
    let mut other = None;
    for block in pem::blocks(file) {
        let block = block.map_err(|_: PemError| SecretError::Truncated)?;
        match block.label {
            b"OPENSSH PRIVATE KEY" => return Err(SecretError::OpenSsh),
            _ if block.is_private_key() => return of_block(&block, ask),
            _ => other = other.or(Some(block)),
        }
    }
    Err(match other {
        Some(block) => SecretError::NotPrivate(name(&block)),
        None => SecretError::NotRecognised,
    })
}

/// Reads each private key in a file, in order. Other objects with a key are passed to `public` as DER, and
/// its results keep their places.
pub(crate) fn each<T>(
    file: &[u8],
    ask: Ask<'_>,
    mut private: impl FnMut(PKey<Private>) -> T,
    mut public: impl FnMut(&[u8]) -> Vec<T>,
) -> Result<Vec<T>, SecretError> {
    if file.first() == Some(&0x30) {
        return open(file, ask).map(|key| vec![private(key)]);
    }
    let mut all = Vec::new();
    for block in pem::blocks(file) {
        let block = block.map_err(|_: PemError| SecretError::Truncated)?;
        if private_key::is_private(block.label) {
            all.push(private(of_block(&block, ask)?));
        } else if block.label == b"OPENSSH PRIVATE KEY" {
            return Err(SecretError::OpenSsh);
        } else if let Some(der) = private_key::decode(&block) {
            all.extend(public(&der));
        }
    }
    Ok(all)
}

fn name(block: &pem::Block<'_>) -> String {
    match block.label {
        b"PUBLIC KEY" | b"RSA PUBLIC KEY" => "a public key".to_owned(),
        b"CERTIFICATE REQUEST" | b"NEW CERTIFICATE REQUEST" => {
            "a certificate signing request".to_owned()
        }
        _ if block.is_certificate() => "a certificate".to_owned(),
        other => format!("\"{}\"", hpkp_core::text::Excerpt::new(other)),
    }
}

fn of_block(block: &pem::Block<'_>, ask: Ask<'_>) -> Result<PKey<Private>, SecretError> {
    if private_key::has_encryption_header(block) {
        let passphrase = ask().map_err(SecretError::NoPassphrase)?;
        return PKey::private_key_from_pem_passphrase(block.text(), passphrase.bytes())
            .map_err(|_| SecretError::WrongPassphrase);
    }
    of_der(&private_key::decode(block).ok_or(SecretError::Damaged)?, ask)
}

fn of_der(der: &[u8], ask: Ask<'_>) -> Result<PKey<Private>, SecretError> {
    if private_key::is_encrypted_pkcs8(der) {
        let passphrase = ask().map_err(SecretError::NoPassphrase)?;
        return PKey::private_key_from_pkcs8_passphrase(der, passphrase.bytes())
            .map_err(|_| SecretError::WrongPassphrase);
    }
    if let Ok(key) = PKey::private_key_from_der(der) {
        return Ok(key);
    }
    if let Ok(container) = Pkcs12::from_der(der) {
        let passphrase = ask().map_err(SecretError::NoPassphrase)?;
        let text =
            std::str::from_utf8(passphrase.bytes()).map_err(|_| SecretError::WrongPassphrase)?;
        let parts = container.parse2(text).map_err(|_| SecretError::WrongPassphrase)?;
        return parts.pkey.ok_or_else(|| SecretError::NotPrivate("certificates".to_owned()));
    }
    Err(match hpkp_core::spki::read(der) {
        Ok(keys) => SecretError::NotPrivate(
            keys.first().map_or_else(String::new, |key| format!("a {}", key.kind)),
        ),
        Err(_) => SecretError::Damaged,
    })
}

/// The key's `SubjectPublicKeyInfo`, if a signature by the private half verifies with the public half. A
/// file may contain both; if the private half is damaged, the public half would still give the right pin.
pub(crate) fn proven(key: &PKeyRef<Private>) -> Option<Vec<u8>> {
    let message = b"hpkp key: does the private half belong to the public one?";
    let spki = key.public_key_to_der().ok()?;
    let public: PKey<Public> = PKey::public_key_from_der(&spki).ok()?;
    let (mut signer, mut verifier) = match digest(key) {
        Some(hash) => (Signer::new(hash, key).ok()?, Verifier::new(hash, &public).ok()?),
        None => {
            (Signer::new_without_digest(key).ok()?, Verifier::new_without_digest(&public).ok()?)
        }
    };
    let signature = signer.sign_oneshot_to_vec(message).ok()?;
    verifier.verify_oneshot(&signature, message).ok()?.then_some(spki)
}
