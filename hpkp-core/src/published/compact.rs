//! Which events of a writer's file are still needed when an operator compacts the file.
//!
//! Only records of published pins and presented keys are removed. Ends, waivers and compromised
//! keys stay, however old: they are short, and without them an old copy of the file could bring
//! ended records back.

use std::collections::HashSet;

use super::event::Event;
use super::id::EventId;
use super::name::WriterName;
use super::state::{Record, Retention, State};
use super::summary::is_of_a_configuration;
use super::timeline::Timelines;
use super::{Body, Published};

/// How long an expired record stays in the file, in seconds: a year, a leap year included.
pub const KEPT: i64 = 366 * 24 * 3_600;

/// Whether each of `events`, all of `writer`, must stay in its file. `state` is the state of all records, and `now` is
/// in seconds since 1970 UTC.
///
/// The events that stay are: pins that clients held less than [`KEPT`] ago, the keys that were presented with them, the
/// last accepted configuration, and the newest events, which give the writer's clock and its next number.
#[must_use]
pub fn needed(events: &[Event], state: &State, writer: &WriterName, now: i64) -> Vec<bool> {
    let mut kept = kept(state, writer, now);
    kept.extend(beside_a_step(events));
    let last = events.iter().map(Event::seq).max();
    let configured = events.iter().filter(|event| is_of_a_configuration(event.body()));
    let configured = configured.map(Event::seq).max();
    let is_needed = |event: &Event| match event.body() {
        Body::Published(_) | Body::Presents(_) | Body::Withheld(_) => {
            kept.contains(&event.id()) || [last, configured].contains(&Some(event.seq()))
        }
        _ => true,
    };
    events.iter().map(is_needed).collect()
}

/// The events around those where the clock of the writer was set back. They are needed to tell when events happened.
fn beside_a_step(events: &[Event]) -> Vec<EventId> {
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|event| event.seq());
    let mut kept = Vec::new();
    for (index, pair) in events.windows(2).enumerate() {
        if pair[1].at() < pair[0].at() {
            kept.extend(events.iter().skip(index).take(3).map(|event| event.id()));
        }
    }
    kept
}

