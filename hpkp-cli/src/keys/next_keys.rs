//! The record of next keys: the keys that wait until all clients know their pins.
//!
//! The record is the file `hpkp-next-keys` in a directory of records. It does not contain when a key may be
//! used, because this follows from the records of pins.

use std::path::{Path, PathBuf};

use hpkp_core::date;
use hpkp_core::pin::Pin;
use hpkp_core::published::{HostName, Slot};
use serde::{Deserialize, Serialize};

use super::ledger::{self, LedgerError};

/// The name of the file in a directory of records.
pub(crate) const FILE: &str = "hpkp-next-keys";

const VERSION: u32 = 1;

/// A next key, which may have been handed over already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NextKey {
    pub(crate) host: HostName,
    pub(crate) pin: Pin,
    /// The kind of key, such as `ECDSA P-256`.
    pub(crate) kind: String,
    /// The file of the private key.
    pub(crate) file: PathBuf,
    /// When the key was made or taken, in seconds since 1970 UTC.
    pub(crate) made: i64,
    /// When the key was last handed over.
    pub(crate) handed_over: Option<i64>,
}

/// An event of a next key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Happened {
    /// The key is about to be written, or an existing one was taken.
    Made,
    /// The key or its request was handed over to the ACME client.
    HandedOver,
    /// The key will not be used.
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

/// A parsed line.
#[derive(Debug)]
struct Entry {
    at: i64,
    host: HostName,
    pin: Pin,
    what: Happened,
    kind: Option<String>,
    file: Option<PathBuf>,
}

/// The next keys of a directory's record, including those that were handed over, in the order in which they
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
                // Existing files are never overwritten, so an earlier key with the same file was never
                // written.
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

/// Appends the result of `happened`, if there is one, and calls `then`, under a lock against other
/// processes.
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

/// The slot of a server's certificates to which a kind of key belongs. `kind` is a value of
/// [`NextKey::kind`].
pub(crate) fn kind_of(kind: &str) -> Option<Slot> {
    match kind {
        "ECDSA P-256" | "ECDSA P-384" => Some(Slot::Ec),
        "Ed25519" => Some(Slot::Ed25519),
        "Ed448" => Some(Slot::Ed448),
        _ if kind.starts_with("RSA ") => Some(Slot::Rsa),
        _ => None,
    }
}

/// Whether two kinds of keys, as in [`NextKey::kind`], belong to the same slot.
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
