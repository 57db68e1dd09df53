//! Object storage (S3, Google Cloud Storage, Azure): immutable segments for each writer, each created on the condition
//! that no object has its name.
//!
//! ```text
//! PREFIX/hpkp-store                                    the marker
//! PREFIX/records/WRITER/NUMBER.jsonl                   lines that one write has added
//! PREFIX/heartbeats/WRITER/NUMBER-AT-EVENTS-LAST.json  the name has all that readers need
//! PREFIX/leases/HOST.json
//! ```
//!
//! So a listing shows which segments are new, and no segment is read twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hpkp_core::published::WriterName;
use hpkp_core::published::file::MAX_FILE;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, UpdateVersion};
use tokio::runtime::{Builder, Runtime};
use url::Url;

use super::bucket::{bucket, failure};
use super::contract::{
    Extent, MARKER, MAX_BEAT, Options, Outgoing, Piece, Remote, Store, Wanted, check_count,
    check_marker,
};
use super::error::{StoreError, VERSION};
use super::lease::{Lease, TRIES, Term, Written};
use crate::heartbeat::Heartbeat;
use crate::now;

const RECORDS: &str = "records";
const BEATS: &str = "heartbeats";
const LEASES: &str = "leases";

/// How many objects are read at a time.
const AT_ONCE: usize = 16;

/// The most bytes of segments that are read together; the segments of further writers are read after them.
const BYTES_AT_ONCE: u64 = 64 << 20;

/// The most objects of a kind in a listing, and how long a listing may take, as a multiple of the time limit of an
/// operation: a server could send pages without end.
const MAX_OBJECTS: usize = 2_000_000;
const LISTING: u32 = 10;

/// The highest number of a segment.
const MAX_SEGMENT: u64 = 9_999_999_999;

/// A store in a bucket.
pub(super) struct ObjectsStore {
    runtime: Runtime,
    bucket: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The time limit of each request.
    timeout: Duration,
    /// The segments of each writer in the newest listing.
    segments: HashMap<WriterName, BTreeMap<u64, Segment>>,
}

/// A segment as described by a listing.
struct Segment {
    /// Identifies the content.
    tag: String,
    /// The size in bytes.
    size: u64,
}

