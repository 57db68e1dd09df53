//! The directory of last good certificates. Only root may use it, and all files that it lists are on the disk.
//!
//! Each server has a subdirectory with its writer name. Files of certificates are named by their content and written
//! before the list that names them, and a new list replaces the old one atomically. So whenever the machine stops, the
//! list names only complete files.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use hpkp_core::finding::Text;
use hpkp_core::pem;
use hpkp_core::published::WriterName;
use hpkp_core::text::{Excerpt, ShellWord};
use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::disk::{NEW, lock, open_directory, put};
use super::index::{Index, is_file};
use crate::file::reason;
use crate::file_limit::WithoutSignal;
use crate::owner::is_own;

/// The name of the list.
const INDEX: &str = "index";

/// The largest list, in bytes.
const MAX_INDEX: usize = 16 << 20;

/// The largest file of a certificate and its key, in bytes.
const MAX_FILE: usize = 1 << 20;

/// Why a directory is not used.
#[derive(Debug)]
pub enum Unusable {
    /// The directory does not exist.
    Missing(String),
    /// It cannot be opened, or is not a directory.
    Open(String, io::Error),
    /// It belongs to another user; the user's id.
    Owner(String, u32),
    /// Other users may read it; its mode.
    Mode(String, u32),
    /// Its list is damaged; the file and the line.
    Damaged(String, usize),
}

impl Unusable {
    /// What is wrong, and what to do.
    #[must_use]
    pub fn text(&self) -> Text {
        let shown = |path: &str| Excerpt::new(path).to_string();
        let so = "so no last good certificate is kept or used";
        match self {
            Self::Missing(path) => {
                Text::new(format!("\"{}\" does not exist, {so}", shown(path)))
                    .fix(format!("make it: install -d -m 0700 {}", ShellWord::new(path)))
            }
            Self::Open(path, error) => {
                let fix = match error.kind() {
                    io::ErrorKind::PermissionDenied => "test as root, or as the user that starts the server",
                    _ => "name a directory that is not a symbolic link and belongs to root",
                };
                Text::new(format!("cannot use \"{}\" ({}), {so}", shown(path), reason(error))).fix(fix)
            }
            Self::Owner(path, owner) => Text::new(format!(
                "\"{}\" belongs to user {owner}, who could read private keys in it, {so}",
                shown(path)
            ))
            .fix(format!("chown root {}", ShellWord::new(path))),
            Self::Mode(path, mode) => Text::new(format!(
                "others than its owner may use \"{}\" (mode {mode:04o}), and private keys would be in \
                 it, {so}",
                shown(path)
            ))
            .fix(format!("chmod 0700 {}", ShellWord::new(path))),
            Self::Damaged(path, line) => {
                Text::new(format!("line {line} of \"{}\" is damaged, {so}", shown(path))).fix(format!(
                    "remove it, and the next reload writes it anew: rm {}",
                    ShellWord::new(path)
                ))
            }
        }
    }
}

/// The name of a file to be written, and its text.
pub(super) type NewFile = (String, Zeroizing<Vec<u8>>);

/// The subdirectory of one server.
#[derive(Debug)]
pub struct Directory {
    /// Its path.
    path: PathBuf,
    /// The open subdirectory; none if nothing has been kept yet.
    own: Option<File>,
    /// The directory that the configuration names.
    above: File,
}

impl Directory {
    /// Opens the directory that the configuration names, and the subdirectory of `writer`, if it exists.
    ///
    /// # Errors
    /// See [`Unusable`].
    pub fn open(path: &str, writer: &WriterName) -> Result<Self, Unusable> {
        let above = private(path, open_directory(CWD, path))?;
        let own_path = Path::new(path).join(writer.to_string());
        let shown = own_path.to_string_lossy();
        let own = match open_directory(&above, &writer.to_string()) {
            Err(Errno::NOENT) => None,
            opened => Some(private(&shown, opened)?),
        };
        Ok(Self { path: own_path, own, above })
    }

    /// The path of a file in the subdirectory.
    #[must_use]
    pub fn path_of(&self, file: &str) -> PathBuf {
        self.path.join(file)
    }

    /// The subdirectory, if something was kept in it.
    #[must_use]
    pub fn own(&self) -> Option<&File> {
        self.own.as_ref()
    }

    /// The subdirectory, which is created if it does not exist.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn own_directory(&mut self) -> io::Result<&File> {
        self.make()?;
        self.own.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// The list; empty if nothing was kept.
    ///
    /// # Errors
    /// See [`Unusable`].
    pub fn index(&self) -> Result<Index, Unusable> {
        let path = || self.path_of(INDEX).to_string_lossy().into_owned();
        match self.read(INDEX, MAX_INDEX) {
            Ok(text) => Index::parse(&text).map_err(|line| Unusable::Damaged(path(), line)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
            Err(error) => Err(Unusable::Open(path(), error)),
        }
    }

    /// The certificates of a file, in DER, the leaf first.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn chain(&self, file: &str) -> Result<Vec<Vec<u8>>, String> {
        let shown = self.path_of(file);
        let wrong = |why: &str| {
            format!("cannot use \"{}\": {why}", Excerpt::new(&*shown.to_string_lossy()))
        };
        // The file also contains the key.
        let text = self.read(file, MAX_FILE).map_err(|error| wrong(&reason(&error)))?;
        let mut chain = Vec::new();
        for block in pem::blocks(&text) {
            let block = block.map_err(|_| wrong("truncated"))?;
            if block.label == b"CERTIFICATE" {
                chain.push(block.decode().map_err(|_| wrong("invalid base64"))?);
            }
        }
        if chain.is_empty() { Err(wrong("it has no certificate")) } else { Ok(chain) }
    }