fn kept(state: &State, writer: &WriterName, now: i64) -> HashSet<EventId> {
    let clock = state.clock(now);
    let is_recent = |time: i64| time.saturating_add(KEPT) > now;
    let ended_long_ago = |id| state.end(id).is_some_and(|end| !is_recent(end.at));
    let is_kept = |record: &&Record<Published>| match state.retention(record, &clock) {
        Some(Retention::Until(time)) => is_recent(time),
        Some(Retention::WhilePublished(_) | Retention::Indefinite) => true,
        None => !ended_long_ago(record.id),
    };
    let timelines = Timelines::new(state);
    let mut kept: HashSet<EventId> =
        state.presents().map(|record| record.id).filter(|id| !ended_long_ago(*id)).collect();
    for record in state.published().filter(is_kept) {
        kept.insert(record.id);
        kept.extend(timelines.presented_with(record).into_iter().map(|record| record.id));
    }
    let accepted = state.last_accepted(writer);
    kept.extend(accepted.published.into_values().flatten().map(|record| record.id));
    kept.extend(accepted.presents.into_values().flatten().map(|record| record.id));
    kept.extend(accepted.withheld.into_values().flatten().map(|record| record.id));
    let withheld = state.withheld().map(|record| record.id);
    kept.extend(withheld.filter(|id| !ended_long_ago(*id)));
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::max_age::MaxAge;
    use crate::pin::Pin;
    use crate::published::{Ended, KeyGraph, KeyNode, Lifetime, Origin, Presented, Presents, Why};

    const DAY: i64 = 86_400;

    fn writer() -> WriterName {
        "web-1".parse().unwrap()
    }

    fn published(host: u8, lifetime: Lifetime, origin: Origin) -> Body {
        Body::Published(Published::of_one(
            format!("h{host}.example").parse().unwrap(),
            vec![Pin::from_bytes([host; 32])],
            lifetime,
            origin,
        ))
    }

    fn presents(host: u8, key: u8) -> Body {
        let pin = Some(Pin::from_bytes([key; 32]));
        let node = KeyNode { pin, served: true, end: true, issuers: vec![] };
        Body::Presents(Presents::of_one(
            format!("h{host}.example").parse().unwrap(),
            443,
            vec![Presented {
                served: vec![pin],
                keys: KeyGraph::new(vec![node]).unwrap(),
                identity: None,
            }],
        ))
    }

    /// The body of an event, or the end of an earlier event, counted back from the last one.
    #[derive(Clone, Debug)]
    enum Step {
        Write(Body),
        End { back: usize, why: Why, days_ago: Option<i64> },
    }

    fn step() -> impl Strategy<Value = Step> {
        let lifetime = prop::sample::select(vec![
            Lifetime::MaxAge(MaxAge::from_seconds(0).unwrap()),
            Lifetime::MaxAge(MaxAge::from_seconds(86_400).unwrap()),
            Lifetime::MaxAge(MaxAge::from_seconds(5_184_000).unwrap()),
            Lifetime::ExpiresAt(200 * DAY),
            Lifetime::Open,
        ]);
        let origin = prop::sample::select(vec![Origin::Header, Origin::Other("an app".to_owned())]);
        let why =
            prop::sample::select(vec![Why::Replaced, Why::Stopped, Why::Other("gone".to_owned())]);
        prop_oneof![
            (0_u8..3, lifetime, origin).prop_map(|(host, lifetime, origin)| Step::Write(
                published(host, lifetime, origin)
            )),
            (0_u8..3, 0_u8..3).prop_map(|(host, key)| Step::Write(presents(host, key))),
            (0_usize..6, why, prop::option::of(0_i64..400))
                .prop_map(|(back, why, days_ago)| Step::End { back, why, days_ago }),
        ]
    }

    /// The events of these steps, each with the days since the one before it, and the time of the last one.
    fn history(all: Vec<(i64, Step)>) -> (Vec<Event>, i64) {
        let (mut events, mut now): (Vec<Event>, i64) = (Vec::new(), 0);
        for ((days, body), seq) in all.into_iter().zip(1..) {
            now += days * DAY;
            let body = match body {
                Step::Write(body) => body,
                Step::End { back, why, days_ago } => {
                    let Some(id) = events.iter().rev().nth(back).map(Event::id) else { continue };
                    let when = days_ago.map(|days| now - days * DAY);
                    Body::Ended(Ended { ids: vec![id], why, when })
                }
            };
            events.push(Event::new(now, seq, writer(), body));
        }
        (events, now)
    }

    fn state(events: impl IntoIterator<Item = Event>) -> State {
        let mut state = State::default();
        state.extend(events);
        state
    }

    /// All that a check takes from the records.
    fn facts(state: &State, now: i64) -> Vec<String> {
        let timelines = Timelines::new(state);
        let live = state.live(now).map(|live| {
            let then = timelines.presented_with(live.record).into_iter();
            let then: Vec<EventId> = then.map(|record| record.id).collect();
            format!("{:?} {:?} {then:?}", live.record.id, live.retention)
        });
        let elsewhere = state.presents().filter(|record| state.is_presented(record));
        let elsewhere = elsewhere.map(|record| format!("{:?}", record.id));
        let writer = writer();
        let last = [
            format!("{:?}", state.last_accepted(&writer)),
            format!("{:?} {:?}", state.last_seq(&writer), state.newest(&writer)),
        ];
        live.chain(elsewhere).chain(last).collect()
    }

    proptest! {
        #[test]
        fn nothing_that_a_check_needs_is_lost(
            all in prop::collection::vec((0_i64..300, step()), 0..24),
            later in 0_i64..900,
            more in prop::collection::vec((0_i64..100, step()), 0..6),
        ) {
            let (events, end) = history(all.clone());
            let now = end + later * DAY;
            let full = state(events.clone());
            let needed = needed(&events, &full, &writer(), now);
            let left: Vec<Event> = events
                .iter()
                .zip(&needed)
                .filter(|(_, needed)| **needed)
                .map(|(event, _)| event.clone())
                .collect();
            let compact = state(left.clone());
            for then in [now, now + DAY, now + 1_000 * DAY] {
                prop_assert_eq!(facts(&compact, then), facts(&full, then));
            }
            // Later events have the same effect on both. Ends are left out: those of removed events change nothing.
            let mut next = full.last_seq(&writer()) + 1;
            let (mut full, mut compact) = (full, compact);
            for (_, body) in more {
                let Step::Write(body) = body else { continue };
                let event = Event::new(now, next, writer(), body);
                next += 1;
                full.add(&event);
                compact.add(&event);
                prop_assert_eq!(facts(&compact, now), facts(&full, now));
            }
        }
    }

    #[test]
    fn events_that_ended_a_year_ago_are_removed() {
        let day = Lifetime::MaxAge(MaxAge::from_seconds(86_400).unwrap());
        let old = Event::new(0, 1, writer(), published(1, day, Origin::Header));
        let keys = Event::new(0, 2, writer(), presents(1, 1));
        let ended = Ended { ids: vec![old.id(), keys.id()], why: Why::Replaced, when: None };
        let end = Event::new(DAY, 3, writer(), Body::Ended(ended));
        let new = Event::new(DAY, 4, writer(), published(1, Lifetime::Open, Origin::Header));
        let events = [old, keys, end, new];
        let full = state(events.clone());
        let needed = |now| needed(&events, &full, &writer(), now);
        // Clients hold the pins for a day after the end, with a day of margin, and the record stays for a year.
        let over = 3 * DAY + KEPT;
        assert_eq!(needed(over - 1), [true, true, true, true]);
        assert_eq!(needed(over), [false, false, true, true]);
    }
    #[test]
    fn the_configuration_after_a_stop_stays_although_it_ended_a_year_ago() {
        let ended = |seq, event: &Event, why, when| {
            let body = Body::Ended(Ended { ids: vec![event.id()], why, when });
            Event::new(2 * KEPT, seq, writer(), body)
        };
        let before =
            Event::new(2 * KEPT, 1, writer(), published(1, Lifetime::Open, Origin::Header));
        let stop = ended(2, &before, Why::Stopped, None);
        let next = Event::new(2 * KEPT, 3, writer(), presents(1, 1));
        let gone = ended(4, &next, Why::Other("gone".to_owned()), Some(0));
        let events = [before, stop, next, gone];
        let full = state(events.clone());
        // The configuration after the stop ended a year ago and is still the last one.
        let needed = needed(&events, &full, &writer(), 2 * KEPT);
        assert_eq!(needed, [true, true, true, true]);
    }
}
