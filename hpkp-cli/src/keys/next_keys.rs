//! The record of next keys: which key of a host is waiting until all clients know its pin.
//!
//! A directory for records has it in a file of its own, `hpkp-next-keys`. When a key may be used is not in it: that
//! follows from the records of pins.

use std::path::{Path, PathBuf};

use hpkp_core::date;
use hpkp_core::pin::Pin;
use hpkp_core::published::{HostName, Slot};
use serde::{Deserialize, Serialize};

use super::ledger::{self, LedgerError};

/// The name of the file in a directory for records.
pub(crate) const FILE: &str = "hpkp-next-keys";

const VERSION: u32 = 1;

/// A key that waits, or has waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NextKey {
    pub(crate) host: HostName,
    pub(crate) pin: Pin,
    /// As `ECDSA P-256`.
    pub(crate) kind: String,
    /// The private key.
    pub(crate) file: PathBuf,
    /// When it was made or taken, in seconds since 1970 UTC.
    pub(crate) made: i64,
    /// When it was last handed over.
    pub(crate) handed_over: Option<i64>,
}

/// What happened to a next key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Happened {
    /// It is about to be written, or was there.
    Made,
    /// The ACME client has it, or its request.
    HandedOver,
    /// It is not going to be used.
    GivenUp,
}

/// A line of the file. Unknown members are ignored.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    v: u32,
    at: String,
    host: String,
    pin: String,
    what: Happened,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

/// One line.
#[derive(Debug)]
struct Entry {
    at: i64,
    host: HostName,
    pin: Pin,
    what: Happened,
    kind: Option<String>,
    file: Option<PathBuf>,
}

/// The keys of a directory that wait, those that were handed over included, in the order in which they
/// were made.
///
/// # Errors
/// See [`LedgerError`].
pub(crate) fn read(directory: &Path) -> Result<Vec<NextKey>, LedgerError> {
    let entries = ledger::read(&directory.join(FILE), "next key", entry)?;
    let mut keys: Vec<NextKey> = Vec::new();
    for Entry { at, host, pin, what, kind, file } in entries {
        let place = keys.iter().position(|key| key.host == host && key.pin == pin);
        match (what, place) {
            (Happened::Made, _) => {
                let (kind, file) = (kind.unwrap_or_default(), file.unwrap_or_default());
                // No file is overwritten, so an earlier key of the same file was never written.
                keys.retain(|key| key.file != file && (key.host != host || key.pin != pin));
                keys.push(NextKey { host, pin, kind, file, made: at, handed_over: None });
            }
            (Happened::HandedOver, Some(place)) => keys[place].handed_over = Some(at),
            (Happened::GivenUp, Some(place)) => drop(keys.remove(place)),
            (_, None) => {}
        }
    }
    Ok(keys)
}

/// Appends what `happened` gives, if anything, and does what comes `then`, while no other command may append.
///
/// # Errors
/// See [`LedgerError`], and those of `happened` and `then`.
pub(crate) fn append<E: From<LedgerError>>(
    directory: &Path,
    happened: impl FnOnce() -> Result<Option<(NextKey, Happened, i64)>, E>,
    then: impl FnOnce() -> Result<(), E>,
) -> Result<(), E> {
    let path = directory.join(FILE);
    let line = || {
        let Some((key, what, at)) = happened()? else { return Ok(None) };
        let is_made = what == Happened::Made;
        let line = serde_json::to_string(&Line {
            v: VERSION,
            at: date::format(at),
            host: key.host.to_string(),
            pin: format!("sha256/{}", key.pin),
            what,
            kind: is_made.then_some(key.kind),
            file: is_made.then(|| key.file.to_string_lossy().into_owned()),
        });
        line.map(Some).map_err(|error| LedgerError::Io(path.clone(), error.into()).into())
    };
    ledger::append(&path, line, then)
}

/// The place among a server's certificates that a kind of key has, as [`NextKey::kind`] calls it.
pub(crate) fn kind_of(kind: &str) -> Option<Slot> {
    match kind {
        "ECDSA P-256" | "ECDSA P-384" => Some(Slot::Ec),
        "Ed25519" => Some(Slot::Ed25519),
        "Ed448" => Some(Slot::Ed448),
        _ if kind.starts_with("RSA ") => Some(Slot::Rsa),
        _ => None,
    }
}

/// Whether two keys, called as [`NextKey::kind`] calls them, are for the same clients.
pub(crate) fn same_kind(one: &str, other: &str) -> bool {
    one == other || kind_of(one).is_some() && kind_of(one) == kind_of(other)
}

fn entry(line: &str) -> Option<Entry> {
    let line: Line = serde_json::from_str(line).ok()?;
    if line.v != VERSION {
        return None;
    }
    Some(Entry {
        at: date::parse(&line.at)?,
        host: line.host.parse().ok()?,
        pin: line.pin.parse().ok()?,
        what: line.what,
        kind: line.kind,
        file: line.file.map(PathBuf::from),
    })
}
