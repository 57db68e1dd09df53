//! The record of drills: when which backup key was last shown to be restorable.
//!
//! A directory for records has it in a file of its own, `hpkp-drills`: a line of JSON for each drill, in the order
//! in which they were made. Servers do not read it, and neither does software from before there were drills.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hpkp_core::date;
use hpkp_core::pin::Pin;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// The name of the file in a directory for records.
pub const FILE: &str = "hpkp-drills";
/// The largest file, in bytes: some 50,000 drills.
pub const MAX_FILE: u64 = 16 << 20;
/// The most hosts that a drill names.
pub const MAX_HOSTS: usize = 1_000;

/// A drill: a key came from where it is kept, and was compared with the pins that clients hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drill {
    /// When, in seconds since 1970 UTC.
    pub at: i64,
    /// The pin of the key.
    pub pin: Pin,
    /// Whether clients held it.
    pub matches: bool,
    /// The hosts for which they did, as records name them.
    pub hosts: Vec<String>,
    /// Where the key came from.
    pub from: Origin,
}

/// Where the key of a drill came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A key file.
    File,
    /// A scan of its QR code.
    QrCode,
    /// The lines of its page.
    Lines,
}

impl Origin {
    /// The word for it in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::QrCode => "qr-code",
            Self::Lines => "lines",
        }
    }
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

/// Why the record of drills cannot be read or written. Each names the file.
#[derive(Debug)]
pub enum DrillsError {
    /// The system's error.
    Io(PathBuf, io::Error),
    /// Larger than [`MAX_FILE`].
    TooLarge(PathBuf),
    /// Another kind of file than the command makes; what it is.
    NotOwn(PathBuf, &'static str),
    /// The line with this number is no drill, or one of a newer version.
    Damaged(PathBuf, usize),
}

impl fmt::Display for DrillsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |path: &PathBuf| crate::output::path(path);
        match self {
            Self::Io(path, error) => write!(f, "{}: {}", shown(path), crate::output::os(error)),
            Self::TooLarge(path) => {
                write!(f, "{}: larger than {} MiB", shown(path), MAX_FILE >> 20)
            }
            Self::NotOwn(path, what) => write!(f, "{}: {what}", shown(path)),
            Self::Damaged(path, line) => {
                write!(f, "{}:{line}: not the record of a drill", shown(path))
            }
        }
    }
}

impl std::error::Error for DrillsError {}

/// All drills that are on record in a directory, in their order; none where it has no such file.
///
/// # Errors
/// See [`DrillsError`].
pub fn read(directory: &Path) -> Result<Vec<Drill>, DrillsError> {
    let path = directory.join(FILE);
    let io = |error| DrillsError::Io(path.clone(), error);
    let file = match open(&path, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(error)),
    };
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(DrillsError::NotOwn(path, "not a regular file"));
    }
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > MAX_FILE {
        return Err(DrillsError::TooLarge(path));
    }
    // What has no line feed was never finished.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    lines
        .map(|(line, number)| drill(line).ok_or_else(|| DrillsError::Damaged(path.clone(), number)))
        .collect()
}

/// The last of these drills in which the key matched, of the key with this pin or of any.
#[must_use]
pub fn last(drills: &[Drill], pin: Option<Pin>) -> Option<&Drill> {
    let wanted =
        drills.iter().filter(|drill| drill.matches && pin.is_none_or(|pin| pin == drill.pin));
    wanted.max_by_key(|drill| drill.at)
}

/// Appends a drill. When it returns, the drill is on the disk.
///
/// # Errors
/// See [`DrillsError`].
pub fn record(directory: &Path, drill: &Drill) -> Result<PathBuf, DrillsError> {
    let path = directory.join(FILE);
    match append(&path, directory, drill) {
        Ok(None) => Ok(path),
        Ok(Some(what)) => Err(DrillsError::NotOwn(path, what)),
        Err(error) => Err(DrillsError::Io(path, error)),
    }
}

fn append(path: &Path, directory: &Path, drill: &Drill) -> io::Result<Option<&'static str>> {
    let mut file = open(path, true)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(Some("not a regular file"));
    }
    if metadata.nlink() > 1 {
        return Ok(Some("the file has more than one hard link"));
    }
    flock(&file, FlockOperation::LockExclusive)?;
    let line = serde_json::to_string(&Line {
        v: VERSION,
        at: date::format(drill.at),
        pin: format!("sha256/{}", drill.pin),
        matches: drill.matches,
        hosts: drill.hosts.iter().take(MAX_HOSTS).cloned().collect(),
        from: drill.from,
    })?;
    let length = file.metadata()?.len();
    if length + line.len() as u64 + 2 > MAX_FILE {
        return Ok(Some("the file is full; move it away"));
    }
    let end = whole_lines(&mut file, length)?;
    if end < length {
        file.set_len(end)?;
    }
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_all()?;
    if length == 0 {
        File::open(directory)?.sync_all()?;
    }
    Ok(None)
}

/// Where the last line that was finished ends.
fn whole_lines(file: &mut File, length: u64) -> io::Result<u64> {
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(length).read_to_end(&mut text)?;
    Ok(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last as u64 + 1))
}

/// A symbolic link is not followed, and a FIFO not waited for.
fn open(path: &Path, to_write: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    if to_write {
        options.append(true).create(true);
    }
    options.open(path)
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
    use super::*;

    fn drill(at: i64, pin: u8, matches: bool) -> Drill {
        let pin = Pin::from_octets([pin; Pin::OCTETS]);
        Drill { at, pin, matches, hosts: vec!["www.example.com".to_owned()], from: Origin::Lines }
    }

    #[test]
    fn the_last_drill_is_the_last_that_matched() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(last(&read(dir.path()).unwrap(), None), None);
        let drills = [drill(100, 1, true), drill(200, 2, true), drill(300, 1, false)];
        for one in &drills {
            record(dir.path(), one).unwrap();
        }
        assert_eq!(read(dir.path()).unwrap(), drills);
        assert_eq!(last(&drills, None), Some(&drills[1]));
        assert_eq!(last(&drills, Some(drills[0].pin)), Some(&drills[0]));
        assert_eq!(last(&drills, Some(Pin::from_octets([9; Pin::OCTETS]))), None);
    }

    #[test]
    fn what_was_never_finished_is_replaced_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        record(dir.path(), &drill(100, 1, true)).unwrap();
        OpenOptions::new()
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
            assert!(matches!(read(dir.path()), Err(DrillsError::Damaged(_, 3))), "{damage}");
            std::fs::write(&path, good).unwrap();
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(read(dir.path()).is_err() && record(dir.path(), &drill(1, 1, true)).is_err());
    }
}
