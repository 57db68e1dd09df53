//! The state of the readers for other servers.

use hpkp_core::finding::Location;

use super::super::files::{Files, MAX_DEPTH, full_path};
use super::super::options::Options;
use super::super::problem::{Problems, Read};
use super::line::{Line, lines};

/// How deep files may include each other here.
pub(super) const MAX_INCLUDES: usize = MAX_DEPTH;

/// The files that are read, and the problems that are found.
pub(super) struct Context<'a> {
    pub(super) files: Files,
    pub(super) problems: Problems,
    pub(super) directory: String,
    pub(super) options: &'a Options,
}

impl Context<'_> {
    /// A path, resolved from the directory of the configuration.
    pub(super) fn path(&self, path: &str) -> String {
        full_path(&self.directory, path)
    }

    /// The lines of the files that match a mask.
    pub(super) fn included(
        &mut self,
        mask: &str,
        at: &Location,
        is_optional: bool,
    ) -> Read<Vec<Vec<Line>>> {
        let mut all = Vec::new();
        for path in self.files.included(self.path(mask), at)? {
            match self.files.read(&path) {
                Ok(text) => all.push(lines(&path, &text)),
                Err(_) if is_optional => {}
                Err(unread) => return Err(unread.finding(&path, at)),
            }
        }
        Ok(all)
    }
}
