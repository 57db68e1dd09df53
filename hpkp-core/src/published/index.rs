//! The index of other machines' records: the file `hpkp-index` of a directory says where in the copies the records of
//! each host are.
//!
//! `hpkp sync` writes the index. With it a server reads only the records that concern the names that it serves, however
//! many machines there are. A section describes one copy at the time of indexing ([`Stamp`]). A copy that has changed
//! since is read as a whole. The last line is a digest of everything before it.
//!
//! A section has the writer's [`Summary`] and the positions of three kinds of lines in the copy: records, by host;
//! events that end, waive or resume records, which are read only if one of these records is read; and events that
//! concern every reader.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::clock::Run;
use super::event::{Body, Event, Published};
use super::file::MAX_LINES;
use super::id::EventId;
use super::json::{Map, Value, write_object};
use super::line::LineError;
use super::name::WriterName;
use super::summary::Summary;
use crate::sorted::distinct;

/// The name of the file in a directory.
pub const FILE: &str = "hpkp-index";

/// The version of the format, in the first line.
pub const VERSION: u64 = 1;

/// The largest file, in bytes.
pub const MAX_FILE: usize = 512 << 20;

/// How the last line begins.
const DIGEST: &str = "{\"sha256\":\"";

/// The state of a copy when it was indexed. Every write to a file changes its status time (ctime), which no program can
/// set, and another file has another inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its inode number.
    pub inode: u64,
    /// Its length, in bytes.
    pub length: u64,
    /// When it was written last: seconds since 1970 UTC, and nanoseconds.
    pub modified: (i64, i64),
    /// When its status was changed last.
    pub changed: (i64, i64),
}

/// The position of a line in a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The offset of the first byte.
    pub start: u64,
    /// The length in bytes, without the line feed.
    pub length: u64,
}

/// Whether clients of a record choose a server by its port alone, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ByPort {
    /// No: the record concerns only its host and the hosts below.
    None,
    /// Yes, on this port.
    Port(u16),
    /// Yes, on any port.
    Any,
}

impl ByPort {
    /// The answer for the clients that hold these pins.
    #[must_use]
    pub fn of(published: &Published) -> Self {
        match published.port {
            _ if published.tlsa.is_none() && !published.ignores_names() => Self::None,
            Some(port) => Self::Port(port),
            None => Self::Any,
        }
    }
}

/// What a reader needs of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The state of the copy when it was indexed.
    pub stamp: Stamp,
    /// How far the writer has come.
    pub summary: Summary,
    /// The lines that concern the reader, in no order.
    pub places: Vec<Place>,
    /// Lines that may concern the reader: they end, waive or resume records, which may be records of other writers that
    /// concern the reader.
    pub rest: Vec<Place>,
    /// The first four bytes of the ids of these other writers' records.
    foreign: Vec<u32>,
}

impl Section {
    /// Whether [`Section::rest`] may end or waive one of these records.
    #[must_use]
    pub fn speaks_of(&self, records: &HashSet<u32>) -> bool {
        self.foreign.iter().any(|id| records.contains(id))
    }
}

/// Makes the section of a copy.
#[derive(Debug, Default)]
pub struct Builder {
    summary: Summary,
    records: BTreeMap<(String, ByPort), Vec<Place>>,
    /// Events that end, waive or resume records.
    rest: Vec<Place>,
    /// Events that concern every reader.
    all: Vec<Place>,
    own: HashSet<EventId>,
    meant: Vec<EventId>,
}

impl Builder {
    /// Adds the next event of the copy.
    pub fn add(&mut self, event: &Event, place: Place) {
        self.summary.note(event);
        let (host, by_port) = match event.body() {
            Body::Published(published) => (&published.host, ByPort::of(published)),
            Body::Presents(presents) => (&presents.host, ByPort::None),
            Body::Withheld(withheld) => (&withheld.host, ByPort::None),
            Body::Ended(ended) => return self.add_rest(&ended.ids, place),
            Body::Waived(waived) => return self.add_rest(&waived.ids, place),
            Body::Again(_) => return self.rest.push(place),
            Body::Compromised(_) | Body::Gone(_) => return self.all.push(place),
            // The summary has the identity, and a `seen` event concerns only its writer.
            Body::Writer(_) | Body::Seen(_) => return,
        };
        self.own.insert(event.id());
        self.records.entry((host.as_str().to_owned(), by_port)).or_default().push(place);
    }

