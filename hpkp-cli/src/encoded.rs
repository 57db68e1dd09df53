//! Parses the certificates and keys in a file, and describes them.

use hpkp_core::certificate::Certificate;
use hpkp_core::pem::{self, PemError};
use hpkp_core::pin::Pin;
use hpkp_core::spki::{self, Kind, SpkiError};
use serde::Serialize;

/// A key, and the kind of file content that contains it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Described {
    /// `sha256/` and base64.
    pub(crate) pin: String,
    /// `certificate`, `certificate signing request`, `public key` or `private key`.
    pub(crate) found_in: String,
    /// The subject of the certificate. This and the following members exist for certificates only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) issuer: Option<String>,
    /// The DNS names in the certificate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dns_names: Vec<String>,
    /// The expiry of the certificate, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_after: Option<String>,
}

impl Described {
    fn new(key: spki::Key, certificate: Option<&Certificate>) -> Self {
        Self {
            pin: format!("sha256/{}", key.pin),
            found_in: key.kind.to_string(),
            subject: certificate.map(|c| c.subject().to_owned()),
            issuer: certificate.map(|c| c.issuer().to_owned()),
            dns_names: certificate.map(|c| c.dns_names().to_vec()).unwrap_or_default(),
            not_after: certificate.map(|c| hpkp_core::date::format(c.not_after())),
        }
    }

    /// Describes a private key by its pin alone.
    pub(crate) fn of_private_key(pin: Pin) -> Self {
        Self {
            pin: format!("sha256/{pin}"),
            found_in: "private key".to_owned(),
            subject: None,
            issuer: None,
            dns_names: Vec::new(),
            not_after: None,
        }
    }

    /// The description as one line that begins with the pin.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("{}  {}", self.pin, self.found_in);
        if let (Some(subject), Some(issuer), Some(not_after)) =
            (&self.subject, &self.issuer, &self.not_after)
        {
            line.push_str(&format!(" {subject}, "));
            line.push_str(&if subject == issuer {
                "self-issued".to_owned()
            } else {
                format!("issued by {issuer}")
            });
            line.push_str(&format!(", expires {not_after}"));
        }
        line
    }
}

/// Describes the keys of a file, in order.
///
/// # Errors
/// As [`spki::read`].
pub(crate) fn describe(file: &[u8]) -> Result<Vec<Described>, SpkiError> {
    let keys = spki::read(file)?;
    let mut certificates = certificates(file);
    let described = keys.into_iter().map(|key| {
        let is_certificate = key.kind == Kind::Certificate;
        let certificate =
            is_certificate.then(|| certificates.next()).flatten().and_then(Result::ok);
        Described::new(key, certificate.as_ref())
    });
    Ok(described.collect())
}

/// The certificates in a file, in order: one in DER, or those of all PEM blocks; text between the blocks is
/// ignored. An invalid certificate gives the reason, and so do bytes after the one in DER.
pub(crate) fn certificates(file: &[u8]) -> impl Iterator<Item = Result<Certificate, String>> {
    let (der, pem) = if file.first() == Some(&0x30) { (Some(file), &[][..]) } else { (None, file) };
    let blocks = pem::blocks(pem).filter_map(|block| match block {
        Ok(block) if !block.is_certificate() => None,
        Ok(block) => Some(block.decode()),
        Err(error) => Some(Err(error)),
    });
    let parsed = |der: &[u8]| Certificate::from_der(der).map_err(|error| error.to_string());
    let der = der.into_iter().flat_map(move |der| {
        let one = parsed(der);
        let length = one.as_ref().map_or(der.len(), |one| one.der().len());
        let rest = (length < der.len()).then(|| {
            Err(format!(
                "{} bytes follow the first one; a file in DER has only one",
                der.len() - length
            ))
        });
        std::iter::once(one).chain(rest)
    });
    der.chain(blocks.map(move |block| match block {
        Ok(der) => parsed(&der),
        Err(PemError::NoEnd) => Err("truncated PEM block (no END line)".to_owned()),
        Err(PemError::NotBase64) => Err("invalid base64".to_owned()),
    }))
}

/// Whether `hash` is the hash of the whole certificate, and thus not the pin of its key.
pub(crate) fn is_whole(certificate: &Certificate, hash: Pin) -> bool {
    openssl::sha::sha256(certificate.der()) == *hash.bytes()
}

/// Whether a PEM block contains a private key. The user then has named a key file instead of a certificate
/// file.
pub(crate) fn has_private_key(file: &[u8]) -> bool {
    pem::blocks(file).flatten().any(|block| block.is_private_key())
}
