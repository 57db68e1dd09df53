//! How long clients remember a policy (RFC 7469 section 2.1.2).

use std::str::FromStr;

/// A `max-age`, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MaxAge(u32);

impl MaxAge {
    /// The largest accepted value. RFC 7234 section 1.2.1 lets recipients cut larger numbers to it. For far larger ones
    /// Firefox takes the number modulo 2^64 and wget2 deletes the host.
    pub const MAX: Self = Self(i32::MAX as u32);

    /// The longest time that user agents remember a policy: 60 days (RFC 7469 section 4.1).
    pub const USER_AGENTS_CAP: Self = Self(60 * 86_400);

    /// From whole seconds, or `None` above [`MaxAge::MAX`].
    #[must_use]
    pub fn from_seconds(seconds: u64) -> Option<Self> {
        u32::try_from(seconds).ok().map(Self).filter(|age| *age <= Self::MAX)
    }

    /// Whole seconds.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        self.0
    }
}

/// Reads digits and, optionally, one unit: `s`, `m`, `h`, `d` or `w`.
impl FromStr for MaxAge {
    type Err = MaxAgeError;

    fn from_str(text: &str) -> Result<Self, MaxAgeError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit: u64 = match unit {
            _ if number.is_empty() => return Err(MaxAgeError::NoNumber),
            "" | "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 7 * 86_400,
            _ => return Err(MaxAgeError::Unit),
        };
        // A number that does not fit into a u64 is too many seconds in any case.
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(unit))
            .and_then(Self::from_seconds)
            .ok_or(MaxAgeError::TooLarge)
    }
}

const WANTED: &str = "expected a whole number of seconds, or a number with the unit s, m, \
                      h, d or w, such as 1d";

/// Why a text is not a valid `max_age`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaxAgeError {
    /// The text does not begin with a digit: it is empty, a negative number, or a word.
    #[error("no digit at the beginning; {WANTED}")]
    NoNumber,
    /// The text after the digits is not a unit: a fraction, a typing error, several parts.
    #[error("unknown unit after the digits; {WANTED}")]
    Unit,
    /// More than [`MaxAge::MAX`].
    #[error("more than {} seconds; {WANTED}", MaxAge::MAX.seconds())]
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_each_unit_are_read() {
        for (text, seconds) in [
            ("0", 0),
            ("86400", 86_400),
            ("00086400", 86_400),
            ("90s", 90),
            ("5m", 300),
            ("12h", 43_200),
            ("1d", 86_400),
            ("60d", 5_184_000),
            ("2w", 1_209_600),
            ("2147483647", 2_147_483_647),
        ] {
            assert_eq!(text.parse::<MaxAge>().map(MaxAge::seconds), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn invalid_durations_are_refused() {
        for (text, error) in [
            ("", MaxAgeError::NoNumber),
            ("-1", MaxAgeError::NoNumber),
            ("+1", MaxAgeError::NoNumber),
            ("d", MaxAgeError::NoNumber),
            (" 1d", MaxAgeError::NoNumber),
            ("1.5d", MaxAgeError::Unit),
            ("1,5", MaxAgeError::Unit),
            ("1 d", MaxAgeError::Unit),
            ("1d12h", MaxAgeError::Unit),
            ("1M", MaxAgeError::Unit),
            ("1y", MaxAgeError::Unit),
            ("1e3", MaxAgeError::Unit),
            ("2147483648", MaxAgeError::TooLarge),
            ("24856d", MaxAgeError::TooLarge),
            ("18446744073709551616", MaxAgeError::TooLarge),
            ("99999999999999999999999999999999999", MaxAgeError::TooLarge),
            ("18446744073709551615w", MaxAgeError::TooLarge),
        ] {
            assert_eq!(text.parse::<MaxAge>(), Err(error), "{text}");
        }
    }
}
