//! When other machines were last heard from: the file `hpkp-heard`, which `hpkp sync` keeps.

use std::collections::BTreeSet;
use std::io;

use hpkp_core::check::HeardFile;
use hpkp_core::published::WriterName;
use hpkp_core::published::heard::{self, FILE, MAX_FILE};

use super::{Directory, MAX_NAMES, PEERS, is_of_records, sys, writer_of};
use crate::file::{if_there, reason};

impl Directory {
    /// The path of the file of heartbeats.
    #[must_use]
    pub fn heard_path(&self) -> String {
        self.path_text(FILE)
    }

    /// When other machines were last heard from.
    #[must_use]
    pub fn heard(&self) -> HeardFile {
        // A user who can write the file can make a silent machine seem alive.
        match self.trusted(FILE, MAX_FILE) {
            Ok(bytes) => match heard::read(&bytes) {
                Ok(all) => HeardFile::Read(all),
                Err(error) => HeardFile::Unusable(error.to_string()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => HeardFile::Missing,
            Err(error) => HeardFile::Unusable(reason(&error)),
        }
    }

    /// The writers of other machines with a copy in this directory.
    ///
    /// # Errors
    /// The system's.
    pub fn peers(&self) -> io::Result<BTreeSet<WriterName>> {
        let Some(peers) = if_there(sys::open_directory_at(&self.file, PEERS))? else {
            return Ok(BTreeSet::new());
        };
        let names = sys::names(&peers, MAX_NAMES, is_of_records)?;
        Ok(names.iter().filter_map(|name| writer_of(name)).collect())
    }
}
