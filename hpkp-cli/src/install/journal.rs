//! The journal of an install. It is written before each step, so that an interrupted install can be undone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use hpkp_server::file::if_there;
use serde::{Deserialize, Serialize};

use super::durable::sync;
use super::report::Stop;
use crate::input::{self, InputError};
use crate::output;

/// The version of the format.
const VERSION: u32 = 1;
/// The largest journal, in bytes.
const MAX: usize = 1 << 20;

/// What `--to` was before the install.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Form {
    /// The path did not exist.
    #[default]
    Absent,
    /// A directory.
    Directory,
    /// A symbolic link, and its target.
    Link(PathBuf),
}

/// An install that has changed something and is not complete.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Journal {
    pub(crate) v: u32,
    pub(crate) form: Form,
    /// The digest of the old files; `None` if there were none.
    pub(crate) old: Option<String>,
    /// When the first of the old certificates expires, in seconds since 1970 UTC.
    pub(crate) old_expires: Option<i64>,
    /// The digest of the new files.
    pub(crate) new: String,
    /// The target of the link after the install.
    pub(crate) new_link: Option<PathBuf>,
    /// Whether the server's test has passed, so that the server may have loaded the new files.
    pub(crate) reloading: bool,
    /// The command that reloads the server.
    pub(crate) reload: String,
    /// The id of the system's boot. After another boot, no server runs with files that were loaded before.
    pub(crate) boot: String,
}

impl Journal {
    pub(crate) fn new(reload: &str, old_expires: Option<i64>) -> Self {
        Self { v: VERSION, reload: reload.to_owned(), boot: boot(), old_expires, ..Self::default() }
    }

    /// Whether the system has been booted since.
    pub(crate) fn is_of_another_boot(&self) -> bool {
        self.boot.is_empty() || self.boot != boot()
    }

    pub(super) fn read(state: &Path) -> Result<Option<Self>, Stop> {
        let path = state.join("journal");
        let bytes = match input::found(&path, MAX) {
            Ok(bytes) => bytes,
            Err(InputError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(unreadable(&path, &error.to_string())),
        };
        match serde_json::from_slice::<Self>(&bytes) {
            Ok(journal) if journal.v == VERSION => Ok(Some(journal)),
            Ok(journal) => Err(unreadable(&path, &format!("unknown version {}", journal.v))),
            Err(error) => Err(unreadable(&path, &error.to_string())),
        }
    }

    /// Writes the journal durably.
    pub(super) fn write(&self, state: &Path) -> Result<(), Stop> {
        let (path, new) = (state.join("journal"), state.join("journal.new"));
        let write = || {
            let _ = fs::remove_file(&new);
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            sync(state)
        };
        write().map_err(|error| Stop::io(&format!("cannot write {}", output::path(&path)), &error))
    }

    pub(super) fn remove(state: &Path) -> io::Result<()> {
        if_there(fs::remove_file(state.join("journal")))?;
        sync(state)
    }
}

fn unreadable(path: &Path, why: &str) -> Stop {
    Stop::undetermined(
        "journal-unreadable",
        format!(
            "{}: cannot read the journal of an interrupted install: {why}; check the files in place, then \
             remove the journal",
            output::path(path)
        ),
    )
}

fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}
