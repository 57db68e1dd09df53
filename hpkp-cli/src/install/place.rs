//! The server's directory, and its exchange as a whole. Beside `DIR` is the directory `.DIR.hpkp`, which
//! only its owner can change. It contains a lock, the new files until they are in place, and a journal from
//! before the exchange until the server presents the new files. A journal thus shows that an install was
//! interrupted.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hpkp_server::file::if_there;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};

use super::digest;
use super::durable::sync;
use super::journal::{Form, Journal};
use super::pem_file::{Bytes, PemFile};
use super::report::Stop;
use crate::output;

/// The most entries of the server's directory, which contains only the files of one site.
const MAX_ENTRIES: usize = 256;
/// The largest file that is copied to the new directory, in bytes.
const MAX_FILE: usize = 16 << 20;

/// An entry of the server's directory.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A file with certificates or a key.
    Pem(PemFile),
    /// Any other file.
    Other(Bytes),
    /// A symbolic link, unless it leads to a file with certificates or a key.
    Link(PathBuf),
}

/// The owner and the mode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) mode: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
}

impl Access {
    fn of(metadata: &fs::Metadata) -> Self {
        Self { mode: metadata.mode() & 0o7777, user: metadata.uid(), group: metadata.gid() }
    }
}

/// The contents of the server's directory before the install.
#[derive(Debug, Default)]
pub(crate) struct Present {
    pub(crate) entries: BTreeMap<String, Entry>,
    pub(crate) access: BTreeMap<String, Access>,
    pub(crate) directory: Option<Access>,
}

/// A file of the new directory.
#[derive(Debug)]
pub(crate) enum New {
    File { content: Bytes, mode: u32, owner: Option<Access> },
    Link(PathBuf),
}

/// The server's directory, under a lock.
#[derive(Debug)]
pub(crate) struct Place {
    parent: PathBuf,
    name: OsString,
    state: PathBuf,
    pub(crate) form: Form,
    /// The lock, held until the value is dropped. `None` if nothing will be changed.
    _lock: Option<File>,
}

impl Place {
    /// Opens the directory, and waits until another install there has ended.
    ///
    /// # Errors
    /// The path is invalid, or the other install does not end.
    pub(crate) fn open(to: &Path, patience: Option<Duration>) -> Result<Self, Stop> {
        let (parent, name) = split(to)?;
        let mut hidden = OsString::from(".");
        hidden.push(&name);
        hidden.push(".hpkp");
        let state = parent.join(hidden);
        let lock = match patience {
            Some(patience) => {
                make_state(&state)?;
                Some(lock(&state, patience)?)
            }
            None => None,
        };
        let form = form(&parent.join(&name))?;
        Ok(Self { parent, name, state, form, _lock: lock })
    }

    /// The path of the directory.
    pub(crate) fn path(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// Determines the form of the path again.
    pub(crate) fn refresh(&mut self) -> Result<(), Stop> {
        self.form = form(&self.path())?;
        Ok(())
    }

    /// The journal of an interrupted install, if there is one.
    pub(crate) fn journal(&self) -> Result<Option<Journal>, Stop> {
        Journal::read(&self.state)
    }

    /// Reads the contents of the directory.
    ///
    /// # Errors
    /// An entry cannot be read, or cannot be exchanged.
    pub(crate) fn present(&self) -> Result<Present, Stop> {
        let path = self.path();
        let shown = output::path(&path);
        let metadata = if_there(fs::metadata(&path)).map_err(|error| Stop::io(&shown, &error))?;
        let Some(metadata) = metadata else { return Ok(Present::default()) };
        let mut present = Present { directory: Some(Access::of(&metadata)), ..Present::default() };
        for entry in fs::read_dir(&path).map_err(|error| Stop::io(&shown, &error))? {
            let entry = entry.map_err(|error| Stop::io(&shown, &error))?;
            if present.entries.len() == MAX_ENTRIES {
                return Err(Stop::usage(format!(
                    "{shown}: more than {MAX_ENTRIES} entries; --to is exchanged as a whole, so give it a \
                     directory that has only the files of this site"
                )));
            }
            let name = entry
                .file_name()
                .into_string()
                .map_err(|_| Stop::usage(format!("{shown}: the name of a file is not UTF-8")))?;
            let (entry, access) = self.entry(&entry.path())?;
            present.access.extend(access.map(|access| (name.clone(), access)));
            present.entries.insert(name, entry);
        }
        Ok(present)
    }

    fn entry(&self, path: &Path) -> Result<(Entry, Option<Access>), Stop> {
        let shown = output::path(path);
        let error = |error: &io::Error| Stop::io(&shown, error);
        let own = fs::symlink_metadata(path).map_err(|e| error(&e))?;
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(_) if own.is_symlink() => {
                return Ok((Entry::Link(self.target_of(path)?), None));
            }
            Err(e) => return Err(error(&e)),
        };
        if !metadata.is_file() && own.is_symlink() {
            return Ok((Entry::Link(self.target_of(path)?), None));
        }
        if !metadata.is_file() {
            return Err(Stop::usage(format!(
                "{shown}: not a file; --to is exchanged as a whole, so give it a directory that has only the \
                 files of this site"
            )));
        }
        let bytes = crate::input::found(path, MAX_FILE)
            .map_err(|error| Stop::undetermined("file-unreadable", format!("{shown}: {error}")))?;
        let access = Some(Access::of(&metadata));
        match PemFile::parse(path, bytes.clone()) {
            Some(file) if bytes.len() <= hpkp_core::spki::MAX_FILE => {
                Ok((Entry::Pem(file), access))
            }
            _ if own.is_symlink() => Ok((Entry::Link(self.target_of(path)?), None)),
            _ => Ok((Entry::Other(bytes), access)),
        }
    }

