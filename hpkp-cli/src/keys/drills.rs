//! The record of drills: when each backup key was last restored successfully.
//!
//! The record is the file `hpkp-drills` in a directory of records, with one line of JSON for each drill in
//! chronological order. Servers do not read the file, and older versions of this software ignore it.

use std::path::{Path, PathBuf};

use hpkp_core::date;
use hpkp_core::pin::Pin;
use serde::{Deserialize, Serialize};

use super::ledger::{self, LedgerError};

/// The name of the file in a directory of records.
pub const FILE: &str = "hpkp-drills";
/// The most hosts in the record of a drill.
pub const MAX_HOSTS: usize = 1_000;

/// A drill: a key was restored from its storage and compared with the pins that clients hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drill {
    /// The time, in seconds since 1970 UTC.
    pub at: i64,
    /// The pin of the key.
    pub pin: Pin,
    /// Whether clients held the pin.
    pub matches: bool,
    /// The hosts for which they held it, as in the records.
    pub hosts: Vec<String>,
    /// The form from which the key was restored.
    pub from: Origin,
}

/// The form from which a key was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A key file.
    File,
    /// A scan of the QR code.
    QrCode,
    /// The lines of the page.
    Lines,
}

/// A line of the file. Unknown members are ignored.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    v: u32,
    at: String,
    pin: String,
    matches: bool,
    hosts: Vec<String>,
    from: Origin,
}

const VERSION: u32 = 1;

/// All drills in a directory's record, in their order; empty if there is no record.
///
/// # Errors
/// See `LedgerError`.
pub fn read(directory: &Path) -> Result<Vec<Drill>, LedgerError> {
    ledger::read(&directory.join(FILE), "drill", drill)
}

/// The last drill in which a key with a pin that `is_wanted` matched.
pub fn last(drills: &[Drill], is_wanted: impl Fn(Pin) -> bool) -> Option<&Drill> {
    let wanted = drills.iter().filter(|drill| drill.matches && is_wanted(drill.pin));
    wanted.max_by_key(|drill| drill.at)
}

/// Appends a drill to the record, durably.
///
/// # Errors
/// See `LedgerError`.
pub fn record(directory: &Path, drill: &Drill) -> Result<PathBuf, LedgerError> {
    let path = directory.join(FILE);
    let line = || {
        let line = serde_json::to_string(&Line {
            v: VERSION,
            at: date::format(drill.at),
            pin: format!("sha256/{}", drill.pin),
            matches: drill.matches,
            hosts: drill.hosts.iter().take(MAX_HOSTS).cloned().collect(),
            from: drill.from,
        });
        let line = line.map_err(|error| LedgerError::Io(path.clone(), error.into()))?;
        Ok::<_, LedgerError>(Some(line))
    };
    ledger::append(&path, line, || Ok(()))?;
    Ok(path)
}

fn drill(line: &str) -> Option<Drill> {
    let line: Line = serde_json::from_str(line).ok()?;
    if line.v != VERSION {
        return None;
    }
    Some(Drill {
        at: date::parse(&line.at)?,
        pin: line.pin.parse().ok()?,
        matches: line.matches,
        hosts: line.hosts,
        from: line.from,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn drill(at: i64, pin: u8, matches: bool) -> Drill {
        let pin = Pin::from_bytes([pin; Pin::BYTES]);
        Drill { at, pin, matches, hosts: vec!["www.example.com".to_owned()], from: Origin::Lines }
    }

    #[test]
    fn the_last_drill_is_the_last_that_matched() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(last(&read(dir.path()).unwrap(), |_| true), None);
        let drills = [drill(100, 1, true), drill(200, 2, true), drill(300, 1, false)];
        for one in &drills {
            record(dir.path(), one).unwrap();
        }
        assert_eq!(read(dir.path()).unwrap(), drills);
        assert_eq!(last(&drills, |_| true), Some(&drills[1]));
        assert_eq!(last(&drills, |pin| pin == drills[0].pin), Some(&drills[0]));
        assert_eq!(last(&drills, |_| false), None);
    }

    #[test]
    fn an_incomplete_line_is_replaced_and_damage_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        record(dir.path(), &drill(100, 1, true)).unwrap();
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"v\":1,\"at\":\"20")
            .unwrap();
        assert_eq!(read(dir.path()).unwrap().len(), 1);
        record(dir.path(), &drill(200, 1, true)).unwrap();
        assert_eq!(read(dir.path()).unwrap().len(), 2);
        for damage in ["nonsense\n", "{\"v\":2}\n", "{}\n"] {
            let good = std::fs::read(&path).unwrap();
            std::fs::write(&path, [&good, damage.as_bytes()].concat()).unwrap();
            assert!(matches!(read(dir.path()), Err(LedgerError::Damaged(_, 3, _))), "{damage}");
            std::fs::write(&path, good).unwrap();
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(read(dir.path()).is_err() && record(dir.path(), &drill(1, 1, true)).is_err());
    }
}
