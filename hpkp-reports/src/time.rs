//! The clock of this machine, and days.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds in a day.
pub const DAY: i64 = 86_400;

/// Seconds since 1970 UTC; 0 for a clock before that.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The day of a time, counted from 1970-01-01 UTC.
#[must_use]
pub const fn day(at: i64) -> i64 {
    at.div_euclid(DAY)
}

/// A day as text: 2026-11-26.
#[must_use]
pub fn day_text(day: i64) -> String {
    let text = hpkp_core::date::format(day.saturating_mul(DAY));
    text.split('T').next().unwrap_or_default().to_owned()
}