    /// The target of a symbolic link, in a form that is also valid in the new directory.
    fn target_of(&self, path: &Path) -> Result<PathBuf, Stop> {
        let target = fs::read_link(path).map_err(|e| Stop::io(&output::path(path), &e))?;
        match &self.form {
            Form::Link(_) if target.is_relative() => {
                let directory = fs::canonicalize(self.path());
                Ok(directory.map_or(target.clone(), |directory| directory.join(&target)))
            }
            _ => Ok(target),
        }
    }

    /// Writes the new directory beside the present one, which stays unchanged.
    ///
    /// # Errors
    /// A file cannot be written. The files written so far are removed.
    pub(crate) fn stage(
        &self,
        files: &BTreeMap<String, New>,
        directory: Option<Access>,
    ) -> Result<PathBuf, Stop> {
        let staged = self.free_name()?;
        let written = self.write_all(&staged, files, directory);
        written.inspect_err(|_| remove(&staged)).map(|()| staged)
    }

    fn write_all(
        &self,
        staged: &Path,
        files: &BTreeMap<String, New>,
        directory: Option<Access>,
    ) -> Result<(), Stop> {
        let error = |path: &Path, error: &io::Error| {
            Stop::io(&format!("cannot write {}", output::path(path)), error)
        };
        DirBuilder::new().mode(0o700).create(staged).map_err(|e| error(staged, &e))?;
        for (name, new) in files {
            let path = staged.join(name);
            let written = match new {
                New::File { content, mode, owner } => write(&path, content, *mode, *owner),
                New::Link(target) => std::os::unix::fs::symlink(target, &path),
            };
            written.map_err(|e| error(&path, &e))?;
        }
        let mode = directory.map_or(0o755, |access| access.mode);
        let set = || {
            own(staged, directory)?;
            fs::set_permissions(staged, Permissions::from_mode(mode))?;
            sync(staged)?;
            sync(&self.state)
        };
        set().map_err(|e| error(staged, &e))
    }

    /// A name for a new directory. Symbolic links lead to it, so each directory gets its own name.
    fn free_name(&self) -> Result<PathBuf, Stop> {
        let Form::Link(_) = self.form else {
            let staged = self.state.join("new");
            remove(&staged);
            return Ok(staged);
        };
        let names =
            fs::read_dir(&self.state).map_err(|e| Stop::io(&output::path(&self.state), &e))?;
        let numbers = names.flatten().filter_map(|entry| {
            entry.file_name().to_str()?.strip_prefix("generation-")?.parse::<u64>().ok()
        });
        let next = numbers.max().unwrap_or(0).saturating_add(1);
        Ok(self.state.join(format!("generation-{next}")))
    }

    /// Writes the journal durably, then puts the new directory in place.
    ///
    /// # Errors
    /// Nothing was changed.
    pub(crate) fn exchange(&self, staged: &Path, journal: &mut Journal) -> Result<(), Stop> {
        journal.form = self.form.clone();
        journal.new = digest::of(staged).map_err(|e| Stop::io(&output::path(staged), &e))?;
        if !matches!(self.form, Form::Absent) {
            let old = digest::of(&self.path());
            journal.old = Some(old.map_err(|e| Stop::io(&output::path(&self.path()), &e))?);
        }
        if let Form::Link(_) = self.form {
            journal.new_link = Some(self.relative(staged));
        }
        let written = journal.write(&self.state);
        if let Err(stop) = written.and_then(|()| self.swap(staged, journal)) {
            // A part of the journal may have been written.
            let _ = Journal::remove(&self.state);
            remove(staged);
            return Err(stop);
        }
        self.sync().or_else(|stop| {
            // After a crash the exchange may or may not be on disk. If it cannot be undone, the journal
            // stays.
            self.put_back(journal)?;
            self.commit()?;
            Err(stop)
        })
    }

