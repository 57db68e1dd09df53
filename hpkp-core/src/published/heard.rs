//! When each other writer was last heard from, by the clock of this machine: the file `hpkp-heard` of a directory.
//!
//! `hpkp sync` writes the file; the check reads it if `max_staleness` is configured. A line has the time at which this
//! machine received a heartbeat, so the clocks of other machines do not matter.

use std::collections::BTreeMap;

use super::id::EventId;
use super::json::{Map, Value, write_object};
use super::name::WriterName;

/// The name of the file in a directory for records.
pub const FILE: &str = "hpkp-heard";

/// The version of the format, in the first line.
pub const VERSION: u64 = 1;

/// The largest file, in bytes.
pub const MAX_FILE: usize = 64 << 20;

/// The most writers.
pub const MAX_WRITERS: usize = 100_000;

/// The last heartbeat of a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The number of the newest heartbeat that counted. It only grows.
    pub number: u64,
    /// When this machine first had that heartbeat and the records up to [`Heard::last`], in seconds since 1970
    /// UTC, by this machine's clock.
    pub at: i64,
    /// The writer's newest event at that heartbeat, which this machine has.
    pub last: EventId,
}

impl Heard {
    /// For how many seconds the writer has been silent. It is never negative, even if the clock was
    /// set back.
    #[must_use]
    pub const fn age(&self, now: i64) -> i64 {
        let age = now.saturating_sub(self.at);
        if age < 0 { 0 } else { age }
    }
}

/// All writers that were ever heard from.
pub type AllHeard = BTreeMap<WriterName, Heard>;

/// Reads the file.
///
/// # Errors
/// See [`HeardError`]. Members and trailing members of a line that are not known are ignored.
pub fn read(bytes: &[u8]) -> Result<AllHeard, HeardError> {
    if bytes.len() > MAX_FILE {
        return Err(HeardError::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| HeardError::NotUtf8)?;
    // This software replaces the file as a whole, so it never writes an incomplete one.
    let text = text.strip_suffix('\n').ok_or(HeardError::Cut)?;
    let mut lines = text.split('\n');
    let first = lines.next().and_then(|line| Value::read(line).ok());
    let version = match &first {
        Some(Value::Object(members)) => members.get("v").and_then(Value::as_u64),
        _ => None,
    };
    match version {
        Some(VERSION) => {}
        Some(version) => return Err(HeardError::Version(version)),
        None => return Err(HeardError::Line(1)),
    }
    let mut all = AllHeard::new();
    for (number, line) in (2..).zip(lines) {
        let (writer, heard) = of_line(line).ok_or(HeardError::Line(number))?;
        if all.len() == MAX_WRITERS {
            return Err(HeardError::TooLarge);
        }
        if all.insert(writer, heard).is_some() {
            return Err(HeardError::Line(number));
        }
    }
    Ok(all)
}

/// The whole file.
#[must_use]
pub fn write(all: &AllHeard) -> String {
    let mut text = format!("{{\"v\":{VERSION}}}\n");
    for (writer, heard) in all {
        let mut members = Map::default();
        members.insert("writer", writer.as_str().into());
        members.insert("number", heard.number.into());
        members.insert("at", heard.at.into());
        members.insert("last", heard.last.to_string().into());
        write_object(&members, &mut text);
        text.push('\n');
    }
    text
}

fn of_line(line: &str) -> Option<(WriterName, Heard)> {
    let Value::Object(members) = Value::read(line).ok()? else { return None };
    let text = |name| members.get(name).and_then(Value::as_str);
    let at = match members.get("at")? {
        Value::Number(number) => number.as_i64()?,
        _ => return None,
    };
    let number = members.get("number").and_then(Value::as_u64)?;
    let last = text("last")?.parse().ok()?;
    Some((text("writer")?.parse().ok()?, Heard { number, at, last }))
}

/// Why the file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeardError {
    /// Larger than [`MAX_FILE`], or more writers than [`MAX_WRITERS`].
    #[error("larger than {MAX_FILE} bytes, or more than {MAX_WRITERS} writers")]
    TooLarge,
    /// The last line has no line feed, or the file is empty.
    #[error("incomplete")]
    Cut,
    /// The file has another version of the format.
    #[error("unsupported format version {0}, update this software")]
    Version(u64),
    /// Not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// A line, counted from 1, is invalid.
    #[error("line {0} is invalid")]
    Line(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_is_read_back() {
        let last = "00112233445566778899aabbccddeeff".parse().unwrap();
        let mut all = AllHeard::new();
        assert_eq!(read(write(&all).as_bytes()), Ok(AllHeard::new()));
        all.insert("web-2".parse().unwrap(), Heard { number: 412, at: 1_800_000_000, last });
        all.insert("a".parse().unwrap(), Heard { number: 0, at: -5, last });
        let text = write(&all);
        assert_eq!(
            text,
            "{\"v\":1}\n{\"at\":-5,\"last\":\"00112233445566778899aabbccddeeff\",\"number\":0,\
             \"writer\":\"a\"}\n{\"at\":1800000000,\"last\":\"00112233445566778899aabbccddeeff\",\
             \"number\":412,\"writer\":\"web-2\"}\n"
        );
        assert_eq!(read(text.as_bytes()), Ok(all));
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let line = "{\"writer\":\"a\",\"number\":1,\"at\":2,\"last\":\"00112233445566778899aabbccddeeff\",\"x\":0}\n";
        let good = format!("{{\"v\":1}}\n{line}");
        assert!(read(good.as_bytes()).is_ok());
        assert_eq!(read(b""), Err(HeardError::Cut));
        assert_eq!(read(good.trim_end().as_bytes()), Err(HeardError::Cut));
        assert_eq!(read(b"{\"v\":2}\n"), Err(HeardError::Version(2)));
        assert_eq!(read(line.as_bytes()), Err(HeardError::Line(1)));
        assert_eq!(read(format!("{good}{line}").as_bytes()), Err(HeardError::Line(3)));
        assert_eq!(read(format!("{good}\n").as_bytes()), Err(HeardError::Line(3)));
    }

    #[test]
    fn a_clock_that_went_back_gives_no_negative_age() {
        let last = "00112233445566778899aabbccddeeff".parse().unwrap();
        let heard = Heard { number: 1, at: 100, last };
        assert_eq!((heard.age(90), heard.age(160)), (0, 60));
    }
}
