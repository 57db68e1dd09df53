//! Reads the values of a server's variables at a handshake, and the certificate and key that they name.

use std::fs::File;
use std::io::Read as _;
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt as _;

use hpkp_core::certificate::Certificate;
use hpkp_core::path::Chain;
use hpkp_core::pem;
use hpkp_core::published::Fingerprint;
use hpkp_core::text::Excerpt;
use std::sync::Arc;
use zeroize::Zeroizing;

use crate::file::reason;
use crate::openssl::{OpenSsl, PairError};

/// The prefix of a value that is the certificate or key itself, not a file name.
pub(super) const DATA: &[u8] = b"data:";

/// The prefix of a value that names a key of an engine.
const ENGINE: &[u8] = b"engine:";

/// The prefix of a value that names a key of a provider, such as a token's. Before nginx 1.29.0 such a value is a file
/// name.
const STORE: &[u8] = b"store:";

/// The most bytes of a certificate with its chain, or of a key.
pub(super) const MAX: usize = 1 << 20;

/// A certificate with its chain and its key, in the form in which nginx takes them from variables.
pub struct PairText {
    /// `data:` and the certificates in PEM, the leaf first.
    pub certificate: Zeroizing<Vec<u8>>,
    /// `data:` and the key in PEM, or the name of a key that is not in a file.
    pub key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for PairText {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PairText").finish_non_exhaustive()
    }
}

/// The certificate and key from the variables at one handshake.
pub struct Given<'a> {
    certificate: Value<'a>,
    key: Value<'a>,
}

impl std::fmt::Debug for Given<'_> {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given").finish_non_exhaustive()
    }
}

enum Value<'a> {
    Here(&'a [u8]),
    Read(Zeroizing<Vec<u8>>),
}

impl Deref for Value<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Here(value) => value,
            Self::Read(value) => value,
        }
    }
}

impl<'a> Given<'a> {
    /// Reads the certificate and key that the values of the two variables name. `full_path` makes a path absolute as
    /// the server does; `has_store` says whether the server supports key names with `store:`.
    ///
    /// # Errors
    /// The file that cannot be read.
    pub fn read(
        certificate: &'a [u8],
        key: &'a [u8],
        has_store: bool,
        full_path: impl Fn(&str) -> String,
    ) -> Result<Self, String> {
        let value = |value: &'a [u8], what: &str| {
            if value.is_empty() {
                return Err(format!("the variable for the {what} is empty"));
            }
            if value.starts_with(DATA) {
                return if value.len() > MAX {
                    Err(format!("the {what} is larger than {MAX} bytes"))
                } else {
                    Ok(Value::Here(value))
                };
            }
            let path = full_path(&String::from_utf8_lossy(value));
            let wrong = |why: &str| format!("cannot read \"{}\" ({why})", Excerpt::new(&path));
            file(&path).map(Value::Read).map_err(|why| wrong(&why))
        };
        let certificate = value(certificate, "certificate")?;
        let is_elsewhere = key.starts_with(ENGINE) || (has_store && key.starts_with(STORE));
        let key = if is_elsewhere { Value::Here(key) } else { value(key, "private key")? };
        Ok(Self { certificate, key })
    }

    /// An id that distinguishes it from all others.
    #[must_use]
    pub fn id(&self) -> Fingerprint {
        id(&self.certificate, &self.key)
    }

    /// A copy to keep.
    #[must_use]
    pub fn text(&self) -> PairText {
        let copy = |value: &[u8]| Zeroizing::new(value.to_vec());
        PairText { certificate: copy(&self.certificate), key: copy(&self.key) }
    }
}

/// Reads a file as nginx would have OpenSSL read it, with `data:` in front.
fn file(path: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let why = |error: &std::io::Error| reason(error);
    // A FIFO must not make the worker wait.
    let options = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = options.map_err(|error| why(&error))?;
    let metadata = file.metadata().map_err(|error| why(&error))?;
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    if length > MAX {
        return Err(format!("larger than {MAX} bytes"));
    }
    // The buffer has its full size from the start: one that grows leaves a copy of the key in memory.
    let mut text = Zeroizing::new(Vec::with_capacity(DATA.len() + length + 1));
    text.extend_from_slice(DATA);
    file.take(metadata.len()).read_to_end(&mut text).map_err(|error| why(&error))?;
    Ok(text)
}

pub(super) fn id(certificate: &[u8], key: &[u8]) -> Fingerprint {
    Fingerprint::of([certificate, key])
}

/// A certificate and its key, parsed.
#[derive(Debug)]
pub struct Pair {
    /// An id that distinguishes it from all others.
    pub id: Fingerprint,
    /// The values for nginx.
    pub text: PairText,
    /// The certificates; or why the pair cannot be presented.
    pub chain: Result<Chain, String>,
    /// Until when all certificates are valid, in seconds since 1970 UTC.
    pub valid_until: i64,
}

impl Pair {
    /// Parses a text, and tests whether the key fits the certificate.
    #[must_use]
    pub fn new(text: PairText, openssl: &OpenSsl) -> Self {
        let id = id(&text.certificate, &text.key);
        let chain = chain(&text, openssl);
        let certificates = chain.as_ref().map(Chain::certificates).unwrap_or_default();
        let until = certificates.iter().map(|one| one.not_after()).min();
        Self { id, text, chain, valid_until: until.unwrap_or(i64::MAX) }
    }

    /// The leaf; none if the pair cannot be presented.
    #[must_use]
    pub fn leaf(&self) -> Option<&Arc<Certificate>> {
        self.chain.as_ref().ok().map(Chain::leaf)
    }
}

/// The certificates of a text, if the key fits.
fn chain(text: &PairText, openssl: &OpenSsl) -> Result<Chain, String> {
    let pem = text.certificate.strip_prefix(DATA).unwrap_or(&text.certificate);
    let mut certificates = Vec::new();
    for block in pem::blocks(pem) {
        let block = block.map_err(|_| "the certificate is truncated")?;
        if block.is_certificate() {
            let der = block.decode().map_err(|_| "the certificate has invalid base64")?;
            let certificate = Certificate::from_der(&der)
                .map_err(|error| format!("the certificate cannot be used: {error}"))?;
            certificates.push(Arc::new(certificate));
        }
    }
    let count = certificates.len();
    let chain = Chain::new(certificates).ok_or_else(|| match count {
        0 => "it has no certificate".to_owned(),
        _ => format!("the certificate chain has more than {} certificates", Chain::MAX),
    })?;
    if let Some(key) = text.key.strip_prefix(DATA) {
        match openssl.fits(chain.leaf().der(), key) {
            // nginx knows the pass phrase.
            Ok(()) | Err(PairError::PassPhrase) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(chain)
}
