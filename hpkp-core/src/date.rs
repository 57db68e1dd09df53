//! Times as records and violation reports carry them (RFC 3339), and durations as people read them.
//!
//! The calendar is that of the crate `time`. The parser is this module's own, because that of the crate takes a leap
//! second for the second before it.

use time::{Date, Month, OffsetDateTime};

/// Reads a date-time with its zone (RFC 3339 section 5.6): seconds since 1970, fractions dropped.
///
/// A leap second counts as the second after it.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let year = number(&mut rest, 4)?;
    separator(&mut rest, b"-")?;
    let month = number(&mut rest, 2)?;
    separator(&mut rest, b"-")?;
    let day = number(&mut rest, 2)?;
    separator(&mut rest, b"Tt")?;
    let hour = number(&mut rest, 2)?;
    separator(&mut rest, b":")?;
    let minute = number(&mut rest, 2)?;
    separator(&mut rest, b":")?;
    let second = number(&mut rest, 2)?;
    if rest.first() == Some(&b'.') {
        let digits = rest[1..].iter().take_while(|byte| byte.is_ascii_digit());
        let digits = digits.count();
        if digits == 0 {
            return None;
        }
        rest = &rest[1 + digits..];
    }
    let offset = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), offset @ ..] => {
            let mut rest = offset;
            let hours = number(&mut rest, 2).filter(|hours| *hours <= 23)?;
            separator(&mut rest, b":")?;
            let minutes = number(&mut rest, 2).filter(|minutes| *minutes <= 59)?;
            if !rest.is_empty() {
                return None;
            }
            let offset = hours * 3600 + minutes * 60;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?);
    let midnight = date.ok()?.midnight().assume_utc().unix_timestamp();
    let in_range = hour <= 23 && minute <= 59 && second <= 60;
    in_range.then(|| midnight + hour * 3600 + minute * 60 + second - offset)
}

/// Writes a time as UTC, `2016-09-06T07:19:05Z`. A time outside the years 0 to 9999 becomes the nearest time that the
/// format can express.
#[must_use]
pub fn format(seconds: i64) -> String {
    const FIRST: i64 = -62_167_219_200;
    const LAST: i64 = 253_402_300_799;
    let time = OffsetDateTime::from_unix_timestamp(seconds.clamp(FIRST, LAST))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A duration in the largest unit of which it is a whole number.
#[must_use]
pub fn duration(seconds: i64) -> String {
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let whole = units.into_iter().find(|(unit, _)| seconds != 0 && seconds % unit == 0);
    let (unit, name) = whole.unwrap_or((1, "second"));
    let plural = if seconds / unit == 1 { "" } else { "s" };
    format!("{} {name}{plural}", seconds / unit)
}

/// A rounded-down duration in the largest unit of which it has at least two: how long ago something
/// was.
#[must_use]
pub fn about(seconds: i64) -> String {
    let unit = [86_400, 3_600, 60].into_iter().find(|unit| seconds >= 2 * unit).unwrap_or(1);
    duration(seconds - seconds % unit)
}

fn number(rest: &mut &[u8], digits: usize) -> Option<i64> {
    let (number, after) = rest.split_at_checked(digits)?;
    *rest = after;
    number
        .iter()
        .try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

fn separator(rest: &mut &[u8], one_of: &[u8]) -> Option<()> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    one_of.contains(first).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_rfc_3339_are_read() {
        // RFC 3339 section 5.8.
        assert_eq!(parse("1985-04-12T23:20:50.52Z"), Some(482_196_050));
        assert_eq!(parse("1996-12-19T16:39:57-08:00"), Some(851_042_397));
        assert_eq!(parse("1990-12-31T23:59:60Z"), Some(662_688_000));
        assert_eq!(parse("1990-12-31T15:59:60-08:00"), Some(662_688_000));
        assert_eq!(parse("1937-01-01T12:00:27.87+00:20"), Some(-1_041_337_173));
    }

    #[test]
    fn invalid_date_times_are_refused() {
        for text in [
            "",
            "2016-09-06",
            "2016-09-06T07:19:05",
            "2016-09-06 07:19:05Z",
            "2016-09-06T07:19Z",
            "2016-09-06T07:19:05ZZ",
            "2016-09-06T07:19:05.Z",
            "2016-09-06T07:19:05+0200",
            "2016-09-06T07:19:05+24:00",
            "2016-09-06T24:00:00Z",
            "2016-09-06T07:60:00Z",
            "2016-09-06T07:19:61Z",
            "2016-00-06T07:19:05Z",
            "2016-09-31T07:19:05Z",
            "2100-02-29T07:19:05Z",
            "+016-09-06T07:19:05Z",
            "20160906T071905Z",
            "２016-09-06T07:19:05Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn times_outside_the_format_become_its_limits() {
        assert_eq!(format(i64::MIN), "0000-01-01T00:00:00Z");
        assert_eq!(format(i64::MAX), "9999-12-31T23:59:59Z");
    }

    proptest! {
        #[test]
        fn written_times_are_read_back(seconds in -62_167_219_200_i64..=253_402_300_799) {
            prop_assert_eq!(parse(&format(seconds)), Some(seconds));
        }
    }

    #[test]
    fn an_age_is_rounded_down() {
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
}
