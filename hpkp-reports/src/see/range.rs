//! The search of a reader: a text and a range of days.

use serde::Deserialize;

use super::text::escaped;
use crate::store::Filter;
use crate::time::{day, day_text, now};

/// The default number of days.
const DAYS: i64 = 30;

/// The most days in a range.
const MAX_DAYS: i64 = 3660;

/// The parameters in the URL.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Query {
    #[serde(default)]
    q: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    page: String,
}

impl Query {
    /// The number of the page, from 1. An invalid number gives the first page.
    pub(super) fn page(&self) -> u32 {
        self.page.parse().unwrap_or(1).max(1)
    }
}

/// The selected groups: those with this text, in these days.
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub(super) text: String,
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Range {
    /// Reads the parameters. Invalid days are ignored; days in the wrong order are swapped.
    pub(super) fn of(query: &Query) -> Self {
        let today = day(now());
        let parse = |text: &str| hpkp_core::date::parse(&format!("{text}T00:00:00Z")).map(day);
        let to = parse(&query.to).unwrap_or(today);
        let from = parse(&query.from).unwrap_or(to - DAYS + 1);
        let (from, to) = if from <= to { (from, to) } else { (to, from) };
        let text = query.q.chars().take(200).collect();
        Self { text, from: from.max(to - MAX_DAYS), to }
    }

    pub(super) fn filter(&self, host: Option<&str>) -> Filter {
        let text = Some(self.text.trim().to_owned()).filter(|text| !text.is_empty());
        Filter { host: host.map(str::to_owned), text, from: self.from, to: self.to }
    }

    pub(super) fn first_day(&self) -> String {
        day_text(self.from)
    }

    pub(super) fn last_day(&self) -> String {
        day_text(self.to)
    }

    /// The days as URL parameters.
    pub(super) fn days(&self) -> String {
        format!("from={}&to={}", self.first_day(), self.last_day())
    }

    /// The whole range as URL parameters.
    pub(super) fn query(&self) -> String {
        let mut text = self.days();
        if !self.text.is_empty() {
            text.push_str("&q=");
            text.push_str(&escaped(&self.text));
        }
        text
    }
}