    fn add_rest(&mut self, ids: &[EventId], place: Place) {
        self.rest.push(place);
        self.meant.extend(ids);
    }

    /// The section, as a text.
    #[must_use]
    pub fn finish(self, writer: &WriterName, stamp: Stamp) -> String {
        let mut text = String::new();
        write_object(&head(writer, &stamp, &self.summary), &mut text);
        text.push('\n');
        for (name, places) in [("0", &self.all), ("1", &self.rest)] {
            if !places.is_empty() {
                let _ = write!(text, "[{name},[");
                write_places(places, &mut text);
            }
        }
        let foreign = self.meant.iter().filter(|id| !self.own.contains(*id));
        let foreign = distinct(foreign.map(|id| id.prefix()));
        if !foreign.is_empty() {
            text.push_str("[2,\"");
            // Writing to a text cannot fail.
            for id in foreign {
                let _ = write!(text, "{id:08x}");
            }
            text.push_str("\"]\n");
        }
        for ((host, by_port), places) in &self.records {
            let _ = write!(text, "[\"{host}\",");
            match by_port {
                ByPort::None => {}
                ByPort::Any => text.push_str("0,"),
                ByPort::Port(port) => {
                    let _ = write!(text, "{port},");
                }
            }
            text.push('[');
            write_places(places, &mut text);
        }
        text
    }
}

fn write_places(places: &[Place], text: &mut String) {
    for (index, Place { start, length }) in places.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(text, "{comma}{start},{length}");
    }
    text.push_str("]]\n");
}

/// The line with which a section begins.
fn head<'a>(writer: &'a WriterName, stamp: &Stamp, summary: &'a Summary) -> Map<'a> {
    let pair = |(one, other): (i64, i64)| Value::Array(vec![one.into(), other.into()]);
    let numbered = |(seq, at): (u64, i64)| Value::Array(vec![seq.into(), at.into()]);
    let mut members = Map::default();
    members.insert("writer", writer.as_str().into());
    members.insert("inode", stamp.inode.into());
    members.insert("length", stamp.length.into());
    members.insert("modified", pair(stamp.modified));
    members.insert("changed", pair(stamp.changed));
    members.insert("last", numbered(summary.last));
    members.insert("configured", summary.configured.into());
    if let Some(accepted) = summary.accepted {
        members.insert("accepted", numbered(accepted));
    }
    members.insert("lives", summary.lives.into());
    if let Some(instance) = &summary.instance {
        members.insert("instance", instance.as_str().into());
    }
    let runs = summary.written.runs().iter();
    let runs = runs.flat_map(|run| [run.first.into(), run.last.into(), run.at.into()]);
    members.insert("events", Value::Array(runs.collect()));
    members
}

/// The whole file.
#[must_use]
pub fn write<'a>(sections: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = format!("{{\"v\":{VERSION}}}\n");
    sections.into_iter().for_each(|section| text.push_str(section));
    let digest = Sha256::digest(&text);
    text.push_str(DIGEST);
    for byte in digest {
        let _ = write!(text, "{byte:02x}");
    }
    text.push_str("\"}\n");
    text
}

/// The lines between the first and the last, if the digest is that of the file.
fn body(bytes: &[u8]) -> Result<&str, IndexError> {
    if bytes.len() > MAX_FILE {
        return Err(IndexError::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| IndexError::NotUtf8)?;
    let whole = text.strip_suffix('\n').ok_or(IndexError::Cut)?;
    let (first, rest) = text.split_once('\n').ok_or(IndexError::Cut)?;
    let version = match Value::read(first) {
        Ok(Value::Object(members)) => members.get("v").and_then(Value::as_u64),
        _ => None,
    };
    match version {
        Some(VERSION) => {}
        Some(version) => return Err(IndexError::Version(version)),
        None => return Err(IndexError::Line(1)),
    }
    let end = whole.rfind('\n').map_or(0, |at| at + 1);
    let stated = whole[end..].strip_prefix(DIGEST).and_then(|rest| rest.strip_suffix("\"}"));
    let stated = stated.ok_or(IndexError::Cut)?;
    let digest = Sha256::digest(&text[..end]);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    if stated != digest {
        return Err(IndexError::Digest);
    }
    Ok(&rest[..end - first.len() - 1])
}

/// A file whose digest is right.
#[derive(Clone, Copy, Debug)]
pub struct Index<'a> {
    body: &'a str,
}

