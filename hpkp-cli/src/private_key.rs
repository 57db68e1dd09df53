//! Computes the pins of private keys without revealing other parts of the keys.

use data_encoding::BASE64;
use hpkp_core::pem::{self, Block};
use hpkp_core::pin::Pin;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, PKeyRef, Private};
use zeroize::Zeroizing;

use crate::der::{SEQUENCE, element};
use crate::keys::passphrase::Passphrase;

/// The result for a private key in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyPin {
    /// The pin of the public key.
    Pin(Pin),
    /// The key is encrypted, or in an encrypted container (PKCS #12), and no passphrase opens it.
    Encrypted,
    /// The key cannot be read.
    Unreadable,
}

/// The result for the private key `der`: PKCS #8, SEC 1, PKCS #1 or OpenSSL's format of DSA keys. `None` if
/// it is no private key.
///
/// The public key is encoded as OpenSSL does in certificates: with named curves and uncompressed points,
/// unless the key states otherwise.
pub(crate) fn from_der(der: &[u8], passphrase: Option<&Passphrase>) -> Option<KeyPin> {
    if is_encrypted_pkcs8(der) {
        let open = |passphrase: &Passphrase| {
            PKey::private_key_from_pkcs8_passphrase(der, passphrase.bytes()).ok()
        };
        return Some(passphrase.and_then(open).map_or(KeyPin::Encrypted, |key| pin_of(&key)));
    }
    if let Ok(key) = PKey::private_key_from_der(der) {
        return Some(pin_of(&key));
    }
    let container = Pkcs12::from_der(der).ok()?;
    let text = passphrase.and_then(|passphrase| std::str::from_utf8(passphrase.bytes()).ok());
    let key = text.and_then(|text| container.parse2(text).ok()).and_then(|parts| parts.pkey);
    Some(key.map_or(KeyPin::Encrypted, |key| pin_of(&key)))
}

fn pin_of(key: &PKeyRef<Private>) -> KeyPin {
    key.public_key_to_der().map_or(KeyPin::Unreadable, |spki| KeyPin::Pin(Pin::of_spki(&spki)))
}

/// Whether a PEM block with this label contains a private key that TLS servers can load.
pub(crate) fn is_private(label: &[u8]) -> bool {
    // TLS servers cannot load OpenSSH's own format.
    label.ends_with(b"PRIVATE KEY") && label != b"OPENSSH PRIVATE KEY"
}

/// Whether a PEM block uses the traditional encryption, with header lines before the base64.
pub(crate) fn has_encryption_header(block: &Block<'_>) -> bool {
    block.body().trim_ascii_start().starts_with(b"Proc-Type: 4,ENCRYPTED")
}

/// Decodes the base64 of a PEM block into a buffer that is wiped.
pub(crate) fn decode(block: &Block<'_>) -> Option<Zeroizing<Vec<u8>>> {
    let body = block.body();
    let mut base64 = Zeroizing::new(Vec::with_capacity(body.len()));
    base64.extend(body.iter().filter(|byte| !byte.is_ascii_whitespace()));
    let mut der = Zeroizing::new(vec![0; BASE64.decode_len(base64.len()).ok()?]);
    let length = BASE64.decode_mut(&base64, &mut der).ok()?;
    der.truncate(length);
    Some(der)
}

/// The result for each private key in a file.
pub(crate) fn in_file(file: &[u8], passphrase: Option<&Passphrase>) -> Vec<KeyPin> {
    if file.first() == Some(&0x30) {
        return from_der(file, passphrase).into_iter().collect();
    }
    let blocks = pem::blocks(file).flatten().filter(|block| is_private(block.label));
    let each = blocks.map(|block| {
        if has_encryption_header(&block) {
            return old_encryption(&block, passphrase);
        }
        decode(&block).and_then(|der| from_der(&der, passphrase)).unwrap_or(KeyPin::Unreadable)
    });
    each.collect()
}

/// The result for a key with traditional encryption, which OpenSSL reads from PEM only.
fn old_encryption(block: &Block<'_>, passphrase: Option<&Passphrase>) -> KeyPin {
    let key = passphrase.and_then(|passphrase| {
        PKey::private_key_from_pem_passphrase(block.text(), passphrase.bytes()).ok()
    });
    key.map_or(KeyPin::Encrypted, |key| pin_of(&key))
}

/// Whether `der` is an `EncryptedPrivateKeyInfo` (RFC 5958 section 3): an algorithm and a byte string. For
/// such a key, OpenSSL would ask for a passphrase on the terminal.
pub(crate) fn is_encrypted_pkcs8(der: &[u8]) -> bool {
    const OCTET_STRING: u8 = 0x04;
    let Some((SEQUENCE, content, [])) = element(der) else {
        return false;
    };
    let Some((SEQUENCE, _, rest)) = element(content) else {
        return false;
    };
    matches!(element(rest), Some((OCTET_STRING, _, [])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_bytes_are_no_private_key() {
        assert_eq!(from_der(b"", None), None);
        assert_eq!(from_der(b"0\x03\x02\x01\x00", None), None);
    }
}
