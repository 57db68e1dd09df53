//! Reads the copies of other machines' files by the index that `hpkp sync` writes: only the lines that concern the
//! hosts that are served here.
//!
//! A copy that has changed since it was indexed is read as a whole. All copies are read as a whole if there is no
//! index or it cannot be used. The result of the check is the same; the index only makes it faster.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use hpkp_core::check::Concern;
use hpkp_core::published::WriterName;
use hpkp_core::published::index::{
    FILE, Index, IndexError, MAX_FILE, Place, Section, Stamp, event,
};

use super::{Directory, DirectoryError, PIECE, Reading, regular, sys};
use crate::file::{if_there, reason};

/// The state of a file, to compare with that in the index.
#[must_use]
pub fn stamp(metadata: &Metadata) -> Stamp {
    Stamp {
        inode: metadata.ino(),
        length: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}

impl Directory {
    /// The path of the index.
    #[must_use]
    pub fn index_path(&self) -> String {
        self.path_text(FILE)
    }

    /// The content of the index; `None` if it does not exist.
    ///
    /// # Errors
    /// Why it must not be used.
    pub(super) fn index(&self) -> Result<Option<Vec<u8>>, String> {
        // A user who can write the index can leave records out.
        if_there(self.trusted(FILE, MAX_FILE)).map_err(|error| reason(&error))
    }
}

/// The copies that will be read by the index, while the others are read as a whole.
pub(super) struct Listed<'i> {
    index: Index<'i>,
    stamps: HashMap<WriterName, Stamp>,
    concern: Concern,
    files: Vec<(String, WriterName)>,
}

impl<'i> Listed<'i> {
    pub(super) fn new(bytes: &'i [u8], concern: Concern) -> Result<Self, IndexError> {
        let index = Index::open(bytes)?;
        let sections = index.sections()?.into_iter();
        let stamps = sections.map(|(writer, stamp, _)| (writer, stamp)).collect();
        Ok(Self { index, stamps, concern, files: Vec::new() })
    }

    /// Whether a copy is unchanged since it was indexed, so that it can be read by the index.
    pub(super) fn takes(&mut self, file: &File, name: &str, writer: &WriterName) -> bool {
        let looks = file.metadata().ok().map(|metadata| stamp(&metadata));
        let is_it = looks.is_some() && looks.as_ref() == self.stamps.get(writer);
        if is_it {
            self.files.push((name.to_owned(), writer.clone()));
        }
        is_it
    }
}

/// Why copies cannot be read by the index.
pub(super) enum Trouble {
    Index(IndexError),
    Directory(DirectoryError),
}

impl From<IndexError> for Trouble {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

impl From<DirectoryError> for Trouble {
    fn from(error: DirectoryError) -> Self {
        Self::Directory(error)
    }
}

impl Reading<'_> {
    /// Reads the lines of `listed`, after all other copies have been read.
    pub(super) fn read_listed(
        &mut self,
        directory: &File,
        path: &str,
        mut listed: Listed<'_>,
    ) -> Result<(), Trouble> {
        let mut is_first = true;
        loop {
            let Listed { index, concern, .. } = &mut listed;
            concern.complete(&self.contents.state, *index)?;
            let mut sections = index.read(|host, by_port| concern.has(host, by_port))?;
            // The summaries are added only once: repeated events would look as if a clock had gone back.
            if std::mem::replace(&mut is_first, false) {
                for (_, writer) in &listed.files {
                    let Some(section) = sections.get(writer) else { continue };
                    self.contents.state.take_summary(writer, &section.summary);
                }
            }
            let changed =
                self.take_all(directory, path, &listed.files, &mut sections, |section| {
                    std::mem::take(&mut section.places)
                })?;
            if changed.is_empty() {
                let known = self.contents.state.prefixes();
                // Events that end or waive other writers' records are needed only if these records were read.
                let foreign = |section: &mut Section| match section.speaks_of(&known) {
                    true => std::mem::take(&mut section.rest),
                    false => Vec::new(),
                };
                self.take_all(directory, path, &listed.files, &mut sections, foreign)?;
                return Ok(());
            }
            // The copies that were read as a whole meanwhile may contain other hosts.
            listed.files.retain(|file| !changed.contains(file));
        }
    }

    /// Reads some lines of each copy, and returns the copies that had to be read as a whole.
    fn take_all(
        &mut self,
        directory: &File,
        path: &str,
        files: &[(String, WriterName)],
        sections: &mut HashMap<WriterName, Section>,
        places: impl Fn(&mut Section) -> Vec<Place>,
    ) -> Result<Vec<(String, WriterName)>, Trouble> {
        let mut changed = Vec::new();
        for (name, writer) in files {
            let Some(section) = sections.get_mut(writer) else { continue };
            let places = places(section);
            if places.is_empty() {
                continue;
            }
            let file_path = format!("{path}/{name}");
            let file = match sys::open_at(directory, name).and_then(regular) {
                Ok(file) => file,
                Err(error) => {
                    self.errors.push(DirectoryError::File(file_path, error));
                    self.contents.state.unread(writer.clone());
                    continue;
                }
            };
            match self.take_lines(&file, &places, (&section.stamp, writer), path)? {
                Some(()) => {}
                None => {
                    self.file(file, file_path, writer.clone(), path)?;
                    changed.push((name.clone(), writer.clone()));
                }
            }
        }
        Ok(changed)
    }

    /// Reads lines of a copy; `None` if it is not the copy that was indexed.
    fn take_lines(
        &mut self,
        file: &File,
        places: &[Place],
        (stamped, writer): (&Stamp, &WriterName),
        path: &str,
    ) -> Result<Option<()>, DirectoryError> {
        let looks = file.metadata().ok().map(|metadata| stamp(&metadata));
        if looks.as_ref() != Some(stamped) {
            return Ok(None);
        }
        let mut rest = places;
        while let [first, ..] = rest {
            // Consecutive lines are read at once.
            let mut end = first.start;
            let follow = rest.iter().take_while(|place| {
                let follows = place.start == end && end - first.start < PIECE as u64;
                end = if follows {
                    place.start.saturating_add(place.length).saturating_add(1)
                } else {
                    end
                };
                follows
            });
            let count = follow.count();
            if end > stamped.length {
                return Ok(None);
            }
            let (lines, after) = rest.split_at(count);
            self.bytes = self.bytes.saturating_add((end - first.start) as usize);
            if self.bytes > self.limits.bytes {
                return Err(DirectoryError::TooLarge(path.to_owned(), self.limits.bytes));
            }
            let mut bytes = vec![0; (end - first.start) as usize];
            if file.read_exact_at(&mut bytes, first.start).is_err() {
                return Ok(None);
            }
            for place in lines {
                let start = (place.start - first.start) as usize;
                let line = &bytes[start..start + place.length as usize];
                let is_whole = bytes.get(start + line.len()) == Some(&b'\n');
                match event(line, writer) {
                    Ok(event) if is_whole => self.contents.state.take_listed(event),
                    _ => return Ok(None),
                }
            }
            rest = after;
        }
        Ok(Some(()))
    }
}
