//! A file of records: events, a line each.

use super::event::Event;
use super::line::{LineError, MAX_LINE};
use super::name::WriterName;

/// The largest file, in bytes.
pub const MAX_FILE: usize = 512 << 20;

/// The most lines of one file.
pub const MAX_LINES: usize = 1_000_000;

/// The content of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Its events, in order.
    pub events: Vec<Event>,
    /// How many bytes an incomplete last line has: a write was interrupted, or a copy is still under way. The event of
    /// that line was not acknowledged, so the line is ignored.
    pub torn: usize,
}

/// Reads a file.
///
/// # Errors
/// The first line that is not an event, see [`FileError`].
pub fn read(bytes: &[u8]) -> Result<Contents, FileError> {
    let mut events = Vec::new();
    let torn = for_each(bytes, |event| events.push(event))?;
    Ok(Contents { events, torn })
}

/// Reads a file and hands over its events one by one, in order, so that they need not all be held.
/// Returns the number of bytes of an incomplete last line, see [`Contents::torn`].
///
/// # Errors
/// See [`read`]. The events before that line have been handed over.
pub fn for_each(bytes: &[u8], mut take: impl FnMut(Event)) -> Result<usize, FileError> {
    let mut lines = Lines::default();
    lines.push(bytes, &mut take)?;
    Ok(lines.finish())
}

/// The lines of a file that is read piece by piece, so that it need not be held as a whole.
#[derive(Debug, Default)]
pub struct Lines {
    /// The writer of all events.
    writer: Option<WriterName>,
    /// How many have been read.
    lines: usize,
    bytes: usize,
    /// A line whose end has not been read yet.
    part: Vec<u8>,
}

impl Lines {
    /// The lines of the file of `writer`. An event of another writer is an error, so that nobody can
    /// write in that writer's name.
    #[must_use]
    pub fn of(writer: WriterName) -> Self {
        Self { writer: Some(writer), ..Self::default() }
    }

    /// Reads the next piece, and hands over the events whose lines end in it.
    ///
    /// # Errors
    /// See [`read`]. The events before that line have been handed over.
    pub fn push(&mut self, piece: &[u8], take: &mut impl FnMut(Event)) -> Result<(), FileError> {
        self.bytes = self.bytes.saturating_add(piece.len());
        if self.bytes > MAX_FILE {
            return Err(FileError::TooLarge);
        }
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            let Some(end) = line.strip_suffix(b"\n") else {
                self.part.extend(line);
                // Bytes that are too long for a line are an error, not an incomplete last line.
                if self.part.len() > MAX_LINE {
                    let error = LineError::TooLong;
                    return Err(FileError::Line { line: self.lines + 1, error });
                }
                continue;
            };
            if self.lines == MAX_LINES {
                return Err(FileError::TooManyLines);
            }
            self.lines += 1;
            let event = if self.part.is_empty() {
                self.event(end)?
            } else {
                self.part.extend(end);
                let part = std::mem::take(&mut self.part);
                self.event(&part)?
            };
            take(event);
        }
        Ok(())
    }

    /// How many bytes an incomplete last line has, see [`Contents::torn`].
    #[must_use]
    pub fn finish(self) -> usize {
        self.part.len()
    }

    fn event(&self, line: &[u8]) -> Result<Event, FileError> {
        let writer = self.writer.as_ref();
        let event = Event::from_line_of(line, writer).and_then(|event| match writer {
            Some(writer) if event.writer() != writer => {
                Err(LineError::Writer(event.writer().clone()))
            }
            _ => Ok(event),
        });
        event.map_err(|error| FileError::Line { line: self.lines, error })
    }
}

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Larger than [`MAX_FILE`].
    #[error("larger than {MAX_FILE} bytes")]
    TooLarge,
    /// More than [`MAX_LINES`].
    #[error("more than {MAX_LINES} lines")]
    TooManyLines,
    /// A line is not an event.
    #[error("line {line} is not a valid record: {error}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        error: LineError,
    },
}