impl<'a> Index<'a> {
    /// Opens the content of an index file.
    ///
    /// # Errors
    /// See [`IndexError`].
    pub fn open(bytes: &'a [u8]) -> Result<Self, IndexError> {
        Ok(Self { body: body(bytes)? })
    }

    /// The sections as texts, each with its writer and the state of the copy.
    ///
    /// # Errors
    /// See [`IndexError`].
    pub fn sections(self) -> Result<Vec<(WriterName, Stamp, &'a str)>, IndexError> {
        let mut rest = self.body;
        let (mut all, mut known) = (Vec::new(), HashSet::new());
        while !rest.is_empty() {
            let (section, after) = rest.split_at(rest.find("\n{").map_or(rest.len(), |at| at + 1));
            let line = section.lines().next().unwrap_or_default();
            let head = of_head(line).filter(|(writer, ..)| known.insert(writer.clone()));
            let (writer, stamp, _) = head.ok_or(IndexError::Section(all.len() + 1))?;
            all.push((writer, stamp, section));
            rest = after;
        }
        Ok(all)
    }

    /// Calls `take` for the host of each entry. A host may be repeated.
    ///
    /// # Errors
    /// See [`IndexError`].
    pub fn for_each_host(self, mut take: impl FnMut(&str, ByPort)) -> Result<(), IndexError> {
        for (number, line) in (2..).zip(self.body.split_terminator('\n')) {
            if let Some(named) = line.strip_prefix("[\"") {
                let (host, by_port, _) = of_host(named).ok_or(IndexError::Line(number))?;
                take(host, by_port);
            }
        }
        Ok(())
    }

    /// The part of each section that a reader needs: the records for which `concerns` is true, given the host and
    /// whether clients come by a port alone.
    ///
    /// # Errors
    /// See [`IndexError`].
    pub fn read(
        self,
        concerns: impl Fn(&str, ByPort) -> bool,
    ) -> Result<HashMap<WriterName, Section>, IndexError> {
        let mut all = HashMap::new();
        let mut last: Option<(WriterName, Section)> = None;
        for (number, line) in (2..).zip(self.body.split_terminator('\n')) {
            if line.starts_with('{') {
                let (writer, stamp, summary) = of_head(line).ok_or(IndexError::Line(number))?;
                let (places, rest, foreign) = (Vec::new(), Vec::new(), Vec::new());
                let section = Section { stamp, summary, places, rest, foreign };
                all.extend(last.replace((writer, section)));
                continue;
            }
            let (_, section) = last.as_mut().ok_or(IndexError::Line(number))?;
            section.add(line, &concerns).ok_or(IndexError::Line(number))?;
        }
        all.extend(last);
        all.values_mut().for_each(Section::settle);
        Ok(all)
    }
}

impl Section {
    fn add(&mut self, line: &str, concerns: &impl Fn(&str, ByPort) -> bool) -> Option<()> {
        let Some(named) = line.strip_prefix("[\"") else {
            let (kind, rest) = line.strip_prefix('[')?.split_once(',')?;
            match kind {
                "0" => self.places.extend(places(rest)?),
                "1" => self.rest.extend(places(rest)?),
                "2" => self.foreign.extend(prefixes(rest)?),
                _ => return None,
            }
            return Some(());
        };
        let (host, by_port, rest) = of_host(named)?;
        if concerns(host, by_port) {
            // A record of this copy concerns the reader, so the events that end, waive or resume it do as well.
            self.places.append(&mut self.rest);
            self.places.extend(places(rest)?);
        }
        Some(())
    }

    /// Takes each line once, in the order of the file.
    fn settle(&mut self) {
        self.places.sort_unstable();
        self.places.dedup();
    }
}

