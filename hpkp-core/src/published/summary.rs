//! The summary of a writer's file: numbers, times and the instance, without the content of its events.

use super::clock::Written;
use super::event::{self, Body, Event, Origin, Why};

/// What is known of a writer besides its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The number and the time of the last event.
    pub(super) last: (u64, i64),
    /// The number of the last event that came from a configuration.
    pub(super) configured: u64,
    /// The number and the time of the last event of an accepted configuration. A configuration that only removes
    /// something writes only an end.
    pub(super) accepted: Option<(u64, i64)>,
    /// The number of the last event that is not an end: a writer of such an event is not gone.
    pub(super) lives: u64,
    /// Which of its files was read, by its first line.
    pub(super) instance: Option<String>,
    /// The numbers and times of all its events, which tell when they happened.
    pub(super) written: Written,
}

impl Summary {
    /// Adds an event of the writer.
    pub fn note(&mut self, event: &Event) {
        let (seq, at) = (event.seq(), event.at());
        if let Body::Writer(identity) = event.body() {
            self.instance = Some(identity.instance.clone());
        }
        if is_of_a_configuration(event.body()) {
            self.configured = self.configured.max(seq);
        }
        let takes_away = |ended: &event::Ended| ended.why == Why::Replaced;
        if is_of_a_configuration(event.body())
            || matches!(event.body(), Body::Ended(ended) if takes_away(ended))
        {
            self.accepted = self.accepted.max(Some((seq, at)));
        }
        if !matches!(event.body(), Body::Ended(_)) {
            self.lives = self.lives.max(seq);
        }
        self.last = self.last.max((seq, at));
        self.written.add(seq, at);
    }

    /// Adds the summary of another part or copy of the writer's file, as if its events came after.
    pub(super) fn join(&mut self, other: &Self) {
        self.last = self.last.max(other.last);
        self.configured = self.configured.max(other.configured);
        self.accepted = self.accepted.max(other.accepted);
        self.lives = self.lives.max(other.lives);
        if other.instance.is_some() {
            self.instance.clone_from(&other.instance);
        }
        self.written.join(&other.written);
    }
}

/// Whether an event comes from a configuration of a server.
pub(super) fn is_of_a_configuration(body: &Body) -> bool {
    match body {
        Body::Presents(_) | Body::Withheld(_) | Body::Again(_) => true,
        Body::Published(published) => published.origin == Origin::Header,
        _ => false,
    }
}
