//! The files of a configuration: on the disk, or in a dump that contains all of them.

use std::collections::BTreeMap;
use std::io::ErrorKind::NotFound;
use std::path::Path;

use glob::{MatchOptions, Pattern};
use hpkp_core::finding::{Finding, Location};
use hpkp_core::text::Excerpt;

use super::problem::{Read, invalid, unreadable};
use crate::input::{self, InputError};
use crate::output;

/// The largest file of a configuration, in bytes.
pub(super) const MAX_FILE: usize = 16 << 20;

/// The most files of a configuration.
pub(super) const MAX_FILES: usize = 20_000;

/// The most bytes of all files together.
const MAX_TOTAL: usize = 256 << 20;

/// How deep files may include each other, and how deep blocks may be nested.
pub(super) const MAX_DEPTH: usize = 64;

/// The rules of the servers' `fnmatch`: a star matches no slash and no leading dot.
const MATCH: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// The source of the files.
#[derive(Debug)]
pub(super) enum Source {
    /// On the disk.
    Disk,
    /// In one text, by their names.
    Dump(BTreeMap<String, Vec<u8>>),
}

/// Why a file was not read.
#[derive(Debug)]
pub(super) struct Unread {
    /// Whether the server would not read the file either. If false, the server may have permissions that
    /// the command lacks.
    is_wrong: bool,
    why: String,
}

impl Unread {
    /// The finding for the directive at `at`, which includes or names the file.
    pub(super) fn finding(&self, path: &str, at: &Location) -> Box<Finding> {
        let text = format!("cannot include \"{}\": {}", Excerpt::new(path), self.why);
        if self.is_wrong { invalid(at, text) } else { unreadable(at, text) }
    }
}

/// Reads files, and counts them for the limits.
#[derive(Debug)]
pub(super) struct Files {
    source: Source,
    count: usize,
    total: usize,
}

impl Files {
    pub(super) const fn new(source: Source) -> Self {
        Self { source, count: 0, total: 0 }
    }

    /// The content of a file.
    pub(super) fn read(&mut self, path: &str) -> Result<Vec<u8>, Unread> {
        let wrong = |why: String| Unread { is_wrong: true, why };
        let unknown = |why: String| Unread { is_wrong: false, why };
        let bytes = match &self.source {
            Source::Disk => named(path).map_err(|error| {
                let is_wrong = matches!(&error, InputError::Io(error) if error.kind() == NotFound);
                Unread { is_wrong, why: error.to_string() }
            })?,
            Source::Dump(files) => {
                let found = files.get(path).cloned();
                found.ok_or_else(|| wrong("the dump does not contain this file".to_owned()))?
            }
        };
        self.count += 1;
        self.total = self.total.saturating_add(bytes.len());
        if self.count > MAX_FILES {
            return Err(unknown(format!("the configuration includes more than {MAX_FILES} files")));
        }
        if self.total > MAX_TOTAL {
            return Err(unknown(format!(
                "the configuration is larger than {} MiB",
                MAX_TOTAL >> 20
            )));
        }
        if bytes.contains(&0) {
            return Err(wrong("contains null bytes, so it is not a text".to_owned()));
        }
        Ok(bytes)
    }

    /// The files of an `include` argument: one file, or those that match a mask.
    pub(super) fn included(&self, path: String, at: &Location) -> Read<Vec<String>> {
        if !is_mask(&path) {
            return Ok(vec![path]);
        }
        let shown = Excerpt::new(&path);
        self.matching(&path)
            .map_err(|why| unreadable(at, format!("cannot include \"{shown}\": {why}")))
    }

    /// The files that match a mask, sorted; empty if none matches.
    pub(super) fn matching(&self, mask: &str) -> Result<Vec<String>, String> {
        let invalid = |error: glob::PatternError| format!("invalid mask: {}", error.msg);
        match &self.source {
            Source::Dump(files) => {
                let pattern = Pattern::new(mask).map_err(invalid)?;
                let is_meant = |path: &&String| pattern.matches_with(path, MATCH);
                Ok(files.keys().filter(is_meant).cloned().collect())
            }
            Source::Disk => {
                let mut paths = Vec::new();
                for found in glob::glob_with(mask, MATCH).map_err(invalid)? {
                    let path = found.map_err(|error| {
                        let why = output::os(error.error());
                        format!("cannot read \"{}\": {why}", output::path(error.path()))
                    })?;
                    paths.extend(path.to_str().map(str::to_owned));
                    if paths.len() > MAX_FILES {
                        return Err(format!("the pattern matches more than {MAX_FILES} files"));
                    }
                }
                Ok(paths)
            }
        }
    }

    /// Whether a path is a directory. `Include` of a directory includes the files in it.
    pub(super) fn is_directory(&self, path: &str) -> bool {
        matches!(self.source, Source::Disk) && Path::new(path).is_dir()
    }

    /// Whether there is such a file.
    pub(super) fn exists(&self, path: &str) -> bool {
        match &self.source {
            Source::Disk => Path::new(path).exists(),
            Source::Dump(files) => files.contains_key(path) || Path::new(path).exists(),
        }
    }
}

/// Reads a file of a configuration. A FIFO is refused, because the command would wait for its writer.
fn named(path: &str) -> Result<Vec<u8>, InputError> {
    Ok(input::found(Path::new(path), MAX_FILE)?.to_vec())
}

/// Whether a path is a mask.
pub(super) fn is_mask(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// A path, resolved from `directory`.
pub(super) fn full_path(directory: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    let directory = directory.strip_suffix('/').unwrap_or(directory);
    format!("{directory}/{path}")
}

/// The absolute path of a file's directory.
pub(super) fn directory_of(path: &str) -> String {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let directory = full.parent().unwrap_or(&full);
    directory.to_str().unwrap_or(".").to_owned()
}
