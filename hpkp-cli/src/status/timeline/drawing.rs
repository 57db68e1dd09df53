//! The content of the timeline, independent of the output format: rows with bars on one time axis.

use std::collections::BTreeSet;

use hpkp_core::text::Excerpt;

use crate::status::gather::presented_pins;
use crate::status::report::{
    Answer, Held, HostReport, NextKeyReport, NextKeyState, Report, Served, StepKind,
};
use crate::time::duration;
use hpkp_core::date;

/// The seconds of a day.
const DAY: i64 = 86_400;

/// The content of a timeline.
pub(super) struct Drawing {
    /// The beginning and the end of the axis, in seconds since 1970 UTC.
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) now: i64,
    pub(super) rows: Vec<Row>,
    /// The text if there are no rows.
    pub(super) without_rows: &'static str,
}

/// A row of the timeline.
pub(super) enum Row {
    Host {
        name: String,
        answer: Answer,
    },
    Bar(Bar),
    /// A pin of the bar above.
    Pin {
        pin: String,
        is_presented: bool,
    },
    /// The time from which a step is possible.
    Step {
        at: Option<i64>,
        text: String,
    },
}

/// A bar, which stands for a span of time.
pub(super) struct Bar {
    pub(super) kind: BarKind,
    pub(super) label: String,
    /// The end, in words.
    pub(super) end: String,
    pub(super) from: i64,
    /// The time until which clients get the pins.
    pub(super) solid_until: i64,
    /// The time until which clients hold the pins. `None` if they do not expire.
    pub(super) until: Option<i64>,
}

/// The meaning of a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BarKind {
    Held,
    Waived,
    Presented,
}

impl Drawing {
    pub(super) fn new(report: &Report) -> Self {
        let now = report.at.0;
        let rows: Vec<Row> = report.hosts.iter().flat_map(|host| rows(host, now)).collect();
        let bars = || {
            rows.iter().filter_map(|row| match row {
                Row::Bar(bar) => Some(bar),
                _ => None,
            })
        };
        let steps = rows.iter().filter_map(|row| match row {
            Row::Step { at, .. } => *at,
            _ => None,
        });
        let last = bars().filter_map(|bar| bar.until).chain(steps).max().unwrap_or(now);
        // A certificate of a root, or pins that expire in the far future, must not compress the rest of the
        // axis.
        let last = last.clamp(now + DAY, now + 3 * 365 * DAY);
        let first = bars().map(|bar| bar.from).min().unwrap_or(now);
        let first = first.clamp(now - (last - now), now - DAY);
        let margin = (last - first) / 20;
        let without_rows = report.without_hosts();
        Self { start: first, end: last + margin, now, rows, without_rows }
    }

    /// The position of a time on an axis of this length.
    pub(super) fn place(&self, time: i64, length: usize) -> usize {
        let span = i128::from(self.end - self.start).max(1);
        let time = i128::from(time.clamp(self.start, self.end) - self.start);
        usize::try_from(time * length as i128 / span).unwrap_or(0)
    }

    /// The date that is written at the axis.
    pub(super) fn day(time: i64) -> String {
        date::format(time).chars().take(10).collect()
    }
}

fn rows(host: &HostReport, now: i64) -> Vec<Row> {
    let mut rows = vec![Row::Host { name: host.host.clone(), answer: host.answer }];
    let presented: BTreeSet<&str> = presented_pins(host).collect();
    for held in &host.held {
        rows.push(Row::Bar(bar(held, now)));
        let of_pin = |pin: String| Row::Pin { is_presented: presented.contains(pin.as_str()), pin };
        match held.tlsa.is_empty() {
            true => rows.extend(held.pins.iter().map(|pin| of_pin(format!("sha256/{pin}")))),
            false => {
                rows.extend(
                    held.tlsa.iter().map(|one| of_pin(format!("TLSA {}", Excerpt::new(one)))),
                );
            }
        }
    }
    for served in &host.served {
        rows.extend(served_bars(host, served, now));
    }
    if host.served.iter().all(|one| one.chains.is_empty()) {
        for one in &host.on_record {
            rows.extend(one.leaves.iter().map(|pin| {
                Row::Bar(Bar {
                    kind: BarKind::Presented,
                    label: format!("on record: {}", short(pin)),
                    end: format!("presented by {} since {}", one.writer, one.since),
                    from: one.since.0,
                    solid_until: now,
                    until: Some(now),
                })
            }));
        }
    }
    rows.extend(host.next_keys.iter().map(next_key));
    rows.extend(step(host));
    rows
}

fn next_key(key: &NextKeyReport) -> Row {
    let at = key.usable_from.map(|at| at.0);
    let when = match (at, key.state) {
        (_, NextKeyState::Usable) => "may be used now".to_owned(),
        (Some(at), _) => format!("may be used from {}", date::format(at)),
        (None, _) => "is not known to all clients".to_owned(),
    };
    Row::Step { at, text: format!("next key: {} {when}", short(&key.pin)) }
}

/// The next step that is possible.
fn step(host: &HostReport) -> Option<Row> {
    let step = &host.next_step;
    let at = step.at.map(|at| at.0);
    let text = match step.kind {
        StepKind::Free => return None,
        StepKind::LoadPinnedKey => {
            "next step: load a certificate for a key of which each client holds a pin".to_owned()
        }
        StepKind::ChangeKey => {
            let day = at.map(date::format).unwrap_or_default();
            format!("next step: publish the new pin now; the certificate may change on {day}")
        }
        StepKind::EndRecords => {
            "next step: pins that do not expire: release the new pin, end the old records"
                .to_owned()
        }
    };
    Some(Row::Step { at, text })
}

fn bar(held: &Held, now: i64) -> Bar {
    let (until, end) = match (held.until, held.after) {
        (Some(until), _) => (Some(until), format!("until {}", date::format(until))),
        (None, Some(after)) => (
            Some(now.saturating_add(after)),
            format!("sent now; until {} after sending ends", duration(after)),
        ),
        (None, None) => (None, "does not expire".to_owned()),
    };
    let waived = if held.waived { ", waived" } else { "" };
    Bar {
        kind: if held.waived { BarKind::Waived } else { BarKind::Held },
        label: held.what.clone(),
        end: format!("{end}{waived}"),
        from: held.from,
        solid_until: held.published_until.unwrap_or(now),
        until,
    }
}

/// Bars for the presented certificates. Each begins at the time of its record, or now.
fn served_bars(host: &HostReport, served: &Served, now: i64) -> Vec<Row> {
    let leaves = served.chains.iter().filter_map(|chain| chain.first());
    let bars = leaves.map(|leaf| {
        let until = leaf.not_after.as_deref().and_then(date::parse);
        let recorded = host.on_record.iter().find(|one| one.leaves.contains(&leaf.pin));
        let subject = leaf.subject.as_deref().unwrap_or_default();
        let expires = leaf.not_after.as_deref().unwrap_or("never");
        Row::Bar(Bar {
            kind: BarKind::Presented,
            label: format!("port {}: {}", served.port, short(&leaf.pin)),
            end: format!("{} expires {expires}", subject),
            from: recorded.map_or(now, |one| one.since.0),
            solid_until: now,
            until,
        })
    });
    bars.collect()
}

/// The first letters of a pin, which are enough to distinguish it.
fn short(pin: &str) -> String {
    pin.get(..15).map_or_else(|| pin.to_owned(), |first| format!("{first}..."))
}