impl ObjectsStore {
    pub(super) fn open(url: &Url, options: &Options) -> Result<Self, StoreError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| StoreError::Failed(hpkp_cli::sync::os(&error)))?;
        let prefix = Path::from_url_path(url.path())
            .map_err(|_| StoreError::Failed("invalid prefix in the URL of the store".to_owned()))?;
        let bucket = bucket(url, options)?;
        Ok(Self { runtime, bucket, prefix, timeout: options.timeout, segments: HashMap::new() })
    }

    fn path(&self, names: &[&str]) -> Path {
        names.iter().fold(self.prefix.clone(), |path, name| path.join(*name))
    }

    /// The path of a heartbeat.
    fn beat(&self, beat: &Heartbeat) -> Path {
        let name = format!("{:020}-{}-{}-{}.json", beat.number, beat.at, beat.events, beat.last);
        self.path(&[BEATS, &beat.writer, &name])
    }

    fn segment(&self, writer: &WriterName, number: u64) -> Path {
        self.path(&[RECORDS, writer.as_str(), &format!("{number:010}.jsonl")])
    }

    /// The content and version of an object, up to a limit; none where the object does not exist.
    fn get(&self, path: &Path) -> Result<Option<(Vec<u8>, UpdateVersion)>, StoreError> {
        self.runtime.block_on(async {
            match self.bucket.get(path).await {
                Ok(found) => {
                    if found.meta.size > MAX_FILE as u64 {
                        return Err(StoreError::TooMuch(format!(
                            "{path} is larger than {MAX_FILE} bytes"
                        )));
                    }
                    let version = UpdateVersion {
                        e_tag: found.meta.e_tag.clone(),
                        version: found.meta.version.clone(),
                    };
                    let bytes = found.bytes().await.map_err(|error| failure(&error))?;
                    Ok(Some((bytes.to_vec(), version)))
                }
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(failure(&error)),
            }
        })
    }

    /// Writes an object. Returns false if the object is not in the state that the mode requires.
    fn put(&self, path: &Path, bytes: Vec<u8>, mode: PutMode) -> Result<bool, StoreError> {
        match self.runtime.block_on(self.bucket.put_opts(path, bytes.into(), mode.into())) {
            Ok(_) => Ok(true),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. }
                | object_store::Error::NotFound { .. },
            ) => Ok(false),
            Err(error) => Err(failure(&error)),
        }
    }

    /// All objects below a prefix.
    fn listed(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, StoreError> {
        let most = self.timeout.saturating_mul(LISTING);
        let listed = async {
            let mut found = self.bucket.list(Some(prefix));
            let mut all = Vec::new();
            while let Some(one) = found.try_next().await.map_err(|error| failure(&error))? {
                if all.len() == MAX_OBJECTS {
                    let text =
                        format!("the store has more than {MAX_OBJECTS} objects below {prefix}");
                    return Err(StoreError::TooMuch(text));
                }
                all.push(one);
            }
            Ok(all)
        };
        let limited = self.runtime.block_on(async { tokio::time::timeout(most, listed).await });
        limited.unwrap_or_else(|_| {
            let text = format!("the listing did not end within {} seconds", most.as_secs());
            Err(StoreError::Failed(text))
        })
    }

    /// The objects of a kind: for each, the writer, the name without its suffix, and the metadata.
    fn names(
        &self,
        kind: &str,
        suffix: &str,
    ) -> Result<Vec<(WriterName, String, ObjectMeta)>, StoreError> {
        let prefix = self.path(&[kind]);
        let named = self.listed(&prefix)?.into_iter().filter_map(|meta| {
            let mut parts = meta.location.prefix_match(&prefix)?;
            let writer = parts.next()?.as_ref().parse().ok()?;
            let name = parts.next()?.as_ref().strip_suffix(suffix)?.to_owned();
            parts.next().is_none().then_some(())?;
            drop(parts);
            Some((writer, name, meta))
        });
        Ok(named.collect())
    }

    fn is_store(&self) -> Result<(), StoreError> {
        match self.get(&self.path(&[MARKER]))? {
            Some((text, _)) => check_marker(&text),
            None => Err(StoreError::NotInitialised),
        }
    }

    fn write_one(&self, one: &Outgoing<'_>) -> Result<(), StoreError> {
        if !one.fresh.is_empty() {
            let next = marked(one.mark).map_or(0, |(last, _)| last + 1);
            if next > MAX_SEGMENT {
                return Err(StoreError::TooMuch(format!("{}: no further segment", one.writer)));
            }
            let lines: Vec<u8> =
                one.fresh.iter().flat_map(|(.., line)| line.bytes().chain([b'\n'])).collect();
            if !self.put(&self.segment(one.writer, next), lines, PutMode::Create)? {
                return Err(StoreError::Changed(one.writer.clone()));
            }
        }
        let beat = &one.beat;
        let directory = self.path(&[BEATS, one.writer.as_str()]);
        let path = self.beat(beat);
        self.put(&path, serde_json::to_vec(beat).unwrap_or_default(), PutMode::Overwrite)?;
        // Older heartbeats are obsolete.
        for old in
            self.listed(&directory)?.iter().map(|meta| &meta.location).filter(|old| **old < path)
        {
            let deleted = self.runtime.block_on(self.bucket.delete(old));
            deleted.map_err(|error| failure(&error))?;
        }
        Ok(())
    }
}

/// Lines that have been read, or what is wrong with them.
type Lines = Result<Vec<u8>, String>;

/// The segments to read of a writer.
struct Part {
    writer: WriterName,
    /// The segments, and how many bytes each has in the listing.
    paths: Vec<(Path, u64)>,
    /// The total size of the segments.
    bytes: u64,
    extent: Extent,
}

impl ObjectsStore {
    /// The segments to read of a writer: all in the listing or, if the last known segment is unchanged, only those
    /// after it.
    fn part(&self, one: &Wanted) -> Part {
        let none = BTreeMap::new();
        let segments = self.segments.get(&one.writer).unwrap_or(&none);
        let known = marked(&one.known).filter(|(number, tag)| {
            segments.get(number).is_some_and(|segment| segment.tag == *tag)
        });
        let first = known.map_or(0, |(number, _)| number + 1);
        let wanted = || segments.range(first..);
        Part {
            writer: one.writer.clone(),
            paths: wanted()
                .map(|(number, segment)| (self.segment(&one.writer, *number), segment.size))
                .collect(),
            bytes: wanted().map(|(_, segment)| segment.size).sum(),
            extent: if first == 0 { Extent::Whole } else { Extent::Behind },
        }
    }

