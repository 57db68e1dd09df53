//! Stores for one test each: they can be stopped, backed up, restored and damaged.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::succeed;

/// The address on which servers of stores listen: loopback, or the one that `ci/fleet` sets.
pub fn address() -> String {
    std::env::var("HPKP_FLEET_NETWORK").unwrap_or_else(|_| "127.0.0.1".to_owned())
}

/// A store for one test.
pub trait Engine: Send + Sync {
    /// The URL for the command.
    fn url(&self) -> String;

    /// The environment variables that the command needs.
    fn environment(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Makes the store unreachable.
    fn stop(&mut self);

    /// Makes the store reachable again.
    fn resume(&mut self);

    /// Makes a backup.
    fn back_up(&mut self);

    /// Replaces the content by the backup.
    fn restore(&mut self);

    /// Adds a line that is not a record after the records of a writer.
    fn damage(&mut self, writer: &str);
}

/// A directory.
pub struct Directory {
    pub at: TempDir,
}

impl Directory {
    pub fn start() -> Self {
        Self { at: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.at.path().join("store")
    }
}

impl Engine for Directory {
    fn url(&self) -> String {
        format!("file://{}", self.path().display())
    }

    fn stop(&mut self) {
        std::fs::rename(self.path(), self.at.path().join("unmounted")).unwrap();
        // Like the empty directory of an unmounted volume.
        std::fs::create_dir(self.path()).unwrap();
    }

    fn resume(&mut self) {
        std::fs::remove_dir(self.path()).unwrap();
        std::fs::rename(self.at.path().join("unmounted"), self.path()).unwrap();
    }

    fn back_up(&mut self) {
        let backup = self.at.path().join("backup");
        copy_of_what_is_there(&self.path(), &backup);
        assert!(backup.join("hpkp-store").exists());
    }

    fn restore(&mut self) {
        put_back(&self.at.path().join("backup"), &self.path());
    }

    fn damage(&mut self, writer: &str) {
        let path = self.path().join(format!("records/{writer}.jsonl"));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}nonsense\n")).unwrap();
    }
}

/// Replaces a directory by a backup while other processes use it.
pub fn put_back(backup: &Path, path: &Path) {
    let (new, old) = (path.with_extension("new"), path.with_extension("old"));
    copy(backup, &new);
    std::fs::rename(path, &old).unwrap();
    std::fs::rename(new, path).unwrap();
    // A process that writes meanwhile must not prevent the removal.
    while std::fs::remove_dir_all(&old).is_err() {}
}

/// Copies a directory while other processes write: unfinished files may be missing.
pub fn copy_of_what_is_there(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let mut copy = std::process::Command::new("cp");
    copy.arg("-a").arg(from).arg(to).stderr(std::process::Stdio::null()).status().unwrap();
}

/// Replaces a directory by a copy of another one.
pub fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    succeed("cp", &["-a", from.to_str().unwrap(), to.to_str().unwrap()]);
}