/// Splits `HOST",[...` or `HOST",PORT,[...` into the host, the port and the places.
fn of_host(text: &str) -> Option<(&str, ByPort, &str)> {
    let (host, rest) = text.split_once("\",")?;
    if rest.starts_with('[') {
        return Some((host, ByPort::None, rest));
    }
    let (port, rest) = rest.split_once(',')?;
    let by_port = match port.parse().ok()? {
        0 => ByPort::Any,
        port => ByPort::Port(port),
    };
    Some((host, by_port, rest))
}

/// `[START,LENGTH,...]]`
fn places(text: &str) -> Option<Vec<Place>> {
    let text = text.strip_prefix('[')?.strip_suffix("]]")?;
    let numbers: Option<Vec<u64>> = text.split(',').map(|number| number.parse().ok()).collect();
    let numbers = numbers.filter(|numbers| numbers.len() % 2 == 0)?;
    let place = |pair: &[u64]| Place { start: pair[0], length: pair[1] };
    Some(numbers.chunks_exact(2).map(place).collect())
}

/// `"..."]`, eight hexadecimal digits each.
fn prefixes(text: &str) -> Option<Vec<u32>> {
    let text = text.strip_prefix('"')?.strip_suffix("\"]")?;
    let digits = |at| text.get(at..at + 8).and_then(|one| u32::from_str_radix(one, 16).ok());
    (0..text.len()).step_by(8).map(digits).collect()
}

fn of_head(line: &str) -> Option<(WriterName, Stamp, Summary)> {
    let Value::Object(members) = Value::read(line).ok()? else { return None };
    let number = |name| members.get(name).and_then(Value::as_u64);
    let pair = |name| match members.get(name)? {
        Value::Array(pair) => match &pair[..] {
            [one, other] => Some((one.as_i64()?, other.as_i64()?)),
            _ => None,
        },
        _ => None,
    };
    let numbered = |name| match members.get(name)? {
        Value::Array(pair) => match &pair[..] {
            [seq, at] => Some((seq.as_u64()?, at.as_i64()?)),
            _ => None,
        },
        _ => None,
    };
    let stamp = Stamp {
        inode: number("inode")?,
        length: number("length")?,
        modified: pair("modified")?,
        changed: pair("changed")?,
    };
    let mut summary = Summary {
        last: numbered("last")?,
        configured: number("configured")?,
        lives: number("lives")?,
        instance: members.get("instance").and_then(Value::as_str).map(str::to_owned),
        ..Summary::default()
    };
    if members.contains_key("accepted") {
        summary.accepted = Some(numbered("accepted")?);
    }
    let Some(Value::Array(runs)) = members.get("events") else { return None };
    let mut events = 0_u64;
    for run in runs.chunks(3) {
        let [first, last, at] = run else { return None };
        let run = Run { first: first.as_u64()?, last: last.as_u64()?, at: at.as_i64()? };
        events = events.checked_add(run.last.checked_sub(run.first)?)?.checked_add(1)?;
        summary.written.add_run(run);
    }
    let writer = members.get("writer").and_then(Value::as_str)?.parse().ok()?;
    (events <= MAX_LINES as u64).then_some((writer, stamp, summary))
}

/// Reads a line of the copy of `writer`'s file.
///
/// # Errors
/// The line is not an event, or an event of another writer.
pub fn event(line: &[u8], writer: &WriterName) -> Result<Event, LineError> {
    let event = Event::from_line_of(line, Some(writer))?;
    match event.writer() == writer {
        true => Ok(event),
        false => Err(LineError::Writer(event.writer().clone())),
    }
}

/// Why the file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Larger than [`MAX_FILE`].
    #[error("larger than {MAX_FILE} bytes")]
    TooLarge,
    /// The last line is not a digest.
    #[error("incomplete")]
    Cut,
    /// The file has another version of the format.
    #[error("unsupported format version {0}, update this software")]
    Version(u64),
    /// The digest does not match the content.
    #[error("its content was changed")]
    Digest,
    /// Not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// A line, counted from 1, is invalid.
    #[error("line {0} is invalid")]
    Line(usize),
    /// The first line of a section, counted from 1, is invalid.
    #[error("section {0} is invalid")]
    Section(usize),
}
