//! Parses a pin in a client's configuration as that client does.
//!
//! Clients differ in how they treat white space, missing padding and stray bits in the last character. A
//! text that the client accepts becomes a pin in canonical form. A text that the client reads as a hash
//! that no key can match is reported.

use hpkp_core::pin::{Pin, PinError};
use hpkp_core::published::Client;

/// The result of reading a pin as a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A pin.
    Pin(Pin),
    /// A pin, and a note about its text.
    Noted(Pin, &'static str),
    /// A hash that no key matches. A client with this pin alone is locked out already.
    NeverMatches(Pin, &'static str),
}

/// Parses `text`, which has no prefix, as `client` does.
///
/// # Errors
/// See [`PinError`]; the client rejects the text too.
pub fn read(client: Client, text: &str) -> Result<Reading, PinError> {
    let strict = Pin::from_base64(text);
    let error = match strict {
        Ok(pin) => return Ok(Reading::Pin(pin)),
        Err(error) => error,
    };
    let Some((pin, padded)) = lenient(client, text) else { return Err(error) };
    if pin == Pin::OF_NOTHING {
        return Err(PinError::OfNothing);
    }
    let blanks = text.contains(char::is_whitespace);
    Ok(match client {
        Client::Curl => Reading::NeverMatches(
            pin,
            "it is not the base64 that curl compares as text (padded, without white space, no bits behind \
             the 256th), so no key matches it",
        ),
        Client::Apple if !padded => Reading::NeverMatches(
            pin,
            "it has no padding, and Apple's decoder drops what is not padded, so no key matches it",
        ),
        Client::TrustKit if !padded || blanks => Reading::Noted(
            pin,
            "TrustKit takes base64 with its padding and without white space only, and does not \
             start with this",
        ),
        _ => Reading::Pin(pin),
    })
}

/// Parses a pin in non-canonical base64, and says whether it is padded. White space and characters that the
/// client skips are ignored, and so are bits after the 256th.
fn lenient(client: Client, text: &str) -> Option<(Pin, bool)> {
    const DIGITS: usize = 43;
    let mut digits = Vec::with_capacity(DIGITS);
    let mut padded = false;
    for c in text.chars() {
        let digit = match c {
            'A'..='Z' => u32::from(c) - u32::from('A'),
            'a'..='z' => u32::from(c) - u32::from('a') + 26,
            '0'..='9' => u32::from(c) - u32::from('0') + 52,
            '+' => 62,
            '/' => 63,
            // OkHttp accepts the URL-safe alphabet as well. Android and Apple skip foreign characters.
            '-' if client == Client::OkHttp => 62,
            '_' if client == Client::OkHttp => 63,
            '=' => {
                padded = true;
                continue;
            }
            c if c.is_whitespace() => continue,
            _ if matches!(client, Client::Android | Client::Apple) => continue,
            _ => return None,
        };
        if padded || digits.len() == DIGITS {
            return None;
        }
        digits.push(digit);
    }
    if digits.len() != DIGITS {
        return None;
    }
    let mut bytes = [0_u8; Pin::BYTES];
    for (index, byte) in bytes.iter_mut().enumerate() {
        let bit = index * 8;
        let at = |digit: usize| digits.get(digit).copied().unwrap_or(0);
        let window = at(bit / 6) << 12 | at(bit / 6 + 1) << 6 | at(bit / 6 + 2);
        *byte = u8::try_from(window >> (10 - bit % 6) & 0xff).unwrap_or(0);
    }
    Some((Pin::from_bytes(bytes), padded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::samples::{A, a};

    #[test]
    fn pins_are_read_as_each_client_reads_them() {
        let unpadded = A.trim_end_matches('=');
        let (start, end) = A.split_at(20);
        let wrapped = format!("{start}\n      {end}");
        for client in [Client::Android, Client::OkHttp] {
            for text in [A, unpadded, &wrapped] {
                assert_eq!(read(client, text), Ok(Reading::Pin(a())), "{client:?} {text}");
            }
        }
        assert!(matches!(read(Client::Apple, unpadded), Ok(Reading::NeverMatches(..))));
        assert!(matches!(read(Client::TrustKit, unpadded), Ok(Reading::Noted(_, _))));
        let url_safe = A.replace('+', "-").replace('/', "_");
        assert_eq!(read(Client::OkHttp, &url_safe), Ok(Reading::Pin(a())));
        for text in ["", "AAAA", &A[1..], &format!("{A}{A}"), "%%%"] {
            for client in [Client::Android, Client::OkHttp, Client::Apple, Client::TrustKit] {
                assert!(read(client, text).is_err(), "{client:?} {text}");
            }
        }
    }

    #[test]
    fn stray_bits_are_ignored() {
        let dummy = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB=";
        let canonical = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=";
        for client in [Client::Android, Client::OkHttp, Client::Apple, Client::TrustKit] {
            let pin = canonical.parse().unwrap();
            assert_eq!(read(client, dummy), Ok(Reading::Pin(pin)), "{client:?}");
        }
    }
}