    /// Reads some parts; for each, returns the lines or what is wrong with them.
    fn fetched(&self, parts: Vec<Part>) -> Result<Vec<(Part, Lines)>, StoreError> {
        let (bucket, most) = (&self.bucket, MAX_FILE as u64);
        let paths = parts.iter().filter(|part| part.bytes <= most).flat_map(|part| &part.paths);
        let objects = stream::iter(paths).map(|(path, size)| async move {
            match bucket.get(path).await {
                // Segments are never replaced. The memory for one batch is limited by the sizes in the listing.
                Ok(found) if found.meta.size != *size => {
                    Ok(Err(format!("{path} is not as long as in the listing")))
                }
                Ok(found) => found.bytes().await.map(|bytes| Ok(bytes.to_vec())),
                Err(object_store::Error::NotFound { .. }) => {
                    Ok(Err(format!("{path} has vanished")))
                }
                Err(error) => Err(error),
            }
        });
        let objects = objects.buffered(AT_ONCE).try_collect::<Vec<Result<Vec<u8>, String>>>();
        let mut objects =
            self.runtime.block_on(objects).map_err(|error| failure(&error))?.into_iter();
        let read = parts.into_iter().map(|part| {
            let lines = match part.bytes <= most {
                true => objects.by_ref().take(part.paths.len()).collect::<Result<Vec<_>, _>>(),
                false => Err(format!("its records have more than {MAX_FILE} bytes")),
            };
            (part, lines.map(|lines| lines.concat()))
        });
        Ok(read.collect())
    }
}

impl Store for ObjectsStore {
    fn init(&mut self) -> Result<(), StoreError> {
        let made =
            self.put(&self.path(&[MARKER]), format!("{VERSION}\n").into_bytes(), PutMode::Create)?;
        if made { Ok(()) } else { self.is_store() }
    }

    fn list(&mut self) -> Result<BTreeMap<WriterName, Remote>, StoreError> {
        self.is_store()?;
        let mut all = BTreeMap::<WriterName, Remote>::new();
        // Heartbeats are read first, so that the records are at least as new.
        for (writer, name, _) in self.names(BEATS, ".json")? {
            let remote = all.entry(writer.clone()).or_default();
            let beat =
                named_beat(&writer, &name).ok_or_else(|| "its heartbeat is invalid".to_owned());
            remote.beat = match (remote.beat.take(), beat) {
                (Some(Ok(old)), Ok(new)) if old.number > new.number => Some(Ok(old)),
                (_, beat) => Some(beat),
            };
        }
        self.segments.clear();
        for (writer, name, meta) in self.names(RECORDS, ".jsonl")? {
            let Some(number) = number(&name) else { continue };
            self.segments.entry(writer).or_default().insert(number, Segment::of(&meta));
        }
        for (writer, segments) in &self.segments {
            let Some((last, segment)) = segments.last_key_value() else { continue };
            let remote = all.entry(writer.clone()).or_default();
            remote.mark = format!("{last:010}-{}", segment.tag);
            let missing = (last + 1).saturating_sub(segments.len() as u64);
            if missing > 0 {
                remote.fault = Some(format!("{missing} of its segments are missing"));
            }
        }
        check_count(all.len())?;
        Ok(all)
    }

    fn complete(&mut self, beats: &mut [&mut Heartbeat]) -> Result<(), StoreError> {
        let paths: Vec<Path> = beats.iter().map(|beat| self.beat(beat)).collect();
        let bucket = &self.bucket;
        let texts = stream::iter(paths).map(|path| async move {
            match bucket.get(&path).await {
                Ok(found) if found.meta.size > MAX_BEAT as u64 => Ok(Vec::new()),
                Ok(found) => found.bytes().await.map(|bytes| bytes.to_vec()),
                // A newer heartbeat has replaced this one since the listing.
                Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
                Err(error) => Err(error),
            }
        });
        let texts = texts.buffered(AT_ONCE).try_collect::<Vec<Vec<u8>>>();
        let texts = self.runtime.block_on(texts).map_err(|error| failure(&error))?;
        for (beat, text) in beats.iter_mut().zip(texts) {
            beat.signed =
                serde_json::from_slice::<Heartbeat>(&text).ok().and_then(|read| read.signed);
        }
        Ok(())
    }