    /// The text of a file with a certificate and its key.
    pub(crate) fn text(&self, file: &str) -> Option<Zeroizing<Vec<u8>>> {
        self.read(file, MAX_FILE).ok()
    }

    /// Reads a file, unless another user may have read or written it.
    fn read(&self, name: &str, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
        let own = self.own.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::openat(own, name, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() || !is_own(metadata.uid()) || metadata.mode() & 0o077 != 0 {
            return Err(io::Error::other("others than root may use the file"));
        }
        if metadata.len() > limit as u64 {
            return Err(io::Error::other(format!("larger than {limit} bytes")));
        }
        // The buffer has its full size from the start: one that grows leaves a copy of the key in memory.
        let mut text = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
        file.take(metadata.len()).read_to_end(&mut text)?;
        Ok(text)
    }

    /// Writes the files that do not exist yet, then the list, and removes the files that the list does not name.
    /// `files` are names and texts.
    ///
    /// # Errors
    /// The system's. The earlier list and the files that it names are then unchanged.
    pub fn write(
        &mut self,
        files: &[NewFile],
        change: impl FnOnce(&Index) -> Index,
    ) -> Result<(), String> {
        let _without_signal = WithoutSignal::new();
        let wrong = |error: &dyn std::fmt::Display| error.to_string();
        self.make().map_err(|error| reason(&error))?;
        let Some(own) = &self.own else { return Ok(()) };
        lock(own).map_err(|error| reason(&error))?;
        let before = match self.index() {
            Ok(index) => index,
            // A damaged list is replaced.
            Err(Unusable::Damaged(..)) => Index::default(),
            Err(error) => return Err(wrong(&error.text().what)),
        };
        let index = change(&before);
        let written = self.write_all(files, &before, &index).map_err(|error| reason(&error));
        // Also after a failed write: if the disk is full, this makes room.
        let keep = if written.is_ok() { &index } else { &before };
        let tidied = self.remove_others(&keep.files());
        let _ = rustix::fs::flock(own, FlockOperation::Unlock);
        written?;
        tidied.map_err(|error| reason(&error))
    }

    fn write_all(&self, files: &[NewFile], before: &Index, index: &Index) -> io::Result<()> {
        let Some(own) = &self.own else { return Ok(()) };
        let mut is_changed = false;
        for (name, text) in files {
            if self.read(name, MAX_FILE).is_ok_and(|there| *there == **text) {
                continue;
            }
            if text.len() > MAX_FILE {
                return Err(io::Error::other(format!(
                    "a certificate chain larger than {MAX_FILE} bytes"
                )));
            }
            put(own, name, text)?;
            is_changed = true;
        }
        // The files must be on the disk before the list that names them.
        if is_changed {
            own.sync_all()?;
        }
        if index != before || self.read(INDEX, MAX_INDEX).is_err() {
            put(own, INDEX, index.text().as_bytes())?;
            own.sync_all()?;
        }
        Ok(())
    }

    /// Creates the subdirectory of this server.
    fn make(&mut self) -> io::Result<()> {
        if self.own.is_some() {
            return Ok(());
        }
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        match rustix::fs::mkdirat(&self.above, &*name, Mode::from_raw_mode(0o700)) {
            Err(error) if error != Errno::EXIST => return Err(error.into()),
            _ => {}
        }
        let shown = self.path.to_string_lossy().into_owned();
        let own = private(&shown, open_directory(&self.above, &name))
            .map_err(|error| io::Error::other(error.text().what))?;
        self.above.sync_all()?;
        self.own = Some(own);
        Ok(())
    }

    /// Removes files that are not listed, and unfinished files.
    fn remove_others(&self, listed: &BTreeSet<&str>) -> io::Result<()> {
        let Some(own) = &self.own else { return Ok(()) };
        let mut others = Vec::new();
        for entry in Dir::read_from(own)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let is_other = name == NEW || is_file(&name) && !listed.contains(name.as_str());
            others.extend(is_other.then_some(name));
        }
        for name in &others {
            rustix::fs::unlinkat(own, &**name, AtFlags::empty())?;
        }
        if !others.is_empty() {
            own.sync_all()?;
        }
        Ok(())
    }
}

