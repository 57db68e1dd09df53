//! A false clock for the servers and the command: libfaketime, set by a file.
//!
//! The library keeps shared memory named after the number of its process. It leaves that memory behind if the process
//! is killed or executes another program, and then ends the next process with the same number. So each clock first
//! removes the shared memory of processes that have ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub const DAY: i64 = 24 * 60 * 60;

/// Where programs of the C library have their shared memory and semaphores (shm_overview(7)).
const SHARED: &str = "/dev/shm";

/// A clock with a fixed offset from the machine's clock.
pub struct Clock {
    file: PathBuf,
    ahead: i64,
}

impl Clock {
    /// A clock without an offset; its file is in `directory`.
    pub fn new(directory: &Path) -> Self {
        Self::ahead(directory, 0)
    }

    /// A clock that is ahead by `seconds`.
    pub fn ahead(directory: &Path, seconds: i64) -> Self {
        let this = Self { file: directory.join("clock"), ahead: seconds };
        this.write();
        this
    }

    pub fn now(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
        now.as_secs() as i64 + self.ahead
    }

    pub fn advance(&mut self, seconds: i64) {
        self.ahead += seconds;
        self.write();
    }

    fn write(&self) {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{:+}\n", self.ahead)).expect("a file");
        fs::rename(new, &self.file).expect("a file put in place");
        remove_stale_memory();
    }

    /// The environment variables with which a process has this clock.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        remove_stale_memory();
        vec![
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            // Other processes see the files' real times, so these processes must see them too.
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }
}

/// Removes the shared memory of processes that have ended.
fn remove_stale_memory() {
    for entry in fs::read_dir(SHARED).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let number =
            name.strip_prefix("faketime_shm_").or_else(|| name.strip_prefix("sem.faketime_sem_"));
        if number.is_some_and(|number| !Path::new("/proc").join(number).exists()) {
            // Another test may have removed it already.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// libfaketime for programs with threads, in the folder of the machine's architecture.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("/usr/lib").flatten();
    let mut found = folders.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    found.find(|path| path.exists()).expect("libfaketime is missing: run ci/prerequisites")
}
