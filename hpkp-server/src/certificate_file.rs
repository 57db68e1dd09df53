//! The certificates in a file that a server is going to load.

use hpkp_core::check::Certificates;
use hpkp_core::finding::{Code, Text};
use hpkp_core::pem;
use hpkp_core::text::Excerpt;

use crate::file;

/// The largest file of certificates, in bytes. The servers themselves have no limit; the longest accepted chain needs a
/// hundredth of this one.
const MAX_FILE: usize = 32 << 20;

/// The certificates in a PEM file, in DER. Other objects in it are ignored, as in OpenSSL.
///
/// # Errors
/// The file cannot be read, is not PEM, or is too large.
pub fn certificates_in(path: &str) -> Result<Vec<Vec<u8>>, Certificates> {
    let excerpt = Excerpt::new(path);
    let unusable = |code, what: &str| {
        let text = format!("cannot use the certificates in \"{excerpt}\": {what}");
        Certificates::Unusable(code, Text::new(text))
    };
    let unreadable = |what: &str| unusable(Code::UnreadableCertificate, what);
    let bytes = file::read(path, MAX_FILE).map_err(|error| unreadable(&error.to_string()))?;
    if bytes.len() > MAX_FILE {
        let what = format!("larger than {MAX_FILE} bytes");
        return Err(unusable(Code::OversizedInput, &what));
    }
    certificates_of(&bytes).map_err(unreadable)
}

/// The certificates in a PEM text, in DER. Other objects in it are ignored, as in OpenSSL.
///
/// # Errors
/// What is wrong with the text.
pub fn certificates_of(text: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut certificates = Vec::new();
    for block in pem::blocks(text) {
        let block = block.map_err(|_| "truncated")?;
        if block.is_certificate() {
            let der = block.decode().map_err(|_| "invalid base64")?;
            certificates.push(der);
        }
    }
    Ok(certificates)
}
