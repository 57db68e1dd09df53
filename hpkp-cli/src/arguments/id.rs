//! Ids of records on the command line: in full, or as a prefix that only one record has.

use std::str::FromStr;

/// The first digits of a record's id, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdPrefix(String);

impl IdPrefix {
    /// A shorter prefix is more likely a typing error than an abbreviation.
    const MIN: usize = 4;
    const DIGITS: usize = 32;

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let are_digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if are_digits && (Self::MIN..=Self::DIGITS).contains(&text.len()) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        let expected = format!(
            "an id has {} hexadecimal digits, of which the first {} or more are enough; hpkp published \
             list prints them",
            Self::DIGITS,
            Self::MIN
        );
        // The user has probably written a host instead of an id.
        if text.contains('.') && !text.contains('/') {
            return Err(format!("{expected}; for a host: hpkp published why HOST, or --host HOST"));
        }
        if text.starts_with("sha256/") {
            return Err(format!("{expected}; this is a pin"));
        }
        Err(expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_four_digits_or_more() {
        let of = |text: &str| text.parse::<IdPrefix>();
        assert_eq!(of("05B9"), of("05b9"));
        assert!(of("05b9").is_ok() && of(&"a".repeat(32)).is_ok());
        for text in ["", "05b", "05bg", &"a".repeat(33), "+05b"] {
            assert!(of(text).is_err(), "{text}");
        }
        assert!(of("www.example.com").is_err_and(|error| error.contains("--host")));
    }
}
