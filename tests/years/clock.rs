//! The false clock of the servers and of the command: libfaketime, moved by a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub const DAY: i64 = 24 * 60 * 60;

/// A clock that is ahead of the machine's, and goes on with it.
pub struct Clock {
    file: PathBuf,
    ahead: i64,
}

impl Clock {
    /// One that is right, in a directory.
    pub fn new(directory: &Path) -> Self {
        let this = Self { file: directory.join("clock"), ahead: 0 };
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
        fs::write(&new, format!("+{}\n", self.ahead)).expect("a file");
        fs::rename(new, &self.file).expect("a file put in place");
    }

    /// What the processes need in their environment to have this clock.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
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

/// libfaketime for programs with threads, in the folder of the machine's architecture.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("/usr/lib").flatten();
    let mut found = folders.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    found.find(|path| path.exists()).expect("libfaketime is missing: run ci/prerequisites")
}
