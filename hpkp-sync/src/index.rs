//! The index of the copies of other machines' files: where the records of each host are. With the index, servers read
//! only the records of their hosts, not those of the whole fleet.
//!
//! Each pass ends with an update of the index from the copies, no matter which program wrote a copy. The section of an
//! unchanged copy is kept. A copy that cannot be used has no section, so that servers read that copy and report what is
//! wrong with it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use hpkp_core::published::WriterName;
use hpkp_core::published::file::{MAX_FILE, MAX_LINES};
use hpkp_core::published::index::{self, Builder, Index, Place, Stamp, event};
use hpkp_server::published::{Directory, MAX_NAMES, PEERS, SUFFIX, stamp};

use crate::disk;
use crate::report::{Code, Report};

/// The resolution of times in file systems, with some margin. A second change within this time may leave the time of
/// the file as it is.
const TICK: Duration = Duration::from_millis(20);

/// Writes the index if the copies have changed since it was written.
pub(crate) fn refresh(directory: &Directory, report: &mut Report) {
    let path = directory.index_path();
    let path = Path::new(&path);
    if let Err(error) = refreshed(path, &Path::new(directory.path()).join(PEERS), report) {
        let text = format!("{}: {}", path.display(), hpkp_cli::sync::os(&error));
        report.add(Code::PeerUnwritable, text);
    }
}

fn refreshed(path: &Path, peers: &Path, report: &mut Report) -> io::Result<()> {
    let before = disk::read(path, index::MAX_FILE).unwrap_or_default();
    let sections = Index::open(&before).and_then(Index::sections);
    let is_usable = sections.is_ok();
    let sections = sections.unwrap_or_default();
    let known: HashMap<&WriterName, (&Stamp, &str)> =
        sections.iter().map(|(writer, stamp, section)| (writer, (stamp, *section))).collect();
    let mut copies = copies(peers)?;
    copies.sort();
    if copies.len() > MAX_NAMES {
        let text = format!("peers/ has {} files; servers read at most {MAX_NAMES}", copies.len());
        report.add(Code::Limit, text);
        return Ok(());
    }
    let (mut new, mut kept) = (Vec::new(), Vec::new());
    for writer in &copies {
        let copy = peers.join(format!("{writer}{SUFFIX}"));
        let looks = fs::symlink_metadata(&copy).ok().map(|found| stamp(&found));
        match known.get(writer).filter(|(stamp, _)| Some(**stamp) == looks) {
            Some((_, section)) => kept.push((writer, *section)),
            None => new.extend(section(&copy, writer).map(|section| (writer, section))),
        }
    }
    if is_usable && new.is_empty() && kept.len() == known.len() {
        return Ok(());
    }
    kept.extend(new.iter().map(|(writer, section)| (*writer, section.as_str())));
    kept.sort_unstable_by_key(|(writer, _)| *writer);
    let text = index::write(kept.into_iter().map(|(_, section)| section));
    if text.len() > index::MAX_FILE {
        report.add(
            Code::Limit,
            format!(
                "{} would have more than {} bytes, so it is not written",
                path.display(),
                index::MAX_FILE
            ),
        );
        return Ok(());
    }
    disk::replace(path, text.as_bytes(), disk::Access::All)
}

/// The writers whose copies are in the directory.
fn copies(peers: &Path) -> io::Result<Vec<WriterName>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(peers)? {
        let name = entry?.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        all.extend(name.and_then(|name| name.parse().ok()));
    }
    Ok(all)
}

/// The section of a copy; none where the copy is empty, cannot be used, or changes while it is read.
fn section(path: &Path, writer: &WriterName) -> Option<String> {
    let mut file = disk::open(path).ok()?;
    let looks = settled(&file)?;
    let mut bytes = Vec::new();
    (&mut file).take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).ok()?;
    let mut builder = Builder::default();
    let (mut start, mut lines) = (0, 0);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n")?;
        let place = Place { start, length: line.len() as u64 };
        builder.add(&event(line, writer).ok()?, place);
        start += place.length + 1;
        lines += 1;
    }
    let is_same = file.metadata().ok().map(|found| stamp(&found)) == Some(looks);
    let is_usable = is_same && (1..=MAX_LINES).contains(&lines) && bytes.len() <= MAX_FILE;
    is_usable.then(|| builder.finish(writer, looks))
}

/// The stamp of a file, as soon as a further change of the file would change the stamp.
fn settled(file: &File) -> Option<Stamp> {
    let looks = stamp(&file.metadata().ok()?);
    let (seconds, nanoseconds) = looks.changed;
    let changed = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanoseconds).ok()?);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // The file's time is in the future, so a later change can get the same time.
    if changed > now {
        return None;
    }
    if now - changed < TICK {
        std::thread::sleep(TICK);
        return file.metadata().ok().map(|found| stamp(&found)).filter(|again| *again == looks);
    }
    Some(looks)
}
