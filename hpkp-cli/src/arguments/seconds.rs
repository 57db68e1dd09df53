//! Time limits.

use std::time::Duration;

/// A time between one second and an hour.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        _ => Err("expected a number of seconds from 1 to 3600".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_bounded() {
        assert_eq!(seconds("1"), Ok(Duration::from_secs(1)));
        assert!(seconds("0").is_err() && seconds("3601").is_err() && seconds("1s").is_err());
    }
}
