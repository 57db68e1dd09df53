//! A pin: the SHA-256 fingerprint of a `SubjectPublicKeyInfo` (RFC 7469 section 2.4).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::text::Excerpt;

/// The SHA-256 hash of a DER-encoded `SubjectPublicKeyInfo`.
///
/// Its text is canonical: standard base64 with padding, 44 characters (RFC 7469 section 2.1.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin([u8; Pin::BYTES]);

impl Pin {
    /// Bytes in a pin.
    pub const BYTES: usize = 32;

    /// Characters of a pin in base64, its padding included.
    pub const TEXT_LEN: usize = 44;

    /// The SHA-256 of empty input: what a shell pipeline prints when its first command failed.
    pub const OF_NOTHING: Self = Self([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9,
        0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52,
        0xb8, 0x55,
    ]);

    /// The pin of a key: `spki` is its `SubjectPublicKeyInfo` in DER, exactly the bytes in the certificate.
    #[must_use]
    pub fn of_spki(spki: &[u8]) -> Self {
        Self(Sha256::digest(spki).into())
    }

    /// A pin from the bytes of the hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes of the hash.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Reads a pin from canonical base64: standard alphabet, padded, no stray bits.
    ///
    /// # Errors
    /// What the text may be instead, see [`PinError`].
    pub fn from_base64(text: &str) -> Result<Self, PinError> {
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        match bytes.map(Self) {
            Some(Self::OF_NOTHING) => Err(PinError::OfNothing),
            Some(pin) => Ok(pin),
            None => Err(PinError::recognise(text)),
        }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; Self::TEXT_LEN];
        // The buffer has exactly the length that 32 bytes need, so this cannot fail.
        let len = STANDARD.encode_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&text[..len]).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

/// Reads a pin as operators write it: `sha256/B64`, `sha256//B64`, `pin-sha256="B64"` or bare
/// base64.
impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        if text.is_empty() {
            return Err(PinError::Empty);
        }
        if text.len() > PinError::MAX_LITERAL {
            return Err(PinError::TooLong { bytes: text.len() });
        }
        if let Some(quote) = text.chars().find(|c| SMART_QUOTES.contains(c)) {
            return Err(PinError::SmartQuote { quote });
        }
        let is_other = |name: &str| OTHER_ALGORITHMS.iter().any(|a| name.eq_ignore_ascii_case(a));
        if let Some((algorithm, _)) = text.split_once('/').filter(|(name, _)| is_other(name)) {
            return Err(PinError::Algorithm { name: algorithm.to_owned() });
        }
        if let Some(base64) = text.strip_prefix("sha256/") {
            // The second slash may be a base64 character: it belongs to the pin if the pin is valid with it.
            return match (Self::from_base64(base64), base64.strip_prefix('/')) {
                (Err(_), Some(base64)) => Self::from_base64(base64),
                (result, _) => result,
            };
        }
        if let Some(rest) = text.strip_prefix("pin-") {
            let (algorithm, value) = rest.split_once('=').unwrap_or((rest, ""));
            if algorithm != "sha256" {
                return Err(PinError::Algorithm { name: algorithm.to_owned() });
            }
            return match value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) {
                Some(base64) => Self::from_base64(base64),
                None => Err(PinError::Unquoted),
            };
        }
        Self::from_base64(text)
    }
}

/// Names of other algorithms in the place of `sha256`. Bare base64 could begin with one of them and a slash, with a
/// probability of about one in a hundred million; such a pin must be written with `sha256/`.
const OTHER_ALGORITHMS: [&str; 7] =
    ["sha1", "sha224", "sha384", "sha512", "sha-256", "sha-1", "md5"];

const SMART_QUOTES: [char; 8] = ['“', '”', '„', '‘', '’', '‚', '«', '»'];

const EXPECTED: &str =
    "expected sha256/ and the base64 (44 characters) of the SHA-256 hash of the SPKI";

/// Why a text is not a pin. Each variant is one situation with a remedy of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// No text at all.
    #[error("empty; {EXPECTED}")]
    Empty,
    /// Longer than any spelling of a pin; not parsed.
    #[error("{bytes} bytes long; {EXPECTED}")]
    TooLong {
        /// Bytes in the text.
        bytes: usize,
    },
    /// The SHA-256 of the empty string.
    #[error(
        "this is the SHA-256 hash of empty input: the command that should have printed the key failed; make the \
        pin again and check each command of the pipeline"
    )]
    OfNothing,
    /// Hexadecimal digits, with or without colons.
    #[error(
        "this is a hash in hexadecimal, most often of the whole certificate, which is not a pin; {EXPECTED}"
    )]
    Hex,
    /// The URL-safe alphabet of base64 (`-` and `_`).
    #[error("this is base64 for URLs, replace - by + and _ by /; {EXPECTED}")]
    UrlSafe,
    /// Base64 without its padding.
    #[error("base64 without padding; {EXPECTED}")]
    Unpadded,
    /// The unused bits of the last character are not zero (RFC 4648 section 3.5).
    #[error(
        "the last character before the padding is not canonical base64, most likely a typing error; {EXPECTED}"
    )]
    StrayBits,
    /// Base64, but not of 32 bytes.
    #[error("base64 of {bytes} bytes{}, not of 32; {EXPECTED}", other_hash(*.bytes))]
    WrongLength {
        /// Bytes that the text encodes.
        bytes: usize,
    },
    /// Typographic quotation marks.
    #[error("contains the typographic quotation mark {quote:?} (U+{:04X}), as word processors write it; \
        {EXPECTED}", u32::from(*.quote))]
    SmartQuote {
        /// The first one found.
        quote: char,
    },
    /// `pin-sha256=` without `"…"` round the value.
    #[error("the value of pin-sha256= must be in double quotation marks; {EXPECTED}")]
    Unquoted,
    /// A hash algorithm other than SHA-256 (RFC 7469 section 2.1.1 defines no other).
    #[error("unsupported algorithm \"{}\", RFC 7469 defines only sha256; {EXPECTED}", Excerpt::new(.name))]
    Algorithm {
        /// The name as written.
        name: String,
    },
    /// Not base64 at all.
    #[error("invalid base64; {EXPECTED}")]
    NotBase64,
}

