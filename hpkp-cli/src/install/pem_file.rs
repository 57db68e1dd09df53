//! A PEM file of an ACME client or a server, with its certificates and its private key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hpkp_core::certificate::Certificate;
use hpkp_core::{pem, spki};
use openssl::pkey::{PKey, Private};
use zeroize::Zeroizing;

use super::report::Stop;
use crate::encoded;
use crate::input::{self, InputError};
use crate::output;
use crate::private_key;

/// The private key in a file.
#[derive(Debug)]
pub(crate) enum KeyState {
    None,
    One(PKey<Private>),
    Encrypted,
    /// The key cannot be read, or there are several keys.
    Unusable,
}

/// A file with certificates, a key, or both.
#[derive(Debug)]
pub(crate) struct PemFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) certificates: Vec<Arc<Certificate>>,
    /// The fault of a certificate.
    pub(crate) damage: Option<String>,
    pub(crate) key: KeyState,
}

/// Bytes that are wiped when dropped, since they may contain a private key.
pub(crate) type Bytes = Zeroizing<Vec<u8>>;

impl PemFile {
    /// Reads a file that was found in a directory. `None` if the file contains neither a certificate nor a
    /// key.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn found(path: &Path) -> Result<Option<Self>, Stop> {
        match input::found(path, spki::MAX_FILE) {
            Ok(bytes) => Ok(Self::parse(path, bytes)),
            Err(InputError::TooLarge { .. } | InputError::NotAFile) => Ok(None),
            Err(error) => Err(Stop::undetermined(
                "file-unreadable",
                format!("{}: {error}", output::path(path)),
            )),
        }
    }

    /// Reads `bytes`, the content of the file at `path`.
    pub(crate) fn parse(path: &Path, bytes: Bytes) -> Option<Self> {
        let mut certificates = Vec::new();
        let mut damage = None;
        let is_pem = pem::is_pem(&bytes);
        if is_pem {
            for (one, place) in encoded::certificates(&bytes).zip(1..) {
                match one {
                    Ok(one) => certificates.push(Arc::new(one)),
                    Err(error) => damage = Some(format!("certificate {place}: {error}")),
                }
            }
        }
        let key = key_in(&bytes);
        let has_key = !matches!(key, KeyState::None);
        (!certificates.is_empty() || damage.is_some() || has_key).then(|| Self {
            path: path.to_owned(),
            bytes,
            certificates,
            damage,
            key,
        })
    }

    /// Whether the key belongs to the first certificate.
    pub(crate) fn leaf_of(&self, key: &PKey<Private>) -> bool {
        self.certificates.first().is_some_and(|leaf| fits(leaf, key))
    }

    pub(crate) fn has_key(&self) -> bool {
        !matches!(self.key, KeyState::None)
    }

    /// The text of its private key alone.
    pub(crate) fn key_text(&self) -> Bytes {
        let mut text = Zeroizing::new(Vec::new());
        for block in pem::blocks(&self.bytes).flatten() {
            if block.is_private_key() || block.label == b"EC PARAMETERS" {
                text.extend_from_slice(section(&self.bytes, block.label));
                text.push(b'\n');
            }
        }
        text
    }

    /// The text of blocks that are neither certificates nor keys, such as parameters for DH.
    pub(crate) fn other_text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for block in pem::blocks(&self.bytes).flatten() {
            let is_known = block.is_private_key()
                || block.label.ends_with(b"CERTIFICATE")
                || block.label == b"EC PARAMETERS";
            if !is_known {
                text.extend_from_slice(section(&self.bytes, block.label));
                text.push(b'\n');
            }
        }
        text
    }
}

/// Whether the key belongs to the certificate.
pub(crate) fn fits(certificate: &Certificate, key: &PKey<Private>) -> bool {
    let public = openssl::x509::X509::from_der(certificate.der());
    public.and_then(|one| one.public_key()).is_ok_and(|public| key.public_eq(&public))
}

fn key_in(bytes: &[u8]) -> KeyState {
    const KEY_END: &[u8] = b"PRIVATE KEY-----";
    let blocks = pem::blocks(bytes).flatten();
    let mut keys = blocks.filter(pem::Block::is_private_key);
    let Some(block) = keys.next() else {
        // A key whose PEM block is cut off.
        let has_begin = bytes.windows(KEY_END.len()).any(|part| part == KEY_END);
        return if has_begin { KeyState::Unusable } else { KeyState::None };
    };
    if keys.next().is_some() {
        return KeyState::Unusable;
    }
    if block.label == b"ENCRYPTED PRIVATE KEY" || private_key::has_encryption_header(&block) {
        return KeyState::Encrypted;
    }
    let der = private_key::decode(&block);
    match der.and_then(|der| PKey::private_key_from_der(&der).ok()) {
        Some(key) => KeyState::One(key),
        None => KeyState::Unusable,
    }
}

/// The text of a block, from its BEGIN line to its END line.
fn section<'a>(file: &'a [u8], label: &'a [u8]) -> &'a [u8] {
    const BEGIN: usize = "-----BEGIN ".len();
    let start = (label.as_ptr() as usize).saturating_sub(file.as_ptr() as usize + BEGIN);
    let end = [b"-----END ", label, b"-----"].concat();
    let rest = file.get(start..).unwrap_or_default();
    let at = rest.windows(end.len()).position(|part| part == end);
    at.and_then(|at| rest.get(..at + end.len())).unwrap_or_default()
}
