//! What has been copied to and from a store: the file `hpkp-sync-…` of a directory for records, one for each store.
//! If the file is lost, the next pass compares all records again.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::disk;
use crate::store::Place;

const VERSION: u32 = 1;
const MAX_FILE: u64 = 128 << 20;

/// What has been copied to and from one store.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    v: u32,
    /// The store; a file of another store is not used.
    store: String,
    /// The writers of this machine.
    pub(crate) own: BTreeMap<String, Carried>,
    /// The writers of other machines.
    pub(crate) peers: BTreeMap<String, Carried>,
}

/// How far the records of a writer have been copied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Carried {
    /// The state of these records in the store.
    pub(crate) mark: String,
    /// The number and the id of the newest event.
    pub(crate) seq: u64,
    pub(crate) last: String,
    /// How many events the writer has.
    pub(crate) events: u64,
    /// For a writer of this machine: the number of its last heartbeat. For another writer: the length of its copy.
    pub(crate) number: u64,
    /// The number of the writer's newest accepted heartbeat in this store.
    #[serde(default)]
    pub(crate) beat: u64,
    /// For another writer: the SHA-256 of the records that its signature covers. Empty where none was required.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) signed: String,
}

impl Memory {
    /// The path of the file for a store.
    pub(crate) fn path(directory: &Path, place: &Place) -> PathBuf {
        let digest = Sha256::digest(place.to_string());
        let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        directory.join(format!("hpkp-sync-{name}"))
    }

    /// Reads the file. A missing or damaged file gives an empty memory.
    pub(crate) fn read(path: &Path, place: &Place) -> Self {
        let mut bytes = Vec::new();
        let read = disk::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
        let read = read.ok().and_then(|_| serde_json::from_slice::<Self>(&bytes).ok());
        let store = place.to_string();
        match read {
            Some(memory) if memory.v == VERSION && memory.store == store => memory,
            _ => Self { v: VERSION, store, ..Self::default() },
        }
    }

    /// Writes the file.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        disk::replace(path, &serde_json::to_vec(self)?, disk::Access::Owner)
    }
}
