//! Object storage that speaks S3: for each writer immutable segments, each made with `If-None-Match`.
//!
//! ```text
//! PREFIX/hpkp-store                                    the marker
//! PREFIX/records/WRITER/NUMBER.jsonl                   lines that were added by one write
//! PREFIX/heartbeats/WRITER/NUMBER-AT-EVENTS-LAST.json  the name says all that readers need
//! PREFIX/leases/HOST.json
//! ```
//!
//! So a listing tells what has changed, and nothing that has been read is read again.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hpkp_core::published::WriterName;
use hpkp_core::published::file::MAX_FILE;
use hpkp_core::text::Excerpt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    ClientOptions, ObjectStore as _, ObjectStoreExt as _, PutMode, RetryConfig, UpdateVersion,
};
use tokio::runtime::{Builder, Runtime};
use url::Url;

use super::contract::{
    Extent, MARKER, MAX_BEAT, MAX_WRITERS, Options, Outgoing, Piece, Remote, Store, Wanted,
    check_marker,
};
use super::error::{StoreError, VERSION};
use super::lease::{Lease, Term, Written};
use crate::heartbeat::Heartbeat;
use crate::now;

const RECORDS: &str = "records";
const BEATS: &str = "heartbeats";
const LEASES: &str = "leases";

/// How many objects are read at a time.
const AT_ONCE: usize = 16;

/// A store in a bucket.
pub(super) struct ObjectsStore {
    runtime: Runtime,
    bucket: AmazonS3,
    prefix: Path,
}

