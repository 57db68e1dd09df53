//! `hpkp published compact`: removes records that expired long ago.

use hpkp_core::date;
use hpkp_core::published::{State, WriterName, compact};
use hpkp_server::published::{self, Compacted, DirectoryError, SUFFIX};
use serde::Serialize;

use super::store::{Store, failure, shown};
use crate::arguments::CompactArguments;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, JSON_VERSION};
use crate::time;

/// The result for a writer's file.
#[derive(Debug, Serialize)]
struct File {
    writer: String,
    /// The number of lines before and after.
    before: usize,
    after: usize,
}

pub(super) fn run(
    store: &Store,
    arguments: &CompactArguments,
    json: bool,
) -> Result<Exit, Failure> {
    let writers = match &arguments.writers[..] {
        [] => own(store)?,
        named => named.to_vec(),
    };
    let (mut files, mut exit) = (Vec::new(), Exit::Fine);
    for writer in &writers {
        match one(store, writer, arguments.dry_run) {
            Ok(Some(file)) => files.push(file),
            // A copy of another machine's file is compacted on that machine.
            Ok(None) if arguments.writers.is_empty() => {}
            Ok(None) => {
                exit = exit.and(Exit::No);
                output::complain(&format!(
                    "{writer}: not changed: the file was made on another machine"
                ));
            }
            Err(failure) => {
                exit = exit.and(failure.exit);
                output::complain(&failure.text);
            }
        }
    }
    let written = if json {
        let (v, dry_run) = (JSON_VERSION, arguments.dry_run);
        output::json(&serde_json::json!({ "v": v, "dry_run": dry_run, "files": files }))
    } else {
        let would = if arguments.dry_run { "would be " } else { "" };
        files.iter().try_for_each(|File { writer, before, after }| {
            let gone = before - after;
            output::line(&format!("{writer}: {gone} of {before} lines {would}removed"))
        })
    };
    Ok(output::ended(exit, written))
}

/// The writers with a file in the directory itself.
fn own(store: &Store) -> Result<Vec<WriterName>, Failure> {
    let path = store.first()?.path();
    let unread = |error: std::io::Error| {
        Failure::undetermined(format!("{}: {}", shown(path), output::os(&error)))
    };
    let mut writers = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unread)? {
        let name = entry.map_err(unread)?.file_name();
        let writer = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        writers.extend(writer.and_then(|writer| writer.parse().ok()));
    }
    writers.sort();
    Ok(writers)
}

/// Compacts one file; `None` if it is a copy of another machine's file.
fn one(store: &Store, writer: &WriterName, dry_run: bool) -> Result<Option<File>, Failure> {
    let directory = store.first()?;
    let mut refused = None;
    let done = published::compact(directory, writer, dry_run, |events| {
        // The state is read under the lock, so that no event is missed.
        match store.contents().and_then(|contents| clock(contents.state)) {
            Ok((state, now)) => compact::needed(events, &state, writer, now),
            Err(failure) => {
                refused = Some(failure);
                vec![true; events.len()]
            }
        }
    });
    match (refused, done) {
        (Some(failure), _) => Err(failure),
        (None, Ok(Compacted { before, after })) => {
            Ok(Some(File { writer: writer.to_string(), before, after }))
        }
        (None, Err(DirectoryError::Copied(_))) => Ok(None),
        (None, Err(error)) => Err(failure(directory.path(), &error)),
    }
}

/// The present time. If it is before the newest record, the clock is wrong, and nothing must count as
/// expired.
fn clock(state: State) -> Result<(State, i64), Failure> {
    let now = time::now();
    match state.latest().filter(|latest| *latest > now) {
        None => Ok((state, now)),
        Some(latest) => Err(Failure::undetermined(format!(
            "the clock is at {}, before the newest record ({}); nothing was removed; set the clock",
            date::format(now),
            date::format(latest)
        ))),
    }
}
