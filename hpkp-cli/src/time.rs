//! Times on the command line, and the clock.

use std::time::{SystemTime, UNIX_EPOCH};

use hpkp_core::date;

/// The time, in seconds since 1970 UTC. A clock set before that counts as 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Reads when something begins: a time of RFC 3339, or a day, which begins at midnight UTC.
pub(crate) fn begin(text: &str) -> Result<i64, String> {
    time(text, "00:00:00")
}

/// Reads when something ends: a time of RFC 3339, `now`, or a day, which ends with its last second
/// in UTC.
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

/// A duration in the largest unit of which it is a whole number.
pub(crate) fn duration(seconds: i64) -> String {
    const UNITS: [(i64, &str); 3] = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let whole = UNITS.into_iter().find(|(unit, _)| seconds != 0 && seconds % unit == 0);
    let (unit, name) = whole.unwrap_or((1, "second"));
    let plural = if seconds / unit == 1 { "" } else { "s" };
    format!("{} {name}{plural}", seconds / unit)
}

/// A duration in the largest unit of which it has two at least, cut: how long ago something was.
pub(crate) fn about(seconds: i64) -> String {
    let unit = [86_400, 3_600, 60].into_iter().find(|unit| seconds >= 2 * unit).unwrap_or(1);
    duration(seconds - seconds % unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_ago_is_cut() {
        let all = [0, 59, 119, 120, 7_199, 7_200, 172_799, 172_801].map(about);
        let expected = [
            "0 seconds",
            "59 seconds",
            "119 seconds",
            "2 minutes",
            "119 minutes",
            "2 hours",
            "47 hours",
            "2 days",
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn a_duration_has_the_largest_whole_unit() {
        let all = [0, 1, 90, 120, 5_400, 7_200, 86_400, 2_678_400].map(duration);
        let texts = [
            "0 seconds",
            "1 second",
            "90 seconds",
            "2 minutes",
            "90 minutes",
            "2 hours",
            "1 day",
            "31 days",
        ];
        assert_eq!(all, texts);
    }

    #[test]
    fn a_day_begins_early_and_ends_late() {
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
