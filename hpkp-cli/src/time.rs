//! Parses times on the command line, and reads the clock.

use std::time::{SystemTime, UNIX_EPOCH};

use hpkp_core::date;
pub(crate) use hpkp_core::date::{about, duration};

/// The present time, in seconds since 1970 UTC; 0 if the clock is set before 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Parses the beginning of a period: a time in RFC 3339, or a day, which begins at midnight UTC.
pub(crate) fn begin(text: &str) -> Result<i64, String> {
    time(text, "00:00:00")
}

/// Parses the end of a period: a time in RFC 3339, `now`, or a day, which ends with its last second in UTC.
pub(crate) fn end(text: &str) -> Result<i64, String> {
    if text == "now" {
        return Ok(now());
    }
    time(text, "23:59:59")
}

fn time(text: &str, of_day: &str) -> Result<i64, String> {
    let day = format!("{text}T{of_day}Z");
    date::parse(text).or_else(|| date::parse(&day)).ok_or_else(|| {
        "expected a day (2026-11-21) or a time with its zone (2026-11-21T12:00:00Z)".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_and_ends_with_its_last_second() {
        assert_eq!(begin("1970-01-02"), Ok(86_400));
        assert_eq!(end("1970-01-02"), Ok(2 * 86_400 - 1));
        assert_eq!(begin("1970-01-02T00:00:01+00:00"), Ok(86_401));
        assert_eq!(end("1970-01-02T00:00:01Z"), Ok(86_401));
        for text in ["", "soon", "1970-13-01", "1970-01-02T00:00:01", "2.1.1970"] {
            assert!(begin(text).is_err() && end(text).is_err(), "{text}");
        }
        assert!(begin("now").is_err());
    }
}