    fn swap(&self, staged: &Path, journal: &Journal) -> Result<(), Stop> {
        let path = self.path();
        match &self.form {
            Form::Directory => exchange(staged, &path)?,
            Form::Absent => renameat_with(CWD, staged, CWD, &path, RenameFlags::NOREPLACE)
                .map_err(|error| Stop::io(&output::path(&path), &error.into()))?,
            Form::Link(_) => {
                let link = journal.new_link.clone().unwrap_or_default();
                self.lead_to(&link)?;
            }
        }
        Ok(())
    }

    /// Replaces the symbolic link in one step.
    fn lead_to(&self, target: &Path) -> Result<(), Stop> {
        let path = self.path();
        let new = self.state.join("link");
        let _ = fs::remove_file(&new);
        std::os::unix::fs::symlink(target, &new)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|error| Stop::io(&output::path(&path), &error))
    }

    fn relative(&self, staged: &Path) -> PathBuf {
        staged.strip_prefix(&self.parent).unwrap_or(staged).to_owned()
    }

    fn sync(&self) -> Result<(), Stop> {
        let error = |e: io::Error| Stop::io(&output::path(&self.parent), &e);
        sync(&self.state).and_then(|()| sync(&self.parent)).map_err(error)
    }

    /// Notes in the journal that the server may have loaded the new files.
    pub(crate) fn reloading(&self, journal: &mut Journal) -> Result<(), Stop> {
        journal.reloading = true;
        journal.write(&self.state)
    }

    /// Ends an install: removes the journal, then the old files.
    pub(crate) fn commit(&self) -> Result<(), Stop> {
        Journal::remove(&self.state)
            .map_err(|error| Stop::io("cannot remove the journal of the install", &error))?;
        self.clean();
        Ok(())
    }

    /// Puts the old files back. The journal stays until the caller commits.
    pub(crate) fn put_back(&self, journal: &Journal) -> Result<(), Stop> {
        let path = self.path();
        match &journal.form {
            Form::Directory => exchange(&self.state.join("new"), &path)?,
            Form::Absent => fs::rename(&path, self.state.join("new"))
                .map_err(|error| Stop::io(&output::path(&path), &error))?,
            Form::Link(old) => self.lead_to(old)?,
        }
        self.sync()
    }

    /// Whether the old files still exist.
    pub(crate) fn has_old(&self, journal: &Journal) -> bool {
        match &journal.form {
            Form::Absent => true,
            Form::Directory => self.state.join("new").is_dir(),
            Form::Link(target) => self.parent.join(target).is_dir(),
        }
    }

    /// Determines whether the new or the old files of an interrupted install are in place.
    pub(crate) fn standing(&self, journal: &Journal) -> Result<Standing, Stop> {
        let path = self.path();
        let there =
            if_there(digest::of(&path)).map_err(|error| Stop::io(&output::path(&path), &error))?;
        let link = fs::read_link(&path).ok();
        let is_led = match &journal.form {
            Form::Link(_) => link == journal.new_link,
            Form::Directory | Form::Absent => link.is_none(),
        };
        Ok(match there {
            there if there == journal.old && !(is_led && there.as_ref() == Some(&journal.new)) => {
                Standing::Old
            }
            Some(there) if is_led && there == journal.new => Standing::New,
            _ => Standing::Neither,
        })
    }

    /// Removes directories to which no link leads and that no journal needs.
    pub(crate) fn clean(&self) {
        let link = fs::read_link(self.path()).ok();
        let used = link.map(|link| self.parent.join(link));
        for entry in fs::read_dir(&self.state).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let is_ours = name == "new"
                || name == "link"
                || name == "journal.new"
                || name.to_str().is_some_and(|name| name.starts_with("generation-"));
            if is_ours && used.as_ref() != Some(&path) {
                remove(&path);
            }
        }
    }

    /// Keeps the files of an interrupted install, because somebody else has changed the directory since.
    pub(crate) fn set_aside(&self) -> Result<PathBuf, Stop> {
        let from = self.state.join("new");
        let number = (1..u32::MAX).find(|n| !self.state.join(format!("left-{n}")).exists());
        let to = self.state.join(format!("left-{}", number.unwrap_or(u32::MAX)));
        let done = if_there(fs::rename(&from, &to));
        done.map(|_| to).map_err(|error| Stop::io(&output::path(&from), &error))
    }
}

