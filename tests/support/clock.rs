//! The false clock of the servers and of the command: libfaketime, moved by a file.
//!
//! The library keeps shared memory under the number of its process, leaves it behind where that process is
//! killed or becomes another program, and ends the next process of that number. So each clock removes what
//! the dead have left before it is used.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub const DAY: i64 = 24 * 60 * 60;

/// Where programs of the C library have their shared memory and semaphores (shm_overview(7)).
const SHARED: &str = "/dev/shm";

/// A clock that is ahead of the machine's or behind it, and goes on with it.
pub struct Clock {
    file: PathBuf,
    ahead: i64,
}

impl Clock {
    /// One that is right, in a directory.
    pub fn new(directory: &Path) -> Self {
        Self::ahead(directory, 0)
    }

    /// One that is ahead by so many seconds.
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
        forget_the_dead();
    }

    /// What the processes need in their environment to have this clock.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        forget_the_dead();
        vec![
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            // The files' times are the machine's for whoever else looks at them.
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }
}

/// Removes the shared memory of processes that are no more.
fn forget_the_dead() {
    for entry in fs::read_dir(SHARED).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let number =
            name.strip_prefix("faketime_shm_").or_else(|| name.strip_prefix("sem.faketime_sem_"));
        if number.is_some_and(|number| !Path::new("/proc").join(number).exists()) {
            // Somebody else may have been faster.
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
