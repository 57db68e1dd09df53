//! Private keys: their pins, and nothing else of them.

use hpkp_core::pem;
use hpkp_core::pin::Pin;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::PKey;

/// What a private key in a file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Its public key's pin.
    Pin(Pin),
    /// Nothing: it is encrypted, or in a container that is (PKCS #12).
    Encrypted,
    /// Nothing: it cannot be read.
    Unreadable,
}

/// What the private key `der` tells: PKCS #8, SEC 1, PKCS #1 or OpenSSL's form of DSA keys; `None`
/// where it is no private key at all.
///
/// The public key is encoded as OpenSSL does it in certificates: named curves and uncompressed
/// points, if the key says nothing else.
pub(crate) fn from_der(der: &[u8]) -> Option<Told> {
    if is_encrypted_pkcs8(der) {
        return Some(Told::Encrypted);
    }
    if let Ok(key) = PKey::private_key_from_der(der) {
        return Some(match key.public_key_to_der() {
            Ok(spki) => Told::Pin(Pin::of_spki(&spki)),
            Err(_) => Told::Unreadable,
        });
    }
    Pkcs12::from_der(der).is_ok().then_some(Told::Encrypted)
}

fn is_private(label: &[u8]) -> bool {
    // OpenSSH's own format is none that a TLS server loads.
    label.ends_with(b"PRIVATE KEY") && label != b"OPENSSH PRIVATE KEY"
}

/// What each private key in a file tells.
pub(crate) fn in_file(octets: &[u8]) -> impl Iterator<Item = Told> {
    let mut read = Vec::new();
    if octets.first() == Some(&0x30) {
        read.extend(from_der(octets));
    } else {
        for block in pem::blocks(octets).flatten().filter(|block| is_private(block.label)) {
            read.push(match block.decode() {
                Ok(der) => from_der(&der).unwrap_or(Told::Unreadable),
                // The old form of encryption has header lines before the base64.
                Err(_) if octets.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED) => {
                    Told::Encrypted
                }
                Err(_) => Told::Unreadable,
            });
        }
    }
    read.into_iter()
}

const ENCRYPTED: &[u8] = b"Proc-Type: 4,ENCRYPTED";

/// `EncryptedPrivateKeyInfo` (RFC 5958 section 3): an algorithm and an octet string. OpenSSL would
/// ask for a passphrase.
fn is_encrypted_pkcs8(der: &[u8]) -> bool {
    const SEQUENCE: u8 = 0x30;
    const OCTET_STRING: u8 = 0x04;
    let Some((SEQUENCE, content, [])) = element(der) else {
        return false;
    };
    let Some((SEQUENCE, _, rest)) = element(content) else {
        return false;
    };
    matches!(element(rest), Some((OCTET_STRING, _, [])))
}

/// The tag, the content and what follows of the DER element that `der` begins with, for tags of one
/// octet.
pub(crate) fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_end_where_they_say() {
        assert_eq!(element(&[4, 1, 7, 9]), Some((4, &[7][..], &[9][..])));
        assert_eq!(element(&[4, 0x81, 1, 7]), Some((4, &[7][..], &[][..])));
        for cut in [&[][..], &[4], &[4, 2, 7], &[4, 0x80, 7], &[4, 0x85, 0, 0, 0, 0, 1, 7]] {
            assert_eq!(element(cut), None);
        }
    }

    #[test]
    fn what_is_no_key_tells_nothing() {
        assert_eq!(from_der(b""), None);
        assert_eq!(from_der(b"0\x03\x02\x01\x00"), None);
    }
}