impl ObjectsStore {
    pub(super) fn open(url: &Url, options: &Options) -> Result<Self, StoreError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| StoreError::Failed(hpkp_cli::sync::os(&error)))?;
        let name = url.host_str().unwrap_or_default();
        let prefix = Path::from_url_path(url.path())
            .map_err(|_| StoreError::Failed("invalid prefix in the URL of the store".to_owned()))?;
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(name);
        for (name, value) in url.query_pairs() {
            builder = match &*name {
                "region" => builder.with_region(value),
                "endpoint" => builder.with_endpoint(value),
                other => {
                    return Err(StoreError::Failed(format!(
                        "unsupported parameter {other} of the store"
                    )));
                }
            };
        }
        if let Some(secret) = url.password() {
            builder = builder.with_access_key_id(url.username()).with_secret_access_key(secret);
        }
        let endpoint = std::env::var("AWS_ENDPOINT_URL").or_else(|_| std::env::var("AWS_ENDPOINT"));
        let is_local = endpoint.is_ok_and(|text| {
            let url = Url::parse(&text).ok();
            let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
            ["127.0.0.1", "[::1]", "localhost"].contains(&host)
        });
        let retry = RetryConfig {
            max_retries: 3,
            retry_timeout: options.timeout,
            ..RetryConfig::default()
        };
        let client = ClientOptions::new()
            .with_timeout(options.timeout)
            .with_connect_timeout(options.timeout)
            .with_allow_http(
                is_local || std::env::var("AWS_ALLOW_HTTP").is_ok_and(|value| value == "true"),
            );
        let bucket = builder.with_client_options(client).with_retry(retry).build();
        Ok(Self { runtime, bucket: bucket.map_err(|error| failure(&error))?, prefix })
    }

    fn path(&self, names: &[&str]) -> Path {
        names.iter().fold(self.prefix.clone(), |path, name| path.join(*name))
    }

    /// Where a heartbeat is.
    fn beat(&self, beat: &Heartbeat) -> Path {
        let name = format!("{:020}-{}-{}-{}.json", beat.number, beat.at, beat.events, beat.last);
        self.path(&[BEATS, &beat.writer, &name])
    }

    fn segment(&self, writer: &WriterName, number: u64) -> Path {
        self.path(&[RECORDS, writer.as_str(), &format!("{number:010}.jsonl")])
    }

    /// An object, up to a limit; none where there is none.
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

    /// Writes an object; false where it is not in the state that the mode demands.
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

    /// The names below a prefix: the writer, and the name without its end.
    fn names(&self, kind: &str, suffix: &str) -> Result<Vec<(WriterName, String)>, StoreError> {
        let prefix = self.path(&[kind]);
        let listed = self.runtime.block_on(async {
            let found = self.bucket.list(Some(&prefix));
            found.map_ok(|meta| meta.location).try_collect::<Vec<Path>>().await
        });
        let listed = listed.map_err(|error| failure(&error))?;
        let named = listed.iter().filter_map(|path| {
            let mut parts = path.prefix_match(&prefix)?;
            let writer = parts.next()?.as_ref().parse().ok()?;
            let name = parts.next()?.as_ref().strip_suffix(suffix)?.to_owned();
            parts.next().is_none().then_some((writer, name))
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
            let next = number(one.mark).map_or(0, |last| last + 1);
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
        // The older ones say nothing any more.
        self.runtime.block_on(async {
            let found = self.bucket.list(Some(&directory)).map_ok(|meta| meta.location);
            let found: Vec<Path> = found.try_collect().await.map_err(|error| failure(&error))?;
            for old in found.iter().filter(|old| **old < path) {
                self.bucket.delete(old).await.map_err(|error| failure(&error))?;
            }
            Ok(())
        })
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
        // Heartbeats first: the records then are at least as new.
        for (writer, name) in self.names(BEATS, ".json")? {
            let remote = all.entry(writer.clone()).or_default();
            let beat =
                named_beat(&writer, &name).ok_or_else(|| "its heartbeat is invalid".to_owned());
            remote.beat = match (remote.beat.take(), beat) {
                (Some(Ok(old)), Ok(new)) if old.number > new.number => Some(Ok(old)),
                (_, beat) => Some(beat),
            };
        }
        let mut counts = BTreeMap::<WriterName, (u64, u64)>::new();
        for (writer, name) in self.names(RECORDS, ".jsonl")? {
            let Some(number) = number(&name) else { continue };
            let (count, last) = counts.entry(writer).or_default();
            *count += 1;
            *last = number.max(*last);
        }
        for (writer, (count, last)) in counts {
            let remote = all.entry(writer).or_default();
            remote.mark = format!("{last:010}");
            if count != last + 1 {
                remote.fault = Some(format!(
                    "{} of its segments are missing",
                    (last + 1).saturating_sub(count)
                ));
            }
        }
        if all.len() > MAX_WRITERS {
            return Err(StoreError::TooMuch(format!(
                "the store has more than {MAX_WRITERS} writers"
            )));
        }
        Ok(all)
    }

    fn complete(&mut self, beats: &mut [&mut Heartbeat]) -> Result<(), StoreError> {
        let paths: Vec<Path> = beats.iter().map(|beat| self.beat(beat)).collect();
        let bucket = &self.bucket;
        let texts = stream::iter(paths).map(|path| async move {
            match bucket.get(&path).await {
                Ok(found) if found.meta.size > MAX_BEAT as u64 => Ok(Vec::new()),
                Ok(found) => found.bytes().await.map(|bytes| bytes.to_vec()),
                // Another one has taken its place since the listing.
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
        let numbers = |one: &Wanted| {
            let last = number(&one.mark);
            // A store that went back is read from the beginning.
            let known = number(&one.known).filter(|known| last.is_some_and(|last| *known <= last));
            let first = known.map_or(0, |known| known + 1);
            first..last.map_or(first, |last| last + 1)
        };
        let this = &*self;
        let parts = wanted.iter().enumerate().flat_map(|(index, one)| {
            numbers(one).map(move |number| (index, this.segment(&one.writer, number)))
        });
        let runtime = &self.runtime;
        let bucket = &self.bucket;
        let mut parts = stream::iter(parts)
            .map(|(index, path)| async move {
                match bucket.get(&path).await {
                    Ok(found) if found.meta.size > MAX_FILE as u64 => {
                        Err(StoreError::TooMuch(format!("{path} is larger than {MAX_FILE} bytes")))
                    }
                    Ok(found) => {
                        let bytes = found.bytes().await.map_err(|error| failure(&error))?;
                        Ok((index, bytes))
                    }
                    // The listing has said so already.
                    Err(object_store::Error::NotFound { .. }) => Ok((index, Default::default())),
                    Err(error) => Err(failure(&error)),
                }
            })
            .buffered(AT_ONCE);
        let mut next = runtime.block_on(parts.next()).transpose()?;
        for (index, one) in wanted.iter().enumerate() {
            let mut lines = Vec::new();
            while let Some((_, bytes)) = next.take_if(|(found, _)| *found == index) {
                lines.extend(&bytes[..]);
                if lines.len() > MAX_FILE {
                    lines.truncate(MAX_FILE + 1);
                }
                next = runtime.block_on(parts.next()).transpose()?;
            }
            let extent = if numbers(one).start == 0 { Extent::Whole } else { Extent::Behind };
            take(Piece { writer: one.writer.clone(), lines, extent })?;
        }
        Ok(())
    }

    fn write(&mut self, outgoing: &[Outgoing<'_>]) -> Result<(), StoreError> {
        outgoing.iter().try_for_each(|one| self.write_one(one))
    }

    fn lease(&mut self, name: &str, term: &Term) -> Result<Lease, StoreError> {
        self.is_store()?;
        let path = self.path(&[LEASES, &format!("{name}.json")]);
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
        let text = self.get(&path)?.map(|(text, _)| text).unwrap_or_default();
        Written::held(name, &text, now())?;
        Err(StoreError::Failed(format!("the lease of {name} changes too fast")))
    }

    fn release(&mut self, lease: &Lease) -> Result<(), StoreError> {
        let path = self.path(&[LEASES, &format!("{}.json", lease.name)]);
        let found = self.get(&path)?;
        let written =
            found.as_ref().and_then(|(text, _)| serde_json::from_slice::<Written>(text).ok());
        match (written, found) {
            (Some(mut written), Some((_, version))) if written.token == lease.token => {
                // Not deleted: a deletion has no condition, and the lease may be another's by now.
                written.until = 0;
                match self.put(&path, written.json().into_bytes(), PutMode::Update(version))? {
                    true => Ok(()),
                    false => self.release(lease),
                }
            }
            (Some(written), _) => Err(written.error(&lease.name, now())),
            (None, _) => {
                Err(StoreError::Failed(format!("the lease of {} has vanished", lease.name)))
            }
        }
    }
}

/// The number in the name of a segment, which is the mark of the newest, too.
fn number(name: &str) -> Option<u64> {
    let is_number = name.len() == 10 && name.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| name.parse().ok()).flatten()
}

/// A heartbeat, as its name says it.
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

fn failure(error: &object_store::Error) -> StoreError {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    // The innermost is what went wrong; the others repeat it.
    while let Some(one) = cause {
        text = one.to_string();
        cause = one.source();
    }
    let text = hpkp_cli::sync::os(&std::io::Error::other(text));
    let text = Excerpt::new(text.lines().next().unwrap_or_default()).to_string();
    match error {
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => StoreError::Denied(text),
        _ => StoreError::Failed(text),
    }
}
