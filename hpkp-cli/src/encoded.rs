//! The certificates in a file, for what is said of them beside their pins.

use hpkp_core::certificate::Certificate;
use hpkp_core::pem;
use hpkp_core::spki::{self, Kind, SpkiError};
use serde::Serialize;

/// A key with what it was found in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Described {
    /// `sha256/` and base64.
    pub(crate) pin: String,
    /// `certificate`, `certification request` or `public key`.
    pub(crate) found_in: String,
    /// Of a certificate, as are the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) issuer: Option<String>,
    /// When it expires, RFC 3339.
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
            not_after: certificate.map(|c| hpkp_core::date::format(c.not_after())),
        }
    }

    /// One line that begins with the pin.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("{}  {}", self.pin, self.found_in);
        if let (Some(subject), Some(issuer), Some(not_after)) =
            (&self.subject, &self.issuer, &self.not_after)
        {
            let subject = if subject.is_empty() { "(no subject)" } else { subject };
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

/// The keys of a file, described, in order.
///
/// # Errors
/// As [`spki::read`].
pub(crate) fn describe(file: &[u8]) -> Result<Vec<Described>, SpkiError> {
    let keys = spki::read(file)?;
    let mut certificates = if pem::is_pem(file) && file.first() != Some(&0x30) {
        pem_certificates(file)
    } else {
        vec![Certificate::from_der(file).ok()]
    }
    .into_iter();
    let described = keys.into_iter().map(|key| {
        let certificate =
            if key.kind == Kind::Certificate { certificates.next().flatten() } else { None };
        Described::new(key, certificate.as_ref())
    });
    Ok(described.collect())
}

/// One entry for each block of which [`spki::read`] makes a certificate's key.
fn pem_certificates(file: &[u8]) -> Vec<Option<Certificate>> {
    pem::blocks(file)
        .flatten()
        .filter(|block| {
            matches!(block.label, b"CERTIFICATE" | b"X509 CERTIFICATE" | b"TRUSTED CERTIFICATE")
        })
        .map(|block| block.decode().ok().and_then(|der| Certificate::from_der(&der).ok()))
        .collect()
}