impl PinError {
    /// The longest literal that is examined, in bytes.
    const MAX_LITERAL: usize = 512;

    /// The most likely mistake in `text`, which is not canonical base64.
    fn recognise(text: &str) -> Self {
        let hex_digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
        let separators = text.bytes().filter(|b| *b == b':').count();
        if hex_digits + separators == text.len() && matches!(hex_digits, 40 | 56 | 64 | 96 | 128) {
            return Self::Hex;
        }
        if text.contains(['-', '_'])
            && (URL_SAFE.decode(text).is_ok() || URL_SAFE_NO_PAD.decode(text).is_ok())
        {
            return Self::UrlSafe;
        }
        if STANDARD_NO_PAD.decode(text).is_ok() {
            return Self::Unpadded;
        }
        match STANDARD.decode(text) {
            Ok(bytes) => Self::WrongLength { bytes: bytes.len() },
            Err(base64::DecodeError::InvalidLastSymbol { .. }) => Self::StrayBits,
            Err(_) => Self::NotBase64,
        }
    }
}

/// The hash algorithm that gives this number of bytes, as a note for the message.
fn other_hash(bytes: usize) -> &'static str {
    match bytes {
        20 => " (a SHA-1 hash?)",
        28 => " (a SHA-224 hash?)",
        48 => " (a SHA-384 hash?)",
        64 => " (a SHA-512 hash?)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=";

    #[test]
    fn every_spelling_is_the_same_pin() {
        let pin: Pin = GOOD.parse().unwrap();
        for spelling in
            [format!("sha256/{GOOD}"), format!("sha256//{GOOD}"), format!("pin-sha256=\"{GOOD}\"")]
        {
            assert_eq!(spelling.parse(), Ok(pin), "{spelling}");
        }
        assert_eq!(pin.to_string(), GOOD);
    }

    #[test]
    fn a_pin_may_begin_with_a_slash() {
        let pin = Pin::from_base64(&format!("/{}", &GOOD[1..])).unwrap();
        assert_eq!(format!("sha256//{pin}").parse(), Ok(pin));
        assert_eq!(format!("sha256/{pin}").parse::<Pin>(), Ok(pin));
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        let hex = "77aab346ef7338409bf7451ecf6ef15a5b4db23d1ed4c77b1a4618915a195a63";
        let colons: Vec<&str> = (0..32).map(|i| &hex[2 * i..2 * i + 2]).collect();
        for (text, expected) in [
            (String::new(), PinError::Empty),
            ("A".repeat(600), PinError::TooLong { bytes: 600 }),
            ("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".into(), PinError::OfNothing),
            (hex.into(), PinError::Hex),
            (format!("sha256/{hex}"), PinError::Hex),
            (hex.to_uppercase(), PinError::Hex),
            (colons.join(":"), PinError::Hex),
            (GOOD.replacen('d', "-", 1), PinError::UrlSafe),
            (GOOD.replacen('d', "_", 1).trim_end_matches('=').into(), PinError::UrlSafe),
            (GOOD.trim_end_matches('=').into(), PinError::Unpadded),
            (GOOD.replace("mM=", "mN="), PinError::StrayBits),
            ("d6qzRu9zOECb90Uez27xWltNsj0=".into(), PinError::WrongLength { bytes: 20 }),
            ("abc123".into(), PinError::NotBase64),
            (format!("“{GOOD}”"), PinError::SmartQuote { quote: '“' }),
            (format!("pin-sha256=’{GOOD}’"), PinError::SmartQuote { quote: '’' }),
            (format!("pin-sha256={GOOD}"), PinError::Unquoted),
            (format!("pin-sha1=\"{GOOD}\""), PinError::Algorithm { name: "sha1".into() }),
            (format!("sha512/{GOOD}"), PinError::Algorithm { name: "sha512".into() }),
            (format!("{GOOD} "), PinError::NotBase64),
            (format!("'{GOOD}'"), PinError::NotBase64),
        ] {
            assert_eq!(text.parse::<Pin>(), Err(expected), "{text}");
        }
    }
}