/// Checks that a directory is private: it belongs to root or this user, and no other user may read it.
fn private(path: &str, opened: Result<File, Errno>) -> Result<File, Unusable> {
    let path = path.to_owned();
    let directory = match opened {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Err(Unusable::Missing(path)),
        Err(error) => return Err(Unusable::Open(path, error.into())),
    };
    let metadata = match directory.metadata() {
        Ok(metadata) => metadata,
        Err(error) => return Err(Unusable::Open(path, error)),
    };
    if !is_own(metadata.uid()) {
        return Err(Unusable::Owner(path, metadata.uid()));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(Unusable::Mode(path, metadata.mode() & 0o7777));
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::super::index::{Entry, HostPort, file_of};
    use super::*;

    fn made(mode: u32) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        directory
    }

    fn open(directory: &tempfile::TempDir) -> Result<Directory, Unusable> {
        Directory::open(directory.path().to_str().unwrap(), &"web-1".parse().unwrap())
    }

    /// A list with one host, and its file with this content.
    fn listed(content: u8) -> (Vec<NewFile>, Index) {
        let chain = [vec![content]];
        let name = file_of(&chain);
        let text = super::super::pair::text(&chain, &[content; 4]);
        let host = HostPort { name: "a.example".to_owned(), port: 443 };
        let entry = Entry { files: vec![name.clone()], hosts: BTreeSet::from([host]) };
        (vec![(name, text)], Index { entries: vec![entry] })
    }

    fn names(directory: &tempfile::TempDir) -> Vec<String> {
        let entries = std::fs::read_dir(directory.path().join("web-1")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_directory_that_others_may_use_is_refused() {
        for mode in [0o755, 0o750, 0o710, 0o704, 0o702, 0o701] {
            assert!(matches!(open(&made(mode)), Err(Unusable::Mode(..))), "{mode:o}");
        }
        let directory = made(0o700);
        assert!(open(&directory).is_ok());
        let own = directory.path().join("web-1");
        std::fs::create_dir(&own).unwrap();
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(open(&directory), Err(Unusable::Mode(..))));
        let link = made(0o700);
        let link = link.path().join("link");
        symlink(directory.path(), &link).unwrap();
        let opened = Directory::open(link.to_str().unwrap(), &"web-1".parse().unwrap());
        assert!(matches!(opened, Err(Unusable::Open(..))));
        let opened = Directory::open("/nowhere/kept", &"web-1".parse().unwrap());
        assert!(matches!(opened, Err(Unusable::Missing(_))));
    }

    #[test]
    fn written_files_are_private_and_replace_earlier_ones() {
        let directory = made(0o700);
        let (files, index) = listed(1);
        open(&directory).unwrap().write(&files, |_| index.clone()).unwrap();
        let opened = open(&directory).unwrap();
        assert_eq!(opened.index().unwrap(), index);
        assert_eq!(opened.chain(&files[0].0), Ok(vec![vec![1]]));
        assert_eq!(names(&directory), [files[0].0.as_str(), "index"]);
        for name in names(&directory) {
            let mode = std::fs::metadata(opened.path_of(&name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600, "{name}");
        }
        let (files, index) = listed(2);
        open(&directory).unwrap().write(&files, |_| index.clone()).unwrap();
        assert_eq!(names(&directory), [files[0].0.as_str(), "index"], "the key before is gone");
    }

    #[test]
    fn a_failed_write_changes_nothing() {
        let directory = made(0o700);
        let (files, index) = listed(1);
        open(&directory).unwrap().write(&files, |_| index.clone()).unwrap();
        let before = names(&directory);
        let (mut larger, other) = listed(2);
        larger.push((file_of(&[vec![3]]), Zeroizing::new(vec![0; MAX_FILE + 1])));
        open(&directory).unwrap().write(&larger, |_| other).unwrap_err();
        assert_eq!(names(&directory), before);
        assert_eq!(open(&directory).unwrap().index().unwrap(), index);
        // Unfinished files and files that are not listed are removed; files with other names stay.
        let own = directory.path().join("web-1");
        for name in [NEW, &larger[0].0, "notes"] {
            std::fs::write(own.join(name), "x").unwrap();
        }
        open(&directory).unwrap().write(&files, |_| index.clone()).unwrap();
        assert_eq!(names(&directory), [files[0].0.as_str(), "index", "notes"]);
    }

    #[test]
    fn a_file_that_others_may_use_is_not_read_and_is_replaced() {
        let directory = made(0o700);
        let (files, index) = listed(1);
        open(&directory).unwrap().write(&files, |_| index.clone()).unwrap();
        let opened = open(&directory).unwrap();
        let path = opened.path_of(&files[0].0);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(opened.chain(&files[0].0).is_err());
        open(&directory).unwrap().write(&files, |_| index.clone()).unwrap();
        assert!(opened.chain(&files[0].0).is_ok());
        std::fs::write(directory.path().join("web-1/index"), "hpkp-kept 1\nx\n").unwrap();
        assert!(matches!(open(&directory).unwrap().index(), Err(Unusable::Damaged(_, 2))));
        open(&directory).unwrap().write(&files, |_| index.clone()).unwrap();
        assert_eq!(open(&directory).unwrap().index().unwrap(), index);
    }
}
