//! Errors in the values of directives, and parsers that several directives share.

use hpkp_core::finding::Code;
use hpkp_core::text::Excerpt;

/// An error in a directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingError {
    /// The directive is repeated in the same place.
    Duplicate,
    /// The value is not one of the choices; the choices as text.
    NoChoice(String),
    /// A finding.
    Finding(Code, String),
    /// Anything else, in full.
    Text(String),
}

/// Reads a port in a directive.
///
/// # Errors
/// [`SettingError::Text`] for anything but a number from 1 to 65535.
pub(crate) fn port(text: &str) -> Result<u16, SettingError> {
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let port = digits.and_then(|text| text.parse().ok()).filter(|port| *port != 0);
    port.ok_or_else(|| {
        let excerpt = Excerpt::new(text);
        SettingError::Text(format!("invalid port \"{excerpt}\", expected 1 to 65535"))
    })
}
