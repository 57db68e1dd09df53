//! Trust anchors: the system's store, as OpenSSL finds it, and the files added to it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hpkp_core::certificate::Certificate;
use hpkp_core::finding::Code;
use hpkp_core::path::{Anchor, Anchors};
use hpkp_core::pem;
use hpkp_core::text::Excerpt;

use crate::file;

/// The largest file of trusted certificates, in octets. Mozilla's whole store has a quarter of one
/// mebibyte.
const MAX_FILE: usize = 16 << 20;

/// The most certificates in one file, and in the system's store.
const MAX_ANCHORS: usize = 10_000;

/// Where OpenSSL looks for the system's trusted certificates.
#[derive(Debug, Default)]
pub struct SystemStore {
    /// A file with several.
    pub file: Option<PathBuf>,
    /// Directories with a file each, named by the hash of the subject.
    pub directories: Vec<PathBuf>,
}

impl SystemStore {
    /// Reads the store. What cannot be read there is passed over: the system is not the
    /// configuration, and a missing anchor shows itself where a path needs it.
    #[must_use]
    pub fn read(&self) -> Anchors {
        let mut anchors = Vec::new();
        let mut seen = HashSet::new();
        let listed = self.directories.iter().filter_map(|directory| directory.read_dir().ok());
        let mut hashed: Vec<PathBuf> = listed
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| has_hash_name(path))
            .collect();
        // A stable order, so that the same store gives the same messages.
        hashed.sort();
        for path in self.file.iter().chain(&hashed) {
            // Several hashes may lead to one file.
            let Ok(path) = path.canonicalize() else {
                continue;
            };
            if anchors.len() < MAX_ANCHORS
                && seen.insert(path.clone())
                && let Some(path) = path.to_str()
                && let Ok(more) = read_anchors(path)
            {
                anchors.extend(more);
            }
        }
        Anchors::new(anchors)
    }
}

/// Eight hexadecimal digits, a dot and a number, as `openssl rehash` names them.
fn has_hash_name(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    name.split_once('.').is_some_and(|(hash, number)| {
        hash.len() == 8
            && hash.bytes().all(|b| b.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// The anchors in the file that the configuration adds.
///
/// # Errors
/// The code of the finding and what is wrong.
pub fn read_added(path: &str) -> Result<Anchors, (Code, String)> {
    read_anchors(path).map(Anchors::new).map_err(|(code, text)| {
        let shown = Excerpt::new(path);
        (code, format!("the trusted certificates in \"{shown}\" cannot be used: {text}"))
    })
}

fn read_anchors(path: &str) -> Result<Vec<Anchor>, (Code, String)> {
    let unreadable = |text: String| (Code::UnreadableTrustedCertificate, text);
    let octets = file::read(path, MAX_FILE).map_err(|error| unreadable(error.to_string()))?;
    if octets.len() > MAX_FILE {
        return Err((Code::OversizedInput, format!("it is larger than {MAX_FILE} octets")));
    }
    let origin: Arc<str> = Excerpt::new(path).to_string().into();
    let mut anchors = Vec::new();
    for block in pem::blocks(&octets) {
        let block = block.map_err(|_| unreadable("it is cut off".to_owned()))?;
        if !matches!(block.label, b"CERTIFICATE" | b"X509 CERTIFICATE" | b"TRUSTED CERTIFICATE") {
            continue;
        }
        if anchors.len() == MAX_ANCHORS {
            return Err((
                Code::OversizedInput,
                format!("it holds more than {MAX_ANCHORS} certificates"),
            ));
        }
        let der =
            block.decode().map_err(|_| unreadable("what it holds is no base64".to_owned()))?;
        let certificate = Certificate::from_der(&der).map_err(|e| unreadable(e.to_string()))?;
        anchors.push(Anchor { certificate: Arc::new(certificate), origin: origin.clone() });
    }
    if anchors.is_empty() {
        return Err(unreadable("it holds no certificate in PEM".to_owned()));
    }
    Ok(anchors)
}