    fn read(
        &mut self,
        wanted: &[Wanted],
        take: &mut dyn FnMut(Piece) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut wanted = wanted.iter().map(|one| self.part(one)).peekable();
        while let Some(first) = wanted.next() {
            let mut bytes = first.bytes;
            let mut parts = vec![first];
            while let Some(part) = wanted.next_if(|part| bytes + part.bytes <= BYTES_AT_ONCE) {
                bytes += part.bytes;
                parts.push(part);
            }
            for (part, lines) in self.fetched(parts)? {
                take(Piece { writer: part.writer, lines, extent: part.extent })?;
            }
        }
        Ok(())
    }

    fn write(&mut self, outgoing: &[Outgoing<'_>]) -> Result<(), StoreError> {
        outgoing.iter().try_for_each(|one| self.write_one(one))
    }

    fn lease(&mut self, name: &str, term: &Term) -> Result<Lease, StoreError> {
        self.is_store()?;
        let path = self.path(&[LEASES, &format!("{name}.json")]);
        for _ in 0..TRIES {
            let mode = match self.get(&path)? {
                Some((text, version)) => {
                    Written::held(name, &text, now())?;
                    PutMode::Update(version)
                }
                None => PutMode::Create,
            };
            if self.put(&path, Written::new(term, now()).json().into_bytes(), mode)? {
                return Ok(Lease { name: name.to_owned(), token: term.token.clone() });
            }
            // Another machine was faster.
        }
        Err(StoreError::changes_too_fast(name))
    }

    fn release(&mut self, lease: &Lease) -> Result<(), StoreError> {
        let path = self.path(&[LEASES, &format!("{}.json", lease.name)]);
        let found = self.get(&path)?;
        let written =
            found.as_ref().and_then(|(text, _)| serde_json::from_slice::<Written>(text).ok());
        match (written, found) {
            (Some(mut written), Some((_, version))) if written.token == lease.token => {
                // The lease is not deleted: a deletion has no condition, and another machine may have the lease by now.
                written.until = 0;
                match self.put(&path, written.json().into_bytes(), PutMode::Update(version))? {
                    true => Ok(()),
                    false => self.release(lease),
                }
            }
            // Another machine took the lease and gave it back.
            (Some(written), _) if written.until <= now() => {
                Err(StoreError::LeaseLost(lease.name.clone()))
            }
            (Some(written), _) => Err(written.error(&lease.name, now())),
            (None, _) => Err(StoreError::LeaseLost(lease.name.clone())),
        }
    }
}

impl Segment {
    fn of(meta: &ObjectMeta) -> Self {
        let tag = match &meta.e_tag {
            Some(tag) => tag.trim_matches('"').to_owned(),
            None => format!("{}-{}", meta.size, meta.last_modified.timestamp_micros()),
        };
        Self { tag, size: meta.size }
    }
}

/// The number and the tag in a mark.
fn marked(mark: &str) -> Option<(u64, &str)> {
    let (name, tag) = mark.split_once('-')?;
    Some((number(name)?, tag))
}

/// The number in the name of a segment.
fn number(name: &str) -> Option<u64> {
    let is_number = name.len() == 10 && name.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| name.parse().ok()).flatten()
}

/// The heartbeat that the name of an object describes.
fn named_beat(writer: &WriterName, name: &str) -> Option<Heartbeat> {
    let mut parts = name.splitn(4, '-');
    let number = parts.next()?.parse().ok()?;
    let at = parts.next()?.parse().ok()?;
    let events = parts.next()?.parse().ok()?;
    let last = parts.next()?.to_owned();
    Some(Heartbeat {
        writer: writer.to_string(),
        number,
        at,
        events,
        last,
        seen: BTreeMap::new(),
        signed: None,
    })
}
