//! The records of one writer: reads them, compares two states of them, and joins the two.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use hpkp_core::published::file::{FileError, Lines};
use hpkp_core::published::{Body, Event, EventId, WriterName};

/// A line of a file.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// The number of its event.
    pub(crate) seq: u64,
    /// The id of its event.
    pub(crate) id: EventId,
    /// The bytes of the line, without its line feed.
    place: Range<usize>,
}

/// The lines of a file that has been read.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// The complete lines; an unfinished last line is left out.
    pub(crate) bytes: Vec<u8>,
    pub(crate) lines: Vec<Line>,
    /// The instance of the file, if its first line states it.
    pub(crate) instance: Option<String>,
    /// The writers that the file records as gone.
    pub(crate) gone: Vec<WriterName>,
}

/// The newest event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Newest {
    pub(crate) seq: u64,
    pub(crate) id: EventId,
}

impl Records {
    /// Reads the file of a writer.
    ///
    /// # Errors
    /// A line is not an event of this writer, or a limit is exceeded.
    pub(crate) fn read(mut bytes: Vec<u8>, writer: &WriterName) -> Result<Self, FileError> {
        let (mut lines, mut instance, mut gone) = (Vec::new(), None, Vec::new());
        let mut at = 0;
        let mut reader = Lines::of(writer.clone());
        reader.push(&bytes, &mut |event: Event| {
            let place = at..at + event.line().len();
            at = place.end + 1;
            match event.body() {
                Body::Writer(identity) if lines.is_empty() => {
                    instance = Some(identity.instance.clone());
                }
                Body::Gone(writer) => gone.push(writer.of.clone()),
                _ => {}
            }
            lines.push(Line { seq: event.seq(), id: event.id(), place });
        })?;
        bytes.truncate(at);
        Ok(Self { bytes, lines, instance, gone })
    }

    /// The text of a line.
    pub(crate) fn text(&self, line: &Line) -> &str {
        // Events are UTF-8.
        self.bytes
            .get(line.place.clone())
            .and_then(|text| std::str::from_utf8(text).ok())
            .unwrap_or_default()
    }

    /// The numbers and ids of all events.
    pub(crate) fn events(&self) -> impl Iterator<Item = (u64, EventId)> + '_ {
        self.lines.iter().map(|line| (line.seq, line.id))
    }

    /// The ids of all events.
    pub(crate) fn ids(&self) -> HashSet<EventId> {
        self.lines.iter().map(|line| line.id).collect()
    }

    /// Only the lines of events whose number and id are wanted.
    pub(crate) fn only(self, is_wanted: impl Fn(u64, EventId) -> bool) -> Self {
        if self.lines.iter().all(|line| is_wanted(line.seq, line.id)) {
            return self;
        }
        let mut all = Self { instance: self.instance.clone(), ..Self::default() };
        for line in self.lines.iter().filter(|line| is_wanted(line.seq, line.id)) {
            let text = self.text(line);
            let start = all.bytes.len();
            all.bytes.extend(text.as_bytes());
            all.bytes.push(b'\n');
            all.lines.push(Line { place: start..start + text.len(), ..line.clone() });
        }
        all
    }

    /// The event with the highest number.
    pub(crate) fn newest(&self) -> Option<Newest> {
        self.lines.iter().map(|line| Newest { seq: line.seq, id: line.id }).max()
    }

    pub(crate) fn has(&self, id: EventId) -> bool {
        self.lines.iter().rev().any(|line| line.id == id)
    }

    /// The id of the event with this number.
    pub(crate) fn numbered(&self, seq: u64) -> Option<EventId> {
        self.lines.iter().rev().find(|line| line.seq == seq).map(|line| line.id)
    }

    /// Whether the two have different events with the same number, or come from different files.
    pub(crate) fn contradicts(&self, other: &Self) -> bool {
        if matches!((&self.instance, &other.instance), (Some(one), Some(other)) if one != other) {
            return true;
        }
        let numbered: HashMap<u64, EventId> =
            self.lines.iter().map(|line| (line.seq, line.id)).collect();
        other.lines.iter().any(|line| numbered.get(&line.seq).is_some_and(|id| *id != line.id))
    }

    /// Joins both: all lines of `self`, followed by the lines that only `other` has. So no known record is lost.
    pub(crate) fn united(self, other: Self) -> Self {
        if other.bytes.starts_with(&self.bytes) {
            return other;
        }
        let known: HashSet<EventId> = self.lines.iter().map(|line| line.id).collect();
        let mut all = self;
        for line in other.lines.iter().filter(|line| !known.contains(&line.id)) {
            let text = other.text(line);
            let start = all.bytes.len();
            all.bytes.extend(text.as_bytes());
            all.bytes.push(b'\n');
            all.lines.push(Line { place: start..start + text.len(), ..line.clone() });
        }
        all.instance = all.instance.or(other.instance);
        all
    }
}