/// The files that are in place after an interruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Old,
    New,
    /// The directory was changed by other means since.
    Neither,
}

/// Splits the path into the canonical parent directory and the name. A slash at the end makes no
/// difference, so the lock is the same.
fn split(to: &Path) -> Result<(PathBuf, OsString), Stop> {
    let shown = output::path(to);
    let name = to.file_name().ok_or_else(|| {
        Stop::usage(format!("{shown}: --to must name a directory that can be exchanged"))
    })?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let parent = fs::canonicalize(parent).map_err(|error| {
        Stop::usage(format!("{}: {}", output::path(parent), output::os(&error)))
    })?;
    Ok((parent, name.to_owned()))
}

fn form(path: &Path) -> Result<Form, Stop> {
    let shown = output::path(path);
    let metadata =
        if_there(fs::symlink_metadata(path)).map_err(|error| Stop::io(&shown, &error))?;
    let Some(metadata) = metadata else { return Ok(Form::Absent) };
    if metadata.is_symlink() {
        let target = fs::read_link(path).map_err(|error| Stop::io(&shown, &error))?;
        return match fs::metadata(path) {
            Ok(metadata) if !metadata.is_dir() => {
                Err(Stop::usage(format!("{shown}: leads to a file; --to must be a directory")))
            }
            _ => Ok(Form::Link(target)),
        };
    }
    if !metadata.is_dir() {
        return Err(Stop::usage(format!("{shown}: not a directory")));
    }
    Ok(Form::Directory)
}

fn make_state(state: &Path) -> Result<(), Stop> {
    let shown = output::path(state);
    // Users that may read the server's directory must be able to follow a link into this one.
    match DirBuilder::new().mode(0o711).create(state) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Stop::io(&format!("cannot create {shown}"), &error));
        }
        _ => {}
    }
    let metadata = fs::symlink_metadata(state).map_err(|error| Stop::io(&shown, &error))?;
    let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
    if !metadata.is_dir() || !is_ours || metadata.mode() & 0o022 != 0 {
        return Err(Stop::undetermined(
            "state-unsafe",
            format!(
                "{shown}: must be a directory of the user that runs this command, with mode 0711; remove it if \
                 no install was interrupted"
            ),
        ));
    }
    Ok(())
}

fn lock(state: &Path, patience: Duration) -> Result<File, Stop> {
    let path = state.join("lock");
    let shown = output::path(&path);
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let file = file.map_err(|error| Stop::io(&shown, &error))?;
    let end = Instant::now() + patience;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Stop::io(&shown, &error.into())),
        }
        if Instant::now() >= end {
            return Err(Stop::undetermined(
                "locked",
                format!(
                    "another install of this directory is running ({shown}); try again when it has ended"
                ),
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Exchanges two directories in one step.
fn exchange(staged: &Path, path: &Path) -> Result<(), Stop> {
    use rustix::io::Errno;
    renameat_with(CWD, staged, CWD, path, RenameFlags::EXCHANGE).map_err(|error| {
        let shown = output::path(path);
        let advice = match error {
            Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => {
                "; this file system cannot exchange directories: make --to a symbolic link to a directory"
            }
            Errno::BUSY => {
                "; a mount point cannot be exchanged: name a directory below it, in the server's configuration too"
            }
            // overlayfs also returns this error for a directory of its lower layer.
            Errno::XDEV => {
                "; a mount point, and a directory out of the image of a container, cannot be exchanged: make --to a \
                 symbolic link to a directory, or copy the directory (cp -a) into its place"
            }
            _ => "",
        };
        let text = format!("cannot exchange {shown}: {}{advice}", output::os(&error.into()));
        Stop::undetermined("exchange-failed", text)
    })
}

fn write(path: &Path, content: &[u8], mode: u32, owner: Option<Access>) -> io::Result<()> {
    // The file is unreadable for others until its owner and mode are set.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    own(path, owner)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Changes the owner of a file to that of another file.
fn own(path: &Path, owner: Option<Access>) -> io::Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    let metadata = fs::metadata(path)?;
    if (metadata.uid(), metadata.gid()) == (owner.user, owner.group) {
        return Ok(());
    }
    std::os::unix::fs::chown(path, Some(owner.user), Some(owner.group))
}

/// Removes a file or a directory recursively. The next install retries what cannot be removed.
fn remove(path: &Path) {
    let is_directory = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let _ = if is_directory { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}
