//! Computes a digest of a directory's state. The digest contains the public key instead of a private key,
//! so it reveals nothing of the private key.

use std::fs;
use std::io;
use std::path::Path;

use openssl::sha::Sha256;

use super::pem_file::{Bytes, KeyState, PemFile};

/// The largest file, in bytes.
const MAX_FILE: usize = 16 << 20;

/// The digest of the names and contents in a directory, in hexadecimal digits.
pub(crate) fn of(directory: &Path) -> io::Result<String> {
    let entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    let mut hash = Sha256::new();
    for path in paths {
        part(&mut hash, path.file_name().unwrap_or_default().as_encoded_bytes());
        if let Ok(target) = fs::read_link(&path) {
            part(&mut hash, target.as_os_str().as_encoded_bytes());
        }
        if fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            let bytes = crate::input::found(&path, MAX_FILE)
                .map_err(|error| io::Error::other(error.to_string()))?;
            content(&mut hash, &path, bytes);
        }
    }
    Ok(hash.finish().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn content(hash: &mut Sha256, path: &Path, bytes: Bytes) {
    match PemFile::parse(path, bytes.clone()) {
        Some(file) if file.has_key() => {
            let public = match &file.key {
                KeyState::One(key) => key.public_key_to_der().unwrap_or_default(),
                _ => bytes.len().to_be_bytes().to_vec(),
            };
            part(hash, &public);
            file.certificates.iter().for_each(|one| part(hash, one.der()));
        }
        _ => part(hash, &bytes),
    }
}

fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update(&(bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}
