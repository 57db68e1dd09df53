//! Encodes private keys for files: PKCS #8 (RFC 5958), plain or encrypted, in PEM.

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::{PKeyRef, Private};
use openssl::rand::rand_bytes;
use openssl::symm::{Cipher, Crypter, Mode};
use zeroize::Zeroizing;

use super::Passphrase;
use crate::der::{self, sequence, written};

/// The iterations of PBKDF2 with HMAC-SHA-256 that OWASP recommends since 2023. OpenSSL's default of 2048
/// allows fast guessing. A server that loads the key needs a fraction of a second.
const ITERATIONS: u32 = 600_000;

/// A private key in DER, in the form of the file and of the page.
pub(super) struct KeyFile {
    pub(super) der: Zeroizing<Vec<u8>>,
    pub(super) is_encrypted: bool,
}

impl KeyFile {
    pub(super) fn new(
        key: &PKeyRef<Private>,
        passphrase: Option<&Passphrase>,
    ) -> Result<Self, String> {
        let failed = |_| "OpenSSL cannot encode the private key".to_owned();
        let plain = match of_seed(key) {
            Some(plain) => plain,
            None => Zeroizing::new(key.private_key_to_pkcs8().map_err(failed)?),
        };
        let der = match passphrase {
            None => plain,
            Some(passphrase) => encrypt(&plain, passphrase)
                .map(Zeroizing::new)
                .map_err(|_| "OpenSSL cannot encrypt the private key".to_owned())?,
        };
        Ok(Self { der, is_encrypted: passphrase.is_some() })
    }

    /// The content of the file.
    pub(super) fn pem(&self) -> Zeroizing<String> {
        let label = if self.is_encrypted { "ENCRYPTED PRIVATE KEY" } else { "PRIVATE KEY" };
        der::pem(label, &self.der)
    }
}

/// A key of ML-DSA as its seed alone (RFC 9881 section 6), which OpenSSL expands when it loads the file.
/// The seed has 54 bytes instead of the up to 4,896 of a key, and needs one QR code instead of more than twenty.
#[cfg(ossl350)]
fn of_seed(key: &PKeyRef<Private>) -> Option<Zeroizing<Vec<u8>>> {
    use super::kind::MlDsa;

    // 2.16.840.1.101.3.4.3.17 to 19
    let mut id = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0];
    id[8] = match MlDsa::of(key)? {
        MlDsa::L44 => 0x11,
        MlDsa::L65 => 0x12,
        MlDsa::L87 => 0x13,
    };
    let mut seed = Zeroizing::new([0; 32]);
    key.seed_into(&mut *seed).ok().filter(|length| *length == seed.len())?;
    let seed = Zeroizing::new(written(0x80, &*seed));
    let algorithm = sequence(&[written(0x06, &id)]);
    Some(Zeroizing::new(sequence(&[written(0x02, &[0]), algorithm, written(0x04, &seed)])))
}

#[cfg(not(ossl350))]
fn of_seed(_: &PKeyRef<Private>) -> Option<Zeroizing<Vec<u8>>> {
    None
}

/// `EncryptedPrivateKeyInfo` with PBES2 (RFC 8018 section 6.2): PBKDF2 with HMAC-SHA-256, and AES-256 in CBC mode.
fn encrypt(plain: &[u8], passphrase: &Passphrase) -> Result<Vec<u8>, ErrorStack> {
    /// 1.2.840.113549.1.5.13
    const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
    /// 1.2.840.113549.1.5.12
    const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
    /// 1.2.840.113549.2.9
    const HMAC_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x09];
    /// 2.16.840.1.101.3.4.1.42
    const AES256_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a];

    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    rand_bytes(&mut salt)?;
    rand_bytes(&mut iv)?;
    let mut key = Zeroizing::new([0; 32]);
    pbkdf2_hmac(
        passphrase.bytes(),
        &salt,
        ITERATIONS as usize,
        MessageDigest::sha256(),
        &mut *key,
    )?;
    let encrypted = aes256_cbc(plain, &*key, &iv)?;

    let iterations = ITERATIONS.to_be_bytes();
    let hash = sequence(&[written(0x06, HMAC_WITH_SHA256), written(0x05, &[])]);
    // The first of the four bytes is zero. Without it, DER's integer is still positive and has the minimal
    // length.
    let parameters = sequence(&[written(0x04, &salt), written(0x02, &iterations[1..]), hash]);
    let derivation = sequence(&[written(0x06, PBKDF2), parameters]);
    let scheme = sequence(&[written(0x06, AES256_CBC), written(0x04, &iv)]);
    let algorithm = sequence(&[written(0x06, PBES2), sequence(&[derivation, scheme])]);
    Ok(sequence(&[algorithm, written(0x04, &encrypted)]))
}

fn aes256_cbc(plain: &[u8], key: &[u8], iv: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    let cipher = Cipher::aes_256_cbc();
    let mut crypter = Crypter::new(cipher, Mode::Encrypt, key, Some(iv))?;
    let mut encrypted = vec![0; plain.len() + 2 * cipher.block_size()];
    let mut end = crypter.update(plain, &mut encrypted)?;
    end += crypter.finalize(&mut encrypted[end..])?;
    encrypted.truncate(end);
    Ok(encrypted)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use openssl::pkey::PKey;

    use super::*;
    use crate::keys::KeyKind;

    #[test]
    fn openssl_reads_a_plain_key() {
        for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Rsa(2048), KeyKind::Ed25519] {
            let key = kind.generate().unwrap();
            let pem = KeyFile::new(&key, None).unwrap().pem();
            assert_eq!(pem.as_bytes(), key.private_key_to_pem_pkcs8().unwrap());
        }
    }

    #[test]
    fn openssl_decrypts_an_encrypted_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("passphrase");
        std::fs::write(&file, "correct horse\r\nsecond line").unwrap();
        let passphrase = Passphrase::of_file(&file).unwrap();
        let key = KeyKind::Rsa(2048).generate().unwrap();
        let pem = KeyFile::new(&key, Some(&passphrase)).unwrap().pem();
        let read = PKey::private_key_from_pem_passphrase(pem.as_bytes(), b"correct horse").unwrap();
        assert!(read.public_eq(&key));
        assert!(PKey::private_key_from_pem_passphrase(pem.as_bytes(), b"battery").is_err());
    }
}
