//! When other machines were last heard of: the file `hpkp-heard`, which `hpkp sync` keeps.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;

use hpkp_core::check::HeardFile;
use hpkp_core::published::WriterName;
use hpkp_core::published::heard::{self, FILE, MAX_FILE};

use super::{Directory, MAX_NAMES, PEERS, Unsafe, is_of_records, regular, sys, writer_of};
use crate::file::reason;

impl Directory {
    /// The path of the file that says when other machines were last heard of.
    #[must_use]
    pub fn heard_path(&self) -> String {
        self.shown(FILE)
    }

    /// When other machines were last heard of.
    #[must_use]
    pub fn heard(&self) -> HeardFile {
        match self.heard_bytes() {
            Ok(bytes) => match heard::read(&bytes) {
                Ok(all) => HeardFile::Read(all),
                Err(error) => HeardFile::Unusable(error.to_string()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => HeardFile::Missing,
            Err(error) => HeardFile::Unusable(reason(&error)),
        }
    }

    fn heard_bytes(&self) -> io::Result<Vec<u8>> {
        let file = regular(sys::open_at(&self.file, FILE)?)?;
        // Whoever can write it can make a silent machine seem to speak.
        let metadata = file.metadata()?;
        if metadata.uid() != 0 && metadata.uid() != sys::effective_user() {
            return Err(io::Error::other(Unsafe::Owner.to_string()));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(io::Error::other(Unsafe::Mode.to_string()));
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The other machines' writers of whom there is a copy.
    ///
    /// # Errors
    /// The system's.
    pub fn peers(&self) -> io::Result<BTreeSet<WriterName>> {
        let peers = match sys::open_directory_at(&self.file, PEERS) {
            Ok(peers) => peers,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(error),
        };
        let names = sys::names(&peers, MAX_NAMES, is_of_records)?;
        Ok(names.iter().filter_map(|name| writer_of(name)).collect())
    }
}
