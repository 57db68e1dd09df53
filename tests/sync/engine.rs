//! A store that is started for one test, and what may happen to it.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::succeed;

/// Where stores that are servers listen: on loopback, or where `ci/fleet` says.
pub fn address() -> String {
    std::env::var("HPKP_FLEET_NETWORK").unwrap_or_else(|_| "127.0.0.1".to_owned())
}

/// A store for one test.
pub trait Engine: Send + Sync {
    /// As it is given to the command.
    fn url(&self) -> String;

    /// What the command needs in its environment.
    fn environment(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// It cannot be reached from now on.
    fn stop(&mut self);

    /// It can be reached again.
    fn resume(&mut self);

    /// Makes a backup.
    fn back_up(&mut self);

    /// Puts the backup in the place of what is there.
    fn restore(&mut self);

    /// Puts a line that is no record behind those of a writer.
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
        // As a mount point is.
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

/// Puts a backup in the place of a directory that others use meanwhile.
pub fn put_back(backup: &Path, path: &Path) {
    let (new, old) = (path.with_extension("new"), path.with_extension("old"));
    copy(backup, &new);
    std::fs::rename(path, &old).unwrap();
    std::fs::rename(new, path).unwrap();
    // Who still writes there does not keep it.
    while std::fs::remove_dir_all(&old).is_err() {}
}

/// Copies a directory while others write there: what is under way may be missing.
pub fn copy_of_what_is_there(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let mut copy = std::process::Command::new("cp");
    copy.arg("-a").arg(from).arg(to).stderr(std::process::Stdio::null()).status().unwrap();
}

/// Copies a directory with everything in it, in the place of what is there.
pub fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    succeed("cp", &["-a", from.to_str().unwrap(), to.to_str().unwrap()]);
}
