//! What may be wrong with the value of a directive, and the values of which directives of several kinds
//! are made.

use hpkp_core::finding::Code;
use hpkp_core::text::Excerpt;

/// What is wrong with a directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingError {
    /// It stands in the same place already.
    Duplicate,
    /// Its value is none of its choices; those in words.
    NoChoice(String),
    /// A finding.
    Finding(Code, String),
    /// Anything else, in full.
    Text(String),
}

/// A port as it stands in a directive.
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
