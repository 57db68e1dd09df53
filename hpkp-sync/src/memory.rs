//! What has been carried to and from a store: the file `hpkp-sync-…` of a directory for records, one for each store.
//! If it is lost, everything is compared anew.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::disk;
use crate::store::Place;

const VERSION: u32 = 1;
const MAX_FILE: u64 = 128 << 20;

/// What has been carried.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    v: u32,
    /// The store, for whoever looks at the file.
    store: String,
    /// The writers of this machine.
    pub(crate) own: BTreeMap<String, Carried>,
    /// The others.
    pub(crate) peers: BTreeMap<String, Carried>,
}

/// How far the records of a writer have been carried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Carried {
    /// The state of the store.
    pub(crate) mark: String,
    /// The number and the id of the newest event.
    pub(crate) seq: u64,
    pub(crate) last: String,
    /// How many events there are.
    pub(crate) events: u64,
    /// Of a writer of this machine: the number of its last heartbeat. Of another: the length of its copy.
    pub(crate) number: u64,
    /// The number of its newest heartbeat in this store that counted.
    #[serde(default)]
    pub(crate) beat: u64,
    /// Of another writer: which records its signature stood for, by their SHA-256. Empty where none was asked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) signed: String,
}

impl Memory {
    /// Where it is for a store.
    pub(crate) fn path(directory: &Path, place: &Place) -> PathBuf {
        let digest = Sha256::digest(place.to_string());
        let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        directory.join(format!("hpkp-sync-{name}"))
    }

    /// Reads it. One that is missing or damaged is as good as none.
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

    /// Writes it.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        disk::replace(path, &serde_json::to_vec(self)?, disk::Access::Owner)
    }
}
