//! TLS for the listeners. The certificate files are read again when they change, so that a renewal needs no restart.

use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::configuration::Tls;
use crate::output;

/// The certificate that is currently served.
#[derive(Debug)]
pub struct Certificate {
    files: Tls,
    current: RwLock<Arc<CertifiedKey>>,
    read: RwLock<Option<[SystemTime; 2]>>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// The files cannot be read, or the key does not match the certificate.
    pub fn read(files: &Tls) -> Result<Arc<Self>, String> {
        let times = times(files);
        let current = RwLock::new(Arc::new(load(files)?));
        Ok(Arc::new(Self { files: files.clone(), current, read: RwLock::new(times) }))
    }

    /// Reads the files again if they have changed, or with `is_asked`. Files with an error change nothing.
    pub fn refresh(&self, is_asked: bool) {
        let times = times(&self.files);
        let Ok(mut read) = self.read.write() else { return };
        if *read == times && !is_asked {
            return;
        }
        match load(&self.files) {
            Ok(key) => {
                if let Ok(mut current) = self.current.write() {
                    *current = Arc::new(key);
                }
                *read = times;
                output::log("the certificate has been read again");
            }
            // The next attempt may find both files replaced.
            Err(error) => output::log_seldom("tls", || {
                format!(
                    "the certificate has changed and cannot be used; the old one stays: {error}"
                )
            }),
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.read().ok().map(|current| Arc::clone(&current))
    }
}

/// The settings of a listener with that certificate.
///
/// # Errors
/// rustls refuses them.
pub fn settings(certificate: Arc<Certificate>) -> Result<Arc<ServerConfig>, String> {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut settings = builder.with_no_client_auth().with_cert_resolver(certificate);
    settings.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(settings))
}

fn times(files: &Tls) -> Option<[SystemTime; 2]> {
    let time = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    Some([time(&files.certificate)?, time(&files.key)?])
}

fn load(files: &Tls) -> Result<CertifiedKey, String> {
    let of = |key: &str, path: &Path, error: &str| format!("{key}: {}: {error}", path.display());
    let of_certificate = |error: &str| of("tls.certificate", &files.certificate, error);
    let of_key = |error: &str| of("tls.key", &files.key, error);
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| of_certificate(&reason(&error)))?;
    if chain.is_empty() {
        return Err(of_certificate("no certificate"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| of_key(&reason(&error)))?;
    CertifiedKey::from_der(chain, key, &default_provider())
        .map_err(|error| of_key(&error.to_string()))
}

/// Why a PEM file cannot be used.
fn reason(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => output::os(error),
        pem::Error::NoItemsFound => "no private key".to_owned(),
        other => other.to_string(),
    }
}
