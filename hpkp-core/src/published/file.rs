//! A file of records: events, a line each.

use std::fmt;

use super::event::Event;
use super::line::{LineError, MAX_LINE};

/// The largest file, in octets.
pub const MAX_FILE: usize = 128 << 20;

/// The most lines of one file.
pub const MAX_LINES: usize = 1_000_000;

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Its events, in order.
    pub events: Vec<Event>,
    /// How many octets of the last line, which was never finished, stand at the end: a write was
    /// cut off, or a copy is still under way. They were not acknowledged, so they are passed over.
    pub torn: usize,
}

/// Reads a file.
///
/// # Errors
/// The first line that is no event, see [`FileError`].
pub fn read(octets: &[u8]) -> Result<Contents, FileError> {
    let mut events = Vec::new();
    let torn = for_each(octets, |event| events.push(event))?;
    Ok(Contents { events, torn })
}

/// Reads a file and hands over its events one by one, in order, so that they need not all be held.
/// Gives the octets of the last line, where it was never finished, see [`Contents::torn`].
///
/// # Errors
/// See [`read`]. What stands before the line has been handed over.
pub fn for_each(octets: &[u8], mut take: impl FnMut(Event)) -> Result<usize, FileError> {
    if octets.len() > MAX_FILE {
        return Err(FileError::TooLarge);
    }
    let whole = octets.iter().rposition(|octet| *octet == b'\n').map_or(0, |last| last + 1);
    let (lines, torn) = octets.split_at(whole);
    // What never was a line, however long, must not pass for the rest of one.
    if torn.len() > MAX_LINE {
        let line = 1 + lines.iter().filter(|octet| **octet == b'\n').count();
        return Err(FileError::Line { line, error: LineError::TooLong });
    }
    for (index, line) in lines.split_inclusive(|octet| *octet == b'\n').enumerate() {
        if index == MAX_LINES {
            return Err(FileError::TooManyLines);
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let event = Event::from_line(line);
        take(event.map_err(|error| FileError::Line { line: index + 1, error })?);
    }
    Ok(torn.len())
}

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileError {
    /// Larger than [`MAX_FILE`].
    TooLarge,
    /// More than [`MAX_LINES`].
    TooManyLines,
    /// A line is no event.
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        error: LineError,
    },
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "it is larger than {MAX_FILE} octets"),
            Self::TooManyLines => write!(f, "it has more than {MAX_LINES} lines"),
            Self::Line { line, error } => write!(f, "line {line} is no record: {error}"),
        }
    }
}

impl std::error::Error for FileError {}
