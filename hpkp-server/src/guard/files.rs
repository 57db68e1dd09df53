//! The files of last good certificates that workers keep. Their directory belongs to the workers' user and is inside
//! the master's directory. Workers cannot reach it by its path, so the master creates it and hands it over open.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use hpkp_core::published::WriterName;
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use zeroize::Zeroizing;

use super::entry::Entry;
use crate::file::reason;
use crate::kept::index::is_file;
use crate::kept::{Directory, disk};
use crate::setting::KeepSetting;

/// The name of the directory.
const NAME: &str = "guarded";

/// The largest file, in bytes.
const MAX: u64 = 3 << 20;

/// The most files that are read.
const MAX_FILES: usize = 1024;

/// The directory.
#[derive(Debug)]
pub struct Files {
    directory: File,
}

impl Files {
    /// Makes the directory for workers of this user and group. The master calls this before it starts them.
    ///
    /// # Errors
    /// Why that is not possible.
    pub fn prepare(
        setting: &KeepSetting,
        writer: &WriterName,
        owner: Option<(u32, u32)>,
    ) -> Result<Self, String> {
        let mut above =
            Directory::open(&setting.path, writer).map_err(|error| error.text().what)?;
        let wrong = |error: io::Error| reason(&error);
        let own = above.own_directory().map_err(wrong)?;
        match rustix::fs::mkdirat(own, NAME, Mode::from_raw_mode(0o700)) {
            Err(error) if error != rustix::io::Errno::EXIST => return Err(wrong(error.into())),
            _ => {}
        }
        let directory = disk::open_directory(own, NAME).map_err(|error| wrong(error.into()))?;
        let files = Self { directory };
        files.hand_over(owner).map_err(wrong)?;
        Ok(files)
    }

    /// Gives the directory and its files to the user of the workers.
    fn hand_over(&self, owner: Option<(u32, u32)>) -> io::Result<()> {
        rustix::fs::fchmod(&self.directory, Mode::from_raw_mode(0o700))?;
        let Some((user, group)) = owner else { return Ok(()) };
        let metadata = self.directory.metadata()?;
        if (metadata.uid(), metadata.gid()) == (user, group) {
            return Ok(());
        }
        let ids = |user, group| {
            (Some(rustix::fs::Uid::from_raw(user)), Some(rustix::fs::Gid::from_raw(group)))
        };
        let (uid, gid) = ids(user, group);
        // The directory comes first, so that no other user can add files meanwhile.
        rustix::fs::fchown(&self.directory, uid, gid)?;
        for name in self.names()? {
            // `open` refuses a file with several hard links: its owner must not change.
            if let Ok(file) = self.open(&name) {
                rustix::fs::fchown(file, uid, gid)?;
            }
        }
        Ok(())
    }

    /// Adds entries, for workers of this user and group.
    ///
    /// # Errors
    /// Why that is not possible.
    pub fn adopt(
        &self,
        entries: &[Zeroizing<Vec<u8>>],
        owner: Option<(u32, u32)>,
    ) -> Result<(), String> {
        let wrong = |error: io::Error| reason(&error);
        if entries.is_empty() {
            return Ok(());
        }
        let locked = disk::open_directory(&self.directory, ".").map_err(|e| wrong(e.into()))?;
        disk::lock(&locked).map_err(wrong)?;
        for text in entries {
            let Some(entry) = Entry::parse(text) else { continue };
            let name = format!("{}.pem", entry.kept.id);
            if self.open(&name).is_ok() {
                continue;
            }
            let _without_signal = crate::file_limit::WithoutSignal::new();
            disk::put(&locked, &name, text).map_err(wrong)?;
            if let Some((user, group)) = owner {
                let uid = Some(rustix::fs::Uid::from_raw(user));
                let gid = Some(rustix::fs::Gid::from_raw(group));
                let file = self.open(&name).map_err(wrong)?;
                rustix::fs::fchown(file, uid, gid).map_err(|error| wrong(error.into()))?;
            }
        }
        locked.sync_all().map_err(wrong)
    }

    /// Removes all files, if no host is guarded any more.
    ///
    /// # Errors
    /// Why that is not possible.
    pub fn remove_all(setting: &KeepSetting, writer: &WriterName) -> Result<(), String> {
        let wrong = |error: io::Error| reason(&error);
        let Ok(above) = Directory::open(&setting.path, writer) else { return Ok(()) };
        let Some(own) = above.own() else { return Ok(()) };
        let Ok(directory) = disk::open_directory(own, NAME) else { return Ok(()) };
        let files = Self { directory };
        files.remove_others(&HashSet::new()).map_err(wrong)
    }

    /// All complete entries that no other user may have written or read.
    ///
    /// # Errors
    /// Why the directory cannot be read.
    pub fn read(&self) -> Result<Vec<Zeroizing<Vec<u8>>>, String> {
        let names = self.names().map_err(|error| reason(&error))?;
        let texts = names.iter().take(MAX_FILES).filter_map(|name| self.text(name).ok());
        Ok(texts.filter(|text| Entry::parse(text).is_some()).collect())
    }

    /// Writes these entries, except those that are kept only in memory, and removes all other files.
    ///
    /// # Errors
    /// Why that is not possible; the earlier files may still exist.
    pub fn write(&self, entries: impl FnOnce() -> Vec<Zeroizing<Vec<u8>>>) -> Result<(), String> {
        let wrong = |error: io::Error| reason(&error);
        // All workers share the open directory that was handed over, so a lock on it would not exclude another worker.
        let locked = disk::open_directory(&self.directory, ".").map_err(|e| wrong(e.into()))?;
        disk::lock(&locked).map_err(wrong)?;
        // The entries are read while the lock is held, so that the last writer writes the newest state.
        let mut listed = HashSet::new();
        for text in entries() {
            let Some(entry) = Entry::parse(&text).filter(|entry| !entry.kept.in_memory) else {
                continue;
            };
            let name = format!("{}.pem", entry.kept.id);
            if !self.text(&name).is_ok_and(|there| *there == *text) {
                let _without_signal = crate::file_limit::WithoutSignal::new();
                disk::put(&locked, &name, &text).map_err(wrong)?;
            }
            listed.insert(name);
        }
        self.remove_others(&listed).map_err(wrong)?;
        locked.sync_all().map_err(wrong)
    }

    fn remove_others(&self, listed: &HashSet<String>) -> io::Result<()> {
        for name in self.names()? {
            if !listed.contains(&name) {
                rustix::fs::unlinkat(&self.directory, &*name, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if is_file(&name) || name == disk::NEW {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file =
            File::from(rustix::fs::openat(self.directory.as_fd(), name, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.nlink() != 1 {
            return Err(io::Error::other("not a file of its own"));
        }
        Ok(file)
    }

    fn text(&self, name: &str) -> io::Result<Zeroizing<Vec<u8>>> {
        let file = self.open(name)?;
        let metadata = file.metadata()?;
        if metadata.mode() & 0o077 != 0 || metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("others may use the file"));
        }
        if metadata.len() > MAX {
            return Err(io::Error::other(format!("larger than {MAX} bytes")));
        }
        // The buffer has its full size from the start: one that grows leaves a copy of the key in memory.
        let mut text = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
        file.take(metadata.len()).read_to_end(&mut text)?;
        Ok(text)
    }
}
