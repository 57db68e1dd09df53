//! Finds out whether the records have changed since they were read. A worker does this at intervals.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use hpkp_core::check::{Concern, Freshness, Records};
use hpkp_core::finding::Code;
use hpkp_core::published::{Fingerprint, heard, index};
use hpkp_core::text::Excerpt;

use crate::file::reason;
use crate::journal;
use crate::setting::RecordsSetting;

/// The interval at which a worker checks, in seconds.
const INTERVAL: i64 = 5;

/// The records of a configuration, and the state of their files when they were read.
#[derive(Debug)]
pub struct Sight {
    /// The directories, all of them read only: a worker writes no records.
    settings: Vec<RecordsSetting>,
    /// The files that only this server writes, at a start and a reload. What it publishes is in its policies.
    own: Vec<String>,
    /// Which records concern the guarded hosts.
    concern: Concern,
    state: Option<Fingerprint>,
    looked: i64,
    /// When other machines were heard from, and when that file was last examined.
    heard: Vec<Freshness>,
    heard_looked: i64,
}

impl Sight {
    /// The present state of the files in these directories, before they are read.
    #[must_use]
    pub fn new(settings: &[RecordsSetting]) -> Self {
        let own = journal::writer_of(settings);
        let own = own.map(|writer| {
            vec![
                format!("{writer}{}", crate::published::SUFFIX),
                crate::published::RESERVE.to_owned(),
            ]
        });
        let settings = settings.iter().map(|one| RecordsSetting { writer: None, ..one.clone() });
        let mut sight = Self {
            settings: settings.collect(),
            own: own.unwrap_or_default(),
            concern: Concern::all(),
            state: None,
            looked: 0,
            heard: Vec::new(),
            heard_looked: 0,
        };
        sight.state = sight.now().ok();
        sight
    }

    /// The same, for only some records.
    #[must_use]
    pub fn of(self, concern: Concern) -> Self {
        Self { concern, ..self }
    }

    /// The records, if it is time to check and their files have changed since they were last read.
    ///
    /// # Errors Why the state of the files is not known, or why they cannot be read. The records that were read before
    /// stay in use.
    pub(super) fn look(&mut self, now: i64, must_look: bool) -> Result<Option<Records>, String> {
        let is_time = must_look || !(self.looked..self.looked + INTERVAL).contains(&now);
        if self.settings.is_empty() || !is_time {
            return Ok(None);
        }
        self.looked = now;
        let state = self.now()?;
        if self.state == Some(state) {
            return Ok(None);
        }
        let Some(records) = journal::read(&self.settings, self.concern.clone(), &[]).0 else {
            return Ok(None);
        };
        let unreadable = |(code, text, _): &(Code, hpkp_core::finding::Text, _)| {
            (*code == Code::RecordsUnreadable).then(|| text.what.clone())
        };
        if let Some(why) = records.problems.iter().find_map(unreadable) {
            return Err(why);
        }
        self.state = Some(state);
        Ok(Some(records))
    }

    /// When other machines were heard from, if that has changed. The file is examined at intervals. `hpkp sync` writes
    /// it every few minutes, and the records need not be read again for that.
    pub(super) fn heard(&mut self, now: i64, must_look: bool) -> Option<Vec<Freshness>> {
        let is_asked = self.settings.iter().any(|setting| setting.max_staleness.is_some());
        let is_time =
            must_look || !(self.heard_looked..self.heard_looked + INTERVAL).contains(&now);
        if !is_asked || !is_time {
            return None;
        }
        self.heard_looked = now;
        let heard = journal::heard(&self.settings);
        if heard == self.heard {
            return None;
        }
        self.heard.clone_from(&heard);
        Some(heard)
    }

    /// The state of the files: their names, sizes and times.
    fn now(&self) -> Result<Fingerprint, String> {
        let mut all: Vec<Vec<u8>> = Vec::new();
        for setting in &self.settings {
            self.add(Path::new(&setting.path), &mut all).map_err(|error| {
                format!("cannot look into \"{}\" ({})", Excerpt::new(&setting.path), reason(&error))
            })?;
        }
        all.sort();
        Ok(Fingerprint::of(all.iter().map(Vec::as_slice)))
    }

    fn add(&self, directory: &Path, all: &mut Vec<Vec<u8>>) -> std::io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            // The files that `hpkp sync` keeps beside the records are not records.
            let is_of_sync = name.to_string_lossy().starts_with("hpkp-sync")
                || name == heard::FILE
                || name == index::FILE;
            if is_of_sync || self.own.iter().any(|own| **own == *name) {
                continue;
            }
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                if name == "peers" {
                    self.add(&entry.path(), all)?;
                }
                continue;
            }
            let mut one = entry.path().into_os_string().into_encoded_bytes();
            let times = [metadata.mtime(), metadata.mtime_nsec()];
            one.extend(times.iter().flat_map(|number| number.to_be_bytes()));
            let numbers = [metadata.size(), metadata.ino()];
            one.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
            all.push(one);
        }
        Ok(())
    }
}
