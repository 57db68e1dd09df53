//! Records with dates in the past, as another machine would have written them.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use hpkp_core::max_age::MaxAge;
use hpkp_core::published::file;
use hpkp_core::published::{
    Body, Ended, Event, EventId, Lifetime, Origin, Published, Why, WriterName,
};
use hpkp_tests::recorded;

pub const DAY: i64 = 86_400;

/// Seconds since 1970 UTC.
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    i64::try_from(now.as_secs()).expect("a time")
}

/// The records of one writer.
pub struct History {
    writer: WriterName,
    lines: Vec<String>,
}

impl History {
    pub fn new(writer: &str) -> Self {
        Self { writer: writer.parse().expect("a name"), lines: Vec::new() }
    }

    /// A header for localhost with these pins, noted since `at` for `days`.
    pub fn published(&mut self, at: i64, pins: &[&str], days: u64) -> EventId {
        let pins = pins.iter().map(|pin| pin.parse().expect("a pin")).collect();
        self.add(
            at,
            Body::Published(Published {
                lifetime: Lifetime::MaxAge(MaxAge::from_seconds(days * 86_400).expect("an age")),
                origin: Origin::Header,
                ..recorded::held("localhost", pins)
            }),
        )
    }

    /// Records that another configuration replaced the pins of `id`.
    pub fn replaced(&mut self, at: i64, id: EventId) {
        self.add(at, Body::Ended(Ended { ids: vec![id], why: Why::Replaced, when: None }));
    }

    fn add(&mut self, at: i64, body: Body) -> EventId {
        let seq = 1 + self.lines.len() as u64;
        let event = Event::new(at, seq, self.writer.clone(), body);
        self.lines.push(format!("{}\n", event.line()));
        event.id()
    }

    pub fn write(&self, file: &Path) {
        std::fs::write(file, self.lines.concat()).expect("a file written");
    }
}

/// The events in a file.
pub fn events(file: &Path) -> Vec<Event> {
    file::read(&std::fs::read(file).expect("records")).expect("events").events
}
